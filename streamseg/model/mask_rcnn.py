"""Mask R-CNN: find the objects of a picture, and the pixels of each (He et al., 2017).

Legend: B pictures, A anchors, n best anchors, N proposals, D detections, K classes, M = 2 · mask_pool cells of a mask's
side. Boxes are xyxy: in pixels of the input in the lite and torchvision families, normalised in the matterport family
(`streamseg.letterbox.normalised`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from streamseg.config import FITTED_SCORE, LEAST_SAY, MASK_END, MASK_REACH, ModelConfig
from streamseg.model import boxes
from streamseg.model.anchors import group_sizes, make_anchors
from streamseg.model.checkpoint import load_weights
from streamseg.model.efficientnet_lite import EfficientNetLite
from streamseg.model.fpn import FeaturePyramid
from streamseg.model.heads import BoxHead, MaskHead, MatterportBoxHead
from streamseg.model.layers import to_be_filled
from streamseg.model.matterport_h5 import is_matterport, load_matterport
from streamseg.model.resnet import ResNet
from streamseg.model.roi_align import crop_and_resize, roi_align
from streamseg.model.rpn import (
    Best,
    ProposalNetwork,
    best_anchors,
    first_kept,
    group_of,
    propose,
    rank,
    refine,
    suppress,
)
from streamseg.model.torch_files import is_torch_file
from streamseg.model.torchvision_weights import load_torchvision

Tensor = Any
Levels = dict[int, Tensor]

MOST_CANDIDATES = 4
"""Where all classes of a proposal count: the best so many times as many as there are proposals enter suppression."""


class MaskRCNN(keras.Model):
    """The network of one configuration, for inputs of any of its sizes.

    `call(images)`: (B, H, W, 3) RGB 0…255 → detections (B, D, 6) of x1, y1, x2, y2, score, class, best first and zero
    rows at the end, and the pyramid levels that the heads pool from. `windows` as in `detect`.
    `masks(levels, boxes, class_ids, picture_ids)` → (R, M, M) in [0, 1] for as many boxes as there are.
    `explain(images)` → what every step says.
    """

    built: bool

    def __init__(
        self,
        config: ModelConfig,
        *,
        frozen_stages: int = 0,
        train_depthwise: bool = True,
        trains_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.original = config.family == "matterport"
        self.nms: boxes.Suppression = boxes.nms_exact  # of proposals; an export has another way
        num_anchors = len(config.anchor_sizes[0]) * len(config.anchor_ratios)
        norms: dict[str, Any] = {"norm": config.head_norms, "trains_norm": trains_norm}
        self.backbone: Any
        self.box_head: Any
        if config.backbone.startswith("resnet"):
            self.backbone = ResNet(
                config.backbone,
                trains_norm=trains_norm,
                stride_at=config.block_stride,
                even_pool=not self.original,
                name="backbone",
            )
        else:
            self.backbone = EfficientNetLite(
                config.backbone, frozen_stages=frozen_stages, train_depthwise=train_depthwise, name="backbone"
            )
        if self.original:
            self.box_head = MatterportBoxHead(
                config.box_channels, num_classes=config.num_classes, trains_norm=trains_norm, name="box_head"
            )
        else:
            self.box_head = BoxHead(
                config.box_channels,
                num_classes=config.num_classes,
                num_convolutions=config.box_convolutions,
                num_layers=config.box_layers,
                **norms,
                name="box_head",
            )
        self.pyramid = FeaturePyramid(
            config.fpn_channels, smooth_levels=config.smooth_levels, original=self.original, **norms, name="pyramid"
        )
        self.rpn = ProposalNetwork(
            config.rpn_channels,
            num_anchors=num_anchors,
            num_layers=config.rpn_layers,
            strides=config.rpn_stride,
            original=self.original,
            name="rpn",
        )
        self.mask_head = MaskHead(
            config.mask_channels,
            num_layers=config.mask_layers,
            num_classes=config.num_classes,
            original=self.original,
            **norms | ({"norm": True} if self.original else {}),
            name="mask_head",
        )

    def build(self, input_shape: Any = None) -> None:
        """Make all weights; they do not depend on the input's size."""
        if self.built:
            return
        config = self.config
        self.backbone.build((None, None, None, 3))
        self.pyramid.build([(None, None, None, channels) for channels in self.backbone.channels])
        self.rpn.build([(None, None, None, config.fpn_channels)])
        self.box_head.build((None, config.box_pool, config.box_pool, config.fpn_channels))
        self.mask_head.build((None, config.mask_pool, config.mask_pool, config.fpn_channels))
        self.built = True

    def molded(self, images: Tensor) -> Tensor:
        """Images (B, H, W, 3) RGB 0…255 as the backbone takes them."""
        if self.config.family != "lite":
            images = ops.cast(images, "float32") - ops.convert_to_tensor(np.array(self.config.mean_pixel, "float32"))
        return ops.cast(images, self.compute_dtype)

    def features(self, images: Tensor, training: bool = False) -> Levels:
        """The pyramid {2: P2, …, 6: P6} of images (B, H, W, 3)."""
        levels: Levels = self.pyramid(self.backbone(self.molded(images), training=training), training=training)
        return levels

    def call(self, images: Tensor, windows: Tensor | None = None) -> dict[str, Any]:
        height, width = images.shape[1:3]
        levels = self.features(images)
        logits, deltas = self.rpn([levels[i] for i in self.config.rpn_levels])
        anchors = ops.convert_to_tensor(make_anchors(self.config, width, height))
        counts = group_sizes(self.config, width, height)
        best = best_anchors(logits, deltas, anchors, self.config, counts=counts)
        pooled = {i: levels[i] for i in self.config.roi_levels}
        found = self.heads(pooled, best, width=width, height=height, windows=windows)
        return {"detections": found, "levels": pooled}

    def heads(
        self,
        levels: Levels,
        best: Best,
        *,
        width: int,
        height: int,
        windows: Tensor | None = None,
    ) -> Tensor:
        """Detections (B, D, 6) from the best anchors; windows as in `detect`."""
        limits: dict[str, Any] = {"width": width, "height": height, "windows": windows}
        proposals, real = propose(best, self.config, **limits, nms=self.nms)
        pooled = self.pool(levels, proposals, self.config.box_pool)
        class_logits, box_deltas = self.box_head(pooled)
        return self.detect(proposals, real, class_logits, box_deltas, **limits)

    def pool(self, levels: Levels, rois: Tensor, size: int) -> Tensor:
        """ROIAlign of rois (B, N, 4): (B·N, size, size, C)."""
        batch, count = ops.shape(rois)[0], rois.shape[1]
        picture_ids = ops.repeat(ops.arange(batch, dtype="int32"), count)
        return self.align(levels, ops.reshape(rois, (-1, 4)), picture_ids, size=size)

    def align(self, levels: Levels, rois: Tensor, picture_ids: Tensor, *, size: int) -> Tensor:
        """ROIAlign of boxes (R, 4) in pictures (R,): (R, size, size, C)."""
        if self.original:
            height, width = _input_size(levels)
            return crop_and_resize(levels, rois, picture_ids, size=size, width=width, height=height)
        config = self.config
        return roi_align(levels, rois, picture_ids, size=size, sampling=config.roi_sampling, aligned=config.roi_aligned)

    def detect(
        self,
        proposals: Tensor,
        real: Tensor,
        logits: Tensor,
        deltas: Tensor,
        *,
        width: int,
        height: int,
        windows: Tensor | None = None,
    ) -> Tensor:
        """Detections (B, D, 6) from the box head's word on proposals (B, N, 4): each in its best class, or in all.

        windows (B, 4): the part of each input that is picture, which boxes are clipped to (not in the lite family).
        """
        return self.judge(proposals, real, logits, deltas, width=width, height=height, windows=windows)["detections"]

    def judge(
        self,
        proposals: Tensor,
        real: Tensor,
        logits: Tensor,
        deltas: Tensor,
        *,
        width: int,
        height: int,
        windows: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """`detect` with its steps: class_ids, scores (B, N) and refined (B, N, 4) of every proposal in its best class,
        and which are firm (B, N) bool; order (B, M) int32, the proposals of all that could be detections, best first,
        and which of these are kept (B, M) bool; source (B, D) int32, the proposal of each detection."""
        config = self.config
        count, num_classes = proposals.shape[1], config.num_classes
        probabilities = ops.reshape(ops.softmax(logits), (-1, count, num_classes))
        deltas = ops.reshape(deltas, (-1, count, num_classes, 4))
        scores, class_ids = self._best_class(probabilities)  # (B, N)
        chosen = ops.expand_dims(ops.one_hot(class_ids, num_classes, dtype="float32"), -1)
        limits: dict[str, Any] = {"width": width, "height": height, "windows": windows}
        refined = self._refined(proposals, ops.sum(deltas * chosen, axis=2), **limits)
        firm = self._firm(refined, scores, class_ids, real)
        best = {"class_ids": class_ids, "scores": scores, "refined": refined, "firm": firm}
        if config.all_classes:
            of_each, real = (ops.repeat(each, num_classes - 1, axis=1) for each in (proposals, real))
            refined = self._refined(of_each, ops.reshape(deltas[:, :, 1:], (-1, *of_each.shape[1:])), **limits)
            scores = ops.reshape(probabilities[..., 1:], (-1, refined.shape[1]))
            class_ids = ops.tile(ops.arange(1, num_classes, dtype="int32")[None], (1, count))
            class_ids = ops.broadcast_to(class_ids, ops.shape(scores))
            firm = self._firm(refined, scores, class_ids, real)
        most = min(count * MOST_CANDIDATES, scores.shape[1]) if config.all_classes else count
        rows, valid, order = _best_first(refined, scores, class_ids, firm, most=most)
        order = order // (num_classes - 1) if config.all_classes else order
        keep = self._suppress_by_class(rows, valid, width=width, height=height)
        rows = ops.concatenate([rows, ops.expand_dims(ops.cast(order, "float32"), -1)], axis=-1)
        found, there = first_kept(rows, keep, min(config.max_detections, rows.shape[1]))
        source = ops.where(there, ops.cast(found[..., 6], "int32"), -1)
        if config.box_voting < 1:
            found = _voted(found, rows, valid, threshold=config.box_voting)
        return best | {
            "order": order,
            "kept": keep,
            "detections": found[..., :6],
            "source": source,
        }

    def _refined(self, proposals: Tensor, deltas: Tensor, *, width: int, height: int, windows: Tensor | None) -> Tensor:
        """Proposals (B, N, 4) moved by deltas (B, N, 4) and clipped."""
        config = self.config
        most = {"max_log_scale": None} if self.original else {}
        refined = boxes.apply_deltas(proposals, deltas, config.delta_std, **most)
        if windows is not None and (self.original or config.clip_to == "picture"):
            return boxes.clip_to(refined, windows)
        return boxes.clip(refined, *((1.0, 1.0) if self.original else (float(width), float(height))))

    def _firm(self, refined: Tensor, scores: Tensor, class_ids: Tensor, real: Tensor) -> Tensor:
        """Which boxes (B, N, 4) with scores, classes and real proposals (B, N) may be detections: (B, N) bool."""
        firm = scores >= self.config.detection_min_score
        if self.original:
            return ops.logical_and(class_ids > 0, firm)
        sides = ops.min(refined[..., 2:] - refined[..., :2], axis=-1)
        return ops.logical_and(ops.logical_and(real, firm), sides >= self.config.smallest_detection)

    def _best_class(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Score and class (B, N) of probabilities (B, N, K): the background counts only in the matterport family."""
        if self.original:
            scores, class_ids = ops.top_k(probabilities, 1)
            return ops.squeeze(scores, -1), ops.cast(ops.squeeze(class_ids, -1), "int32")
        scores, class_ids = (ops.squeeze(best, -1) for best in ops.top_k(probabilities[..., 1:], 1))
        return scores, class_ids + 1

    def _suppress_by_class(self, rows: Tensor, valid: Tensor, *, width: int, height: int) -> Tensor:
        """Which rows (B, N, 6) stay beside the better ones of their class: (B, N) bool."""
        config = self.config
        if config.family != "lite":
            options: dict[str, Any] = {"threshold": config.detection_nms_threshold, "groups": rows[..., 5]}
            tile = max(256, rows.shape[1] // 4)  # each is a loop, which an export takes its time to convert
            return ops.logical_and(valid, boxes.nms_exact(rows[..., :4], valid=valid, tile=tile, **options))
        # boxes of different classes are moved apart, so that one suppression serves all classes
        apart = rows[..., :4] + rows[..., 5:] * (2.0 * max(width, height))
        return boxes.nms_keep(apart, threshold=config.detection_nms_threshold, rounds=config.nms_rounds, valid=valid)

    def mask_logits(self, crops: Tensor, class_ids: Tensor, training: bool = False) -> Tensor:
        """Mask logits (R, M, M) of pooled features (R, n, n, C) for the classes (R,) int32."""
        logits = self.mask_head(crops, training=training)
        chosen = ops.one_hot(class_ids, self.config.num_classes, dtype="float32")[:, None, None]
        return ops.sum(logits * chosen, axis=-1)

    def crops(self, levels: Levels, rois: Tensor, picture_ids: Tensor) -> Tensor:
        """What the mask head sees of boxes (R, 4) in pictures (R,): (R, n, n, C)."""
        return self.align(levels, rois, picture_ids, size=self.config.mask_pool)

    def masks(self, levels: Levels, rois: Tensor, class_ids: Tensor, picture_ids: Tensor) -> Tensor:
        """Masks (R, M, M) in [0, 1] of boxes (R, 4) of classes (R,) in pictures (R,)."""
        return ops.sigmoid(self.mask_logits(self.crops(levels, rois, picture_ids), class_ids))

    def draw(self, levels: Levels, found: Tensor, picture_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (R, 4) and masks (R, M, M) in [0, 1] of detections (R, 6) in pictures (R,): as `masks`, in boxes that
        are fitted first, where the configuration says so."""
        rois = self._fitted(levels, found, picture_ids) if self.config.box_fitting > 0 else found[:, :4]
        return rois, self.masks(levels, rois, ops.cast(found[:, 5], "int32"), picture_ids)

    def _all_fitted(self, levels: Levels, found: Tensor) -> Tensor:
        """The fitted boxes (B, D, 4) of detections (B, D, 6)."""
        picture_ids = ops.repeat(ops.arange(ops.shape(found)[0], dtype="int32"), found.shape[1])
        rois = self._fitted(levels, ops.reshape(found, (-1, 6)), picture_ids)
        return ops.reshape(rois, (-1, found.shape[1], 4))

    def _fitted(self, levels: Levels, found: Tensor, picture_ids: Tensor) -> Tensor:
        """Boxes (R, 4) of detections (R, 6) in pictures (R,), `box_fitting` of the way to where their masks end, drawn
        in the grown boxes; weak ones stay."""
        rois, scores, class_ids = found[:, :4], found[:, 4], ops.cast(found[:, 5], "int32")
        config, larger = self.config, _grown(rois)
        masks = self.masks(levels, larger, class_ids, picture_ids)
        ends = [_end(profile[:, ::step]) for step in (1, -1) for profile in (ops.max(masks, 1), ops.max(masks, 2))]
        shares = ops.stack([ends[0], ends[1], 1.0 - ends[2], 1.0 - ends[3]], axis=1)
        start, side = larger[:, :2], larger[:, 2:] - larger[:, :2]
        reached = ops.concatenate([start, start], axis=1) + shares * ops.concatenate([side, side], axis=1)
        height, width = _input_size(levels)
        moved = boxes.clip(rois + config.box_fitting * (reached - rois), float(width), float(height))
        large = ops.min(moved[:, 2:] - moved[:, :2], axis=1) >= config.smallest_detection
        moves = ops.logical_and(large, ops.max(masks, axis=(1, 2)) >= MASK_END)
        moves = ops.logical_and(moves, scores >= FITTED_SCORE)
        return ops.where(ops.expand_dims(moves, -1), moved, rois)

    def explain(self, images: Tensor, windows: Tensor | None = None) -> dict[str, Tensor]:
        """What every step says of images (B, H, W, 3), under the names that the original's notebooks use.

        windows (B, 4): the part of each input that is picture; all of it by default.
        anchors (A, 4) · rpn_logits, rpn_class (B, A, 2), rpn_bbox (B, A, 4) · pre_nms_anchor_ix (B, n) int32,
        pre_nms_anchors, refined_anchors, refined_anchors_clipped (B, n, 4), pre_nms_scores (B, n), post_nms_keep (B, n)
        bool · proposals (B, N, 4) · pooled (B, N, p, p, C), class_logits, probs (B, N, K), deltas (B, N, K, 4) · the
        steps of `judge` · detections (B, D, 6), fitted (B, D, 4) their boxes as the masks have moved them,
        mask_pooled (B, D, q, q, C), masks (B, D, M, M, K), zeros where there is no
        detection · C1 … C5 where the backbone has them, P2 … P6.
        """
        config = self.config
        height, width = images.shape[1:3]
        count, num_classes, side = config.num_proposals, config.num_classes, 2 * config.mask_pool
        molded = self.molded(images)
        named = dict(enumerate(self.backbone.walk(molded), 1)) if isinstance(self.backbone, ResNet) else {}
        levels = self.pyramid([named[i] for i in (2, 3, 4, 5)] if named else self.backbone(molded))
        logits, rpn_deltas = self.rpn([levels[i] for i in config.rpn_levels])
        anchors = ops.convert_to_tensor(make_anchors(config, width, height))
        counts = group_sizes(config, width, height)
        scores, index = rank(logits, config, counts=counts)
        best = ops.take(anchors, index, axis=0)
        best_deltas = ops.take_along_axis(rpn_deltas, ops.expand_dims(index, -1), axis=1)
        refined, clipped = refine(best, best_deltas, config, width=width, height=height, windows=windows)
        keep = suppress(clipped, config, groups=group_of(index, counts))
        proposals, real = first_kept(clipped, keep, min(count, clipped.shape[1]))
        count = proposals.shape[1]
        roi_levels = {i: levels[i] for i in config.roi_levels}
        pooled = self.pool(roi_levels, proposals, config.box_pool)
        class_logits, deltas = self.box_head(pooled)
        steps = self.judge(proposals, real, class_logits, deltas, width=width, height=height, windows=windows)
        found = steps["detections"]
        rois = self._all_fitted(roi_levels, found) if config.box_fitting > 0 else found[..., :4]
        mask_pooled = self.pool(roi_levels, rois, config.mask_pool)
        there = ops.cast(found[..., 4] > 0, "float32")[:, :, None, None, None]
        masks = ops.reshape(ops.sigmoid(self.mask_head(mask_pooled)), (-1, found.shape[1], side, side, num_classes))
        return {
            **{f"C{i}": value for i, value in named.items()},
            **{f"P{i}": value for i, value in levels.items()},
            "anchors": anchors,
            "rpn_logits": logits,
            "rpn_class": ops.softmax(logits),
            "rpn_bbox": rpn_deltas,
            "pre_nms_anchor_ix": index,
            "pre_nms_scores": scores,
            "pre_nms_anchors": best,
            "refined_anchors": refined,
            "refined_anchors_clipped": clipped,
            "post_nms_keep": keep,
            "proposals": proposals,
            "real": real,
            "pooled": ops.reshape(pooled, (-1, count, *pooled.shape[1:])),
            "class_logits": ops.reshape(class_logits, (-1, count, num_classes)),
            "probs": ops.reshape(ops.softmax(class_logits), (-1, count, num_classes)),
            "deltas": ops.reshape(deltas, (-1, count, num_classes, 4)),
            **steps,
            "fitted": rois,
            "mask_pooled": ops.reshape(mask_pooled, (-1, found.shape[1], *mask_pooled.shape[1:])),
            "masks": masks * there,
        }


def _best_first(
    refined: Tensor, scores: Tensor, class_ids: Tensor, firm: Tensor, *, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best candidates: rows (B, M, 6) of x1, y1, x2, y2, score, class, best first, which are firm (B, M) bool, and
    which of all they are (B, M) int32; refined (B, N, 4), the others (B, N)."""
    # a firm score of exactly 0 still stands before what is not firm
    ranked = ops.where(firm, scores, ops.full_like(scores, -1.0))
    order, index = ops.top_k(ranked, most)
    rows = ops.concatenate(
        [refined, ops.expand_dims(scores, -1), ops.expand_dims(ops.cast(class_ids, "float32"), -1)], axis=-1
    )
    rows = ops.take_along_axis(rows, ops.expand_dims(index, -1), axis=1)
    return rows, order >= 0.0, index


def _voted(found: Tensor, rows: Tensor, valid: Tensor, *, threshold: float) -> Tensor:
    """Detections found (B, D, n) with the mean boxes by score of those among the candidates (B, M, n), valid (B, M),
    that are of their class and overlap them by `threshold` of IoU; columns: box, score, class, further ones."""
    like = boxes.iou(found[..., :4], rows[..., :4]) >= threshold
    same = ops.expand_dims(found[..., 5], -1) == ops.expand_dims(rows[..., 5], -2)
    like = ops.logical_and(ops.logical_and(like, same), ops.expand_dims(valid, -2))
    say = ops.expand_dims(ops.maximum(rows[..., 4], LEAST_SAY), -2)
    weights = ops.where(like, say, ops.zeros_like(say))
    total = ops.sum(weights, axis=-1, keepdims=True)
    mean = ops.matmul(weights, rows[..., :4]) / ops.maximum(total, LEAST_SAY)
    return ops.concatenate([ops.where(total > 0.0, mean, found[..., :4]), found[..., 4:]], axis=-1)


def _input_size(levels: Levels) -> tuple[int, int]:
    """Height and width in pixels of the input that levels of the pyramid were made of."""
    finest = min(levels)
    height, width = (side << finest for side in levels[finest].shape[1:3])
    return height, width


def _grown(rois: Tensor) -> Tensor:
    """Boxes (R, 4) about the same middles, MASK_REACH times as wide and high."""
    more = (rois[:, 2:] - rois[:, :2]) * ((MASK_REACH - 1) / 2)
    return ops.concatenate([rois[:, :2] - more, rois[:, 2:] + more], axis=1)


def _end(profile: Tensor) -> Tensor:
    """Where along profiles (R, M) of masks a value first comes to MASK_END, between cells' middles, (R,) of 1."""
    first = ops.argmax(ops.cast(profile >= MASK_END, "int32"), axis=1)
    at = ops.expand_dims(first, 1)
    here, before = (
        ops.take_along_axis(values, at, axis=1)[:, 0] for values in (profile, ops.pad(profile, ((0, 0), (1, 0))))
    )
    # where nothing comes to it, the answer is not used
    back = (here - MASK_END) / ops.maximum(here - before, 1e-6)
    return (ops.cast(first, "float32") + 0.5 - back) / float(profile.shape[1])


def load_network(config: ModelConfig, weights: Path, *, precision: str | None = None) -> MaskRCNN:
    """A network ready to predict, filled from a weights file of ours or of a family's original.

    precision: the name of Keras' dtype policy that it computes in; None: the one that is set.
    Raises ModelError when the weights are not its own.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision or policy)
    try:
        network = MaskRCNN(config, name="network")
        with to_be_filled():
            network.build()
        if is_torch_file(weights):
            load_torchvision(network, weights)
        elif is_matterport(weights):
            load_matterport(network, weights)
        else:
            load_weights(network, weights)
    finally:
        keras.config.set_dtype_policy(policy)
    network.trainable = False
    return network
