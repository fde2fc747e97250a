"""Totals survive whatever ends a run; a file that cannot be gone on from is never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamseg import kept
from streamseg.flow.by_hour import Hours
from streamseg.flow.keeping import Keeper
from streamseg.flow.pipeline import Pipeline
from streamseg.flow.stream import Stream
from streamseg.types import OutputError, Result, UsageError
from tests.fakes import FakeCounter, FakeEngine, FakeSource, frame, instances


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def run(path: Path, counters: dict[str, list[Any]], *, num_frames: int = 4) -> dict[str, Any]:
    """The totals by stream after a run of so many frames with an object each."""
    streams = [Stream(name, FakeSource(num_frames, name=name), counters=each) for name, each in counters.items()]
    summary = Pipeline(FakeEngine(), streams, listeners=[Keeper(path, counters)]).run()
    assert summary.exit_code == 0
    return {name: stream.totals for name, stream in summary.streams.items()}


def kept_number(path: Path) -> int | None:
    """What the file says of the one counter of `street`; None before it says anything."""
    state = kept.load(path).get("street", {}).get("FakeCounter person")
    return None if state is None else state["num_objects"]


def gate_and_door() -> list[Any]:
    return [FakeCounter(kind="lines", name="gate"), FakeCounter(kind="lines", name="door")]


def test_totals_go_on_where_the_last_run_left_them_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    assert run(path, {"shop": gate_and_door()})["shop"] == {"lines": {"gate": 4, "door": 4}}
    assert run(path, {"shop": gate_and_door()[:1]})["shop"] == {"lines": {"gate": 8}}
    totals = run(path, {"shop": gate_and_door(), "yard": [FakeCounter()]})
    assert totals["shop"] == {"lines": {"gate": 12, "door": 8}}, "the door was away for a run"
    assert totals["yard"] == {"objects": {"person": 4}}


def test_counters_that_go_on_are_told_that_it_is_another_run(tmp_path: Path) -> None:
    class Runs(FakeCounter):
        runs = 0

        def new_run(self) -> None:
            self.runs += 1

    path, counters = tmp_path / "shop.json", [Runs(), Runs()]
    for counter in counters:
        run(path, {"shop": [counter]})
    assert [counter.runs for counter in counters] == [0, 1]


@pytest.mark.parametrize("place", ["/dev/full", "/dev/zero"])
def test_a_device_is_no_place_for_counts(place: str) -> None:
    with pytest.raises(UsageError, match=f"{place}: expected a file to keep the counts in, got a device"):
        Keeper(place, {})


def test_what_was_counted_is_on_the_disk_soon_and_not_only_at_the_end(tmp_path: Path) -> None:
    path, counter = tmp_path / "shop.json", FakeCounter()
    with Keeper(path, {"street": [counter]}) as keeper:
        for number in (1, 2, 3):
            counts, events = counter.update(Result(frame(number), instances(0.9)))
            began = time.monotonic()
            keeper.on_result(Result(frame(number), instances(0.9), counts=counts, events=events))
            until(lambda number=number: kept_number(path) == number)
            assert time.monotonic() - began < 5, "half a second, on a machine that has other things to do"


def test_a_result_that_counts_nothing_new_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    with Keeper(path, {"street": [FakeCounter()]}) as keeper:
        keeper.on_result(Result(frame(0), instances(), counts={"objects": {"person": 1}}))
        until(lambda: "street" in kept.load(path))
        before = path.stat().st_mtime_ns
        for number in range(1, 5):
            keeper.on_result(Result(frame(number), instances(), counts={"objects": {"person": 1}}))
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"version": 1, "str', "no whole JSON"),
        ('{"version": 9, "streams": {}}', "expected kept state of version 1, got version 9"),
        (
            '{"version": 1, "streams": {"street": {"PerClass": {"of": "counter zone", "version": 1}}}}',
            "street, PerClass: expected a state of counter per_class, version 1, got one of counter zone",
        ),
    ],
)
def test_a_file_that_cannot_be_gone_on_from_is_kept_aside_and_that_is_said(
    text: str, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from streamseg.counters.per_class import PerClass

    path = tmp_path / "shop.json"
    path.write_text(text)
    run(path, {"street": [PerClass()]})
    (aside,) = [each for each in tmp_path.iterdir() if each != path]
    assert aside.read_text() == text and aside.name.startswith("shop.json.20")
    assert why in caplog.text and str(aside) in caplog.text
    assert "PerClass" in kept.load(path)["street"]


def test_a_place_where_nothing_can_be_written_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), Keeper(tmp_path / "file" / "shop.json", {}):
        raise AssertionError("it was entered")


def test_a_folder_is_no_place_for_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, Path(".")):
        with pytest.raises(UsageError, match="expected a file to keep the counts in, got a folder"):
            Keeper(path, {})


def test_two_runs_never_count_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    with Keeper(path, {}), pytest.raises(OutputError, match="another run is writing it"), Keeper(path, {}):
        raise AssertionError("it was entered")
    with Keeper(path, {}):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_stops_nothing_and_is_written_to_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, counter = tmp_path / "shop.json", FakeCounter()
    with Keeper(path, {"street": [counter]}) as keeper:
        full = tmp_path / "shop.part.json"
        full.symlink_to("/dev/full")
        counts, events = counter.update(Result(frame(0), instances(0.9)))
        keeper.on_result(Result(frame(0), instances(0.9), counts=counts, events=events))
        until(lambda: "no space left" in caplog.text)
    assert kept_number(path) == 1
    assert caplog.text.count("no space left") == 1, "said once, tried again until it worked"


def test_after_kill_9_totals_go_on(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    code = """
        import sys, time
        from streamseg.flow.keeping import Keeper
        from streamseg.types import Result
        from tests.fakes import FakeCounter, frame, instances
        counter = FakeCounter()
        with Keeper(sys.argv[1], {"street": [counter]}) as keeper:
            for index in range(7):
                counts, events = counter.update(Result(frame(index), instances(0.9)))
                keeper.on_result(Result(frame(index), instances(0.9), counts=counts, events=events))
            time.sleep(60)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(path)], cwd=Path(__file__).parents[2])
    try:
        until(lambda: path.exists() and kept_number(path) == 7)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
    assert run(path, {"street": [FakeCounter()]})["street"] == {"objects": {"person": 11}}


