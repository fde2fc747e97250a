"""A table of events: one header for all time, a row an event, nothing else."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from streamseg.publishers.csv import Csv
from streamseg.types import UsageError
from tests.publishers.messages import counts, event, events, ids, state


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_row_says_what_the_event_says(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    with Csv(path) as table:
        table.send([event(1, name='a, "b"\nc', ended=True, dwell=2.5, colour="red"), counts(), state("live")])
    (row,) = rows(path)
    told = {key: value for key, value in row.items() if value}
    assert told == {
        "id": "e1",
        "at": "2026-11-21T08:15:00.123Z",
        "stream": "front",
        "event": "line",
        "name": 'a, "b" c',
        "direction": "in",
        "time": "0.1",
        "track": "1",
        "class": "person",
        "score": "0.93",
        "x": "10.5",
        "y": "20.0",
        "dwell": "2.5",
        "ended": "1",
        "more": '{"colour": "red"}',
    }


def test_the_header_stands_once_through_restarts_and_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    for number in (1, 2):
        with Csv(path) as table:
            table.send(events(number, number))
    with path.open("a") as file:
        file.write("e3,2026-11")
    with Csv(path) as table:
        table.send(events(3, 3))
    assert [row["id"] for row in rows(path)] == ids(1, 3)


def test_a_kill_in_the_middle_of_the_header_is_mended(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("id,at,str")
    with Csv(tmp_path / "events.csv") as table:
        table.send(events(1, 1))
    assert [row["id"] for row in rows(tmp_path / "events.csv")] == ids(1, 1)


def test_a_table_with_other_columns_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("item,price\nbread,2\n")
    with pytest.raises(UsageError, match=r"prices.csv: expected a file that streamseg's events can be added to"):
        Csv(tmp_path / "prices.csv").__enter__()
    assert (tmp_path / "prices.csv").read_text() == "item,price\nbread,2\n"
    with pytest.raises(UsageError, match="expected a file ending in .csv, got 'events.tsv'"):
        Csv("events.tsv")
