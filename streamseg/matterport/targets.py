"""What a training asks of the network, one picture at a time and in numpy, as the original's notebooks look at it.

A anchors, G true objects, N boxes, S = TRAIN_ROIS_PER_IMAGE of them, K classes. Boxes are y1, x1, y2, x2 in pixels of
the molded picture. Which of too many are taken is drawn by `np.random`, which a script seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamseg.matterport.config import Config
from streamseg.matterport.utils import box_refinement, compute_overlaps, expand_mask
from streamseg.model.targets import match_anchors
from streamseg.molding import resize
from streamseg.types import UsageError

POSITIVE_IOU, NEGATIVE_IOU = 0.7, 0.3
"""An anchor with at least the one is of an object, with less than the other of none."""

ROI_IOU = 0.5
"""A box that overlaps an object by more is of it."""


def build_rpn_targets(
    image_shape: Sequence[int], anchors: np.ndarray, gt_class_ids: np.ndarray, gt_boxes: np.ndarray, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """What the proposal network should say of anchors (A, 4) beside true boxes (G, 4) of classes (G,), -1 a crowd.

    Returns which anchors it learns on (A,) int32: 1 an object, -1 none, 0 not at all; and the deltas, in units of
    RPN_BBOX_STD_DEV, of those of an object, in their order: (RPN_TRAIN_ANCHORS_PER_IMAGE, 4), zeros after them.
    image_shape is not needed: anchors beyond the picture's border take part.
    """
    ious = {"positive_iou": POSITIVE_IOU, "negative_iou": NEGATIVE_IOU}
    match, nearest = match_anchors(anchors, gt_boxes, gt_class_ids, **ious)
    match, count = match.astype(np.int32), config.RPN_TRAIN_ANCHORS_PER_IMAGE
    _leave(match, 1, count // 2)
    _leave(match, -1, count - int((match == 1).sum()))
    deltas = np.zeros((count, 4))
    rows = np.flatnonzero(match == 1)
    found = _deltas(np.asarray(anchors, np.float64)[rows], np.asarray(gt_boxes, np.float64)[nearest[rows]])
    deltas[: len(rows)] = found / config.RPN_BBOX_STD_DEV
    return match, deltas


def _leave(match: np.ndarray, value: int, most: int) -> None:
    """Keep only `most` entries of that value, drawn at random; the others become 0."""
    rows = np.flatnonzero(match == value)
    match[np.random.choice(rows, max(0, len(rows) - most), replace=False)] = 0


def _deltas(boxes: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """`utils.box_refinement` in float64."""
    size, goal_size = boxes[:, 2:] - boxes[:, :2], goals[:, 2:] - goals[:, :2]
    shift = (goals[:, :2] + 0.5 * goal_size - boxes[:, :2] - 0.5 * size) / size
    return np.concatenate([shift, np.log(goal_size / size)], axis=1)


def build_detection_targets(
    rpn_rois: np.ndarray, gt_class_ids: np.ndarray, gt_boxes: np.ndarray, gt_masks: np.ndarray, config: Config
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the heads should say of a sample of boxes (N, 4) beside true objects (G,).

    gt_masks (H, W, G) bool, or mini masks (h, w, G) with USE_MINI_MASK; rows of class 0 are padding.
    Returns the boxes (S, 4), their class ids (S,) int32, deltas (S, K, 4) in units of BBOX_STD_DEV and masks
    (S, h, w, K) of MASK_SHAPE, both float32 and zero but for the class of an object. Boxes of no object stand there
    several times where there are few. Raises UsageError for a picture without an object, or without a box.
    """
    true = np.flatnonzero(np.asarray(gt_class_ids) > 0)
    if not len(true) or not len(rpn_rois):
        raise UsageError(f"expected an object and a box at least, got {len(true)} objects and {len(rpn_rois)} boxes")
    class_ids, boxes, masks = gt_class_ids[true], gt_boxes[true], gt_masks[..., true]
    overlaps = compute_overlaps(rpn_rois, boxes)
    positive, negative = _sampled(overlaps.max(axis=1), config)
    rows = np.concatenate([positive, negative]).astype(int)
    nearest, count, num_positive = overlaps.argmax(axis=1)[rows], len(rows), len(positive)
    rois = rpn_rois[rows]
    ids = np.zeros(count, np.int32)
    ids[:num_positive] = class_ids[nearest[:num_positive]]
    deltas = np.zeros((count, config.NUM_CLASSES, 4), np.float32)
    shown = np.zeros((count, *config.MASK_SHAPE, config.NUM_CLASSES), np.float32)
    learned = np.arange(num_positive)
    found = box_refinement(rois[:num_positive], boxes[nearest[:num_positive]])
    deltas[learned, ids[:num_positive]] = found / config.BBOX_STD_DEV
    for i in learned:
        mask = masks[..., [nearest[i]]]
        if config.USE_MINI_MASK:
            mask = expand_mask(boxes[[nearest[i]]], mask, config.IMAGE_SHAPE)
        y1, x1, y2, x2 = rois[i].astype(int)
        shown[i, :, :, ids[i]] = resize(mask[y1:y2, x1:x2, 0], config.MASK_SHAPE)
    return rois, ids, deltas, shown


