"""What happens in a pipeline reaches every publisher, whatever becomes of broker, program and disk."""

from __future__ import annotations

import base64
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg.flow.events import utc
from streamseg.flow.pipeline import Pipeline
from streamseg.flow.publishing import Publishing
from streamseg.flow.stream import Stream
from streamseg.publishers.csv import Csv
from streamseg.publishers.jsonl import Jsonl
from streamseg.publishers.mqtt import Mqtt
from streamseg.publishers.sqlite import Sqlite
from streamseg.types import Instances, Listener, Message, OutputError, Result, SourceState, UsageError
from tests import fakes
from tests.flow.test_delivery import Peer, until
from tests.live.broker import Broker
from tests.publishers.brokers import remember
from tests.publishers.messages import listening

ROOT = Path(__file__).parents[2]
LIVE = fakes.FakeSource(live=True).info
FILE = fakes.FakeSource().info


def persons(num: int, *, tracked: bool = True) -> Instances:
    found = fakes.instances(*[0.9] * num)
    return replace(found, track_ids=np.arange(num, dtype=np.int32) if tracked else found.track_ids)


def result(number: int = 0, *, totals: Mapping[str, Any] | None = None, **more: Any) -> Result:
    """Frame `number` with two persons in it and nothing new."""
    frame = replace(fakes.frame(number), damaged=more.pop("damaged", False))
    return Result(frame, **{"instances": persons(2), "counts": totals or {"objects": {"person": 2}}, **more})


def crossed(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"e{number}", "event": "line", "name": "gate", "stream": "street", "track": 1, **more}


def with_event(number: int, **more: Any) -> Result:
    """The frame with which event `number` became certain."""
    return result(number, totals={"objects": {"person": number}}, events=(crossed(number),), **more)


@contextmanager
def publishing(*publishers: Any, **options: Any) -> Iterator[Publishing]:
    with Publishing(
        publishers, **{"delays": lambda: iter([0.05] * 10_000), "seconds_to_finish": 20, **options}
    ) as made:
        yield made


def told(peer: Peer, kind: str) -> list[Message]:
    return [message for message in peer.sent if message.kind == kind]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


# What is told.


def test_it_is_a_listener() -> None:
    assert isinstance(Publishing([]), Listener)


def test_every_event_reaches_every_publisher() -> None:
    peers = Peer(), Peer()
    with publishing(*peers) as made:
        for number in range(1, 4):
            made.on_result(with_event(number))
    for peer in peers:
        assert [message.body for message in told(peer, "event")] == [crossed(number) for number in (1, 2, 3)]
        assert peer.ids() == ["e1", "e2", "e3"] and {message.stream for message in peer.sent} == {"street"}
    assert made.problems == ()


def test_counts_are_told_with_an_event_else_once_a_second_and_only_where_they_changed() -> None:
    clock, peer = Clock(), Peer()
    with publishing(peer, clock=clock) as made:

        def tell(seconds: float, totals: Mapping[str, Any], *, told_in_all: int, **more: Any) -> None:
            clock.now = 100 + seconds
            made.on_result(result(totals=totals, **more))
            until(lambda: len(told(peer, "counts")) >= told_in_all and not made.statuses[0].waiting)
            time.sleep(0.01)  # in which one too many would come
            assert len(told(peer, "counts")) == told_in_all

        one, two, three = ({"objects": {"person": number}} for number in (1, 2, 3))
        tell(0, one, told_in_all=1)
        tell(0.5, two, told_in_all=1)
        tell(0.6, three, events=(crossed(1),), told_in_all=2)
        tell(1.5, one, told_in_all=2)
        tell(1.7, one, told_in_all=3)
        tell(9.0, one, told_in_all=3)
    assert told(peer, "counts")[-1].body == one | {"lines": {}, "zones": {}, "now": {"person": 2}}


