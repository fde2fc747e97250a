"""What is true and what is found reach the metrics as the same kind of run lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy.ndimage import binary_dilation

from streamseg import outlines
from streamseg.evaluation.objects import (
    Comparison,
    Objects,
    dilated,
    found_objects,
    that_count,
    true_objects,
)
from streamseg.types import Instances, Sample

NAMES = ("background", "ball", "cat")
SIZE = {"width": 60, "height": 40}


def square(x: int, y: int = 0, side: int = 10) -> list[list[float]]:
    """A square as a COCO polygon."""
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def sample(*left: int, masks: tuple | None = None, crowd: tuple | None = None, areas: list | None = None) -> Sample:
    """10×10 squares of the class ball."""
    boxes = np.array([[x, 0, x + 10, 10] for x in left], np.float32).reshape(-1, 4)
    shapes = masks if masks is not None else tuple(square(x) for x in left)
    crowds = np.array(crowd or [False] * len(left), bool)
    ids = np.ones(len(left), np.int32)
    return Sample(
        1, Path("a.png"), 60, 40, boxes, ids, shapes, crowds, areas=None if areas is None else np.array(areas)
    )


def instances(*rows: tuple[float, float, int]) -> Instances:
    """Full 10×10 masks as (left edge, score, class)."""
    n = len(rows)
    boxes = np.array([[x, 0, x + 10, 10] for x, _, _ in rows], np.float32).reshape(-1, 4)
    scores, ids = np.array([s for _, s, _ in rows]), np.array([c for *_, c in rows], int)
    return Instances(boxes, np.ones((n, 28, 28)), scores, ids, np.full(n, -1), NAMES)


def test_true_objects_keep_what_is_unknown_apart() -> None:
    truth = true_objects(sample(0, 20, 40, masks=(square(0), None, square(40, side=8)), crowd=(0, 0, 1)), NAMES)
    assert truth.names == ("ball",) * 3 and truth.areas.tolist() == [100, 100, 64]
    assert truth.unknown.tolist() == [False, True, False] and truth.crowd.tolist() == [False, False, True]
    assert true_objects(sample(0, 20, areas=[7.5, np.nan]), NAMES).areas.tolist() == [7.5, 100]
    assert len(true_objects(sample(), NAMES)) == 0


def test_found_objects_come_best_first() -> None:
    found = found_objects(instances((0, 0.5, 1), (20, 0.9, 2)), **SIZE)
    assert found.names == ("cat", "ball") and found.boxes[:, 0].tolist() == [20, 0]
    assert found.areas.tolist() == [100, 100]
    assert found.of(["ball"]).scores.tolist() == [0.5] and len(found_objects(instances(), **SIZE)) == 0


def test_a_grown_pixel_is_a_diamond() -> None:
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    grown = coco_mask.decode(dilated(outlines.encoded(mask), times=2))
    rows, columns = np.indices((9, 9))
    np.testing.assert_array_equal(grown, abs(rows - 4) + abs(columns - 4) <= 2)


def test_masks_grow_as_scipys_do_and_stay_in_the_picture() -> None:
    rng = np.random.default_rng(0)
    for times in (1, 3):
        mask = rng.random((20, 30)) > 0.97
        grown = coco_mask.decode(dilated(outlines.encoded(mask), times=times))
        np.testing.assert_array_equal(grown, binary_dilation(mask, iterations=times))
    assert found_objects(instances((0, 0.9, 1)), **SIZE, dilation=1).areas.tolist() == [100 + 10 + 10]


def picture(truth: Sample, found: Instances) -> Comparison:
    return Comparison("a", 60, 40, true_objects(truth, NAMES), found_objects(found, **SIZE))


def left_edges(objects: Objects) -> list[int]:
    return sorted(objects.boxes[:, 0].astype(int).tolist())


def test_without_crowds_and_unknown_masks_everything_counts() -> None:
    seen = picture(sample(0), instances((0, 0.9, 1), (30, 0.8, 1)))
    assert that_count(seen) == (seen.truth, seen.found)


@pytest.mark.parametrize("why", ["crowd", "unknown"])
def test_what_lies_in_a_region_that_does_not_count_is_no_false_alarm(why: str) -> None:
    """The region is columns 20 to 30: moved by 4 six tenths lie in it, by 6 four tenths; another class is one."""
    options = {"crowd": (False, True)} if why == "crowd" else {"masks": (square(0), None)}
    found = instances((0, 0.9, 1), (20, 0.8, 1), (24, 0.7, 1), (26, 0.6, 1), (21, 0.5, 2))
    truth, kept = that_count(picture(sample(0, 20, **options), found))
    assert left_edges(truth) == [0] and left_edges(kept) == [0, 21, 26]


def test_a_hit_counts_even_inside_a_crowd() -> None:
    truth, kept = that_count(picture(sample(20, 21, crowd=(False, True)), instances((20, 0.9, 1), (21, 0.8, 1))))
    assert left_edges(truth) == [20] and left_edges(kept) == [20, 21]
