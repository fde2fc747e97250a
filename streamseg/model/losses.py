"""The five losses of Mask R-CNN, and the network that is trained by them.

Legend: B pictures, A anchors, S sampled proposals, R sampled masks, G true boxes, K classes, M mask side.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from streamseg.config import TrainingConfig
from streamseg.model import boxes as box_ops
from streamseg.model.anchors import make_anchors
from streamseg.model.mask_rcnn import MaskRCNN
from streamseg.model.rpn import best_anchors, propose
from streamseg.model.targets import anchor_targets, mask_targets, roi_targets

Tensor = Any

LOSSES = ("rpn_class", "rpn_box", "class", "box", "mask")


def smooth_l1(difference: Tensor) -> Tensor:
    """½d² where |d| < 1, else |d| − ½, elementwise (Girshick, 2015)."""
    size = ops.abs(difference)
    return ops.where(size < 1.0, 0.5 * size * size, size - 0.5)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of values under weights of the same shape; 0 when all weights are 0."""
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1.0)


def class_loss(logits: Tensor, class_ids: Tensor, weights: Tensor) -> Tensor:
    """Softmax cross-entropy of logits (…, K) against class_ids (…,), mean under weights (…,)."""
    entropy = keras.losses.sparse_categorical_crossentropy(class_ids, logits, from_logits=True)
    return weighted_mean(entropy, weights)


