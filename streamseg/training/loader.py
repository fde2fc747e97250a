"""Batches for training: pictures read once, then seen through random views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import keras
import numpy as np
from pycocotools import mask as coco_mask

from streamseg.config import StageConfig, TrainingConfig
from streamseg.training.augment import change_colour, random_view, visible
from streamseg.training.data import read_rgb
from streamseg.types import Dataset, Sample


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
    if isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    full = coco_mask.decode(segmentation).astype(np.float32) * 255
    scale_x, scale_y = (box[2:] - box[:2]) / side
    matrix = np.array([[scale_x, 0, box[0] + 0.5 * scale_x - 0.5], [0, scale_y, box[1] + 0.5 * scale_y - 0.5]])
    return cv2.warpAffine(
        full, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT
    ).astype(np.uint8)


@dataclass(frozen=True)
class Picture:
    """One picture in memory with its truth: rgb (H, W, 3) uint8, mini_masks (N, m, m) uint8, mask_weights (N,)."""

    sample: Sample
    rgb: np.ndarray
    mini_masks: np.ndarray
    mask_weights: np.ndarray


def read_picture(sample: Sample, *, side: int) -> Picture:
    """Read a sample's picture and draw its masks. Raises InputError when the picture cannot be read."""
    rgb = read_rgb(sample)
    known = np.array([mask is not None for mask in sample.masks], bool) & ~sample.crowd
    masks = np.zeros((len(known), side, side), np.uint8)
    for i in np.flatnonzero(known):
        masks[i] = mini_mask(sample.masks[i], sample.boxes[i], width=sample.width, height=sample.height, side=side)
    return Picture(sample, rgb, masks, known.astype(np.float32))


def read_pictures(
    dataset: Dataset, *, side: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Picture]:
    """All pictures of a dataset, in memory."""
    pictures = []
    for i in range(len(dataset)):
        pictures.append(read_picture(dataset[i], side=side))
        progress(i + 1, len(dataset))
    return pictures


class Batches(keras.utils.PyDataset):
    """Random views of pictures in batches, as `TrainedMaskRCNN` takes them. The same seed gives the same batches.

    `epoch` counts on from where a resumed training stopped, so that it sees the views it would have seen.
    """

    def __init__(
        self, pictures: Sequence[Picture], training: TrainingConfig, stage: StageConfig, *, epoch: int = 0
    ) -> None:
        super().__init__(workers=training.workers, use_multiprocessing=False, max_queue_size=4)
        self.pictures, self.training, self.stage, self.epoch = pictures, training, stage, epoch
        weights = np.array([training.masked_share if p.mask_weights.any() else 1.0 for p in pictures])
        self.shares = weights / weights.sum()
        self.size = max(1, len(pictures) // stage.batch_size)
        self._order()

    def _order(self) -> None:
        rng = np.random.default_rng((self.training.seed, self.epoch))
        count = self.size * self.stage.batch_size
        if self.training.masked_share > 1:
            self.order = rng.choice(len(self.pictures), count, p=self.shares)
        else:
            self.order = np.resize(rng.permutation(len(self.pictures)), count)

    def __len__(self) -> int:
        return self.size

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order()

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        rng = np.random.default_rng((self.training.seed, self.epoch, index))
        batch_size = self.stage.batch_size
        rows = [self.view(self.pictures[i], rng) for i in self.order[index * batch_size : (index + 1) * batch_size]]
        batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return batch, {name: np.zeros((batch_size,), np.float32) for name in self.training.loss_weights}

    def view(self, picture: Picture, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One random view with its truth, padded to max_objects."""
        sample, size, most = picture.sample, self.stage.crop, self.training.max_objects
        for _ in range(4):  # a view without any object teaches less; look again before taking one
            view = random_view(sample.width, sample.height, size=size, scale=self.stage.scale, rng=rng)
            moved = view.boxes(sample.boxes)
            cut, seen = visible(moved, size, crowd=sample.crowd)
            if seen[~sample.crowd].any():
                break
        rgb = change_colour(view.picture(picture.rgb), rng)
        index = np.flatnonzero(seen)
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
        row["boxes"][:count] = cut[index]
        row["class_ids"][:count] = np.where(sample.crowd[index], -1, sample.class_ids[index])
        row["mask_boxes"][:count] = moved[index]
        masks = picture.mini_masks[index]
        row["mini_masks"][:count] = masks[:, :, ::-1] if view.flip else masks
        row["mask_weights"][:count] = picture.mask_weights[index]
        return row
