"""The matterport family in the engines: the choices on numpy against those of the graph, and a whole file on both."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import patch

import av
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.config import FITTED_SCORE, ModelConfig
from streamseg.engines import _decisions
from streamseg.engines._decisions import best_rows, detect, fitted, grown, nms, propose, voted
from streamseg.model_folder import ModelFolder
from streamseg.types import Frame, ModelError, UsageError

SMALL = {
    "backbone": "resnet50",
    "fpn_channels": 8,
    "rpn_channels": 8,
    "box_channels": 16,
    "mask_channels": 8,
    "proposals_before_nms": 300,
    "num_proposals": 40,
    "max_detections": 10,
    "detection_min_score": 0.05,
}


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    start = rng.uniform(0, 0.7, (count, 2))
    return np.concatenate([start, start + rng.uniform(0.02, 0.3, (count, 2))], axis=1).astype(np.float32)


def test_equal_scores_are_ranked_by_their_index() -> None:
    scores = np.float32([0.5, 0.9, 0.5, 0.5, 0.1, 0.9])
    assert best_rows(scores, 4).tolist() == [1, 5, 0, 2]
    assert best_rows(scores, 9).tolist() == [1, 5, 0, 2, 3, 4]


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 40), most=st.integers(1, 40), grouped=st.booleans(), seed=st.integers(0, 1000))
def test_suppression_is_the_greedy_one(count: int, most: int, grouped: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, count)
    boxes[: count // 5, 2] = boxes[: count // 5, 0]  # without an area
    groups = rng.integers(1, 3, count) if grouped else np.ones(count, int)
    kept: list[int] = []
    for i in range(count):
        if len(kept) < most and not any(groups[i] == groups[k] and slow_iou(boxes[i], boxes[k]) > 0.5 for k in kept):
            kept.append(i)
    with patch.object(_decisions, "CHUNK", 8):
        assert nms(boxes, threshold=0.5, most=most, groups=groups if grouped else None).tolist() == kept


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 30), threshold=st.sampled_from([0.0, 0.3, 0.75]), seed=st.integers(0, 1000))
def test_a_box_is_the_mean_of_those_that_agree_with_it(count: int, threshold: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.column_stack([random_boxes(rng, count), np.sort(rng.random(count))[::-1], rng.integers(1, 3, count)])
    rows = rows.astype(np.float32)
    found = rows[:: max(1, count // 5)]
    for detection, said in zip(found, voted(found, rows, threshold=threshold), strict=True):
        agreeing = [
            row for row in rows if row[5] == detection[5] and slow_iou(row[:4], detection[:4]) >= threshold - 1e-6
        ]
        mean = sum(row[4] * row[:4].astype(float) for row in agreeing) / sum(float(row[4]) for row in agreeing)
        np.testing.assert_allclose(said[:4], mean, atol=1e-5)
        assert (said[4:] == detection[4:]).all()


@pytest.mark.parametrize("box_voting", [1.0, 0.3])
def test_detections_on_numpy_are_those_of_the_lite_graph(box_voting: float) -> None:
    from streamseg.model.mask_rcnn import MaskRCNN

    config = ModelConfig(class_names=("background", "a", "b"), box_voting=box_voting)
    rng = np.random.default_rng(4)
    proposals = random_boxes(rng, 60) * np.float32([200, 100, 200, 100])
    proposals[50:] = 0
    logits = rng.normal(size=(60, 3)).astype(np.float32)
    deltas = rng.normal(size=(60, 3, 4)).astype(np.float32)
    deltas[0, :, 2] = 90.0  # longer than any log of a size may be
    network = MaskRCNN(config, name="network")
    wanted = np.asarray(
        network.detect(proposals[None], (np.arange(60) < 50)[None], logits, deltas, width=192, height=96)
    )[0]
    found = detect(proposals, logits, deltas, config, size=(192, 96))
    assert len(found) >= 10
    np.testing.assert_allclose(found, wanted[: len(found)], atol=1e-4)
    assert not wanted[len(found) :].any()
    alone = detect(proposals, logits, deltas, config.model_copy(update={"box_voting": 1.0}), size=(192, 96))
    assert bool((np.abs(found[:, :4] - alone[:, :4]) > 0.1).any()) == (box_voting < 1)
    assert (found[:, 4:] == alone[:, 4:]).all()


def slow_ends(mask: np.ndarray) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 in shares of a mask (M, M) between which its maxima by column and by row reach 0.4."""
    size, found = len(mask), []
    for lines in (mask.T, mask, mask.T[::-1], mask[::-1]):
        values = [float(max(line)) for line in lines]
        first = next(i for i, value in enumerate(values) if value >= 0.4)
        before = values[first - 1] if first else 0.0
        found.append((first + 0.5 - (values[first] - 0.4) / (values[first] - before)) / size)
    return found[0], found[1], 1 - found[2], 1 - found[3]


