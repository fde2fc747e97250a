"""Splash: grey outside, untouched inside, and not a bit of the luma anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.effects.splash import Splash
from tests.effects.scenes import draw, enlarged, objects, picture, planes, rgb, soft_disc

BOX = (8.0, 8.0, 48.0, 40.0)


@pytest.mark.parametrize(
    ("pixel_format", "grey", "sub_x", "sub_y"),
    [
        ("yuv420p", 128, 2, 2),
        ("yuvj420p", 128, 2, 2),
        ("yuv422p", 128, 2, 1),
        ("yuv444p", 128, 1, 1),
        ("yuv420p10le", 512, 2, 2),
        ("yuv444p12le", 2048, 1, 1),
    ],
)
def test_luma_is_untouched_and_chroma_grey_outside_and_untouched_inside(
    pixel_format: str, grey: int, sub_x: int, sub_y: int
) -> None:
    before = picture(pixel_format)
    drawn = draw(Splash(), before, objects(BOX, masks=soft_disc()[None]))
    assert drawn.format.name == pixel_format
    assert np.array_equal(planes(drawn)[0], planes(before)[0])
    small = tuple(value / sub for value, sub in zip(BOX, (sub_x, sub_y) * 2, strict=True))
    height, width = planes(before)[1].shape
    inside = enlarged(soft_disc(), small, width=width, height=height)
    outside = ~enlarged(np.where(soft_disc() > 0, 1, 0).astype(np.float32), small, width=width, height=height)
    assert inside.sum() > 50
    assert outside.sum() > 50
    for kept, made in zip(planes(before)[1:], planes(drawn)[1:], strict=True):
        assert np.array_equal(made[inside], kept[inside])
        assert (made[outside] == grey).all()


def test_edge_is_soft() -> None:
    before = picture("yuv444p", 200, 200)
    for plane in before.planes[1:]:
        plane.update(bytes([228]) * plane.buffer_size)
    drawn = draw(Splash(), before, objects((20, 20, 180, 180), masks=soft_disc()[None]))
    row = planes(drawn)[1][100, :100].astype(int)
    between = row[(row > 128) & (row < 228)]
    assert len(between) >= 3
    assert (np.diff(row) >= 0).all()


def test_nothing_found_makes_all_of_it_grey() -> None:
    drawn = draw(Splash(), picture(), objects())
    assert (planes(drawn)[1] == 128).all()
    assert (planes(drawn)[2] == 128).all()


@pytest.mark.parametrize("classes", [["dog"], ["person", "dog"], [], None])
def test_only_the_chosen_classes_stay_in_colour(classes: list[str] | None) -> None:
    before = picture()
    drawn = draw(Splash(classes=classes), before, objects((0, 0, 32, 48), (32, 0, 64, 48), classes=(1, 2)))
    person, dog = planes(drawn)[1][:, :16], planes(drawn)[1][:, 16:]
    assert np.array_equal(dog, planes(before)[1][:, 16:])
    assert (person == 128).all() == (classes == ["dog"])


def test_objects_over_each_other_keep_the_colour_of_both() -> None:
    before = picture()
    drawn = draw(Splash(), before, objects((0, 0, 40, 48), (20, 0, 64, 48)))
    assert np.array_equal(planes(drawn)[1], planes(before)[1])


@pytest.mark.parametrize("pixel_format", ["nv12", "p010le", "yuyv422"])
def test_interleaved_chroma_is_drained_as_well(pixel_format: str) -> None:
    drawn = rgb(draw(Splash(), picture(pixel_format), objects()))
    assert np.ptp(drawn.astype(int), axis=2).max() <= 2


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgra", "gbrp", "gbrp10le"])
def test_rgb_outside_becomes_grey_of_the_same_brightness_and_inside_stays(pixel_format: str) -> None:
    before = picture(pixel_format)
    drawn = draw(Splash(), before, objects((0, 0, 32, 48)))
    assert drawn.format.name == pixel_format
    made, kept = rgb(drawn).astype(float), rgb(before).astype(float)
    assert np.array_equal(made[:, :32], kept[:, :32])
    assert np.ptp(made[:, 32:], axis=2).max() <= 1
    assert np.abs(made[:, 32:, 0] - kept[:, 32:] @ [0.2126, 0.7152, 0.0722]).max() <= 1.5


def test_grey_picture_stays_the_very_picture() -> None:
    before = picture("gray")
    assert draw(Splash(), before, objects(BOX)) is before