def test_the_last_counts_are_told_before_a_stream_falls_silent() -> None:
    peer = Peer()
    with publishing(peer, clock=Clock()) as made:
        made.on_result(result(totals={"objects": {"person": 1}}))
        until(lambda: len(told(peer, "counts")) == 1)
        made.on_result(result(totals={"objects": {"person": 2}}))
        made.on_state("street", SourceState("lost", "no route to host"))
        until(lambda: len(told(peer, "counts")) == 2)
        made.on_result(result(totals={"objects": {"person": 3}}))
        made.on_end("street", None)
    assert [message.body["objects"]["person"] for message in told(peer, "counts")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("instances", "now"),
    [
        ([persons(2)], {"person": 2}),
        ([persons(2), persons(0)], {"person": 0}),
        ([persons(2), persons(3, tracked=False)], {"person": 0}),
        ([persons(3, tracked=False)], {"person": 3}),
    ],
)
def test_now_is_who_is_in_sight_of_every_class_that_was_seen(instances: list[Instances], now: dict[str, int]) -> None:
    peer, clock = Peer(), Clock()
    with publishing(peer, clock=clock) as made:
        for each in instances:
            clock.now += 2
            made.on_result(result(instances=each))
        made.on_result(result(instances=persons(0), damaged=True))
    assert told(peer, "counts")[-1].body["now"] == now


def test_a_cameras_state_is_both_a_state_and_an_event() -> None:
    peer = Peer()
    with publishing(peer) as made:
        began = time.time()
        made.on_open("street", LIVE)
        for each in (SourceState("live"), SourceState("lost", "no route to host", since=time.monotonic() - 60)):
            made.on_state("street", each)
        until(lambda: len(told(peer, "event")) == 2)
    live, lost = (message.body for message in told(peer, "event"))
    assert (live["event"], live["state"], live["cause"], live["stream"]) == ("source", "live", "", "street")
    assert (lost["state"], lost["cause"]) == ("lost", "no route to host") and live["id"] != lost["id"]
    assert utc(began - 61) <= lost["at"] <= utc(began) <= live["at"] <= utc(time.time())
    assert told(peer, "state")[-1].body == {key: lost[key] for key in ("state", "cause", "at")}


def test_a_file_runs_and_then_has_ended() -> None:
    peer = Peer()
    with publishing(peer) as made:
        made.on_open("street", FILE)
        until(lambda: len(told(peer, "state")) == 1)
        made.on_end("street", "the disk is full")
    assert [(each.body["state"], each.body["cause"]) for each in told(peer, "state")] == [
        ("running", ""),
        ("ended", "the disk is full"),
    ]
    assert told(peer, "event") == []


def test_who_wants_thumbnails_gets_them_and_nobody_else() -> None:
    with_them, without = Peer(), Peer()
    with_them.thumbnails = True  # type: ignore[attr-defined]
    with publishing(with_them, without) as made:
        made.on_result(with_event(1, picture=fakes.picture(width=64, height=48)))
        made.on_result(with_event(2))  # too old to be shown
    first, second = (message.body for message in told(with_them, "event"))
    assert base64.b64decode(first.pop("thumbnail"))[:2] == b"\xff\xd8"
    assert (first, second) == (crossed(1), crossed(2))
    assert [message.body for message in told(without, "event")] == [crossed(1), crossed(2)]


def test_an_event_that_is_no_data_is_said_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer()
    with publishing(peer) as made:
        made.on_result(result(events=(crossed(1, path=object()), crossed(2, speed=np.float32(0.5)))))
        made.on_result(result(totals={"objects": {"person": object()}}, events=(crossed(3),)))
    assert [message.body for message in told(peer, "event")] == [crossed(2, speed=0.5), crossed(3)]
    assert "street: an event was not published: events: expected" in caplog.text
    assert "street: totals were not published: totals: expected" in caplog.text


