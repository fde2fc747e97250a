"""Training through the original's API: what learns, what is written, how it goes on."""

from __future__ import annotations

import random
import subprocess
import sys
import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest

from streamseg.config import AugmentConfig
from streamseg.matterport import Config, Dataset, MaskRCNN
from streamseg.matterport.config import training_config
from streamseg.matterport.losses import NamedLosses
from streamseg.matterport.train import Plan, Shelf, batches_of, num_devices
from streamseg.matterport.truth import load_image_gt
from streamseg.training.fit import matcher
from streamseg.training.loader import Batches
from streamseg.types import UsageError
from tests.backends import on_jax
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


class Placed(Dataset):
    """Pictures whose pixels say where they are: red is the row, green the column, blue 255 on the one object."""

    def __init__(self, *, shape: tuple[int, int], box: tuple[int, int, int, int], count: int = 1) -> None:
        super().__init__()
        self.shape, self.box, self.loaded = shape, box, Counter[int]()
        self.add_class("placed", 1, "thing")
        for i in range(count):
            self.add_image("placed", i, None)
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        self.loaded[image_id] += 1
        rows, columns = np.indices(self.shape)
        return np.stack([rows, columns, 255 * self.load_mask(image_id)[0][..., 0]], axis=-1).astype(np.uint8)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        y1, x1, y2, x2 = self.box
        mask = np.zeros((*self.shape, 1), bool)
        mask[y1:y2, x1:x2] = True
        return mask, np.array([1], np.int32)


def resizing(mode: str, *, smallest: int, largest: int, scale: float = 0) -> Config:
    sizes = {"IMAGE_RESIZE_MODE": mode, "IMAGE_MIN_DIM": smallest, "IMAGE_MAX_DIM": largest, "IMAGE_MIN_SCALE": scale}
    return type("Resizing", (Trained,), {"NUM_CLASSES": 2, **sizes})()  # type: ignore[no-any-return]


def batches(
    config: Config, *datasets: Dataset, augment: AugmentConfig | None = None, shelf: Shelf | None = None
) -> tuple[Batches, Batches]:
    """Those of a training on one dataset and, unless it is told, of a validation on the same."""
    training = training_config(
        config, datasets={"train": "here"}, learning_rate=0.001, epochs=1, layers="all", augment=augment
    )
    pictures = (shelf or Shelf()).take([datasets[0], datasets[-1]], training, config)
    plan = Plan(0.001, 1, "all", augment, 0, "", "")
    return batches_of(plan, config, training, pictures=pictures, match=None)


def rows_of(some: Batches) -> list[dict[str, np.ndarray]]:
    """The pictures of all batches of an epoch."""
    found = [some[i][0] for i in range(len(some))]
    return [{name: array[i] for name, array in each.items()} for each in found for i in range(len(each["images"]))]


def test_a_training_names_what_it_cannot_use(tmp_path: Path) -> None:
    model, dataset = MaskRCNN("training", Trained(), tmp_path), Squares()
    train = partial(model.train, dataset, learning_rate=0.001, epochs=1, layers="heads")
    with pytest.raises(UsageError, match="val_dataset: expected a Dataset, got None"):
        train(None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"custom_callbacks: expected a list, got TerminateOnNaN; write \[it\]"):
        train(dataset, custom_callbacks=keras.callbacks.TerminateOnNaN())  # type: ignore[arg-type]
    unprepared = Dataset()
    unprepared.add_class("squares", 1, "square")
    unprepared.add_image("squares", 1, None)
    with pytest.raises(UsageError, match=r"Dataset: call prepare\(\)"):
        train(unprepared)


def test_an_object_of_one_pixel_is_trained_on() -> None:
    config = resizing("square", smallest=64, largest=64)
    config.STEPS_PER_EPOCH = 1
    train, _ = batches(config, Placed(shape=(64, 64), box=(5, 5, 6, 6)))
    assert (rows_of(train)[0]["class_ids"] > 0).sum() == 1


def test_an_epoch_without_a_step_is_refused() -> None:
    config = resizing("square", smallest=64, largest=64)
    config.STEPS_PER_EPOCH = 0
    with pytest.raises(UsageError, match="STEPS_PER_EPOCH: expected 1 or more, got 0"):
        batches(config, Placed(shape=(64, 64), box=(5, 5, 40, 40)))