@given(share=st.sampled_from([0.25, 0.65, 1.0]), seed=st.integers(0, 1000), dim=st.booleans())
def test_a_box_goes_towards_where_its_mask_ends(share: float, seed: int, dim: bool) -> None:
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 6) * np.float32([200, 100, 200, 100])
    masks = rng.random((6, 8, 8)).astype(np.float32) * (rng.random((6, 1, 1)) if dim else 1)
    config = ModelConfig(box_fitting=share, smallest_detection=1.0)
    larger = grown(boxes)
    for box, large, mask, said in zip(boxes, larger, masks, fitted(boxes, masks, config, size=(192, 96)), strict=True):
        width, height = box[2:] - box[:2]
        assert np.allclose(large, box + [-0.05 * width, -0.05 * height, 0.05 * width, 0.05 * height], atol=1e-3)
        if mask.max() < 0.4:
            assert (said == box).all()
            continue
        x1, y1, x2, y2 = slow_ends(mask.astype(float))
        (left, top), (wide, high) = large[:2], large[2:] - large[:2]
        ends = np.array([left + x1 * wide, top + y1 * high, left + x2 * wide, top + y2 * high])
        wanted = np.clip(box + share * (ends - box), 0, [192, 96, 192, 96])
        stays = min(wanted[2:] - wanted[:2]) < 1
        np.testing.assert_allclose(said, box if stays else wanted, atol=1e-3)


@pytest.mark.parametrize("box_fitting", [0.0, 0.65])
def test_boxes_fitted_on_numpy_are_those_of_the_graph(box_fitting: float) -> None:
    from streamseg.model.mask_rcnn import MaskRCNN

    rng = np.random.default_rng(6)
    config = ModelConfig(class_names=("background", "a"), box_fitting=box_fitting)
    network = MaskRCNN(config, name="network")
    levels = {i: rng.normal(size=(1, 96 >> i, 192 >> i, 64)).astype(np.float32) for i in config.roi_levels}
    boxes = random_boxes(rng, 12) * np.float32([200, 100, 200, 100])
    class_ids, picture_ids = np.ones(12, np.int32), np.zeros(12, np.int32)
    scores = np.linspace(0.95, 0.05, 12)
    rows = np.column_stack([boxes, scores, class_ids]).astype(np.float32)
    moved, masks = (np.asarray(each) for each in network.draw(levels, rows, picture_ids))
    in_larger = np.asarray(network.masks(levels, grown(boxes), class_ids, picture_ids))
    assert in_larger.max() >= 0.4
    firm = (scores >= FITTED_SCORE)[:, None]
    assert 0 < firm.sum() < 12
    wanted = np.where(firm, fitted(boxes, in_larger, config, size=(192, 96)), boxes) if box_fitting else boxes
    np.testing.assert_allclose(moved, wanted, atol=1e-3)
    assert bool(np.abs(moved - boxes).max() > 1) == (box_fitting > 0)
    np.testing.assert_allclose(masks, np.asarray(network.masks(levels, wanted, class_ids, picture_ids)), atol=1e-3)


def test_proposals_on_numpy_are_those_of_the_lite_graph() -> None:
    from keras import ops

    from streamseg.model import rpn

    config = ModelConfig(proposals_before_nms=300, num_proposals=280)
    rng = np.random.default_rng(5)
    anchors = random_boxes(rng, 500) * np.float32([200, 100, 200, 100])
    logits = rng.normal(size=(500, 2)).astype(np.float32)
    deltas = rng.normal(size=(500, 4)).astype(np.float32)
    deltas[:40, :2] = -90.0  # out of the picture, where nothing of them is left
    deltas[40:60, 2] = 90.0  # longer than any log of a size may be
    logits[:60, 1] = 5.0
    best = rpn.best_anchors(logits[None], deltas[None], ops.convert_to_tensor(anchors), config)
    expected = np.asarray(rpn.propose(best, config, width=192, height=96)[0])[0]
    proposals = propose(logits[:, 1] - logits[:, 0], deltas, anchors, config, size=(192, 96))
    assert 100 < (proposals[:, 2] > 0).sum() < 260
    np.testing.assert_allclose(proposals, expected, atol=1e-4)