def test_a_pipeline_tells_its_events_through_it(tmp_path: Path) -> None:
    class Counter(fakes.FakeCounter):
        def update(self, given: Result) -> tuple[Any, Any]:
            return {"objects": {"person": given.frame.index}}, ({"event": "passed", "time": given.frame.time},)

    peer = Peer()
    stream = Stream("street", fakes.FakeSource(5), counters=[Counter()])
    made = Publishing([peer, Csv(tmp_path / "events.csv")])  # which the pipeline enters and leaves
    assert Pipeline(fakes.FakeEngine(), [stream], listeners=[made]).run().exit_code == 0
    assert made.problems == ()
    assert [message.body["time"] for message in told(peer, "event")] == [0, 0.1, 0.2, 0.3, 0.4]
    assert len(set(peer.ids())) == 5
    assert told(peer, "counts")[-1].body["objects"] == {"person": 4}
    assert [message.body["state"] for message in told(peer, "state")][-1] == "ended"
    assert len((tmp_path / "events.csv").read_text().splitlines()) == 6


# What goes wrong.


def test_what_is_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("Dear diary\n")
    with pytest.raises(UsageError, match="notes.csv: expected a file that streamseg's events can be added to"):
        Publishing([Jsonl(tmp_path / "a.jsonl"), Csv(tmp_path / "notes.csv")]).__enter__()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Publishing([Sqlite(tmp_path / "file" / "a.sqlite")]).__enter__()


def test_a_publisher_that_never_answers_does_not_hold_up_the_end() -> None:
    class Stuck(Peer):
        def interrupt(self) -> None: ...

    peer = Stuck()
    peer.frozen.set()
    began = time.monotonic()
    with publishing(peer, seconds_to_finish=0.05) as made:
        made.on_result(with_event(1))
    assert time.monotonic() - began < 15
    assert made.problems == ("the peer: 1 events are lost, the newest totals and states did not arrive",)
    peer.thawed.set()


def test_where_the_state_folder_cannot_be_written_memory_must_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    peer = Peer()
    peer.remote = True  # type: ignore[attr-defined]
    with publishing(peer) as made:
        made.on_result(with_event(1))
    assert peer.ids() == ["e1"] and "what waits is lost if this run is killed" in caplog.text


# With a real broker.


def mqtt(broker: Broker, folder: Path, **options: Any) -> Mqtt:
    address = f"mqtt://127.0.0.1:{broker.port}/site"
    return Mqtt(address, spool=folder / "spool.sqlite", **{"timeout": 0.3, **options})


def numbers(bodies: Sequence[Mapping[str, Any]]) -> list[int]:
    return [int(body["id"][1:]) for body in bodies]


