"""The frames nearest to the multiples of some seconds are the same in every part of a video as in the whole."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.annotate.selection import Moment, Selection
from streamseg.types import UsageError

TIMES = st.lists(st.integers(1, 400), max_size=60).map(lambda steps: [sum(steps[:n]) / 100 for n in range(len(steps))])


def moments(times: list[float]) -> list[Moment]:
    return [Moment(index, time) for index, time in enumerate(times)]


def chosen(selection: Selection, frames: list[Moment], **around: float | None) -> list[int]:
    return [frame.index for frame in selection.of(frames, **around)]


@given(TIMES, st.integers(1, 300))
def test_each_multiple_has_the_nearest_frame_the_earlier_one_halfway(times: list[float], hundredths: int) -> None:
    every = hundredths / 100
    multiples = [n * every for n in range(math.floor(times[-1] / every + 1e-9) + 1)] if times else []
    nearest = {min(range(len(times)), key=lambda i: (round(abs(times[i] - m), 6), i)) for m in multiples}
    assert chosen(Selection(every), moments(times)) == sorted(nearest)


@given(TIMES, st.integers(1, 300), st.integers(0, 59), st.integers(1, 5))
def test_a_part_has_the_same_frames_as_the_whole(times: list[float], hundredths: int, at: int, stride: int) -> None:
    frames, at = moments(times), min(at, len(times))
    for selection in (Selection(hundredths / 100), Selection(stride=stride)):
        before = None if at == 0 else times[at - 1]
        after = times[at] if at < len(times) else None
        parts = chosen(selection, frames[:at], after=after) + chosen(selection, frames[at:], before=before)
        assert parts == chosen(selection, frames)


def test_every_two_seconds_of_frames_of_uneven_times() -> None:
    times = [0.0, 0.9, 1.6, 2.5, 3.9, 4.2]
    assert chosen(Selection(2.0), moments(times)) == [0, 2, 4]


def test_every_third_frame_is_counted_from_the_first() -> None:
    assert chosen(Selection(stride=3), moments([0.1 * n for n in range(8)])) == [0, 3, 6]


def test_seconds_and_a_stride_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="--every and --stride exclude each other"):
        Selection(2.0, 3)
