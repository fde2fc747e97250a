"""Of what a model finds in one picture, each object is taken once: no doubles, no groups."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.trackers._objects import covered, distinct
from streamseg.types import Instances

Box = tuple[float, float, float, float]


def found(boxes: list[Box], scores: list[float], masks: np.ndarray | None = None, class_ids: int = 1) -> Instances:
    n = len(boxes)
    return Instances(
        boxes=np.array(boxes, np.float32),
        masks=np.ones((n, 28, 28), np.float32) if masks is None else masks,
        scores=np.array(scores, np.float32),
        class_ids=np.full(n, class_ids, np.int32),
        track_ids=np.full(n, -1, np.int32),
        class_names=("background", "person", "dog"),
    )


def scores_of(instances: Instances) -> list[float]:
    return [round(float(score), 2) for score in instances.scores]


def test_of_two_detections_of_the_same_pixels_only_the_better_is_an_object() -> None:
    # the first two share 38 × 90 of 4,000 + 3,496 - 3,420 pixels: 0.84
    three = found([(10, 10, 50, 110), (12, 20, 50, 112), (200, 10, 240, 110)], [0.6, 0.9, 0.8])
    assert scores_of(distinct(three, min_score=0.5)) == [0.9, 0.8]


def test_two_people_in_front_of_each_other_stay_two() -> None:
    left, right = np.zeros((28, 28), np.float32), np.zeros((28, 28), np.float32)
    left[:, :14], right[:, 14:] = 1, 1  # the same box, but each mask has its own half
    assert len(distinct(found([(10, 10, 50, 110)] * 2, [0.9, 0.8], np.stack([left, right])), min_score=0.5)) == 2


def test_two_doubles_in_a_larger_box_are_no_group() -> None:
    three = found([(0, 0, 60, 100), (0, 0, 50, 100), (2, 0, 52, 100)], [0.9, 0.8, 0.7])
    assert scores_of(distinct(three, min_score=0.5)) == [0.9]


PAIR: list[Box] = [(0, 0, 70, 100), (0, 0, 34, 100), (36, 0, 70, 100)]
"""A box round two people, and one round each of them: they fill 68 of its 70 columns."""


def test_a_group_of_two_is_no_third_object() -> None:
    assert scores_of(distinct(found(PAIR, [0.99, 0.9, 0.8]), min_score=0.5)) == [0.9, 0.8]


@pytest.mark.parametrize("scores", [[0.99, 0.9, 0.4], [0.4, 0.9, 0.8]])
def test_what_is_unsure_neither_is_a_group_nor_makes_one(scores: list[float]) -> None:
    # each of the two is 30 of 70 columns, too little to be the same as the group
    boxes: list[Box] = [(0, 0, 70, 100), (0, 0, 30, 100), (40, 0, 70, 100)]
    assert scores_of(distinct(found(boxes, scores), min_score=0.5)) == scores
    assert scores_of(distinct(found(boxes, [0.99, 0.9, 0.8]), min_score=0.5)) == [0.9, 0.8]


def test_a_parent_with_two_children_before_him_is_no_group() -> None:
    # they hide 2 × 20 × 40 of 6,000 pixels
    family: list[Box] = [(0, 0, 60, 100), (5, 60, 25, 100), (35, 60, 55, 100)]
    assert len(distinct(found(family, [0.9, 0.9, 0.9]), min_score=0.5)) == 3


def test_objects_of_other_classes_do_not_touch_each_other() -> None:
    mixed = found(PAIR, [0.99, 0.9, 0.8])
    mixed.class_ids[:] = [2, 1, 1]
    assert len(distinct(mixed, min_score=0.5)) == 3


def test_the_share_that_others_cover_is_that_of_the_one_who_covers_most() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 25, 10], [8, 0, 9, 10], [50, 0, 60, 10]], np.float32)
    # of the second, 5 of 20 columns lie in the first; the third lies whole in both
    assert covered(boxes).tolist() == pytest.approx([0.5, 0.25, 1, 0])
    assert covered(boxes[:0]).tolist() == []