def test_the_choices_on_numpy_are_those_of_the_graph() -> None:
    from keras import ops

    from streamseg.model import rpn
    from streamseg.model.mask_rcnn import MaskRCNN

    config = ModelConfig.matterport(class_names=("background", "a", "b"), **SMALL)
    rng = np.random.default_rng(3)
    anchors = random_boxes(rng, 500)
    logits = rng.normal(size=(500, 2)).astype(np.float32)
    deltas = rng.normal(size=(500, 4)).astype(np.float32)
    best = rpn.best_anchors(logits[None], deltas[None], ops.convert_to_tensor(anchors), config)
    expected = np.asarray(rpn.propose(best, config, width=128, height=128)[0])[0]
    scores = np.asarray(ops.softmax(logits))[:, 1]
    proposals = propose(scores, deltas, anchors, config, size=(128, 128))
    np.testing.assert_allclose(proposals, expected, atol=1e-6)

    class_logits = rng.normal(size=(40, 3)).astype(np.float32)
    class_deltas = rng.normal(size=(40, 3, 4)).astype(np.float32)
    network = MaskRCNN(config, name="network")
    real = np.ones((1, 40), bool)
    wanted = np.asarray(network.detect(proposals[None], real, class_logits, class_deltas, width=128, height=128))[0]
    found = detect(proposals, class_logits, class_deltas, config, size=(128, 128))
    assert len(found) >= 5
    np.testing.assert_allclose(found, wanted[: len(found)], atol=1e-5)
    assert not wanted[len(found) :].any()


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the original's layout with small heads and random weights that find something."""
    import keras

    from streamseg.model.mask_rcnn import MaskRCNN
    from streamseg.model.matterport_h5 import save_matterport

    keras.utils.set_random_seed(7)
    config = ModelConfig.matterport(class_names=("background", "a", "b"), **SMALL)
    network = MaskRCNN(config, name="network")
    network.build()
    for convolution in network.backbone.convolutions:
        convolution.gamma.assign(0.5 * convolution.gamma)  # else the scores of random weights are all 0 or 1
    folder = tmp_path_factory.mktemp("matterport")
    path = folder / "mask_rcnn_small.h5"
    save_matterport(network, path)
    settings = config.model_copy(update={"input_sizes": ((128, 64),)}).model_dump_json(exclude_defaults=True)
    path.with_suffix(".yaml").write_text(f"name: small\nmodel: {settings}\n")
    return path


def noise(width: int, height: int, index: int) -> Frame:
    pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame(av.VideoFrame.from_ndarray(pixels, format="rgb24"), index, float(index), 0.0, "noise")


