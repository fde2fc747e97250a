"""Masks for objects that have none: what the half-trained model itself sees inside their true boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np

from streamseg.config import ModelConfig
from streamseg.letterbox import Letterbox, nearest_shape
from streamseg.model.mask_rcnn import MaskRCNN, load_network
from streamseg.training.loader import Picture


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
    taught = []
    for i, picture in enumerate(pictures):
        unknown = np.flatnonzero((picture.mask_weights == 0) & ~picture.sample.crowd)
        if len(unknown):
            masks, mask_weights = picture.mini_masks.copy(), picture.mask_weights.copy()
            side = masks.shape[1]
            for k, mask in zip(unknown, draw_masks(network, picture, unknown), strict=True):
                masks[k] = np.round(cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR) * 255)
                mask_weights[k] = weight
            picture = replace(picture, mini_masks=masks, mask_weights=mask_weights)
        taught.append(picture)
        progress(i + 1, len(pictures))
    return taught


def draw_masks(network: MaskRCNN, picture: Picture, objects: np.ndarray) -> np.ndarray:
    """The model's masks (N, M, M) in [0, 1] inside the true boxes of `objects` (N,), row numbers of the picture."""
    sample = picture.sample
    width, height = nearest_shape(network.config.input_sizes, sample.width, sample.height)
    letterbox = Letterbox.fit(sample.width, sample.height, width, height)
    image = np.zeros((1, height, width, 3), np.uint8)
    inner = (letterbox.inner_width, letterbox.inner_height)
    letterbox.place(cv2.resize(picture.rgb, inner, interpolation=cv2.INTER_LINEAR), image[0])
    levels = network.features(keras.ops.convert_to_tensor(image))
    pooled = {i: levels[i] for i in network.config.roi_levels}
    boxes = letterbox.to_input(sample.boxes[objects]).astype(np.float32)
    class_ids = sample.class_ids[objects].astype(np.int32)
    drawn = network.masks(pooled, boxes, class_ids, np.zeros(len(objects), np.int32))
    return np.asarray(keras.ops.convert_to_numpy(drawn), np.float32)


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
    """The pictures with the masks and weights that `save_taught` kept."""
    kept = np.load(path)
    ends = np.cumsum(kept["counts"])[:-1]
    masks, weights = np.split(kept["masks"], ends), np.split(kept["weights"], ends)
    return [
        replace(picture, mini_masks=m, mask_weights=w) for picture, m, w in zip(pictures, masks, weights, strict=True)
    ]
