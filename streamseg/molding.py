"""Mold a picture into the input of a Matterport network, and bring back what the network found, pixel for pixel as the
original did.

Boxes are y1, x1, y2, x2. "Normalised" is (y1 / (H-1), x1 / (W-1), (y2-1) / (H-1), (x2-1) / (W-1)) of an H × W picture.
    n objects, D rows of detections, K classes, m cells along a side of a mask
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import ndimage

MODES = ("none", "square", "pad64", "crop")

Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


class Dice(Protocol):
    """Where `crop` takes its random corner from: the module `random`, or a `random.Random`."""

    def randint(self, a: int, b: int, /) -> int: ...


@dataclass(frozen=True)
class Mold:
    """How one picture becomes an input of the network: scaled, then padded with zeros or cut.

    scale       the whole number 1 when nothing is scaled · height, width of the scaled picture
    window      (y1, x1, y2, x2) of the picture in the input · padding: pixels before and after on y, x and channels
    crop        (y, x, height, width) cut out of the scaled picture, None without one
    """

    scale: float
    height: int
    width: int
    window: tuple[int, int, int, int]
    padding: Padding
    crop: tuple[int, int, int, int] | None = None

    @classmethod
    def fit(
        cls,
        height: int,
        width: int,
        *,
        mode: str = "square",
        min_side: int | None = None,
        max_side: int | None = None,
        min_scale: float | None = None,
        dice: Dice = random,
    ) -> Mold:
        """The mold of a height × width picture.

        none    nothing is done · square: the shorter side is enlarged to min_side unless the longer one would pass
                max_side; padded to max_side × max_side
        pad64   enlarged to min_side, padded to multiples of 64 · crop: enlarged to min_side, a random min_side square
        min_scale is the least enlargement of every mode but `none`. Raises ValueError for what cannot be done.
        """
        if mode not in MODES:
            raise ValueError(f"mode: expected {', '.join(MODES)}, got {mode!r}")
        if mode == "none":
            return cls(1, height, width, (0, 0, height, width), ((0, 0), (0, 0), (0, 0)))
        name, given = ("max_dim", max_side) if mode == "square" else ("min_dim", min_side)
        if not given and mode != "pad64":
            raise ValueError(f"mode {mode!r} needs {name}, got {given}")
        side = given or 0
        scale: float = max(1, min_side / min(height, width)) if min_side else 1
        if min_scale and scale < min_scale:
            scale = min_scale
        if mode == "square" and round(max(height, width) * scale) > side:
            scale = side / max(height, width)
        if scale != 1:
            height, width = max(1, round(height * scale)), max(1, round(width * scale))
        if mode == "crop":
            y, x = dice.randint(0, height - side), dice.randint(0, width - side)
            return cls(scale, height, width, (0, 0, side, side), ((0, 0), (0, 0), (0, 0)), (y, x, side, side))
        if mode == "pad64":
            if side % 64:
                raise ValueError(f"mode 'pad64' needs a min_dim that is a multiple of 64, got {side}")
            input_height, input_width = -(-height // 64) * 64, -(-width // 64) * 64
        else:
            input_height = input_width = side
        top, left = (input_height - height) // 2, (input_width - width) // 2
        padding = (top, input_height - height - top), (left, input_width - width - left), (0, 0)
        return cls(scale, height, width, (top, left, top + height, left + width), padding)

    def picture(self, rgb: np.ndarray) -> np.ndarray:
        """The picture (height, width, channels) in the network's input, in its own dtype; uint8 is cut, not rounded."""
        if self.scale != 1:
            rgb = resize(rgb, (self.height, self.width)).astype(rgb.dtype)
        return pad_or_cut(rgb, self.padding, self.crop)

    def masks(self, masks: np.ndarray) -> np.ndarray:
        """Masks (height, width, n) of the picture as they lie in the network's input, same dtype."""
        return pad_or_cut(resize_nearest(masks, self.scale), self.padding, self.crop)


def pad_or_cut(array: np.ndarray, padding: Sequence[Sequence[int]], crop: Sequence[int] | None) -> np.ndarray:
    """An array (h, w, c) cut to `crop` (y, x, height, width) if there is one, else padded with zeros."""
    if crop is not None:
        y, x, height, width = crop
        return array[y : y + height, x : x + width]
    return np.pad(array, padding) if any(map(any, padding)) else array


