"""A log of events only grows: a restart adds to it, a kill costs it nothing, a full disk leaves it whole."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from streamseg.publishers.jsonl import Jsonl
from streamseg.types import OutputError, UsageError
from tests.full_disk import files_of_at_most
from tests.publishers.messages import counts, event, events, ids


def found(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_is_the_whole_event(tmp_path: Path) -> None:
    with Jsonl(tmp_path / "new" / "events.jsonl") as log:
        log.send([event(1, name="門"), counts()])
        assert json.loads((tmp_path / "new" / "events.jsonl").read_text()) == event(1, name="門").body


def test_half_a_line_that_a_kill_left_is_removed_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "events.jsonl"
    with Jsonl(path) as log:
        log.send(events(1, 2))
    with path.open("a") as file:
        file.write('{"id": "e3", "ev')
    with Jsonl(path) as log:
        log.send(events(3, 3))
    assert found(path) == ids(1, 3)
    assert caplog.record_tuples[0][1] == logging.WARNING and "e3" in caplog.text


def test_another_file_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text("Dear diary")
    with pytest.raises(UsageError, match=r"notes.jsonl: expected a file that streamseg's events can be added to"):
        Jsonl(path).__enter__()
    path.write_text("{" + "x" * 3_000_000)
    with pytest.raises(UsageError, match="expected lines of text"):
        Jsonl(path).__enter__()
    assert path.stat().st_size == 3_000_001


def test_a_full_disk_takes_all_of_a_batch_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Jsonl(path) as log:
        log.send(events(1, 2))
        size = path.stat().st_size
        with (
            files_of_at_most(size * 2),
            pytest.raises(OutputError, match="events.jsonl cannot be written: file too large"),
        ):
            log.send(events(3, 6))
        assert path.stat().st_size == size
        log.send(events(3, 6))
    assert found(path) == ids(1, 6)


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    with Jsonl(tmp_path / "events.jsonl"), pytest.raises(OutputError, match="another run is writing it"):
        Jsonl(tmp_path / "events.jsonl").__enter__()


def test_a_file_that_was_moved_away_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Jsonl(path) as log:
        log.send(events(1, 2))
        os.rename(path, tmp_path / "events.1.jsonl")
        log.send(events(3, 3))
        os.unlink(path)
        log.send(events(4, 4))
    assert found(tmp_path / "events.1.jsonl") == ids(1, 2) and found(path) == ids(4, 4)


def test_what_cannot_be_such_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a file ending in .jsonl, got 'events.txt'"):
        Jsonl("events.txt")
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match=r"a/events.jsonl cannot be written: .*(exists|not a directory)"):
        Jsonl(tmp_path / "a" / "events.jsonl").__enter__()
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(OutputError, match="folder.jsonl cannot be written: is a directory"):
        Jsonl(tmp_path / "folder.jsonl").__enter__()
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(UsageError, match="pipe.jsonl: expected a file"):
        Jsonl(tmp_path / "pipe.jsonl").__enter__()


def test_a_last_line_that_lacks_its_end_alone_stays(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Jsonl(path) as log:
        log.send(events(1, 1))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))  # as some editors save it
    with Jsonl(path) as log:
        log.send(events(2, 2))
    assert found(path) == ids(1, 2)