def test_a_share_of_a_step_is_a_whole_one() -> None:
    config = resizing("square", smallest=64, largest=64)
    config.STEPS_PER_EPOCH, config.VALIDATION_STEPS = 5 / 2, 1.5  # type: ignore[assignment]
    train, val = batches(config, Placed(shape=(64, 64), box=(5, 5, 40, 40)))
    assert len(train) == 3 and len(val) == 2


def test_a_training_sees_the_pictures_that_its_dataset_is_narrowed_to() -> None:
    dataset, shelf = Placed(shape=(64, 64), box=(5, 5, 40, 40), count=3), Shelf()
    config = resizing("square", smallest=64, largest=64)
    for fold in ([0, 1], [2]):
        dataset._image_ids = np.array(fold)
        before = dataset.loaded.copy()
        rows_of(batches(config, dataset, shelf=shelf)[0])
        assert set(dataset.loaded - before) == set(fold)


@pytest.mark.parametrize(
    ("config", "shape", "side"),
    [
        (resizing("square", smallest=800, largest=1024), (500, 400), 80),  # 2 × is 1000 × 800
        (resizing("square", smallest=0, largest=512), (250, 200), 40),  # as it is
        (resizing("square", smallest=0, largest=512, scale=2), (250, 200), 80),
        (resizing("square", smallest=0, largest=128), (256, 200), 20),  # half
        (resizing("pad64", smallest=256, largest=512), (128, 200), 80),
        (resizing("pad64", smallest=64, largest=256), (120, 200), 40),
        (resizing("none", smallest=0, largest=256), (128, 192), 40),
    ],
)
def test_a_training_sees_a_picture_and_its_object_as_load_image_gt_does(
    config: Config, shape: tuple[int, int], side: int
) -> None:
    dataset = Placed(shape=shape, box=(30, 50, 70, 90))
    image, _, class_ids, boxes, _ = load_image_gt(dataset, config, 0)
    for row in rows_of(batches(config, dataset)[0]):
        assert row["images"].shape == (*config.IMAGE_SHAPE,)
        np.testing.assert_array_equal(row["images"][: image.shape[0], : image.shape[1]], image)
        assert not row["images"][image.shape[0] :].any() and not row["images"][:, image.shape[1] :].any()
        assert row["boxes"][0].tolist() == boxes[0][[1, 0, 3, 2]].tolist()
        np.testing.assert_allclose(row["boxes"][0][2:] - row["boxes"][0][:2], side, atol=1)
        assert row["class_ids"].tolist() == [*class_ids, *[0] * (config.MAX_GT_INSTANCES - 1)]


@pytest.mark.parametrize("scale", [0, 2])
def test_a_training_cuts_its_crop_anew_each_time_at_the_scale_of_load_image_gt(scale: float) -> None:
    config = resizing("crop", smallest=64, largest=512, scale=scale)
    config.STEPS_PER_EPOCH = 30
    dataset = Placed(shape=(96, 128), box=(40, 50, 60, 70))
    random.seed(8)  # of the corners of load_image_gt, some of which show the whole object
    sizes = {tuple(box[2:] - box[:2]) for _ in range(60) for box in load_image_gt(dataset, config, 0)[3]}
    corners = set()
    for row in rows_of(batches(config, dataset)[0]):
        assert row["images"].shape == (64, 64, 3)
        corners.add(tuple(row["images"][0, 0, :2]))
        rows, columns = np.nonzero(row["images"][..., 2] > 127)  # what is seen of the object
        if not row["class_ids"].any():
            continue  # four times nothing, or a sliver of it
        x1, y1, x2, y2 = row["boxes"][0]
        assert (x1, y1, x2, y2) == pytest.approx((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), abs=1)
        if min(x1, y1) > 0 and max(x2, y2) < 64:
            assert (y2 - y1, x2 - x1) == (20 * (scale or 1),) * 2 and (y2 - y1, x2 - x1) in sizes
    assert len(corners) > 20
    assert dataset.loaded[0] == 60 + 1


