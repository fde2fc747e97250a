"""The five losses of Mask R-CNN, and the network that is trained by them.

Legend: B pictures, A anchors, S sampled proposals, R sampled masks, G true boxes, K classes, M mask side.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from streamseg.config import TrainingConfig
from streamseg.model import boxes as box_ops
from streamseg.model.anchors import anchors_in_pixels, group_sizes, make_anchors
from streamseg.model.mask_rcnn import MaskRCNN
from streamseg.model.rpn import best_anchors, propose
from streamseg.model.targets import (
    anchor_targets,
    mask_targets,
    matterport_mask_targets,
    matterport_roi_targets,
    roi_targets,
    sampled_anchors,
)

Tensor = Any

LOSSES = ("rpn_class", "rpn_box", "class", "box", "mask")

EPSILON = 1e-7
"""Keras' distance from certainty."""


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


def active_class_loss(logits: Tensor, class_ids: Tensor, active: Tensor) -> Tensor:
    """Softmax cross-entropy of logits (B, S, K) against class_ids (B, S), mean over the rows that count; 0 for none.

    active (B, K): see `counting`. As in matterport/Mask_RCNN, the loss is no number when no class is active.
    """
    counts = counting(logits, active)
    entropy = keras.losses.sparse_categorical_crossentropy(class_ids, logits, from_logits=True)
    return ops.sum(entropy * counts) / ops.maximum(ops.sum(counts), ops.minimum(ops.sum(active), 1.0))


def counting(logits: Tensor, active: Tensor) -> Tensor:
    """Which rows of logits (B, S, K) teach classes, (B, S) of 0 and 1: those that think an active class best.

    active (B, K), 1 for the classes that the picture's dataset knows. An object of another class is background there,
    which is no reason to unlearn it.
    """
    return ops.take_along_axis(active, ops.argmax(logits, axis=-1), axis=1)


