"""The history keeps a bounded day of points and shows gaps as gaps."""

from __future__ import annotations

from streamseg.server.history import MOST_COLUMNS, MOST_POINTS, History


def test_a_point_is_due_every_five_seconds_and_after_a_clock_was_set_back() -> None:
    history = History()
    assert history.due(100.0)
    history.add(100.0, {})
    assert [history.due(now) for now in (100.0, 104.9, 105.0, 99.0)] == [False, False, True, True]


def test_numbers_stand_beside_their_times_and_are_zero_before_they_were_known() -> None:
    history = History()
    history.add(10.0, {("now", "person"): 1})
    history.add(15.0, {("now", "person"): 2, ("lines", "gate in"): 7})
    assert history.since(0) == {
        "time": [10, 15],
        "now": {"person": [1, 2]},
        "lines": {"gate in": [0, 7]},
        "zones": {},
    }


def test_only_the_points_asked_for_are_answered() -> None:
    history = History()
    for at in (10.0, 15.0, 20.0):
        history.add(at, {("now", "person"): int(at)})
    assert history.since(10.0)["now"] == {"person": [15, 20]}


def test_the_oldest_point_makes_room() -> None:
    history = History(points=3)
    for at in range(0, 25, 5):
        history.add(at, {("now", "person"): at})
    assert history.since(-1) == {"time": [10, 15, 20], "now": {"person": [10, 15, 20]}, "lines": {}, "zones": {}}


def test_where_nothing_was_seen_there_is_a_gap_of_nulls() -> None:
    history = History()
    for at in (0.0, 5.0, 60.0, 65.0):
        history.add(at, {("now", "person"): 3})
    answer = history.since(-1)
    assert (answer["time"], answer["now"]["person"]) == ([0, 5, 10, 60, 65], [3, 3, None, 3, 3])


def test_a_whole_day_is_thinned_and_ends_with_the_newest_point() -> None:
    history = History()
    for number in range(17_280):
        history.add(number * 5.0, {("now", "person"): number})
    answer = history.since(-1)
    assert len(answer["time"]) <= MOST_POINTS
    assert (answer["time"][-1], answer["now"]["person"][-1]) == (17_279 * 5, 17_279)
    assert None not in answer["now"]["person"]


def test_a_counter_that_names_things_without_end_takes_bounded_memory() -> None:
    history = History(points=4)
    for number in range(3 * MOST_COLUMNS):
        history.add(number * 5.0, {("now", f"thing {number}"): 1})
    assert len(history.since(-1)["now"]) == MOST_COLUMNS


def test_a_clock_that_was_set_back_starts_anew() -> None:
    history = History()
    for at in (100.0, 105.0, 50.0, 55.0):
        history.add(at, {("now", "person"): int(at)})
    assert history.since(-1)["time"] == [50, 55]
