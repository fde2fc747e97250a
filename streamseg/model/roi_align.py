"""ROIAlign over pyramid levels: bilinear samples for each cell of a box (He et al., 2017).

Legend: B pictures, R boxes over all pictures, n cells a side, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from keras import ops

from streamseg.model import boxes as box_ops

Tensor = Any

CANONICAL_SIZE = 224.0
CANONICAL_LEVEL = 4
"""A box of 224² pixels is pooled from level 4 (Lin et al., 2017, equation 1)."""


SLACK = 1e-6
"""Share of a map's side by which a sample may miss it: rounding must not put one that lies on the border outside."""


def roi_align(
    levels: dict[int, Tensor],
    boxes: Tensor,
    picture_ids: Tensor,
    *,
    size: int,
    sampling: Literal["one", "two", "adaptive"] = "one",
    aligned: bool = True,
) -> Tensor:
    """Features (R, size, size, C) of boxes (R, 4) in pixels, each from the level that suits its area.

    levels: {l: (B, h, w, C)} with stride 2^l · picture_ids (R,) int32: which picture a box lies in · sampling: each
    cell of the box is the mean of one sample, of 2×2, or of as many as it spans cells of the map, rounded up.
    Samples spread evenly over the cells, one lies in their middle; points outside a map take its nearest border. Not
    aligned: half a cell of the map further, in boxes of at least one cell, and 0 where one lies a cell outside, as
    ROIAlign was at first.
    """
    maps = _Maps(levels)
    scale = ops.sqrt(ops.maximum(box_ops.area(boxes), 1e-6)) / CANONICAL_SIZE
    level = ops.floor(CANONICAL_LEVEL + ops.log(scale) / np.log(2.0) + 1e-6)
    level = maps.index_of(level)
    strides = ops.take(ops.convert_to_tensor(np.array([2.0**name for name in maps.names], "float32")), level)
    x0, y0, x1, y1 = (boxes[:, i : i + 1] / ops.expand_dims(strides, 1) for i in range(4))  # (R, 1)
    w, h = x1 - x0, y1 - y0
    shift = 0.5 if aligned else 0.0
    border: dict[str, Any] = {} if aligned else {"slack": 0.0, "margin": 1.0}
    if not aligned:
        w, h = ops.maximum(w, 1.0), ops.maximum(h, 1.0)
    cells = ops.convert_to_tensor(np.arange(size, dtype="float32"))

    def sampled(place_x: Any, place_y: Any) -> Tensor:
        """One sample a cell, at these shares (R, 1) or numbers of the cell's sides: (R, n, n, C)."""
        x = x0 + (cells + place_x) / size * w - shift  # (R, n) in cells of the map, 0 = middle of the first
        y = y0 + (cells + place_y) / size * h - shift
        return maps.sample(x, y, level, picture_ids, **border)

    if sampling == "one":
        return sampled(0.5, 0.5)
    if sampling == "two":  # one after the other: all at once would hold four times as much
        return 0.25 * sum(sampled(x, y) for y in (0.25, 0.75) for x in (0.25, 0.75))
    return _mean_of_all(sampled, *(ops.maximum(ops.ceil(side / size), 1.0) for side in (w, h)))


