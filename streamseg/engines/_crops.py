"""What the heads see of boxes: samples of the pyramid's levels, taken outside of the networks.

The same rules as `streamseg.model.roi_align`, which the tests hold them against. Legend: R boxes, n cells a side,
C channels; h, w cells of a level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from streamseg.config import ModelConfig

CANONICAL_SIZE, CANONICAL_LEVEL = 224.0, 4
"""A box of 224² pixels is pooled from level 4 (Lin et al., 2017, equation 1)."""

Samples = tuple[np.ndarray, np.ndarray]
"""For each point the cells that it is a mean of (R, n, k) int32, two where it lies between them, and how much of each
(R, n, k)."""

SLACK = 1e-6
"""Share of a map's side by which a sample of the matterport family may miss it without being 0."""


def crops(
    levels: Mapping[int, np.ndarray], boxes: np.ndarray, config: ModelConfig, *, size: int, width: int, height: int
) -> np.ndarray:
    """Features (R, size, size, C) of boxes (R, 4), in the unit of the network's family.

    levels: {l: (h, w, C)} with stride 2^l · width, height: of the input in pixels.
    """
    original = config.family == "matterport"
    level = level_of_normalised(boxes, width=width, height=height) if original else level_of(boxes)
    level = np.clip(level, min(levels), max(levels)).astype(np.int64)
    channels = next(iter(levels.values())).shape[-1]
    result = np.empty((len(boxes), size, size, channels), np.float32)
    for name, cells in levels.items():
        rows = np.flatnonzero(level == name)
        if not len(rows):
            continue
        if original:
            h, w = cells.shape[:2]
            column, row = (
                zero_outside(
                    corner_to_corner(boxes[rows, i], boxes[rows, i + 2], last, size), last + 1, near=SLACK * last
                )
                for i, last in ((0, w - 1), (1, h - 1))
            )
            result[rows] = bilinear(cells, column, row)
        else:
            result[rows] = means_of_cells(cells, boxes[rows] / np.float32(2**name), config, size=size)
    return result


def level_of(boxes: np.ndarray) -> np.ndarray:
    """Pyramid level (R,), not limited, of boxes (R, 4) in pixels of the input, as the families in pixels choose."""
    side = np.sqrt(np.maximum(_area(boxes), np.float32(1e-6)))
    level: np.ndarray = CANONICAL_LEVEL + np.log(side / np.float32(CANONICAL_SIZE)) / np.float32(np.log(2.0))
    return np.floor(level + np.float32(1e-6))


def level_of_normalised(boxes: np.ndarray, *, width: int, height: int) -> np.ndarray:
    """Pyramid level (R,) of normalised boxes (R, 4), as the original chooses; 2 of one without an area."""
    area = _area(boxes)
    side = np.sqrt(np.where(area > 0, area, 1)) / np.float32(CANONICAL_SIZE / math.sqrt(width * height))
    level: np.ndarray = CANONICAL_LEVEL + np.round(np.log(side) / np.float32(np.log(2.0)))
    return np.where(area > 0, level, 2)


def _area(boxes: np.ndarray) -> np.ndarray:
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    area: np.ndarray = sides[:, 0] * sides[:, 1]
    return area


def means_of_cells(cells: np.ndarray, boxes: np.ndarray, config: ModelConfig, *, size: int) -> np.ndarray:
    """Features (R, size, size, C) of boxes (R, 4) in cells of a level (h, w, C); 0 is where its first one begins.

    What is seen of each cell of a box is the mean of samples that lie evenly in it. Samples of its columns and of its
    rows are added up apart, before they cross.
    """
    start, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    if not config.roi_aligned:
        sides = np.maximum(sides, np.float32(1))
    numbers = num_samples(sides, config, size=size)
    result = np.empty((len(boxes), size, size, cells.shape[2]), np.float32)
    for number in set(map(tuple, numbers.tolist())):  # sorting rows would take longer than the rest of few boxes
        rows = np.flatnonzero((numbers == number).all(axis=1))
        column, row = (
            mean_samples(
                evenly(start[rows, axis], sides[rows, axis], size * number[axis]),
                cells.shape[1 - axis],
                number=number[axis],
                aligned=config.roi_aligned,
            )
            for axis in (0, 1)
        )
        result[rows] = bilinear(cells, column, row)
    return result


