"""ROIAlign over pyramid levels: one bilinear sample in the middle of each cell of a box (He et al., 2017).

Legend: B pictures, R boxes over all pictures, n cells a side, C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from streamseg.model import boxes as box_ops

Tensor = Any

CANONICAL_SIZE = 224.0
CANONICAL_LEVEL = 4
"""A box of 224² pixels is pooled from level 4 (Lin et al., 2017, equation 1)."""


def roi_align(levels: dict[int, Tensor], boxes: Tensor, picture_ids: Tensor, *, size: int) -> Tensor:
    """Features (R, size, size, C) of boxes (R, 4), each from the level that suits its area.

    levels: {l: (B, h, w, C)} with stride 2^l · picture_ids (R,) int32: which picture a box lies in.
    Points outside a map take its nearest border.
    """
    names = sorted(levels)
    shapes = [levels[name].shape for name in names]
    batch = ops.shape(levels[names[0]])[0]
    channels = shapes[0][-1]
    flat = ops.concatenate([ops.reshape(levels[name], (-1, channels)) for name in names], axis=0)  # (cells, C)

    # the level of each box, as an index into `names`
    scale = ops.sqrt(ops.maximum(box_ops.area(boxes), 1e-6)) / CANONICAL_SIZE
    level = ops.floor(CANONICAL_LEVEL + ops.log(scale) / np.log(2.0) + 1e-6)
    level = ops.cast(ops.clip(level, names[0], names[-1]), "int32") - names[0]  # (R,)

    heights = ops.take(ops.convert_to_tensor(np.array([s[1] for s in shapes], "int32")), level)
    widths = ops.take(ops.convert_to_tensor(np.array([s[2] for s in shapes], "int32")), level)
    strides = ops.take(ops.convert_to_tensor(np.array([2.0**name for name in names], "float32")), level)
    cells = np.array([s[1] * s[2] for s in shapes], "int32")
    before = ops.convert_to_tensor(np.concatenate([[0], np.cumsum(cells)[:-1]]).astype("int32"))
    start = ops.take(before, level) * batch + picture_ids * heights * widths  # (R,)

    steps = ops.convert_to_tensor((np.arange(size, dtype="float32") + 0.5) / size)
    x0, y0, x1, y1 = (boxes[:, i : i + 1] / ops.expand_dims(strides, 1) for i in range(4))  # (R, 1)
    x = x0 + steps * (x1 - x0) - 0.5  # (R, n) in cells, 0 = middle of the first
    y = y0 + steps * (y1 - y0) - 0.5

    def corners(points: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        last = ops.cast(count, "float32")[:, None] - 1.0
        points = ops.clip(points, 0.0, last)
        low = ops.floor(points)
        high = ops.minimum(low + 1.0, last)
        share = points - low
        index = ops.cast(ops.stack([low, high], -1), "int32")  # (R, n, 2)
        return index, ops.stack([1.0 - share, share], -1)

    column, column_share = corners(x, widths)
    row, row_share = corners(y, heights)
    index = row[:, :, None, :, None] * widths[:, None, None, None, None] + column[:, None, :, None, :]
    index = index + start[:, None, None, None, None]  # (R, n, n, 2, 2)
    share = row_share[:, :, None, :, None] * column_share[:, None, :, None, :]
    gathered = ops.take(flat, ops.reshape(index, (-1,)), axis=0)  # (R·n·n·4, C)
    gathered = ops.reshape(gathered, (-1, size, size, 4, channels))
    share = ops.cast(ops.reshape(share, (-1, size, size, 4, 1)), gathered.dtype)
    return ops.sum(gathered * share, axis=3)  # (R, n, n, C)
