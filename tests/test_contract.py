"""A component that a contract test knows nothing of fails it with what is to be added, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamseg import rooms
from tests.contract import entry, options, through_json

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("room", rooms.ROOMS)
def test_every_room_has_its_contract_test(room: str) -> None:
    assert "rooms.names(" in (ROOT / "tests" / room / "test_room.py").read_text()


def test_a_component_without_an_entry_fails_with_what_to_add() -> None:
    with pytest.raises(pytest.fail.Exception) as failed:
        entry({"gif": 1}, "jsonl", room="sinks", called="OUTPUTS", what="its file and a reader")
    expected = "streamseg/sinks/jsonl.py is new: add 'jsonl' to OUTPUTS in tests/sinks/test_room.py: its file and a "
    assert str(failed.value) == expected + "reader"


def test_an_entry_of_a_component_that_is_gone_fails_too() -> None:
    with pytest.raises(pytest.fail.Exception, match="streamseg/sinks has no scroll: remove it from OUTPUTS"):
        entry({"gif": 1, "scroll": 2}, "gif", room="sinks", called="OUTPUTS", what="")


def test_only_a_component_that_needs_an_option_needs_an_entry() -> None:
    assert options({}, "blur", room="effects") == {}
    assert options({"blur": {"strength": 0.1}}, "blur", room="effects") == {"strength": 0.1}
    with pytest.raises(pytest.fail.Exception, match="add 'replay' to OPTIONS in tests/engines/test_room.py"):
        options({}, "replay", room="engines")


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, {"a": (3,)}])
def test_what_json_changes_is_no_plain_data(value: object) -> None:
    with pytest.raises(AssertionError):
        through_json(value)
