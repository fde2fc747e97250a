"""The Mask R-CNN of torchvision and detectron2 in our layers says what theirs say, stage by stage; a file that does not
fit is refused by the name of the tensor."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from streamseg.config import ExperimentConfig, ModelConfig, StageConfig, TrainingConfig, read_config
from streamseg.engines import _decisions
from streamseg.model import rpn
from streamseg.model.anchors import anchors_in_pixels, group_sizes, make_anchors
from streamseg.model.layers import to_be_filled
from streamseg.model.losses import LOSSES, TrainedMaskRCNN
from streamseg.model.mask_rcnn import MaskRCNN, load_network
from streamseg.model.rpn import best_anchors, propose
from streamseg.model.torchvision_weights import config_of, load_torchvision
from streamseg.model_folder import ModelFolder
from streamseg.training.fit import start_weights
from streamseg.training.layers import matching
from streamseg.types import ModelError, UsageError
from streamseg.zoo import COCO_IDS
from tests.model import torchvision_cases as cases
from tests.torch_files import write

ROOT = Path(__file__).resolve().parents[2]
HEADS = "box_head/(logits|deltas)|mask_head/logits"
LIMITS = {"proposals_before_nms": 200, "num_proposals": 100}
"""As `record_torchvision.py` sets them."""

VARIANTS = ["v2", *(pytest.param(case, marks=pytest.mark.thorough) for case in ("v1", "detectron2"))]
ENDINGS = {"v1": ".pth", "v2": ".safetensors", "detectron2": ".pkl"}


# --- stage by stage ---------------------------------------------------------------------------------------------------


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def assert_near(found: Any, expected: np.ndarray, limit: float, what: str) -> None:
    worst = float(np.abs(np.asarray(found) - expected).max())
    assert worst <= limit, f"{what}: {worst:.2e} off, at most {limit:.2e} expected"


def twins(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of boxes (n, c) the distance to the nearest of others (m, c), and which that is: (n,)."""
    distance = np.abs(boxes[:, None] - others[None]).max(-1)
    return distance.min(1), distance.argmin(1)


@pytest.fixture(params=VARIANTS)
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, MaskRCNN]]:
    """A case by its name, and its network from its file."""
    case = request.param
    path = write(tmp_path / f"model{ENDINGS[case]}", cases.weights(case), older=case == "v1")
    yield case, load_network(config_of(path, stated=LIMITS), path)
    path.unlink()


def test_every_stage_says_what_the_original_says(loaded: tuple[str, MaskRCNN]) -> None:
    case, network = loaded
    config, said = network.config, cases.recorded(case)
    if case == "v2":
        ready = read_config(ROOT / "configs" / "balloon_v2.yaml", ExperimentConfig).model
        own = {"class_names", "input_sizes", *LIMITS}
        assert ready.model_dump(exclude=own) == config.model_dump(exclude=own)
    size = {"width": cases.WIDTH, "height": cases.HEIGHT}
    windows = np.array([[0, 0, *cases.PICTURE]], np.float32)
    levels = network.features(cases.network_input())
    for i, level in levels.items():
        assert_near(cases.some_of(f"P{i}", np.asarray(level)), said[f"P{i}"], 1.5e-4 * said[f"P{i}.rms"], f"P{i}")

    logits, deltas = network.rpn([levels[i] for i in config.rpn_levels])
    objects = np.asarray(logits)[0, :, 1] - np.asarray(logits)[0, :, 0]
    assert_near(cases.some_of("rpn_logits", objects), said["rpn_logits"], 2e-4, "rpn_logits")
    assert_near(cases.some_of("rpn_deltas", np.asarray(deltas)), said["rpn_deltas"], 2e-4, "rpn_deltas")

    anchors = ops.convert_to_tensor(make_anchors(config, **size))
    best = best_anchors(logits, deltas, anchors, config, counts=group_sizes(config, **size))
    proposals = np.asarray(propose(best, config, **size, windows=windows)[0])[0]
    for some, others in ((proposals, said["proposals"]), (said["proposals"], proposals)):
        assert (twins(some, others)[0] < 0.01).mean() >= 0.99

    given = ops.convert_to_tensor(said["proposals"][None])
    pooled = network.pool(levels_of(levels, config), given, config.box_pool)
    assert_near(cases.some_of("pooled", np.asarray(pooled)), said["pooled"], 5e-4 * said["P2.rms"], "pooled")
    class_logits, box_deltas = network.box_head(pooled)
    assert_near(class_logits, said["logits"], 1e-3, "logits")
    assert_near(cases.some_of("deltas", np.asarray(box_deltas)), said["deltas"], 5e-4, "deltas")

    found = network.call(cases.network_input(), windows)
    detections, expected = np.asarray(found["detections"])[0], said["detections"]
    assert len(expected) == (detections[:, 4] > 0).sum() == config.max_detections
    apart = np.array([1, 1, 1, 1, 0, 1e3])  # of another class is far away
    distance, twin = twins(detections * apart, expected * apart)
    assert len(set(twin)) == len(expected)
    assert distance.max() < 5e-3
    assert_near(detections[:, 4], expected[twin, 4], 1e-4, "scores")

    rois, class_ids = expected[:, :4], expected[:, 5].astype(np.int32)
    ids = np.zeros(len(rois), np.int32)
    crops = network.crops(found["levels"], rois, ids)
    there = cases.some_of("mask_pooled", np.asarray(crops))
    assert_near(there, said["mask_pooled"], 5e-4 * said["P2.rms"], "mask_pooled")
    first = len(said["masks"])
    masks = network.masks(found["levels"], rois[:first], class_ids[:first], ids[:first])
    assert_near(masks, said["masks"], 4e-4, "masks")


