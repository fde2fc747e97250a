"""Counts: the table in the corner."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.effects.counts import Corner, Counts
from streamseg.types import UsageError
from tests.effects.scenes import draw, even, objects, picture, rgb

TOTALS = {"objects": {"person": 23, "dog": 2}}
BOX = (200.0, 200.0, 300.0, 300.0)


def table(counts: dict, *boxes: tuple[float, float, float, float], **options: object) -> np.ndarray:
    """Where the table lies, (480, 640) bool."""
    on = even((255, 255, 255), width=640, height=480)
    drawn = draw(Counts(**options), on, objects(*boxes), counts)  # type: ignore[arg-type]
    return (rgb(drawn) != 255).any(axis=2)


def size(where: np.ndarray) -> tuple[int, int]:
    rows, columns = np.nonzero(where)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def test_rows_are_the_classes_seen_so_far() -> None:
    one, two = size(table({"objects": {"person": 23}}, BOX)), size(table(TOTALS, BOX))
    assert two[0] > one[0] + 12
    assert two[1] == one[1]
    assert size(table(TOTALS)) == two  # seen before, none now


def test_without_a_counter_there_is_no_column_of_totals() -> None:
    assert size(table({}, BOX))[1] < size(table({"objects": {"person": 1}}, BOX))[1] - 20


def test_now_counts_what_is_in_the_picture() -> None:
    result_rows = [Counts()._rows(result) for result in _results()]
    assert result_rows == [
        ([("person", 2, 23), ("dog", 0, 2)], True),
        ([("person", 1, 1)], True),  # the other is not confirmed yet
        ([("person", 2, 0)], False),  # nothing tracks: all count
    ]


def _results() -> list:
    from streamseg.types import Frame, Result

    frame = Frame(picture(), 0, 0.0, 0.0, "test")
    return [
        Result(frame, objects(BOX, BOX, tracks=(4, 9)), TOTALS),
        Result(frame, objects(BOX, BOX, tracks=(4, -1)), {"objects": {"person": 1}}),
        Result(frame, objects(BOX, BOX, tracks=(-1, -1)), {}),
    ]


@pytest.mark.parametrize("corner", ["top-left", "top-right", "bottom-left", "bottom-right"])
def test_table_lies_in_the_corner_asked_for(corner: Corner) -> None:
    rows, columns = np.nonzero(table(TOTALS, BOX, corner=corner))
    assert (rows.max() < 240) == corner.startswith("top")
    assert (columns.max() < 320) == corner.endswith("left")
    assert 0 < rows.min() <= rows.max() < 479
    assert 0 < columns.min() <= columns.max() < 639


def test_before_anything_was_seen_there_is_no_table() -> None:
    before = picture("yuv420p", 640, 480)
    assert draw(Counts(), before, objects(), {"objects": {}}) is before


def test_only_the_chosen_classes_have_rows() -> None:
    assert size(table(TOTALS, BOX, classes=["person"])) == size(table({"objects": {"person": 23}}, BOX))


def test_picture_too_small_for_the_table_stays_as_it_is() -> None:
    before = picture("yuv420p", 48, 32)
    assert draw(Counts(), before, objects((0, 0, 20, 20)), TOTALS) is before


def test_wrong_corner_is_refused_with_the_nearest_right_one() -> None:
    with pytest.raises(UsageError, match="corner: 'topleft' is not possible; did you mean 'top-left'"):
        Counts(corner="topleft")  # type: ignore[arg-type]
