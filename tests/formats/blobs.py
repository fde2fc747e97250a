"""Shapes of many sizes for the tests of outlines: uneven round ones, with a hole, in parts, at the border."""

from __future__ import annotations

import cv2
import numpy as np

HEIGHT, WIDTH = 260, 320


def blob(side: int, *, seed: int = 0, centre: tuple[int, int] = (160, 130)) -> np.ndarray:
    """A mask (260, 320) bool of an uneven round shape about `side` pixels high; from 40 on with a hole in it."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = side / 2 * (0.85 + 0.15 * rng.random(24))
    corners = np.stack([centre[0] + 0.6 * radii * np.cos(angles), centre[1] + radii * np.sin(angles)], axis=1)
    inside = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(inside, [np.round(corners).astype(np.int32)], 1)
    if side >= 40:
        cv2.circle(inside, centre, side // 12, 0, -1)
    return inside.astype(bool)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks (H, W) bool."""
    return float((a & b).sum() / (a | b).sum())


SIZES = [(12, 0.93), (20, 0.93), (31, 0.93), (64, 0.95), (129, 0.98), (200, 0.98)]
"""Heights, and the least overlap with the object that an outline of the default tolerance may have."""
EVERYWHERE = {
    "in the middle": (160, 130),
    "at the right border": (318, 130),
    "in the lower left corner": (2, 258),
}