def levels_of(levels: dict[int, Any], config: ModelConfig) -> dict[int, Any]:
    return {i: levels[i] for i in config.roi_levels}


@pytest.mark.parametrize("case", cases.CASES)
def test_a_recorded_case_says_a_lot(case: str) -> None:
    found = cases.recorded(case)["detections"]
    assert len(found) == 100
    assert len(set(found[:, 5])) >= 5 and found[:, 4].min() < 0.5 < found[:, 4].max()


# --- what a file says, and what is made of it -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of v2's layout for three classes, with a pyramid of 8 channels."""
    path = write(tmp_path_factory.mktemp("weights") / "birds.safetensors", cases.weights("narrow"))
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def other(narrow: Path) -> MaskRCNN:
    """A network of the same widths for two classes, all zeros."""
    config = config_of(narrow).model_copy(update={"class_names": ("background", "robin", "wren")})
    network = MaskRCNN(config, name="network")
    with to_be_filled():
        network.build()
    return network


@pytest.fixture
def changed(narrow: Path, tmp_path: Path) -> Iterator[Callable[[Callable[[dict[str, Any]], Any]], Path]]:
    """A copy of the file with something changed in its header."""
    path = tmp_path / "changed.safetensors"

    def make(change: Callable[[dict[str, Any]], Any]) -> Path:
        content = narrow.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
        return path

    yield make
    path.unlink(missing_ok=True)


def of_heads(network: MaskRCNN) -> list[Any]:
    return [variable for layer in matching(network, HEADS).values() for variable in layer]


def test_the_configuration_is_read_off_the_file(narrow: Path) -> None:
    config = config_of(narrow)
    assert config.class_names == ("background", "class 1", "class 2", "class 3")
    widths = config.backbone, config.fpn_channels, config.rpn_channels, config.box_channels, config.mask_channels
    assert widths == ("resnet50", 8, 8, 16, 8)
    assert (config.head_norms, config.rpn_layers, config.box_convolutions, config.box_layers) == (True, 2, 4, 1)
    assert (config.whole_anchors, config.roi_sampling, config.roi_aligned, config.block_stride) == (
        True,
        "two",
        False,
        3,
    )
    assert config.padding == (124, 116, 104)


def test_classes_and_inputs_may_be_stated_beside_the_file(narrow: Path) -> None:
    with pytest.raises(UsageError, match="birds.safetensors knows 3 classes beside the background, got 2 names"):
        ModelFolder.open(narrow, class_names=("robin", "wren"))
    beside = narrow.with_suffix(".yaml")
    beside.write_text("model: {class_names: [background, robin, wren, tit], input_sizes: [[224, 160]]}")
    try:
        model = ModelFolder.open(narrow)
    finally:
        beside.unlink()
    assert model.config.class_names[1:] == ("robin", "wren", "tit")
    assert model.config.input_sizes == ((224, 160),) and model.config.fpn_channels == 8