def num_samples(sides: np.ndarray, config: ModelConfig, *, size: int) -> np.ndarray:
    """How many samples (R, 2) lie in a cell of boxes with these sides (R, 2) in cells of the level: across, down."""
    if config.roi_sampling == "adaptive":
        return np.maximum(np.ceil(sides / np.float32(size)), 1).astype(np.int64)
    return np.full(sides.shape, 2 if config.roi_sampling == "two" else 1)


def evenly(start: np.ndarray, side: np.ndarray, count: int) -> np.ndarray:
    """Points (R, count) in the middle of as many parts of sides that begin at `start` (R,) and are `side` (R,) long."""
    steps = (np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(count)
    points: np.ndarray = start[:, None] + steps * side[:, None]
    return points


def mean_samples(points: np.ndarray, count: int, *, number: int, aligned: bool) -> Samples:
    """The mean of each `number` points (R, n · number) on a line of `count` cells, as samples of (R, n).

    Not aligned: points half a cell further on, and nothing where one lies more than a cell outside.
    """
    index, share = nearest_inside(points - np.float32(0.5), count) if aligned else zero_outside(points, count, near=1)
    shape = len(points), -1, 2 * number
    return index.reshape(shape), (share / np.float32(number)).reshape(shape)


def corner_to_corner(start: np.ndarray, end: np.ndarray, last: int, size: int) -> np.ndarray:
    """Sample points (R, size) from `start` (R,) to `end` (R,) of normalised boxes, in cells 0 to `last`."""
    if size == 1:
        middle: np.ndarray = np.float32(0.5) * (start + end) * np.float32(last)
        return middle[:, None]
    step = (end - start) * np.float32(last) / np.float32(size - 1)
    points: np.ndarray = (start * np.float32(last))[:, None] + np.arange(size, dtype=np.float32) * step[:, None]
    return points


def nearest_inside(points: np.ndarray, count: int) -> Samples:
    """Samples at points (R, n) of a line of `count` cells; those outside take the cell at the border."""
    points = np.clip(points, 0, np.float32(count - 1))
    low = np.floor(points)
    share = points - low
    high = np.minimum(low + 1, np.float32(count - 1))
    return np.stack([low, high], -1).astype(np.int32), np.stack([1 - share, share], -1)


def zero_outside(points: np.ndarray, count: int, *, near: float) -> Samples:
    """Samples at points (R, n) of a line of `count` cells; more than `near` outside, or no number: nothing."""
    inside = (points >= -np.float32(near)) & (points <= count - 1 + np.float32(near))
    index, share = nearest_inside(np.where(inside, points, 0), count)
    return index, share * inside[..., None]


def bilinear(cells: np.ndarray, column: Samples, row: Samples) -> np.ndarray:
    """Values (R, n, n, C) of a level (h, w, C) at the points where samples of its columns and of its rows cross.

    Each is a sum of some cells, so all are one product of a sparse matrix: exact where OpenCV's `remap` rounds a place
    to a 32nd of a cell, and without the copies that plain indexing makes.
    """
    from scipy.sparse import csr_array  # not needed before the first picture was looked at

    (x, x_share), (y, y_share) = column, row
    width, channels = cells.shape[1:]
    index = (y[:, :, None, :, None] * np.int32(width) + x[:, None, :, None, :]).ravel()
    share = (y_share[:, :, None, :, None] * x_share[:, None, :, None, :]).ravel()
    places = np.arange(0, len(index) + 1, x.shape[2] * y.shape[2], dtype=np.int32)
    matrix = csr_array((share, index, places), shape=(len(places) - 1, cells.shape[0] * width))
    values: np.ndarray = matrix @ cells.reshape(-1, channels)
    return values.reshape(len(x), x.shape[1], y.shape[1], channels)
