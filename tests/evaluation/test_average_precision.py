"""VOC's average precision: by hand, as the original computes it, and by counting."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from streamseg.evaluation.average_precision import (
    area_under,
    average_precision,
    average_precision_range,
    best_first,
    box_recall,
    match,
    overlaps,
    precision_recall,
    run_lengths,
)
from streamseg.masks import box_iou

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "parity" / "cases" / "shapes128"


def columns(*ranges: tuple[int, int]) -> np.ndarray:
    """Masks (4, 20, N) that fill the columns from the first to before the second number."""
    masks = np.zeros((4, 20, len(ranges)), bool)
    for i, (start, end) in enumerate(ranges):
        masks[:, start:end, i] = True
    return masks


def ones(count: int) -> np.ndarray:
    return np.ones(count, np.int32)


def test_overlaps_are_shared_pixels_over_all_pixels() -> None:
    overlap = overlaps(columns((0, 4), (10, 12)), columns((2, 6), (10, 12), (0, 8)))
    assert overlap.dtype == np.float32
    np.testing.assert_allclose(overlap, [[2 / 6, 0, 4 / 8], [0, 1, 0]], rtol=1e-7)


def test_masks_and_their_run_lengths_overlap_alike() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random((30, 40, 5)) > 0.4, rng.random((30, 40, 7)) > 0.6
    by_pixels = [[(x & y).sum() / (x | y).sum() for y in b.transpose(2, 0, 1)] for x in a.transpose(2, 0, 1)]
    np.testing.assert_array_equal(overlaps(a, b), np.float32(by_pixels))
    np.testing.assert_array_equal(overlaps(run_lengths(a), run_lengths(b)), np.float32(by_pixels))


def test_empty_masks_overlap_nothing() -> None:
    assert overlaps(columns((0, 0)), columns((0, 0), (0, 3))).tolist() == [[0, 0]]
    assert overlaps(columns(), columns((0, 3), (1, 2))).shape == (0, 2)
    assert overlaps(columns((0, 3)), columns()).shape == (1, 0)


def test_masks_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(height, width, objects\), got \(4, 20\)"):
        run_lengths(np.zeros((4, 20), bool))


def test_one_hit_one_false_alarm_and_one_miss() -> None:
    """Hit first: precision 1 up to recall ½. False alarm first: ½ up to recall ½."""
    truth = columns((0, 4), (10, 14))
    hit_first = overlaps(columns((0, 4), (6, 8)), truth)
    assert average_precision(hit_first, ones(2), ones(2)) == 0.5
    assert average_precision(hit_first[::-1], ones(2), ones(2)) == 0.25


def test_a_true_object_is_found_once() -> None:
    overlap = overlaps(columns((0, 4), (0, 4)), columns((0, 4)))
    found, true = match(overlap, ones(2), ones(1))
    assert found.tolist() == [0, -1] and true.tolist() == [0]


def test_a_found_object_takes_the_next_best_when_the_best_is_taken_or_of_another_class() -> None:
    overlap = np.float32([[0.9, 0.6, 0.7], [0.8, 0.6, 0.7]])
    assert match(overlap, np.array([1, 1]), np.array([1, 1, 2]))[0].tolist() == [0, 1]
    assert match(overlap, np.array([1, 2]), np.array([1, 1, 2]))[1].tolist() == [0, -1, 1]


def test_an_overlap_equal_to_the_threshold_is_enough() -> None:
    assert average_precision(np.float32([[0.5]]), ones(1), ones(1)) == 1
    assert average_precision(np.float32([[0.49]]), ones(1), ones(1)) == 0


def test_of_equal_scores_the_last_comes_first() -> None:
    assert best_first(np.float32([0.5, 0.9, 0.5])).tolist() == [1, 2, 0]


def test_nothing_found_is_ap_0() -> None:
    assert average_precision(np.zeros((0, 3)), ones(0), ones(3)) == 0
    assert average_precision_range(np.zeros((0, 3)), ones(0), ones(3)) == 0


def test_the_range_is_the_mean_over_ten_thresholds() -> None:
    """IoU 0.77 holds at 0.5, 0.55 … 0.75: six of ten."""
    assert average_precision_range(np.float32([[0.77]]), ones(1), ones(1)) == pytest.approx(0.6)


def test_the_area_is_that_of_the_best_precision_to_the_right() -> None:
    """Its slow twin: at each of 1,000 recalls the best precision that is reached there or later."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        hits = rng.random(12) < 0.6
        num_true = int(hits.sum()) + int(rng.integers(1, 4))
        counted = np.cumsum(hits)
        reached, precise = counted / num_true, counted / np.arange(1, 13)
        at = (np.arange(1000) + 0.5) / 1000
        slow = np.mean([max(precise[reached >= r], default=0) for r in at])
        fast = area_under(*precision_recall(np.where(hits, 0, -1), num_true))
        assert fast == pytest.approx(slow, abs=0.02)


def test_box_recall_counts_true_boxes_once() -> None:
    share, rows = box_recall(np.float32([[0, 0.4, 0.3], [0.9, 0.1, 0], [0.8, 0.1, 0]]), iou=0.5)
    assert share == pytest.approx(1 / 3) and rows.tolist() == [1, 2]
    assert box_recall(np.zeros((0, 3)), iou=0.5)[0] == 0


@pytest.mark.skipif(not RECORDED.exists(), reason="needs the recorded numbers of the original")
@pytest.mark.parametrize("case", range(4))
def test_the_originals_numbers_come_out(case: int) -> None:
    numbers = json.loads((RECORDED / "utils.json").read_text())["ap"][case]
    with np.load(RECORDED / "utils.npz") as arrays:
        recorded = {key[4:]: arrays[key] for key in arrays if key.startswith(f"ap{case}_")}
    truth, found = (
        np.unpackbits(recorded[name], count=int(np.prod(shape))).reshape(shape).astype(bool)
        for name, shape in zip(("gt_masks", "pred_masks"), numbers["mask_shapes"], strict=True)
    )
    num_true = numbers["n_gt"]  # the rows after are padding
    order = best_first(recorded["pred_scores"])
    overlap = overlaps(found[..., order], truth[..., :num_true])
    np.testing.assert_array_equal(overlap, recorded["overlaps"])
    class_ids, true_ids = recorded["pred_class_ids"][order], recorded["gt_class_ids"][:num_true]
    for iou in (0.5, 0.75):
        found_match, true_match = match(overlap, class_ids, true_ids, iou=iou)
        np.testing.assert_array_equal(found_match, recorded[f"{iou}_pred_match"])
        np.testing.assert_array_equal(true_match, recorded[f"{iou}_gt_match"])
        precision, recall = precision_recall(found_match, num_true)
        np.testing.assert_array_equal(precision, recorded[f"{iou}_precisions"])
        np.testing.assert_array_equal(recall, recorded[f"{iou}_recalls"])
        assert average_precision(overlap, class_ids, true_ids, iou=iou) == pytest.approx(numbers[f"ap@{iou}"], abs=1e-9)
    assert average_precision_range(overlap, class_ids, true_ids) == pytest.approx(numbers["ap_range"], abs=1e-9)
    part = average_precision_range(overlap, class_ids, true_ids, ious=(0.5, 0.6))
    assert part == pytest.approx(numbers["ap_range_[.5,.6]"], abs=1e-9)
    if "recall@.5" in numbers:
        boxes = box_iou(recorded["pred_boxes"], recorded["gt_boxes"][:num_true])
        share, rows = box_recall(boxes, iou=0.5)
        assert share == numbers["recall@.5"]
        np.testing.assert_array_equal(rows, recorded["recall_positive_ids"])
