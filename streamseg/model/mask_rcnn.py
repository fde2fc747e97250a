"""Mask R-CNN: find the objects of a picture, and the pixels of each (He et al., 2017).

Legend: B pictures, N proposals, D detections, K classes, M = 2 · mask_pool cells of a mask's side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
from keras import ops

from streamseg.config import ModelConfig
from streamseg.model import boxes
from streamseg.model.anchors import make_anchors
from streamseg.model.checkpoint import load_weights
from streamseg.model.efficientnet_lite import EfficientNetLite0
from streamseg.model.fpn import FeaturePyramid
from streamseg.model.heads import BoxHead, MaskHead
from streamseg.model.roi_align import roi_align
from streamseg.model.rpn import ProposalNetwork, best_anchors, first_kept, propose

Tensor = Any
Levels = dict[int, Tensor]

BACKBONES = {"efficientnet_lite0": EfficientNetLite0}


class MaskRCNN(keras.Model):
    """The network of one configuration, for inputs of any of its sizes.

    `call(images)`: (B, H, W, 3) RGB 0…255 → detections (B, D, 6) of x1, y1, x2, y2, score, class in pixels of the
    input, best first and zero rows at the end, and the pyramid levels that the heads pool from.
    `masks(levels, boxes, class_ids, picture_ids)` → (R, M, M) in [0, 1] for as many boxes as there are.
    """

    built: bool

    def __init__(
        self, config: ModelConfig, *, frozen_stages: int = 0, train_depthwise: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.config = config
        num_anchors = len(config.anchor_sizes[0]) * len(config.anchor_ratios)
        self.backbone = BACKBONES[config.backbone](
            frozen_stages=frozen_stages, train_depthwise=train_depthwise, name="backbone"
        )
        self.pyramid = FeaturePyramid(config.fpn_channels, smooth_levels=config.smooth_levels, name="pyramid")
        self.rpn = ProposalNetwork(config.rpn_channels, num_anchors=num_anchors, name="rpn")
        self.box_head = BoxHead(config.box_channels, num_classes=config.num_classes, name="box_head")
        self.mask_head = MaskHead(
            config.mask_channels, num_layers=config.mask_layers, num_classes=config.num_classes, name="mask_head"
        )

    def build(self, input_shape: Any = None) -> None:
        """Make all weights; they do not depend on the input's size."""
        if self.built:
            return
        config = self.config
        self.backbone.build((None, None, None, 3))
        channels = [self.backbone.stages[s][-1].channels for s in (1, 2, 4, 6)]
        self.pyramid.build([(None, None, None, c) for c in channels])
        self.rpn.build([(None, None, None, config.fpn_channels)])
        self.box_head.build((None, config.box_pool, config.box_pool, config.fpn_channels))
        self.mask_head.build((None, config.mask_pool, config.mask_pool, config.fpn_channels))
        self.built = True

    def features(self, images: Tensor) -> Levels:
        """The pyramid {2: P2, …, 6: P6} of images (B, H, W, 3)."""
        return self.pyramid(self.backbone(ops.cast(images, self.compute_dtype)))

    def call(self, images: Tensor) -> dict[str, Any]:
        height, width = images.shape[1:3]
        levels = self.features(images)
        logits, deltas = self.rpn([levels[i] for i in self.config.rpn_levels])
        anchors = ops.convert_to_tensor(make_anchors(self.config, width, height))
        best = best_anchors(logits, deltas, anchors, self.config)
        pooled = {i: levels[i] for i in self.config.roi_levels}
        return {"detections": self.heads(pooled, *best, width=width, height=height), "levels": pooled}

    def heads(self, levels: Levels, anchors: Tensor, deltas: Tensor, *, width: int, height: int) -> Tensor:
        """Detections (B, D, 6) from the best anchors (B, n, 4) with their deltas (B, n, 4)."""
        proposals, real = propose(anchors, deltas, self.config, width=width, height=height)
        class_logits, box_deltas = self.box_head(self.pool(levels, proposals, self.config.box_pool))
        return self.detect(proposals, real, class_logits, box_deltas, width=width, height=height)

    def pool(self, levels: Levels, rois: Tensor, size: int) -> Tensor:
        """ROIAlign of rois (B, N, 4): (B·N, size, size, C)."""
        batch, count = ops.shape(rois)[0], rois.shape[1]
        picture_ids = ops.repeat(ops.arange(batch, dtype="int32"), count)
        return roi_align(levels, ops.reshape(rois, (-1, 4)), picture_ids, size=size)

    def detect(
        self, proposals: Tensor, real: Tensor, logits: Tensor, deltas: Tensor, *, width: int, height: int
    ) -> Tensor:
        """Detections (B, D, 6) from the box head's word on proposals (B, N, 4): each proposal in its best class."""
        config = self.config
        count, num_classes = proposals.shape[1], config.num_classes
        probabilities = ops.reshape(ops.softmax(logits), (-1, count, num_classes))[..., 1:]  # (B, N, K-1)
        scores, class_ids = (ops.squeeze(best, -1) for best in ops.top_k(probabilities, 1))  # (B, N)
        class_ids = class_ids + 1
        chosen = ops.one_hot(class_ids, num_classes, dtype="float32")
        deltas = ops.sum(ops.reshape(deltas, (-1, count, num_classes, 4)) * ops.expand_dims(chosen, -1), axis=2)
        refined = boxes.clip(boxes.apply_deltas(proposals, deltas, config.delta_std), float(width), float(height))
        real = ops.logical_and(real, scores >= config.detection_min_score)
        real = ops.logical_and(real, ops.min(refined[..., 2:] - refined[..., :2], axis=-1) >= 0.5)
        order = ops.where(real, scores, ops.zeros_like(scores))
        order, index = ops.top_k(order, count)
        rows = ops.concatenate(
            [refined, ops.expand_dims(scores, -1), ops.expand_dims(ops.cast(class_ids, "float32"), -1)], axis=-1
        )
        rows = ops.take_along_axis(rows, ops.expand_dims(index, -1), axis=1)  # (B, N, 6) best first
        # boxes of different classes are moved apart, so that one suppression serves all classes
        apart = rows[..., :4] + rows[..., 5:] * (2.0 * max(width, height))
        keep = boxes.nms_keep(
            apart, threshold=config.detection_nms_threshold, rounds=config.nms_rounds, valid=order > 0.0
        )
        return first_kept(rows, keep, min(config.max_detections, count))[0]

    def mask_logits(self, crops: Tensor, class_ids: Tensor) -> Tensor:
        """Mask logits (R, M, M) of pooled features (R, n, n, C) for the classes (R,) int32."""
        logits = self.mask_head(crops)
        chosen = ops.one_hot(class_ids, self.config.num_classes, dtype="float32")[:, None, None]
        return ops.sum(logits * chosen, axis=-1)

    def crops(self, levels: Levels, rois: Tensor, picture_ids: Tensor) -> Tensor:
        """What the mask head sees of boxes (R, 4) in pictures (R,): (R, n, n, C)."""
        return roi_align(levels, rois, picture_ids, size=self.config.mask_pool)

    def masks(self, levels: Levels, rois: Tensor, class_ids: Tensor, picture_ids: Tensor) -> Tensor:
        """Masks (R, M, M) in [0, 1] of boxes (R, 4) of classes (R,) in pictures (R,)."""
        return ops.sigmoid(self.mask_logits(self.crops(levels, rois, picture_ids), class_ids))


def load_network(config: ModelConfig, weights: Path) -> MaskRCNN:
    """A network ready to predict, filled from a weights file. Raises ModelError when the weights are not its own."""
    network = MaskRCNN(config, name="network")
    network.build()
    load_weights(network, weights)
    network.trainable = False
    return network