OF_DETECTRON2 = {
    "backbone.bottom_up.stem.conv1": (64, 3, 7, 7),
    "backbone.fpn_output2": (8, 8, 3, 3),
    "proposal_generator.rpn_head.conv": (8, 8, 3, 3),
    "proposal_generator.rpn_head.objectness_logits": (3, 8, 1, 1),
    "roi_heads.box_head.fc1": (16, 392),
    "roi_heads.box_predictor.cls_score": (3, 16),
    "roi_heads.mask_head.mask_fcn1": (8, 8, 3, 3),
}
"""The kernels of a file of two classes off which its configuration is read."""


@pytest.mark.parametrize("name", ["pixel_mean", "pixel_std"])
@pytest.mark.parametrize("values", [[np.nan, 1, 1], [np.inf, 1, 1], [1, 1], [57], [1, 1, 1, 1]])
def test_what_detectron2_takes_off_a_picture_and_divides_it_by_are_three_numbers(
    tmp_path: Path, name: str, values: list[float]
) -> None:
    kernels = {f"{layer}.weight": np.zeros(shape, np.float32) for layer, shape in OF_DETECTRON2.items()}
    good = {"pixel_mean": np.float32([[[1]], [[2]], [[3]]]), "pixel_std": np.float32([1, 1, 1])}
    assert config_of(write(tmp_path / "good.pth", kernels | good)).mean_pixel == (3, 2, 1)
    path = write(tmp_path / "bad.pth", kernels | good | {name: np.float32(values)})
    with pytest.raises(ModelError, match=f"bad.pth: {name}: expected three "):
        config_of(path)


def test_what_detectron2_divides_a_picture_by_is_above_0(tmp_path: Path) -> None:
    kernels = {f"{layer}.weight": np.zeros(shape, np.float32) for layer, shape in OF_DETECTRON2.items()}
    for deviation in 0, -1:
        path = write(tmp_path / "bad.pth", kernels | {"pixel_std": np.float32([1, deviation, 1])})
        with pytest.raises(ModelError, match="bad.pth: pixel_std: expected three numbers above 0"):
            config_of(path)


def test_ninety_classes_have_the_names_of_cocos_category_ids() -> None:
    assert len(COCO_IDS) == 90
    places = {COCO_IDS.index(name) + 1: name for name in ("person", "stop sign", "dog", "tv", "book", "toothbrush")}
    assert places == {1: "person", 13: "stop sign", 18: "dog", 72: "tv", 84: "book", 90: "toothbrush"}


