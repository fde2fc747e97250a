"""Colours tell objects apart, letters are readable on them, and a picture gets them in its own numbers."""

from __future__ import annotations

import colorsys

import pytest

from streamseg.canvas import PALETTE, Canvas, color_of, ink_on
from tests.canvas.pictures import one_colour, samples


def test_colour_follows_the_track_and_before_there_is_one_the_class() -> None:
    assert color_of(3, 1) == color_of(3, 7) == PALETTE[3]
    assert color_of(-1, 1) == PALETTE[0]
    assert color_of(len(PALETTE), 1) == PALETTE[0]


def test_colours_next_to_each_other_are_a_third_of_the_circle_apart() -> None:
    hues = [colorsys.rgb_to_hsv(*(value / 255 for value in color))[0] for color in PALETTE]
    for one, other in zip(hues, hues[1:] + hues[:1], strict=True):
        assert min((one - other) % 1, (other - one) % 1) > 0.33


def test_letters_are_dark_on_bright_and_white_on_dark() -> None:
    assert max(ink_on((255, 255, 255))) < 50
    assert ink_on((0, 0, 90)) == (255, 255, 255)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 7, 9])
@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv420p", "yuv444p10le"])
def test_colours_are_those_that_ffmpeg_makes_of_them(pixel_format: str, matrix: int, full: bool) -> None:
    for rgb in [(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), PALETTE[0], PALETTE[5]]:
        expected = one_colour(rgb, pixel_format, matrix=matrix, full=full)
        canvas = Canvas(one_colour((90, 120, 30), pixel_format, matrix=matrix, full=full))
        canvas.rectangle(0, 0, 8, 8, rgb)
        deep = pixel_format.endswith("10le")
        for drawn, right in zip(samples(canvas.picture), samples(expected), strict=True):
            assert abs(int(drawn[0, 0]) - int(right[2, 2])) <= (6 if deep else 2)


def test_white_is_235_in_limited_range_and_255_in_full_range() -> None:
    for full, white in ((False, 235), (True, 255)):
        canvas = Canvas(one_colour((0, 0, 0), "yuv420p", matrix=1, full=full))
        canvas.rectangle(0, 0, 8, 8, (255, 255, 255))
        assert [int(plane[0, 0]) for plane in samples(canvas.picture)] == [white, 128, 128]


def test_ten_bit_is_drawn_in_ten_bit() -> None:
    canvas = Canvas(one_colour((0, 0, 0), "yuv420p10le", matrix=1, full=False))
    canvas.rectangle(0, 0, 8, 8, (255, 255, 255))
    assert [int(plane[0, 0]) for plane in samples(canvas.picture)] == [940, 512, 512]


def test_white_in_hdr_video_is_the_white_of_a_page_not_of_the_sun() -> None:
    for transfer, signal in ((16, 0.58), (18, 0.75)):  # PQ, HLG
        picture = one_colour((0, 0, 0), "yuv420p10le", matrix=9, full=False)
        picture.color_trc = transfer
        canvas = Canvas(picture)
        canvas.rectangle(0, 0, 8, 8, (255, 255, 255))
        assert int(samples(canvas.picture)[0][0, 0]) == round(64 + 876 * signal)