def box_loss(deltas: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Smooth L1 of deltas (…, 4), mean over coordinates and under weights (…,)."""
    return weighted_mean(ops.mean(smooth_l1(deltas - targets), axis=-1), weights)


def giou_loss(boxes: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """How far boxes (…, 4) are from overlapping their true ones (…, 4), 0 to 2, mean under weights (…,)."""
    return weighted_mean(1.0 - box_ops.giou(boxes, truth), weights)


def dice_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """1 − Dice coefficient of mask logits (R, M, M) and targets, mean under weights (R,) (Milletari, 2016)."""
    masks = ops.sigmoid(logits)
    common = ops.sum(masks * targets, axis=(1, 2))
    both = ops.sum(masks * masks, axis=(1, 2)) + ops.sum(targets * targets, axis=(1, 2))
    return weighted_mean(1.0 - (2.0 * common + 1.0) / (both + 1.0), weights)


def mask_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy of mask logits (R, M, M), mean over cells and under weights (R,)."""
    entropy = ops.maximum(logits, 0.0) - logits * targets + ops.log(1.0 + ops.exp(-ops.abs(logits)))
    return weighted_mean(ops.mean(entropy, axis=(1, 2)), weights)


def matterport_mask_loss(masks: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """`mask_loss` of masks (R, M, M) in [0, 1], as matterport/Mask_RCNN has it under Keras.

    No cell costs more than 15.4, and one that is certain, rightly or wrongly, learns nothing more.
    """
    masks = ops.clip(masks, EPSILON, 1.0 - EPSILON)
    entropy = -targets * ops.log(masks + EPSILON) - (1.0 - targets) * ops.log(1.0 - masks + EPSILON)
    return weighted_mean(ops.mean(entropy, axis=(1, 2)), weights)


class TrainedMaskRCNN(keras.Model):
    """A batch of pictures with their truth → the five losses, each (B,), so that `fit` can add them up.

    Input: {images (B, H, W, 3) uint8, boxes (B, G, 4), class_ids (B, G) int32 (0 padding, -1 crowd),
    mask_boxes (B, G, 4), mini_masks (B, G, m, m) uint8 0…255, mask_weights (B, G) 0 where the mask is unknown}.
    The matterport family takes what `targets.match_anchors` says: anchor_match and anchor_truth (B, A). And two more,
    if they are there: proposals (B, N, 4), padded with zeros, which the heads then learn on instead of the network's
    own. active (B, K), in either family, is 1 for the classes that the picture's dataset knows; without it all are
    known. (In the original those of a batch's first picture serve all of it.) All boxes are in pixels of the input.
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
        network, config = self.network, self.network.config
        images = batch["images"]
        levels = network.features(images, training=training)
        logits, deltas = network.rpn([levels[i] for i in config.rpn_levels])
        losses = self.proposal_losses(batch, logits, deltas)
        rois, positive, negative, matched = self.roi_goals(batch, logits, deltas)
        rois = ops.stop_gradient(rois)
        levels = {i: levels[i] for i in config.roi_levels}
        losses |= self.box_losses(batch, levels, rois, positive, negative, matched, training=training)
        losses["mask"] = self.mask_loss(batch, levels, rois, positive, matched, training=training)
        ones = ops.ones((ops.shape(images)[0],))
        return {name: losses[name] * ones for name in LOSSES}

    def truth(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """True boxes (B, G, 4) in pixels, which are objects and which crowds (B, G) bool."""
        return ops.cast(batch["boxes"], "float32"), batch["class_ids"] > 0, batch["class_ids"] < 0

    def in_unit(self, boxes: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Boxes (…, 4) in pixels in the unit of the family."""
        height, width = batch["images"].shape[1:3]
        return box_ops.normalise(boxes, width=width, height=height) if self.network.original else boxes

    def find_deltas(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """The deltas (…, 4) that the box head should have said, in the unit of the family."""
        smallest = {"min_side": 1e-6} if self.network.original else {}
        return box_ops.find_deltas(boxes, targets, self.network.config.delta_std, **smallest)

    def anchor_goals(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Sampled positive and negative anchors (B, A) bool, and the deltas (B, A, 4) of the positive ones."""
        config, knobs = self.network.config, self.training_config
        height, width = batch["images"].shape[1:3]
        truth, valid, crowd = self.truth(batch)
        anchors = ops.convert_to_tensor(anchors_in_pixels(config, width, height))
        options: Any = {"samples": knobs.rpn_samples, "seed": self.seed_generator}
        if self.network.original:
            positive, negative = sampled_anchors(batch["anchor_match"], **options)
            matched = ops.cast(batch["anchor_truth"], "int32")
        else:
            options |= {"positive_iou": knobs.rpn_positive_iou, "negative_iou": knobs.rpn_negative_iou}
            positive, negative, matched = anchor_targets(anchors, truth, valid, crowd, **options)
        goal = ops.take_along_axis(truth, ops.expand_dims(matched, -1), axis=1)  # (B, A, 4)
        anchors = ops.broadcast_to(anchors[None], ops.shape(goal))
        return positive, negative, box_ops.find_deltas(anchors, goal, config.rpn_delta_std)

    def proposal_losses(self, batch: dict[str, Tensor], logits: Tensor, deltas: Tensor) -> dict[str, Tensor]:
        """The losses of the proposal network's logits (B, A, 2) and deltas (B, A, 4)."""
        positive, negative, goal = self.anchor_goals(batch)
        weights = ops.cast(ops.logical_or(positive, negative), "float32")
        return {
            "rpn_class": class_loss(logits, ops.cast(positive, "int32"), weights),
            "rpn_box": box_loss(deltas, goal, ops.cast(positive, "float32")),
        }

    def roi_goals(
        self, batch: dict[str, Tensor], logits: Tensor, deltas: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the heads learn on: `roi_targets` by the rules of the family."""
        original, knobs = self.network.original, self.training_config
        config = self.network.config
        if knobs.num_proposals:
            config = config.model_copy(update={"num_proposals": knobs.num_proposals})
        height, width = batch["images"].shape[1:3]
        truth, valid, crowd = self.truth(batch)
        truth = self.in_unit(truth, batch)
        options: Any = {
            "samples": knobs.roi_samples,
            "positives": knobs.roi_positives,
            "seed": self.seed_generator,
        }
        if original and "proposals" in batch:
            given = ops.cast(batch["proposals"], "float32")
            there = ops.any(given != 0, axis=-1, keepdims=True)
            proposals = ops.where(there, self.in_unit(given, batch), ops.zeros_like(given))
            return matterport_roi_targets(proposals, truth, valid, crowd, **options)
        anchors = ops.convert_to_tensor(make_anchors(config, width, height))
        counts = group_sizes(config, width, height)
        best = best_anchors(ops.stop_gradient(logits), ops.stop_gradient(deltas), anchors, config, counts=counts)
        proposals, real = propose(best, config, width=width, height=height)
        if original:
            return matterport_roi_targets(proposals, truth, valid, crowd, **options)
        return roi_targets(proposals, real, truth, valid, crowd, **options)

    def goal_ids(self, batch: dict[str, Tensor], positive: Tensor, matched: Tensor) -> Tensor:
        """The true class (B, S) int32 of each roi; 0 for all but the positive ones."""
        class_ids = ops.take_along_axis(ops.cast(batch["class_ids"], "int32"), matched, axis=1)
        return ops.where(positive, class_ids, ops.zeros_like(matched))

    def box_losses(
        self,
        batch: dict[str, Tensor],
        levels: dict[int, Tensor],
        rois: Tensor,
        positive: Tensor,
        negative: Tensor,
        matched: Tensor,
        *,
        training: bool = False,
    ) -> dict[str, Tensor]:
        """The losses of what the box head says of rois (B, S, 4); the other tensors are (B, S)."""
        network, num_classes = self.network, self.network.config.num_classes
        goal_ids = self.goal_ids(batch, positive, matched)
        pooled = network.pool(levels, rois, network.config.box_pool)
        logits, deltas = network.box_head(pooled, training=training)
        logits = ops.reshape(logits, (-1, rois.shape[1], num_classes))
        active = ops.cast(batch["active"], "float32") if "active" in batch else ops.ones_like(logits[:, 0])
        if network.original:
            class_ = active_class_loss(logits, goal_ids, active)
        else:
            drawn = ops.cast(ops.logical_or(positive, negative), "float32")
            class_ = class_loss(logits, goal_ids, drawn * counting(logits, active))
        chosen = ops.one_hot(goal_ids, num_classes, dtype="float32")
        deltas = ops.reshape(deltas, (-1, rois.shape[1], num_classes, 4))
        deltas = ops.sum(deltas * ops.expand_dims(chosen, -1), axis=2)
        goal = ops.take_along_axis(self.in_unit(self.truth(batch)[0], batch), ops.expand_dims(matched, -1), axis=1)
        weights = ops.cast(positive, "float32")
        if self.training_config.box_loss == "giou":
            boxes = box_ops.apply_deltas(rois, deltas, network.config.delta_std)
            return {"class": class_, "box": giou_loss(boxes, goal, weights)}
        return {"class": class_, "box": box_loss(deltas, self.find_deltas(rois, goal), weights)}

    def mask_loss(
        self,
        batch: dict[str, Tensor],
        levels: dict[int, Tensor],
        rois: Tensor,
        positive: Tensor,
        matched: Tensor,
        *,
        training: bool = False,
    ) -> Tensor:
        """The mask loss of the positives with a known mask, over all pictures of the batch together.

        Pictures without masks leave their share of the samples to the others.
        """
        network, count = self.network, rois.shape[1]
        class_ids = self.goal_ids(batch, positive, matched)
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
        shape = batch["mini_masks"].shape[-2:]
        masks = ops.take(ops.reshape(batch["mini_masks"], (-1, *shape)), row, axis=0)
        masks = ops.cast(masks, "float32") / 255.0
        mask_boxes = self.in_unit(ops.cast(batch["mask_boxes"], "float32"), batch)
        mask_boxes = ops.take(ops.reshape(mask_boxes, (-1, 4)), row, axis=0)
        chosen = ops.take(ops.reshape(rois, (-1, 4)), index, axis=0)
        side = 2 * network.config.mask_pool
        if network.original:
            goal = matterport_mask_targets(ops.round(masks), mask_boxes, chosen, size=side)
        else:
            goal = mask_targets(masks, mask_boxes, chosen, size=side)
        crops = network.crops(levels, chosen, picture_ids)
        logits = network.mask_logits(crops, ops.take(ops.reshape(class_ids, (-1,)), index), training=training)
        goal, weights = ops.stop_gradient(goal), ops.take(weights, index)
        if network.original:
            loss = matterport_mask_loss(ops.sigmoid(logits), goal, weights)
        else:
            loss = mask_loss(logits, goal, weights)
        dice = self.training_config.mask_dice
        return loss + dice * dice_loss(logits, goal, weights) if dice else loss
