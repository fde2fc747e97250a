"""The choices among boxes, on numpy: what an engine does outside of its graphs.

The same rules as `streamseg.model.rpn` and `MaskRCNN.judge`, which the tests hold them against. Legend: A anchors,
n best anchors, N proposals, D detections, K classes. Boxes are xyxy in the unit of the network's family.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamseg.config import LEAST_SAY, MASK_END, MASK_REACH, MAX_LOG_SCALE, ModelConfig
from streamseg.masks import box_iou

CHUNK = 64
"""Boxes that suppression looks at together."""


def propose(
    scores: np.ndarray,
    deltas: np.ndarray,
    anchors: np.ndarray,
    config: ModelConfig,
    *,
    size: tuple[int, int],
    counts: Sequence[int] = (),
) -> np.ndarray:
    """Proposals (N, 4), best first, zeros at the end, from scores (A,) and deltas (A, 4) of the anchors (A, 4).

    size: (width, height) in pixels that boxes in pixels are cut to ·
    counts: of `anchors.group_sizes`.
    """
    original, starts = config.family == "matterport", np.cumsum((0, *counts[:-1]))
    if len(counts) < 2:
        best = best_rows(scores, config.proposals_before_nms)
    else:
        of_each = [
            start + best_rows(scores[start : start + count], config.proposals_before_nms)
            for start, count in zip(starts, counts, strict=True)
        ]
        best = np.concatenate(of_each)
        best = best[np.argsort(-scores[best], kind="stable")]
    boxes = clipped(moved(anchors[best], deltas[best], config.rpn_delta_std, config), config, size)
    if not original:
        big = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= config.smallest_proposal
        best, boxes = best[big], boxes[big]
    groups = np.searchsorted(starts, best, side="right") if len(counts) > 1 else None
    kept = boxes[nms(boxes, threshold=config.rpn_nms_threshold, most=config.num_proposals, groups=groups)]
    proposals = np.zeros((config.num_proposals, 4), np.float32)
    proposals[: len(kept)] = kept
    return proposals


def detect(
    proposals: np.ndarray, logits: np.ndarray, deltas: np.ndarray, config: ModelConfig, *, size: tuple[int, int]
) -> np.ndarray:
    """Detections (D, 6) of x1, y1, x2, y2, score, class, best first, from class logits (N, K) and deltas (N, K, 4).

    size: (width, height) in pixels that boxes in pixels are cut to.
    """
    original = config.family == "matterport"
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    rows = np.arange(len(proposals))
    if config.all_classes:
        rows, class_ids = np.nonzero(probabilities >= config.detection_min_score)
    else:
        class_ids = probabilities.argmax(axis=1) if original else probabilities[:, 1:].argmax(axis=1) + 1
    scores = probabilities[rows, class_ids]
    refined = clipped(moved(proposals[rows], deltas[rows, class_ids], config.delta_std, config), config, size)
    firm = (class_ids > 0) & (scores >= config.detection_min_score)
    if not original:  # rows of padding among them
        sides = proposals[rows, 2:] - proposals[rows, :2]
        firm &= (sides.min(axis=1) > 0) & ((refined[:, 2:] - refined[:, :2]).min(axis=1) >= config.smallest_detection)
    firm = np.flatnonzero(firm)
    firm = firm[np.argsort(-scores[firm], kind="stable")]
    kept = nms(
        refined[firm], threshold=config.detection_nms_threshold, most=config.max_detections, groups=class_ids[firm]
    )
    all_firm = np.concatenate([refined[firm], scores[firm, None], class_ids[firm, None]], axis=1).astype(np.float32)
    found: np.ndarray = all_firm[kept]
    return voted(found, all_firm, threshold=config.box_voting) if config.box_voting < 1 else found


def voted(found: np.ndarray, rows: np.ndarray, *, threshold: float) -> np.ndarray:
    """Detections (D, 6), each with the mean box, weighted by score, of those among rows (N, 6) that agree with it:
    they are of its class and overlap it by `threshold` of IoU.

    (Gidaris & Komodakis, Object detection via a multi-region & semantic segmentation-aware CNN model, 2015.)
    """
    like = (box_iou(found[:, :4], rows[:, :4]) >= threshold) & (found[:, 5:] == rows[:, 5])
    weights = like * np.maximum(rows[:, 4], np.float32(LEAST_SAY))
    boxes = weights @ rows[:, :4] / weights.sum(axis=1, keepdims=True)
    return np.concatenate([boxes, found[:, 4:]], axis=1)


def grown(boxes: np.ndarray) -> np.ndarray:
    """Boxes (D, 4) about the same middles, MASK_REACH times as wide and high."""
    more = (boxes[:, 2:] - boxes[:, :2]) * np.float32((MASK_REACH - 1) / 2)
    return np.concatenate([boxes[:, :2] - more, boxes[:, 2:] + more], axis=1)


def fitted(boxes: np.ndarray, masks: np.ndarray, config: ModelConfig, *, size: tuple[int, int]) -> np.ndarray:
    """Boxes (D, 4), `config.box_fitting` of the way to where their masks (D, M, M) end, which span the `grown` boxes.

    size: (width, height) in pixels that boxes are cut to. A box stays where its mask never comes to MASK_END.
    """
    larger = grown(boxes)
    ends = [_end(profile[:, ::step]) for step in (1, -1) for profile in (masks.max(axis=1), masks.max(axis=2))]
    shares = np.stack([ends[0], ends[1], 1 - ends[2], 1 - ends[3]], axis=1)
    reached = larger[:, [0, 1, 0, 1]] + shares * (larger[:, 2:] - larger[:, :2])[:, [0, 1, 0, 1]]
    moved_boxes = clipped(boxes + np.float32(config.box_fitting) * (reached - boxes), config, size)
    stays = (moved_boxes[:, 2:] - moved_boxes[:, :2]).min(axis=1) < config.smallest_detection
    stays |= masks.max(axis=(1, 2)) < MASK_END
    return np.where(stays[:, None], boxes, moved_boxes).astype(np.float32)


def _end(profile: np.ndarray) -> np.ndarray:
    """Where along profiles (D, M) of masks a value first comes to MASK_END, between cells' middles, (D,) of 1."""
    first = (profile >= MASK_END).argmax(axis=1)
    rows = np.arange(len(profile))
    here = profile[rows, first]
    before = np.where(first > 0, profile[rows, first - 1], 0)
    # where nothing comes to it, the answer is not used
    back = (here - np.float32(MASK_END)) / np.maximum(here - before, np.float32(1e-6))
    share: np.ndarray = (first + np.float32(0.5) - back) / np.float32(profile.shape[1])
    return share