@pytest.mark.parametrize("fault", ["away", "killed", "frozen"])
def test_no_fault_of_the_broker_costs_an_event_or_their_order(fault: str, tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, listening(broker.port, "site/#") as heard:
        remember(broker, tmp_path)
        if fault == "away":
            broker.child.kill()
        with publishing(mqtt(broker, tmp_path)) as made:
            for number in range(1, 101):
                made.on_result(with_event(number))
                if number == 50 and fault != "away":
                    heard.until("site/street/events", 50)
                    (broker.child.kill if fault == "killed" else broker.child.freeze)()
            until(lambda: made.statuses[0].state == "retrying")
            assert made.statuses[0].waiting >= 50 and made.statuses[0].cause
            (broker.child.thaw if fault == "frozen" else broker.child.start)()
            assert numbers(heard.until("site/street/events", 100)) == [*range(1, 101)]
            until(lambda: made.statuses[0].state == "ok")
            heard.until("site/street/counts", 1)
        assert made.problems == () and not (tmp_path / "spool.sqlite").exists()
        heard.drain()
        assert heard.bodies("site/street/counts")[-1]["objects"] == {"person": 100}


def test_once_the_outbox_is_full_the_loss_is_bounded_and_has_its_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Broker(tmp_path) as broker, listening(broker.port, "site/#") as heard:
        with publishing(mqtt(broker, tmp_path, capacity=60)) as made:
            made.on_result(with_event(1))
            heard.until("site/street/events", 1)
            until(lambda: not made.statuses[0].waiting)
            remember(broker, tmp_path)
            broker.child.kill()
            until(lambda: made.statuses[0].state == "retrying")
            for number in range(2, 102):
                made.on_result(with_event(number))
            assert (made.statuses[0].dropped, made.statuses[0].waiting) == (40, 60)
            broker.child.start()
            assert numbers(heard.until("site/street/events", 61)) == [1, *range(42, 102)]
        (problem,) = made.problems
        assert problem == f"mqtt://127.0.0.1:{broker.port}/site: 40 events were dropped, because too many waited"
    assert "40 events were dropped meanwhile" in caplog.text


KILLED = """
import os, signal, sys
from pathlib import Path
from streamseg.flow.publishing import Publishing
from tests.flow.test_publishing import mqtt, with_event
class Broker: port = int(sys.argv[1])
first, last = map(int, sys.argv[3:5])
with Publishing([mqtt(Broker, Path(sys.argv[2]))], seconds_to_finish=20) as made:
    for number in range(first, last + 1):
        made.on_result(with_event(number))
    if sys.argv[5] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
print(made.problems)
"""


def run_and_kill(broker: Broker, folder: Path, first: int, last: int, end: str) -> int:
    command = [sys.executable, "-c", KILLED, str(broker.port), str(folder), str(first), str(last), end]
    return subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_a_kill_of_the_program_while_the_broker_is_away_costs_nothing(fault: str, tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, listening(broker.port, "site/#") as heard:
        remember(broker, tmp_path)
        (broker.child.kill if fault == "killed" else broker.child.freeze)()
        assert run_and_kill(broker, tmp_path, 1, 40, "kill") == -signal.SIGKILL
        assert run_and_kill(broker, tmp_path, 41, 80, "kill") == -signal.SIGKILL
        (broker.child.start if fault == "killed" else broker.child.thaw)()
        assert run_and_kill(broker, tmp_path, 81, 90, "end") == 0
        assert numbers(heard.until("site/street/events", 90)) == [*range(1, 91)]
        assert heard.until("site/availability", 1)[0] in ("online", "offline")


def test_a_broker_that_refuses_is_said_once_and_without_the_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Broker(tmp_path, user="eve", password="right") as broker:
        refused = Mqtt(
            f"mqtt://eve:open-sesame@127.0.0.1:{broker.port}/site", spool=tmp_path / "spool.sqlite", timeout=1
        )
        waits: list[int] = []
        delays = (waits.append(number) or 0.01 for number in count())
        with publishing(refused, delays=lambda: delays, seconds_to_finish=0.05) as made:
            made.on_result(with_event(1))
            until(lambda: len(waits) > 10)
            assert (
                made.statuses[0].state == "retrying"
                and "refuses the connection: not authorized" in made.statuses[0].cause
            )
        (problem,) = made.problems
    assert problem.startswith(f"mqtt://127.0.0.1:{broker.port}/site: 1 events wait in ") and "not authorized" in problem
    assert caplog.text.count("not authorized") == 1
    assert "open-sesame" not in caplog.text + problem + repr(made.statuses)


def test_nobody_is_in_sight_of_a_camera_that_is_lost() -> None:
    peer = Peer()
    with publishing(peer) as made:
        made.on_state("street", SourceState("live"))
        made.on_result(with_event(1))
        until(lambda: any(message.kind == "counts" for message in peer.sent))
        made.on_state("street", SourceState("lost", "the camera hung up"))
    first, last = (message.body for message in peer.sent if message.kind == "counts")
    assert sum(first["now"].values()) > 0 and sum(last["now"].values()) == 0
    assert {**first, "now": {}} == {**last, "now": {}}
