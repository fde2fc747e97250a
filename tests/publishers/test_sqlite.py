"""A database of events and totals: each event once, the totals as they are now, and counts by hour and day."""

from __future__ import annotations

import base64
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from streamseg.publishers.sqlite import Sqlite
from streamseg.types import OutputError, UsageError
from tests.publishers.messages import counts, event, events


def ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.sqlite"


@pytest.fixture
def _in_kolkata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Half past five before UTC."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_an_event_that_comes_twice_stands_once(path: Path) -> None:
    with Sqlite(path) as table:
        table.send(events(1, 3))
        table.send(events(2, 4))
    assert ask(path, "SELECT id, x, y, more FROM events") == [
        (f"e{number}", 10.5, 20.0, None) for number in (1, 2, 3, 4)
    ]


def test_totals_are_those_of_now_and_can_be_read_meanwhile(path: Path) -> None:
    with Sqlite(path) as table:
        table.send([counts()])
        table.send([counts(objects={"person": 7}), counts("back")])
        asked = ask(
            path, "SELECT kind, name, class, number, value FROM totals WHERE stream = 'front' ORDER BY 1, 2, 3, 4"
        )
    assert asked == [
        ("lines", "gate", "dog", "in", 1),
        ("lines", "gate", "dog", "out", 0),
        ("lines", "gate", "person", "in", 4),
        ("lines", "gate", "person", "out", 1),
        ("now", "", "dog", "", 0),
        ("now", "", "person", "", 3),
        ("objects", "", "person", "", 7),
        ("zones", "shop", "person", "entered", 9),
        ("zones", "shop", "person", "left", 7),
        ("zones", "shop", "person", "now", 2),
    ]
    assert ask(path, "SELECT count(*) FROM totals WHERE stream = 'back'") == [(11,)]


@pytest.mark.usefixtures("_in_kolkata")
def test_events_are_counted_by_local_hour_and_day(path: Path) -> None:
    with Sqlite(path) as table:
        # 18:29 and 18:31 UTC: a minute before midnight and a minute after it
        table.send([event(1, at="2026-11-21T18:29:00.000Z"), event(2, at="2026-11-21T18:31:00.000Z")])
        table.send([event(3, at="2026-11-21T18:32:00.000Z"), event(4, event="source")])
    assert ask(path, "SELECT hour, name, direction, events FROM by_hour") == [
        ("2026-11-21 23:00", "gate", "in", 1),
        ("2026-11-22 00:00", "gate", "in", 2),
    ]
    assert ask(path, "SELECT day, class, events FROM by_day") == [
        ("2026-11-21", "person", 1),
        ("2026-11-22", "person", 2),
    ]


def test_a_thumbnail_is_kept_as_the_picture_that_it_is(path: Path) -> None:
    with Sqlite(path, thumbnails=True) as table:
        table.send([event(1, thumbnail=base64.b64encode(b"jpeg").decode()), event(2)])
    assert ask(path, "SELECT thumbnail, more FROM events") == [(b"jpeg", None), (None, None)]


def test_what_an_outside_counter_says_has_its_place(path: Path) -> None:
    with Sqlite(path) as table:
        table.send(
            [
                event(1, name=["a", "b"], speed=3),
                counts(lines={}, zones={}, now={}, heat={"hall": {"a": {"b": {"c": 1}}}}),
            ]
        )
    assert ask(path, "SELECT name, more FROM events") == [('["a", "b"]', '{"speed": 3}')]
    assert ask(path, "SELECT * FROM totals WHERE kind = 'heat'") == [("front", "heat", "hall", "a", "b/c", 1)]


def test_a_file_that_is_locked_is_an_error_to_be_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamseg.publishers.sqlite.SECONDS_FOR_READERS", 0.01)
    with Sqlite(path) as table, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OutputError, match="events.sqlite cannot be written: database is locked"):
            table.send(events(1, 2))
        other.rollback()
        table.send(events(1, 2))
    assert ask(path, "SELECT count(*) FROM events") == [(2,)]


def test_a_kill_costs_no_event_that_was_sent(path: Path) -> None:
    table = Sqlite(path).__enter__()
    table.send(events(1, 5))
    # what a killed process leaves: the file and its journal, as they are now
    for file in path.parent.glob("events.sqlite*"):
        (path.parent / file.name.replace("events", "copy")).write_bytes(file.read_bytes())
    table.__exit__()
    assert ask(path.with_name("copy.sqlite"), "SELECT count(*) FROM events") == [(5,)]


def test_another_file_is_refused_and_stays(path: Path) -> None:
    path.write_text("Dear diary, " * 100)
    with pytest.raises(UsageError, match="events.sqlite: expected an SQLite file, got another one"):
        Sqlite(path).__enter__()
    assert path.read_text() == "Dear diary, " * 100
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE prices (item, price)")
    with pytest.raises(UsageError, match="events.sqlite: expected tables of streamseg, version 1, got others"):
        Sqlite(path).__enter__()
    with pytest.raises(UsageError, match="expected a file ending in .sqlite, got 'events.db'"):
        Sqlite("events.db")


def test_a_file_that_was_moved_away_is_whole_there_and_begun_anew(path: Path, tmp_path: Path) -> None:
    moved = tmp_path / "of_yesterday.sqlite"
    with Sqlite(path) as table:
        table.send(events(1, 2))
        path.rename(moved)
        table.send(events(3, 4))
        assert ask(moved, "SELECT id FROM events") == [("e1",), ("e2",)]
        assert ask(path, "SELECT id FROM events") == [("e3",), ("e4",)]
        path.unlink()
        table.send(events(5, 5))
    assert ask(path, "SELECT id FROM events") == [("e5",)]


def test_totals_of_a_zone_that_is_no_more_go(path: Path) -> None:
    with Sqlite(path) as table:
        table.send([counts(), counts("back")])
        table.send([counts(zones={"yard": {"person": {"now": 1}}}, now={})])
    names = "SELECT DISTINCT kind, name FROM totals WHERE stream = '{}' AND kind IN ('zones', 'now')"
    assert ask(path, names.format("front")) == [("zones", "yard")]
    assert set(ask(path, names.format("back"))) == {("zones", "shop"), ("now", "")}