@pytest.mark.parametrize("change", [lambda states: states.pop("ByHour"), lambda states: states["ByHour"].pop("hours")])
def test_what_was_counted_in_hours_that_are_lost_is_not_counted_in_this_one(
    change: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    path = tmp_path / "shop.json"

    def counted(num_frames: int) -> list[dict[str, Any]]:
        counters, hours = {"shop": gate_and_door()}, Hours(["shop"])
        kept = {"shop": [*counters["shop"], hours.of["shop"]]}
        with Keeper(path, kept) as keeper:
            totals = {}
            for index in range(num_frames):
                result = Result(frame(index, stream="shop"), instances(0.9))
                for counter in counters["shop"]:
                    totals |= {counter.name: counter.update(result)[0]["lines"][counter.name]}
                hours.of["shop"].add(1e9, {"lines": dict(totals)})
                keeper.on_result(replace(result, counts={"lines": dict(totals)}))
        return hours.of["shop"].rows()

    (before,) = counted(5)
    assert before["lines gate"] == 5
    states = kept.load(path)
    change(states["shop"])
    kept.save(path, states)
    (after,) = counted(2)
    assert (after["lines gate"], after["lines door"]) == (2, 2)


def test_a_link_stays_one_and_its_file_is_that_of_one_run(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert run(tmp_path / "link.json", {"shop": [FakeCounter()]})["shop"] == {"objects": {"person": 4}}
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "real.json").is_file()
    with Keeper(tmp_path / "real.json", {}), pytest.raises(OutputError, match="real.json"):
        Keeper(tmp_path / "link.json", {}).__enter__()


def test_before_the_first_frame_the_totals_are_those_that_were_kept(tmp_path: Path) -> None:
    run(tmp_path / "shop.json", {"shop": [FakeCounter()]})
    counters = [FakeCounter()]
    pipeline = Pipeline(FakeEngine(), [Stream("shop", FakeSource(4, name="shop"), counters=counters)])
    with Keeper(tmp_path / "shop.json", {"shop": counters}):
        assert pipeline.summary().streams["shop"].totals == {"objects": {"person": 4}}
