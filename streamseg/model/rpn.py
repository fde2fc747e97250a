"""Region proposal network: where there may be an object (Ren et al., 2015).

Legend: B pictures, L levels, a anchors at a location, A anchors in all, N proposals.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from streamseg.config import ModelConfig
from streamseg.model import boxes
from streamseg.model.layers import MATTERPORT_START, XY_FROM_YX, Convolution

Tensor = Any


class ProposalNetwork(keras.layers.Layer):
    """Levels [(B, h, w, C)] → logits (B, A, 2) of (background, object) and deltas (B, A, 4), anchors in level order.

    original: its layers are called as in matterport/Mask_RCNN, and its weights hold dy, dx, log dh, log dw.
    """

    def __init__(
        self, channels: int, *, num_anchors: int, strides: int = 1, original: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.channels, self.num_anchors, self.strides, self.original = channels, num_anchors, strides, original

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        kernel, last = (
            (MATTERPORT_START, MATTERPORT_START)
            if self.original
            else ("he_normal", keras.initializers.RandomNormal(stddev=0.01))
        )
        names = (
            ("rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred") if self.original else ("shared", "logits", "deltas")
        )
        self.shared = Convolution(
            self.channels, 3, strides=self.strides, activation="relu", kernel_initializer=kernel, name=names[0]
        )
        self.logits = Convolution(2 * self.num_anchors, 1, kernel_initializer=last, name=names[1])
        self.deltas = Convolution(4 * self.num_anchors, 1, kernel_initializer=last, name=names[2])
        self.shared.build(input_shape[0])
        self.logits.build((None, None, None, self.channels))
        self.deltas.build((None, None, None, self.channels))

    def call(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, deltas = [], []
        for level in levels:
            shared = self.shared(level)
            count = shared.shape[1] * shared.shape[2] * self.num_anchors
            logits.append(ops.reshape(self.logits(shared), (-1, count, 2)))  # (B, h·w·a, 2)
            deltas.append(ops.reshape(self.deltas(shared), (-1, count, 4)))  # (B, h·w·a, 4)
        all_deltas = ops.cast(ops.concatenate(deltas, 1), "float32")
        if self.original:
            all_deltas = ops.take(all_deltas, np.array(XY_FROM_YX), axis=-1)
        return ops.cast(ops.concatenate(logits, 1), "float32"), all_deltas


def rank(logits: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """The best anchors' scores (B, n), falling, and which they are (B, n) int32, from logits (B, A, 2).

    Equal scores: the lower index first. A score is the object's probability; the lite family leaves the logits as they
    are, which gives the same order.
    """
    lite = config.family == "lite"
    scores = logits[..., 1] - logits[..., 0] if lite else ops.softmax(logits)[..., 1]
    best, index = ops.top_k(scores, min(config.proposals_before_nms, scores.shape[1]))
    return best, index


def best_anchors(logits: Tensor, deltas: Tensor, anchors: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """The anchors (B, n, 4) with the highest scores, best first, and their deltas (B, n, 4)."""
    index = rank(logits, config)[1]
    return ops.take(anchors, index, axis=0), ops.take_along_axis(deltas, ops.expand_dims(index, -1), axis=1)


def refine(anchors: Tensor, deltas: Tensor, config: ModelConfig, *, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Anchors (B, n, 4) moved by their deltas (B, n, 4), and the same clipped to the picture."""
    if config.family == "matterport":
        refined = boxes.apply_deltas(anchors, deltas, config.rpn_delta_std, max_log_scale=None)
        return refined, boxes.clip(refined, 1.0, 1.0)
    refined = boxes.apply_deltas(anchors, deltas, config.rpn_delta_std)
    return refined, boxes.clip(refined, float(width), float(height))


def suppress(clipped: Tensor, config: ModelConfig, nms: boxes.Suppression = boxes.nms_exact) -> Tensor:
    """Which of the clipped anchors (B, n, 4), best first, become proposals: (B, n) bool.

    nms: the exact suppression of the matterport family.
    """
    if config.family == "matterport":
        return nms(clipped, threshold=config.rpn_nms_threshold)
    big = ops.minimum(clipped[..., 2] - clipped[..., 0], clipped[..., 3] - clipped[..., 1]) >= 1.0
    return boxes.nms_keep(clipped, threshold=config.rpn_nms_threshold, rounds=config.nms_rounds, valid=big)


def propose(
    anchors: Tensor,
    deltas: Tensor,
    config: ModelConfig,
    *,
    width: int,
    height: int,
    nms: boxes.Suppression = boxes.nms_exact,
) -> tuple[Tensor, Tensor]:
    """Proposals from the best anchors (B, n, 4) and their deltas (B, n, 4), best first; nms as in `suppress`.

    Boxes (B, N, 4), zeros at the end, and which are real (B, N) bool.
    """
    clipped = refine(anchors, deltas, config, width=width, height=height)[1]
    return first_kept(clipped, suppress(clipped, config, nms), min(config.num_proposals, clipped.shape[1]))


def first_kept(values: Tensor, keep: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` kept rows of values (B, N, D), zeros after them, and which are real (B, count) bool."""
    total = keep.shape[1]
    order = ops.cast(keep, "float32") * ops.arange(total, 0, -1, dtype="float32")  # kept rows first, in order
    order, index = ops.top_k(order, count)
    real = order > 0.5
    rows = ops.take_along_axis(values, ops.expand_dims(index, -1), axis=1)
    return rows * ops.cast(ops.expand_dims(real, -1), rows.dtype), real
