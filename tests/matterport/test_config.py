"""The original's settings: subclassed as scripts do it, shown, and turned into ours."""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from streamseg.config import ModelConfig, StageConfig, TrainingConfig
from streamseg.matterport import config as settings
from streamseg.matterport.config import FIELDS, Config, model_config, mold_of, training_config, trains_norm
from streamseg.matterport.utils import mold_image
from streamseg.types import UsageError
from tests.matterport.conftest import Recorded


class Balloons(Config):
    NAME = "balloon"
    IMAGES_PER_GPU = 3
    GPU_COUNT = 2
    NUM_CLASSES = 1 + 1
    STEPS_PER_EPOCH = 100
    DETECTION_MIN_CONFIDENCE = 0.9


class Moles(Config):
    NAME = "moles"
    NUM_CLASSES = 3
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 128
    DETECTION_MAX_INSTANCES = 3
    BACKBONE = "resnet50"
    RPN_BBOX_STD_DEV = np.array([0.1, 0.2, 0.3, 0.4])


def test_what_follows_from_other_settings_is_computed() -> None:
    config = Balloons()
    assert config.BATCH_SIZE == 6
    assert config.IMAGE_SHAPE.tolist() == [1024, 1024, 3]
    assert config.IMAGE_META_SIZE == 14


def test_a_cropped_input_has_the_smaller_side() -> None:
    class Cropped(Balloons):
        IMAGE_RESIZE_MODE = "crop"
        IMAGE_MIN_DIM = 512

    assert Cropped().IMAGE_SHAPE.tolist() == [512, 512, 3]


def test_display_prints_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    Balloons().display()
    lines = capsys.readouterr().out.splitlines()
    assert "Configurations:" in lines
    shown = dict(line.split(maxsplit=1) for line in lines if line[:1].isupper() and " " in line.strip())
    assert shown["NAME"] == "balloon" and shown["BATCH_SIZE"] == "6" and shown["LEARNING_RATE"] == "0.001"
    assert shown["RPN_ANCHOR_SCALES"] == "(32, 64, 128, 256, 512)"


def test_what_a_script_adds_to_its_config_is_a_setting_too() -> None:
    class Own(Balloons):
        folder = "data"

        def __init__(self) -> None:
            super().__init__()
            self.fold = 3

        def steps(self) -> int:
            return 1

    values = Own().to_dict()
    assert values["folder"] == "data" and values["fold"] == 3 and "steps" not in values


@pytest.mark.parametrize("case", ["mole128", "coco512", "pad64"])
def test_the_defaults_are_those_of_the_original(parity: Path, case: str) -> None:
    recorded = Recorded(parity / "cases" / case).facts("config")["config"]
    assert recorded.keys() == Config().to_dict().keys()
    own = {"NAME", "NUM_CLASSES", "BACKBONE", "IMAGES_PER_GPU", "IMAGE_MIN_DIM", "IMAGE_MAX_DIM", "IMAGE_RESIZE_MODE"}
    own |= {"DETECTION_MAX_INSTANCES", "DETECTION_MIN_CONFIDENCE", "BATCH_SIZE", "IMAGE_SHAPE", "IMAGE_META_SIZE"}
    for name in recorded.keys() - own:
        value = getattr(Config, name)
        assert np.array_equal(value, recorded[name]) if np.ndim(value) else value == recorded[name], name


def test_a_setting_spelt_almost_right_is_warned_of_and_other_constants_are_not() -> None:
    class Misspelt(Balloons):
        DETECTION_MIN_CONFIDENC = 0.5

    class OwnConstants(Balloons):
        IMAGE_PADDING = True
        FOLDER = "data"

    with pytest.warns(UserWarning, match=r"Misspelt\.DETECTION_MIN_CONFIDENC: did you mean DETECTION_MIN_CONFIDENCE"):
        Misspelt()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OwnConstants()


def test_a_config_becomes_the_model_it_describes() -> None:
    model = model_config(Moles(), class_names=["BG", "mole", "scar"])
    assert model == ModelConfig.matterport(
        class_names=("background", "mole", "scar"),
        backbone="resnet50",
        input_sizes=((128, 128),),
        min_side=128,
        max_detections=3,
        rpn_delta_std=(0.2, 0.1, 0.4, 0.3),  # ours begin with x
    )


def test_the_default_settings_are_the_default_model() -> None:
    class OneClass(Config):
        NUM_CLASSES = 2

    assert model_config(OneClass(), class_names=["BG", "person"]) == ModelConfig.matterport()
    assert model_config(OneClass()).class_names == ("background", "class 1")


@pytest.mark.parametrize("mean", [43.5, np.array([43.5]), [43.5, 43.5, 43.5]])
def test_one_mean_is_that_of_all_channels(mean: object) -> None:
    config = type("Grey", (Balloons,), {"MEAN_PIXEL": mean})()
    assert model_config(config).mean_pixel == (43.5, 43.5, 43.5)
    assert mold_image(np.full((1, 1, 3), 44, np.uint8), config).tolist() == [[[0.5, 0.5, 0.5]]]