def resize(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The array (h, w) or (h, w, c) at `shape` (height, width), bilinear without anti-aliasing: float64.

    Cells are areas (half-pixel centres), what lies outside counts as 0, and the result keeps to the range of the whole
    array, so that an enlarged border fades, no further than the array's least value.
    """
    array = np.asarray(array, np.float64)
    if array.ndim == 3:
        planes = [_bilinear(array[..., i], shape) for i in range(array.shape[2])]
        resized = np.stack(planes, axis=-1) if planes else np.zeros((*shape[:2], 0))
    else:
        resized = _bilinear(array, shape)
    return np.clip(resized, array.min(), array.max(), out=resized) if array.size else resized


def _bilinear(plane: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    factors = [1 / (old / new) for old, new in zip(plane.shape, shape, strict=True)]
    resized: np.ndarray = ndimage.zoom(plane, factors, order=1, mode="grid-constant", cval=0, grid_mode=True)
    return resized


def resize_nearest(array: np.ndarray, scale: float) -> np.ndarray:
    """The array (h, w, …) with its first two sides `scale` times as long, nearest cells, corner on corner."""
    if scale == 1:
        return array
    index, inside = zip(*(_nearest(side, scale) for side in array.shape[:2]), strict=True)
    counts = np.logical_and.outer(*inside).reshape(len(index[0]), -1, *[1] * (array.ndim - 2))
    resized: np.ndarray = array[np.ix_(*index)] * counts
    return resized


def _nearest(side: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """For every new cell of a side its old cell, and whether it counts."""
    count = max(1, round(side * scale))
    at = np.arange(count) * ((side - 1) / (count - 1) if count > 1 else 1.0)
    # SciPy's zoom, which the original used, leaves a cell empty when rounding puts it an ulp past the last centre.
    return np.minimum(np.floor(at + 0.5).astype(int), side - 1), at <= side - 1


def normalise(boxes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Boxes (n, 4) from pixels of a picture of `shape` (height, width) to normalised ones: float32."""
    height, width = shape[:2]
    scale, shift = np.array([height - 1, width - 1] * 2), np.array([0, 0, 1, 1])
    normalised: np.ndarray = ((boxes - shift) / scale).astype(np.float32)
    return normalised


def denormalise(boxes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Normalised boxes (n, 4) in whole pixels of a picture of `shape` (height, width), half to even: int32."""
    height, width = shape[:2]
    scale, shift = np.array([height - 1, width - 1] * 2), np.array([0, 0, 1, 1])
    pixels: np.ndarray = np.around(boxes * scale + shift).astype(np.int32)
    return pixels


def paste(mask: np.ndarray, box: Sequence[int] | np.ndarray, *, shape: Sequence[int]) -> np.ndarray:
    """A mask (m, m) in [0, 1] in the whole picture of `shape` (height, width) where it reaches 0.5: bool.

    box (4,) in pixels of the picture; one without area shows nothing.
    """
    y1, x1, y2, x2 = box
    full = np.zeros(tuple(shape[:2]), bool)
    if y2 > y1 and x2 > x1:
        full[y1:y2, x1:x2] = resize(mask, (y2 - y1, x2 - x1)) >= 0.5
    return full


def unmold(
    detections: np.ndarray, *, shape: Sequence[int], input_shape: Sequence[int], window: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Detections (D, 6) of an input in pixels of the picture it was made from: boxes, class ids, scores, rows.

    detections: normalised box, class, score; the first row of class 0 ends them · shape, input_shape: height and width
    of picture and input · window (4,): the picture in the input, in pixels.
    Returns boxes (n, 4) int32, class ids (n,) int32, scores (n,) float32, and the rows (n,) that they stood in; boxes
    without area are left out.
    """
    empty = np.flatnonzero(detections[:, 4] == 0)
    detections = detections[: empty[0]] if len(empty) else detections
    y1, x1, y2, x2 = normalise(np.asarray(window), input_shape)
    shift, scale = np.array([y1, x1, y1, x1]), np.array([y2 - y1, x2 - x1, y2 - y1, x2 - x1])
    boxes = denormalise((detections[:, :4] - shift) / scale, shape)
    rows = np.flatnonzero((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) > 0)
    return boxes[rows], detections[rows, 4].astype(np.int32), detections[rows, 5].astype(np.float32), rows
