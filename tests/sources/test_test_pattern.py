"""The test pattern is the same at every run and at exact times."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from streamseg.sources.test_pattern import TestPattern
from streamseg.types import Frame, Source, UsageError


def read(source: TestPattern) -> list[Frame]:
    with source:
        return list(source)


def test_it_ends_after_ten_seconds_unless_told_otherwise() -> None:
    assert len(read(TestPattern(size="16x16", fps=3))) == 30
    assert len(read(TestPattern(size="16x16", fps=3, end=None))) == 30
    assert len(read(TestPattern(size="16x16", fps=3, end=12))) == 36


def test_times_are_exact_at_a_broken_rate() -> None:
    with TestPattern(size="16x16", fps=29.97002997, end=4) as source:
        assert isinstance(source, Source)
        frames = list(source)
        assert source.info.num_frames == len(frames) == 120
    assert frames[30].time == 30 * 1001 / 30000
    assert frames[30].picture.pts * frames[30].picture.time_base == frames[30].index * source.info.time_base


def test_two_runs_are_the_same_and_the_figures_move() -> None:
    first, second = (read(TestPattern(size="160x90", end=0.5)) for _ in range(2))
    pictures = [frame.picture.to_ndarray() for frame in first]
    assert all(np.array_equal(a, frame.picture.to_ndarray()) for a, frame in zip(pictures, second, strict=True))
    assert not np.array_equal(pictures[0], pictures[10])


def test_start_end_and_stride_keep_the_pictures_of_the_whole() -> None:
    whole = {frame.index: frame.picture.to_ndarray() for frame in read(TestPattern(size="64x36", fps=10, end=3))}
    part = read(TestPattern(size="64x36", fps=10, start=0.3, end=1.1, stride=4))
    assert [frame.index for frame in part] == [3, 7]
    assert all(np.array_equal(frame.picture.to_ndarray(), whole[frame.index]) for frame in part)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (321, 243), (1600, 100), (3, 200)])
def test_any_size_is_drawn(width: int, height: int) -> None:
    frames = read(TestPattern(size=f"{width}x{height}", fps=2, end=3))
    assert {(f.width, f.height, f.picture.format.name) for f in frames} == {(width, height, "yuv420p")}


def test_pictures_carry_their_colour_tags() -> None:
    picture = read(TestPattern(size="16x16", fps=1, end=1))[0].picture
    assert (picture.colorspace, picture.color_primaries, picture.color_trc, picture.color_range) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"size": "1280"}, "size"), ({"size": "0x3"}, "size"), ({"fps": 0}, "fps"), ({"end": 0}, "end")]
    + [({"start": -1}, "start"), ({"stride": 0}, "stride")],
)
def test_a_wrong_option_fails_at_construction(options: dict, word: str) -> None:
    with pytest.raises(UsageError, match=f"^{word}: expected"):
        TestPattern(**options)


@pytest.mark.parametrize(
    ("fps", "rate"), [(0.0002, Fraction(1, 5000)), (0.4, Fraction(2, 5)), (29.97, Fraction(2997, 100))]
)
def test_a_rate_may_be_a_picture_in_hours(fps: float, rate: Fraction) -> None:
    assert TestPattern(fps=fps).fps == rate