@pytest.mark.parametrize("largest", [False, 0, None])
@pytest.mark.parametrize("smallest", [0, 128])
def test_pad64_has_no_largest_input_to_detect_in_and_needs_one_to_train_on(largest: object, smallest: int) -> None:
    sizes = {"IMAGE_RESIZE_MODE": "pad64", "IMAGE_MIN_DIM": smallest, "IMAGE_MAX_DIM": largest}
    config = type("Unlimited", (Balloons,), sizes)()
    assert config.IMAGE_SHAPE.tolist() == [0, 0, 3]
    model_config(config)
    mold = mold_of(config, np.zeros((100, 2000, 3), np.uint8))
    assert mold.scale == (1.28 if smallest else 1)
    assert mold.picture(np.zeros((100, 2000, 3), np.uint8)).shape == (128, 2560 if smallest else 2048, 3)
    with pytest.raises(UsageError, match="IMAGE_MAX_DIM: expected the side of the largest input to train on, got"):
        training_config(config, datasets={"train": "a.json"}, learning_rate=0.1, epochs=1)


def test_a_config_becomes_the_training_it_describes() -> None:
    training = training_config(
        Balloons(), datasets={"train": "balloons.json"}, learning_rate=0.002, epochs=30, layers="heads"
    )
    (stage,) = training.stages
    assert (stage.epochs, stage.batch_size, stage.learning_rate, stage.layers) == (30, 6, 0.002, "heads")
    assert (stage.crop, stage.scale, stage.schedule) == (1024, (1, 1), "constant")
    assert not stage.augment.flip_left_right and stage.augment.colour == stage.augment.aspect == 0
    assert (training.optimizer, training.momentum, training.weight_decay, training.clip_norm) == ("sgd", 0.9, 1e-4, 5)
    assert training.num_proposals == 2000 and not training.train_norm
    assert (training.roi_samples, training.mask_samples, training.max_objects) == (200, 66, 100)
    assert training.loss_weights == {"rpn_class": 1, "rpn_box": 1, "class": 1, "box": 1, "mask": 1}


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("NUM_CLASSES", 1, "NUM_CLASSES: expected the background and at least one class, got 1"),
        ("BACKBONE", "resnet34", "BACKBONE: expected resnet50 or resnet101, got 'resnet34'"),
        ("IMAGE_MAX_DIM", 1000, "IMAGE_MAX_DIM: expected a multiple of 64, got 1000"),
        ("IMAGE_RESIZE_MODE", "sqare", "IMAGE_RESIZE_MODE: expected none, square, pad64, crop, got 'sqare'"),
        ("IMAGE_CHANNEL_COUNT", 4, "IMAGE_CHANNEL_COUNT: expected 3, got 4"),
        ("MASK_SHAPE", [56, 56], r"MASK_SHAPE: expected \[28, 28\], got \[56, 56\]"),
        ("BACKBONE_STRIDES", [2, 4, 8, 16, 32], "BACKBONE_STRIDES: expected"),
        ("RPN_ANCHOR_SCALES", (8, 16), r"expected 5, .* got 2; append 3, such as \(8, 16, 32, 64, 128\)"),
        ("RPN_ANCHOR_SCALES", (8, 16, 32, 64), r"of BACKBONE_STRIDES, got 4; append 1, such as \(8, 16, 32, 64, 128\)"),
        ("RPN_ANCHOR_SCALES", (8, 16, 32, 64, 128, 256), "RPN_ANCHOR_SCALES: .* got 6; leave out 1"),
        ("IMAGE_MAX_DIM", False, "IMAGE_MAX_DIM: expected a multiple of 64, got 0"),
        ("MEAN_PIXEL", [1, 2], r"MEAN_PIXEL: expected R, G, B or one number, got \[1, 2\]"),
    ],
)
def test_a_network_that_cannot_be_is_refused_by_the_name_of_the_setting(
    setting: str, value: object, message: str
) -> None:
    config = type("Wrong", (Balloons,), {setting: value})()
    with pytest.raises(UsageError, match=message):
        model_config(config)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("USE_RPN_ROIS", False), ("USE_MINI_MASK", False), ("GRADIENT_CLIP_NORM", 0), ("MAX_GT_INSTANCES", 0)],
)
def test_a_training_that_cannot_be_is_refused_by_the_name_of_the_setting(setting: str, value: object) -> None:
    config = type("Wrong", (Balloons,), {setting: value})()
    with pytest.raises(UsageError, match=f"{setting}: expected"):
        training_config(config, datasets={"train": "a.json"}, learning_rate=0.1, epochs=1)


