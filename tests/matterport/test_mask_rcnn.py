"""The original's MaskRCNN on a small network with random weights: what holds whatever it sees."""

from __future__ import annotations

import datetime
import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from streamseg.matterport import Config, MaskRCNN, utils
from streamseg.matterport.model import OUTPUTS, log
from streamseg.model.matterport_h5 import HEADS, named_weights, save_matterport
from streamseg.types import ModelError, UsageError
from tests.matterport.conftest import Recorded, unpacked


class Small(Config):
    NAME = "Small"
    BACKBONE = "resnet50"
    NUM_CLASSES = 3
    IMAGES_PER_GPU = 2
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 128
    IMAGE_RESIZE_MODE = "pad64"
    TOP_DOWN_PYRAMID_SIZE = 16
    FPN_CLASSIF_FC_LAYERS_SIZE = 32
    PRE_NMS_LIMIT = 200
    POST_NMS_ROIS_INFERENCE = 40
    DETECTION_MAX_INSTANCES = 6
    DETECTION_MIN_CONFIDENCE = 0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MaskRCNN:
    import keras

    keras.utils.set_random_seed(3)
    model = MaskRCNN("inference", Small(), tmp_path_factory.mktemp("logs"))
    calm(model)
    return model


def calm(model: MaskRCNN) -> None:
    """Random weights whose numbers neither grow from block to block nor leave the pictures."""
    for layer, tensors in named_weights(model.keras_model).items():
        if layer == "bn_conv1" or layer.endswith("branch2c") and "gamma" in tensors:
            tensors["gamma"].assign(np.full(tensors["gamma"].shape, 0.01, np.float32))


