"""Letters of any script and the round panels that they stand on, as weights ready to be stamped in a colour."""

from __future__ import annotations

import math
import threading
from functools import lru_cache

import cv2
import numpy as np

_pen = threading.Lock()


def text_size(text: str, *, size: int, weight: int = 500) -> tuple[int, int]:
    """Width and height in pixels of the line box of a text whose letters are `size` pixels high, tails included."""
    line = lettering(text, size=size, weight=weight)
    return line.shape[1], line.shape[0]


# A label says the same in frame after frame, so it is kept; read-only, for it is handed to many.
@lru_cache(maxsize=1024)
def lettering(text: str, *, size: int, weight: int) -> np.ndarray:
    """A line of text as weights (h, w) uint8, the font's own ascent above and descent below the baseline."""
    text = text.encode("utf-8", "replace").decode()  # OpenCV crashes at half of a character
    with _pen:  # a FontFace is not made for two threads
        face = _face()
        _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), face, size, weight)
        ascent, descent = size, math.ceil(size * 0.25)
        bitmap = np.zeros((ascent + descent, max(1, width) + 2), np.uint8)
        cv2.putText(bitmap, text, (0, ascent), (255,), face, size, weight)
    bitmap.flags.writeable = False
    return bitmap


@lru_cache(maxsize=256)
def panel(width: int, height: int, *, radius: int, weight: int) -> np.ndarray:
    """A rectangle with round corners as weights (height, width) uint8, its edge smooth."""
    radius = min(radius, width // 2, height // 2)
    # How far a pixel's centre lies from the nearest point of the rectangle that the corners' centres span.
    x = np.maximum(np.abs(np.arange(width) + 0.5 - width / 2) - (width / 2 - radius), 0)
    y = np.maximum(np.abs(np.arange(height) + 0.5 - height / 2) - (height / 2 - radius), 0)
    outside = np.hypot(x[None, :], y[:, None]) - radius
    weights: np.ndarray = np.rint(np.clip(0.5 - outside, 0, 1) * weight if radius else np.full_like(outside, weight))
    weights = weights.astype(np.uint8)
    weights.flags.writeable = False
    return weights


@lru_cache
def _face() -> cv2.FontFace:
    return cv2.FontFace("sans")  # comes with OpenCV 5, also for Chinese, Japanese and Korean
