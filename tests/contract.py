"""What the contract test of every room shares: `tests/ROOM/test_room.py` holds all components of its room to one list.

A contract test finds its components by itself, by their files. Only how one is made, and what a test cannot know
without being told, stands in a small table in the test; a component that lacks its entry fails with what to add.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pytest

from streamseg import plugins, rooms
from streamseg.kept import labelled
from streamseg.types import State, UsageError

Entry = TypeVar("Entry")


def entry(table: Mapping[str, Entry], name: str, *, room: str, called: str, what: str) -> Entry:
    """What the table `called` of a contract test says of the component `name`; the test fails where it says nothing.

    what: an entry in words, for the message
    """
    strangers = sorted(set(table) - set(rooms.names(room)))
    if strangers:
        pytest.fail(f"streamseg/{room} has no {', '.join(strangers)}: remove it from {called} in {_file(room)}")
    if name not in table:
        pytest.fail(f"streamseg/{room}/{name}.py is new: add {name!r} to {called} in {_file(room)}: {what}")
    return table[name]


def options(table: Mapping[str, Mapping[str, Any]], name: str, *, room: str) -> dict[str, Any]:
    """The options to make the component `name` with: what the table OPTIONS says, else none, where it needs none."""
    if name not in table:
        try:
            plugins.check(room, name)
        except UsageError:
            what = "the options that it is to be tried with"
            return dict(entry(table, name, room=room, called="OPTIONS", what=what))
    return dict(table.get(name, {}))


def through_json(plain: Any) -> Any:
    """The same after it was written as JSON and read again; equal to what went in, else it is not plain data."""
    read = json.loads(json.dumps(plain, allow_nan=False))
    assert read == plain
    return read


def check_states(room: str, name: str, make: Callable[[], Any], taught: Any) -> None:
    """What holds of the states of every tracker and counter; `taught` is one that has seen something."""
    state, fresh = through_json(taught.state()), make()
    untaught = through_json(fresh.state())
    assert state != untaught, "a state that is the same before and after a clip keeps nothing"
    own = f"{rooms.ROOMS[room]} {name}"
    assert state["of"] == own

    foreign: dict[str, State] = {
        f"{rooms.ROOMS[room]} another, version 1": labelled(f"{rooms.ROOMS[room]} another", version=1),
        f"{own}, version 1000": {**state, "version": 1000},
        "no state at all": {},
    }
    for got, other in foreign.items():
        with pytest.raises(UsageError) as error:
            fresh.restore(other)
        assert f"a state of {own}, version {state['version']}" in str(error.value) and got in str(error.value)
        assert fresh.state() == untaught
    for field in set(state) - {"of", "version"}:
        damaged = {key: value for key, value in state.items() if key != field}
        with pytest.raises(UsageError, match=f"the state of {own} is damaged: .*{field}"):
            fresh.restore(damaged)
        assert fresh.state() == untaught, f"a state without {field} was taken over in part"


def _file(room: str) -> str:
    return f"tests/{room}/test_room.py"
