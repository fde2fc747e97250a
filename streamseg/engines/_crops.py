"""What the heads see of boxes: samples of the pyramid's levels, taken outside of the networks.

The same rules as `streamseg.model.roi_align`, which the tests hold them against. Legend: R boxes, n cells a side,
C channels; h, w cells of a level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamseg.config import ModelConfig

CANONICAL_SIZE, CANONICAL_LEVEL = 224.0, 4
"""A box of 224² pixels is pooled from level 4 (Lin et al., 2017, equation 1)."""

Samples = tuple[np.ndarray, np.ndarray]
"""For each point the cells that it is a mean of (R, n, k) int32, two where it lies between them, and how much of each
(R, n, k)."""

NUM_SAMPLES = {"one": 1, "two": 2}
"""In each direction of a cell of a box; `adaptive`: as many as cells of the level lie in it."""

SLACK = 1e-6
"""Share of a map's side by which a sample of the matterport family may miss it without being 0."""


class Pyramid:
    """The levels of a pyramid {l: (h, w, C)} with stride 2^l, one behind the other in one memory.

    cells (S, C): those of all levels, row by row · levels: each as a view of its own cells · starts, heights, widths
    (L,) int32: the first cell of each, the finest first, and its sides
    """

    def __init__(self, sides: Mapping[int, tuple[int, int]], channels: int) -> None:
        self.names = sorted(sides)
        self.heights, self.widths = np.array([sides[name] for name in self.names], np.int32).T
        ends = np.cumsum(self.heights * self.widths, dtype=np.int32)
        self.starts = ends - self.heights * self.widths
        self.cells = np.zeros((ends[-1], channels), np.float32)
        self.levels = {
            name: self.cells[start:end].reshape(*sides[name], channels)
            for name, start, end in zip(self.names, self.starts, ends, strict=True)
        }

    @classmethod
    def of(cls, levels: Mapping[int, np.ndarray]) -> Pyramid:
        """One that holds copies of levels {l: (h, w, C)}."""
        pyramid = cls({name: cells.shape[:2] for name, cells in levels.items()}, next(iter(levels.values())).shape[2])
        for name, cells in levels.items():
            pyramid.levels[name][:] = cells
        return pyramid


def crops(
    pyramid: Pyramid, boxes: np.ndarray, config: ModelConfig, *, size: int, width: int, height: int
) -> np.ndarray:
    """Features (R, size, size, C) of boxes (R, 4), in the unit of the network's family.

    width, height: of the input in pixels
    """
    original = config.family == "matterport"
    level = level_of_normalised(boxes, width=width, height=height) if original else level_of(boxes)
    which = np.clip(level, pyramid.names[0], pyramid.names[-1]).astype(np.intp) - pyramid.names[0]
    widths, heights = pyramid.widths[which, None], pyramid.heights[which, None]
    if original:
        column, row = (
            zero_outside(
                corner_to_corner(boxes[:, i], boxes[:, i + 2], last, size), last + np.float32(1), near=SLACK * last
            )
            for i, last in ((0, (widths - 1).astype(np.float32)), (1, (heights - 1).astype(np.float32)))
        )
        return bilinear(pyramid.cells, column, row, starts=pyramid.starts[which], widths=widths)
    boxes = boxes / np.float32(2) ** (which + pyramid.names[0]).astype(np.float32)[:, None]
    start, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    if not config.roi_aligned:
        sides = np.maximum(sides, np.float32(1))

    def means(rows: Any, number: tuple[int, int]) -> np.ndarray:
        """What is seen of each cell of these boxes: the mean of samples that lie evenly in it.

        Samples of its columns and of its rows are added up apart, before they cross.
        """
        column, row = (
            mean_samples(
                evenly(start[rows, axis], sides[rows, axis], size * number[axis]),
                counts[rows],
                number=number[axis],
                aligned=config.roi_aligned,
            )
            for axis, counts in ((0, widths), (1, heights))
        )
        return bilinear(pyramid.cells, column, row, starts=pyramid.starts[which[rows]], widths=widths[rows])

    if config.roi_sampling != "adaptive":
        number = NUM_SAMPLES[config.roi_sampling]
        return means(slice(None), (number, number))
    result = np.empty((len(boxes), size, size, pyramid.cells.shape[1]), np.float32)
    numbers = np.maximum(np.ceil(sides / np.float32(size)), 1).astype(np.int64)  # across, down
    for across, down in set(map(tuple, numbers.tolist())):  # sorting rows would take longer than the rest of few boxes
        rows = np.flatnonzero((numbers == (across, down)).all(axis=1))
        result[rows] = means(rows, (across, down))
    return result


