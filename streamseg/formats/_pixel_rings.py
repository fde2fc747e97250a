"""Outlines through the pixels along the borders of a mask, for readers that draw the outline as well as its inside.

    P points of a ring, (P, 2) int x, y: the pixels themselves, not their borders

`cv2.fillPoly` and Pillow fill that way, and with them the readers of YOLO's and LabelMe's files: a ring along pixel
borders would come back a pixel too large on two sides. Undiminished, these rings come back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from streamseg import outlines

INTO_PIXEL = 0.25
"""What is added to a pixel's number before it is written: it is the same pixel whether a reader truncates or rounds."""

_STILL_SAME = 0.2
"""What may be added on top of that with the same result."""


def pixel_rings(mask: Mapping[str, Any], *, tolerance: float | None) -> list[np.ndarray]:
    """A ring for each part of a mask (run lengths), into which its holes are cut; none for an empty mask.

    tolerance: as in `outlines.polygons`; a cut runs within the part
    """
    return [outlines.joined(rings) for rings in _thinned_parts(mask, tolerance)]


def pixel_ring(mask: Mapping[str, Any], *, tolerance: float | None) -> np.ndarray | None:
    """The same as a single ring; None for an empty mask. A cut between two parts is drawn as a line of one pixel."""
    rings = [ring for part in _thinned_parts(mask, tolerance) for ring in part]
    return outlines.joined(rings) if rings else None


def points(ring: np.ndarray, *, nudge: float = 0.0) -> np.ndarray:
    """A ring as the points to be written, (P, 2) float64 and three at least, as readers ask for.

    nudge: moves all of them a little, within their pixels: 0 to 0.02
    """
    few = 3 - len(ring)
    if few > 0:  # a pixel, or a line of them
        shift = _STILL_SAME * np.array([[1, 0], [1, 1]])[:few]
        return np.concatenate([ring + INTO_PIXEL, ring[-1] + INTO_PIXEL + shift]) + nudge
    return ring + (INTO_PIXEL + nudge)


def _thinned_parts(mask: Mapping[str, Any], tolerance: float | None) -> list[list[np.ndarray]]:
    """The rings of each part, the outer one first, thinned by the rules of `outlines.polygons`."""
    exact = [[_along_pixels(ring) for ring in (part.outer, *part.holes)] for part in outlines.parts(mask)]
    if not exact or tolerance == 0:
        return exact
    all_points = np.concatenate([part[0] for part in exact])
    corner, size = all_points.min(axis=0), np.ptp(all_points, axis=0) + 1
    whole = _drawn(exact, corner, size)

    def overlap(found: list[list[np.ndarray]]) -> float:
        drawn = _drawn(found, corner, size)
        return float(np.count_nonzero(drawn & whole) / np.count_nonzero(drawn | whole))

    return outlines.thinned(exact, tolerance, overlap=overlap)


def _along_pixels(corners: np.ndarray) -> np.ndarray:
    """The pixels at the right hand of a border, of whose every edge the first and the last; corners (P, 2) → (K, 2)."""
    following = np.roll(corners, -1, axis=0)
    onward = np.sign(following - corners)
    # half a pixel along the border and half a pixel to its right hand is the middle of a pixel
    inward = np.stack([-onward[:, 1], onward[:, 0]], axis=1)
    first, last = (2 * corners + onward + inward) // 2, (2 * following - onward + inward) // 2
    pixels = np.stack([first, last], axis=1).reshape(-1, 2)
    new = (pixels != np.roll(pixels, 1, axis=0)).any(axis=1)
    return np.asarray(pixels[new] if new.any() else pixels[:1], np.int32)


def _drawn(parts: Sequence[Sequence[np.ndarray]], corner: np.ndarray, size: np.ndarray) -> np.ndarray:
    """What a reader draws of them in a part of the picture, (h, w) bool; corner: its first pixel x, y · size: w, h."""
    canvas = np.zeros(size[::-1], np.uint8)
    for part in parts:
        cv2.fillPoly(canvas, [ring - corner for ring in part], 1)
    return canvas.astype(bool)
