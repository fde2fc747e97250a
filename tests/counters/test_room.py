"""What holds for every counter: totals and events that are plain data, and a state that another one goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamseg import plugins, rooms
from streamseg.types import Counter, Instances, Result
from tests import fakes
from tests.contract import check_states, options, through_json

NAMES = rooms.names("counters")

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "line": {"name": "gate", "ends": [0.5, 0, 0.5, 1], "patience": 0.2},
    "zone": {"name": "shop", "corners": [0.4, 0, 0.8, 0, 0.8, 1, 0.4, 1], "patience": 0.2},
}
"""Counter -> the options to make one with, where it has an option without a default."""

Counted = tuple[Any, list[Any]]


def made(name: str) -> Counter:
    counter: Counter = plugins.build("counters", name, options(OPTIONS, name, room="counters"))
    return counter


def clip(num_frames: int = 12) -> list[Result]:
    """Track n is confirmed in frame 2n, walks to the right and is gone after six frames; the first frame is empty."""
    results = [Result(fakes.frame(0), Instances.empty(("background",)))]
    for index in range(1, num_frames):
        here = [track for track in range(1, num_frames) if 2 * track <= index < 2 * track + 6]
        found = fakes.instances(0.6, *[0.9] * len(here), class_ids=[1, *(1 + track % 2 for track in here)], left=index)
        found = replace(found, track_ids=np.array([-1, *here], np.int32))
        results.append(Result(fakes.frame(index), found))
    return results


def counted(counter: Counter, results: list[Result]) -> list[Counted]:
    """The totals and events after each result, as plain data."""
    given = [counter.update(result) for result in results]
    return [(through_json(totals), through_json(list(events))) for totals, events in given]


@pytest.mark.parametrize("name", NAMES)
def test_totals_of_the_last_update_are_kept_and_all_is_plain_data(name: str) -> None:
    counter = made(name)
    assert isinstance(counter, Counter)
    through_json(counter.totals())
    for result in clip():
        totals, events = counter.update(result)
        assert isinstance(events, tuple) and all(isinstance(event, Mapping) for event in events)
        assert through_json(totals) == counter.totals()
        assert all(isinstance(totals[kind], Mapping) for kind in totals)
    assert counter.totals() != made(name).totals(), "the clip counts nothing; give OPTIONS that let it"


@pytest.mark.parametrize("name", NAMES)
def test_totals_that_were_given_do_not_change_any_more(name: str) -> None:
    counter = made(name)
    given = [counter.update(result) for result in clip()]
    assert [(totals, list(events)) for totals, events in given] == counted(made(name), clip())


@pytest.mark.parametrize("cut", range(12))
@pytest.mark.parametrize("name", NAMES)
def test_another_one_goes_on_from_its_state_as_if_nothing_had_been(name: str, cut: int) -> None:
    whole, first, second = made(name), made(name), made(name)
    expected = counted(whole, clip())
    counted(first, clip()[:cut])
    state = first.state()
    kept = through_json(state)
    counted(first, clip()[cut:])
    assert state == kept, "a state is what was known when it was taken"
    second.restore(kept)
    assert second.state() == kept and (cut == 0 or second.totals() == expected[cut - 1][0])
    assert counted(second, clip()[cut:]) == expected[cut:]
    assert second.state() == whole.state()


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_something_else_is_refused_and_changes_nothing(name: str) -> None:
    counter = made(name)
    counted(counter, clip())
    check_states("counters", name, lambda: made(name), counter)
