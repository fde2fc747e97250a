"""A picture fits into the model's input whole, keeps its shape, and boxes find their way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.letterbox import PADDING, Letterbox, nearest_shape

SHAPES = [(640, 384), (544, 416), (480, 480), (416, 544), (384, 640)]
sides = st.integers(1, 8192)


def test_a_wide_picture_gets_a_bar_below() -> None:
    assert Letterbox.fit(1920, 1080, 640, 384) == Letterbox(1920, 1080, 640, 384, 640, 360)


def test_a_tall_picture_gets_a_bar_at_the_right() -> None:
    assert Letterbox.fit(300, 600, 400, 400) == Letterbox(300, 600, 400, 400, 200, 400)


def test_a_small_picture_is_made_larger() -> None:
    assert Letterbox.fit(20, 12, 640, 384).inner_width == 640


def test_wide_pixels_make_a_wider_picture() -> None:
    """720 pixels of 16:15 are as wide as 768 square ones."""
    letterbox = Letterbox.fit(720, 576, 400, 300, pixel_aspect=16 / 15)
    assert (letterbox.inner_width, letterbox.inner_height) == (400, 300)
    assert (Letterbox.fit(720, 576, 400, 300).inner_width) == 375


@given(width=sides, height=sides, shape=st.sampled_from(SHAPES), aspect=st.sampled_from([1.0, 0.5, 128 / 117]))
def test_the_picture_lies_in_the_input_and_touches_two_of_its_sides(
    width: int, height: int, shape: tuple[int, int], aspect: float
) -> None:
    letterbox = Letterbox.fit(width, height, *shape, aspect)
    assert 1 <= letterbox.inner_width <= shape[0] and 1 <= letterbox.inner_height <= shape[1]
    assert letterbox.inner_width == shape[0] or letterbox.inner_height == shape[1]
    # and keeps its shape, to half a pixel of the shorter side
    scale = min(shape[0] / (width * aspect), shape[1] / height)
    assert abs(letterbox.inner_width - max(1, width * aspect * scale)) <= 0.5 + 1e-6
    assert abs(letterbox.inner_height - max(1, height * scale)) <= 0.5 + 1e-6


FITTED = {
    "corner": Letterbox.fit,
    "centre": lambda *sizes: Letterbox.fit(*sizes).centred(),
    "stretch": Letterbox.stretch,
}


@given(width=sides, height=sides, shape=st.sampled_from(SHAPES), fitted=st.sampled_from(list(FITTED)))
def test_to_input_and_to_picture_are_inverse(width: int, height: int, shape: tuple[int, int], fitted: str) -> None:
    letterbox = FITTED[fitted](width, height, *shape)
    boxes = np.float32([[0, 0, width, height], [width / 4, height / 4, width / 2, height / 2]])
    inside = letterbox.to_input(boxes)
    np.testing.assert_allclose(inside[0], letterbox.inner, rtol=1e-5)
    np.testing.assert_allclose(letterbox.to_picture(inside), boxes, rtol=1e-4, atol=5e-3)


def test_a_centred_picture_has_bars_on_both_sides() -> None:
    letterbox = Letterbox.fit(20, 8, 10, 9).centred()
    assert letterbox.inner == (0, 2, 10, 6)  # of the five rows that are left, two above and three below
    out = np.full((9, 10, 3), 200, np.uint8)
    letterbox.place(np.full((4, 10, 3), 9, np.uint8), out, padding=114)
    np.testing.assert_array_equal(out[:, 0, 0], [114, 114, 9, 9, 9, 9, 114, 114, 114])
    upright = Letterbox.fit(8, 20, 9, 10).centred()
    upright.place(np.full((10, 4, 3), 9, np.uint8), out := np.full((10, 9, 3), 200, np.uint8), padding=114)
    np.testing.assert_array_equal(out[0, :, 0], [114, 114, 9, 9, 9, 9, 114, 114, 114])


def test_a_stretched_picture_fills_the_input() -> None:
    letterbox = Letterbox.stretch(200, 100, 50, 50)
    np.testing.assert_array_equal(letterbox.to_picture(np.float32([[10, 10, 20, 20]])), [[40, 20, 80, 40]])


def test_a_box_may_be_brought_back_with_what_hangs_over_the_edge() -> None:
    letterbox = Letterbox.fit(20, 8, 10, 9).centred()
    np.testing.assert_array_equal(letterbox.beyond_picture(np.float32([[-1, 0, 11, 8]])), [[-2, -4, 22, 12]])
    np.testing.assert_array_equal(letterbox.to_picture(np.float32([[-1, 0, 11, 8]])), [[0, 0, 20, 8]])


def test_to_picture_cuts_what_lies_in_the_bars() -> None:
    letterbox = Letterbox.fit(200, 100, 100, 100)
    np.testing.assert_array_equal(letterbox.to_picture(np.float32([[-5, 10, 120, 90]])), [[0, 20, 200, 100]])


def test_place_fills_the_bars_with_the_models_zero() -> None:
    letterbox = Letterbox.fit(4, 2, 8, 8)
    out = np.full((8, 8, 3), 255, np.uint8)
    letterbox.place(np.full((4, 8, 3), 9, np.uint8), out)
    assert (out[:4] == 9).all() and (out[4:] == PADDING).all()


def test_a_large_shape_of_other_proportions_does_not_win() -> None:
    assert nearest_shape([(576, 320), (704, 512)], 1920, 1080) == (576, 320)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((1920, 1080), (640, 384)),
        ((768, 576), (544, 416)),
        ((500, 500), (480, 480)),
        ((1080, 1920), (384, 640)),
        ((3000, 100), (640, 384)),
        ((1, 1), (480, 480)),
    ],
)
def test_a_picture_takes_the_shape_of_the_nearest_proportions(size: tuple[int, int], shape: tuple[int, int]) -> None:
    assert nearest_shape(SHAPES, *size) == shape