def test_a_picture_that_does_not_become_an_input_is_named() -> None:
    with pytest.raises(
        UsageError, match=r"picture 0: expected an input of at most 128 × 128 pixels \(IMAGE_MAX_DIM\) "
    ):
        batches(resizing("pad64", smallest=128, largest=128), Placed(shape=(100, 200), box=(0, 0, 9, 9)))[0][0]
    with pytest.raises(UsageError, match="picture 0: expected sides that are multiples of 64 with resize mode none"):
        batches(resizing("none", smallest=0, largest=128), Placed(shape=(100, 128), box=(0, 0, 9, 9)))[0][0]


@pytest.mark.parametrize("mode", ["square", "crop"])
def test_only_the_training_pictures_are_augmented(mode: str) -> None:
    config = resizing(mode, smallest=64, largest=64)
    config.STEPS_PER_EPOCH = config.VALIDATION_STEPS = 8
    augment = AugmentConfig(flip_left_right=True, quarter_turns=True, aspect=0, colour=0)
    train, val = batches(config, Placed(shape=(64, 64), box=(10, 20, 30, 50)), augment=augment)
    assert len({row["images"].tobytes() for row in rows_of(train)}) > 3
    assert {tuple(row["boxes"][0]) for row in rows_of(val)} == {(20, 10, 50, 30)}
    assert len({row["images"].tobytes() for row in rows_of(val)}) == 1


def test_pictures_are_read_once_for_all_calls_and_again_when_they_are_molded_otherwise() -> None:
    config, shelf = resizing("square", smallest=64, largest=64), Shelf()
    config.STEPS_PER_EPOCH = 6
    dataset = Placed(shape=(60, 50), box=(10, 20, 30, 50), count=3)
    for _ in range(2):
        assert len(rows_of(batches(config, dataset, shelf=shelf)[0])) == 6
    assert dataset.loaded == {0: 1, 1: 1, 2: 1}
    config.IMAGE_MIN_SCALE = 1.05
    rows_of(batches(config, dataset, shelf=shelf)[0])
    assert dataset.loaded == {0: 2, 1: 2, 2: 2}


def test_fewer_gpus_than_gpu_count_share_the_whole_batch_with_a_warning() -> None:
    config: Any = type("Four", (Trained,), {"GPU_COUNT": 4, "IMAGES_PER_GPU": 3})()
    with pytest.warns(
        UserWarning, match="GPU_COUNT: expected 4 GPUs, found 1 to train on; a step still takes 12 pictu"
    ):
        assert num_devices(config, there=1) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert num_devices(config, there=8) == 4
    odd: Any = type("Three", (Trained,), {"GPU_COUNT": 3, "IMAGES_PER_GPU": 1})()
    with pytest.warns(UserWarning, match="found 2"):
        assert num_devices(odd, there=2) == 1  # 3 pictures are no half


