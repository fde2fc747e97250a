"""Batches for training: pictures kept in memory as far as they fit, and seen through random views."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import keras
import numpy as np
from pycocotools import mask as coco_mask

from streamseg.config import StageConfig, TrainingConfig
from streamseg.letterbox import PADDING
from streamseg.training.augment import change_colour, random_view, visible
from streamseg.training.data import read_rgb
from streamseg.training.sampling import Facts, draw, repeats
from streamseg.types import Dataset, InputError, Sample

log = logging.getLogger(__name__)

MOST_DAMAGED = 5
"""So many pictures may turn out to be unreadable in the middle of a training; they are named, and others taken."""


def full_mask(rle: Any, *, width: int, height: int) -> np.ndarray:
    """A true mask in RLE, compressed or not, as (height, width) uint8 0 or 1."""
    if isinstance(rle["counts"], list):
        rle = coco_mask.frPyObjects(rle, height, width)
    return coco_mask.decode(rle)


def outline(segmentation: Any, *, width: int, height: int) -> np.ndarray | None:
    """The corners (P, 2) float32 of the smallest convex shape around a true mask; None for an empty one."""
    if isinstance(segmentation, list):
        points = np.concatenate([np.array(polygon, np.float32).reshape(-1, 2) for polygon in segmentation])
        return cv2.convexHull(points)[:, 0]
    pixels = cv2.findNonZero(full_mask(segmentation, width=width, height=height))
    if pixels is None:
        return None
    hull = cv2.convexHull(pixels)[:, 0].astype(np.float32)
    corners = hull[:, None] + np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)  # of each pixel
    return cv2.convexHull(corners.reshape(-1, 2))[:, 0]


def mini_mask(segmentation: Any, box: np.ndarray, *, width: int, height: int, side: int) -> np.ndarray:
    """A true mask inside its box (4,) xyxy as (side, side) uint8 0…255.

    segmentation: COCO polygons, uncompressed or compressed RLE of a width × height picture.
    """
    if isinstance(segmentation, list):
        # drawn at eight times the cells of the mini mask and averaged, so that edges fall where they are
        scale = 8 * side / np.maximum(box[2:] - box[:2], 1e-3)
        canvas = np.zeros((8 * side, 8 * side), np.uint8)
        for polygon in segmentation:
            points = (np.array(polygon, np.float32).reshape(-1, 2) - box[:2]) * scale
            cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], 255, shift=4)
        return cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    full = full_mask(segmentation, width=width, height=height).astype(np.float32) * 255
    scale_x, scale_y = (box[2:] - box[:2]) / side
    matrix = np.array([[scale_x, 0, box[0] + 0.5 * scale_x - 0.5], [0, scale_y, box[1] + 0.5 * scale_y - 0.5]])
    return cv2.warpAffine(
        full, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT
    ).astype(np.uint8)


@dataclass(frozen=True)
class Picture:
    """One picture in memory with its truth.

    rgb (H, W, 3) uint8 · mini_masks (N, m, m) uint8 · mask_weights (N,) · outlines: points (P, 2) around each object,
    None where its mask is unknown
    """

    sample: Sample
    rgb: np.ndarray
    mini_masks: np.ndarray
    mask_weights: np.ndarray
    outlines: tuple[np.ndarray | None, ...] = ()

    @property
    def num_bytes(self) -> int:
        return self.rgb.nbytes + self.mini_masks.nbytes


def read_picture(sample: Sample, *, side: int) -> Picture:
    """Read a sample's picture and draw its masks. Raises InputError when the picture cannot be read."""
    rgb = read_rgb(sample)
    size = {"width": sample.width, "height": sample.height}
    known = np.array([mask is not None for mask in sample.masks], bool) & ~sample.crowd
    masks = np.zeros((len(known), side, side), np.uint8)
    for i in np.flatnonzero(known):
        masks[i] = mini_mask(sample.masks[i], sample.boxes[i], side=side, **size)
    outlines = tuple(
        outline(mask, **size) if has_mask else None for mask, has_mask in zip(sample.masks, known, strict=True)
    )
    return Picture(sample, rgb, masks, known.astype(np.float32), outlines)


