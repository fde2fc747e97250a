"""What waits for a peer stays in its order, survives a kill, and never becomes more than it may."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamseg.flow.spool import Spool, default_file
from streamseg.types import Message, OutputError
from tests.full_disk import files_of_at_most
from tests.publishers.messages import event, events, ids


def filled(spool: Spool, messages: list[Message]) -> int:
    """How many were dropped."""
    return sum(spool.add(message) for message in messages)


def waiting(spool: Spool) -> list[str]:
    found = [each.id for each in spool.first(1000)]
    spool.returned()
    return found


@pytest.fixture(params=["in memory", "on disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "in memory" else tmp_path / "spool.sqlite"


def test_first_in_first_out_and_whole(place: Path | None) -> None:
    spool = Spool(place, capacity=10)
    assert filled(spool, [event(1, name="門", thumbnail="abc"), *events(2, 4)]) == 0
    assert spool.first(2) == [event(1, name="門", thumbnail="abc"), event(2)] and len(spool) == 4
    spool.arrived()
    assert len(spool) == 2 and waiting(spool) == ids(3, 4)
    spool.close()


def test_what_did_not_arrive_waits_again_before_all_others(place: Path | None) -> None:
    spool = Spool(place, capacity=10)
    filled(spool, events(1, 2))
    spool.first(2)
    filled(spool, events(3, 3))
    spool.returned()
    assert waiting(spool) == ids(1, 3)
    spool.close()


def test_a_full_one_lets_the_oldest_go_and_says_how_many(place: Path | None) -> None:
    spool = Spool(place, capacity=5)
    assert filled(spool, events(1, 12)) == 7
    assert waiting(spool) == ids(8, 12) and len(spool) == 5
    spool.close()


def test_what_is_being_sent_is_not_dropped(place: Path | None) -> None:
    spool = Spool(place, capacity=4)
    filled(spool, events(1, 4))
    assert [each.id for each in spool.first(2)] == ids(1, 2)
    assert filled(spool, events(5, 6)) == 2
    spool.arrived()
    assert waiting(spool) == ids(5, 6)
    spool.close()


def test_what_waits_when_it_is_closed_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "spool.sqlite"
    spool = Spool(path, capacity=10)
    filled(spool, events(1, 3))
    spool.first(1)
    spool.arrived()
    assert (spool.found, spool.on_disk) == (0, 2)
    spool.close()
    again = Spool(path, capacity=10)
    assert again.found == 2 and waiting(again) == ids(2, 3)
    assert path.stat().st_mode & 0o077 == 0  # it may hold pictures of people
    again.first(2)
    again.arrived()
    again.close()
    assert [*path.parent.iterdir()] == []


KILLED = """
import os, signal, sys
from pathlib import Path
from streamseg.flow.spool import Spool
from tests.publishers.messages import events
spool = Spool(Path(sys.argv[1]), capacity=1000)
for each in events(1, 300):
    spool.add(each)
    if each.id == "e100":
        spool.first(50)
        spool.arrived()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_costs_nothing_that_was_added(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    ran = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=Path(__file__).parents[2], timeout=60)
    assert ran.returncode == -signal.SIGKILL
    spool = Spool(path, capacity=1000)
    assert waiting(spool) == ids(51, 300)
    spool.close()


def test_another_run_takes_another_file(tmp_path: Path) -> None:
    one, two = (Spool(tmp_path / "spool.sqlite", capacity=9) for _ in range(2))
    filled(one, events(1, 1))
    filled(two, events(2, 2))
    assert (waiting(one), waiting(two)) == (["e1"], ["e2"])
    assert two.path == tmp_path / "spool-2.sqlite"
    one.close()
    two.close()


def test_a_full_disk_makes_it_wait_in_memory_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "spool.sqlite"
    spool = Spool(path, capacity=30)
    filled(spool, events(1, 5))
    with files_of_at_most(1):
        assert filled(spool, events(6, 20)) == 0
        assert len(spool) == 20 and waiting(spool) == ids(1, 20)
        assert spool.on_disk == 5
        assert [each.id for each in spool.first(8)] == ids(1, 8)
        filled(spool, events(21, 21))
        spool.arrived()
        assert waiting(spool) == ids(9, 21)
        assert filled(spool, events(22, 42)) == 4
        assert waiting(spool) == ids(13, 42)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "spool.sqlite" in caplog.text and "events wait in memory alone" in caplog.text
    filled(spool, events(43, 43))
    assert waiting(spool) == ids(14, 43) and spool.on_disk == 30
    spool.close()
    again = Spool(path, capacity=30)
    assert waiting(again) == ids(14, 43)
    again.close()


def test_a_damaged_file_is_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "spool.sqlite"
    path.write_bytes(b"no database at all " * 100)
    spool = Spool(path, capacity=9)
    assert filled(spool, events(1, 2)) == 0 and waiting(spool) == ids(1, 2)
    assert (tmp_path / "spool.damaged.sqlite").read_bytes() == b"no database at all " * 100
    assert "it is kept as spool.damaged.sqlite" in caplog.text
    spool.close()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/spool.sqlite cannot be written: "):
        Spool(tmp_path / "file" / "spool.sqlite", capacity=9)


def test_each_target_has_its_file_in_the_users_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    one, other = default_file("mqtt://broker:1883/a/b"), default_file("mqtt://broker:1883/a_b")
    assert one.parent == other.parent == tmp_path / "streamseg" / "outbox" and one != other
    assert one.name.startswith("mqtt_broker_1883_a_b-") and one.suffix == ".sqlite"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    assert default_file("x").is_relative_to(tmp_path / ".local" / "state" / "streamseg")


def test_what_a_run_beside_an_earlier_one_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    first, second, third = (Spool(path, capacity=9) for _ in range(3))
    assert [each.path.name for each in (second, third) if each.path] == ["spool-2.sqlite", "spool-3.sqlite"]
    for spool, number in ((first, 1), (second, 2), (third, 3)):
        spool.add(event(number))
    first.close()
    second.close()
    again = Spool(path, capacity=9)
    assert again.found == 2 and waiting(again) == ids(1, 2), "the third is still at work"
    assert not (tmp_path / "spool-2.sqlite").exists() and waiting(third) == ids(3, 3)
    again.close()
    third.close()
