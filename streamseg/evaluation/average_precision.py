"""Average precision as PASCAL VOC and matterport/Mask_RCNN compute it: picture by picture, over masks.

    N found objects, K true objects

Masks are given as bool (H, W, N), or as a list of N COCO run lengths. Found objects are taken best score first, true
ones in any order. The classes of a picture are pooled, and the mean over pictures is the mAP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamseg import outlines

RANGE = np.arange(0.5, 1.0, 0.05)
"""IoU 0.5, 0.55 … 0.95, some a rounding error higher, as in the original."""

Masks = np.ndarray | Sequence[Mapping[str, Any]]
"""Bool (H, W, N), or N COCO run lengths, compressed."""


def overlaps(masks: Masks, true_masks: Masks) -> np.ndarray:
    """Intersection over union of every mask with every true mask, (N, K) float32; 0 where both are empty."""
    found, true = run_lengths(masks), run_lengths(true_masks)
    return outlines.overlaps(found, true).astype(np.float32)


def run_lengths(masks: Masks) -> list[Any]:
    """Masks as COCO run lengths; those that are already are let be. Numbers are inside from above 0.5."""
    if not isinstance(masks, np.ndarray):
        return list(masks)
    return outlines.encoded_all(masks > 0.5)


def best_first(scores: np.ndarray) -> np.ndarray:
    """The order (N,) of falling scores; of equal scores the last comes first, as in the original."""
    return np.argsort(scores)[::-1]


def match(
    overlap: np.ndarray, class_ids: np.ndarray, true_class_ids: np.ndarray, *, iou: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Which true object each found one is (N,), and which found one each true object is (K,); -1 for none.

    overlap (N, K) with class_ids (N,), best score first · true_class_ids (K,). Each found object goes through the true
    ones by falling overlap down to `iou` and takes the first of its class that is not taken.
    """
    found_match, true_match = np.full(len(class_ids), -1), np.full(len(true_class_ids), -1)
    for i, row in enumerate(overlap):
        for k in np.argsort(row)[::-1]:
            if row[k] < iou:
                break
            if true_match[k] < 0 and class_ids[i] == true_class_ids[k]:
                found_match[i], true_match[k] = k, i
                break
    return found_match, true_match


def precision_recall(found_match: np.ndarray, num_true: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall (N + 2,) after each found object, with their ends: recall from 0 to 1, and precision made
    never to rise with it.

    found_match (N,) of `match`, best score first · num_true: at least one true object.
    """
    hits = np.cumsum(found_match > -1)
    precision = np.concatenate([[0], hits / np.arange(1, len(hits) + 1), [0]])
    recall = np.concatenate([[0], hits.astype(np.float32) / num_true, [1]])
    return np.maximum.accumulate(precision[::-1])[::-1], recall


def area_under(precision: np.ndarray, recall: np.ndarray) -> float:
    """The average precision: the area under the steps of `precision_recall`."""
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(np.sum((recall[steps] - recall[steps - 1]) * precision[steps]))


def average_precision(
    overlap: np.ndarray, class_ids: np.ndarray, true_class_ids: np.ndarray, *, iou: float = 0.5
) -> float:
    """AP of one picture at an IoU: `match`, then the area under precision over recall.

    overlap (N, K) with class_ids (N,), best score first · true_class_ids (K,), at least one.
    """
    found_match, _ = match(overlap, class_ids, true_class_ids, iou=iou)
    return area_under(*precision_recall(found_match, len(true_class_ids)))


def average_precision_range(
    overlap: np.ndarray,
    class_ids: np.ndarray,
    true_class_ids: np.ndarray,
    *,
    ious: Sequence[float] | np.ndarray = RANGE,
) -> float:
    """AP of one picture, the mean over IoU 0.5, 0.55 … 0.95 unless `ious` says otherwise; else `average_precision`."""
    return float(np.mean([average_precision(overlap, class_ids, true_class_ids, iou=iou) for iou in ious]))


def box_recall(overlap: np.ndarray, *, iou: float) -> tuple[float, np.ndarray]:
    """The share of true boxes that some found box overlaps best, by `iou` or more, and the rows of such found boxes.

    overlap (N, K) of boxes, found boxes in any order.
    """
    if not overlap.size:
        return 0.0, np.zeros(0, np.int64)
    rows = np.flatnonzero(overlap.max(axis=1) >= iou)
    return len(set(overlap[rows].argmax(axis=1).tolist())) / overlap.shape[1], rows
