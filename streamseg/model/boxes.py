"""Boxes as tensors: deltas, clipping, overlap and non-maximum suppression.

Legend: B pictures, N boxes, G true boxes. Boxes are xyxy in pixels of the network's input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

Tensor = Any

MAX_LOG_SCALE = float(np.log(1000.0 / 16))
"""Largest log of a size delta: keeps exp() finite (Detectron's bound)."""


def apply_deltas(boxes: Tensor, deltas: Tensor, std: tuple[float, ...]) -> Tensor:
    """Boxes (…, 4) moved by deltas (…, 4): (dx, dy, log dw, log dh) in units of `std`."""
    deltas = deltas * ops.convert_to_tensor(std, dtype=deltas.dtype)
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + 0.5 * size + deltas[..., :2] * size
    size = size * ops.exp(ops.minimum(deltas[..., 2:], MAX_LOG_SCALE))
    start = centre - 0.5 * size
    return ops.concatenate([start, start + size], axis=-1)


def find_deltas(boxes: Tensor, targets: Tensor, std: tuple[float, ...]) -> Tensor:
    """The deltas (…, 4) in units of `std` that move boxes (…, 4) onto targets (…, 4); inverse of `apply_deltas`."""
    size = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
    target_size = ops.maximum(targets[..., 2:] - targets[..., :2], 1e-3)
    shift = (targets[..., :2] + 0.5 * target_size - boxes[..., :2] - 0.5 * size) / size
    deltas = ops.concatenate([shift, ops.log(target_size / size)], axis=-1)
    return deltas / ops.convert_to_tensor(std, dtype=deltas.dtype)


def clip(boxes: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """Boxes (…, 4) cut to the picture 0…width, 0…height."""
    return ops.stack(
        [
            ops.clip(boxes[..., 0], 0.0, width),
            ops.clip(boxes[..., 1], 0.0, height),
            ops.clip(boxes[..., 2], 0.0, width),
            ops.clip(boxes[..., 3], 0.0, height),
        ],
        axis=-1,
    )


def intersection(boxes: Tensor, others: Tensor) -> Tensor:
    """Areas (…, N, G) common to boxes (…, N, 4) and others (…, G, 4)."""
    boxes = ops.expand_dims(boxes, -2)
    others = ops.expand_dims(others, -3)
    width = ops.minimum(boxes[..., 2], others[..., 2]) - ops.maximum(boxes[..., 0], others[..., 0])
    height = ops.minimum(boxes[..., 3], others[..., 3]) - ops.maximum(boxes[..., 1], others[..., 1])
    return ops.maximum(width, 0.0) * ops.maximum(height, 0.0)


def area(boxes: Tensor) -> Tensor:
    """Areas (…,) of boxes (…, 4); 0 for inverted ones."""
    return ops.maximum(boxes[..., 2] - boxes[..., 0], 0.0) * ops.maximum(boxes[..., 3] - boxes[..., 1], 0.0)


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union (…, N, G); 0 where a box has no area."""
    common = intersection(boxes, others)
    union = ops.expand_dims(area(boxes), -1) + ops.expand_dims(area(others), -2) - common
    return common / ops.maximum(union, 1e-6)


def nms_keep(boxes: Tensor, *, threshold: float, rounds: int, valid: Tensor | None = None) -> Tensor:
    """Which boxes (B, N, 4), ordered best first, greedy non-maximum suppression keeps: (B, N) bool.

    In each round a box stands while no standing better box overlaps it by more than `threshold`. The first box is
    settled at once, and each round settles the next link of every chain of overlaps, so the result is that of the
    greedy algorithm when no chain is longer than `rounds`. One matrix, no data-dependent loop: it compiles everywhere.
    """
    count = boxes.shape[-2]
    better = np.tril(np.ones((count, count), "float32"), -1)  # row i: the boxes better than i
    beats = ops.cast(iou(boxes, boxes) > threshold, "float32") * better  # (B, N, N)
    start = ops.ones_like(boxes[..., 0]) if valid is None else ops.cast(valid, "float32")  # (B, N)
    keep = start
    for _ in range(rounds):
        beaten = ops.squeeze(ops.matmul(beats, ops.expand_dims(keep, -1)), -1)  # (B, N)
        keep = start * ops.cast(beaten < 0.5, "float32")
    return keep > 0.5
