"""The original's `load_image_gt`: a picture as a network takes it, perhaps augmented, and what is on it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from streamseg.config import AugmentConfig
from streamseg.matterport.augmentation import augmentation_of, augmented
from streamseg.matterport.config import Config, mold_of
from streamseg.matterport.dataset import Dataset, known_classes, require_prepared
from streamseg.matterport.reading import read_masks, read_picture
from streamseg.matterport.utils import compose_image_meta, extract_bboxes, minimize_mask
from streamseg.training.augment import change_colour, random_view
from streamseg.types import UsageError


def load_image_gt(
    dataset: Dataset,
    config: Config,
    image_id: int,
    augment: bool = False,
    augmentation: Any = None,
    use_mini_mask: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A picture as a network takes it, and its truth: image (H, W, 3) uint8, meta (12 + K,), class ids (n,), boxes
    (n, 4) int32, masks (H, W, n) bool; with use_mini_mask (h, w, n) of MINI_MASK_SHAPE.

    augment: mirror half of the pictures left and right · augmentation: as `train` takes it, after the molding.
    Objects of which no pixel is left are left out. In the meta all classes of the picture's source are active.
    """
    require_prepared(dataset)
    original = read_picture(dataset, image_id)
    masks, class_ids = read_masks(dataset, image_id, original.shape)
    mold = mold_of(config, original)
    image, masks = mold.picture(original), mold.masks(masks)
    if augment and random.randint(0, 1):
        image, masks = image[:, ::-1], masks[:, ::-1]
    image, masks = _augmented(image, masks, augmentation_of(augmentation))
    seen = masks.any(axis=(0, 1))
    masks, class_ids = masks[..., seen], class_ids[seen]
    boxes = extract_bboxes(masks)
    active = known_classes(dataset, image_id).astype(np.int32)
    meta = compose_image_meta(image_id, original.shape, image.shape, mold.window, mold.scale, active)
    if use_mini_mask:
        masks = minimize_mask(boxes, masks, config.MINI_MASK_SHAPE)
    return image, meta, class_ids, boxes, masks


def _augmented(image: np.ndarray, masks: np.ndarray, augmentation: Any) -> tuple[np.ndarray, np.ndarray]:
    """The picture (H, W, 3) and its masks (H, W, n), changed alike."""
    if augmentation is None:
        return image, masks
    if not isinstance(augmentation, AugmentConfig):
        return augmented(augmentation, image, masks)
    height, width = image.shape[:2]
    if height != width:
        raise UsageError(
            f"augmentation: fields of AugmentConfig change square inputs only, got {height} × {width}; "
            "resize mode square makes such, or give an augmenter"
        )
    rng = np.random.default_rng(np.random.randint(2**31))  # which a script seeds with np.random.seed
    view = random_view(width, height, size=width, scale=(1.0, 1.0), rng=rng, augment=augmentation)
    moved = np.zeros_like(masks)
    for i in range(masks.shape[-1]):
        moved[..., i] = view.picture(masks[..., i] * np.uint8(255), padding=0) >= 128
    return change_colour(view.picture(image, padding=0), rng, augment=augmentation), moved