def _mean_of_all(sampled: Callable[[Tensor, Tensor], Tensor], num_x: Tensor, num_y: Tensor) -> Tensor:
    """The mean (R, n, n, C) of num_x × num_y samples (R, 1) a cell, whole numbers of its own for each box.

    The loop goes on to the most that a box has; a box that has had all of its samples adds nothing more.
    """
    total = num_x * num_y

    def add(k: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        row = ops.floor(k / num_x)
        part = sampled((k - row * num_x + 0.5) / num_x, (row + 0.5) / num_y)
        weight = ops.cast(k < total, "float32") / total
        return k + 1.0, mean + part * ops.cast(weight[:, :, None, None], part.dtype)

    def some_left(k: Tensor, mean: Tensor) -> Tensor:
        return k < ops.max(total, initial=0.0)

    start = ops.zeros_like(sampled(0.5, 0.5))
    return ops.while_loop(some_left, add, (ops.convert_to_tensor(0.0, "float32"), start))[1]


def level_of(boxes: Tensor, *, width: int, height: int) -> Tensor:
    """Pyramid level (R,) of normalised boxes (R, 4) in an input of width × height pixels, as the original chooses."""
    area = box_ops.area(boxes)
    side = ops.sqrt(area) / (CANONICAL_SIZE / math.sqrt(width * height))
    level = CANONICAL_LEVEL + ops.round(ops.log(ops.where(area > 0, side, ops.ones_like(side))) / np.log(2.0))
    return ops.where(area > 0, ops.clip(level, 2.0, 5.0), 2.0)


def crop_and_resize(
    levels: dict[int, Tensor],
    boxes: Tensor,
    picture_ids: Tensor,
    *,
    size: int,
    width: int,
    height: int,
    slack: float = SLACK,
) -> Tensor:
    """Features (R, size, size, C) of normalised boxes (R, 4), as matterport/Mask_RCNN samples them.

    The first and the last sample lie on the box's corners; points outside a map, by more than `slack` of its side, are
    0. `level_of` chooses the map.
    """
    maps = _Maps(levels)
    level = maps.index_of(level_of(boxes, width=width, height=height))
    return maps.sample(*maps.corners(boxes, level, size=size), level, picture_ids, slack=slack)


class _Maps:
    """The levels as one list of cells, so that every box gathers from its own level in one go."""

    def __init__(self, levels: dict[int, Tensor]) -> None:
        self.names = sorted(levels)
        shapes = [levels[name].shape for name in self.names]
        self.batch = ops.shape(levels[self.names[0]])[0]
        self.channels = shapes[0][-1]
        self.cells = ops.concatenate([ops.reshape(levels[name], (-1, self.channels)) for name in self.names], axis=0)
        self.heights = np.array([s[1] for s in shapes], "int32")
        self.widths = np.array([s[2] for s in shapes], "int32")
        self.before = np.concatenate([[0], np.cumsum(self.heights * self.widths)[:-1]]).astype("int32")

    def index_of(self, level: Tensor) -> Tensor:
        """Place (R,) int32 among `names` of level numbers (R,)."""
        lowest, highest = self.names[0], self.names[-1]
        index = ops.cast(ops.clip(level, lowest, highest), "int32")
        # what a number that is none becomes is up to the processor: a place all the same
        return ops.clip(index, lowest, highest) - lowest

    def corners(self, boxes: Tensor, level: Tensor, *, size: int) -> tuple[Tensor, Tensor]:
        """Sample points x, y (R, size) in cells of normalised boxes (R, 4), from corner to corner."""

        def points(start: Tensor, end: Tensor, counts: np.ndarray) -> Tensor:
            last = ops.cast(ops.take(ops.convert_to_tensor(counts), level), "float32") - 1.0
            if size == 1:
                return (0.5 * (start + end) * last)[:, None]
            step = (end - start) * last / (size - 1)
            return (start * last)[:, None] + ops.arange(size, dtype="float32") * step[:, None]

        return points(boxes[:, 0], boxes[:, 2], self.widths), points(boxes[:, 1], boxes[:, 3], self.heights)

    def sample(
        self,
        x: Tensor,
        y: Tensor,
        level: Tensor,
        picture_ids: Tensor,
        *,
        slack: float | None = None,
        margin: float = 0.0,
    ) -> Tensor:
        """Bilinear values (R, n, n, C) at columns x (R, n) and rows y (R, n) of each box's level.

        slack: points further outside than this share of the side and `margin` cells are 0; None: they take the nearest
        border.
        """
        size = x.shape[1]
        heights = ops.take(ops.convert_to_tensor(self.heights), level)
        widths = ops.take(ops.convert_to_tensor(self.widths), level)
        start = (
            ops.take(ops.convert_to_tensor(self.before), level) * self.batch + picture_ids * heights * widths
        )  # (R,)

        def corners(points: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
            last = ops.cast(count, "float32")[:, None] - 1.0
            near = (slack or 0.0) * last + margin
            inside = ops.logical_and(points >= -near, points <= last + near)
            if slack is not None:  # a box that is no number lies outside, too
                points = ops.where(inside, points, ops.zeros_like(points))
            points = ops.clip(points, 0.0, last)
            low = ops.floor(points)
            high = ops.minimum(low + 1.0, last)
            share = points - low
            index = ops.cast(ops.stack([low, high], -1), "int32")  # (R, n, 2)
            index = ops.clip(index, 0, count[:, None, None] - 1)  # also of points that are no number
            shares = ops.stack([1.0 - share, share], -1)
            return index, shares * ops.cast(inside, "float32")[..., None] if slack is not None else shares

        column, column_share = corners(x, widths)
        row, row_share = corners(y, heights)
        index = row[:, :, None, :, None] * widths[:, None, None, None, None] + column[:, None, :, None, :]
        index = index + start[:, None, None, None, None]  # (R, n, n, 2, 2)
        share = row_share[:, :, None, :, None] * column_share[:, None, :, None, :]
        gathered = ops.take(self.cells, ops.reshape(index, (-1,)), axis=0)  # (R·n·n·4, C)
        gathered = ops.reshape(gathered, (-1, size, size, 4, self.channels))
        share = ops.cast(ops.reshape(share, (-1, size, size, 4, 1)), gathered.dtype)
        return ops.sum(gathered * share, axis=3)  # (R, n, n, C)
