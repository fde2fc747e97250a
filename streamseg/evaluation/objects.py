"""The objects of a picture, true and found, as the metrics compare them: by name, box, score and run lengths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from streamseg import masks as box_masks
from streamseg import outlines
from streamseg.types import Instances, Sample

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True)
class Objects:
    """N objects of one picture.

    names: the class of each · boxes (N, 4) xyxy · masks: N COCO run lengths, compressed · scores (N,), 1 for true ones
    · areas (N,) float64 in pixels · crowd (N,) bool · unknown (N,) bool: true objects whose mask is not known; theirs
    is their box
    """

    names: tuple[str, ...]
    boxes: np.ndarray
    masks: tuple[dict[str, Any], ...]
    scores: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    unknown: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: np.ndarray) -> Objects:
        """The chosen objects: by a boolean mask (N,) or an integer array."""
        chosen = np.arange(len(self))[index]
        return Objects(
            tuple(self.names[i] for i in chosen),
            self.boxes[chosen],
            tuple(self.masks[i] for i in chosen),
            self.scores[chosen],
            self.areas[chosen],
            self.crowd[chosen],
            self.unknown[chosen],
        )

    def of(self, names: Iterable[str]) -> Objects:
        """The objects of the named classes."""
        names = set(names)
        return self[np.array([name in names for name in self.names], bool)]


@dataclass(frozen=True)
class Comparison:
    """One picture with its true objects and what was found in it, best score first; name: that of its file."""

    name: str
    width: int
    height: int
    truth: Objects
    found: Objects


def true_objects(sample: Sample, class_names: tuple[str, ...]) -> Objects:
    """What a sample says; class_names: of the dataset's class ids."""
    size = {"width": sample.width, "height": sample.height}
    unknown = np.array([mask is None for mask in sample.masks], bool)
    masks = []
    for mask, box in zip(sample.masks, sample.boxes, strict=True):
        masks.append(outlines.compressed([outlines.rectangle(box)] if mask is None else mask, **size))
    boxed = np.prod(sample.boxes[:, 2:] - sample.boxes[:, :2], axis=1, dtype=np.float64)
    areas = np.where(unknown, boxed, outlines.areas(masks))
    if sample.areas is not None:
        areas = np.where(np.isfinite(sample.areas), sample.areas, areas)
    return Objects(
        tuple(class_names[i] for i in sample.class_ids),
        sample.boxes,
        tuple(masks),
        np.ones(len(masks), np.float32),
        areas,
        sample.crowd,
        unknown,
    )


def found_objects(instances: Instances, *, width: int, height: int, dilation: int = 0) -> Objects:
    """What a model found, best score first: boxes cut to the picture, masks pasted at 0.5 and grown by `dilation`.

    dilation: so many times by the pixels beside and below and above; boxes stay.
    """
    instances = instances[np.argsort(-instances.scores, kind="stable")]
    size = {"width": width, "height": height}
    masks = [box_masks.rle(mask, box, **size) for mask, box in zip(instances.masks, instances.boxes, strict=True)]
    if dilation:
        masks = [dilated(mask, times=dilation) for mask in masks]
    count = len(masks)
    return Objects(
        tuple(instances.names),
        np.clip(instances.boxes, 0, np.array([width, height] * 2, np.float32)),
        tuple(masks),
        instances.scores,
        outlines.areas(masks),
        np.zeros(count, bool),
        np.zeros(count, bool),
    )


def dilated(mask: dict[str, Any], *, times: int) -> dict[str, Any]:
    """Run lengths grown `times` by the pixels beside, above and below."""
    height, width = mask["size"]
    full = outlines.decoded(mask, width=width, height=height)
    return outlines.encoded(cv2.dilate(full, _CROSS, iterations=times))


def that_count(picture: Comparison) -> tuple[Objects, Objects]:
    """The true and the found objects without what counts neither way, for metrics that know of no crowds.

    Crowds and objects of unknown mask are no true objects; what was found mostly inside such a region of its class,
    and overlaps no true object of its class by half, is no false alarm.
    """
    truth, found = picture.truth, picture.found
    ignored = truth.crowd | truth.unknown
    if not ignored.any():
        return truth, found
    counts = np.ones(len(found), bool)
    for name in {truth.names[i] for i in np.flatnonzero(ignored)}:
        same = np.array([other == name for other in truth.names], bool)
        rows = np.flatnonzero([other == name for other in found.names])
        regions, objects = truth[same & ignored], truth[same & ~ignored]
        if len(rows):
            masks = [found.masks[i] for i in rows]
            inside = outlines.overlaps(masks, regions.masks, of_own=True).max(axis=1) > 0.5
            if len(objects):
                inside &= outlines.overlaps(masks, objects.masks).max(axis=1) < 0.5
            counts[rows[inside]] = False
    return truth[~ignored], found[counts]
