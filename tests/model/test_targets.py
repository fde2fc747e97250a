"""What the network is told: the same as a slow reading of the rules, with crowds left out."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from streamseg.model.targets import anchor_targets, in_crowd, mask_targets, roi_targets, sample
from tests.model.test_boxes import random_boxes, slow_iou


def numbers(*tensors: Any) -> list[np.ndarray]:
    return [np.array(ops.convert_to_numpy(tensor)) for tensor in tensors]


def seed() -> keras.random.SeedGenerator:
    return keras.random.SeedGenerator(0)


def scene(rng: np.random.Generator, *, batch: int = 2, objects: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth (B, G, 4), valid, crowd: the last object but one is a crowd, the last row padding."""
    truth = random_boxes(rng, batch, objects)
    valid, crowd = np.ones((batch, objects), bool), np.zeros((batch, objects), bool)
    valid[:, -2:], crowd[:, -2] = False, True
    truth[:, -1] = 0
    return truth, valid, crowd


def test_a_sample_has_the_size_asked_for_and_takes_candidates_only() -> None:
    candidates = np.arange(40)[None] % np.array([[2], [4]]) == 0  # 20 and 10 of them
    chosen = numbers(sample(candidates, np.array([7, 15]), 20, seed()))[0]
    assert chosen.sum(1).tolist() == [7, 10]
    assert not (chosen & ~candidates).any()
    assert not numbers(sample(candidates, np.array([0, 0]), 20, seed()))[0].any()


def test_a_sample_is_fair() -> None:
    generator = seed()
    candidates = np.ones((400, 10), bool)
    chosen = numbers(sample(candidates, 3, 3, generator))[0]
    assert (chosen.sum(1) == 3).all()
    np.testing.assert_allclose(chosen.mean(0), 0.3, atol=0.1)


def test_a_box_with_half_its_area_in_a_crowd_is_no_background() -> None:
    crowd_box = np.float32([[[0, 0, 100, 100]]])
    boxes = np.float32([[[90, 0, 110, 10], [89, 0, 109, 10], [200, 0, 210, 10], [0, 0, 0, 0]]])
    inside = numbers(in_crowd(boxes, crowd_box, np.array([[True]])))[0]
    assert inside.tolist() == [[False, True, False, False]]
    assert not numbers(in_crowd(boxes, crowd_box, np.array([[False]])))[0].any()


@pytest.mark.parametrize("number", range(3))
def test_anchor_targets_are_those_of_the_rules(number: int) -> None:
    rng = np.random.default_rng(number)
    anchors = random_boxes(rng, 80)
    truth, valid, crowd = scene(rng)
    everything = {"positive_iou": 0.5, "negative_iou": 0.3, "samples": 80, "seed": seed()}  # all that there is
    positive, negative, matched = numbers(*anchor_targets(anchors, truth, valid, crowd, **everything))
    for b in range(len(truth)):
        overlap = np.array(
            [[slow_iou(a, t) if v else 0.0 for t, v in zip(truth[b], valid[b], strict=True)] for a in anchors]
        )
        best_of_truth = overlap.max(0)
        for i, anchor in enumerate(anchors):
            forced = [k for k in range(5) if valid[b, k] and overlap[i, k] >= max(best_of_truth[k], 1e-3) - 1e-6]
            crowded = slow_share(anchor, truth[b, 3]) > 0.5
            assert positive[b, i] == (bool(forced) or overlap[i].max() >= 0.5)
            assert negative[b, i] == (not positive[b, i] and overlap[i].max() < 0.3 and not crowded)
            if positive[b, i]:
                choice = forced or range(5)
                assert overlap[i, matched[b, i]] == max(overlap[i, k] for k in choice)


def slow_share(box: np.ndarray, region: np.ndarray) -> float:
    width = min(box[2], region[2]) - max(box[0], region[0])
    height = min(box[3], region[3]) - max(box[1], region[1])
    return max(width, 0) * max(height, 0) / ((box[2] - box[0]) * (box[3] - box[1]))


def test_at_most_half_of_the_sampled_anchors_are_positive_and_the_rest_is_filled_up() -> None:
    anchors = np.tile(np.float32([[0, 0, 10, 10]]), (60, 1))
    anchors[30:] += 50
    truth = np.float32([[[0, 0, 10, 10]]])
    yes, no = np.array([[True]]), np.array([[False]])
    knobs = {"positive_iou": 0.7, "negative_iou": 0.3, "seed": seed()}
    positive, negative, _ = numbers(*anchor_targets(anchors, truth, yes, no, samples=20, **knobs))
    assert (positive.sum(), negative.sum()) == (10, 10)
    positive, negative, _ = numbers(*anchor_targets(anchors, truth, no, no, samples=20, **knobs))
    assert (positive.sum(), negative.sum()) == (0, 20)