def picture(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def assert_alike(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(a["class_ids"], b["class_ids"])
    np.testing.assert_allclose(a["rois"], b["rois"], atol=1)
    np.testing.assert_allclose(a["scores"], b["scores"], atol=1e-4)
    assert (a["masks"] != b["masks"]).mean() < 0.01


def test_a_picture_gets_boxes_classes_scores_and_masks_in_its_own_pixels(model: MaskRCNN) -> None:
    (found,) = model.detect([picture(90, 120, 1)])
    n = len(found["rois"])
    assert 0 < n <= 6
    assert found["rois"].shape == (n, 4) and found["rois"].dtype == np.int32
    assert found["class_ids"].dtype == np.int32 and set(found["class_ids"]) <= {1, 2}
    assert found["scores"].dtype == np.float32 and (np.diff(found["scores"]) <= 0).all()
    assert found["masks"].shape == (90, 120, n) and found["masks"].dtype == bool
    y1, x1, y2, x2 = found["rois"].T
    assert (y1 >= 0).all() and (y1 < y2).all() and (y2 <= 90).all() and (x2 <= 120).all()
    outside = found["masks"].copy()
    for i, (top, left, bottom, right) in enumerate(found["rois"]):
        outside[top:bottom, left:right, i] = False
    assert not outside.any()


def test_any_number_of_pictures_of_any_size_is_found_as_each_alone(
    model: MaskRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one a step: in another sum the last bit of a box on the far border may fall to the other side, as in the original
    monkeypatch.setattr(model.config, "BATCH_SIZE", 1)
    sizes = [(90, 120), (128, 128), (90, 120)]
    pictures = [picture(*size, seed) for seed, size in enumerate(sizes)]
    together = model.detect(pictures)
    assert [found["masks"].shape[:2] for found in together] == sizes
    for image, found in zip(pictures, together, strict=True):
        assert_alike(model.detect([image])[0], found)
    assert model.detect([]) == []


def test_pictures_of_one_batch_keep_their_order(model: MaskRCNN) -> None:
    pictures = [picture(90, 120, seed) for seed in range(4)]
    found = model.detect(pictures)
    assert len({each["rois"].tobytes() for each in found}) == 4
    for i, again in zip((1, 0, 3, 2), model.detect([pictures[i] for i in (1, 0, 3, 2)]), strict=True):
        assert_alike(again, found[i])


def test_a_molded_picture_is_found_as_the_picture(model: MaskRCNN) -> None:
    image = picture(128, 128, 4)  # fits as it is
    molded, metas, windows = model.mold_inputs([image])
    assert windows.tolist() == [[0, 0, 128, 128]]
    assert_alike(model.detect_molded(molded, metas)[0], model.detect([image])[0])
    with pytest.raises(UsageError, match="image_metas: expected 1, one a picture, got 2"):
        model.detect_molded(molded, np.concatenate([metas, metas]))


def test_inputs_are_the_pictures_less_the_mean_with_what_is_known_of_them(model: MaskRCNN) -> None:
    images = [picture(90, 120, 5), picture(100, 100, 6)]
    with pytest.raises(UsageError, match="expected one or more that become inputs of one size"):
        model.mold_inputs(images)
    molded, metas, windows = model.mold_inputs(images[:1])
    assert molded.shape == (1, 128, 192, 3) and molded.dtype == np.float64
    parts = utils.parse_image_meta(metas)
    assert parts["original_image_shape"].tolist() == [[90, 120, 3]]
    assert parts["window"].tolist() == windows.tolist() == [[0, 10, 128, 181]]
    np.testing.assert_allclose(molded[0, 0, 0], -model.config.MEAN_PIXEL)  # padded with zeros, before the mean


def test_the_steps_lead_to_the_detections(model: MaskRCNN) -> None:
    image = picture(90, 120, 7)
    steps = model.run_graph([image], OUTPUTS)
    assert set(steps) == set(OUTPUTS)
    kept = steps["post_nms_anchor_ix"]
    assert kept.ndim == 1
    np.testing.assert_array_equal(steps["proposals"][0, : len(kept)], steps["refined_anchors_clipped"][0, kept])
    # the proposal network's own deltas, applied by hand
    anchors, index = model.get_anchors((128, 192, 3)), steps["pre_nms_anchor_ix"][0]
    np.testing.assert_allclose(anchors[index], steps["pre_nms_anchors"][0], atol=1e-6)
    moved = utils.apply_box_deltas(anchors[index], steps["rpn_bbox"][0, index] * model.config.RPN_BBOX_STD_DEV)
    np.testing.assert_allclose(moved, steps["refined_anchors"][0], atol=1e-5)
    scores = steps["rpn_class"][0, index, 1]
    assert (np.diff(scores) <= 0).all() and scores[0] == steps["rpn_class"][0, :, 1].max()
    # and the last of them, unmolded by hand
    rois, class_ids, _, masks = model.unmold_detections(
        steps["detections"][0], steps["masks"][0], image.shape, (128, 192, 3), (0, 10, 128, 181)
    )
    (found,) = model.detect([image])
    np.testing.assert_array_equal(class_ids, found["class_ids"])
    np.testing.assert_allclose(rois, found["rois"], atol=1)
    assert (masks != found["masks"]).mean() < 0.01


def test_steps_of_several_pictures_stand_picture_by_picture(model: MaskRCNN) -> None:
    images = [picture(90, 120, 7), picture(90, 120, 8)]
    steps = model.run_graph(images, ["proposals", "post_nms_anchor_ix"])
    assert steps["proposals"].shape == (2, 40, 4) and len(steps["post_nms_anchor_ix"]) == 2
    alone = model.run_graph(images[1:], ["proposals"])["proposals"]
    np.testing.assert_allclose(steps["proposals"][1], alone[0], atol=1e-4)
    molded, metas, _ = model.mold_inputs(images)
    again = model.run_graph(molded, ["proposals"], image_metas=metas)["proposals"]
    np.testing.assert_allclose(again, steps["proposals"], atol=1e-4)
    with pytest.raises(UsageError, match=r"outputs: 'proposal' is none of them; did you mean 'proposals'\?"):
        model.run_graph(images, ["proposal"])


def test_weights_written_and_read_again_find_the_same(model: MaskRCNN, tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    save_matterport(model.keras_model, path)
    image = picture(90, 120, 9)
    before = model.detect([image])[0]
    weights = model.named_weights()
    assert weights["conv1"]["kernel"].shape == (7, 7, 3, 64) and set(weights["bn_conv1"]) >= {"gamma", "moving_mean"}
    model.keras_model.rpn.logits.kernel.assign(weights["rpn_class_raw"]["kernel"] * -1)
    report = model.load_weights(path)
    assert not report.skipped and not report.missing and "conv1/kernel" in report.loaded
    assert_alike(model.detect([image])[0], before)


def test_weights_of_other_classes_load_without_their_heads(model: MaskRCNN, tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    save_matterport(model.keras_model, path)

    class Other(Small):
        NUM_CLASSES = 5

    other = MaskRCNN("inference", Other(), tmp_path)
    with pytest.raises(ModelError, match=r"mrcnn_class_logits/kernel: expected shape \(32, 5\), got \(32, 3\)"):
        other.load_weights(path, by_name=True)
    report = other.load_weights(path, by_name=True, exclude=list(HEADS))
    assert "mrcnn_mask/kernel" in report.missing and "rpn_conv_shared/kernel" in report.loaded
    report = other.load_weights(path, exclude=[*HEADS, "rpn_model"])
    left = {name.partition("/")[0] for name in report.missing}
    assert left == {*HEADS, "rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred"} - {"mrcnn_bbox"}


def test_the_newest_weights_of_the_newest_run_are_found(model: MaskRCNN) -> None:
    folder = Path(model.model_dir)
    with pytest.raises(FileNotFoundError, match="no training of small lies there") as nothing:
        model.find_last()
    assert nothing.value.errno == errno.ENOENT
    (folder / "small20190101T0000").mkdir()
    with pytest.raises(FileNotFoundError, match="no weights of this training lie there: .*small20190101T0000") as empty:
        model.find_last()
    assert empty.value.errno == errno.ENOENT
    for run, epochs in {
        "small20190301T1200": (1, 2),
        "small20190302T0900": (3, 12, 4),
        "tall20200101T0000": (9,),
        "smaller20200101T0000": (9,),
        "small_old_20190101": (9,),
    }.items():
        (folder / run).mkdir()
        for epoch in epochs:
            (folder / run / f"mask_rcnn_small_{epoch:04d}.h5").touch()
    (folder / "small20190302T0900" / "mask_rcnn_small_0013.part.h5").touch()  # as a killed training left it
    last = model.find_last()
    assert last == str(folder / "small20190302T0900" / "mask_rcnn_small_0012.h5")
    model.set_log_dir(last)
    assert model.epoch == 12 and model.log_dir == str(folder / "small20190302T0900")
    assert model.checkpoint_path.format(epoch=13) == os.path.join(model.log_dir, "mask_rcnn_small_0013.h5")
    (folder / "small20190302T0900" / "mask_rcnn_small_0013.weights.h5").touch()  # a ModelCheckpoint's
    model.set_log_dir(model.find_last())
    assert model.epoch == 13 and model.log_dir == str(folder / "small20190302T0900")
    model.set_log_dir("/small20191399T1200/mask_rcnn_small_0003.h5")
    assert model.epoch == 0, "there is no 13th month"
    model.set_log_dir("mask_rcnn_coco.h5")
    today = f"small{datetime.datetime.now():%Y%m%d}"
    assert model.epoch == 0 and Path(model.log_dir).name.startswith(today)


def test_a_training_of_any_name_goes_on(model: MaskRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.config, "NAME", "Two words.v2 [b]")
    run = Path(model.model_dir) / "two words.v2 [b]20190301T1200"
    run.mkdir()
    (run / "mask_rcnn_two words.v2 [b]_0007.h5").touch()
    model.set_log_dir(model.find_last())
    assert model.epoch == 7 and model.log_dir == str(run)


def test_wrong_use_is_named(model: MaskRCNN, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mode: expected training or inference, got 'infer'"):
        MaskRCNN("infer", Small(), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="NAME: expected the name of the experiment"):
        MaskRCNN("inference", type("Nameless", (Small,), {"NAME": None})(), tmp_path)
    with pytest.raises(UsageError, match=r"expected \(height, width, 3\) RGB, got \(90, 120\)"):
        model.detect([np.zeros((90, 120), np.uint8)])
    with pytest.raises(UsageError, match=r"got one of \(90, 120, 3\); write \[image\]"):
        model.detect(picture(90, 120, 1))
    for unread in (None, "street.jpg"):  # what cv2.imread returns of no file, and its name
        with pytest.raises(UsageError, match=rf"expected \(height, width, 3\) RGB, got {unread!r}"):
            model.detect([unread])  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"config: expected a Config, got its class; write Small\(\)"):
        MaskRCNN("inference", Small, tmp_path)  # type: ignore[arg-type]


def test_a_picture_may_be_whatever_numpy_makes_an_array_of(model: MaskRCNN) -> None:
    image = picture(90, 120, 1)
    whole, listed, pil = model.detect([image, image.tolist(), Image.fromarray(image)])  # type: ignore[list-item]
    assert_alike(whole, listed)
    assert_alike(whole, pil)


@pytest.mark.parametrize(("mode", "message"), [("crop", "crop is for training"), ("none", "multiples of 64")])
def test_a_resize_mode_that_cannot_detect_is_named(
    model: MaskRCNN, monkeypatch: pytest.MonkeyPatch, mode: str, message: str
) -> None:
    monkeypatch.setattr(model.config, "IMAGE_RESIZE_MODE", mode)
    with pytest.raises(UsageError, match=message):
        model.detect([picture(90, 120, 1)])


def test_verbose_says_what_is_looked_at(model: MaskRCNN, capsys: pytest.CaptureFixture[str]) -> None:
    model.detect([picture(90, 120, 1)], verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Processing 1 images" and lines[1].split()[:2] == ["image", "shape:"] and "uint8" in lines[1]
    log("none", np.zeros((0, 4)))
    assert "empty" in capsys.readouterr().out


def test_detections_are_unmolded_as_recorded(model: MaskRCNN, shapes128: Recorded) -> None:
    arrays, case = shapes128.arrays("utils"), shapes128.facts("utils")["unmold_detections"]
    rois, class_ids, scores, masks = model.unmold_detections(
        arrays["ud_detections"],
        arrays["ud_masks"].astype(np.float32),
        case["original_shape"],
        case["image_shape"],
        case["window"],
    )
    np.testing.assert_array_equal(rois, arrays["ud_boxes"])
    np.testing.assert_array_equal(class_ids, arrays["ud_class_ids"])
    np.testing.assert_array_equal(scores, arrays["ud_scores"])
    wanted = unpacked(arrays["ud_full_masks"], case["full_masks_shape"])
    assert (masks != wanted).sum(axis=(0, 1)).max() <= 2


def test_nothing_found_is_an_empty_result(model: MaskRCNN) -> None:
    rois, class_ids, scores, masks = model.unmold_detections(
        np.zeros((6, 6), np.float32),
        np.zeros((6, 28, 28, 3), np.float32),
        (90, 120, 3),
        (128, 192, 3),
        (0, 10, 128, 181),
    )
    assert rois.shape == (0, 4) and masks.shape == (90, 120, 0) and masks.dtype == bool
    assert len(class_ids) == len(scores) == 0


def as_config(recorded: dict[str, Any]) -> Config:
    """A Config with the settings of a recorded case."""
    computed = {"BATCH_SIZE", "IMAGE_SHAPE", "IMAGE_META_SIZE"}
    settings = {name: value for name, value in recorded.items() if name not in computed}
    return type("OfCase", (Config,), settings)()


@pytest.mark.parametrize(
    "case",
    [
        "mole128",
        pytest.param("pad64", marks=pytest.mark.thorough),
        pytest.param("coco512", marks=pytest.mark.thorough),
    ],
)
def test_what_is_detected_is_what_the_original_detected(
    parity: Path, compare: ModuleType, tmp_path: Path, case: str
) -> None:
    """With the recorded weights: the molded pictures, the boxes, classes and scores, and every pixel of the masks."""
    weights, folder = tmp_path / f"{case}.h5", parity / "cases" / case
    command = [
        sys.executable,
        str(parity / "make_weights.py"),
        str(parity / f"weights_table_{case}.json"),
        str(weights),
    ]
    subprocess.run(command, check=True, capture_output=True)
    recorded = Recorded(folder).facts("config")
    model = MaskRCNN("inference", as_config(recorded["config"]), tmp_path)
    report = model.load_weights(weights)
    weights.unlink()
    assert not report.missing and not report.skipped
    images = [cv2.imread(str(folder / image["file"]))[..., ::-1] for image in recorded["images"]]
    molded, metas, windows = model.mold_inputs(images)
    final = [(f["rois"], f["class_ids"], f["scores"], f["masks"]) for f in model.detect(images)]
    got = {"molded_u8": utils.unmold_image(molded, model.config), "image_meta": metas, "windows": windows}
    compared = compare.inference(str(folder), {**got, "anchors": model.get_anchors(molded.shape[1:]), "final": final})
    assert compared.ok, str(compared)
    inputs = hashlib.sha256(molded.astype(np.float32).tobytes())
    assert inputs.hexdigest() == recorded["stats"]["molded"]["sha256_float32"]
