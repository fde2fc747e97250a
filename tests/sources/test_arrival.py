"""A live picture's time is its arrival; the camera's clock only spaces the pictures."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.sources._arrival import Arrivals


def times(*pictures: tuple[float, float | None]) -> list[float]:
    """The times of pictures (arrived at, pts)."""
    arrivals = Arrivals()
    return [arrivals.time(arrived_at=at, pts=pts) for at, pts in pictures]


def test_pictures_that_jitter_on_the_way_keep_the_distances_of_the_camera() -> None:
    late = [0, 0.03, 0.01, 0.05, 0, 0.02]
    found = times(*((100 + index / 10 + late[index % 6], 7 + index / 10) for index in range(60)))
    assert [later - earlier for earlier, later in pairwise(found)] == pytest.approx([0.1] * 59, abs=0.011)
    assert found[-1] == pytest.approx(5.9, abs=0.05)


def test_a_slow_camera_clock_does_not_carry_the_time_away_from_the_arrival() -> None:
    assert times(*((index / 10, index * 0.097) for index in range(36_000)))[-1] == pytest.approx(3599.9, abs=0.01)


@pytest.mark.parametrize("jump", [-3600, 44_122, 5.2, -0.2, 1e9])
def test_a_jump_of_the_camera_clock_is_ignored(jump: float) -> None:
    found = times(*((index / 10, index / 10 + (jump if index >= 5 else 0)) for index in range(10)))
    assert found == pytest.approx([index / 10 for index in range(10)])


def test_pictures_without_pts_are_spaced_by_arrival() -> None:
    assert times((5, None), (5.2, None), (5.5, 7.0), (5.6, 7.1)) == pytest.approx([0, 0.2, 0.5, 0.6])


def test_an_outage_is_as_long_as_it_was() -> None:
    arrivals = Arrivals()
    assert arrivals.time(arrived_at=10, pts=3) == 0
    arrivals.reconnected()
    assert arrivals.time(arrived_at=70, pts=3.1) == 60


def test_a_burst_is_spread_as_it_was_taken() -> None:
    # half a second of pictures, held up somewhere, arrives at once
    found = times((0, 0.0), *((0.5, index / 10) for index in range(1, 6)), (0.6, 0.6))
    assert found == pytest.approx([index / 10 for index in range(7)], abs=0.06)


moments = st.tuples(
    st.floats(0, 20) | st.sampled_from([0.0, 0.04, 1.0]),
    st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.04, 0.1, -3600.0, 5.0]),
)


@given(st.lists(moments, min_size=2, max_size=40))
def test_whatever_comes_each_time_is_later_and_near_the_arrival(steps: list[tuple[float, float | None]]) -> None:
    at, pts, pictures = 0.0, 0.0, []
    for step, tick in steps:
        at, pts = at + step, pts + (tick or 0)
        pictures.append((at, None if tick is None else pts))
    found = times(*pictures)
    assert found[0] == 0
    assert all(earlier < later for earlier, later in pairwise(found))
    for number, (time, (arrived_at, _)) in enumerate(zip(found, pictures, strict=True)):
        since = arrived_at - pictures[0][0]
        assert since - 1 - 1e-6 <= time <= since + 1 + 1e-6 + 0.001 * number
