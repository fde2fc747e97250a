"""Sinks of live streams: whatever one of them does, the stream goes on, and every picture it never had is counted."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import pytest

from streamseg.buffer import Threads
from streamseg.flow.outbox import Outbox
from streamseg.types import OutputError, Result, StreamInfo, UsageError
from tests.fakes import frame, instances, picture

INFO = StreamInfo("door", 16, 16, Fraction(1, 10), Fraction(10), live=True)


class Peer:
    """Remembers what it was given; raises the next of `faults` at each write, None for no error."""

    def __init__(self, *faults: BaseException | None) -> None:
        self.path, self.notes = Path("peer"), list[str]()
        self.faults = list(faults)
        self.entered, self.left_with = 0, list[Any]()
        self.sizes: list[tuple[int, int]] = []
        self.indices: list[int] = []
        self.wrote, self.again = threading.Semaphore(0), threading.Event()

    def __enter__(self) -> Self:
        self.entered += 1
        if self.entered == 2:
            self.again.set()
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None:
        self.left_with.append(exc)

    def start(self, info: StreamInfo) -> None:
        self.sizes.append((info.width, info.height))

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        fault = self.faults.pop(0) if self.faults else None
        if fault:
            raise fault
        assert (picture.width, picture.height) == self.sizes[-1]
        self.indices.append(result.frame.index)
        self.wrote.release()


class Recorder(Peer):
    """One that begins anew with a new size."""

    def resized(self, info: StreamInfo) -> None:
        self.sizes.append((info.width, info.height))


def at_once() -> Iterator[float]:
    while True:
        yield 0.0


def started(sink: Peer, *, capacity: int = 100, delays: Any = at_once) -> Outbox:
    box = Outbox(sink, INFO, capacity=capacity, delays=delays)
    box.start(Threads(), stream="door")
    return box


def give(box: Outbox, *indices: int, width: int = 16, height: int = 16) -> None:
    for index in indices:
        box.write(picture(index, width=width, height=height), Result(frame(index), instances(0.9)))


def finished(box: Outbox) -> None:
    box.close()
    box.wait()


def test_everything_reaches_the_sink_in_order_and_it_is_left_without_an_error() -> None:
    sink = Peer()
    box = started(sink)
    give(box, *range(20))
    finished(box)
    assert sink.indices == list(range(20)) and sink.left_with == [None]
    assert (box.status.state, box.status.dropped, box.status.waiting) == ("ok", 0, 0)


def test_a_sink_that_fails_is_left_with_the_error_and_entered_again() -> None:
    error = OutputError("no route to the recorder")
    sink = Peer(None, error)
    box = started(sink)
    give(box, 0)
    assert sink.wrote.acquire(timeout=10)
    give(box, 1)
    assert sink.again.wait(10)
    give(box, 2)
    assert sink.wrote.acquire(timeout=10)
    finished(box)
    assert sink.left_with == [error, None] and sink.indices == [0, 2]
    assert box.status.state == "ok" and box.status.cause == ""


def test_while_it_is_tried_again_the_state_says_so_with_the_cause() -> None:
    waits = threading.Event()

    def an_hour() -> Iterator[float]:
        waits.set()
        yield 3600.0

    sink = Peer(OutputError("no space left"))
    box = started(sink, delays=an_hour)
    give(box, 0)
    assert waits.wait(10)
    give(box, *range(1, 200))
    assert (box.status.state, box.status.cause) == ("retrying", "no space left")
    while not box.status.dropped:
        time.sleep(0.001)
    assert box.status.waiting == 0  # they would be held in vain
    finished(box)  # at once, though the next attempt is an hour away
    assert box.status.dropped == 200 and sink.indices == []


def test_a_cause_that_names_the_sink_itself_is_told_without() -> None:
    sink = Peer(OutputError("peer: cannot be reached"))
    box = started(sink, delays=lambda: iter([60.0]))
    give(box, 0)
    while box.status.state == "ok":
        time.sleep(0.001)
    finished(box)
    assert box.status.cause == "cannot be reached"


def test_whatever_fails_every_picture_arrived_or_was_dropped() -> None:
    chance = random.Random(5)
    sink = Peer(*(OutputError("gone") if chance.random() < 0.1 else None for _ in range(3000)))
    box = started(sink, capacity=3, delays=lambda: iter(lambda: chance.choice([0.0, 0.0, 0.0003]), None))
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # the two threads that count get in each other's way as often as they can
    try:
        give(box, *range(3000))
        finished(box)
    finally:
        sys.setswitchinterval(switch)
    assert len(sink.indices) + box.status.dropped == 3000 and len(sink.indices) > 100
    assert sink.indices == sorted(sink.indices)


@pytest.mark.parametrize("fault", [UsageError("no codec is called so"), ZeroDivisionError("a mistake of ours")])
def test_what_will_not_pass_is_given_up(fault: Exception) -> None:
    sink = Peer(fault)
    box = started(sink)
    give(box, 0)
    assert box.ended.wait(10)
    give(box, 1, 2)
    assert (box.status.state, box.status.dropped) == ("failed", 3)
    assert str(fault) in box.status.cause and sink.entered == 1
    finished(box)


def test_a_picture_of_another_size_is_scaled_to_the_first() -> None:
    sink = Peer()
    box = started(sink)
    give(box, 0)
    give(box, 1, width=32, height=24)
    finished(box)
    assert sink.indices == [0, 1] and sink.sizes == [(16, 16)]


def test_two_sinks_may_scale_the_same_picture_in_the_same_moment() -> None:
    sinks = Peer(), Peer()
    boxes = [started(sink) for sink in sinks]
    for index in range(200):  # PyAV crashes over the scaler that a picture brings along
        shared = picture(index, width=320, height=240)
        for box in boxes:
            box.write(shared, Result(frame(index), instances(0.9)))
        assert all(sink.wrote.acquire(timeout=10) for sink in sinks)
    for box in boxes:
        finished(box)
    assert all(sink.indices == list(range(200)) for sink in sinks)


def test_a_sink_that_can_begin_anew_is_told_of_the_size() -> None:
    sink = Recorder()
    box = started(sink)
    give(box, 0)
    give(box, 1, 2, width=32, height=24)
    finished(box)
    assert sink.indices == [0, 1, 2] and sink.sizes == [(16, 16), (32, 24)]


def test_an_error_of_the_stream_is_what_the_sink_is_left_with() -> None:
    sink, error = Peer(), RuntimeError("the engine broke")
    box = started(sink)
    give(box, 0)
    box.close(error)
    box.wait()
    assert sink.left_with == [error] and box.status.state == "ok"


def test_a_sink_that_hangs_at_the_end_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamseg.flow.outbox.SECONDS_TO_FINISH", 0.05)

    class Frozen(Peer):
        def __init__(self) -> None:
            super().__init__()
            self.interrupted = threading.Event()

        def write(self, picture: av.VideoFrame, result: Result) -> None:
            assert self.interrupted.wait(10)

        def interrupt(self) -> None:
            self.interrupted.set()

    sink = Frozen()
    box = started(sink)
    give(box, 0)
    finished(box)
    assert box.ended.wait(10) and sink.left_with == [None]


def test_waits_are_short_again_after_it_worked_in_between() -> None:
    waits: list[float] = []

    def noted() -> Iterator[float]:
        for step in (1.0, 2.0, 4.0):
            waits.append(step)
            yield 0.0

    sink = Peer(None, OutputError("gone"), OutputError("still"), None, OutputError("gone"))
    box = started(sink, delays=noted)
    for index in range(6):
        before = box.status.dropped + len(sink.indices)
        give(box, index)
        while box.status.dropped + len(sink.indices) == before:
            time.sleep(0.001)
    finished(box)
    assert waits == [1.0, 2.0, 1.0]