class Pictures(Sequence[Picture]):
    """The pictures of a dataset: kept in memory until they fill `cache_gb`, the others read whenever they are seen.

    `facts`: what the choice of pictures needs to know of each.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        side: int,
        cache_gb: float = 4.0,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.dataset, self.side = dataset, side
        self.facts: list[Facts] = []
        self.kept: list[Picture] = []
        room = cache_gb * 1e9
        for i in range(len(dataset)):
            sample = dataset[i]
            self.facts.append(Facts.of(sample))
            if room > 0:
                self.kept.append(read_picture(sample, side=side))
                room -= self.kept[-1].num_bytes
            progress(i + 1, len(dataset))

    def __len__(self) -> int:
        return len(self.facts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.kept[index] if index < len(self.kept) else read_picture(self.dataset[index], side=self.side)


def facts_of(pictures: Sequence[Picture]) -> list[Facts]:
    """The facts of each picture, without reading any."""
    if isinstance(pictures, Pictures):
        return pictures.facts
    return [replace(Facts.of(each.sample), masked=bool(each.mask_weights.any())) for each in pictures]


def steps_of_epoch(facts: Sequence[Facts], stage: StageConfig) -> int:
    """Batches of one epoch of a stage; at least one."""
    return max(1, int(repeats(facts, stage.balance).sum()) // stage.batch_size)


class Batches(keras.utils.PyDataset):
    """Random views of pictures in batches, as `TrainedMaskRCNN` takes them. The same seed gives the same batches.

    `epoch` counts on from where a resumed training stopped, so that it sees the views it would have seen. `padding`:
    the grey level beside a picture. `steps`: batches of an epoch; by default as many as the pictures make. `match`:
    from a view's true boxes and their classes to what its anchors are, as `targets.match_anchors` says it; None where
    the network matches anchors itself.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        training: TrainingConfig,
        stage: StageConfig,
        *,
        epoch: int = 0,
        padding: int = PADDING,
        steps: int | None = None,
        match: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        super().__init__(workers=training.workers, use_multiprocessing=False, max_queue_size=4)
        self.pictures, self.training, self.stage, self.epoch = pictures, training, stage, epoch
        self.padding, self.damaged, self.match = padding, set[int](), match
        facts = facts_of(pictures)
        self.times = repeats(facts, stage.balance)
        self.weights = np.array([training.masked_share if each.masked else 1.0 for each in facts])
        self.size = steps or steps_of_epoch(facts, stage)
        self._order()

    def _order(self) -> None:
        rng = np.random.default_rng((self.training.seed, self.epoch))
        self.order = draw(self.times, self.weights, self.size * self.stage.batch_size, rng)

    def __len__(self) -> int:
        return self.size

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order()

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        rng = np.random.default_rng((self.training.seed, self.epoch, index))
        batch_size = self.stage.batch_size
        rows = [self.view(self.picture(i), rng) for i in self.order[index * batch_size : (index + 1) * batch_size]]
        batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return batch, {name: np.zeros((batch_size,), np.float32) for name in self.training.loss_weights}

    def picture(self, index: int) -> Picture:
        """The picture at a position, or the next one that can be read. Raises InputError when too many cannot."""
        while True:
            try:
                return self.pictures[index]
            except InputError as error:
                if index not in self.damaged:
                    log.warning("left out: %s", error)
                self.damaged.add(index)
                if len(self.damaged) > min(MOST_DAMAGED, len(self.pictures) - 1):
                    raise
                index = (index + 1) % len(self.pictures)

    def view(self, picture: Picture, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One random view with its truth, padded to max_objects."""
        sample, size, most, augment = picture.sample, self.stage.crop, self.training.max_objects, self.stage.augment
        for _ in range(4):  # a view without any object teaches less; look again before taking one
            view = random_view(sample.width, sample.height, size=size, scale=self.stage.scale, rng=rng, augment=augment)
            moved = view.boxes(sample.boxes, picture.outlines)
            cut, seen = visible(moved, size, crowd=sample.crowd)
            if seen[~sample.crowd].any():
                break
        rgb = change_colour(view.picture(picture.rgb, padding=self.padding), rng, augment=augment)
        index = everything = np.flatnonzero(seen)
        if len(index) > most:
            index = np.sort(rng.choice(index, most, replace=False))
        count, side = len(index), self.training.mini_mask
        row = {
            "images": rgb,
            "boxes": np.zeros((most, 4), np.float32),
            "class_ids": np.zeros((most,), np.int32),
            "mask_boxes": np.zeros((most, 4), np.float32),
            "mini_masks": np.zeros((most, side, side), np.uint8),
            "mask_weights": np.zeros((most,), np.float32),
        }
        class_ids = np.where(sample.crowd, -1, sample.class_ids)
        row["boxes"][:count] = cut[index]
        row["class_ids"][:count] = class_ids[index]
        row["mask_boxes"][:count] = moved[index]
        row["mini_masks"][:count] = view.masks(picture.mini_masks[index], sample.boxes[index], moved[index])
        row["mask_weights"][:count] = picture.mask_weights[index]
        if sample.known_classes is not None:
            row["active"] = sample.known_classes.astype(np.float32)
        if self.match:
            # of all objects: an anchor of one that found no place is neither positive nor negative
            match, truth = self.match(cut[everything], class_ids[everything])
            place = np.full(max(1, len(everything)), -1, np.int32)
            place[np.searchsorted(everything, index)] = np.arange(count)
            lost = (place[truth] < 0) & (match == 1)
            row["anchor_match"] = np.where(lost, 0, match).astype(np.int8)
            row["anchor_truth"] = np.maximum(place[truth], 0)
        return row
