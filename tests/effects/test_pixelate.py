"""Pixelate: what is covered cannot be brought back."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.effects.pixelate import Pixelate
from streamseg.types import UsageError
from tests.effects.scenes import draw, even, objects, picture, planes

BOX = (16.0, 16.0, 48.0, 48.0)


def test_object_is_squares_of_one_value_and_the_rest_keeps_every_bit() -> None:
    before = picture("yuv420p", 64, 64)
    drawn = draw(Pixelate(strength=0.125), before, objects(BOX))
    for index, (was, now) in enumerate(zip(planes(before), planes(drawn), strict=True)):
        side, start, end = (8, 16, 48) if index == 0 else (4, 8, 24)
        squares = now[start:end, start:end].reshape(4, side, 4, side)
        assert (squares.max(axis=(1, 3)) == squares.min(axis=(1, 3))).all()
        now[start:end, start:end] = was[start:end, start:end]
        assert np.array_equal(now, was)


def test_two_objects_that_differ_in_detail_only_look_the_same() -> None:
    """Stripes one pixel wide, and the same stripes the other way round: after it there is no telling them apart."""
    stripes = even((0, 0, 0), width=64, height=64, pixel_format="gray")
    others = even((0, 0, 0), width=64, height=64, pixel_format="gray")
    pattern = np.tile(np.array([[0, 200], [200, 0]], np.uint8), (32, 32))
    stripes.planes[0].update(np.ascontiguousarray(pattern).tobytes())
    others.planes[0].update(np.ascontiguousarray(pattern[:, ::-1]).tobytes())
    drawn = [planes(draw(Pixelate(strength=0.125), on, objects(BOX)))[0][16:48, 16:48] for on in (stripes, others)]
    assert np.array_equal(*drawn)


def test_background_is_squares_and_the_object_keeps_every_bit() -> None:
    before = picture("yuv444p", 64, 64)
    drawn = draw(Pixelate(where="background", strength=0.125), before, objects(BOX))
    for was, now in zip(planes(before), planes(drawn), strict=True):
        assert np.array_equal(now[16:48, 16:48], was[16:48, 16:48])
        assert np.ptp(now[:8, :8]) == 0
        assert np.ptp(now[56:, 8:16]) == 0


def test_close_up_is_never_more_than_twelve_squares_long() -> None:
    before = picture("gray", 240, 240)
    drawn = planes(draw(Pixelate(strength=0.01), before, objects((0, 0, 240, 240))))[0].astype(int)
    assert (np.diff(drawn, axis=1) != 0).any(axis=0).sum() <= 11


@pytest.mark.parametrize("strength", [0, 0.51, float("nan")])
def test_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(UsageError, match="strength: expected a share of the picture"):
        Pixelate(strength=strength)


def test_wrong_side_is_refused_with_the_nearest_right_one() -> None:
    with pytest.raises(UsageError, match="where: 'object' is not possible; did you mean 'objects'"):
        Pixelate(where="object")  # type: ignore[arg-type]