def level_of(boxes: np.ndarray) -> np.ndarray:
    """Pyramid level (R,), not limited, of boxes (R, 4) in pixels of the input, as the families in pixels choose."""
    side = np.sqrt(np.fmax(_area(boxes), np.float32(1e-6)))  # also of a box that is no number
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


def evenly(start: np.ndarray, side: np.ndarray, count: int) -> np.ndarray:
    """Points (R, count) in the middle of as many parts of sides that begin at `start` (R,) and are `side` (R,) long."""
    steps = (np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(count)
    points: np.ndarray = start[:, None] + steps * side[:, None]
    return points


def mean_samples(points: np.ndarray, counts: np.ndarray, *, number: int, aligned: bool) -> Samples:
    """The mean of each `number` points (R, n · number) on lines of `counts` (R, 1) cells, as samples of (R, n).

    Not aligned: points half a cell further on, and nothing where one lies more than a cell outside.
    """
    index, share = nearest_inside(points - np.float32(0.5), counts) if aligned else zero_outside(points, counts, near=1)
    shape = len(points), points.shape[1] // number, 2 * number
    return index.reshape(shape), (share / np.float32(number) if number > 1 else share).reshape(shape)


def corner_to_corner(start: np.ndarray, end: np.ndarray, last: np.ndarray, size: int) -> np.ndarray:
    """Sample points (R, size) from `start` (R,) to `end` (R,) of normalised boxes, in cells 0 to `last` (R, 1)."""
    if size == 1:
        middle: np.ndarray = np.float32(0.5) * (start + end)[:, None] * last
        return middle
    step = (end - start)[:, None] * last / np.float32(size - 1)
    points: np.ndarray = start[:, None] * last + np.arange(size, dtype=np.float32) * step
    return points


def nearest_inside(points: np.ndarray, counts: np.ndarray) -> Samples:
    """Samples at points (R, n) of lines of `counts` (R, 1) cells; those outside take the cell at the border."""
    last = counts - np.float32(1)
    points = np.fmin(np.fmax(points, np.float32(0)), last)  # what is no number becomes 0
    low = np.floor(points)
    index, share = np.empty((*points.shape, 2), np.int32), np.empty((*points.shape, 2), np.float32)
    index[..., 0], index[..., 1] = low, np.minimum(low + np.float32(1), last)
    share[..., 1] = points - low
    share[..., 0] = np.float32(1) - share[..., 1]
    return index, share


def zero_outside(points: np.ndarray, counts: np.ndarray, *, near: np.ndarray | float) -> Samples:
    """Samples at points (R, n) of lines of `counts` (R, 1) cells; more than `near` outside, or no number: nothing."""
    inside = (points >= -near) & (points <= counts - np.float32(1) + near)
    index, share = nearest_inside(np.where(inside, points, 0), counts)
    return index, share * inside[..., None]


def bilinear(cells: np.ndarray, column: Samples, row: Samples, *, starts: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Values (R, n, n, C) of cells (S, C) at the points where samples of a box's columns and of its rows cross.

    starts (R,), widths (R, 1): where the cells of its level begin, and how many stand in a row there. Each value is a
    sum of some cells, so all are one product of a sparse matrix: exact where OpenCV's `remap` rounds a place to a 32nd
    of a cell, and without the copies that plain indexing makes.
    """
    from scipy.sparse import csr_array  # not needed before the first picture was looked at

    (x, x_share), (y, y_share) = column, row
    y = starts[:, None, None] + y * widths[..., None]
    index = (y[:, :, None, :, None] + x[:, None, :, None, :]).ravel()
    share = (y_share[:, :, None, :, None] * x_share[:, None, :, None, :]).ravel()
    places = np.arange(0, len(index) + 1, x.shape[2] * y.shape[2], dtype=np.int32)
    matrix = csr_array((share, index, places), shape=(len(places) - 1, len(cells)))
    values: np.ndarray = matrix @ cells
    return values.reshape(len(x), x.shape[1], y.shape[1], cells.shape[1])
