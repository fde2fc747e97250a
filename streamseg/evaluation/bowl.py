"""The mean precision of the Data Science Bowl 2018: hits over hits, misses and false alarms, at ten overlaps.

The bowl takes label maps, so no pixel belongs to two found objects: where masks overlap, the better score has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from streamseg import outlines
from streamseg.evaluation.objects import Comparison, Objects, that_count

THRESHOLDS = np.arange(10, 20) / 20
"""IoU 0.5, 0.55 … 0.95; a hit overlaps by more."""

CANDIDATES = np.arange(5, 96) / 100
"""Scores that `best_min_score` tries."""


def apart(found: Objects, *, width: int, height: int) -> Objects:
    """The objects without the pixels that a better one has; an object with none left is gone.

    The better ones do not change when weaker ones are left out, before or after.
    """
    free = np.ones((height, width), bool)
    kept, masks, areas = [], [], []
    for i in np.argsort(-found.scores, kind="stable"):
        own = outlines.decoded(found.masks[i], width=width, height=height).astype(bool) & free
        if own.any():
            free &= ~own
            kept.append(i)
            masks.append(outlines.encoded(own))
            areas.append(float(own.sum()))
    return replace(found[np.array(kept, int)], masks=tuple(masks), areas=np.array(areas))


def overlaps(truth: Objects, found: Objects) -> np.ndarray:
    """IoU of every found mask with every true one, (found, true) float64; 0 between classes."""
    same = np.array(found.names, object)[:, None] == np.array(truth.names, object)
    within_classes: np.ndarray = outlines.overlaps(found.masks, truth.masks) * same
    return within_classes


def precisions(overlap: np.ndarray) -> np.ndarray:
    """Hits / (hits + misses + false alarms) of one picture at each of THRESHOLDS, (10,); 1 where there is nothing.

    overlap (found, true): IoU. A hit is a pair; pairs are made so that there are as many as possible, which for objects
    that lie apart is the only way to make them.
    """
    num_found, num_true = overlap.shape
    if not num_found + num_true:
        return np.ones(len(THRESHOLDS))
    hits = np.array([_most_pairs(overlap > threshold) for threshold in THRESHOLDS])
    shares: np.ndarray = hits / (num_found + num_true - hits)
    return shares


def mean_precision(pictures: Sequence[Comparison], *, min_score: float) -> dict[str, float]:
    """The bowl's number for the found objects from `min_score` up, and what it is at the best score for these pictures.

    {"AP", "min_score", "best_AP", "best_min_score"}; AP is the mean over thresholds, then over pictures.
    """
    compared = []
    for picture in pictures:
        truth, found = that_count(picture)
        found = apart(found, width=picture.width, height=picture.height)
        compared.append((overlaps(truth, found), found.scores))
    best = best_min_score(compared)
    return {
        "AP": _mean(compared, min_score),
        "min_score": min_score,
        "best_AP": _mean(compared, best),
        "best_min_score": best,
    }


def best_min_score(compared: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """The score, in steps of 0.01, from which found objects have the best mean precision; the lowest of equals.

    compared: for each picture the IoU (found, true) and the scores (found,) of objects that lie apart, best first.
    """
    means = np.mean([_at_candidates(overlap, scores) for overlap, scores in compared], axis=0)
    return float(CANDIDATES[int(np.argmax(np.round(means, 9)))])


def _at_candidates(overlap: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The mean precision of one picture with the objects from each candidate score up; few of them differ."""
    counts = np.array([(scores >= float(candidate)).sum() for candidate in CANDIDATES])
    different, which = np.unique(counts, return_inverse=True)
    return np.array([precisions(overlap[:count]).mean() for count in different])[which]


def _mean(compared: Sequence[tuple[np.ndarray, np.ndarray]], min_score: float) -> float:
    return float(np.mean([precisions(overlap[scores >= min_score]).mean() for overlap, scores in compared]))


def _most_pairs(hit: np.ndarray) -> int:
    """The most pairs of a row and a column that can be made where `hit` holds, none used twice."""
    if hit.sum(axis=0).max(initial=0) <= 1 and hit.sum(axis=1).max(initial=0) <= 1:
        return int(hit.sum())
    return int((maximum_bipartite_matching(csr_matrix(hit)) >= 0).sum())
