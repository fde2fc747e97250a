"""The Matterport family says what the original said, stage by stage, within the recorded limits."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from keras import ops

from streamseg.config import ModelConfig
from streamseg.letterbox import in_pixels, normalised
from streamseg.model.mask_rcnn import MaskRCNN
from streamseg.model.matterport_h5 import load_matterport
from streamseg.model.roi_align import crop_and_resize, level_of
from streamseg.model.rpn import best_anchors, propose
from tests.matterport.conftest import Recorded
from tests.model.conftest import compiled, recorded_model, yx


@pytest.mark.parametrize(
    "case",
    [
        "mole128",
        pytest.param("pad64", marks=pytest.mark.thorough),
        pytest.param("coco512", marks=pytest.mark.thorough),
    ],
)
def test_every_stage_is_that_of_the_original(
    case: str, parity: Path, matterport_weights: Any, compare: ModuleType
) -> None:
    recorded = Recorded(parity / "cases" / case)
    fixture = recorded.arrays("fixture")
    images = fixture["molded_u8"]
    height, width = images.shape[1:3]
    network = MaskRCNN(recorded_model(recorded.facts("config")["config"], size=(width, height)), name="network")
    network.build()
    file = matterport_weights(case)
    report = load_matterport(network, file)
    assert not report.missing and not report.skipped
    windows = normalised(yx(fixture["windows"]).astype(np.float32), width, height)

    said = {name: np.asarray(value) for name, value in compiled(network, network.explain)(images, windows).items()}
    report = compare.inference(recorded.folder, stages(network, said, width=width, height=height))
    assert report.ok, str(report)
    num_stages = len({name.split("[")[0] for name, *_ in report.lines})
    assert num_stages >= 45, f"only {num_stages} numbers were compared"


def logits_of(probabilities: np.ndarray) -> Any:
    """Logits whose softmax are these probabilities, 0 among them."""
    with np.errstate(divide="ignore"):
        return ops.convert_to_tensor(np.log(probabilities))


def stages(network: MaskRCNN, said: dict[str, np.ndarray], *, width: int, height: int) -> dict[str, np.ndarray]:
    """What `explain` says, under the recorded names and with y before x."""
    same = ("rpn_logits", "rpn_class", "pooled", "class_logits", "probs", "mask_pooled", "masks")
    found = said["detections"]
    count = said["proposals"].shape[1]

    def levels(boxes: np.ndarray) -> np.ndarray:
        flat = level_of(boxes.reshape(-1, 4), width=width, height=height)
        return np.asarray(flat).reshape(boxes.shape[:2])

    shared = network.box_head.shared(said["pooled"].reshape(-1, *said["pooled"].shape[2:]))
    return {
        **{name: said[name] for name in same},
        **{name: said[name] for name in said if len(name) == 2},  # C1 … P6
        "anchors": yx(said["anchors"]),
        "rpn_bbox": yx(said["rpn_bbox"]),
        "top_anchor_ix": said["pre_nms_anchor_ix"],
        "top_anchor_scores": said["pre_nms_scores"],
        "top_refined": yx(said["refined_anchors"]),
        "top_refined_clipped": yx(said["refined_anchors_clipped"]),
        "proposals": yx(said["proposals"]),
        "roi_level": levels(said["proposals"]),
        "shared": np.asarray(shared).reshape(len(found), count, -1),
        "deltas": yx(said["deltas"]),
        "detections": np.concatenate([yx(found[..., :4]), found[..., 5:], found[..., 4:5]], -1),
        "mask_level": levels(found[..., :4]),
    }


@pytest.mark.parametrize("size", [1, 2, 7, 14])
def test_crop_and_resize_samples_from_corner_to_corner(size: int, shapes128: Recorded) -> None:
    recorded = shapes128.arrays("ops")
    boxes = yx(recorded["cr_boxes"])
    crops = crop_and_resize(
        {2: ops.convert_to_tensor(recorded["cr_map"])},
        boxes,
        np.zeros(len(boxes), np.int32),
        size=size,
        width=128,
        height=128,
    )
    np.testing.assert_allclose(np.asarray(crops), recorded[f"cr_out_{size}"], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "height", "width"), [("128", 128, 128), ("512", 512, 512), ("1024", 1024, 1024), ("384x576", 384, 576)]
)
def test_a_box_is_pooled_from_the_recorded_level(name: str, height: int, width: int, shapes128: Recorded) -> None:
    recorded = shapes128.arrays("ops")
    level = level_of(yx(recorded["ra_boxes"]).reshape(-1, 4), width=width, height=height)
    np.testing.assert_array_equal(np.asarray(level), recorded[f"ra_level_{name}"].reshape(-1))


def test_boxes_are_pooled_as_recorded_but_on_the_far_edge(shapes128: Recorded, compare: ModuleType) -> None:
    recorded = shapes128.arrays("ops")
    boxes = recorded["ra_boxes"]
    pooled = crop_and_resize(
        {level: ops.convert_to_tensor(recorded[f"ra_P{level}"]) for level in (2, 3, 4, 5)},
        yx(boxes).reshape(-1, 4),
        np.repeat(np.arange(2, dtype=np.int32), 40),
        size=7,
        width=512,
        height=512,
    )
    inner = ~compare.touches_far_edge(boxes)
    assert inner.sum() == 2 * 40 - 16
    np.testing.assert_allclose(
        np.asarray(pooled).reshape(2, 40, 7, 7, 5)[inner], recorded["ra_out_512"][inner], atol=1e-5
    )


@pytest.mark.parametrize("name", ["a", "b"])
def test_proposals_are_those_recorded_row_for_row(name: str, shapes128: Recorded) -> None:
    recorded, settings = shapes128.arrays("ops"), shapes128.facts("ops")[f"proposal_{name}"]
    config = ModelConfig.matterport(
        proposals_before_nms=settings["PRE_NMS_LIMIT"],
        num_proposals=settings["POST_NMS_ROIS_INFERENCE"],
        rpn_nms_threshold=settings.get("RPN_NMS_THRESHOLD", 0.7),
    )
    best = best_anchors(
        logits_of(recorded["pl_probs"]),
        ops.convert_to_tensor(yx(recorded["pl_deltas"])),
        ops.convert_to_tensor(yx(recorded["pl_anchors"])),
        config,
    )
    boxes, real = (np.asarray(each) for each in propose(best, config, width=128, height=128))
    expected = recorded[f"pl_out_{name}"]
    assert real.sum(1).tolist() == settings["valid"]
    np.testing.assert_allclose(yx(boxes), expected[:, : boxes.shape[1]], atol=1e-5)
    assert not expected[:, boxes.shape[1] :].any()


@pytest.mark.parametrize("name", ["a", "b", "c", "padded", "none_left"])
def test_detections_are_those_recorded_row_for_row(name: str, shapes128: Recorded) -> None:
    recorded, settings = shapes128.arrays("ops"), shapes128.facts("ops")[f"detection_{name}"]
    height, width = settings["image_shape"]
    config = ModelConfig.matterport(
        class_names=("background", "a", "b", "c"),
        detection_min_score=settings["DETECTION_MIN_CONFIDENCE"],
        max_detections=settings["DETECTION_MAX_INSTANCES"],
        detection_nms_threshold=settings.get("DETECTION_NMS_THRESHOLD", 0.3),
    )
    window = normalised(yx(settings["window"]).astype(np.float32), width, height)
    found = MaskRCNN(config).detect(
        ops.convert_to_tensor(yx(recorded["dl_rois"])),
        ops.ones((2, 60), dtype="bool"),
        logits_of(recorded["dl_probs"].reshape(-1, 4)),
        ops.convert_to_tensor(yx(recorded["dl_deltas"]).reshape(-1, 4, 4)),
        width=width,
        height=height,
        windows=ops.convert_to_tensor(np.stack([window, window])),
    )
    found = np.asarray(found)
    found = np.concatenate([yx(found[..., :4]), found[..., 5:], found[..., 4:5]], -1)
    assert (found[..., 4] > 0).sum(1).tolist() == settings["n"]
    np.testing.assert_allclose(found, recorded[f"dl_out_{name}"], atol=1e-5)


def test_pixels_are_normalised_and_come_back(shapes128: Recorded) -> None:
    recorded = shapes128.arrays("ops")
    boxes = normalised(yx(recorded["ng_px"]), 128, 128)
    np.testing.assert_allclose(boxes, yx(recorded["ng_norm"]), atol=1e-6)
    np.testing.assert_array_equal(np.round(in_pixels(boxes, 128, 128)), yx(recorded["ng_px"]))
