"""The Matterport family learns as the original did: its targets, its five losses, its steps, as they were recorded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from streamseg.config import AugmentConfig, ModelConfig, StageConfig, TrainingConfig
from streamseg.model import boxes as box_ops
from streamseg.model.anchors import anchors_in_pixels
from streamseg.model.losses import (
    LOSSES,
    TrainedMaskRCNN,
    active_class_loss,
    box_loss,
    class_loss,
    matterport_mask_loss,
    smooth_l1,
)
from streamseg.model.mask_rcnn import MaskRCNN
from streamseg.model.matterport_h5 import load_matterport, named_weights
from streamseg.model.targets import (
    match_anchors,
    matterport_anchor_targets,
    matterport_mask_targets,
    matterport_roi_targets,
    num_negative,
    sampled_anchors,
)
from streamseg.training.layers import Selection
from streamseg.training.loader import Batches, read_picture
from streamseg.training.optimizers import NOT_DECAYED, Schedule, make_optimizer
from streamseg.types import Sample
from tests.matterport.conftest import Recorded, unpacked
from tests.model.conftest import recorded_model, yx

STD = (0.1, 0.1, 0.2, 0.2)
DECAY = 1e-4
IOUS = {"positive_iou": 0.7, "negative_iou": 0.3}
AS_IT_IS = AugmentConfig(flip_left_right=False, aspect=0.0, colour=0.0)
ANCHORS = ModelConfig.matterport(
    input_sizes=((128, 128),), anchor_sizes=tuple((size,) for size in (8, 16, 32, 64, 128))
)


def numbers(*tensors: Any) -> list[np.ndarray]:
    return [np.array(ops.convert_to_numpy(tensor)) for tensor in tensors]


def number(tensor: Any) -> float:
    return float(ops.convert_to_numpy(tensor))


def seed() -> keras.random.SeedGenerator:
    return keras.random.SeedGenerator(0)


# --- targets ----------------------------------------------------------------------------------------------------------


def matched_anchors(recorded: Any, case: str) -> tuple[np.ndarray, np.ndarray]:
    """What the anchors (A,) of a recorded picture are, and the box (A,) that each is nearest to."""
    return match_anchors(
        anchors_in_pixels(ANCHORS, 128, 128, "float64"),
        yx(recorded[f"rpn_{case}_gt_boxes"]),
        recorded[f"rpn_{case}_class_ids"],
        **IOUS,
    )


@pytest.mark.parametrize("case", ["a", "b", "crowd"])
def test_anchors_are_positive_negative_or_neither_as_recorded(case: str, shapes128: Recorded) -> None:
    recorded, facts = shapes128.arrays("targets"), shapes128.facts("training")["rpn"][case]
    match, nearest = matched_anchors(recorded, case)
    np.testing.assert_array_equal(match, recorded[f"rpn_{case}_match_all"])
    chosen = np.flatnonzero(match == 1)
    anchors = anchors_in_pixels(ANCHORS, 128, 128)[chosen]
    goal = yx(recorded[f"rpn_{case}_gt_boxes"])[nearest[chosen]].astype(np.float32)
    deltas = numbers(box_ops.find_deltas(ops.convert_to_tensor(anchors), ops.convert_to_tensor(goal), STD))[0]
    np.testing.assert_allclose(yx(deltas), recorded[f"rpn_{case}_bbox_all"], atol=1e-5)
    for samples, name in ((256, "default256"), (16, "limit16")):
        positive, negative = numbers(*sampled_anchors(ops.convert_to_tensor(match[None]), samples=samples, seed=seed()))
        assert (positive.sum(), negative.sum()) == (facts[name]["positives"], facts[name]["negatives"])
        assert (match[positive[0]] == 1).all() and (match[negative[0]] == -1).all()


def test_at_most_half_of_the_anchors_are_positive() -> None:
    anchors = np.tile(np.float32([[0, 0, 10, 10]]), (60, 1))
    anchors[30:] += 50
    truth, yes = np.float32([[[0, 0, 10, 10]]]), np.array([[True]])
    targets = matterport_anchor_targets(anchors, truth, yes, ~yes, samples=20, seed=seed(), **IOUS)
    positive, negative, matched = numbers(*targets)
    assert (positive[0, :30].sum(), positive.sum(), negative.sum()) == (10, 10, 10)
    assert matched.shape == (1, 60) and not matched.any()


def test_anchors_that_share_the_best_overlap_are_all_positive_and_a_box_that_none_overlaps_has_none() -> None:
    anchors = np.float64([[0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    boxes = np.float64([[8, 0, 12, 10], [100, 100, 110, 110], [38, 0, 42, 10], [20, 0, 30, 10]])
    match, nearest = match_anchors(anchors, boxes, np.array([1, 2, -1, 0]), **IOUS)
    assert match.tolist() == [1, 1, -1, 0], "both, both, no object, in a crowd"
    assert nearest[:2].tolist() == [0, 0]


@pytest.mark.parametrize("case", ["mini", "full", "crowd"])
def test_second_stage_targets_are_those_recorded(case: str, shapes128: Recorded) -> None:
    recorded, facts = shapes128.arrays("targets"), shapes128.facts("training")["det"][case]
    proposals, class_ids = recorded[f"dt_{case}_proposals"], recorded[f"dt_{case}_gt_class_ids"]
    truth = yx(recorded[f"dt_{case}_gt_boxes"])
    rois, positive, negative, matched = (
        each[0]
        for each in numbers(
            *matterport_roi_targets(
                ops.convert_to_tensor(yx(proposals)[None]),
                ops.convert_to_tensor(truth[None]),
                ops.convert_to_tensor(class_ids[None] > 0),
                ops.convert_to_tensor(class_ids[None] < 0),
                samples=facts["train_rois"],
                positives=0.33,
                seed=seed(),
            )
        )
    )
    counts = positive.sum(), negative.sum(), (~positive & ~negative).sum()
    assert counts == (facts["positives"], facts["negatives"], facts["zero_rows"])
    assert not rois[~positive & ~negative].any()

    row_of = {tuple(box): row for row, box in enumerate(yx(proposals))}
    rows = np.array([row_of[tuple(box)] for box in rois[positive]])
    assert sorted(rows) == recorded[f"dt_{case}_pos_ix"].tolist()
    assert {row_of[tuple(box)] for box in rois[negative]} <= set(recorded[f"dt_{case}_neg_ix"].tolist())
    order = np.argsort(rows)
    boxes, matched = rois[positive][order], matched[positive][order]
    np.testing.assert_array_equal(class_ids[matched], recorded[f"dt_{case}_pos_class_ids"])
    deltas = box_ops.find_deltas(
        ops.convert_to_tensor(boxes), ops.convert_to_tensor(truth[matched]), STD, min_side=1e-6
    )
    np.testing.assert_allclose(yx(numbers(deltas)[0]), recorded[f"dt_{case}_pos_deltas"], atol=1e-5)

    masks = unpacked(recorded[f"dt_{case}_gt_masks"], facts["gt_masks_shape"]).astype(np.float32)
    mask_boxes = truth if facts["use_mini_mask"] else np.tile(np.float32([0, 0, 1, 1]), (8, 1))
    seen = matterport_mask_targets(
        ops.convert_to_tensor(masks.transpose(2, 0, 1)[matched]),
        ops.convert_to_tensor(mask_boxes[matched]),
        ops.convert_to_tensor(boxes),
        size=28,
    )
    expected = unpacked(recorded[f"dt_{case}_pos_masks"], facts["pos_masks_shape"])
    np.testing.assert_array_equal(numbers(seen)[0], expected)


def test_positives_allow_twice_as_many_negatives_rounded_as_recorded(shapes128: Recorded) -> None:
    facts = shapes128.facts("training")["det"]
    counts = facts["negative_count_for_positive_count"]
    positives = ops.convert_to_tensor(np.arange(len(counts), dtype=np.int32))
    assert numbers(num_negative(positives, 0.33))[0].tolist() == counts
    for samples, most in facts["max_positives"].items():
        assert int(int(samples) * 0.33) == most


def roi_scene(num_proposals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Proposals (1, N, 4), half of them on the one true box (1, 1, 4) and half beside it, and that it is there."""
    on, beside = np.float32([0.1, 0.1, 0.3, 0.3]), np.float32([0.6, 0.6, 0.8, 0.8])
    proposals = np.where(np.arange(num_proposals)[:, None] % 2, on, beside)[None]
    return proposals, on[None, None], np.array([[True]])


