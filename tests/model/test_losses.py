"""The losses on numbers that can be done by hand, and on truth that must not count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from streamseg.model.losses import (
    TrainedMaskRCNN,
    active_class_loss,
    box_loss,
    class_loss,
    counting,
    dice_loss,
    giou_loss,
    mask_loss,
    smooth_l1,
    weighted_mean,
)
from streamseg.model.mask_rcnn import MaskRCNN
from tests.model.conftest import compiled
from tests.tiny_model import TINY, tiny_experiment

Losses = Callable[[dict[str, np.ndarray]], dict[str, float]]


def number(tensor: Any) -> float:
    return float(ops.convert_to_numpy(tensor))


def test_smooth_l1_is_a_parabola_and_then_a_line() -> None:
    values = smooth_l1(np.float32([0, 0.5, -1, 3]))
    np.testing.assert_allclose(ops.convert_to_numpy(values), [0, 0.125, 0.5, 2.5])


def test_a_mean_of_nothing_is_0() -> None:
    assert number(weighted_mean(np.float32([3, 5]), np.float32([0, 0]))) == 0
    assert number(weighted_mean(np.float32([3, 5]), np.float32([1, 1]))) == 4
    assert number(weighted_mean(np.float32([3, 5, 100]), np.float32([3, 1, 0]))) == 3.5


def test_class_loss_of_undecided_logits_is_the_log_of_the_number_of_classes() -> None:
    loss = class_loss(np.zeros((1, 2, 4), np.float32), np.array([[1, 3]]), np.float32([[1, 1]]))
    assert number(loss) == pytest.approx(np.log(4))


def test_class_loss_looks_at_weighted_rows_only() -> None:
    logits = np.float32([[[0, 20], [20, 0]]])
    assert number(class_loss(logits, np.array([[1, 1]]), np.float32([[1, 0]]))) == pytest.approx(0, abs=1e-6)
    assert number(class_loss(logits, np.array([[1, 1]]), np.float32([[0, 1]]))) == pytest.approx(20, abs=1e-3)


def test_a_roi_that_looks_like_a_class_unknown_to_its_dataset_does_not_count() -> None:
    logits = np.float32([[[0, 2, 0], [0, 0, 2]]] * 2)  # each picture has one of class 1 and one of class 2
    active = np.float32([[1, 1, 0], [1, 1, 1]])
    assert ops.convert_to_numpy(counting(logits, active)).tolist() == [[1, 0], [1, 1]]
    right, wrong = np.log(1 + 2 * np.exp(-2)), np.log(2 + np.exp(2))
    loss = active_class_loss(logits, np.array([[1, 0], [1, 0]]), active)
    assert number(loss) == pytest.approx((right + right + wrong) / 3, rel=1e-5)
    nothing = active_class_loss(logits, np.array([[0, 0], [0, 0]]), np.float32([[1, 0, 0]] * 2))
    assert number(nothing) == 0


def test_box_loss_is_the_mean_over_coordinates_of_the_weighted_boxes() -> None:
    deltas, targets = np.float32([[0, 0, 0, 0], [9, 9, 9, 9]]), np.float32([[1, 1, 3, 3], [0, 0, 0, 0]])
    assert number(box_loss(deltas, targets, np.float32([1, 0]))) == pytest.approx((0.5 + 0.5 + 2.5 + 2.5) / 4)


def test_mask_loss_is_the_cross_entropy_of_cells() -> None:
    logits = np.zeros((2, 3, 3), np.float32)
    targets = np.stack([np.ones((3, 3)), np.zeros((3, 3))]).astype(np.float32)
    assert number(mask_loss(logits, targets, np.ones(2, np.float32))) == pytest.approx(np.log(2))
    sure = np.float32([[[50.0]], [[-50.0]]])
    assert number(mask_loss(sure, np.float32([[[1]], [[0]]]), np.ones(2, np.float32))) == pytest.approx(0, abs=1e-6)
    assert number(mask_loss(sure, np.float32([[[0]], [[0]]]), np.ones(2, np.float32))) == pytest.approx(25)


def test_giou_loss_is_nothing_for_equal_boxes_and_grows_with_the_distance() -> None:
    truth = np.float32([[0, 0, 4, 2]])
    halves, beside, far = np.float32([[0, 0, 2, 2]]), np.float32([[4, 0, 8, 2]]), np.float32([[16, 0, 20, 2]])
    one = np.ones(1, np.float32)
    assert number(giou_loss(truth, truth, one)) == pytest.approx(0, abs=1e-6)
    assert number(giou_loss(halves, truth, one)) == pytest.approx(0.5)
    assert number(giou_loss(beside, truth, one)) == pytest.approx(1)
    assert number(giou_loss(far, truth, one)) == pytest.approx(1 + 12 / 20)
    assert number(giou_loss(10 * far, 10 * truth, one)) == pytest.approx(1 + 12 / 20)
    both = np.concatenate([truth, far]), np.concatenate([truth, truth])
    assert number(giou_loss(*both, np.float32([1, 0]))) == pytest.approx(0, abs=1e-6)


def test_dice_loss_is_the_overlap_whatever_the_size() -> None:
    """Sure masks of 8 and of 16 rows of cells, right and half right; the 1 added for empty ones is small here."""
    rows = np.arange(28)[None, :, None] * np.ones((1, 28, 28))
    for count in (8, 16):
        inside = rows < count
        sure = np.where(inside, 50.0, -50.0).astype(np.float32)
        half = np.where(rows < count / 2, 50.0, -50.0).astype(np.float32)
        goal, one = inside.astype(np.float32), np.ones(1, np.float32)
        assert number(dice_loss(sure, goal, one)) == pytest.approx(0, abs=1e-3)
        assert number(dice_loss(half, goal, one)) == pytest.approx(1 / 3, abs=3e-3)
    nothing = np.full((1, 28, 28), -50, np.float32)
    assert number(dice_loss(nothing, np.zeros((1, 28, 28), np.float32), one)) == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedMaskRCNN:
    keras.utils.set_random_seed(0)
    training = tiny_experiment(tmp_path_factory.mktemp("none") / "none.json").training
    assert training is not None
    network = MaskRCNN(TINY, name="network")
    model = TrainedMaskRCNN(network, training, name="training")
    model.build()
    return model


def batch(**changes: Any) -> dict[str, np.ndarray]:
    """Two grey pictures, each with one object in the middle and one masked half of it."""
    truth = {
        "images": np.full((2, 96, 96, 3), 127, np.uint8),
        "boxes": np.zeros((2, 4, 4), np.float32),
        "class_ids": np.zeros((2, 4), np.int32),
        "mask_boxes": np.zeros((2, 4, 4), np.float32),
        "mini_masks": np.full((2, 4, 14, 14), 255, np.uint8),
        "mask_weights": np.zeros((2, 4), np.float32),
    }
    truth["boxes"][:, 0] = truth["mask_boxes"][:, 0] = (30, 30, 70, 70)
    truth["class_ids"][:, 0], truth["mask_weights"][:, 0] = 1, 1
    return {**truth, **changes}


@pytest.fixture(scope="module")
def losses(model: TrainedMaskRCNN) -> Losses:
    """From a batch to the mean of each loss; as one graph, of whose operations JAX would compile each alone."""
    graph = compiled(model, model)
    return lambda truth: {name: number(ops.mean(loss)) for name, loss in graph(truth).items()}


def test_a_network_that_knows_nothing_has_the_losses_of_a_coin(losses: Losses) -> None:
    found = losses(batch())
    assert found["rpn_class"] == pytest.approx(np.log(2), abs=0.1)
    assert found["class"] == pytest.approx(np.log(2), abs=0.1)
    assert found["mask"] == pytest.approx(np.log(2), abs=0.1)
    assert found["rpn_box"] > 0


def test_objects_without_masks_have_no_mask_loss(losses: Losses) -> None:
    found = losses(batch(mask_weights=np.zeros((2, 4), np.float32)))
    assert found["mask"] == 0
    assert found["class"] > 0 and found["rpn_box"] > 0


def test_a_mask_weighs_as_much_as_it_is_given(model: TrainedMaskRCNN, losses: Losses) -> None:
    """One picture's mask is asked for and the other's is not: the loss is that of the first alone."""
    model.network.mask_head.logits.bias.assign([0.0, 3.0])
    truth = batch()
    truth["mini_masks"][1] = 0  # the second picture's object has no pixel at all
    weights = truth["mask_weights"]
    one = losses({**truth, "mask_weights": weights * np.float32([[1], [0]])})["mask"]
    other = losses({**truth, "mask_weights": weights * np.float32([[0], [1]])})["mask"]
    model.network.mask_head.logits.bias.assign([0.0, 0.0])
    assert one == pytest.approx(np.log(1 + np.exp(-3)), abs=0.05)
    assert other == pytest.approx(3 + np.log(1 + np.exp(-3)), abs=0.05)


def test_overlap_may_be_what_boxes_and_masks_cost(model: TrainedMaskRCNN, losses: Losses) -> None:
    """The true box, which is among the rois, is moved by 8 of its 40 pixels: a third of the overlap is wanting."""
    plain, before = losses(batch()), model.training_config
    bias = model.network.box_head.deltas.bias
    moved = np.zeros(bias.shape, np.float32)
    moved[4] = 8 / (0.1 * 40)
    bias.assign(moved)
    model.training_config = before.model_copy(update={"box_loss": "giou", "mask_dice": 2.0})
    try:
        graph = compiled(model, model)
        found = {name: number(ops.mean(loss)) for name, loss in graph(batch()).items()}
    finally:
        model.training_config = before
        bias.assign(np.zeros_like(moved))
    assert found["box"] == pytest.approx(1 / 3, abs=0.1)
    # a coin's mask of .5 everywhere, on an object that fills it: 1 - 2 · ½ / (¼ + 1) = .2
    assert found["mask"] - plain["mask"] == pytest.approx(2 * 0.2, abs=0.1)


def test_a_picture_that_is_all_crowd_teaches_nothing(losses: Losses) -> None:
    boxes = np.zeros((2, 4, 4), np.float32)
    boxes[:, 0] = (-300, -300, 400, 400)
    crowd = np.zeros((2, 4), np.int32)
    crowd[:, 0] = -1
    assert set(losses(batch(boxes=boxes, class_ids=crowd)).values()) == {0.0}


def test_a_picture_without_objects_teaches_background_only(losses: Losses) -> None:
    found = losses(batch(class_ids=np.zeros((2, 4), np.int32)))
    assert found["rpn_class"] > 0 and found["class"] > 0
    assert found["rpn_box"] == found["box"] == found["mask"] == 0


def test_background_that_looks_like_a_class_unknown_to_its_dataset_teaches_no_class(
    model: TrainedMaskRCNN, losses: Losses
) -> None:
    empty = batch(class_ids=np.zeros((2, 4), np.int32))
    bias = model.network.box_head.logits.bias
    bias.assign([0.0, 5.0])
    both, one, none = (
        losses({**empty, "active": np.float32(active)})["class"]
        for active in ([[1, 1], [1, 1]], [[1, 1], [1, 0]], [[1, 0], [1, 0]])
    )
    bias.assign([0.0, 0.0])
    assert both == pytest.approx(5, abs=0.1) and one == pytest.approx(5, abs=0.1)
    assert none == 0
