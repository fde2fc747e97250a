"""Region proposal network: where there may be an object (Ren et al., 2015).

Legend: B pictures, L levels, a anchors at a location, A anchors in all, N proposals.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from streamseg.config import ModelConfig
from streamseg.model import boxes
from streamseg.model.layers import Convolution

Tensor = Any


class ProposalNetwork(keras.layers.Layer):
    """Levels [(B, h, w, C)] → logits (B, A, 2) of (background, object) and deltas (B, A, 4), anchors in level order."""

    def __init__(self, channels: int, *, num_anchors: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels, self.num_anchors = channels, num_anchors

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        small = keras.initializers.RandomNormal(stddev=0.01)
        self.shared = Convolution(self.channels, 3, activation="relu", name="shared")
        self.logits = Convolution(2 * self.num_anchors, 1, kernel_initializer=small, name="logits")
        self.deltas = Convolution(4 * self.num_anchors, 1, kernel_initializer=small, name="deltas")
        self.shared.build(input_shape[0])
        self.logits.build((None, None, None, self.channels))
        self.deltas.build((None, None, None, self.channels))

    def call(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, deltas = [], []
        for level in levels:
            shared = self.shared(level)
            count = level.shape[1] * level.shape[2] * self.num_anchors
            logits.append(ops.reshape(self.logits(shared), (-1, count, 2)))  # (B, h·w·a, 2)
            deltas.append(ops.reshape(self.deltas(shared), (-1, count, 4)))  # (B, h·w·a, 4)
        return ops.cast(ops.concatenate(logits, 1), "float32"), ops.cast(ops.concatenate(deltas, 1), "float32")


def best_anchors(logits: Tensor, deltas: Tensor, anchors: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """The anchors (B, n, 4) with the highest scores, best first, and their deltas (B, n, 4)."""
    scores = logits[..., 1] - logits[..., 0]  # (B, A): the order of the object probability
    index = ops.top_k(scores, min(config.proposals_before_nms, scores.shape[1]))[1]  # (B, n)
    return ops.take(anchors, index, axis=0), ops.take_along_axis(deltas, ops.expand_dims(index, -1), axis=1)


def propose(anchors: Tensor, deltas: Tensor, config: ModelConfig, *, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Proposals from the best anchors (B, n, 4) and their deltas (B, n, 4), best first.

    Boxes (B, N, 4), zeros at the end, and which are real (B, N) bool.
    """
    moved = boxes.clip(boxes.apply_deltas(anchors, deltas, config.delta_std), float(width), float(height))
    big = ops.minimum(moved[..., 2] - moved[..., 0], moved[..., 3] - moved[..., 1]) >= 1.0
    keep = boxes.nms_keep(moved, threshold=config.rpn_nms_threshold, rounds=config.nms_rounds, valid=big)
    return first_kept(moved, keep, min(config.num_proposals, anchors.shape[1]))


def first_kept(values: Tensor, keep: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` kept rows of values (B, N, D), zeros after them, and which are real (B, count) bool."""
    total = keep.shape[1]
    order = ops.cast(keep, "float32") * ops.arange(total, 0, -1, dtype="float32")  # kept rows first, in order
    order, index = ops.top_k(order, count)
    real = order > 0.5
    rows = ops.take_along_axis(values, ops.expand_dims(index, -1), axis=1)
    return rows * ops.cast(ops.expand_dims(real, -1), rows.dtype), real