def test_losses_that_are_not_weighted_count_once_and_others_are_refused() -> None:
    def weights(given: dict[str, float]) -> dict[str, float]:
        config = type("Weighted", (Balloons,), {"LOSS_WEIGHTS": given})()
        return training_config(config, datasets={"train": "a.json"}, learning_rate=0.1, epochs=1).loss_weights

    assert weights({"mrcnn_mask_loss": 2}) == {"rpn_class": 1, "rpn_box": 1, "class": 1, "box": 1, "mask": 2}
    with pytest.raises(UsageError, match="LOSS_WEIGHTS: .* got 'mask_loss'; did you mean 'mrcnn_mask_loss'"):
        weights({"mask_loss": 2})


@pytest.mark.parametrize(("rois", "ratio", "product"), [(4, 0.2, "0.8"), (3, 0.33, "0.99"), (10, 1.5, "15")])
def test_too_few_or_too_many_positive_proposals_are_refused_by_both_settings(
    rois: int, ratio: float, product: str
) -> None:
    config = type("Wrong", (Balloons,), {"TRAIN_ROIS_PER_IMAGE": rois, "ROI_POSITIVE_RATIO": ratio})()
    message = rf"TRAIN_ROIS_PER_IMAGE \* ROI_POSITIVE_RATIO: expected 1 positive .*, got {rois} \* {ratio} = {product}"
    with pytest.raises(UsageError, match=message):
        training_config(config, datasets={"train": "a.json"}, learning_rate=0.1, epochs=1)


def test_a_value_that_a_field_refuses_is_named_by_its_setting() -> None:
    config = type("Wrong", (Balloons,), {"RPN_NMS_THRESHOLD": 1.5})()
    with pytest.raises(UsageError, match=r"RPN_NMS_THRESHOLD: expected less than or equal to 1, got 1\.5"):
        model_config(config)


def test_every_setting_says_what_it_is() -> None:
    tree = ast.parse(Path(settings.__file__).read_text(encoding="utf-8"))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    described = {
        node.target.id
        for node, after in zip(body, body[1:], strict=False)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }
    assert described == {name for name in vars(Config) if name.isupper()}


def test_the_table_of_settings_names_each_and_the_field_that_it_becomes() -> None:
    rows = {}
    for line in (
        (Path(__file__).resolve().parents[2] / "docs" / "matterport.md").read_text(encoding="utf-8").split("\n")
    ):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and cells[0].strip("`")[:4].isupper():
            rows |= dict.fromkeys(re.findall(r"`([A-Z_]+)`", cells[0]), cells[1])
    assert rows.keys() == Config().to_dict().keys()
    for name, field in FIELDS.items():
        assert f"`{field}`" in rows[name], name
    known = {
        *(f"model.{name}" for name in ModelConfig.model_fields),
        *(f"training.{name}" for name in TrainingConfig.model_fields),
        *(f"training.stages.{name}" for name in StageConfig.model_fields),
    }
    named = {field for cell in rows.values() for field in re.findall(r"`((?:model|training)\.[a-z_.]+)`", cell)}
    assert set(FIELDS.values()) <= named <= known


def test_names_and_number_of_classes_must_agree() -> None:
    with pytest.raises(UsageError, match="NUM_CLASSES: expected 3, one for each of the class names, got 2"):
        model_config(Balloons(), class_names=["BG", "a", "b"])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DETECTION_MIN_CONFIDENCE", 1.5, "DETECTION_MIN_CONFIDENCE: expected less than or equal to 1"),
        ("RPN_ANCHOR_SCALES", ((32,), (64,), (128,), (256,), (512,)), "RPN_ANCHOR_SCALES: expected numbers such as"),
        ("RPN_NMS_THRESHOLD", None, "RPN_NMS_THRESHOLD: expected a number, got None"),
        ("MEAN_PIXEL", None, "MEAN_PIXEL: expected numbers such as"),
        ("MINI_MASK_SHAPE", 56, "MINI_MASK_SHAPE: expected numbers such as"),
        ("BBOX_STD_DEV", "wide", "BBOX_STD_DEV: expected numbers such as"),
    ],
)
def test_a_setting_of_another_kind_is_named(name: str, value: object, words: str) -> None:
    config = Balloons()
    setattr(config, name, value)
    with pytest.raises(UsageError, match=words):
        model_config(config)


def test_no_limit_of_scores_is_none_and_norms_are_frozen_by_any_false() -> None:
    config = Balloons()
    config.DETECTION_MIN_CONFIDENCE = None  # type: ignore[assignment]
    assert model_config(config).detection_min_score == 0
    kept = []
    for value in (False, 0, np.False_, None, True, 1):
        config.TRAIN_BN = value  # type: ignore[assignment]
        kept.append(trains_norm(config))
    assert kept == [False, False, False, True, True, True]


def test_a_property_that_is_not_ready_yet_is_not_asked() -> None:
    class Late(Config):
        NAME = "late"

        def __init__(self) -> None:
            super().__init__()
            self.extra = 3

        @property
        def EXTRA(self) -> int:
            return self.extra

    assert Late().EXTRA == 3
