"""Labels: plates that can be read, within the picture, off each other."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.effects.labels import Labels
from tests.effects.scenes import Box, draw, even, objects, picture, planes, rgb


def changed(*boxes: Box, width: int = 640, height: int = 480, **options: bool) -> np.ndarray:
    """Where the plates of the boxes lie, (height, width) bool."""
    on = even((255, 0, 255), width=width, height=height)
    return (rgb(draw(Labels(**options), on, objects(*boxes))) != rgb(on)).any(axis=2)


def rows_and_columns(where: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(where)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


@pytest.mark.parametrize(("height", "least", "most"), [(480, 12, 22), (1080, 24, 44), (2160, 48, 90)])
def test_plate_is_readable_in_every_size_and_stands_on_its_box(height: int, least: int, most: int) -> None:
    width = height * 16 // 9
    top, bottom, left, _ = rows_and_columns(changed((200, 300, 300, 450), width=width, height=height))
    assert least <= bottom - top <= most
    assert (bottom, left) == (300, 200)


@pytest.mark.parametrize("box", [(-50, -50, 20, 20), (600, 0, 700, 100), (0, 470, 30, 600), (0, 0, 640, 480)])
def test_plate_stays_within_the_picture(box: Box) -> None:
    whole = rows_and_columns(changed((200, 200, 300, 300)))
    top, bottom, left, right = rows_and_columns(changed(box))
    assert (bottom - top, right - left) == (whole[1] - whole[0], whole[3] - whole[2])


def test_plates_of_objects_in_one_place_do_not_hide_each_other() -> None:
    one = changed((200, 200, 300, 300)).sum()
    four = changed(*[(200 + i, 200 + i, 300 + i, 300 + i) for i in range(4)]).sum()
    assert four > 3.9 * one


def test_object_outside_the_picture_or_without_a_box_gets_no_plate() -> None:
    assert not changed((700, 10, 800, 90), (-90, 10, -5, 90), (50, 50, 50, 80), (float("nan"), 0, 9, 9)).any()


def test_picture_too_small_for_a_plate_stays_as_it_is() -> None:
    before = picture("yuv420p", 40, 10)
    assert draw(Labels(), before, objects((0, 0, 40, 10))) is before


def test_score_can_be_left_out() -> None:
    assert changed((200, 200, 300, 300), score=False).sum() < 0.75 * changed((200, 200, 300, 300)).sum()


def test_track_number_appears_once_there_is_one() -> None:
    on = even((0, 0, 0), width=640, height=480)
    box = (200.0, 200.0, 300.0, 300.0)
    tracked = (rgb(draw(Labels(score=False), on, objects(box, tracks=(12,)))) != 0).any(axis=2)
    fresh = (rgb(draw(Labels(score=False), on, objects(box, tracks=(-1,)))) != 0).any(axis=2)
    assert rows_and_columns(tracked)[3] > rows_and_columns(fresh)[3] + 8


def test_only_the_chosen_classes_are_labelled() -> None:
    before = picture("yuv420p", 640, 480)
    assert draw(Labels(classes=["dog"]), before, objects((200, 200, 300, 300))) is before


def test_nothing_but_the_plate_is_touched() -> None:
    before = picture("yuv420p", 640, 480)
    drawn = draw(Labels(), before, objects((200, 300, 300, 450)))
    rows, columns = np.nonzero(planes(drawn)[0] != planes(before)[0])
    assert 280 <= rows.min() <= rows.max() < 300
    assert 200 <= columns.min() <= columns.max() < 320
