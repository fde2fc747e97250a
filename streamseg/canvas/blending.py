"""How colours and pictures go over each other by weight, and how a part is made unsharp or square; on bare arrays.

Blending stays in the integers of the samples, with tables of 256 weights for all that can be known beforehand: a
quarter of the memory that floats would move, and a weight of 0 or 255 leaves a sample exactly what it was or is to be.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

# ---- from masks to weights ------------------------------------------------------------------------------------------


def _ramp(low: float, high: float) -> np.ndarray:
    """A table from mask to weight: 0 up to `low`, 255 from `high` on."""
    weights: np.ndarray = np.clip(np.rint((np.arange(256) - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    return weights


INSIDE = _ramp(80, 128)
"""Wherever the mask is at least a half the weight is full, so an object keeps every bit; the soft edge lies outside."""

EDGE = _ramp(88, 168)
"""A soft edge centred on the contour, for objects that are cut out: little of their old background comes along."""


@lru_cache(maxsize=64)
def tint_table(opacity: int, outline: bool) -> np.ndarray:
    """From the blurred step across a contour (0 outside, 255 inside) to the weight of the colour."""
    step = np.arange(256) / 255
    weight = np.clip(step * 2 - 0.5, 0, 1) * opacity  # the edge takes half the blur's width, so it is not washed out
    if outline:
        # A roof over the contour, where the step is at a half; cut off at 1 it is solid along its middle third.
        weight = np.maximum(weight, np.clip((1 - np.abs(2 * step - 1)) * 1.5, 0, 1) * 255)
    return np.rint(weight).astype(np.uint8)


# ---- one over the other ---------------------------------------------------------------------------------------------

# OpenCV multiplies arrays of one depth only, so a component of uint16 needs its weights as uint16 too.
_WEIGHTS16 = np.arange(256, dtype=np.uint16)
_RESTS16 = _WEIGHTS16[::-1].copy()


@lru_cache(maxsize=2048)
def share(value: int, deep: bool) -> np.ndarray:
    """What a value adds at each weight, so that value over value is that value again. Table (256,)."""
    rest = 255 - np.arange(256)
    return (value - np.rint(value * rest / 255)).astype(np.uint16 if deep else np.uint8)


def lay(part: np.ndarray, weight: np.ndarray, value: int) -> None:
    """part := part · (1 - weight) + value · weight, in place."""
    deep = part.dtype == np.uint16
    rest = cv2.LUT(weight, _RESTS16) if deep else cv2.bitwise_not(weight)
    cv2.multiply(part, rest, dst=part, scale=1 / 255)
    cv2.add(part, cv2.LUT(weight, share(value, deep)), dst=part)


def lift(over: np.ndarray, weight: np.ndarray, behind: np.ndarray, target: np.ndarray) -> None:
    """target := over · weight + behind: what the value behind it adds, its `share` by 1 - weight."""
    cv2.multiply(over, cv2.LUT(weight, _WEIGHTS16) if over.dtype == np.uint16 else weight, dst=target, scale=1 / 255)
    cv2.add(target, behind, dst=target)


def mix(over: np.ndarray, under: np.ndarray, weight: np.ndarray, target: np.ndarray) -> None:
    """target := over · weight + under · (1 - weight)."""
    deep = over.dtype == np.uint16
    rest = cv2.LUT(weight, _RESTS16) if deep else cv2.bitwise_not(weight)
    below = cv2.multiply(under, rest, scale=1 / 255)
    cv2.multiply(over, cv2.LUT(weight, _WEIGHTS16) if deep else weight, dst=target, scale=1 / 255)
    cv2.add(target, below, dst=target)


# ---- unsharp and square ---------------------------------------------------------------------------------------------


def blurred(samples: np.ndarray, *, radius_x: float, radius_y: float, weight: np.ndarray | None = None) -> np.ndarray:
    """A Gaussian by way of a smaller picture: as smooth, and as quick for a large radius as for a small one.

    samples (h, w) uint8 or uint16 · radii: standard deviations in samples · weight (h, w) uint8: how much each sample
    counts.
    """
    height, width = samples.shape
    # Shrunk until the deviation is two to four samples: some 30 taps of the kernel are enough for any radius.
    by_x, by_y = max(1, int(radius_x / 2)), max(1, int(radius_y / 2))
    size = (max(1, -(-width // by_x)), max(1, -(-height // by_y)))

    def softened(values: np.ndarray) -> np.ndarray:
        small = cv2.resize(np.ascontiguousarray(values), size, interpolation=cv2.INTER_AREA).astype(np.float32)
        sigma_x, sigma_y = max(0.3, radius_x / by_x), max(0.3, radius_y / by_y)
        smooth: np.ndarray = cv2.GaussianBlur(
            small, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_REPLICATE
        )
        return smooth

    if weight is None:
        small = softened(samples)
    else:
        # A weighted mean: weighted samples over weights, both blurred alike. Far inside an object nothing counts; what
        # comes out there lies under the object.
        counting = weight if samples.dtype == np.uint8 else cv2.LUT(weight, _WEIGHTS16)
        small = softened(cv2.multiply(samples, counting, scale=1 / 255)) / np.maximum(softened(weight) / 255, 1e-3)
    small = np.clip(np.rint(small), 0, np.iinfo(samples.dtype).max).astype(samples.dtype)
    large: np.ndarray = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return large


def mosaic(samples: np.ndarray, *, high: int, wide: int) -> np.ndarray:
    """Every block of high × wide samples as its mean: (h, w), blocks at the right and lower end cut off."""
    height, width = samples.shape
    whole = cv2.copyMakeBorder(samples, 0, -height % high, 0, -width % wide, cv2.BORDER_REPLICATE)
    size = (whole.shape[1] // wide, whole.shape[0] // high)
    small = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    blocks: np.ndarray = cv2.resize(small, (whole.shape[1], whole.shape[0]), interpolation=cv2.INTER_NEAREST)
    return blocks[:height, :width]
