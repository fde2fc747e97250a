"""Training through the original's API: what learns, what is written, how it goes on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from streamseg.matterport import Dataset, MaskRCNN
from streamseg.types import UsageError
from tests.matterport.test_dataset import Squares
from tests.matterport.test_mask_rcnn import Small, calm


class Trained(Small):
    IMAGES_PER_GPU = 1
    IMAGE_RESIZE_MODE = "square"
    STEPS_PER_EPOCH = 2
    VALIDATION_STEPS = 1
    TRAIN_ROIS_PER_IMAGE = 12
    POST_NMS_ROIS_TRAINING = 40
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    MAX_GT_INSTANCES = 8


def weights_of(model: MaskRCNN) -> dict[str, np.ndarray]:
    return {f"{layer}/{name}": value for layer, each in model.named_weights().items() for name, value in each.items()}


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {name.partition("/")[0] for name in before if not np.array_equal(before[name], after[name])}


def test_stages_train_their_layers_and_leave_weights_that_go_on_and_detect(tmp_path: Path) -> None:
    model = MaskRCNN("training", Trained(), tmp_path)
    calm(model)
    start = weights_of(model)
    losses = model.train(Squares(), Squares(), learning_rate=0.001, epochs=1, layers="heads")
    assert {"loss", "val_loss"} <= set(losses) and len(losses["loss"]) == 1
    heads = weights_of(model)
    learned = changed(start, heads)
    assert learned and all(name.startswith(("mrcnn_", "rpn_", "fpn_")) for name in learned)
    model.train(Squares(), Squares(), 0.001, epochs=2, layers="all", augmentation={"flip_left_right": True})
    assert "conv1" in changed(heads, weights_of(model)) and model.epoch == 2

    files = sorted(path.name for path in Path(model.log_dir).glob("*.h5"))
    assert files == ["mask_rcnn_small_0001.h5", "mask_rcnn_small_0002.h5"]
    again = MaskRCNN("training", Trained(), tmp_path)
    report = again.load_weights(again.find_last())
    assert not report.missing and not report.skipped
    assert (again.epoch, again.log_dir) == (2, model.log_dir)
    assert not changed(weights_of(again), weights_of(model))
    assert again.train(Squares(), Squares(), 0.001, epochs=2, layers="heads") == {}  # both are done

    detecting = MaskRCNN("inference", Trained(), tmp_path)
    detecting.load_weights(detecting.find_last(), by_name=True)
    (found,) = detecting.detect([cv2.resize(Squares().load_image(0), (90, 60))])
    assert found["masks"].shape[:2] == (60, 90)


def test_wrong_use_of_a_training_is_named(tmp_path: Path) -> None:
    model = MaskRCNN("training", Trained(), tmp_path)
    with pytest.raises(UsageError, match='detect: make the model with mode="inference"'):
        model.detect([np.zeros((64, 64, 3), np.uint8)])
    with pytest.raises(
        UsageError, match="augmentation: expected fields of AugmentConfig, such as flip_left_right, got"
    ):
        model.train(Squares(), Squares(), 0.1, 1, "heads", augmentation="flips")  # type: ignore[arg-type]
    other = Dataset()
    other.add_class("squares", 1, "square")
    other.prepare()
    with pytest.raises(
        UsageError, match="expected the 3 classes of NUM_CLASSES, background included, got 2: BG, square"
    ):
        model.train(other, Squares(), 0.1, 1, "heads")
