"""The Matterport family's five losses on numbers that can be done by hand, and on truth that must not count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from streamseg.config import ModelConfig, StageConfig, TrainingConfig
from streamseg.model.anchors import anchors_in_pixels
from streamseg.model.losses import LOSSES, TrainedMaskRCNN
from streamseg.model.mask_rcnn import MaskRCNN
from streamseg.model.targets import match_anchors
from tests.model.conftest import compiled_on_jax

Losses = Callable[[dict[str, Any]], dict[str, float]]

NARROW = ModelConfig.matterport(
    class_names=("background", "cat", "dog"),
    backbone="resnet50",
    input_sizes=((64, 64),),
    anchor_sizes=((8,), (16,), (32,), (48,), (64,)),
    fpn_channels=8,
    rpn_channels=8,
    box_channels=16,
    mask_channels=8,
)


def number(tensor: Any) -> float:
    return float(ops.convert_to_numpy(tensor))


@pytest.fixture(scope="module")
def narrow() -> TrainedMaskRCNN:
    keras.utils.set_random_seed(0)
    stage = StageConfig(epochs=1, crop=64)
    training = TrainingConfig.model_validate(
        {"train": "shapes", "stages": (stage,), "roi_samples": 24, "mask_samples": 7, "num_proposals": 1000}
    )
    model = TrainedMaskRCNN(MaskRCNN(NARROW, name="network"), training, name="training")
    model.build()
    network = model.network
    for head in (network.rpn.logits, network.rpn.deltas, network.box_head.logits, network.mask_head.logits):
        head.kernel.assign(np.zeros(head.kernel.shape, np.float32))  # it knows nothing
    return model


def one_object(class_id: int) -> dict[str, Any]:
    """A grey picture with an object in its middle, or a crowd there, or nothing."""
    boxes = np.zeros((1, 3, 4), np.float32)
    boxes[0, 0] = (14, 18, 47, 50) if class_id else 0
    class_ids = np.array([[class_id, 0, 0]], np.int32)
    match, nearest = match_anchors(
        anchors_in_pixels(NARROW, 64, 64, "float64"), boxes[0], class_ids[0], positive_iou=0.7, negative_iou=0.3
    )
    batch = {
        "images": np.full((1, 64, 64, 3), 127, np.uint8),
        "boxes": boxes,
        "class_ids": class_ids,
        "mask_boxes": boxes,
        "mini_masks": np.full((1, 3, 14, 14), 255, np.uint8),
        "mask_weights": (class_ids > 0).astype(np.float32),
        "anchor_match": match[None],
        "anchor_truth": nearest[None],
    }
    return {name: ops.convert_to_tensor(value) for name, value in batch.items()}


@pytest.fixture(scope="module")
def losses(narrow: TrainedMaskRCNN) -> Losses:
    """From a batch of one picture to its losses, in the network's order: JAX sorts what a graph returns by name."""
    names: list[str] = []

    def in_order(batch: dict[str, Any]) -> list[Any]:
        said = narrow(batch)
        names[:] = said
        return list(said.values())

    graph = compiled_on_jax(narrow, in_order)

    def look(batch: dict[str, Any]) -> dict[str, float]:
        values = graph(batch)  # the names are known once it was called
        return {name: number(loss[0]) for name, loss in zip(names, values, strict=True)}

    return look


def test_a_network_that_knows_nothing_has_the_losses_of_a_coin(losses: Losses) -> None:
    found = losses(one_object(2))
    assert tuple(found) == LOSSES
    assert found["rpn_class"] == pytest.approx(np.log(2), rel=1e-5)
    assert found["class"] == pytest.approx(np.log(3), rel=1e-5)
    assert found["mask"] == pytest.approx(np.log(2), rel=1e-5)
    assert found["rpn_box"] > 0 and found["box"] > 0


def test_the_heads_learn_on_the_proposals_that_are_given(losses: Losses) -> None:
    batch = one_object(2)
    proposals = np.zeros((1, 5, 4), np.float32)
    proposals[0, :2] = (16, 16, 48, 48), (18, 18, 50, 46)
    on_it = losses({**batch, "proposals": ops.convert_to_tensor(proposals)})
    assert on_it["box"] > 0 and on_it["mask"] > 0
    beside = losses({**batch, "proposals": ops.convert_to_tensor(proposals * 0.2)})
    assert beside["box"] == beside["mask"] == 0


@pytest.mark.parametrize("class_id", [0, -1])
def test_without_an_object_only_the_background_is_learnt(class_id: int, losses: Losses) -> None:
    found = losses(one_object(class_id))
    assert found["rpn_class"] == pytest.approx(np.log(2), rel=1e-5)
    assert found["class"] == pytest.approx(np.log(3), rel=1e-5)
    assert found["rpn_box"] == found["box"] == found["mask"] == 0


def test_the_heads_teach_the_proposal_network_nothing(narrow: TrainedMaskRCNN) -> None:
    """Where no anchor has a say, only the heads' losses are left, and they stop at the proposals."""
    tf = pytest.importorskip("tensorflow")
    batch = one_object(2)
    batch["anchor_match"] = ops.zeros_like(batch["anchor_match"])
    parts = {part: getattr(narrow.network, part).trainable_variables for part in ("rpn", "box_head", "mask_head")}
    with tf.GradientTape() as tape:
        losses = narrow(batch, training=True)
        total = sum(losses.values())
    assert number(losses["rpn_class"][0]) == number(losses["rpn_box"][0]) == 0
    gradients = tape.gradient(total, {part: [v.value for v in variables] for part, variables in parts.items()})

    def steepest(part: str) -> float:
        return max(0.0 if each is None else float(np.abs(each).max()) for each in gradients[part])

    assert steepest("rpn") == 0 < min(steepest("box_head"), steepest("mask_head"))
