"""Whatever a camera and a network do, and in whatever order: it comes back, at once, and nothing is left of it."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import av
import pytest

from streamseg.flow.pipeline import Pipeline
from streamseg.flow.stream import Stream
from streamseg.sources._connection import connect
from streamseg.sources._live import Arrival, Live, Timing
from streamseg.sources.rtsp import Rtsp, address_of, way_to
from streamseg.trackers.mask_iou import MaskIou
from streamseg.types import Result, SourceState, StreamInfo
from tests.fakes import FakeEngine
from tests.live.faults import FEEDS, Fault, faults
from tests.live.feeds import Feed
from tests.live.rtsp_server import RtspServer

SEED = int(os.environ.get("STREAMSEG_CHAOS_SEED", time.time_ns() % 100_000))
NUM_FAULTS = int(os.environ.get("STREAMSEG_CHAOS_FAULTS", 200))
"""Of the thorough run."""

HURRY = 60.0
"""Waits are this much shorter than a camera's: the longest back-off is 0.2 s, after a refusal 1 s."""

TIMEOUT = 0.4
LONGEST_WAIT = 60 / HURRY
GRACE = 5.0


class Watcher:
    """A listener: every state, and of every picture when it came; `complaints` are what must not be."""

    def __init__(self) -> None:
        self.states: list[SourceState] = []
        self.complaints: list[str] = []
        self.last: Result | None = None
        self.whole_at = time.monotonic()

    def on_open(self, stream: str, info: StreamInfo) -> None:
        pass

    def on_result(self, result: Result) -> None:
        last, frame = self.last, result.frame
        if last and not (frame.time >= last.frame.time and frame.index > last.frame.index):
            self.complaints.append(f"picture {frame.index} at {frame.time} after {last.frame.index}, {last.frame.time}")
        if not frame.damaged:
            self.whole_at = frame.captured_at
        self.last = result

    def on_state(self, stream: str, state: SourceState) -> None:
        self.states.append(state)

    def on_end(self, stream: str, error: str | None) -> None:
        if error:
            self.complaints.append(error)

    @property
    def live(self) -> bool:
        return bool(self.states) and self.states[-1].name == "live"

    def sees(self, feed: Feed, *, since: float) -> bool:
        """Whether it is live with a whole picture of the feed that came since then."""
        frame = self.last.frame if self.last else None
        return (
            frame is not None
            and self.live
            and self.whole_at > since
            and not frame.damaged
            and (frame.width, frame.height) == (feed.width, feed.height)
        )


def source(server: RtspServer, transport: str) -> Live:
    """The rtsp source as it is, but for how long it waits."""
    way = way_to(address_of(server.url()), transport=transport, timeout=TIMEOUT)

    def connected(stopped: threading.Event) -> Generator[Arrival | None, None, None]:
        return connect(way, stopped)

    def wait(stopped: threading.Event, seconds: float) -> bool:
        return stopped.wait(seconds / HURRY)

    return Live(connected, name=transport, called=f"camera by {transport}", timing=Timing(wait=wait))


