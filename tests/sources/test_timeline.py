"""Timestamps come out increasing, in the order of decoding, and good ones untouched."""

from __future__ import annotations

from collections.abc import Sequence

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.sources._timeline import Timeline


def run(
    shown: Sequence[int | None], *, packets: Sequence[int | None] = (), step: int = 10
) -> tuple[list[int], Timeline]:
    """The pts that come out for pictures with these pts; `packets` are all read before the first picture."""
    timeline = Timeline(step=step)
    for pts in packets:
        timeline.packet(pts)
    given_in, given_out = [], []
    for pts in shown:
        picture = av.VideoFrame(2, 2, "gray")
        picture.pts = pts
        given_in.append(picture)
        given_out += timeline.picture(picture)
    given_out += timeline.flush()
    assert [id(picture) for picture in given_out] == [id(picture) for picture in given_in]
    return [picture.pts or 0 for picture in given_out], timeline


def test_good_timestamps_pass_untouched_however_uneven() -> None:
    uneven = [5, 6, 40, 41, 1000]
    assert run(uneven, packets=[5, 41, 6, 40, 1000])[0] == uneven
    assert run(uneven)[1].num_backward == 0


def test_good_pictures_are_not_delayed() -> None:
    timeline = Timeline(step=10)
    for pts in (0, 10, 20):
        timeline.packet(pts)
        picture = av.VideoFrame(2, 2, "gray")
        picture.pts = pts
        assert len(timeline.picture(picture)) == 1


def test_a_repeated_timestamp_is_put_between_its_neighbours() -> None:
    assert run([0, 10, 10, 20, 30])[0] == [0, 10, 15, 20, 30]
    assert run([0, 10, 10, 20, 30], packets=[0, 20, 10, 10, 30])[0] == [0, 10, 15, 20, 30]


def test_two_wrong_timestamps_are_spread_between_their_neighbours() -> None:
    pts, timeline = run([0, 10, 3, 7, 40])
    assert pts == [0, 10, 20, 30, 40]
    assert timeline.num_backward == 1


def test_pictures_shown_in_the_order_of_decoding_get_the_packets_timestamps() -> None:
    # I P B B: the file numbered its packets 0 1 2 3, so the pictures I B B P arrive as 0 2 3 1.
    pts, timeline = run([0, 20, 30, 10, 50, 60, 40], packets=[0, 10, 20, 30, 40, 50, 60])
    assert pts == [0, 10, 20, 30, 40, 50, 60]
    assert timeline.num_backward == 2


def test_a_lost_packet_leaves_a_gap_and_moves_nothing() -> None:
    shown = [0, 10, 30, *range(40, 400, 10)]
    pts, timeline = run(shown, packets=range(0, 400, 10))
    assert pts == shown
    assert timeline.num_backward == 0


def test_a_jump_back_for_good_goes_on_after_what_was() -> None:
    first, second = list(range(0, 300, 10)), list(range(0, 300, 10))
    pts, timeline = run(first + second)
    assert pts == list(range(0, 600, 10))
    assert timeline.num_backward == 1


def test_missing_timestamps_are_counted_on_by_the_usual_step() -> None:
    pts, timeline = run([None, None, None], packets=[None, None, None])
    assert pts == [0, 10, 20]
    assert timeline.num_missing == 3


def test_a_missing_timestamp_among_good_ones_is_filled() -> None:
    assert run([0, 10, None, 30])[0] == [0, 10, 20, 30]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.none() | st.integers(-50, 300), min_size=1, max_size=60), st.booleans())
def test_whatever_comes_in_increases_when_it_comes_out(shown: list[int | None], sorted_packets: bool) -> None:
    known = [pts for pts in shown if pts is not None]
    pts, _ = run(shown, packets=sorted(set(known)) if sorted_packets else known)
    assert len(pts) == len(shown)
    assert all(before < after for before, after in zip(pts, pts[1:], strict=False))


@pytest.mark.parametrize("step", [0, -5])
def test_a_step_below_one_tick_counts_as_one(step: int) -> None:
    assert run([None, None], step=step)[0] == [0, 1]
