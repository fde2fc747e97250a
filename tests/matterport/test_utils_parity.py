"""The utils give the numbers that the original gave, within the recorded limits."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from streamseg.matterport import utils
from streamseg.molding import Mold, resize
from tests.matterport.conftest import Recorded, unpacked

CONFIG = SimpleNamespace(MEAN_PIXEL=np.array([123.7, 116.8, 103.9]), BACKBONE_STRIDES=[4, 8, 16, 32, 64])


class Drawn:
    """Dice that were thrown already."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = list(numbers)

    def randint(self, a: int, b: int, /) -> int:
        number = self.numbers.pop(0)
        assert a <= number <= b
        return number


@pytest.mark.parametrize("index", range(19))
def test_a_picture_and_its_masks_are_resized_as_recorded(shapes128: Recorded, index: int) -> None:
    arrays, case = shapes128.arrays("utils"), shapes128.facts("utils")["resize_image"][index]
    image, masks = arrays[f"ri{index}_in"], unpacked(arrays[f"ri{index}_mask_in"], [*case["in_shape"], 3])
    if case["mode"] == "crop":
        height, width = case["in_shape"]
        dice = Drawn(case["crop"][:2])
        mold = Mold.fit(height, width, mode="crop", min_side=case["min_dim"], dice=dice)
        resized, window, scale, padding, crop = mold.picture(image), mold.window, mold.scale, mold.padding, mold.crop
    else:
        sizes = {name: case[name] for name in ("min_dim", "max_dim", "min_scale", "mode")}
        resized, window, scale, padding, crop = utils.resize_image(image, **sizes)
    assert list(window) == case["window"]
    assert (scale, type(scale).__name__) == (case["scale"], case["scale_type"])
    assert [list(pair) for pair in padding] == case["padding"]
    assert (crop and list(crop)) == case["crop"]
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, arrays[f"ri{index}_out"])
    moved = utils.resize_mask(masks, scale, padding, crop)
    np.testing.assert_array_equal(moved, unpacked(arrays[f"ri{index}_mask_out"], case["mask_out_shape"]))


