"""Draws each line that is counted at, with how often it was crossed in and out; an arrow points to `in`."""

from __future__ import annotations

import math

import numpy as np

from streamseg.canvas import DARK, PALETTE, WHITE, Canvas
from streamseg.effects._plates import draw_plate, total
from streamseg.places import line_of
from streamseg.types import Result

_COLOR = PALETTE[2]
"""Amber, for every line: what is on the ground in it is seldom anything else."""


class Lines:
    """Lines with their counts, the sum of all classes.

    ends: of each line by its name, x1, y1, x2, y2 in shares of the picture; None: those of the `line` counters of the
    stream, which `run` fills in
    """

    def __init__(self, *, ends: dict[str, list[float]] | None = None) -> None:
        self._ends = {name: line_of(numbers, name=name) for name, numbers in (ends or {}).items()}

    def draw(self, canvas: Canvas, result: Result) -> None:
        """Draw the lines first, so that every plate lies on top."""
        counts = result.counts.get("lines", {})
        lines = {name: ends * (canvas.width, canvas.height) for name, ends in self._ends.items()}
        for ends in lines.values():
            _draw_line(canvas, ends)
        for name, ends in lines.items():
            x, y = max(ends.tolist(), key=lambda end: (-end[1], end[0]))  # the upper end: people go over the lower one
            numbers = [(direction, total(counts.get(name, {}), direction)) for direction in ("in", "out")]
            draw_plate(canvas, x, y, name=name, numbers=numbers, color=_COLOR)


def _draw_line(canvas: Canvas, ends: np.ndarray) -> None:
    """The line on a dark rim, and in its middle an arrow to its `in` side; ends (2, 2) in pixels."""
    thin = max(4.0, canvas.unit / 180)
    along = (ends[1] - ends[0]) / max(math.hypot(*(ends[1] - ends[0])), 1e-9)
    inwards = np.array([-along[1], along[0]])
    reach = min(canvas.unit / 28, math.hypot(*(ends[1] - ends[0])) / 2)
    middle = ends.mean(axis=0)
    head = np.array([middle - along * reach / 2, middle + inwards * reach, middle + along * reach / 2])
    canvas.line(ends, DARK, thickness=1.7 * thin, opacity=0.6)
    canvas.line(head[[0, 1, 2, 0]], DARK, thickness=thin, opacity=0.6)
    canvas.line(ends, _COLOR, thickness=thin)
    canvas.polygon(head, _COLOR, opacity=1)
    for end in ends:
        canvas.line(end[None], DARK, thickness=3 * thin, opacity=0.6)
        canvas.line(end[None], WHITE, thickness=2 * thin)
