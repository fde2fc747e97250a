"""Copy-paste: objects of one view laid onto another, by their masks (Ghiasi et al., Simple Copy-Paste, 2021).

N objects of a view · m side of a mini mask · S side of the view
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from streamseg.training.augment import MIN_VISIBLE

CROWD = -1
"""Class id of what is neither object nor background."""

PASTED_SHARE = 0.5
"""Chance of each object of the other view to be pasted; one always is."""

MIN_VISIBLE_BOX = 0.5
"""An object of unknown mask with less of its box in sight is neither object nor background."""


@dataclass(frozen=True)
class Objects:
    """What is in a view.

    boxes (N, 4) xyxy in its pixels, cut to it · class_ids (N,), CROWD for crowds · mini_masks (N, m, m) uint8 that span
    mask_boxes (N, 4), not cut · mask_weights (N,), 0 where the mask is unknown
    """

    boxes: np.ndarray
    class_ids: np.ndarray
    mask_boxes: np.ndarray
    mini_masks: np.ndarray
    mask_weights: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: np.ndarray) -> Objects:
        return Objects(*(array[index] for array in vars(self).values()))

    def joined(self, others: Objects) -> Objects:
        """These and others of the same view."""
        pairs = zip(vars(self).values(), vars(others).values(), strict=True)
        return Objects(*(np.concatenate(pair) for pair in pairs))


def paste(
    rgb: np.ndarray, objects: Objects, other_rgb: np.ndarray, others: Objects, rng: np.random.Generator
) -> tuple[np.ndarray, Objects]:
    """Some of the objects of known mask of another view (S, S, 3), laid onto a view of the same size.

    What they hide is taken off the masks below, whose boxes shrink with them; of what is hidden for the most part too
    little is known, so that it becomes a crowd.
    """
    fit = np.flatnonzero((others.class_ids > 0) & (others.mask_weights > 0))
    if not len(fit):
        return rgb, objects
    chosen = rng.random(len(fit)) < PASTED_SHARE
    chosen[rng.integers(len(fit))] = True
    pasted = others[fit[chosen]]
    cover = covered(pasted, size=len(rgb))
    share = cover[..., None] / np.float32(255)
    mixed = rgb * (1 - share) + other_rgb * share
    return np.round(mixed).astype(np.uint8), _below(objects, cover).joined(pasted)


def covered(objects: Objects, *, size: int) -> np.ndarray:
    """How much of each pixel of a view the objects' masks cover: (size, size) uint8 0…255."""
    cover = np.zeros((size, size), np.uint8)
    for box, mask in zip(objects.mask_boxes, objects.mini_masks, strict=True):
        cells_a_pixel = mask.shape[0] / np.maximum(box[2:] - box[:2], 1e-3)
        x0, y0 = np.maximum(np.floor(box[:2]), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(box[2:]), size).astype(int)
        if x1 > x0 and y1 > y0:
            start = (np.array([x0, y0]) + 0.5 - box[:2]) * cells_a_pixel - 0.5
            part = _sampled(mask, start, cells_a_pixel, (x1 - x0, y1 - y0))
            np.maximum(cover[y0:y1, x0:x1], part, out=cover[y0:y1, x0:x1])
    return cover


def _below(objects: Objects, cover: np.ndarray) -> Objects:
    """The objects of a view once this much of its pixels (S, S) is covered."""
    boxes, class_ids, masks = objects.boxes.copy(), objects.class_ids.copy(), objects.mini_masks.copy()
    side = masks.shape[1]
    for i, (box, known) in enumerate(zip(objects.mask_boxes, objects.mask_weights > 0, strict=True)):
        pixels_a_cell = (box[2:] - box[:2]) / side
        hidden = _sampled(cover, box[:2] + 0.5 * pixels_a_cell - 0.5, pixels_a_cell, (side, side))
        if class_ids[i] == CROWD or not hidden.any():
            continue
        before = masks[i] if known else np.full_like(hidden, 255)
        after = (before * (1 - hidden / np.float32(255))).astype(np.uint8)
        seen = after.sum(dtype=float) / max(before.sum(dtype=float), 1.0)
        if seen < (MIN_VISIBLE if known else MIN_VISIBLE_BOX):
            class_ids[i] = CROWD
        elif known:
            boxes[i] = _around(after, before, box, boxes[i])
            masks[i] = after
    return replace(objects, boxes=boxes, class_ids=class_ids, mini_masks=masks)


def _around(mask: np.ndarray, before: np.ndarray, span: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The box (4,) of an object, drawn in to what is left of its mask; a side that lost nothing stays where it is."""
    drawn = box.copy()
    for axis in (0, 1):  # x, y
        left, was = (np.flatnonzero((each > 127).any(axis)) for each in (mask, before))
        if not len(left) or not len(was):
            continue
        start, step = span[axis], (span[axis + 2] - span[axis]) / mask.shape[0]
        if left[0] > was[0]:
            drawn[axis] = max(box[axis], start + left[0] * step)
        if left[-1] < was[-1]:
            drawn[axis + 2] = min(box[axis + 2], start + (left[-1] + 1) * step)
    return drawn if (drawn[2:] - drawn[:2] >= 2).all() else box


def _sampled(values: np.ndarray, start: np.ndarray, step: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values (h, w) uint8 at start + i · step in x and y, size (width, height) of them; 0 outside."""
    matrix = np.array([[step[0], 0, start[0]], [0, step[1], start[1]]], float)
    sampled: np.ndarray = cv2.warpAffine(values, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return sampled
