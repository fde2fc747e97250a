"""Lines of a thickness and filled polygons as weights ready to be stamped in a colour, their edges smooth."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import cv2
import numpy as np

Patch = tuple[int, int, np.ndarray]
"""Where a piece of a shape lies (x, y of its upper left corner) and its weights (h, w) uint8."""

Points = tuple[tuple[float, float], ...]

_TILE = 256
"""Side of the pieces that a line is cut into, so that one from corner to corner does not touch the whole picture."""

_SHIFT = 4
"""Bits of a pixel's fraction that OpenCV draws by: a sixteenth of a pixel."""


@lru_cache(maxsize=256)
def line(points: Points, *, thickness: float, width: int, height: int, weight: int) -> tuple[Patch, ...]:
    """A line through points in pixels, in pieces that do not overlap; kept, for what stands still is drawn often."""
    made = tuple(path(np.array(points), thickness=thickness, width=width, height=height, weight=weight))
    for _, _, weights in made:
        weights.flags.writeable = False
    return made


def polygon(corners: np.ndarray, *, width: int, height: int, weight: int) -> Patch | None:
    """The inside of an outline (K, 2) in pixels, cut off at the picture's border; None where it lies beyond it."""
    given = _within(corners, width=width, height=height)
    left, top = np.clip(np.floor(given.min(axis=0)) - 1, 0, (width, height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(given.max(axis=0)) + 2, 0, (width, height)).astype(int).tolist()
    if right <= left or bottom <= top:
        return None
    weights = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(weights, [_fixed(given - (left, top))], (weight,), cv2.LINE_AA, _SHIFT)
    return left, top, weights


def path(
    points: np.ndarray, *, thickness: float, width: int, height: int, weight: int, fading: bool = False
) -> Iterator[Patch]:
    """A line through points (K, 2) in pixels, in pieces that do not overlap; one point is a dot.

    fading: from nothing and thin at the first point to all of it at the last
    """
    points = _within(points, width=width, height=height)
    if len(points) == 1:
        points = np.repeat(points, 2, axis=0)
    reach = thickness / 2 + 1
    lowest, highest = np.floor((points.min(axis=0) - reach) / _TILE), np.floor((points.max(axis=0) + reach) / _TILE)
    for row in range(max(0, int(lowest[1])), min((height - 1) // _TILE, int(highest[1])) + 1):
        for column in range(max(0, int(lowest[0])), min((width - 1) // _TILE, int(highest[0])) + 1):
            x, y = column * _TILE, row * _TILE
            tile = np.zeros((min(_TILE, height - y), min(_TILE, width - x)), np.uint8)
            _draw(tile, points - (x, y), thickness=thickness, weight=weight, fading=fading)
            left, top, wide, high = cv2.boundingRect(tile)
            if wide and high:
                yield x + left, y + top, tile[top : top + high, left : left + wide].copy()


def _draw(tile: np.ndarray, points: np.ndarray, *, thickness: float, weight: int, fading: bool) -> None:
    fixed = _fixed(points)
    if not fading:
        cv2.polylines(tile, [fixed], False, (weight,), _wide(thickness), cv2.LINE_AA, _SHIFT)
        return
    num = len(fixed) - 1
    for i in range(num):
        share = (i + 1) / num
        wide = _wide(thickness * (0.4 + 0.6 * share))
        cv2.line(tile, fixed[i].tolist(), fixed[i + 1].tolist(), (round(weight * share),), wide, cv2.LINE_AA, _SHIFT)


def _wide(thickness: float) -> int:
    """The thickness that OpenCV is to be asked for: its smooth lines come out wider by a pixel and a half."""
    return max(1, round(thickness - 1.5))


def _within(points: np.ndarray, *, width: int, height: int) -> np.ndarray:
    """The points as near to the picture as OpenCV's whole numbers need them: at most as far away as it is large."""
    near: np.ndarray = np.clip(points, (-width, -height), (2 * width, 2 * height))
    return near


def _fixed(points: np.ndarray) -> np.ndarray:
    """Points in pixels, whose centres are at a half, as OpenCV counts: from the first pixel's centre, in fractions."""
    fixed: np.ndarray = np.rint((points - 0.5) * (1 << _SHIFT)).astype(np.int32)
    return fixed