def test_one_file_finds_the_same_in_both_engines_whatever_the_shape(
    weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamseg.engines.keras import Keras
    from streamseg.engines.openvino import Openvino

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    frames = [noise(160, 80, 0), noise(50, 100, 1), noise(128, 64, 2)]
    options = {"model": weights_file, "class_names": ["cat", "dog"], "precision": "f32"}
    one, other = Openvino(**options).predict(frames), Keras(**options).predict(frames)  # type: ignore[arg-type]
    assert sum(map(len, one)) > 3
    for a, b in zip(one, other, strict=True):
        assert a.class_names == ("background", "cat", "dog")
        assert (len(a) > 0) == (len(b) > 0)
        if not len(a):
            continue
        # random weights score many boxes alike, so that now and then another one of equals is kept
        distance = np.abs(a.boxes[:, None] - b.boxes).max(axis=2) + 1000.0 * (a.class_ids[:, None] != b.class_ids)
        partner = distance.argmin(axis=1)
        same = distance.min(axis=1) < 0.5
        assert same.mean() >= 0.8
        np.testing.assert_allclose(a.scores[same], b.scores[partner][same], atol=1e-3)
        np.testing.assert_allclose(a.masks[same], b.masks[partner][same], atol=1e-3)


def test_what_a_file_says_of_itself_is_used_and_the_rest_has_defaults(weights_file: Path, tmp_path: Path) -> None:
    alone = tmp_path / "mask_rcnn_small.h5"
    alone.symlink_to(weights_file)
    config = ModelFolder.open(alone).config
    assert config.class_names == ("background", "class 1", "class 2") and config.backbone == "resnet50"
    assert (config.fpn_channels, config.box_channels, config.mask_channels) == (8, 16, 8)
    assert (1024, 576) in config.input_sizes and config.min_score == 0.7


def test_a_yaml_beside_a_file_needs_to_say_only_what_the_file_does_not(weights_file: Path, tmp_path: Path) -> None:
    alone = tmp_path / "moles.h5"
    alone.symlink_to(weights_file)
    beside = alone.with_suffix(".yaml")
    beside.write_text("model: {input_sizes: [[128, 128]], anchor_sizes: [[8], [16], [32], [64], [128]]}")
    config = ModelFolder.open(alone, class_names=["cat", "dog"]).config
    assert config.input_sizes == ((128, 128),) and config.anchor_sizes[0] == (8,)
    assert config.class_names == ("background", "cat", "dog") and config.fpn_channels == 8

    beside.write_text("model: {class_names: [background, mole, naevus]}")
    assert ModelFolder.open(alone).config.class_names == ("background", "mole", "naevus")
    for wrong, message in (("{input_size: 3}", r"moles.yaml: model.input_size"), ("[3]", "moles.yaml: model: ")):
        beside.write_text(f"model: {wrong}")
        with pytest.raises(ModelError, match=message):
            ModelFolder.open(alone)
    beside.write_text("model: {anchor_ratios: [1, 2]}")
    with pytest.raises(ModelError, match="expected 2 anchor ratios .*, found 3; a file moles.yaml beside it"):
        ModelFolder.open(alone)


@pytest.mark.parametrize(
    "names", ["[mole, naevus]", "[mole, naevus, wart]", "[background, background, mole]", "[background]", "[]"]
    + ["mole", "5", "", "{mole: naevus}", "[background, 1, 2]"],
)  # fmt: skip
def test_names_of_classes_beside_a_file_begin_with_the_background(
    weights_file: Path, tmp_path: Path, names: str
) -> None:
    alone = tmp_path / "moles.h5"
    alone.symlink_to(weights_file)
    alone.with_suffix(".yaml").write_text(f"model:\n  class_names: {names}\n")
    with pytest.raises(ModelError, match=r"moles.yaml: model.class_names: expected \[background, ") as caught:
        ModelFolder.open(alone)
    assert len(str(caught.value).splitlines()) == 1


def test_a_wrong_number_of_class_names_is_refused(weights_file: Path, tmp_path: Path) -> None:
    alone = tmp_path / "mask_rcnn_small.h5"
    alone.symlink_to(weights_file)
    for path in (alone, weights_file):
        with pytest.raises(UsageError, match="2 classes.*got 3 names"):
            ModelFolder.open(path, class_names=["a", "b", "c"])
    with pytest.raises(UsageError, match="--class-names: expected the classes without the background"):
        ModelFolder.open(alone, class_names=["background", "a"])
    with pytest.raises(UsageError, match="--class-names: expected each name once, got 'a' several times"):
        ModelFolder.open(alone, class_names=["a", "a"])
    with pytest.raises(UsageError, match="people has names of its own"):
        ModelFolder.open("people", class_names=["a"])


def test_a_file_that_is_no_mask_rcnn_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(b"no HDF5")
    with pytest.raises(ModelError, match="not a readable weights file"):
        ModelFolder.open(tmp_path / "x.h5")


def test_a_configuration_that_cannot_be_is_refused_without_a_yaml_beside_the_file_too(
    weights_file: Path, tmp_path: Path
) -> None:
    narrow = Path(shutil.copy(weights_file, tmp_path / "narrow.h5"))
    with h5py.File(narrow, "r+") as file:
        del file["fpn_p2/fpn_p2/bias:0"]
        file["fpn_p2/fpn_p2/bias:0"] = np.zeros(0, np.float32)
    with pytest.raises(ModelError, match="narrow.h5: fpn_channels: .*, got 0"):
        ModelFolder.open(narrow)