def test_positives_are_at_most_their_share_and_negatives_keep_the_ratio() -> None:
    proposals, truth, yes = roi_scene(200)
    _, positive, negative, _ = numbers(
        *matterport_roi_targets(proposals, truth, yes, ~yes, samples=100, positives=0.25, seed=seed())
    )
    assert (positive.sum(), negative.sum()) == (25, 75)
    assert positive[0, :25].all(), "positives come first"


def test_without_a_positive_there_is_no_negative_either() -> None:
    proposals, truth, yes = roi_scene(10)
    rois, positive, negative, _ = numbers(
        *matterport_roi_targets(proposals, truth, ~yes, ~yes, samples=20, positives=0.33, seed=seed())
    )
    assert rois.shape == (1, 20, 4), "padded to the samples asked for"
    assert not rois.any() and not positive.any() and not negative.any()


def test_a_mask_seen_through_its_own_box_is_itself_and_nothing_lies_outside() -> None:
    mask = np.zeros((1, 4, 4), np.float32)
    mask[0, :2] = 1
    box, left_of_it = np.float32([[0.5, 0.5, 0.8, 0.8]]), np.float32([[0.1, 0.5, 0.4, 0.8]])
    same, outside = numbers(
        matterport_mask_targets(mask, box, box, size=4), matterport_mask_targets(mask, box, left_of_it, size=4)
    )
    np.testing.assert_array_equal(same, mask)
    assert not outside.any()


