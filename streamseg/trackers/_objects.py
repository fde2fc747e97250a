"""Which detections of one picture are objects of their own: no object seen twice, no two objects seen as one.

N detections, P pairs of them.
"""

from __future__ import annotations

import numpy as np

from streamseg import masks
from streamseg.types import Instances

DOUBLE = 0.45
"""Mask IoU from which the weaker of two detections of a class is the same object seen twice: boxes of one person may
differ enough to pass the model's suppression, while two people never share half of their pixels."""

PART = 0.6
GROUP = 0.8
"""Two or more confident detections that each lie by PART in a larger one and together fill GROUP of it are what it is
a group of: a model that finds two people who walk together may find the pair as well."""


def distinct(detections: Instances, *, min_score: float) -> Instances:
    """The detections without those that a better one of their class covers, and without groups of others.

    min_score: from which on a detection is confident; others neither are groups nor make one.
    """
    i, j = _pairs(detections)
    if not len(i):
        return detections
    area = masks.areas(detections.masks, detections.boxes)
    common = np.zeros((len(area), len(area)))
    common[i, j] = masks.common(detections.masks[i], detections.boxes[i], detections.masks[j], detections.boxes[j])
    common += common.T
    groups = _groups(common, area, confident=detections.scores >= min_score)
    same = common >= DOUBLE * (area[:, None] + area - common)
    return detections[~groups & ~_doubles(same & ~groups[:, None], detections.scores)]


def covered(boxes: np.ndarray) -> np.ndarray:
    """The share of each box (N, 4) that the one that covers most of it covers, (N,)."""
    common, area = _common(boxes)
    np.fill_diagonal(common, 0)
    share: np.ndarray = common.max(axis=1, initial=0) / area
    return share


def _pairs(detections: Instances) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of one class, each once, whose boxes share so much that one may be a double or a part of the other."""
    common, area = _common(detections.boxes)
    close = common >= PART * np.minimum(area[:, None], area)
    close |= common >= DOUBLE / 2 * (area[:, None] + area - common)
    close &= detections.class_ids[:, None] == detections.class_ids
    i, j = np.nonzero(np.triu(close, 1))
    return i, j


def _common(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The areas that boxes (N, 4) share in pairs (N, N), and their own, at least a pixel (N,)."""
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    sides = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    return np.maximum(sides, 0).prod(axis=2), np.maximum(high - low, 1).prod(axis=1)


def _groups(common: np.ndarray, area: np.ndarray, *, confident: np.ndarray) -> np.ndarray:
    """Detections that others, apart from each other, fill, (N,) bool; common (N, N), area (N,) of masks, pixels."""
    inside = (common >= PART * area[:, None]) & (area[:, None] < area) & confident[:, None] & confident
    groups = np.zeros(len(area), bool)
    for large in np.flatnonzero(inside.sum(axis=0) >= 2):
        members: list[int] = []
        for part in np.flatnonzero(inside[:, large])[np.argsort(-common[inside[:, large], large])]:
            if all(common[part, other] < PART * min(area[part], area[other]) for other in members):
                members.append(part)
        groups[large] = len(members) >= 2 and common[members, large].sum() >= GROUP * area[large]
    return groups


def _doubles(same: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Detections that are the same (N, N) as a better one that is none itself, (N,) bool."""
    doubles = np.zeros(len(scores), bool)
    best_first = np.argsort(-scores, kind="stable")
    for place, best in enumerate(best_first):
        if not doubles[best]:
            weaker = best_first[place + 1 :]
            doubles[weaker[same[best, weaker]]] = True
    return doubles