@pytest.mark.parametrize("index", range(8))
def test_floats_are_resized_as_recorded(shapes128: Recorded, index: int) -> None:
    arrays = shapes128.arrays("utils")
    _, shape = shapes128.facts("utils")["resize_float"][index]
    np.testing.assert_allclose(resize(arrays[f"rf{index}_in"], shape), arrays[f"rf{index}_out"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["sh11", "sh12"])
def test_masks_become_boxes_and_mini_masks_and_come_back_as_recorded(shapes128: Recorded, name: str) -> None:
    arrays = shapes128.arrays("utils")
    masks = unpacked(arrays[f"{name}_masks"], [128, 128, 5])
    boxes = utils.extract_bboxes(masks)
    assert boxes.dtype == np.int32
    np.testing.assert_array_equal(boxes, arrays[f"{name}_bbox"])
    for side, expanded in ((56, "expanded"), (28, "expanded28")):
        mini = unpacked(arrays[f"{name}_mini{side}"], [side, side, 5])
        assert (utils.minimize_mask(boxes, masks, (side, side)) != mini).sum(axis=(0, 1)).max() <= 2
        back = utils.expand_mask(boxes, mini, (128, 128, 3))
        np.testing.assert_array_equal(back, unpacked(arrays[f"{name}_{expanded}"], [128, 128, 5]))


def test_predicted_masks_are_pasted_as_recorded(shapes128: Recorded) -> None:
    arrays = shapes128.arrays("utils")
    wanted = unpacked(arrays["um_out"], [24, 90, 120])
    for mask, box, want in zip(arrays["um_masks"], arrays["um_boxes"], wanted, strict=True):
        assert (utils.unmold_mask(mask, box, (90, 120, 3)) != want).sum() <= 2


def test_box_arithmetic_is_as_recorded(shapes128: Recorded) -> None:
    arrays = shapes128.arrays("utils")
    a, b = arrays["bx_a"], arrays["bx_b"]
    np.testing.assert_allclose(utils.compute_overlaps(a, b[:11]), arrays["bx_overlaps"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(utils.box_refinement(a, b), arrays["bx_refine"], atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(
        utils.apply_box_deltas(a, arrays["bx_deltas"]), arrays["bx_applied"], atol=1e-6, rtol=1e-6
    )
    np.testing.assert_allclose(utils.norm_boxes(arrays["nb_px"], (128, 128)), arrays["nb_norm"], atol=1e-6, rtol=0)
    for shape, key in (((128, 128), "nb_px2"), ((75, 203), "nb_px3")):
        pixels = utils.denorm_boxes(arrays["nb_n2"], shape)
        assert pixels.dtype == np.int32
        np.testing.assert_array_equal(pixels, arrays[key])


def test_masks_overlap_as_recorded(shapes128: Recorded) -> None:
    arrays = shapes128.arrays("utils")
    a, b = unpacked(arrays["om_a"], [40, 40, 5]), unpacked(arrays["om_b"], [40, 40, 4])
    np.testing.assert_allclose(utils.compute_overlaps_masks(a, b), arrays["om_iou"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("scores", ["ties", "distinct"])
@pytest.mark.parametrize("threshold", ["0.3", "0.5", "0.7"])
def test_suppression_keeps_the_recorded_boxes(shapes128: Recorded, scores: str, threshold: str) -> None:
    arrays = shapes128.arrays("utils")
    given = arrays["nms_scores" if scores == "ties" else "nms_scores_distinct"]
    kept = utils.non_max_suppression(arrays["nms_boxes"], given, float(threshold))
    recorded = arrays[f"nms_np_{scores}_{threshold}"]
    np.testing.assert_array_equal(given[kept], given[recorded])
    if scores == "ties":  # in which order equal scores come is numpy's affair, and the processor's
        kept, recorded = np.sort(kept), np.sort(recorded)
    np.testing.assert_array_equal(kept, recorded)


def test_a_box_that_overlaps_by_exactly_the_threshold_stays(shapes128: Recorded) -> None:
    arrays = shapes128.arrays("utils")
    kept = utils.non_max_suppression(arrays["nms_equal_boxes"], arrays["nms_equal_scores"], 0.5)
    np.testing.assert_array_equal(kept, arrays["nms_equal_np_0.5"])


@pytest.mark.parametrize("index", range(4))
def test_average_precision_is_as_recorded(shapes128: Recorded, index: int) -> None:
    arrays, case = shapes128.arrays("utils"), shapes128.facts("utils")["ap"][index]
    names = ("gt_boxes", "gt_class_ids", "gt_masks", "pred_boxes", "pred_class_ids", "pred_scores", "pred_masks")
    given = {name: arrays[f"ap{index}_{name}"] for name in names}
    given["gt_masks"] = unpacked(given["gt_masks"], case["mask_shapes"][0])
    given["pred_masks"] = unpacked(given["pred_masks"], case["mask_shapes"][1])
    for threshold in (0.5, 0.75):
        gt_match, pred_match, overlaps = utils.compute_matches(**given, iou_threshold=threshold)
        np.testing.assert_array_equal(gt_match, arrays[f"ap{index}_{threshold}_gt_match"])
        np.testing.assert_array_equal(pred_match, arrays[f"ap{index}_{threshold}_pred_match"])
        np.testing.assert_allclose(overlaps, arrays[f"ap{index}_overlaps"], atol=1e-6, rtol=0)
        ap, precisions, recalls, _ = utils.compute_ap(**given, iou_threshold=threshold)
        assert ap == pytest.approx(case[f"ap@{threshold}"], abs=1e-6)
        np.testing.assert_allclose(precisions, arrays[f"ap{index}_{threshold}_precisions"], atol=1e-6, rtol=0)
        np.testing.assert_allclose(recalls, arrays[f"ap{index}_{threshold}_recalls"], atol=1e-6, rtol=0)
    positional = [given[name] for name in names]
    assert utils.compute_ap_range(*positional, verbose=0) == pytest.approx(case["ap_range"], abs=1e-6)
    two = utils.compute_ap_range(*positional, [0.5, 0.6], verbose=0)
    assert two == pytest.approx(case["ap_range_[.5,.6]"], abs=1e-6)
    if "recall@.5" in case:
        recall, rows = utils.compute_recall(given["pred_boxes"], utils.trim_zeros(given["gt_boxes"]), 0.5)
        assert recall == pytest.approx(case["recall@.5"], abs=1e-6)
        np.testing.assert_array_equal(rows, arrays[f"ap{index}_recall_positive_ids"])


def test_anchors_are_as_recorded(shapes128: Recorded) -> None:
    arrays, facts = shapes128.arrays("utils"), shapes128.facts("utils")
    small = facts["anchors_small"]
    for stride in (1, 2):
        anchors = utils.generate_pyramid_anchors(
            small["scales"], small["ratios"], small["feature_shapes"], small["strides"], stride
        )
        np.testing.assert_allclose(anchors, arrays[f"an_small_stride{stride}"], atol=1e-6, rtol=0)
    shapes = utils.compute_backbone_shapes(CONFIG, (128, 128, 3))
    anchors = utils.generate_pyramid_anchors((8, 16, 32, 64, 128), [0.5, 1, 2], shapes, CONFIG.BACKBONE_STRIDES, 1)
    assert list(anchors.shape) == facts["an128"]["shape"]
    np.testing.assert_allclose(np.r_[anchors[:12], anchors[-12:]], arrays["an128_first_last"], atol=1e-6, rtol=0)
    digest = hashlib.sha256(anchors.astype(np.float32).tobytes()).hexdigest()
    assert digest == facts["an128"]["sha256_float32_px"]
    normalised = utils.norm_boxes(anchors, (128, 128))
    assert hashlib.sha256(normalised.tobytes()).hexdigest() == facts["an128"]["sha256_float32_norm"]


def test_levels_have_the_recorded_shapes(shapes128: Recorded) -> None:
    for size, shapes in shapes128.facts("utils")["backbone_shapes"].items():
        height, width = map(int, size.split("x"))
        assert utils.compute_backbone_shapes(CONFIG, (height, width, 3)).tolist() == shapes


def test_meta_and_molded_pictures_are_as_recorded(shapes128: Recorded) -> None:
    arrays = shapes128.arrays("utils")
    meta = utils.compose_image_meta(7, (480, 640, 3), (1024, 1024, 3), (128, 0, 896, 1024), 1.6, [1, 0, 1, 1])
    np.testing.assert_array_equal(meta, arrays["meta"])
    molded = utils.mold_image(arrays["mold_in"], CONFIG)
    assert molded.dtype == np.float64
    np.testing.assert_allclose(molded, arrays["mold_out"], atol=1e-6, rtol=0)
    np.testing.assert_array_equal(utils.unmold_image(molded, CONFIG), arrays["unmold_out"])