def test_exactly_half_a_mask_is_no_mask() -> None:
    mask, whole = np.float32([[[1, 0]] * 2]), np.float32([[0, 0, 1, 1]])
    seen = numbers(matterport_mask_targets(mask, whole, whole, size=3))[0][0]
    np.testing.assert_array_equal(seen, [[1, 0, 0]] * 3)


# --- losses -----------------------------------------------------------------------------------------------------------


def test_the_losses_of_the_proposal_network_are_those_recorded(shapes128: Recorded) -> None:
    recorded, facts = shapes128.arrays("losses"), shapes128.facts("training")["losses"]
    match = recorded["rpn_match"][..., 0]
    found = class_loss(recorded["rpn_logits"], (match == 1).astype(np.int32), np.abs(match).astype(np.float32))
    assert number(found) == pytest.approx(facts["rpn_class_loss"], rel=1e-5)
    nothing = np.zeros_like(match)
    assert number(class_loss(recorded["rpn_logits"], nothing, nothing.astype(np.float32))) == 0

    goal = np.zeros_like(recorded["rpn_pred_bbox"])
    for b, row in enumerate(match == 1):
        goal[b, row] = recorded["rpn_target_bbox"][b, : row.sum()]
    weights = (match == 1).astype(np.float32)
    found = box_loss(recorded["rpn_pred_bbox"], goal, weights)
    assert number(found) == pytest.approx(facts["rpn_bbox_loss"], rel=1e-5)
    assert number(box_loss(recorded["rpn_pred_bbox"], goal, 0 * weights)) == 0


