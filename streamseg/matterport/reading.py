"""What a script's dataset loads, as pictures and masks of one kind; what is neither is refused by its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from streamseg.types import InputError

if TYPE_CHECKING:
    from streamseg.matterport.dataset import Dataset

FULL_RANGE = 4096
"""A picture of 16 bits whose values stay below has most likely 12 or fewer, and would come out almost black."""


def read_picture(dataset: Dataset, image_id: int) -> np.ndarray:
    """The picture (H, W, 3) uint8 RGB that `load_image` returns in this or another clear form. Raises InputError.

    One channel or none: grey · four: the last is left out · bool, floats from 0 to 1 and 16 bits: their range becomes
    0 to 255 · other numbers from 0 to 255: as they are, without what is behind the point.
    """
    name = _named(dataset, "load_image", image_id)
    pixels = np.asarray(dataset.load_image(image_id))
    channels = pixels.shape[2] if pixels.ndim == 3 else 1 if pixels.ndim == 2 else 0
    if channels not in (1, 3, 4) or not pixels.size:
        raise InputError(f"{name}: expected a picture (H, W, 3), grey or RGBA, got {pixels.shape}")
    pixels = _as_bytes(pixels, name=name)
    if channels == 1:
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return pixels[..., :3]


def read_masks(dataset: Dataset, image_id: int, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The masks (H, W, n) bool that `load_mask` returns and that have a pixel, and their class ids (n,) int32.

    shape: the picture's. There is nothing on a picture whose masks have no pixel and whose classes are none or 0.
    Raises InputError for what does not fit the picture or the classes.
    """
    name = _named(dataset, "load_mask", image_id)
    loaded = dataset.load_mask(image_id)
    if not isinstance(loaded, tuple | list) or len(loaded) != 2:
        raise InputError(f"{name}: expected masks and class ids, got {type(loaded).__name__}")
    masks, class_ids = np.asarray(loaded[0]).astype(bool), _class_ids(loaded[1], name=name)
    if not masks.any() and not class_ids.any():
        return np.zeros((*shape[:2], 0), bool), np.zeros(0, np.int32)
    if masks.ndim != 3 or class_ids.shape != masks.shape[2:]:
        raise InputError(
            f"{name}: expected masks (H, W, n) and class ids (n,), got {masks.shape} and {class_ids.shape}"
        )
    if masks.shape[:2] != tuple(shape[:2]):
        raise InputError(
            f"{name}: expected masks of the picture's {tuple(shape[:2])} rows and columns, got {masks.shape[:2]}"
        )
    seen = masks.any(axis=(0, 1))
    masks, class_ids = masks[..., seen], class_ids[seen]
    wrong = class_ids[(class_ids == 0) | (np.abs(class_ids) >= dataset.num_classes)]
    if len(wrong):
        raise InputError(f"{name}: expected class ids from 1 to {dataset.num_classes - 1}, got {wrong[0]}")
    return masks, class_ids.astype(np.int32)


def _class_ids(given: Any, *, name: str) -> np.ndarray:
    """Class ids in any form as (n,) int64."""
    class_ids = np.asarray(given)
    if not class_ids.size:
        return np.zeros(0, np.int64)
    try:
        whole = class_ids.astype(np.int64) if class_ids.dtype.kind in "biufO" else None
    except (TypeError, ValueError):
        whole = None
    if whole is None or (whole != class_ids).any():
        raise InputError(
            f"{name}: expected whole numbers as class ids, got {class_ids.ravel()[0]!r}; "
            "map_source_class_id and class_names.index give a class's number"
        )
    return whole


def _as_bytes(pixels: np.ndarray, *, name: str) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind not in "biuf":
        raise InputError(f"{name}: expected numbers from 0 to 255, got {pixels.dtype}")
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind in "bf" and low >= 0 and high <= 1:
        return np.around(pixels.astype(np.float32) * 255).astype(np.uint8)
    if low >= 0 and high <= 255:
        return pixels.astype(np.uint8)
    if pixels.dtype == np.uint16 and high >= FULL_RANGE:
        return np.around(pixels / np.float32(257)).astype(np.uint8)
    hint = "; of 12 bits or fewer, scale them in load_image" if pixels.dtype == np.uint16 else ""
    raise InputError(f"{name}: expected {pixels.dtype} pixels from 0 to 255, got {low:g} to {high:g}{hint}")


def _named(dataset: Dataset, method: str, image_id: int) -> str:
    info = dataset.image_info[image_id]
    return f"{type(dataset).__name__}.{method}({image_id}), {info['source']} {info['id']}"
