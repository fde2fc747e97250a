"""Boxes move, overlap and suppress each other as the slow and obvious way does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops

from streamseg.model import boxes

STD = (0.1, 0.1, 0.2, 0.2)


def random_boxes(rng: np.random.Generator, *shape: int, size: float = 100.0) -> np.ndarray:
    start = rng.uniform(0, size, (*shape, 2))
    return np.concatenate([start, start + rng.uniform(1, size / 2, (*shape, 2))], -1).astype(np.float32)


def numbers(tensor: Any) -> np.ndarray:
    return np.array(ops.convert_to_numpy(tensor))


def slow_iou(box: np.ndarray, other: np.ndarray) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    common = max(width, 0) * max(height, 0)
    union = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - common
    return common / union if union > 0 else 0.0


def greedy(boxes: np.ndarray, threshold: float) -> np.ndarray:
    """Which boxes (N, 4), best first, the textbook's non-maximum suppression keeps."""
    kept: list[int] = []
    for i, box in enumerate(boxes):
        if all(slow_iou(box, boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return np.isin(np.arange(len(boxes)), kept)


def test_a_delta_of_ten_tenths_moves_a_box_by_its_own_width() -> None:
    moved = boxes.apply_deltas(np.float32([[0, 0, 10, 20]]), np.float32([[10, 0, 0, 0]]), STD)
    np.testing.assert_allclose(numbers(moved), [[10, 0, 20, 20]], atol=1e-4)


def test_a_log_delta_of_ln_2_doubles_a_box_around_its_centre() -> None:
    deltas = np.float32([[0, 0, np.log(2) / 0.2, 0]])
    moved = boxes.apply_deltas(np.float32([[10, 0, 20, 20]]), deltas, STD)
    np.testing.assert_allclose(numbers(moved), [[5, 0, 25, 20]], atol=1e-4)


def test_finding_and_applying_deltas_are_inverse() -> None:
    rng = np.random.default_rng(0)
    start, target = random_boxes(rng, 3, 50), random_boxes(rng, 3, 50)
    moved = boxes.apply_deltas(start, boxes.find_deltas(start, target, STD), STD)
    np.testing.assert_allclose(numbers(moved), target, atol=1e-2)


def test_deltas_of_boxes_without_size_and_endless_deltas_stay_finite() -> None:
    nothing, huge = np.zeros((1, 4), np.float32), np.full((1, 4), 1e6, np.float32)
    assert np.isfinite(numbers(boxes.find_deltas(nothing, nothing, STD))).all()
    assert np.isfinite(numbers(boxes.apply_deltas(np.float32([[0, 0, 10, 10]]), huge, STD))).all()


def test_clip_cuts_to_the_picture() -> None:
    cut = boxes.clip(np.float32([[-5, -5, 120, 70], [10, 20, 30, 40]]), 100.0, 50.0)
    np.testing.assert_array_equal(numbers(cut), [[0, 0, 100, 50], [10, 20, 30, 40]])


def test_iou_is_that_of_the_slow_twin() -> None:
    rng = np.random.default_rng(1)
    some, others = random_boxes(rng, 2, 9), random_boxes(rng, 2, 5)
    slow = [[[slow_iou(a, b) for b in others[i]] for a in some[i]] for i in range(2)]
    np.testing.assert_allclose(numbers(boxes.iou(some, others)), slow, atol=1e-5)


def test_iou_of_a_box_without_area_is_0() -> None:
    overlap = boxes.iou(np.float32([[5, 5, 5, 5], [9, 9, 3, 3]]), np.float32([[0, 0, 10, 10]]))
    np.testing.assert_array_equal(numbers(overlap), [[0], [0]])


corners = arrays(np.int8, st.tuples(st.just(12), st.just(4)), elements=st.integers(0, 9))


@settings(deadline=None, max_examples=60)
@given(corners=corners, threshold=st.sampled_from([0.3, 0.5, 0.7]))
def test_nms_keeps_what_the_greedy_algorithm_keeps(corners: np.ndarray, threshold: float) -> None:
    low, size = corners[:, :2].astype(np.float32), 1 + corners[:, 2:].astype(np.float32)
    some = np.concatenate([low, low + size], 1)
    kept = numbers(boxes.nms_keep(some[None], threshold=threshold, rounds=12))
    np.testing.assert_array_equal(kept[0], greedy(some, threshold))


@pytest.mark.parametrize("batch", [1, 3])
def test_nms_of_a_batch_of_crowded_boxes_is_greedy(batch: int) -> None:
    some = random_boxes(np.random.default_rng(2), batch, 150, size=60)
    kept = numbers(boxes.nms_keep(some, threshold=0.5, rounds=16))
    np.testing.assert_array_equal(kept, [greedy(one, 0.5) for one in some])


def test_a_box_that_is_not_valid_neither_stands_nor_suppresses() -> None:
    twins = np.float32([[[0, 0, 10, 10], [0, 0, 10, 10]]])
    kept = boxes.nms_keep(twins, threshold=0.5, rounds=4, valid=np.array([[False, True]]))
    assert numbers(kept).tolist() == [[False, True]]
