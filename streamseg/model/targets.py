"""What the network should have said: targets for anchors and proposals, by the rules of each family.

Legend: B pictures, A anchors, N proposals, S samples, G true boxes. `valid` (B, G) bool marks true objects, `crowd`
(B, G) bool regions that are neither object nor background; other rows are padding.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from streamseg.model import boxes as box_ops
from streamseg.model.roi_align import crop_and_resize

Tensor = Any

CROWD_SHARE = 0.5
"""A box with this share of its area inside a crowd region is not used as background."""

CROWD_IOU = 1e-3
"""In the matterport family, a box with this IoU with a crowd region is not."""


def in_crowd(boxes: Tensor, truth: Tensor, crowd: Tensor) -> Tensor:
    """Which boxes (B, N, 4) lie mostly in a crowd region: (B, N) bool."""
    common = box_ops.intersection(boxes, truth) * ops.cast(crowd[:, None], "float32")  # (B, N, G)
    return ops.max(common, axis=-1) > CROWD_SHARE * ops.maximum(box_ops.area(boxes), 1e-6)


def sample(candidates: Tensor, count: int | Tensor, most: int, seed: keras.random.SeedGenerator) -> Tensor:
    """A random choice of `count` (B,) of the true entries of candidates (B, N), at most `most`: (B, N) bool."""
    most = min(most, candidates.shape[-1])
    draw = keras.random.uniform(ops.shape(candidates), seed=seed) + 1e-6
    draw = ops.where(candidates, draw, ops.zeros_like(draw))
    best = ops.top_k(draw, most)[0]  # (B, most) falling
    count = ops.minimum(ops.cast(count, "int32"), most)
    place = ops.broadcast_to(ops.expand_dims(ops.maximum(count - 1, 0), -1), (ops.shape(draw)[0], 1))
    limit = ops.take_along_axis(best, place, axis=1)  # (B, 1): the draw of the last one chosen
    some = ops.expand_dims(ops.broadcast_to(count > 0, (ops.shape(draw)[0],)), -1)
    return ops.logical_and(ops.logical_and(draw >= limit, draw > 0), some)


def sampled_anchors(match: Tensor, *, samples: int, seed: keras.random.SeedGenerator) -> tuple[Tensor, Tensor]:
    """Positives and negatives (B, A) bool, `samples` a picture and at most half of them positive, drawn from match.

    match (B, A): 1 positive, -1 negative, 0 neither.
    """
    positive = sample(match == 1, samples // 2, samples // 2, seed)
    num_positive = ops.sum(ops.cast(positive, "int32"), axis=-1)
    return positive, sample(match == -1, samples - num_positive, samples, seed)


def anchor_targets(
    anchors: Tensor,
    truth: Tensor,
    valid: Tensor,
    crowd: Tensor,
    *,
    positive_iou: float,
    negative_iou: float,
    samples: int,
    seed: keras.random.SeedGenerator,
) -> tuple[Tensor, Tensor, Tensor]:
    """For anchors (A, 4): sampled positives (B, A) bool, sampled negatives (B, A) bool, matched true box (B, A) int32.

    Positive: IoU of at least positive_iou with a true box, or the best anchor of one; negative: IoU below negative_iou
    with all and not in a crowd. At most half of the samples are positive.
    """
    overlap = box_ops.iou(anchors[None], truth) * ops.cast(valid[:, None], "float32")  # (B, A, G)
    best = ops.max(overlap, axis=-1)
    matched = ops.cast(ops.argmax(overlap, axis=-1), "int32")  # (B, A)
    best_of_truth = ops.maximum(ops.max(overlap, axis=1, keepdims=True), 1e-3)  # (B, 1, G)
    is_best = overlap >= best_of_truth - 1e-6
    forced = ops.any(is_best, axis=-1)
    # an anchor forced by a box trains towards that box, even if it overlaps another one more
    matched = ops.where(
        forced, ops.cast(ops.argmax(ops.where(is_best, overlap, ops.zeros_like(overlap)), axis=-1), "int32"), matched
    )
    positive = ops.logical_or(best >= positive_iou, forced)
    bystander = in_crowd(ops.broadcast_to(anchors[None], (ops.shape(truth)[0], *anchors.shape)), truth, crowd)
    negative = ops.logical_and(best < negative_iou, ops.logical_not(ops.logical_or(positive, bystander)))
    match = ops.cast(positive, "int32") - ops.cast(negative, "int32")
    return *sampled_anchors(match, samples=samples, seed=seed), matched


def roi_targets(
    proposals: Tensor,
    real: Tensor,
    truth: Tensor,
    valid: Tensor,
    crowd: Tensor,
    *,
    samples: int,
    positives: float,
    seed: keras.random.SeedGenerator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sampled boxes (B, S, 4), which are positive and which negative (B, S) bool, their true box (B, S) int32.

    The true boxes join the proposals. Positive: IoU of at least 0.5; negative: less, and not in a crowd. Positives come
    first; rows that are neither are padding.
    """
    candidates = ops.concatenate([truth, proposals], axis=1)  # (B, G + N, 4)
    real = ops.concatenate([valid, real], axis=1)
    overlap = box_ops.iou(candidates, truth) * ops.cast(valid[:, None], "float32")
    best = ops.max(overlap, axis=-1)
    matched = ops.cast(ops.argmax(overlap, axis=-1), "int32")
    positive = ops.logical_and(real, best >= 0.5)
    negative = ops.logical_and(real, best < 0.5)
    negative = ops.logical_and(negative, ops.logical_not(in_crowd(candidates, truth, crowd)))
    most = int(samples * positives)
    positive = sample(positive, most, most, seed)
    negative = sample(negative, samples - ops.sum(ops.cast(positive, "int32"), axis=-1), samples, seed)
    order = 2.0 * ops.cast(positive, "float32") + ops.cast(negative, "float32")
    order, index = ops.top_k(order, samples)  # (B, S): positives, negatives, the rest
    rois = ops.take_along_axis(candidates, ops.expand_dims(index, -1), axis=1)
    matched = ops.take_along_axis(matched, index, axis=1)
    return rois, order > 1.5, ops.logical_and(order > 0.5, order < 1.5), matched