def test_the_class_loss_counts_what_the_pictures_dataset_knows(shapes128: Recorded) -> None:
    recorded, facts = shapes128.arrays("losses"), shapes128.facts("training")["losses"]
    loss = partial(active_class_loss, recorded["class_logits"], recorded["target_class_ids"])
    for name in ("active_all", "active_first_without_2", "active_second_without_1"):
        assert number(loss(np.tile(recorded[name][:1], (2, 1)))) == pytest.approx(
            facts[f"mrcnn_class_loss_{name}"], rel=1e-5
        )
    assert np.isnan(number(loss(np.zeros((2, 4), np.float32))))
    assert facts["mrcnn_class_loss_none_active"] == "nan"


def test_the_losses_of_boxes_and_masks_are_those_recorded(shapes128: Recorded) -> None:
    recorded, facts = shapes128.arrays("losses"), shapes128.facts("training")["losses"]
    class_ids = recorded["target_class_ids"]
    weights = (class_ids > 0).astype(np.float32)
    deltas = np.take_along_axis(recorded["pred_bbox"], class_ids[..., None, None], axis=2)[:, :, 0]
    found = box_loss(deltas, recorded["target_bbox"], weights)
    assert number(found) == pytest.approx(facts["mrcnn_bbox_loss"], rel=1e-5)
    assert number(box_loss(deltas, recorded["target_bbox"], 0 * weights)) == 0

    goal = unpacked(recorded["target_masks"], facts["mask_shapes"]["target_masks"]).reshape(-1, 14, 14)
    masks = np.take_along_axis(recorded["pred_masks"], class_ids[..., None, None, None], axis=-1)[..., 0]
    masks, goal, flat = masks.reshape(-1, 14, 14), goal.astype(np.float32), weights.reshape(-1)
    found = matterport_mask_loss(masks, goal, flat)
    assert number(found) == pytest.approx(facts["mrcnn_mask_loss"], rel=1e-5)
    assert number(matterport_mask_loss(masks, goal, 0 * flat)) == 0


def test_smooth_l1_and_cross_entropy_are_those_recorded(shapes128: Recorded) -> None:
    recorded = shapes128.arrays("losses")
    np.testing.assert_allclose(numbers(smooth_l1(recorded["smooth_l1_x"]))[0], recorded["smooth_l1_y"], rtol=1e-5)
    for target in (1, 0):
        for p, expected in zip(recorded["bce_p"], recorded[f"bce_target{target}"], strict=True):
            mask, cell = np.full((1, 1, 1), p), np.full((1, 1, 1), target, np.float32)
            found = number(matterport_mask_loss(mask, cell, np.ones(1, np.float32)))
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


# --- the loader -------------------------------------------------------------------------------------------------------


