"""Draws behind every object the way that it came, fading out, in the object's own colour."""

from __future__ import annotations

from collections import deque

import numpy as np

from streamseg.canvas import Canvas, Color, color_of
from streamseg.places import Point, points_of
from streamseg.types import Result, UsageError
from streamseg.words import nearest


class Trails:
    """The way of every confirmed track over the last seconds; where nothing tracks there is none.

    classes: which objects, None for all · seconds: how far back · point: what of an object leaves the trail: its
    `foot`, the middle of its box's lower side, or the `centre` of its mask
    """

    def __init__(self, *, classes: list[str] | None = None, seconds: float = 3.0, point: Point = "foot") -> None:
        if not 0 < seconds <= 60:
            raise UsageError(f"trails: seconds: expected above 0 to 60, got {seconds}")
        if point not in ("foot", "centre"):
            raise UsageError(f"trails: point: {point!r} is not possible{nearest(point, ['foot', 'centre'])}")
        self.classes = classes
        self.seconds = seconds
        self.point: Point = point
        self._ways: dict[int, deque[tuple[float, float, float]]] = {}
        self._colors: dict[int, Color] = {}
        self._last: tuple[float, int, int] | None = None  # seconds, width and height of the last frame

    def draw(self, canvas: Canvas, result: Result) -> None:
        """Take in where the objects are now, and draw the ways of all that were seen lately."""
        self._remember(result)
        for track, way in self._ways.items():
            points = np.array(way)[:, 1:]
            canvas.trail(points, self._colors[track], thickness=max(5.0, canvas.unit / 120), opacity=0.9)

    def _remember(self, result: Result) -> None:
        frame, instances = result.frame, result.instances.of(*(self.classes or ()))
        last, self._last = self._last, (frame.time, frame.width, frame.height)
        if last and (frame.time < last[0] or self._last[1:] != last[1:]):
            self._ways = {}
        seen = instances[(instances.track_ids >= 0) & np.isfinite(instances.boxes).all(axis=1)]
        for track, class_id, (x, y) in zip(
            seen.track_ids.tolist(), seen.class_ids.tolist(), points_of(seen, self.point).tolist(), strict=True
        ):
            self._ways.setdefault(track, deque()).append((frame.time, x, y))
            self._colors[track] = color_of(track, class_id)
        for track, way in list(self._ways.items()):
            while way and frame.time - way[0][0] > self.seconds:
                way.popleft()
            if not way:
                del self._ways[track], self._colors[track]