def box_loss(deltas: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Smooth L1 of deltas (…, 4), mean over coordinates and under weights (…,)."""
    return weighted_mean(ops.mean(smooth_l1(deltas - targets), axis=-1), weights)


def mask_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy of mask logits (R, M, M), mean over cells and under weights (R,)."""
    entropy = ops.maximum(logits, 0.0) - logits * targets + ops.log(1.0 + ops.exp(-ops.abs(logits)))
    return weighted_mean(ops.mean(entropy, axis=(1, 2)), weights)


class TrainedMaskRCNN(keras.Model):
    """A batch of pictures with their truth → the five losses, each (B,), so that `fit` can add them up.

    Input: {images (B, H, W, 3) uint8, boxes (B, G, 4), class_ids (B, G) int32 (0 padding, -1 crowd),
    mask_boxes (B, G, 4), mini_masks (B, G, m, m) uint8 0…255, mask_weights (B, G) 0 where the mask is unknown}.
    """

    def __init__(self, network: MaskRCNN, training: TrainingConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network
        self.training_config = training
        self.seed_generator = keras.random.SeedGenerator(training.seed)

    def build(self, input_shape: Any = None) -> None:
        self.network.build()
        self.built = True

    def call(self, batch: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        network, config, knobs = self.network, self.network.config, self.training_config
        images, truth = batch["images"], ops.cast(batch["boxes"], "float32")
        class_ids = ops.cast(batch["class_ids"], "int32")
        height, width = images.shape[1:3]
        valid, crowd = class_ids > 0, class_ids < 0
        seed = self.seed_generator

        levels = network.features(images)
        logits, deltas = network.rpn([levels[i] for i in config.rpn_levels])
        anchors = ops.convert_to_tensor(make_anchors(config, width, height))

        # proposal network
        positive, negative, matched = anchor_targets(
            anchors,
            truth,
            valid,
            crowd,
            positive_iou=knobs.rpn_positive_iou,
            negative_iou=knobs.rpn_negative_iou,
            samples=knobs.rpn_samples,
            seed=seed,
        )
        weights = ops.cast(ops.logical_or(positive, negative), "float32")
        rpn_class = class_loss(logits, ops.cast(positive, "int32"), weights)
        goal = ops.take_along_axis(truth, ops.expand_dims(matched, -1), axis=1)  # (B, A, 4)
        goal = box_ops.find_deltas(ops.broadcast_to(anchors[None], ops.shape(goal)), goal, config.delta_std)
        rpn_box = box_loss(deltas, goal, ops.cast(positive, "float32"))

        # heads
        best = best_anchors(ops.stop_gradient(logits), ops.stop_gradient(deltas), anchors, config)
        proposals, real = propose(*best, config, width=width, height=height)
        rois, positive, negative, matched = roi_targets(
            proposals, real, truth, valid, crowd, samples=knobs.roi_samples, positives=knobs.roi_positives, seed=seed
        )
        rois = ops.stop_gradient(rois)
        goal_ids = ops.where(positive, ops.take_along_axis(class_ids, matched, axis=1), ops.zeros_like(matched))
        pooled_levels = {i: levels[i] for i in config.roi_levels}
        class_logits, box_deltas = network.box_head(network.pool(pooled_levels, rois, config.box_pool))
        shape = (-1, knobs.roi_samples, config.num_classes)
        weights = ops.cast(ops.logical_or(positive, negative), "float32")
        class_ = class_loss(ops.reshape(class_logits, shape), goal_ids, weights)
        chosen = ops.one_hot(goal_ids, config.num_classes, dtype="float32")
        box_deltas = ops.sum(ops.reshape(box_deltas, (*shape, 4)) * ops.expand_dims(chosen, -1), axis=2)
        goal = ops.take_along_axis(truth, ops.expand_dims(matched, -1), axis=1)
        goal = box_ops.find_deltas(rois, goal, config.delta_std)
        box = box_loss(box_deltas, goal, ops.cast(positive, "float32"))
        mask = self.mask_loss(pooled_levels, batch, rois, positive, matched, goal_ids)

        ones = ops.ones((ops.shape(images)[0],))
        losses = {"rpn_class": rpn_class, "rpn_box": rpn_box, "class": class_, "box": box, "mask": mask}
        return {name: loss * ones for name, loss in losses.items()}

    def mask_loss(
        self,
        levels: dict[int, Tensor],
        batch: dict[str, Tensor],
        rois: Tensor,
        positive: Tensor,
        matched: Tensor,
        class_ids: Tensor,
    ) -> Tensor:
        """The mask loss of the positives with a known mask, over all pictures of the batch together.

        Pictures without masks leave their share of the samples to the others.
        """
        count = rois.shape[1]
        most = int(count * self.training_config.roi_positives)  # positives stand first
        rois, positive, matched, class_ids = (x[:, :most] for x in (rois, positive, matched, class_ids))
        weights = ops.take_along_axis(ops.cast(batch["mask_weights"], "float32"), matched, axis=1)
        weights = ops.reshape(weights * ops.cast(positive, "float32"), (-1,))  # (B·most,)
        samples = ops.shape(batch["images"])[0] * self.training_config.mask_samples
        draw = keras.random.uniform(ops.shape(weights), seed=self.seed_generator) + 0.01
        index = ops.top_k(ops.where(weights > 0, draw, ops.zeros_like(draw)), samples)[1]  # (R,)
        picture_ids = ops.cast(index // most, "int32")
        num_objects = batch["boxes"].shape[1]
        row = picture_ids * num_objects + ops.take(ops.reshape(matched, (-1,)), index)
        side = batch["mini_masks"].shape[-1]
        mini_masks = ops.take(ops.reshape(batch["mini_masks"], (-1, side, side)), row, axis=0)
        mask_boxes = ops.take(ops.reshape(ops.cast(batch["mask_boxes"], "float32"), (-1, 4)), row, axis=0)
        chosen = ops.take(ops.reshape(rois, (-1, 4)), index, axis=0)
        goal = mask_targets(
            ops.cast(mini_masks, "float32") / 255.0, mask_boxes, chosen, size=2 * self.network.config.mask_pool
        )
        crops = self.network.crops(levels, chosen, picture_ids)
        logits = self.network.mask_logits(crops, ops.take(ops.reshape(class_ids, (-1,)), index))
        return mask_loss(logits, ops.stop_gradient(goal), ops.take(weights, index))