def test_an_object_that_no_anchor_fits_trains_its_best_anchor() -> None:
    anchors = np.float32([[0, 0, 100, 100], [0, 0, 40, 40], [200, 200, 240, 240]])
    truth, yes = np.float32([[[0, 0, 10, 10]]]), np.array([[True]])
    positive, negative, matched = numbers(
        *anchor_targets(anchors, truth, yes, ~yes, positive_iou=0.7, negative_iou=0.3, samples=6, seed=seed())
    )
    assert positive.tolist() == [[False, True, False]] and negative.tolist() == [[True, False, True]]
    assert matched[0, 1] == 0


@pytest.mark.parametrize("number", range(3))
def test_roi_targets_are_those_of_the_rules(number: int) -> None:
    rng = np.random.default_rng(number)
    truth, valid, crowd = scene(rng)
    proposals = truth[:, rng.integers(0, 4, 50)] + rng.normal(0, 6, (2, 50, 4)).astype(np.float32)
    real = rng.random((2, 50)) > 0.2
    knobs = {"samples": 55, "positives": 1.0, "seed": seed()}
    rois, positive, negative, matched = numbers(*roi_targets(proposals, real, truth, valid, crowd, **knobs))
    for b in range(2):
        taken, used = 0, positive[b] | negative[b]
        for box, is_positive, is_negative, match in zip(rois[b], positive[b], negative[b], matched[b], strict=True):
            overlap = [slow_iou(box, t) if v else 0.0 for t, v in zip(truth[b], valid[b], strict=True)]
            if is_positive:
                assert max(overlap) >= 0.5 and overlap[match] == max(overlap)
            if is_negative:
                assert max(overlap) < 0.5 and slow_share(box, truth[b, 3]) <= 0.5
            taken += is_positive or is_negative
        candidates = [*truth[b][valid[b]], *proposals[b][real[b]]]
        ignored = 0
        for box in candidates:
            overlap = [slow_iou(box, t) if v else 0.0 for t, v in zip(truth[b], valid[b], strict=True)]
            ignored += max(overlap) < 0.5 and slow_share(box, truth[b, 3]) > 0.5
        assert taken == len(candidates) - ignored
        assert not (np.diff(positive[b].astype(int)) > 0).any(), "positives come first"
        assert not (np.diff(used.astype(int)) > 0).any(), "padding comes last"


def test_the_share_of_positive_proposals_is_bounded() -> None:
    truth = np.float32([[[0, 0, 10, 10]]])
    proposals = np.concatenate([np.tile(truth, (1, 30, 1)), np.tile(truth + 50, (1, 30, 1))], 1)
    yes = np.array([[True]])
    _, positive, negative, _ = numbers(
        *roi_targets(proposals, np.ones((1, 60), bool), truth, yes, ~yes, samples=20, positives=0.3, seed=seed())
    )
    assert (positive.sum(), negative.sum()) == (6, 14)


def test_a_mask_through_its_own_box_is_itself_and_through_its_left_half_its_left_half() -> None:
    mini = np.zeros((1, 8, 8), np.float32)
    mini[0, 2:5, 1:3] = 1
    box, half = np.float32([[10, 20, 50, 100]]), np.float32([[10, 20, 30, 100]])
    np.testing.assert_allclose(numbers(mask_targets(mini, box, box, size=8))[0], mini, atol=1e-5)
    left = numbers(mask_targets(mini, box, half, size=8))[0][0]
    np.testing.assert_allclose(left[3], [0, 0.25, 0.75, 1, 1, 0.75, 0.25, 0], atol=1e-5)
    np.testing.assert_allclose(left[0], 0, atol=1e-5)


def test_mask_targets_are_their_slow_twin() -> None:
    rng = np.random.default_rng(0)
    mini = rng.random((20, 7, 7)).astype(np.float32)
    boxes, rois = random_boxes(rng, 20), random_boxes(rng, 20)
    fast = numbers(mask_targets(mini, boxes, rois, size=6))[0]
    slow = np.zeros_like(fast)
    for r, (box, roi) in enumerate(zip(boxes.astype(float), rois.astype(float), strict=True)):
        for i in range(6):
            for j in range(6):
                x = (roi[0] + (j + 0.5) / 6 * (roi[2] - roi[0]) - box[0]) / (box[2] - box[0]) * 7
                y = (roi[1] + (i + 0.5) / 6 * (roi[3] - roi[1]) - box[1]) / (box[3] - box[1]) * 7
                if 0 <= x <= 7 and 0 <= y <= 7:
                    x, y = min(max(x - 0.5, 0), 6), min(max(y - 0.5, 0), 6)
                    left, top = min(int(x), 5), min(int(y), 5)
                    part = mini[r, top : top + 2, left : left + 2]
                    slow[r, i, j] = np.array([1 - (y - top), y - top]) @ part @ np.array([1 - (x - left), x - left])
    np.testing.assert_allclose(fast, slow, atol=2e-3)
