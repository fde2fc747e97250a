"""What only a live stream has: states, listeners, damaged pictures, a cap on its work, events that are never late."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from streamseg import plugins
from streamseg.buffer import Bell
from streamseg.flow.events import completed
from streamseg.flow.pipeline import Pipeline
from streamseg.flow.stream import Flow, Stream
from streamseg.types import Frame, Result, SourceState, StreamInfo
from tests.clips import numbered_picture
from tests.fakes import FakeCounter, FakeEffect, FakeEngine, FakeSink, FakeSource, FakeTracker, Fault, frame


class Camera(FakeSource):
    """Live frames; those of `damaged` are, and `pause` is waited for before the end, unless it is interrupted."""

    def __init__(self, num_frames: int, *, damaged: tuple[int, ...] = (), lost_at_the_end: bool = False) -> None:
        super().__init__(num_frames, live=True)
        self.damaged, self.lost_at_the_end = damaged, lost_at_the_end
        self.on_state = None
        self.state = SourceState("connecting")
        self._woken = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        self.change(SourceState("live"))
        for each in super().__iter__():
            sharp = numbered_picture(each.index, width=128, height=96)
            yield replace(each, picture=sharp, damaged=each.index in self.damaged)
        if self.lost_at_the_end:
            self.change(SourceState("lost", "the camera hung up"))
            self._woken.wait(10)

    def change(self, state: SourceState) -> None:
        self.state = state
        if self.on_state:
            self.on_state(state)

    def interrupt(self) -> None:
        self._woken.set()


class Ear:
    """Remembers everything that it hears; breaks down at each result if it is told to."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.opened: list[tuple[str, StreamInfo]] = []
        self.results: list[Result] = []
        self.states: list[tuple[str, str, str]] = []
        self.ended: list[tuple[str, str | None]] = []

    def on_open(self, stream: str, info: StreamInfo) -> None:
        self.opened.append((stream, info))

    def on_result(self, result: Result) -> None:
        self.results.append(result)
        if self.broken:
            raise ZeroDivisionError

    def on_state(self, stream: str, state: SourceState) -> None:
        self.states.append((stream, state.name, state.cause))

    def on_end(self, stream: str, error: str | None) -> None:
        self.ended.append((stream, error))


def test_a_listener_hears_of_everything_in_its_order() -> None:
    ear, source = Ear(), Camera(3)
    summary = Pipeline(FakeEngine(), [Stream("door", source)], listeners=[ear]).run()
    assert ear.opened == [("door", source.info)]
    assert [result.frame.index for result in ear.results] == [0, 1, 2]
    assert all(result.picture is not None for result in ear.results)
    assert ear.states == [("door", "live", "")]
    assert ear.ended == [("door", None)] and summary.exit_code == 0


def test_a_listener_that_breaks_costs_the_stream_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sink = FakeSink()
    summary = Pipeline(FakeEngine(), [Stream("door", Camera(3), sinks=[sink])], listeners=[Ear(broken=True)]).run()
    assert sink.indices == [0, 1, 2] and summary.exit_code == 0
    assert "Ear failed to hear on_result" in caplog.text


def test_a_listener_hears_with_what_error_a_stream_ended() -> None:
    ear = Ear()
    source = FakeSource(5, fault=Fault(2))
    Pipeline(FakeEngine(), [Stream("street", source)], listeners=[ear]).run()
    assert ear.ended == [("street", "RuntimeError: broken on purpose (source, thread 'read street')")]


def test_a_camera_that_is_lost_is_woken_when_its_stream_is_removed() -> None:
    ear, source = Ear(), Camera(3, lost_at_the_end=True)
    pipeline = Pipeline(FakeEngine(), [Stream("door", source)], listeners=[ear])
    pipeline.start()
    while ("door", "lost", "the camera hung up") not in ear.states:
        time.sleep(0.002)
    assert pipeline.summary().streams["door"].state == source.state
    went = pipeline.remove("door")
    assert went.error is None and source.left
    pipeline.close()
    assert pipeline.wait().exit_code == 0


class Absent(Camera):
    """A camera that never comes, so that nothing is known of its pictures."""

    def __init__(self) -> None:
        super().__init__(0, lost_at_the_end=True)
        del self.info


def test_a_camera_that_never_came_ends_in_order() -> None:
    ear = Ear()
    pipeline = Pipeline(FakeEngine(), [Stream("door", Absent(), sinks=[FakeSink()])], listeners=[ear])
    pipeline.start()
    while ("door", "lost", "the camera hung up") not in ear.states:
        time.sleep(0.002)
    assert pipeline.remove("door").error is None
    pipeline.close()
    summary = pipeline.wait()
    assert (summary.exit_code, summary.error) == (0, None)


