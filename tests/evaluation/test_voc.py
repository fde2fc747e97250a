"""The mAP is a mean over pictures, of what scores enough and is of the right class."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.evaluation.objects import Comparison, Objects
from streamseg.evaluation.voc import voc_average_precision
from tests.evaluation.test_bowl import objects


def picture(truth: Objects, found: Objects) -> Comparison:
    return Comparison("a", 40, 10, truth, found)


def measured(*pictures: Comparison, min_score: float = 0.5, iou: float = 0.5) -> dict:
    return voc_average_precision(pictures, min_score=min_score, iou=iou)


def test_the_map_is_the_mean_over_pictures_with_objects() -> None:
    """One of one, one of three; a picture without any object has no AP."""
    three = objects((0, 5, 1), (10, 15, 1), (20, 25, 1))
    figures = measured(
        picture(objects((0, 5, 1)), objects((0, 5, 0.9))),
        picture(three, objects((0, 5, 0.9))),
        picture(objects(), objects((0, 5, 0.9))),
    )
    assert figures["AP"] == figures["AP_range"] == pytest.approx((1 + 1 / 3) / 2)
    assert figures["images"] == 2 and figures["min_score"] == 0.5


def test_the_iou_is_that_of_the_masks() -> None:
    """7 of 10 columns."""
    seen = picture(objects((0, 10, 1)), objects((0, 7, 0.9)))
    assert measured(seen, iou=0.7)["AP"] == 1 and measured(seen, iou=0.71)["AP"] == 0
    assert measured(seen)["AP_range"] == pytest.approx(0.4)  # 0.5 to 0.65: 0.7 is a rounding error higher


def test_weak_objects_and_those_of_another_class_do_not_count() -> None:
    truth = objects((0, 5, 1))
    found = objects((20, 25, 0.4), (0, 5, 0.3))
    assert measured(picture(truth, found))["AP"] == 0
    assert measured(picture(truth, found), min_score=0.3)["AP"] == 0.5
    assert measured(picture(truth, objects((0, 5, 0.9), name="cat")))["AP"] == 0


def test_without_a_true_object_there_is_no_map() -> None:
    assert measured(picture(objects(), objects()))["AP"] == -1
    assert np.isfinite(measured()["AP_range"])
