"""Boxes as tensors: deltas, clipping, overlap and non-maximum suppression.

Legend: B pictures, N boxes, G true boxes. Boxes are xyxy, in the unit of the network's family: pixels of the input
(lite, torchvision) or normalised as in `streamseg.letterbox.normalised` (matterport).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from keras import ops

from streamseg.config import MAX_LOG_SCALE

Tensor = Any


def apply_deltas(
    boxes: Tensor, deltas: Tensor, std: tuple[float, ...], *, max_log_scale: float | None = MAX_LOG_SCALE
) -> Tensor:
    """Boxes (…, 4) moved by deltas (…, 4): (dx, dy, log dw, log dh) in units of `std`."""
    deltas = deltas * ops.convert_to_tensor(std, dtype=deltas.dtype)
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + 0.5 * size + deltas[..., :2] * size
    log_scale = deltas[..., 2:]
    size = size * ops.exp(log_scale if max_log_scale is None else ops.minimum(log_scale, max_log_scale))
    start = centre - 0.5 * size
    return ops.concatenate([start, start + size], axis=-1)


def find_deltas(boxes: Tensor, targets: Tensor, std: tuple[float, ...], *, min_side: float = 1e-3) -> Tensor:
    """The deltas (…, 4) in units of `std` that move boxes (…, 4) onto targets (…, 4); inverse of `apply_deltas`.

    A side shorter than `min_side` counts as that long, so that no row of padding divides by 0.
    """
    size = ops.maximum(boxes[..., 2:] - boxes[..., :2], min_side)
    target_size = ops.maximum(targets[..., 2:] - targets[..., :2], min_side)
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


def clip_to(boxes: Tensor, windows: Tensor) -> Tensor:
    """Boxes (B, N, 4) cut to windows (B, 4), both xyxy."""
    low, high = windows[:, None, :2], windows[:, None, 2:]
    return ops.concatenate([ops.clip(boxes[..., :2], low, high), ops.clip(boxes[..., 2:], low, high)], axis=-1)


def normalise(boxes: Tensor, *, width: int, height: int) -> Tensor:
    """Boxes (…, 4) in pixels as the matterport family counts them; `streamseg.letterbox.normalised` of tensors."""
    first = np.array([0, 0, 1, 1], "float32")
    return (boxes - first) / np.array([width - 1, height - 1] * 2, "float32")


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
    return common / ops.where(union > 0.0, union, ops.ones_like(union))


def giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised IoU (…,) of boxes (…, 4) with others (…, 4), row by row: 1 for equal ones, down to -1 far apart.

    Rezatofighi et al., Generalized Intersection over Union, 2019.
    """
    low, high = ops.maximum(boxes[..., :2], others[..., :2]), ops.minimum(boxes[..., 2:], others[..., 2:])
    common = ops.prod(ops.maximum(high - low, 0.0), axis=-1)
    union = ops.maximum(area(boxes) + area(others) - common, 1e-6)
    low, high = ops.minimum(boxes[..., :2], others[..., :2]), ops.maximum(boxes[..., 2:], others[..., 2:])
    around = ops.maximum(ops.prod(high - low, axis=-1), 1e-6)
    return common / union - (around - union) / around


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


class Suppression(Protocol):
    """What suppresses boxes exactly: `nms_exact`, or another way to the same answer."""

    def __call__(self, boxes: Tensor, *, threshold: float, groups: Tensor | None = None) -> Tensor: ...


def nms_exact(
    boxes: Tensor, *, threshold: float, valid: Tensor | None = None, groups: Tensor | None = None, tile: int = 256
) -> Tensor:
    """Which boxes (B, N, 4), ordered best first, greedy non-maximum suppression keeps: (B, N) bool, exactly.

    groups (B, N): only boxes of the same group suppress each other. Goes through the boxes a tile at a time: against
    the kept ones of the tiles before it at once, and within itself until nothing changes, so that no (N, N) matrix is
    ever held.
    """
    count = boxes.shape[-2]
    kept: list[Tensor] = []  # (B, tile) float32 each
    for start in range(0, count, tile):
        end = min(start + tile, count)
        overlap = iou(boxes[:, start:end], boxes[:, :end]) > threshold  # (B, T, end)
        if groups is not None:
            same = ops.expand_dims(groups[:, start:end], -1) == ops.expand_dims(groups[:, :end], -2)
            overlap = ops.logical_and(overlap, same)
        beats = ops.cast(overlap, "float32")
        alive = ops.ones_like(boxes[:, start:end, 0]) if valid is None else ops.cast(valid[:, start:end], "float32")
        if start:
            earlier = ops.expand_dims(ops.concatenate(kept, axis=1), -1)  # (B, start, 1)
            beaten = ops.squeeze(ops.matmul(beats[:, :, :start], earlier), -1)
            alive = alive * ops.cast(beaten < 0.5, "float32")
        own = beats[:, :, start:] * np.tril(np.ones((end - start, end - start), "float32"), -1)
        kept.append(_settle(alive, own))
    return ops.concatenate(kept, axis=1) > 0.5


def _settle(alive: Tensor, beats: Tensor) -> Tensor:
    """Which of alive (B, T) stay when row i of beats (B, T, T) says which better boxes would beat i: (B, T) float32."""

    def step(keep: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        beaten = ops.squeeze(ops.matmul(beats, ops.expand_dims(keep, -1)), -1)
        return alive * ops.cast(beaten < 0.5, "float32"), keep

    def moving(keep: Tensor, before: Tensor) -> Tensor:
        return ops.any(keep != before)

    return ops.while_loop(moving, step, (alive, alive - 1.0))[0]