def mask_targets(mini_masks: Tensor, mask_boxes: Tensor, rois: Tensor, *, size: int) -> Tensor:
    """True masks as seen through rois (R, 4): (R, size, size) in [0, 1].

    mini_masks (R, m, m) in [0, 1] span mask_boxes (R, 4); outside of these there is nothing.
    """
    m = mini_masks.shape[1]
    steps = (ops.arange(size, dtype="float32") + 0.5) / size
    cells = ops.arange(m, dtype="float32")

    def weights(start: Tensor, end: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """(R, size, m): share of every cell in each sample, a triangle of one cell's width to both sides."""
        points = start[:, None] + steps * (end - start)[:, None]  # (R, size) in pixels
        points = (points - low[:, None]) / ops.maximum(high - low, 1e-3)[:, None] * m - 0.5
        inside = ops.logical_and(points >= -0.5, points <= m - 0.5)
        points = ops.clip(points, 0.0, m - 1.0)
        share = ops.maximum(0.0, 1.0 - ops.abs(points[..., None] - cells))
        return share * ops.cast(inside, "float32")[..., None]

    x = weights(rois[:, 0], rois[:, 2], mask_boxes[:, 0], mask_boxes[:, 2])
    y = weights(rois[:, 1], rois[:, 3], mask_boxes[:, 1], mask_boxes[:, 3])
    return ops.matmul(ops.matmul(y, mini_masks), ops.transpose(x, (0, 2, 1)))


# --- the rules of matterport/Mask_RCNN --------------------------------------------------------------------------------


def touches_crowd(boxes: Tensor, truth: Tensor, crowd: Tensor) -> Tensor:
    """Which boxes (B, N, 4) overlap a crowd region at all, but for a hair: (B, N) bool."""
    return ops.max(box_ops.iou(boxes, truth) * ops.cast(crowd[:, None], "float32"), axis=-1) >= CROWD_IOU


def match_anchors(
    anchors: np.ndarray, boxes: np.ndarray, class_ids: np.ndarray, *, positive_iou: float, negative_iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """What anchors (A, 4) are beside true boxes (G, 4) of classes (G,), all in pixels, -1 a crowd.

    match (A,) int8: 1 positive, -1 negative, 0 neither · nearest (A,) int32: the box that it overlaps most, and learns
    towards. Positive are all anchors that share the best IoU with a box, however low, but above 0: even if another box
    is nearer. In float64 and in the original's order, because which anchors share it hangs on the last bit.
    """
    corners = np.moveaxis(np.asarray(anchors, np.float64), -1, 0)  # (4, A)
    best, nearest = np.zeros(len(anchors)), np.zeros(len(anchors), np.int32)
    shares_best, crowded = np.zeros(len(anchors), bool), np.zeros(len(anchors), bool)
    for i, (box, class_id) in enumerate(zip(np.asarray(boxes, np.float64), class_ids, strict=True)):
        overlap = _iou64(corners, box)
        if class_id < 0:
            crowded |= overlap >= CROWD_IOU
        elif class_id > 0:
            closer = overlap > best
            best, nearest[closer] = np.where(closer, overlap, best), i
            shares_best |= (overlap == overlap.max()) & (overlap > 0)
    match = np.where((best < negative_iou) & ~crowded, -1, 0)
    match[shares_best | (best >= positive_iou)] = 1
    return match.astype(np.int8), nearest


def _iou64(corners: np.ndarray, box: np.ndarray) -> np.ndarray:
    """IoU (A,) of boxes, given as x1, y1, x2, y2 (4, A), with one box (4,)."""
    x1, y1, x2, y2 = corners
    width = np.minimum(x2, box[2]) - np.maximum(x1, box[0])
    height = np.minimum(y2, box[3]) - np.maximum(y1, box[1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    union = (box[2] - box[0]) * (box[3] - box[1]) + (x2 - x1) * (y2 - y1) - common
    shares: np.ndarray = common / union
    return shares


def matterport_anchor_targets(
    anchors: Tensor,
    truth: Tensor,
    valid: Tensor,
    crowd: Tensor,
    *,
    positive_iou: float,
    negative_iou: float,
    samples: int,
    seed: keras.random.SeedGenerator,
) -> tuple[Tensor, Tensor, Tensor]:
    """`anchor_targets` as matterport/Mask_RCNN has them, of anchors and true boxes in pixels; not part of a graph."""
    anchors, truth, valid, crowd = (ops.convert_to_numpy(each) for each in (anchors, truth, valid, crowd))
    class_ids = valid.astype(np.int32) - crowd
    rows = [
        match_anchors(anchors, boxes, ids, positive_iou=positive_iou, negative_iou=negative_iou)
        for boxes, ids in zip(truth, class_ids, strict=True)
    ]
    match, nearest = (ops.convert_to_tensor(np.stack(each)) for each in zip(*rows, strict=True))
    return *sampled_anchors(match, samples=samples, seed=seed), nearest


def matterport_roi_targets(
    proposals: Tensor,
    truth: Tensor,
    valid: Tensor,
    crowd: Tensor,
    *,
    samples: int,
    positives: float,
    seed: keras.random.SeedGenerator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`roi_targets` of proposals (B, N, 4) and true boxes, both normalised, as matterport/Mask_RCNN chooses them.

    Rows of zeros are padding. The share of positives is kept among few of them too: p positives allow p / `positives`
    − p negatives, so that there is none where there is no positive. Rows that are neither are zeros.
    """
    short = max(0, samples - proposals.shape[1])
    proposals = ops.pad(proposals, ((0, 0), (0, short), (0, 0)))
    real = ops.sum(ops.abs(proposals), axis=-1) > 0
    overlap = box_ops.iou(proposals, truth) * ops.cast(valid[:, None], "float32")
    best = ops.max(overlap, axis=-1)
    matched = ops.cast(ops.argmax(overlap, axis=-1), "int32")
    positive = ops.logical_and(real, best >= 0.5)
    negative = ops.logical_and(
        ops.logical_and(real, best < 0.5), ops.logical_not(touches_crowd(proposals, truth, crowd))
    )
    most = int(samples * positives)
    positive = sample(positive, most, most, seed)
    num_positive = ops.sum(ops.cast(positive, "int32"), axis=-1)
    negative = sample(negative, num_negative(num_positive, positives), samples, seed)
    order = 2.0 * ops.cast(positive, "float32") + ops.cast(negative, "float32")
    order, index = ops.top_k(order, samples)  # (B, S): positives, negatives, the rest
    rois = ops.take_along_axis(proposals, ops.expand_dims(index, -1), axis=1)
    rois = rois * ops.expand_dims(ops.cast(order > 0.5, "float32"), -1)
    matched = ops.take_along_axis(matched, index, axis=1)
    return rois, order > 1.5, ops.logical_and(order > 0.5, order < 1.5), matched


def num_negative(num_positive: Tensor, positives: float) -> Tensor:
    """How many negatives (B,) int32 stand beside so many positives (B,), rounded as the original's float32 does."""
    wanted = np.float32(1.0 / positives) * ops.cast(num_positive, "float32")
    return ops.cast(wanted, "int32") - ops.cast(num_positive, "int32")


def matterport_mask_targets(masks: Tensor, mask_boxes: Tensor, rois: Tensor, *, size: int) -> Tensor:
    """True masks as seen through normalised rois (R, 4): (R, size, size), 0 or 1; a half is 0.

    masks (R, h, w) in [0, 1] span their mask_boxes (R, 4), from corner to corner; outside of these there is nothing.
    Whole masks span (0, 0, 1, 1).
    """
    extent = mask_boxes[:, 2:] - mask_boxes[:, :2]
    extent = ops.tile(ops.where(extent > 0, extent, ops.ones_like(extent)), (1, 2))
    inside = (rois - ops.tile(mask_boxes[:, :2], (1, 2))) / extent  # (R, 4): the roi with the box as its unit
    picture_ids = ops.arange(ops.shape(masks)[0], dtype="int32")
    seen = crop_and_resize({2: masks[..., None]}, inside, picture_ids, size=size, width=1, height=1, slack=0.0)
    return ops.cast(seen[..., 0] > 0.5, "float32")
