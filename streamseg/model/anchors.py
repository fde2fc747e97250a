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

    Order: level, y, x, size, ratio, like the proposal network's output. Centres lie in the middle of the cells in
    the lite family, else on their first corner, in the matterport family of every `rpn_stride`-th one.
    """
    anchors = _boxes(config, width, height)
    return (normalised(anchors, width, height) if config.family == "matterport" else anchors).astype(np.float32)


def group_sizes(config: ModelConfig, width: int, height: int) -> tuple[int, ...]:
    """How many anchors there are in each group of those that compete to be proposals: of each level, or of all."""
    per_cell = len(config.anchor_sizes[0]) * len(config.anchor_ratios)
    step = config.rpn_stride
    levels = [
        -(-rows // step) * -(-columns // step) * per_cell
        for rows, columns in (_cells(level, width, height) for level in config.rpn_levels)
    ]
    return tuple(levels) if config.proposals_by_level else (sum(levels),)


@lru_cache(maxsize=32)
def anchors_in_pixels(
    config: ModelConfig, width: int, height: int, dtype: Literal["float32", "float64"] = "float32"
) -> np.ndarray:
    """The same anchors (A, 4) in pixels of the input, whatever the family."""
    return _boxes(config, width, height).astype(dtype)


def _boxes(config: ModelConfig, width: int, height: int) -> np.ndarray:
    """The anchors (A, 4) float64 in pixels."""
    place, step = 0.5 if config.family == "lite" else 0.0, config.rpn_stride
    levels = []
    for level, sizes in zip(config.rpn_levels, config.anchor_sizes, strict=True):
        rows, columns = _cells(level, width, height)
        stride = np.array([width // columns, height // rows] if config.whole_anchors else [2**level] * 2)
        shapes = np.array(
            [(s * np.sqrt(r), s / np.sqrt(r)) for s in sizes for r in config.anchor_ratios]
        )  # (a, 2) w, h
        y, x = np.meshgrid(np.arange(0, rows, step) + place, np.arange(0, columns, step) + place, indexing="ij")
        centres = np.stack([x, y], -1)[:, :, None] * stride  # (rows, columns, 1, 2)
        halves = np.round(shapes / 2) if config.whole_anchors else shapes / 2
        boxes = np.concatenate([centres - halves, centres + halves], -1)
        levels.append(boxes.reshape(-1, 4))
    return np.concatenate(levels)


def _cells(level: int, width: int, height: int) -> tuple[int, int]:
    """Rows and columns of a level's map."""
    stride = 2**level
    return -(-height // stride), -(-width // stride)