def _sampled(iou: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The rows of S boxes, of objects and of none, by the best IoU (N,) of each."""
    count = config.TRAIN_ROIS_PER_IMAGE
    positive = _drawn(np.flatnonzero(iou > ROI_IOU), int(count * config.ROI_POSITIVE_RATIO))
    negatives = np.flatnonzero(iou < ROI_IOU)
    if not len(negatives) and not len(positive):  # those that are neither are no object's
        negatives = np.flatnonzero(iou <= ROI_IOU)
    if not len(negatives):  # nothing to fill up with but what there is
        return np.concatenate([positive, np.random.choice(positive, count - len(positive))]), negatives
    negative = _drawn(negatives, count - len(positive))
    return positive, np.concatenate([negative, np.random.choice(negative, count - len(positive) - len(negative))])


def _drawn(rows: np.ndarray, most: int) -> np.ndarray:
    return np.random.choice(rows, most, replace=False) if len(rows) > most else rows


def generate_random_rois(
    image_shape: Sequence[int], count: int, gt_class_ids: np.ndarray, gt_boxes: np.ndarray
) -> np.ndarray:
    """Random boxes (count, 4) int32, as a proposal network might make them: nine tenths around the true boxes (G, 4).

    Those reach from a box's own size beyond it on each side; the rest lie anywhere in the picture of `image_shape`.
    """
    height, width = image_shape[:2]
    each = int(0.9 * count / max(1, len(gt_boxes)))
    parts = []
    for y1, x1, y2, x2 in gt_boxes:
        rows, columns = (max(2 * y1 - y2, 0), min(2 * y2 - y1, height)), (max(2 * x1 - x2, 0), min(2 * x2 - x1, width))
        parts.append(_random_boxes(each, rows, columns))
    parts.append(_random_boxes(count - each * len(parts), (0, height), (0, width)))
    return np.concatenate(parts).astype(np.int32)


def _random_boxes(count: int, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """Boxes (count, 4) at least a pixel high and wide, between two rows and two columns."""
    y, x = (np.sort(_two_apart(count, *span), axis=1) for span in (rows, columns))
    return np.stack([y[:, 0], x[:, 0], y[:, 1], x[:, 1]], axis=1)


def _two_apart(count: int, low: int, high: int) -> np.ndarray:
    """Pairs (count, 2) of different whole numbers from low to high - 1; high too where there are no two below it."""
    high = max(high, low + 2)
    first = np.random.randint(low, high, count)
    second = np.random.randint(low, high - 1, count)
    return np.stack([first, second + (second >= first)], axis=1)
