"""How well tracks and detections go together, by where they are and by how they look, and who goes with whom.

T tracks, N detections.
"""

from __future__ import annotations

import importlib

import numpy as np

from streamseg.masks import box_iou, overlaps
from streamseg.trackers._looks import alike
from streamseg.trackers._tracks import Tracks
from streamseg.types import Instances

MATCH = 0.33
MATCH_UNSURE = 0.4
"""Smallest overlap (mean of mask and box IoU) that joins a detection to a track; MATCH_UNSURE where one of the two is
unsure: a weak detection, or a track that is neither confirmed nor of a high score, which may be noise beside noise."""

MEETS = 0.1
"""Box IoU below which two objects are taken not to touch."""

FAMILIAR = 0.25
STRANGE = 0.45
MOST_STRANGE = 0.5
NOTHING_LEFT = 0.6
"""How differently an object looks (Hellinger's distance of colour histograms): a second apart, one and the same person
below FAMILIAR in 98 of 100 cases, at the median 0.14, another one above it in 88, at the median 0.4 (`vtest.avi`).
Above STRANGE it is another one unless it is in the very place. What lies between weighs: at FAMILIAR a pair counts for
three quarters of one at the median, at 0.4 for less than half; it would count for nothing at NOTHING_LEFT, which
nothing reaches, so that some pair is still better than none."""

SOLID = 0.6
"""Overlap from which an object is the same however it looks: lights are switched on, and people do not jump."""


def overlap(tracks: Tracks, detections: Instances, *, firm: np.ndarray) -> np.ndarray:
    """Mean of mask IoU and box IoU (T, N), 0 where it is too little to join the two.

    firm (T, N) bool: pairs of which both are sure
    """
    boxes = tracks.moved_boxes()
    # Like the last box, as of one who leaves the picture part by part, or like the whole object.
    by_box = np.maximum(box_iou(tracks.expected_boxes(), detections.boxes), box_iou(boxes, detections.boxes))
    by_box *= (tracks.class_ids[:, None] == detections.class_ids) & (by_box >= MEETS)
    by_mask = by_box.copy()
    # Where two boxes lie well on each other and meet no third, masks cannot change who goes with whom.
    meets = by_box > 0
    clear = (by_box >= 2 * MATCH_UNSURE) & (meets.sum(axis=1, keepdims=True) == 1) & (meets.sum(axis=0) == 1)
    r, c = np.flatnonzero((meets & ~clear).any(axis=1)), np.flatnonzero((meets & ~clear).any(axis=0))
    by_mask[np.ix_(r, c)] = overlaps(tracks.masks[r], boxes[r], detections.masks[c], detections.boxes[c])
    mixed = (by_mask + by_box) / 2
    return np.where(meets & (mixed >= np.where(firm, MATCH, MATCH_UNSURE)), mixed, 0)


def nearness(tracks: Tracks, detections: Instances) -> np.ndarray:
    """Nearness to the predicted place (T, N), 0 out of reach or of another class."""
    near = np.maximum(tracks.nearness(detections.boxes), 0)
    same_class: np.ndarray = near * (tracks.class_ids[:, None] == detections.class_ids)
    return same_class


def strangeness(tracks: Tracks, looks: np.ndarray) -> np.ndarray:
    """How differently from each track each detection looks (T, N), 0 to 1; FAMILIAR where that is not known.

    looks (N, L): of the detections
    """
    likeness = alike(tracks.looks, looks)
    return np.where(np.isnan(likeness), FAMILIAR, np.sqrt(np.clip(1 - likeness, 0, 1)))


def with_looks(similarity: np.ndarray, strange: np.ndarray) -> np.ndarray:
    """The similarity (T, N) of the places of tracks and detections, weighed by how strange (T, N) they look."""
    stranger = (strange > STRANGE) & (similarity < SOLID)
    weighed: np.ndarray = similarity * ~stranger * (1 - np.minimum(strange, MOST_STRANGE) / NOTHING_LEFT)
    return weighed


def load() -> None:
    """Load what `assign` needs, so that no picture has to wait for it."""
    importlib.import_module("scipy.optimize")


def assign(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The one-to-one pairs of greatest total similarity: rows (K,), columns (K,).

    similarity (T, N), 0 or more; pairs of similarity 0 are left out.
    """
    from scipy.optimize import linear_sum_assignment  # half a second of loading; `load` does it beside other work

    rows, columns = linear_sum_assignment(similarity, maximize=True)
    kept = similarity[rows, columns] > 0
    return rows[kept], columns[kept]
