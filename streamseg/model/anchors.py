"""Anchors: the boxes that the proposal network starts from."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from streamseg.config import ModelConfig
from streamseg.letterbox import normalised


@lru_cache(maxsize=32)
def make_anchors(config: ModelConfig, width: int, height: int) -> np.ndarray:
    """All anchors (A, 4) float32 xyxy for an input of width × height, in the unit of the network's family.

    Order: level, y, x, size, ratio, like the proposal network's output. Centres lie in the middle of the cells; in the
    matterport family on the first corner of every `rpn_stride`-th one.
    """
    anchors = _boxes(config, width, height)
    return (anchors if config.family == "lite" else normalised(anchors, width, height)).astype(np.float32)


@lru_cache(maxsize=32)
def anchors_in_pixels(
    config: ModelConfig, width: int, height: int, dtype: Literal["float32", "float64"] = "float32"
) -> np.ndarray:
    """The same anchors (A, 4) in pixels of the input, whatever the family."""
    return _boxes(config, width, height).astype(dtype)


def _boxes(config: ModelConfig, width: int, height: int) -> np.ndarray:
    """The anchors (A, 4) float64 in pixels."""
    place, step = (0.5, 1) if config.family == "lite" else (0.0, config.rpn_stride)
    levels = []
    for level, sizes in zip(config.rpn_levels, config.anchor_sizes, strict=True):
        stride = 2**level
        rows, columns = -(-height // stride), -(-width // stride)
        shapes = np.array(
            [(s * np.sqrt(r), s / np.sqrt(r)) for s in sizes for r in config.anchor_ratios]
        )  # (a, 2) w, h
        y, x = np.meshgrid(np.arange(0, rows, step) + place, np.arange(0, columns, step) + place, indexing="ij")
        centres = np.stack([x, y], -1)[:, :, None] * stride  # (rows, columns, 1, 2)
        boxes = np.concatenate([centres - shapes / 2, centres + shapes / 2], -1)
        levels.append(boxes.reshape(-1, 4))
    return np.concatenate(levels)
