"""Region proposal network: where there may be an object (Ren et al., 2015).

Legend: B pictures, L levels, a anchors at a location, A anchors in all, N proposals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from streamseg.config import ModelConfig
from streamseg.model import boxes
from streamseg.model.layers import MATTERPORT_START, XY_FROM_YX, Convolution

Tensor = Any


class ProposalNetwork(keras.layers.Layer):
    """Levels [(B, h, w, C)] → logits (B, A, 2) of (background, object) and deltas (B, A, 4), anchors in level order.

    num_layers: of 3×3, the first of which has the strides · original: its layers are called as in
    matterport/Mask_RCNN, and its weights hold dy, dx, log dh, log dw.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_anchors: int,
        num_layers: int = 1,
        strides: int = 1,
        original: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels, self.num_anchors, self.num_layers = channels, num_anchors, num_layers
        self.strides, self.original = strides, original

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
        self.deeper = [
            Convolution(self.channels, 3, activation="relu", kernel_initializer=kernel, name=f"{names[0]}{i}")
            for i in range(2, self.num_layers + 1)
        ]
        for convolution in self.deeper:
            convolution.build((None, None, None, self.channels))
        self.logits.build((None, None, None, self.channels))
        self.deltas.build((None, None, None, self.channels))

    def call(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, deltas = [], []
        for level in levels:
            shared = self.shared(level)
            for convolution in self.deeper:
                shared = convolution(shared)
            count = shared.shape[1] * shared.shape[2] * self.num_anchors
            logits.append(ops.reshape(self.logits(shared), (-1, count, 2)))  # (B, h·w·a, 2)
            deltas.append(ops.reshape(self.deltas(shared), (-1, count, 4)))  # (B, h·w·a, 4)
        all_deltas = ops.cast(ops.concatenate(deltas, 1), "float32")
        if self.original:
            all_deltas = ops.take(all_deltas, np.array(XY_FROM_YX), axis=-1)
        return ops.cast(ops.concatenate(logits, 1), "float32"), all_deltas


class Best(NamedTuple):
    """The anchors with the highest scores, best first, and what becomes of them.

    anchors, deltas (B, n, 4) · groups (B, n) int32: only anchors of one group compete as proposals; None: all do
    """

    anchors: Tensor
    deltas: Tensor
    groups: Tensor | None = None


def rank(logits: Tensor, config: ModelConfig, *, counts: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """The best anchors' scores (B, n), falling, and which they are (B, n) int32, from logits (B, A, 2).

    counts: how many anchors each group of `anchors.group_sizes` has; the best of each are taken. Equal scores: the
    lower index first. A score is the object's probability; only the matterport family computes it, the others leave
    the logits as they are, which gives the same order.
    """
    original = config.family == "matterport"
    scores = ops.softmax(logits)[..., 1] if original else logits[..., 1] - logits[..., 0]
    if len(counts) < 2:
        best, index = ops.top_k(scores, min(config.proposals_before_nms, scores.shape[1]))
        return best, index
    found = []
    for start, count in zip(np.cumsum((0, *counts)), counts, strict=False):
        best, index = ops.top_k(scores[:, start : start + count], min(config.proposals_before_nms, count))
        found.append((best, ops.cast(index, "int32") + int(start)))
    scores, index = (ops.concatenate(each, axis=1) for each in zip(*found, strict=True))
    best, order = ops.top_k(scores, scores.shape[1])
    return best, ops.take_along_axis(index, order, axis=1)


def group_of(index: Tensor, counts: Sequence[int]) -> Tensor | None:
    """The group (B, n) int32 of anchors by their index (B, n), when the groups have `counts` anchors each."""
    if len(counts) < 2:
        return None
    ends = np.cumsum(counts[:-1]).astype("int32")
    return ops.sum(ops.cast(ops.expand_dims(index, -1) >= ends, "int32"), axis=-1)


def best_anchors(
    logits: Tensor, deltas: Tensor, anchors: Tensor, config: ModelConfig, *, counts: Sequence[int] = ()
) -> Best:
    """The anchors (B, n, 4) with the highest scores, and their deltas (B, n, 4); counts as in `rank`."""
    index = rank(logits, config, counts=counts)[1]
    chosen = ops.take_along_axis(deltas, ops.expand_dims(index, -1), axis=1)
    return Best(ops.take(anchors, index, axis=0), chosen, group_of(index, counts))


def refine(
    anchors: Tensor,
    deltas: Tensor,
    config: ModelConfig,
    *,
    width: int,
    height: int,
    windows: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Anchors (B, n, 4) moved by their deltas (B, n, 4), and the same clipped to the input.

    windows (B, 4): the part of each input that is picture, which they are clipped to where the model has it so.
    """
    if config.family == "matterport":
        refined = boxes.apply_deltas(anchors, deltas, config.rpn_delta_std, max_log_scale=None)
        return refined, boxes.clip(refined, 1.0, 1.0)
    refined = boxes.apply_deltas(anchors, deltas, config.rpn_delta_std)
    if config.clip_to == "picture" and windows is not None:
        return refined, boxes.clip_to(refined, windows)
    return refined, boxes.clip(refined, float(width), float(height))


def suppress(
    clipped: Tensor, config: ModelConfig, nms: boxes.Suppression = boxes.nms_exact, *, groups: Tensor | None = None
) -> Tensor:
    """Which of the clipped anchors (B, n, 4), best first, become proposals: (B, n) bool.

    nms: the exact suppression of all families but the lite one · groups as in `Best`.
    """
    if config.family == "matterport":
        return nms(clipped, threshold=config.rpn_nms_threshold)
    sides = ops.minimum(clipped[..., 2] - clipped[..., 0], clipped[..., 3] - clipped[..., 1])
    big = sides >= config.smallest_proposal
    if config.family == "lite":
        return boxes.nms_keep(clipped, threshold=config.rpn_nms_threshold, rounds=config.nms_rounds, valid=big)
    return ops.logical_and(nms(clipped, threshold=config.rpn_nms_threshold, groups=groups), big)


def propose(
    best: Best,
    config: ModelConfig,
    *,
    width: int,
    height: int,
    windows: Tensor | None = None,
    nms: boxes.Suppression = boxes.nms_exact,
) -> tuple[Tensor, Tensor]:
    """Proposals from the best anchors, best first: boxes (B, N, 4), zeros at the end, and which are real (B, N) bool.

    windows as in `refine`, nms as in `suppress`.
    """
    clipped = refine(best.anchors, best.deltas, config, width=width, height=height, windows=windows)[1]
    keep = suppress(clipped, config, nms, groups=best.groups)
    return first_kept(clipped, keep, min(config.num_proposals, clipped.shape[1]))


def first_kept(values: Tensor, keep: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` kept rows of values (B, N, D), zeros after them, and which are real (B, count) bool."""
    total = keep.shape[1]
    order = ops.cast(keep, "float32") * ops.arange(total, 0, -1, dtype="float32")  # kept rows first, in order
    order, index = ops.top_k(order, count)
    real = order > 0.5
    rows = ops.take_along_axis(values, ops.expand_dims(index, -1), axis=1)
    return rows * ops.cast(ops.expand_dims(real, -1), rows.dtype), real