def test_an_anchor_of_an_object_that_found_no_place_in_the_batch_is_neither_positive_nor_negative() -> None:
    boxes = np.float32([[0, 0, 32, 32], [64, 64, 128, 128]])
    sample = Sample(
        image_id=1,
        path=Path("none.png"),
        width=128,
        height=128,
        boxes=boxes,
        class_ids=np.array([1, 2], np.int32),
        masks=tuple([[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in boxes.tolist()),
        crowd=np.zeros(2, bool),
        rgb=np.zeros((128, 128, 3), np.uint8),
    )
    options = {"train": "shapes", "roi_samples": 16, "mask_samples": 1, "mini_mask": 14}
    stage = StageConfig(epochs=1, crop=128, batch_size=1, scale=(1, 1), augment=AS_IT_IS)
    match = partial(match_anchors, anchors_in_pixels(ANCHORS, 128, 128, "float64"), **IOUS)
    rows = {}
    for most in (1, 2):
        training = TrainingConfig.model_validate({**options, "stages": (stage,), "max_objects": most})
        batches = Batches([read_picture(sample, side=14)], training, stage, padding=0, match=match)
        rows[most] = {name: value[0] for name, value in batches[0][0].items()}
    both, one = rows[2], rows[1]
    kept = int(np.flatnonzero((both["boxes"] == one["boxes"][0]).all(-1))[0])
    positive = both["anchor_match"] == 1
    of_the_kept = positive & (both["anchor_truth"] == kept)
    assert positive.sum() > of_the_kept.sum() > 0
    np.testing.assert_array_equal(one["anchor_match"] == 1, of_the_kept)
    np.testing.assert_array_equal(one["anchor_match"] == -1, both["anchor_match"] == -1)
    assert not one["anchor_truth"].any(), "there is one place only"


# --- steps ------------------------------------------------------------------------------------------------------------


def recorded_batch(recorded: Any) -> dict[str, np.ndarray]:
    """The recorded pictures with their truth. The anchors are those that were drawn, so nothing is left to chance."""
    anchors = anchors_in_pixels(ANCHORS, 128, 128, "float64")
    truth = zip(yx(recorded["gt_boxes"]), recorded["gt_class_ids"], strict=True)
    nearest = np.stack([match_anchors(anchors, *each, **IOUS)[1] for each in truth])
    masks = unpacked(recorded["gt_mini_masks"], recorded["gt_mini_masks_shape"])
    boxes = yx(recorded["gt_boxes"])
    return {
        "images": recorded["image_u8"],
        "boxes": boxes,
        "mask_boxes": boxes,
        "class_ids": recorded["gt_class_ids"],
        "mini_masks": masks.transpose(0, 3, 1, 2).astype(np.uint8) * 255,
        "mask_weights": (recorded["gt_class_ids"] > 0).astype(np.float32),
        "proposals": yx(recorded["input_rois_px"]),
        "active": recorded["image_meta"][:, 12:].astype(np.float32),
        "anchor_match": recorded["rpn_match"][..., 0],
        "anchor_truth": nearest,
    }


def differentiated(model: TrainedMaskRCNN) -> Callable[[dict[str, Any]], tuple[dict[str, Any], list[Any]]]:
    """From a batch to the losses and their sum's gradients by every weight that can be trained."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        weights = [variable.value for variable in model.trainable_variables]

        @tf.function
        def step(batch: dict[str, Any]) -> Any:
            with tf.GradientTape() as tape:
                losses = {name: tf.reduce_mean(loss) for name, loss in model(batch, training=True).items()}
                total = sum(losses.values())
            return losses, tape.gradient(total, weights)

        return step
    import jax

    trainable, fixed = model.trainable_variables, model.non_trainable_variables

    def total(values: list[Any], others: list[Any], batch: dict[str, Any]) -> Any:
        mapping = [*zip(trainable, values, strict=True), *zip(fixed, others, strict=True)]
        with keras.StatelessScope(state_mapping=mapping):
            losses = {name: loss.mean() for name, loss in model(batch, training=True).items()}
        return sum(losses.values()), losses

    graph = jax.jit(jax.value_and_grad(total, has_aux=True))

    def step_on_jax(batch: dict[str, Any]) -> Any:
        (_, losses), gradients = graph([v.value for v in trainable], [v.value for v in fixed], batch)
        return losses, gradients

    return step_on_jax


@pytest.mark.thorough
def test_three_steps_of_the_recorded_training_are_the_same(
    shapes128: Recorded, matterport_weights: Callable[[str], Path]
) -> None:
    recorded, facts = shapes128.arrays("train_step"), shapes128.facts("train_step")
    stage = StageConfig(epochs=1, crop=128, learning_rate=facts["lr"], schedule="constant", warmup_steps=0)
    training = TrainingConfig.model_validate(
        {
            "train": "shapes",
            "stages": (stage,),
            "backbone_rate": 1.0,
            "optimizer": "sgd",
            "weight_decay": DECAY,
            "ema": 0.0,
            "roi_samples": facts["config"]["TRAIN_ROIS_PER_IMAGE"],
            "mask_samples": 21,  # all positives that 64 may hold
        }
    )
    network = MaskRCNN(recorded_model(facts["config"], size=(128, 128)), name="network")
    network.build()
    file = matterport_weights("shapes128")
    model = TrainedMaskRCNN(network, training, name="training")
    model.build()
    everything, step = model.trainable_variables, differentiated(model)
    batch = {name: ops.convert_to_tensor(value) for name, value in recorded_batch(recorded).items()}
    selection = Selection(network)
    layers = named_weights(network)
    layer_of = {id(v): layer for layer, tensors in layers.items() for v in tensors.values()}

    for name in ("3+", "4+", "5+", "heads", "all"):
        load_matterport(network, file)
        selection.choose(name)
        chosen, expected = list(network.trainable_variables), facts["selection"][name]
        assert sorted({layer_of[id(v)] for v in chosen}) == sorted(expected["layers"])
        assert len(chosen) == expected["n_trainable_tensors"]
        assert sum(int(np.prod(v.shape)) for v in chosen) == expected["trainable_params"]
        assert sum(v.name not in NOT_DECAYED for v in chosen) == expected["n_decayed_tensors"]
        assert decay_loss(chosen) == pytest.approx(expected["l2_at_start"], rel=1e-5)
        if name not in ("heads", "all"):
            continue

        optimizer = make_optimizer(training, Schedule((stage,), (10,)))
        optimizer.build(chosen)
        names = facts["steps"][f"{name}_tensors"]
        tensors = [layers[layer][short.removesuffix(":0")] for layer, short in (each.split("/") for each in names)]
        samples = recorded[f"{name}_grad_sample_ix"]

        def sampled(arrays: list[Any], places: np.ndarray = samples) -> np.ndarray:
            return np.stack([np.ravel(np.asarray(a))[ix] for a, ix in zip(arrays, places, strict=True)])

        start = sampled(tensors)
        for i, said in enumerate(facts["steps"][name]):
            losses, gradients = step(batch)
            losses = {loss: float(value) for loss, value in losses.items()}
            by_weight = {id(v): gradient for v, gradient in zip(everything, gradients, strict=True)}
            total = sum(losses.values()) + decay_loss(chosen)
            if i == 0:
                check_first_step(losses, said)
                full = [np.asarray(by_weight[id(v)]) + decay_gradient(v) for v in tensors]
                norms = np.array([np.linalg.norm(gradient) for gradient in full])
                np.testing.assert_allclose(norms, recorded[f"{name}_grad_norms"], rtol=5e-2)
                assert np.linalg.norm(norms) == pytest.approx(said["grad_global_norm"], rel=5e-2)
                error = np.abs(sampled(full) - recorded[f"{name}_grad_sample"])
                assert (error <= 5e-2 * recorded[f"{name}_grad_norms"][:, None]).all()
            assert total == pytest.approx(said["total"], rel=(5e-3, 5e-3, 1e-2, 2e-2)[i])
            if i in (1, 3):
                expected_weights = recorded[f"{name}_weights_after_{i}"]
                move = np.abs(expected_weights - start).max()
                assert np.abs(sampled(tensors) - expected_weights).max() <= {1: 5e-2, 3: 0.2}[i] * move
            optimizer.apply([by_weight[id(v)] for v in chosen], chosen)


def check_first_step(losses: dict[str, float], said: dict[str, float]) -> None:
    """The heads' losses may differ by what the samples on the far edge of a map do."""
    limits = {"rpn_class": 1e-5, "rpn_box": 1e-5, "class": 5e-3, "box": 5e-3, "mask": 5e-3}
    original = dict(zip(LOSSES, ("rpn_class", "rpn_bbox", "mrcnn_class", "mrcnn_bbox", "mrcnn_mask"), strict=True))
    for name in LOSSES:
        assert losses[name] == pytest.approx(said[f"{original[name]}_loss"], rel=limits[name]), name


def decay_loss(variables: list[Any]) -> float:
    """The weight decay as the original adds it to the losses."""
    decayed = [np.asarray(v).astype(np.float64) for v in variables if v.name not in NOT_DECAYED]
    return DECAY * sum(float((w**2).sum()) / w.size for w in decayed)


def decay_gradient(variable: Any) -> np.ndarray | float:
    if variable.name in NOT_DECAYED:
        return 0.0
    weights = np.asarray(variable)
    return 2 * DECAY * weights / weights.size