def test_other_classes_begin_anew_and_all_else_is_the_files(narrow: Path, other: MaskRCNN) -> None:
    training = TrainingConfig(
        train=narrow, start_from=str(narrow), start_without=HEADS, stages=(StageConfig(epochs=1),)
    )
    heads = {variable.path: np.asarray(variable) for variable in of_heads(other)}
    start_weights(other, training, narrow)
    there = cases.weights("narrow")
    for variable in of_heads(other):
        np.testing.assert_array_equal(np.asarray(variable), heads[variable.path])
    stem = other.backbone.stem
    turned = there["backbone.body.conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_allclose(np.asarray(stem.kernel)[..., 0, :] * 58.395, turned[..., 0, :], rtol=1e-6)
    for norm, name in ((stem, "backbone.body.bn1"), (other.mask_head.convolutions[3], "roi_heads.mask_head.3.1")):
        ours = np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.variance) + 1e-3)
        theirs = there[f"{name}.weight"] / np.sqrt(there[f"{name}.running_var"] + 1e-5)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    deeper = there["rpn.head.conv.1.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(np.asarray(other.rpn.deeper[0].kernel), deeper)
    # the last of a box's 49 cells and of its 8 channels
    last = there["roi_heads.box_head.5.weight"][:, -1]
    np.testing.assert_array_equal(np.asarray(other.box_head.first.kernel)[-1], last)
    assert not np.asarray(other.rpn.logits.kernel)[..., ::2].any()


def test_a_tensor_that_does_not_fit_is_named_and_nothing_is_loaded(
    changed: Callable[..., Path], other: MaskRCNN, narrow: Path
) -> None:
    def move(header: dict[str, Any]) -> None:
        header["rpn.head.bbox_prediction.bias"] = header.pop("rpn.head.bbox_pred.bias")

    def reshape(header: dict[str, Any]) -> None:
        header["backbone.fpn.layer_blocks.2.0.weight"]["shape"] = [8, 3, 8, 3]

    before = {variable.path: np.asarray(variable) for variable in other.variables}
    path = changed(lambda header: (move(header), reshape(header), header.pop("backbone.body.layer3.5.bn2.weight")))
    with pytest.raises(ModelError) as error:
        load_torchvision(other, path, without=of_heads(other))
    for problem in (
        "changed.safetensors: these are not weights of this model",
        "backbone.body.layer3.5.bn2.weight is missing",
        "backbone.fpn.layer_blocks.2.0.weight: expected shape (8, 8, 3, 3), got (8, 3, 8, 3)",
        "rpn.head.bbox_pred.bias is missing",
        "rpn.head.bbox_prediction.bias does not belong to this model",
    ):
        assert problem in str(error.value)
    with pytest.raises(ModelError, match=r"box_predictor.cls_score.weight: expected shape \(3, 16\), got \(4, 16\)"):
        load_torchvision(other, narrow)
    assert all(np.array_equal(before[variable.path], np.asarray(variable)) for variable in other.variables)


def test_a_file_without_a_mask_head_is_no_mask_rcnn(changed: Callable[..., Path]) -> None:
    def without_masks(header: dict[str, Any]) -> None:
        for name in [name for name in header if "mask" in name]:
            del header[name]

    with pytest.raises(ModelError, match=r"not weights of a Mask R-CNN: roi_heads.mask_head.0.0.weight is missing"):
        config_of(changed(without_masks))


@pytest.mark.thorough
def test_such_a_network_learns_by_all_five_losses(narrow: Path, other: MaskRCNN) -> None:
    load_torchvision(other, narrow, without=of_heads(other))
    rng = np.random.default_rng(4)
    for variable in of_heads(other):
        variable.assign(rng.normal(0, 0.05, variable.shape))
    training = TrainingConfig(
        train=narrow,
        start_from=str(narrow),
        stages=(StageConfig(epochs=1),),
        rpn_samples=64,
        roi_samples=16,
        mask_samples=4,
    )
    model = TrainedMaskRCNN(other, training, dtype="float32", name="training")
    batch = {
        "images": rng.integers(0, 256, (1, 96, 96, 3)).astype(np.uint8),
        "boxes": np.array([[[10, 20, 50, 70], [40, 10, 90, 60]]], np.float32),
        "class_ids": np.array([[1, 2]], np.int32),
        "mask_boxes": np.array([[[10, 20, 50, 70], [40, 10, 90, 60]]], np.float32),
        "mini_masks": np.full((1, 2, 14, 14), 255, np.uint8),
        "mask_weights": np.ones((1, 2), np.float32),
    }
    parts = (other.pyramid.smooth[0].kernel, other.rpn.deeper[0].kernel, other.box_head.convolutions[0].kernel)
    with tf.GradientTape() as tape:
        losses = model(batch)
        total = sum(ops.sum(loss) for loss in losses.values())
    assert set(losses) == set(LOSSES) and all(float(loss[0]) > 0 for loss in losses.values())
    for gradient in tape.gradient(total, [part.value for part in parts]):
        assert np.isfinite(np.asarray(gradient)).all() and np.abs(np.asarray(gradient)).max() > 0


# --- the rules --------------------------------------------------------------------------------------------------------


def test_anchors_are_whole_and_spaced_by_the_input_over_the_map() -> None:
    config = ModelConfig.torchvision()
    anchors = anchors_in_pixels(config, 1344, 800)
    assert len(anchors) == sum(group_sizes(config, 1344, 800))
    last_level = anchors[-group_sizes(config, 1344, 800)[-1] :].reshape(13, 21, 3, 4)  # 800 rows have 13 cells there
    np.testing.assert_array_equal(
        last_level[0, 0], [[-362, -181, 362, 181], [-256, -256, 256, 256], [-181, -362, 181, 362]]
    )
    np.testing.assert_array_equal(last_level[1, 1, 1] - last_level[0, 0, 1], [64, 61, 64, 61])
    exact = anchors_in_pixels(config.model_copy(update={"whole_anchors": False}), 1344, 800)
    np.testing.assert_allclose(
        exact[0], [-16 * np.sqrt(2), -8 * np.sqrt(2), 16 * np.sqrt(2), 8 * np.sqrt(2)], rtol=1e-6
    )
    np.testing.assert_array_equal(exact[-1] - exact[-1 - 21 * 3], [0, 64, 0, 64])


def test_the_best_anchors_of_each_level_compete_among_themselves() -> None:
    config = ModelConfig.torchvision(proposals_before_nms=2)
    scores = [0.0, 3.0, 1.0, 2.0, 9.0, 8.0, 7.0]  # three anchors of one level, four of another
    logits = np.stack([np.zeros(7), scores], -1)[None].astype(np.float32)
    best, index = rpn.rank(ops.convert_to_tensor(logits), config, counts=(3, 4))
    assert np.asarray(index)[0].tolist() == [4, 5, 1, 2] and np.asarray(best)[0].tolist() == [9, 8, 3, 1]
    assert np.asarray(rpn.group_of(index, (3, 4)))[0].tolist() == [1, 1, 0, 0]


def test_the_choices_on_numpy_are_those_of_the_graph() -> None:
    config = ModelConfig.torchvision(
        class_names=("background", "a", "b"), proposals_before_nms=60, num_proposals=40, max_detections=30
    )
    rng = np.random.default_rng(3)
    anchors = make_anchors(config, 96, 64)
    counts = group_sizes(config, 96, 64)
    logits = rng.normal(size=(len(anchors), 2)).astype(np.float32)
    deltas = rng.normal(size=(len(anchors), 4)).astype(np.float32) * 0.3
    windows = np.array([[0, 0, 90, 50]], np.float32)
    best = best_anchors(logits[None], deltas[None], ops.convert_to_tensor(anchors), config, counts=counts)
    wanted, real = propose(best, config, width=96, height=64, windows=windows)
    found = _decisions.propose(logits[:, 1] - logits[:, 0], deltas, anchors, config, counts=counts, size=(90, 50))
    np.testing.assert_allclose(found, np.asarray(wanted)[0], atol=1e-4)
    assert (found[:, 2] <= 90).all() and (found[:, 3] <= 50).all() and np.asarray(real).sum() >= 20

    class_logits = rng.normal(size=(40, 3)).astype(np.float32)
    class_deltas = rng.normal(size=(40, 3, 4)).astype(np.float32)
    network = MaskRCNN(config, name="network")
    said = np.asarray(network.detect(wanted, real, class_logits, class_deltas, width=96, height=64, windows=windows))[0]
    found = _decisions.detect(found, class_logits, class_deltas, config, size=(90, 50))
    np.testing.assert_allclose(found, said[: len(found)], atol=1e-4)
    assert len(found) == 30


def test_a_proposal_may_be_an_object_of_two_classes() -> None:
    config = ModelConfig.torchvision(class_names=("background", "a", "b"))
    logits = np.log(np.array([[0.2, 0.5, 0.3]], np.float32))
    found = _decisions.detect(
        np.array([[10, 10, 30, 30]], np.float32), logits, np.zeros((1, 3, 4), np.float32), config, size=(64, 64)
    )
    np.testing.assert_allclose(found, [[10, 10, 30, 30, 0.5, 1], [10, 10, 30, 30, 0.3, 2]], rtol=1e-6)


def test_what_nothing_reads_and_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(ValueError, match="all_classes: nothing in the matterport family reads it"):
        ModelConfig.matterport(all_classes=True)
    with pytest.raises(ValueError, match="nms_rounds: nothing in the torchvision family reads it"):
        ModelConfig.torchvision(nms_rounds=3)
    with pytest.raises(ValueError, match="backbone: efficientnet_lite0 does not belong to the torchvision family"):
        ModelConfig.torchvision(backbone="efficientnet_lite0")
    training: dict[str, Any] = {"train": "balls.json", "stages": ({"epochs": 1},)}
    adaptive = ModelConfig.torchvision(roi_sampling="adaptive")
    with pytest.raises(ValueError, match="roi_sampling: expected one or two to train with, got adaptive"):
        ExperimentConfig.model_validate({"name": "x", "model": adaptive, "training": training | {"start_from": "coco"}})
    with pytest.raises(ValueError, match="start_from: expected a Mask R-CNN of torchvision or detectron2 .* imagenet"):
        ExperimentConfig.model_validate({"name": "x", "model": ModelConfig.torchvision(), "training": training})
