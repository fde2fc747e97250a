"""Overlay: a colour over each object and a line around it."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.canvas import color_of
from streamseg.effects.overlay import Overlay
from streamseg.types import UsageError
from tests.effects.scenes import draw, even, objects, planes, rgb

BLACK = (0, 0, 0)


def test_object_takes_on_its_colour_by_the_opacity() -> None:
    drawn = rgb(draw(Overlay(opacity=0.5), even(BLACK, width=64, height=64), objects((8, 8, 56, 56))))
    assert np.abs(drawn[32, 32] - np.array(color_of(1, 1)) / 2).max() <= 1
    assert drawn[2, 2].tolist() == [0, 0, 0]


def test_line_around_it_has_the_full_colour() -> None:
    drawn = rgb(draw(Overlay(opacity=0.2), even(BLACK, width=64, height=64), objects((8, 8, 56, 56))))
    assert drawn[32, 8].tolist() == list(color_of(1, 1))
    without = rgb(draw(Overlay(opacity=0.2, outline=False), even(BLACK, width=64, height=64), objects((8, 8, 56, 56))))
    assert without.max() <= 52


def test_line_is_thicker_in_a_larger_picture() -> None:
    widths = []
    for size in (480, 2160):
        on = even(BLACK, width=size, height=size, pixel_format="gray")
        drawn = planes(draw(Overlay(opacity=0), on, objects((size / 4, size / 4, size * 3 / 4, size * 3 / 4))))[0]
        widths.append(int((drawn[size // 2, : size // 2] > drawn.max() // 2).sum()))
    assert widths[0] in (2, 3)
    assert 5 <= widths[1] <= 10


def test_track_keeps_its_colour_whatever_else_is_there() -> None:
    on = even(BLACK, width=64, height=64)
    alone = rgb(draw(Overlay(), on, objects((8, 8, 24, 24), tracks=(7,))))
    among = rgb(draw(Overlay(), on, objects((40, 40, 60, 60), (8, 8, 24, 24), tracks=(2, 7))))
    assert np.array_equal(alone[:30, :30], among[:30, :30])


def test_before_it_has_a_track_an_object_has_the_colour_of_its_class() -> None:
    drawn = rgb(draw(Overlay(opacity=1), even(BLACK, width=64, height=64), objects((8, 8, 56, 56), tracks=(-1,))))
    assert drawn[32, 32].tolist() == list(color_of(-1, 1))


def test_lower_object_lies_on_top() -> None:
    on = even(BLACK, width=64, height=64)
    for order in (1, -1):
        boxes, tracks = [(0, 0, 64, 40), (0, 0, 64, 64)][::order], (1, 2)[::order]
        drawn = rgb(draw(Overlay(opacity=1), on, objects(*boxes, tracks=tracks)))
        assert drawn[20, 20].tolist() == list(color_of(2, 1))


def test_only_the_chosen_classes_are_drawn() -> None:
    on = even(BLACK, width=64, height=64)
    drawn = rgb(draw(Overlay(classes=["dog"]), on, objects((0, 0, 20, 64), (40, 0, 64, 64), classes=(1, 2))))
    assert drawn[:, :30].max() == 0
    assert drawn[:, 45:].max() > 0


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_opacity_out_of_range_is_refused(opacity: float) -> None:
    with pytest.raises(UsageError, match="opacity: expected 0 to 1, got"):
        Overlay(opacity=opacity)
