"""Masks for objects that have none: what the half-trained model itself sees inside their true boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np

from streamseg.config import ModelConfig
from streamseg.engines.keras import compiled
from streamseg.letterbox import Letterbox, nearest_shape, normalised
from streamseg.model.mask_rcnn import MaskRCNN, load_network
from streamseg.training.loader import Picture
from streamseg.types import ModelError


def teach(
    pictures: Sequence[Picture],
    config: ModelConfig,
    weights: Path,
    *,
    weight: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Picture]:
    """The pictures, with the model's soft mask at `weight` for every object whose mask is unknown; true masks stay."""
    network = load_network(config, weights)
    draw = compiled(network, masks_in, use_xla=False)
    taught = []
    for i, picture in enumerate(pictures):
        unknown = np.flatnonzero((picture.mask_weights == 0) & ~picture.sample.crowd)
        if len(unknown):
            masks, mask_weights = picture.mini_masks.copy(), picture.mask_weights.copy()
            side = masks.shape[1]
            image, boxes, class_ids = as_inputs(picture, unknown, config)
            drawn = keras.ops.convert_to_numpy(draw(image, boxes, class_ids))
            for k, mask in zip(unknown, np.asarray(drawn, np.float32)[: len(unknown)], strict=True):
                masks[k] = np.round(cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR) * 255)
                mask_weights[k] = weight
            picture = replace(picture, mini_masks=masks, mask_weights=mask_weights)
        taught.append(picture)
        progress(i + 1, len(pictures))
    return taught


def masks_in(network: MaskRCNN, image: Any, boxes: Any, class_ids: Any) -> Any:
    """Masks (N, M, M) in [0, 1] inside boxes (N, 4) of one image (1, H, W, 3)."""
    levels = network.features(image)
    pooled = {i: levels[i] for i in network.config.roi_levels}
    return network.masks(pooled, boxes, class_ids, keras.ops.zeros_like(class_ids))


def as_inputs(picture: Picture, objects: np.ndarray, config: ModelConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (1, H, W, 3), boxes (P, 4) and class ids (P,) of the objects (N,), as the network takes them.

    P is N rounded up to a power of two from 4 on, so that few graphs are traced; the rows after N mean nothing.
    """
    sample = picture.sample
    width, height = nearest_shape(config.input_sizes, sample.width, sample.height)
    letterbox = Letterbox.fit(sample.width, sample.height, width, height)
    image = np.zeros((1, height, width, 3), np.uint8)
    inner = (letterbox.inner_width, letterbox.inner_height)
    resized = cv2.resize(picture.rgb, inner, interpolation=cv2.INTER_LINEAR)
    letterbox.place(resized, image[0], padding=config.padding)
    count = max(4, 1 << (len(objects) - 1).bit_length())
    boxes, class_ids = np.zeros((count, 4), np.float32), np.ones(count, np.int32)
    inside = letterbox.to_input(sample.boxes[objects])
    boxes[: len(objects)] = normalised(inside, width, height) if config.family == "matterport" else inside
    class_ids[: len(objects)] = sample.class_ids[objects]
    return image, boxes, class_ids


def save_taught(pictures: Sequence[Picture], path: Path) -> None:
    """Keep the masks and weights of all pictures, so that a resumed training goes on with the same ones."""
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    np.savez_compressed(
        part,
        counts=np.array([len(p.mask_weights) for p in pictures]),
        masks=np.concatenate([p.mini_masks for p in pictures]),
        weights=np.concatenate([p.mask_weights for p in pictures]),
    )
    part.replace(path)


def load_taught(pictures: Sequence[Picture], path: Path) -> list[Picture]:
    """The pictures with the masks and weights that `save_taught` kept; ModelError where they are of other pictures."""
    kept = np.load(path)
    if kept["counts"].tolist() != [len(picture.mask_weights) for picture in pictures]:
        raise ModelError(f"{path}: these masks are of other pictures than are trained on; begin a new training")
    ends = np.cumsum(kept["counts"])[:-1]
    masks, weights = np.split(kept["masks"], ends), np.split(kept["weights"], ends)
    return [
        replace(picture, mini_masks=m, mask_weights=w) for picture, m, w in zip(pictures, masks, weights, strict=True)
    ]
