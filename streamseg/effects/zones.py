"""Tints each zone that is counted in, with how many objects are in it now."""

from __future__ import annotations

from streamseg.canvas import DARK, PALETTE, Canvas
from streamseg.effects._plates import draw_plate, total
from streamseg.places import zone_of
from streamseg.types import Result, UsageError

_COLORS = (PALETTE[1], *PALETTE[3:], PALETTE[0])
"""Of one zone after the other: all but the amber of the lines."""


class Zones:
    """Tinted zones with the number of objects in them now, of all classes.

    corners: of each zone by its name, x1, y1, x2, y2, x3, y3, … in shares of the picture; None: those of the `zone`
    counters of the stream, which `run` fills in · opacity: of the tint
    """

    def __init__(self, *, corners: dict[str, list[float]] | None = None, opacity: float = 0.2) -> None:
        if not 0 <= opacity <= 1:
            raise UsageError(f"zones: opacity: expected 0 to 1, got {opacity}")
        self._corners = {name: zone_of(numbers, name=name) for name, numbers in (corners or {}).items()}
        self.opacity = opacity

    def draw(self, canvas: Canvas, result: Result) -> None:
        """Draw the zones first, so that every plate lies on top."""
        counts = result.counts.get("zones", {})
        thin = max(3.5, canvas.unit / 220)
        zones = {name: corners * (canvas.width, canvas.height) for name, corners in self._corners.items()}
        colors = {name: _COLORS[i % len(_COLORS)] for i, name in enumerate(zones)}
        for name, corners in zones.items():
            outline = corners[[*range(len(corners)), 0]]
            canvas.polygon(corners, colors[name], opacity=self.opacity)
            canvas.line(outline, DARK, thickness=1.7 * thin, opacity=0.45)
            canvas.line(outline, colors[name], thickness=thin)
        for name, corners in zones.items():
            x, y = min(corners.tolist(), key=lambda corner: (corner[1], corner[0]))
            now = [("now", total(counts.get(name, {}), "now"))]
            draw_plate(canvas, x, y, name=name, numbers=now, color=colors[name])