def test_on_a_damaged_picture_nothing_is_found_and_nothing_counted_and_it_says_so() -> None:
    ear, engine, tracker, counter = Ear(), FakeEngine(), FakeTracker(), FakeCounter()
    source = Camera(6, damaged=(2, 3))
    Pipeline(engine, [Stream("door", source, tracker=tracker, counters=[counter])], listeners=[ear]).run()
    looked_at = [index for batch in engine.batches for _, index in batch]
    assert not {2, 3} & set(looked_at)
    assert len(tracker.seen) == 4, "a damaged picture would look like a cut"
    assert [len(result.instances) for result in ear.results] == [1, 1, 0, 0, 1, 1]
    assert [result.counts["objects"]["person"] for result in ear.results] == [1, 2, 2, 2, 3, 4]
    for result in ear.results:
        drawn, source_luma = (each.to_ndarray()[:96] for each in (result.picture, result.frame.picture))
        assert np.any(drawn != source_luma) == result.frame.damaged


@pytest.mark.parametrize(("max_fps", "kept"), [(60, 300), (30, 300), (20, 200), (15, 150), (4, 40), (1, 10), (0.5, 5)])
def test_at_most_so_many_frames_a_second_are_taken_and_evenly(max_fps: float, kept: int) -> None:
    flow = Flow(Stream("door", Camera(0)), Bell(), batch_size=1, min_score=0.5, max_fps=max_fps)
    late = np.random.default_rng(0).uniform(0, 0.006, 300)
    taken = [i for i in range(300) if flow.is_taken(replace(frame(i), time=i / 30 + late[i]))]
    assert len(taken) == pytest.approx(kept, abs=1)
    gaps = np.diff(taken)[1:]  # the first of them ends a little early, by the slack that a camera has
    assert gaps.max() - gaps.min() <= 2


def test_a_file_is_taken_whole_whatever_a_live_stream_may_have() -> None:
    summary = Pipeline(FakeEngine(), [Stream("street", FakeSource(30))], max_fps=1).run()
    assert summary.streams["street"].written == 30


def test_events_of_frames_that_are_too_old_to_be_shown_reach_listeners_and_sinks_none_the_less() -> None:
    ear, sink = Ear(), FakeSink()

    class Slowly(FakeEffect):
        def draw(self, canvas: object, result: Result) -> None:
            time.sleep(0.02)

    stream = Stream("door", Camera(30), sinks=[sink], counters=[FakeCounter()], effects=[Slowly()])
    went = Pipeline(FakeEngine(), [stream], max_age=0.1, listeners=[ear]).run().streams["door"]
    assert went.dropped["too old"] > 0 and went.read == went.written + sum(went.dropped.values())
    heard = [event["id"] for result in ear.results for event in result.events]
    written = [event["id"] for result in sink.results for event in result.events]
    assert len(set(heard)) == len(heard) == went.num_events and written == heard
    assert any(result.picture is None for result in ear.results)


def test_a_live_event_has_its_own_id_and_the_time_at_which_it_happened() -> None:
    seen = replace(frame(50), captured_at=time.monotonic() - 2.0)
    event = {"event": "line", "time": 4.5}  # half a second before it was certain
    first, again = (completed([event], seen, live=True)[0] for _ in range(2))
    assert first["id"] != again["id"] and first["stream"] == "street"
    assert first["at"].endswith("Z")
    assert abs(datetime.fromisoformat(first["at"]).timestamp() - (time.time() - 2.5)) < 0.2


def test_an_event_of_a_file_has_the_same_id_in_every_run_and_no_time_of_day() -> None:
    events = [{"event": "line"}, {"event": "zone"}]
    first, again = (completed(events, frame(7), live=False) for _ in range(2))
    assert first == again and first[0]["id"] != first[1]["id"] and first[0]["at"] is None
    others = [
        completed(events, frame(8), live=False),
        completed([{"event": "line", "name": "gate"}], frame(7), live=False),
        completed(events, frame(7), live=False, path=Path("monday/street.mp4")),
        completed(events, frame(7), live=False, path=Path("tuesday/street.mp4")),
    ]
    assert len({each[0]["id"] for each in [first, *others]}) == 5


@pytest.mark.parametrize("name", ["blur", "pixelate", "cutout"])
def test_a_damaged_picture_is_not_shown_where_something_is_to_be_hidden(name: str) -> None:
    """Nobody knows where it is on that picture."""
    ear, source = Ear(), Camera(6, damaged=(2, 3))
    effects = [plugins.build("effects", name, {})]
    Pipeline(FakeEngine(), [Stream("door", source, effects=effects)], listeners=[ear]).run()
    for result in ear.results:
        if result.frame.damaged:
            luma = result.picture.to_ndarray()[: result.picture.height]
            assert luma[:10].std() == luma[-10:].std() == 0 and luma.std() > 0, "nothing but the words"
