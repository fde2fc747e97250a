"""Blur: of the objects, or of everything else."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.effects.blur import Blur
from streamseg.types import UsageError
from tests.effects.scenes import draw, objects, picture, planes

BOX = (16.0, 16.0, 48.0, 48.0)


@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv444p10le"])
@pytest.mark.parametrize("where", ["objects", "background"])
def test_one_side_loses_its_detail_and_the_other_keeps_every_bit(pixel_format: str, where: str) -> None:
    before = picture(pixel_format, 64, 64)
    drawn = draw(Blur(where=where, strength=0.05), before, objects(BOX))  # type: ignore[arg-type]
    inside = np.zeros((64, 64), bool)
    inside[16:48, 16:48] = True
    gone, kept = (inside, ~inside) if where == "objects" else (~inside, inside)
    for was, now in zip(planes(before), planes(drawn), strict=True):
        assert np.array_equal(now[kept], was[kept])
        assert now[gone].astype(float).std() < 0.35 * was[gone].astype(float).std()
        assert abs(now[gone].mean() - was[gone].mean()) < 0.05 * was[gone].mean()


def test_strength_is_relative_to_the_picture() -> None:
    spreads = []
    for size in (64, 256):
        before = picture("gray", size, size)
        for plane in before.planes:
            rows = np.zeros((plane.height, plane.line_size), np.uint8)
            rows[:, size // 2 : size] = 200
            plane.update(rows.tobytes())
        drawn = planes(draw(Blur(strength=0.05), before, objects((0, 0, size, size))))[0]
        between = (drawn[size // 2] > 20) & (drawn[size // 2] < 180)
        spreads.append(between.sum() / size)
    assert spreads[0] == pytest.approx(spreads[1], abs=0.04)


def test_only_the_chosen_classes_are_blurred() -> None:
    before = picture()
    drawn = draw(Blur(classes=["dog"]), before, objects((0, 0, 32, 48), (32, 0, 64, 48), classes=(1, 2)))
    assert np.array_equal(planes(drawn)[0][:, :32], planes(before)[0][:, :32])
    assert not np.array_equal(planes(drawn)[0][:, 32:], planes(before)[0][:, 32:])


@pytest.mark.parametrize("strength", [0, -1, 0.6, float("nan")])
def test_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(UsageError, match="strength: expected a share of the picture"):
        Blur(strength=strength)


def test_wrong_side_is_refused_with_the_nearest_right_one() -> None:
    with pytest.raises(UsageError, match="where: 'backgroud' is not possible; did you mean 'background'"):
        Blur(where="backgroud")  # type: ignore[arg-type]
