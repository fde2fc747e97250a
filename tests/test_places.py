"""Lines and zones: what a person may say of them, and which objects are where."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from streamseg.places import distances, line_of, named, on_line, points_of, shares_inside, zone_of
from streamseg.types import Instances, UsageError

SQUARE = np.array([(10.0, 10.0), (30.0, 10.0), (30.0, 30.0), (10.0, 30.0)])


def objects(boxes: list[tuple[float, ...]], masks: np.ndarray | None = None) -> Instances:
    num = len(boxes)
    return Instances(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        masks=np.ones((num, 4, 4), np.float32) if masks is None else masks,
        scores=np.ones(num, np.float32),
        class_ids=np.ones(num, np.int32),
        track_ids=np.arange(num, dtype=np.int32),
        class_names=("background", "person"),
    )


def test_a_place_is_spelled_as_its_name_and_its_numbers() -> None:
    assert named("gate=0.72,0, .72,1", "line") == ("gate", [0.72, 0, 0.72, 1])
    assert named(" shop = 0,0,1,0,1,1", "zone") == ("shop", [0, 0, 1, 0, 1, 1])


@pytest.mark.parametrize("text", ["gate", "gate=", "gate=a,b", "gate=1;2", ""])
def test_a_place_that_is_spelled_wrong_is_shown_how(text: str) -> None:
    with pytest.raises(UsageError, match=rf"^--line {text}: expected NAME=X1,Y1,X2,Y2, shares"):
        named(text, "line")
    with pytest.raises(UsageError, match=rf"^--zone {text}: expected NAME=X1,Y1,X2,Y2,X3,Y3,..., shares"):
        named(text, "zone")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([0, 0, 1.2, 1], "line gate: expected shares of the picture from 0 to 1, got 1.2"),
        ([0, -0.1, 1, 1], "got -0.1"),
        ([0, float("nan"), 1, 1], "got nan"),
        ([0, 0, float("inf"), 1], "got inf"),
        ([0.5, 0.5, 0.5, 0.5], "line gate: expected two ends apart, got one point twice, so a line of length 0"),
        ([0.5, 0.5], "line gate: expected its two ends, X1,Y1,X2,Y2, got 2 numbers"),
        ([0, 0, 1, 1, 0, 1], "got 6 numbers"),
        ([0, 0, 1], "line gate: expected an x and a y for each point, got 3 numbers"),
    ],
)
def test_an_impossible_line_is_refused_by_its_name(numbers: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        line_of(numbers, name="gate")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([0, 0, 1, 1], "zone shop: expected three corners or more, got 2"),
        ([0, 0, 1, 1, 2, 0], "zone shop: expected shares of the picture from 0 to 1, got 2"),
        ([0, 0, 1, 0, 1, 1, 0, 0], "zone shop: expected corners apart, got corner 1 again as corner 4"),
        ([0, 0, 1, 1, 1, 0, 0, 1], "zone shop: .* does not cross itself, but 0,0 to 1,1 and 1,0 to 0,1 do"),
        ([0.1, 0.1, 0.3, 0.3, 0.2, 0.2], "does not cross itself"),  # all on one line
        ([0, 0, 1, 0, 1, 0.5, 0.5, 0, 0, 0.5], "does not cross itself"),  # touches its own edge
        ([0, 0, 1, 0, 0.5, 0, 0.5, 1], "does not cross itself"),  # runs back over itself
    ],
)
def test_an_impossible_zone_is_refused_by_its_name(numbers: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        zone_of(numbers, name="shop")


def test_a_place_needs_a_name() -> None:
    for refused in (lambda: line_of([0, 0, 1, 1], name=" "), lambda: zone_of([0, 0, 1, 0, 1, 1], name="")):
        with pytest.raises(UsageError, match="expected a name, got none"):
            refused()


def test_a_zone_may_have_any_outline_that_does_not_cross_itself() -> None:
    assert zone_of([0, 0, 1, 0, 0, 1], name="a triangle").shape == (3, 2)
    assert zone_of([0, 0, 0.5, 0, 1, 0, 1, 1, 0, 1], name="with a corner on a straight side").shape == (5, 2)
    assert zone_of([0, 0, 1, 0, 1, 1, 0.5, 0.1, 0, 1], name="hollow").shape == (5, 2)


def test_an_outline_crosses_itself_as_its_drawing_says() -> None:
    chance = np.random.default_rng(3)
    for _ in range(300):
        corners = chance.random((5, 2))
        crosses = any(
            _cross_by_solving(corners[i], corners[(i + 1) % 5], corners[j], corners[(j + 1) % 5])
            for i in range(5)
            for j in range(i + 2, 5 - (i == 0))
        )
        try:
            zone_of(corners.ravel().tolist(), name="shop")
        except UsageError:
            assert crosses
        else:
            assert not crosses


def _cross_by_solving(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> bool:
    shares = np.linalg.solve(np.stack([b - a, c - d], axis=1), c - a)
    return bool(((shares >= 0) & (shares <= 1)).all())


def test_in_is_below_a_line_from_left_to_right_and_to_the_left_of_one_from_top_to_bottom() -> None:
    across, down = np.array([(0.0, 5.0), (10.0, 5.0)]), np.array([(5.0, 0.0), (5.0, 10.0)])
    assert distances(np.array([(3.0, 8.0), (3.0, 1.0)]), across).tolist() == [3, -4]
    assert distances(np.array([(3.0, 8.0), (9.0, 8.0)]), down).tolist() == [2, -4]


def test_a_line_ends_at_its_ends() -> None:
    line = np.array([(2.0, 2.0), (6.0, 2.0)])
    assert [on_line(np.array([x, 2.0]), line) for x in (1.9, 2.0, 4.0, 6.0, 6.1)] == [False, True, True, True, False]


def test_a_foot_is_below_and_a_centre_where_the_mask_is() -> None:
    masks = np.zeros((2, 4, 4), np.float32)
    masks[0, :, 0] = 1  # the left quarter of its box
    found = objects([(10, 10, 50, 90), (0, 0, 8, 8)], masks)
    assert points_of(found, "foot").tolist() == [[30, 90], [4, 8]]
    assert points_of(found, "centre").tolist() == [[15, 50], [4, 4]]  # of an empty mask the whole box's


def test_shares_inside_are_those_of_the_mask() -> None:
    upper = np.zeros((1, 4, 4), np.float32)
    upper[0, :2] = 1
    assert shares_inside(objects([(0, 0, 10, 10), (20, 20, 30, 30), (25, 20, 35, 30)]), SQUARE).tolist() == [0, 1, 0.5]
    assert shares_inside(objects([(12, 0, 20, 20)], upper), SQUARE).tolist() == [0]  # only its legs are inside
    assert shares_inside(objects([(12, 0, 20, 20)], 1 - upper), SQUARE).tolist() == [1]
    assert shares_inside(objects([]), SQUARE).tolist() == []


def test_shares_inside_are_what_opencv_finds_cell_by_cell() -> None:
    chance = np.random.default_rng(0)
    for _ in range(20):
        angles = np.sort(chance.random(6)) * 2 * np.pi
        corners = 50 + np.stack([np.cos(angles), np.sin(angles)], axis=1) * chance.uniform(10, 45, (6, 1))
        low = chance.uniform(-20, 90, (8, 2))
        found = objects(np.hstack([low, low + chance.uniform(2, 60, (8, 2))]).tolist(), chance.random((8, 5, 5)))
        for share, box, mask in zip(shares_inside(found, corners), found.boxes, found.masks, strict=True):
            cells = [(i, j) for i in range(5) for j in range(5) if mask[i, j] >= 0.5]
            centres = [
                (box[0] + (j + 0.5) * (box[2] - box[0]) / 5, box[1] + (i + 0.5) * (box[3] - box[1]) / 5)
                for i, j in cells
            ]
            inside = [
                cv2.pointPolygonTest(corners.astype(np.float32), (float(x), float(y)), False) > 0 for x, y in centres
            ]
            assert share == pytest.approx(np.mean(inside))