@dataclass(frozen=True)
class Held:
    """What the process holds."""

    threads: int
    descriptors: int
    bytes: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(threading.active_count(), len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE"))


class Forgetful:
    """A sink that keeps nothing."""

    path = None
    notes: Sequence[str] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def start(self, info: StreamInfo) -> None:
        pass

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        pass


def watched(camera: Live, watcher: Watcher) -> Pipeline:
    """A pipeline at work on the camera."""
    stream = Stream(camera.name, camera, tracker=MaskIou(), sinks=[Forgetful()])
    pipeline = Pipeline(FakeEngine(), [stream], listeners=[watcher], max_age=2.0)
    pipeline.start()
    return pipeline


class Chaos:
    """A camera that is watched over TCP and over UDP while one fault after the other strikes it."""

    def __init__(self, transports: tuple[str, ...] = ("tcp", "udp")) -> None:
        self.feed = "usual"
        self.watchers = {transport: Watcher() for transport in transports}
        self.held: list[Held] = []
        self.slowest: dict[str, float] = {}

    def run(self, number: int, chance: random.Random) -> None:
        with RtspServer({"camera": FEEDS[self.feed]}, user="eve", password="sekret") as server:
            pipelines = [watched(source(server, transport), watcher) for transport, watcher in self.watchers.items()]
            self._wait_for_all(time.monotonic(), "start")
            self.held.append(Held.now())
            for fault in faults(number, chance):
                lossy = fault.name.endswith("UDP")  # there must be some packets to be lost
                self._strike(server, fault, seconds=1.5 if lossy else chance.uniform(0.05, 0.3))
                # the server is in this process too, and learns a moment later that a client has left
                within(20, self._holds_as_much_as_at_the_start)
            for pipeline in pipelines:
                pipeline.remove(next(iter(pipeline.summary().streams)))
                pipeline.close()
                assert pipeline.wait().exit_code == 0

    def _holds_as_much_as_at_the_start(self) -> bool:
        first, now = self.held[0], Held.now()
        if (
            now.threads > first.threads or now.descriptors > first.descriptors
        ):  # fewer: what earlier tests left has gone
            return False
        self.held.append(now)
        return True

    def _strike(self, server: RtspServer, fault: Fault, *, seconds: float) -> None:
        self.feed = fault.feed or self.feed
        fault.strike(server)
        self._look_on(seconds)
        fault.pass_by(server)
        passed = time.monotonic()
        self._wait_for_all(passed, fault.name)
        self.slowest[fault.name] = max(self.slowest.get(fault.name, 0.0), time.monotonic() - passed)

    def _wait_for_all(self, since: float, name: str) -> None:
        feed = FEEDS[self.feed]
        while missing := [each for each, watcher in self.watchers.items() if not watcher.sees(feed, since=since)]:
            states = {each: self.watchers[each].states[-1:] for each in missing}
            assert time.monotonic() - since < LONGEST_WAIT + GRACE, f"after {name} not live again: {states}"
            self._look_on(0.02)

    def _look_on(self, seconds: float) -> None:
        """Time passes, in which no watcher may say that it is live when it sees nothing."""
        ends = time.monotonic() + seconds
        while (now := time.monotonic()) < ends:
            for watcher in self.watchers.values():
                assert not watcher.live or now - watcher.whole_at < 10
            time.sleep(min(0.05, max(0.0, ends - now)))


def survived(number: int) -> Chaos:
    """So many faults, after which nothing is wrong and nothing is left."""
    print(f"seed {SEED}: STREAMSEG_CHAOS_SEED={SEED} repeats it")
    before, began = Held.now(), time.monotonic()
    chaos = Chaos()
    chaos.run(number, random.Random(SEED))
    after = Held.now()
    print(f"{number} faults in {time.monotonic() - began:.0f} s; until it was live again, at the worst:", chaos.slowest)
    for watcher in chaos.watchers.values():
        assert not watcher.complaints
        assert all(earlier.since <= later.since for earlier, later in pairwise(watcher.states))
        assert "sekret" not in str(watcher.states)
    assert after.threads <= before.threads and after.descriptors <= before.descriptors
    return chaos


@pytest.mark.real_time
def test_it_comes_back_from_twenty_faults_in_random_order() -> None:
    survived(20)


@pytest.mark.real_time
def test_two_hundred_faults_leave_no_memory_behind() -> None:
    held = [each.bytes for each in survived(NUM_FAULTS).held]
    quarter = len(held) // 4
    second, last = held[quarter : 2 * quarter], held[-quarter:]
    print("MB in the second and the last quarter:", max(second) // 10**6, max(last) // 10**6)
    assert max(last) - max(second) <= 20e6


@pytest.mark.real_time
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_frozen_camera_is_not_called_live_for_ten_seconds_and_is_back_within_its_real_waits(transport: str) -> None:
    watcher = Watcher()
    with RtspServer({"camera": FEEDS["usual"]}) as server:
        pipeline = watched(Rtsp(server.url(), transport=transport, name="camera"), watcher)
        within(5, lambda: watcher.live)
        server.suffer("frozen")
        within(watcher.whole_at + 10 - time.monotonic(), lambda: not watcher.live)
        server.recover()
        within(10 * 1.2 + 5, lambda: watcher.live)
        pipeline.remove("camera")
        pipeline.close()
        assert pipeline.wait().exit_code == 0
    assert {state.name for state in watcher.states} <= {"connecting", "live", "stalled", "lost"}


def within(seconds: float, true: Callable[[], bool]) -> None:
    """Waits until it is true, and fails when that takes longer."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.1f} s"
        time.sleep(0.02)