def best_rows(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` best scores (A,), best first; of equal ones the lower index first."""
    if count >= len(scores):
        return np.argsort(-scores, kind="stable")
    limit = np.partition(scores, len(scores) - count)[len(scores) - count]
    candidates = np.flatnonzero(scores >= limit)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]


def moved(boxes: np.ndarray, deltas: np.ndarray, std: tuple[float, ...], config: ModelConfig) -> np.ndarray:
    """Boxes (n, 4) moved by deltas (n, 4) in units of `std`; those in pixels grow within a bound."""
    deltas = deltas * np.array(std, np.float32)
    log_scale = np.minimum(deltas[:, 2:], np.float32(MAX_LOG_SCALE)) if config.family != "matterport" else deltas[:, 2:]
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + 0.5 * size + deltas[:, :2] * size
    with np.errstate(over="ignore"):
        size = size * np.exp(log_scale)
    start = centre - 0.5 * size
    return np.concatenate([start, start + size], axis=1)


def clipped(boxes: np.ndarray, config: ModelConfig, size: tuple[int, int]) -> np.ndarray:
    """Boxes (n, 4) cut to `size` (width, height) in pixels, or to 1 in the matterport family."""
    limit = np.array((1, 1, 1, 1) if config.family == "matterport" else size * 2, np.float32)
    inside: np.ndarray = np.clip(boxes, 0, limit)
    return inside


def nms(boxes: np.ndarray, *, threshold: float, most: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Which boxes (n, 4), ordered best first, greedy suppression keeps, at most `most`: their indices.

    groups (n,): only boxes of one group suppress each other. Boxes without an area suppress nothing.
    A chunk of boxes at a time is held against all that are kept, so that whatever comes after the last is never seen.
    """
    corners = np.ascontiguousarray(boxes.T)
    area = (corners[2] - corners[0]) * (corners[3] - corners[1])

    def beaten(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
        """Which of the boxes `worse` (m,) each of the boxes `better` (k,) suppresses: (k, m)."""
        x0, y0, x1, y1 = corners[:, better, None]
        u0, v0, u1, v1 = corners[:, None, worse]
        width = np.minimum(x1, u1) - np.maximum(x0, u0)
        height = np.minimum(y1, v1) - np.maximum(y0, v0)
        common = np.maximum(width, 0) * np.maximum(height, 0)
        result = common > threshold * (area[better, None] + area[worse] - common)
        suppressed: np.ndarray = result if groups is None else result & (groups[better, None] == groups[worse])
        return suppressed

    kept = np.empty(0, np.int64)
    for start in range(0, len(boxes), CHUNK):
        chunk = np.arange(start, min(start + CHUNK, len(boxes)))
        chunk = chunk[~beaten(kept, chunk).any(axis=0)]
        alive, dead = [], 0  # a bit for each box: one whole number is quicker to walk through than an array
        for i, row in enumerate(np.packbits(beaten(chunk, chunk), axis=1, bitorder="little")):
            if not dead >> i & 1:
                alive.append(i)
                dead |= int.from_bytes(row.tobytes(), "little")
        kept = np.concatenate([kept, chunk[alive]])
        if len(kept) >= most:
            break
    return kept[:most]