TWO_DEVICES = """
import os, sys
backend, folder = sys.argv[1:]
if backend == "jax":
    sys.modules["tensorflow"] = None
    os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=2"
    from tests.backends import draw_by_numpy
    draw_by_numpy()
else:
    import tensorflow as tf
    parts = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
import numpy as np
from streamseg.matterport import MaskRCNN
from streamseg.training.devices import device_names
from tests.matterport.test_dataset import Squares
from tests.matterport.test_train import Trained, calm, changed, weights_of

class Two(Trained):
    GPU_COUNT, STEPS_PER_EPOCH = 2, 1

assert len(device_names()) == 2
model = MaskRCNN("training", Two(), folder)
calm(model)
before = weights_of(model)
losses = model.train(Squares(), Squares(), 0.001, epochs=1, layers="heads")
assert np.isfinite(losses["loss"]).all() and np.isfinite(losses["val_loss"]).all()
learned = changed(before, weights_of(model))
assert learned and all(name.startswith(("mrcnn_", "rpn_", "fpn_")) for name in learned), learned
again = MaskRCNN("inference", Two(), folder)
again.load_weights(again.find_last())
assert not changed(weights_of(again), weights_of(model))
print("learned", len(learned))
"""


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_share_a_batch(backend: str, tmp_path: Path) -> None:
    environment = on_jax(KERAS_BACKEND=backend, CUDA_VISIBLE_DEVICES="")
    command = [sys.executable, "-W", "error::UserWarning:streamseg", "-c", TWO_DEVICES, backend, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.splitlines()[-1].startswith("learned ")


def tags_of(folder: str) -> set[str]:
    """The names of the numbers that TensorBoard is shown."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    events = [event for path in Path(folder).glob("*tfevents*") for event in EventFileLoader(str(path)).Load()]
    return {value.tag for event in events for value in event.summary.value}


def weights_of(model: MaskRCNN) -> dict[str, np.ndarray]:
    return {f"{layer}/{name}": value for layer, each in model.named_weights().items() for name, value in each.items()}


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {name.partition("/")[0] for name in before if not np.array_equal(before[name], after[name])}


@pytest.mark.usefixtures("eager")
def test_stages_train_their_layers_and_leave_weights_that_go_on_and_detect(tmp_path: Path) -> None:
    model = MaskRCNN("training", Trained(), tmp_path)
    calm(model)
    start = weights_of(model)
    losses = model.train(Squares(), Squares(), learning_rate=0.001, epochs=1, layers="heads")
    assert {"loss", "val_loss"} <= set(losses) and len(losses["loss"]) == 1
    assert {"val/loss", "val/mrcnn_mask_loss", "val/rpn_bbox_loss"} <= tags_of(model.log_dir)
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
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert again.train(Squares(), Squares(), 0.001, epochs=2, layers="heads") == {}
    assert any("epochs: 2 are done already, got 2" in str(each.message) for each in heard)

    detecting = MaskRCNN("inference", Trained(), tmp_path)
    detecting.load_weights(detecting.find_last(), by_name=True)
    (found,) = detecting.detect([cv2.resize(Squares().load_image(0), (90, 60))])
    assert found["masks"].shape[:2] == (60, 90)


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_a_network_without_weights_has_losses_to_begin_with(backbone: str, tmp_path: Path) -> None:
    config = type("New", (Trained,), {"BACKBONE": backbone})()
    keras.utils.set_random_seed(1)
    network = MaskRCNN("training", config, tmp_path).keras_model
    training = training_config(config, datasets={"train": "here"}, learning_rate=0.001, epochs=1)
    match = matcher(network.config, training, size=128)
    plan = Plan(0.001, 1, "all", None, 0, "", "")
    pictures = Shelf().take([Squares()] * 2, training, config)
    batch, _ = batches_of(plan, config, training, pictures=pictures, match=match)[0][0]
    losses = NamedLosses(network, training, written=network)(batch, training=True)
    assert set(losses) == {"rpn_class", "rpn_bbox", "mrcnn_class", "mrcnn_bbox", "mrcnn_mask"}
    assert all(np.isfinite(loss).all() and np.max(loss) < 100 for loss in losses.values()), losses


@pytest.mark.usefixtures("eager")
def test_wrong_use_of_a_training_is_named(tmp_path: Path) -> None:
    model = MaskRCNN("training", Trained(), tmp_path)
    with pytest.raises(UsageError, match='detect: make the model with mode="inference"'):
        model.detect([np.zeros((64, 64, 3), np.uint8)])
    with pytest.raises(
        UsageError,
        match="augmentation: expected fields of AugmentConfig, such as flip_left_right, or an augmenter .* got .flips",
    ):
        model.train(Squares(), Squares(), 0.1, 1, "heads", augmentation="flips")  # type: ignore[arg-type]
    other = Dataset()
    other.add_class("squares", 1, "square")
    other.prepare()
    with pytest.raises(
        UsageError, match="expected the 3 classes of NUM_CLASSES, background included, got 2: BG, square"
    ):
        model.train(other, Squares(), 0.1, 1, "heads")
    model.config.IMAGE_RESIZE_MODE = "none"  # only a batch finds out what that makes of a picture
    with pytest.raises(
        UsageError, match="Squares, picture .: expected sides that are multiples of 64 with resize mode"
    ):
        model.train(Squares(), Squares(), 0.1, 1, "heads")
