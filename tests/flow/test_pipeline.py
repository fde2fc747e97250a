"""The flow: every frame arrives once and in order, and whatever breaks, the run ends, says so and exits right."""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamseg.flow.pipeline import Pipeline
from streamseg.flow.report import StreamSummary, Summary
from streamseg.flow.stream import Stopped, Stream
from streamseg.types import InputError, OutputError, Result, UsageError
from tests.fakes import (
    FakeCounter,
    FakeEffect,
    FakeEngine,
    FakeSink,
    FakeSource,
    FakeTracker,
    Fault,
    picture,
)


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """A test that hangs ends the whole run with every thread's stack: that is what this file is about."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def stream(
    name: str = "street", *, sinks: tuple[FakeSink, ...] = (), num_frames: int | None = 5, **parts: object
) -> Stream:
    source = parts.pop("source", None) or FakeSource(num_frames, name=name)
    return Stream(name, source, sinks=sinks, **parts)  # type: ignore[arg-type]


def until(true: Callable[[], bool]) -> None:
    """Waits for what a thread is about to do."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def street_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("read ", "write ", "engine"))]


# All goes well


def test_every_frame_of_a_file_reaches_every_sink_once_and_in_order() -> None:
    sinks = FakeSink(), FakeSink()
    summary = Pipeline(FakeEngine(), [stream(sinks=sinks, num_frames=50)]).run()
    assert [sink.indices for sink in sinks] == [list(range(50))] * 2
    assert summary.exit_code == 0 and summary.error is None
    assert (summary.streams["street"].read, summary.streams["street"].written) == (50, 50)
    assert street_threads() == []


@pytest.mark.parametrize("every", [1, 2, 3, 7, 100])
def test_the_engine_looks_at_every_nth_frame_and_the_tracker_carries_over_the_others(every: int) -> None:
    sink, engine, tracker = FakeSink(), FakeEngine(batch_size=2), FakeTracker()
    Pipeline(engine, [stream(sinks=(sink,), tracker=tracker, num_frames=20)], detect_every=every).run()
    looks = list(range(0, 20, every))
    assert [index for batch in engine.batches for _, index in batch] == looks
    assert [index for index, seen in enumerate(tracker.seen) if seen is not None] == looks
    assert sink.indices == list(range(20))
    assert [result.instances.boxes[0, 0] for result in sink.results] == [index // every * every for index in range(20)]


def test_a_tracker_loads_what_it_needs_while_the_engine_has_not_answered_yet() -> None:
    gate, loaded = threading.Semaphore(0), threading.Event()

    class LateTracker(FakeTracker):
        def load(self) -> None:
            assert self.seen == []
            loaded.set()

    tracker = LateTracker()
    pipeline = Pipeline(FakeEngine(gate=gate), [stream(tracker=tracker, num_frames=2)])
    pipeline.start()
    pipeline.close()
    assert loaded.wait(10)
    for _ in range(2):
        gate.release()
    assert pipeline.wait().streams["street"].written == 2 == len(tracker.seen)


def test_every_frame_meets_its_own_detections() -> None:
    sink = FakeSink()
    Pipeline(FakeEngine(batch_size=4), [stream(sinks=(sink,), num_frames=20)]).run()
    assert [result.instances.boxes[0, 0] for result in sink.results] == list(range(20))


def test_two_files_at_once_share_an_engine_and_each_keeps_its_order() -> None:
    sources, sinks = [FakeSource(24, name=name) for name in "ab"], [FakeSink(), FakeSink()]
    engine = FakeEngine(batch_size=4, gate=(gate := threading.Semaphore(0)))
    streams = [
        stream(source.info.name, source=source, sinks=(sink,)) for source, sink in zip(sources, sinks, strict=True)
    ]
    pipeline = Pipeline(engine, streams, batch_wait=5)
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    until(lambda: all(source.fault.calls > 8 for source in sources))  # both have frames waiting
    gate.release(100)
    runner.join(20)
    assert [sink.indices for sink in sinks] == [list(range(24))] * 2
    assert {name: went.written for name, went in pipeline.summary().streams.items()} == {"a": 24, "b": 24}
    assert sorted(name for name, _ in engine.batches[1]) == ["a", "a", "b", "b"]
    assert max(len(batch) for batch in engine.batches) == 4


def test_frames_of_different_input_size_never_share_a_batch() -> None:
    engine = FakeEngine(batch_size=4)
    wide, tall = FakeSource(8, name="wide", width=32), FakeSource(8, name="tall", height=32)
    sinks = FakeSink(), FakeSink()
    Pipeline(engine, [stream("wide", source=wide, sinks=sinks[:1]), stream("tall", source=tall, sinks=sinks[1:])]).run()
    assert all(len({name for name, _ in batch}) == 1 for batch in engine.batches)
    assert [sink.indices for sink in sinks] == [list(range(8))] * 2


def test_the_parts_are_asked_in_order_and_the_result_carries_what_each_one_added() -> None:
    tracker, effects, sink = FakeTracker(), (FakeEffect(), FakeEffect()), FakeSink()
    counters = FakeCounter(), FakeCounter(kind="lines", name="north"), FakeCounter(kind="lines", name="south")
    parts = {"tracker": tracker, "counters": counters, "effects": effects}
    summary = Pipeline(FakeEngine(), [stream(sinks=(sink,), num_frames=3, **parts)]).run()  # type: ignore[arg-type]
    last = sink.results[-1]
    assert list(last.instances.track_ids) == [0]
    assert last.counts == {"objects": {"person": 3}, "lines": {"north": 3, "south": 3}}
    assert [event["name"] for event in last.events] == ["person", "north", "south"]
    canvases = [canvas for canvas, _ in (effects[0].drawn[-1], effects[1].drawn[-1])]
    assert canvases[0] is canvases[1] and effects[0].drawn[-1][1].counts == last.counts
    assert summary.streams["street"].totals == last.counts


def test_without_effects_the_picture_is_the_frames_own() -> None:
    sink = FakeSink()
    Pipeline(FakeEngine(), [stream(sinks=(sink,))]).run()
    assert all(result.picture is result.frame.picture for result in sink.results)


def test_without_a_tracker_only_firm_detections_pass() -> None:
    sinks = FakeSink(), FakeSink()
    engine = FakeEngine(scores=(0.9, 0.6, 0.3))
    Pipeline(engine, [stream(sinks=sinks[:1])]).run()
    Pipeline(engine, [stream(sinks=sinks[1:])], min_score=0.8).run()
    assert [len(sink.results[0].instances) for sink in sinks] == [2, 1]


def test_a_tracker_sees_the_weak_detections_too_but_only_of_the_wanted_classes() -> None:
    tracker = FakeTracker()
    engine = FakeEngine(scores=(0.9, 0.6, 0.3), class_ids=(1, 2, 1))
    Pipeline(engine, [stream(tracker=tracker, classes=["person"], sinks=(FakeSink(),))]).run()
    assert tracker.seen[0].names == ["person", "person"]


def test_only_so_many_files_are_open_at_a_time_and_all_get_done() -> None:
    lock, now_open, most_open = threading.Lock(), set(), []
    first_two = threading.Barrier(2, timeout=10)

    class Watched(FakeSource):
        def __enter__(self) -> Watched:
            with lock:
                now_open.add(self.info.name)
                most_open.append(len(now_open))
            if self.info.name in ("clip0", "clip1"):
                first_two.wait()
            return super().__enter__()

    class WatchedSink(FakeSink):
        def __exit__(self, *exc: object) -> None:
            super().__exit__(*exc)  # type: ignore[arg-type]
            with lock:
                now_open.discard(self.info.name)  # type: ignore[union-attr]

    names = [f"clip{number}" for number in range(7)]
    streams = [stream(name, source=Watched(6, name=name), sinks=(WatchedSink(),)) for name in names]
    summary = Pipeline(FakeEngine(), streams, parallel=2).run()
    assert [went.written for went in summary.streams.values()] == [6] * 7
    assert max(most_open) == 2


def test_live_streams_run_all_at_once_whatever_parallel_says() -> None:
    together = threading.Barrier(3, timeout=10)

    class Meeting(FakeSource):
        def __enter__(self) -> Meeting:
            together.wait()
            return super().__enter__()

    sinks = [FakeSink() for _ in range(3)]
    streams = [
        stream(f"cam{number}", source=Meeting(2, name=f"cam{number}", live=True), sinks=(sinks[number],))
        for number in range(3)
    ]
    summary = Pipeline(FakeEngine(), streams, parallel=1).run()
    assert summary.exit_code == 0 and all(sink.results for sink in sinks)


def test_progress_comes_with_the_streams_name_at_most_ten_times_a_second_and_at_the_end() -> None:
    seen: list[tuple[str, int, int | None]] = []
    began = time.monotonic()
    streams = [stream(num_frames=200, sinks=(FakeSink(),))]
    Pipeline(FakeEngine(), streams, progress=lambda *told: seen.append(told)).run()
    assert seen[-1] == ("street", 200, 200)
    assert len(seen) <= 3 + 10 * (time.monotonic() - began)


def test_buffers_hold_few_large_pictures_so_memory_stays_flat() -> None:
    gate = threading.Semaphore(0)
    source = FakeSource(100, width=3840, height=2160)
    pipeline = Pipeline(FakeEngine(gate=gate), [stream(source=source, sinks=(FakeSink(gate=gate),))])
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    time.sleep(0.2)
    assert source.fault.calls <= 4 + 4 + 1  # four wait for the engine, four for the writer, one is on its way
    gate.release(1000)
    runner.join()
    assert pipeline.summary().streams["street"].written == 100


# A live source and a slow neighbour


PATIENT = 60.0
"""Seconds: a max_age for what must not lose a frame because the machine stood still for a moment."""


def live_source(num_frames: int, *, rate: float, width: int = 16, height: int = 16) -> FakeSource:
    """A camera of 10 frames a second whose frames come `rate` times as fast."""
    pace = threading.Semaphore(0)
    source = FakeSource(num_frames, live=True, pace=pace, width=width, height=height)

    def tick() -> None:
        for _ in range(num_frames):
            time.sleep(0.1 / rate)
            pace.release()

    threading.Thread(target=tick, daemon=True).start()
    return source


def test_frames_that_a_slow_engine_passes_over_are_shown_in_order_with_what_the_tracker_knows() -> None:
    source, tracker, sink, engine = live_source(60, rate=10), FakeTracker(), FakeSink(), FakeEngine(seconds=0.1)
    one = stream(source=source, tracker=tracker, sinks=(sink,))
    went = Pipeline(engine, [one], max_age=PATIENT).run().streams["street"]
    assert sink.indices == list(range(60)) and (went.read, went.written, went.dropped) == (60, 60, {})
    looked_at = [index for batch in engine.batches for _, index in batch]
    assert 4 <= len(looked_at) < 20 and looked_at == sorted(looked_at)
    assert [index for index, seen in enumerate(tracker.seen) if seen is not None] == looked_at
    assert all(len(result.instances) == 1 for result in sink.results), "the tracker carries its object"


def test_without_a_tracker_the_objects_of_the_last_look_stay() -> None:
    sink, engine = FakeSink(), FakeEngine(seconds=0.05)
    Pipeline(engine, [stream(source=live_source(30, rate=10), sinks=(sink,))], max_age=PATIENT).run()
    looks = [index for batch in engine.batches for _, index in batch]
    expected = [max((look for look in looks if look <= index), default=None) for index in range(30)]
    shown = [result.instances.boxes[0, 0] if len(result.instances) else None for result in sink.results]
    assert shown == expected


class SlowEffect:
    """Draws nothing, in a fiftieth of a second."""

    def draw(self, canvas: object, result: Result) -> None:
        time.sleep(0.02)


def test_the_seconds_of_a_look_do_not_make_a_frame_too_old() -> None:
    sink = FakeSink()
    one = stream(source=live_source(1, rate=10), sinks=(sink,))
    went = Pipeline(FakeEngine(seconds=2.5), [one], max_age=2).run().streams["street"]
    assert went.dropped == {} and sink.indices == [0]


def test_a_live_frame_older_than_allowed_is_dropped_and_counted_but_a_look_at_it_reaches_the_tracker() -> None:
    source, tracker, sink = live_source(40, rate=10), FakeTracker(), FakeSink()
    engine = FakeEngine(seconds=0.05)
    parts = {"source": source, "tracker": tracker, "sinks": (sink,), "effects": (SlowEffect(),)}
    went = Pipeline(engine, [stream(**parts)], max_age=0.05).run()  # type: ignore[arg-type]
    street = went.streams["street"]
    assert street.dropped.keys() == {"too old"} and street.read == street.written + street.dropped["too old"] == 40
    assert sink.indices == sorted(sink.indices) and 0 < len(sink.indices) < 40
    looks = [seen for seen in tracker.seen if seen is not None]
    assert len(looks) == sum(len(batch) for batch in engine.batches)


def test_a_sink_of_a_live_stream_that_is_slow_loses_pictures_and_holds_up_nothing() -> None:
    gate = threading.Semaphore(0)
    pace, slow, quick = threading.Semaphore(0), FakeSink(gate=gate), FakeSink()
    source = FakeSource(50, live=True, pace=pace)
    pipeline = Pipeline(FakeEngine(), [stream(source=source, sinks=(slow, quick))], max_age=PATIENT)
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    for index in range(50):  # each when the one before was shown: a machine that pauses is not the output that is slow
        pace.release()
        until(lambda index=index: quick.indices[-1:] == [index])
    gate.release(50)
    runner.join(10)
    went = pipeline.summary().streams["street"]
    assert (went.read, went.written, went.dropped) == (50, 50, {})
    assert quick.indices == list(range(50))
    assert slow.indices == [0, *range(30, 50)], "it had the first in hand, and two seconds waited"
    assert [(status.state, status.dropped) for status in went.sinks] == [("ok", 29), ("ok", 0)]


def test_large_pictures_of_a_camera_wait_in_bounded_memory_while_the_engine_hangs() -> None:
    gate, pace = threading.Semaphore(0), threading.Semaphore(1)
    source, sink = FakeSource(60, live=True, width=3840, height=2160, pace=pace), FakeSink()
    pipeline = Pipeline(FakeEngine(gate=gate), [stream(source=source, sinks=(sink,))])
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    lane = pipeline._flows["street"].lane
    until(lambda: lane.num_put == 1 and lane.num_waiting == 0)  # the engine has the first
    pace.release(60)
    assert source.exhausted.wait(10)
    gate.release(60)
    runner.join(10)
    went = pipeline.summary().streams["street"]
    room = int(250e6 / (1.5 * 3840 * 2160))  # 20 pictures of 12.4 MB
    assert (went.read, went.written, went.dropped) == (60, room, {"slow engine": 60 - room})
    assert sink.indices == [0, *range(60 - room + 1, 60)]


def test_a_stream_whose_output_is_slow_does_not_hold_up_the_others() -> None:
    gate = threading.Semaphore(0)
    stuck, free = FakeSink(gate=gate), FakeSink()
    streams = [stream("stuck", num_frames=40, sinks=(stuck,)), stream("free", num_frames=40, sinks=(free,))]
    pipeline = Pipeline(FakeEngine(), streams)
    runner = threading.Thread(target=pipeline.run)
    runner.start()
    until(lambda: len(free.results) == 40)
    assert len(stuck.results) == 0
    gate.release(40)
    runner.join(10)
    assert stuck.indices == list(range(40))


# Something breaks

PARTS = ("source", "engine", "tracker", "counter", "effect", "sink")


def broken(
    part: str, fault: Fault, *, num_frames: int, folder: Path | None = None
) -> tuple[Pipeline, FakeSink, FakeSink]:
    """Two streams of which `part` breaks in the first one (or in the engine that both share), with their sinks."""

    def of(name: str) -> Fault | None:
        return fault if name == part else None

    sinks = [FakeSink(folder / f"{name}.txt" if folder else None, fault=of("sink") if name == "bad" else None)
             for name in ("bad", "good")]  # fmt: skip
    bad = Stream(
        "bad",
        FakeSource(num_frames, name="bad", fault=of("source")),
        FakeTracker(fault=of("tracker")),
        [FakeCounter(fault=of("counter"))],
        [FakeEffect(fault=of("effect"))],
        [sinks[0]],
    )
    good = Stream("good", FakeSource(num_frames, name="good"), FakeTracker(), [], [], [sinks[1]])
    return Pipeline(FakeEngine(fault=of("engine")), [bad, good]), sinks[0], sinks[1]


def check_broken(part: str, at: int, num_frames: int, error: Exception) -> None:
    pipeline, bad, good = broken(part, Fault(at, error=error), num_frames=num_frames)
    summary = pipeline.run()
    went = summary.streams["bad"]
    assert summary.exit_code == 1
    if part == "engine":
        # The frames of both streams pass the engine one by one, so it broke over one of them.
        assert "thread 'engine'" in (summary.error or "") and str(error) in (summary.error or "")
        assert sum(stream.written for stream in summary.streams.values()) == at
        assert all(stream.exception in (None, error) for stream in summary.streams.values())
    else:
        assert went.exception is error
        assert summary.error == f"bad: {went.error}" and str(error) in (went.error or "")
        assert f"thread '{'read' if part == 'source' else 'write'} bad'" in (went.error or "")
        assert went.written == at and bad.indices == list(range(at))
        assert bad.left_with is type(error) or not bad.entered
        assert good.indices == list(range(num_frames)) and good.left_with is None and good.left
        assert summary.streams["good"].error is None
    assert all(sink.left == sink.entered for sink in (bad, good))
    assert not pipeline._threads.running


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("at", [0, 1, 29])
def test_a_part_that_breaks_ends_its_stream_and_is_named(part: str, at: int) -> None:
    check_broken(part, at, 30, ValueError("broken pipe organ"))


def test_a_thousand_runs_with_a_fault_at_a_random_frame_in_a_random_part_all_end_right() -> None:
    chance = random.Random(3)
    for number in range(1000):
        num_frames = chance.randint(1, 12)
        error = chance.choice([ValueError, InputError, OutputError, OSError, MemoryError])(f"fault {number}")
        check_broken(PARTS[number % 6], chance.randrange(num_frames), num_frames, error)
    assert street_threads() == []


def test_what_was_finished_before_a_fault_is_written_and_its_part_file_is_told(tmp_path: Path) -> None:
    pipeline, _, _ = broken("source", Fault(4), num_frames=9, folder=tmp_path)
    summary = pipeline.run()
    assert (tmp_path / "bad.part.txt").read_text().split() == ["0", "1", "2", "3"]
    assert not (tmp_path / "bad.txt").exists()
    assert summary.streams["bad"].outputs == (str(tmp_path / "bad.part.txt"),)
    assert summary.streams["good"].outputs == (str(tmp_path / "good.txt"),)


def test_a_source_that_breaks_after_its_last_frame_still_broke() -> None:
    pipeline, bad, _ = broken("source", Fault(9, error=InputError("torn")), num_frames=9)
    assert pipeline.run().error == "bad: torn (source, thread 'read bad')"
    assert bad.indices == list(range(9)) and bad.left_with is InputError


def test_an_input_that_cannot_be_opened_touches_no_output(tmp_path: Path) -> None:
    sink = FakeSink(tmp_path / "out.txt")
    source = FakeSource(enter_error=InputError("street.mp4: no such file"))
    summary = Pipeline(FakeEngine(), [stream(source=source, sinks=(sink,))]).run()
    assert summary.exit_code == 1 and summary.error == "street: street.mp4: no such file (thread 'read street')"
    assert not sink.entered and list(tmp_path.iterdir()) == [] and summary.streams["street"].outputs == ()


def test_a_file_without_frames_is_an_error_and_touches_no_output() -> None:
    sink = FakeSink()
    summary = Pipeline(FakeEngine(), [stream(num_frames=0, sinks=(sink,))]).run()
    assert summary.exit_code == 1 and "street.mp4: no frame could be decoded" in (summary.error or "")
    assert isinstance(summary.streams["street"].exception, InputError) and not sink.entered


@pytest.mark.parametrize("where", ["enter_error", "start_error", "exit_error"])
def test_a_sink_that_cannot_be_opened_or_closed_fails_its_stream(where: str) -> None:
    first, second = FakeSink(), FakeSink(**{where: OutputError("disk full")})  # type: ignore[arg-type]
    summary = Pipeline(
        FakeEngine(), [stream(sinks=(first, second), num_frames=None if where != "exit_error" else 5)]
    ).run()
    assert summary.exit_code == 1 and summary.error == "street: disk full (sinks, thread 'write street')"
    assert first.left and first.left_with is OutputError
    assert second.left == (where != "enter_error")


def test_a_wrong_option_found_before_the_first_frame_exits_with_2() -> None:
    sink = FakeSink(start_error=UsageError("webm holds no h264"))
    assert Pipeline(FakeEngine(), [stream(sinks=(sink,))]).run().exit_code == 2


def test_a_failing_engine_ends_the_run_and_later_files_never_start() -> None:
    streams = [stream(name, num_frames=10, sinks=(FakeSink(),)) for name in ("a", "b", "c")]
    summary = Pipeline(FakeEngine(fault=Fault(3)), streams, parallel=1).run()
    assert summary.exit_code == 1
    assert summary.error == "a: RuntimeError: broken on purpose (thread 'engine')"
    assert summary.streams["a"].written == 3
    assert summary.streams["b"].error == summary.streams["c"].error == "not started"


def test_an_engine_that_answers_for_too_few_frames_is_an_error() -> None:
    class Forgetful(FakeEngine):
        def predict(self, frames):  # type: ignore[no-untyped-def]
            return super().predict(frames)[:-1]

    assert "given 1 frames and answered 0" in (Pipeline(Forgetful(), [stream()]).run().error or "")


def test_a_sink_fails_while_its_reader_waits_for_room_and_nothing_hangs() -> None:
    source = FakeSource(None)
    summary = Pipeline(FakeEngine(), [stream(source=source, sinks=(FakeSink(fault=Fault(2)),))]).run()
    assert summary.exit_code == 1 and source.left and summary.streams["street"].written == 2


def test_a_progress_callback_that_raises_ends_its_stream() -> None:
    def progress(*told: object) -> None:
        raise BrokenPipeError("terminal gone")

    assert "terminal gone" in (Pipeline(FakeEngine(), [stream()], progress=progress).run().error or "")


def test_a_bad_file_among_good_ones_is_named_and_the_good_ones_are_done() -> None:
    bad = FakeSource(name="b", enter_error=InputError("b.mp4 is not a video"))
    streams = [stream("a", sinks=(FakeSink(),)), stream("b", source=bad), stream("c", sinks=(FakeSink(),))]
    summary = Pipeline(FakeEngine(), streams, parallel=1).run()
    assert summary.exit_code == 1 and (summary.error or "").startswith("b: b.mp4 is not a video")
    assert [went.written for went in summary.streams.values()] == [5, 0, 5]


# Streams that come and go


def running(**options: object) -> Pipeline:
    pipeline = Pipeline(FakeEngine(), **options)  # type: ignore[arg-type]
    pipeline.start()
    return pipeline


def test_a_stream_that_comes_and_goes_takes_no_frame_from_another() -> None:
    pipeline, kept, guest = running(), FakeSink(), FakeSink()
    pace = threading.Semaphore(0)
    pipeline.add(stream("kept", source=FakeSource(200, name="kept", pace=pace), sinks=(kept,)))
    for round in range(5):
        pace.release(20)
        pipeline.add(stream("guest", source=FakeSource(None, name="guest", live=True), sinks=(guest,)))
        until(lambda: len(guest.results) > 3)
        went = pipeline.remove("guest")
        num_lost = sum(status.dropped for status in went.sinks)
        assert went.error is None and went.written == len(guest.results) + num_lost, round
        assert went.read == went.written + sum(went.dropped.values())
        assert guest.left_with is None, "a live recording is complete"
        guest.results.clear()
    pace.release(200)
    pipeline.close()
    summary = pipeline.wait()
    assert kept.indices == list(range(200))
    assert summary.exit_code == 0 and list(summary.streams) == ["kept"]
    assert street_threads() == []


def test_a_file_that_is_removed_leaves_its_part_file_and_is_no_error_of_the_run(tmp_path: Path) -> None:
    pipeline, sink = running(), FakeSink(tmp_path / "out.txt")
    pipeline.add(stream(source=FakeSource(None), sinks=(sink,)))
    until(lambda: len(sink.results) > 3)
    went = pipeline.remove("street")
    assert went.error == "removed before its end" and went.outputs == (str(tmp_path / "out.part.txt"),)
    pipeline.close()
    summary = pipeline.wait()
    assert (summary.exit_code, summary.error) == (0, None)


def test_a_removed_source_has_been_left_so_that_it_can_be_opened_again() -> None:
    pipeline = running()
    for _ in range(3):
        source = FakeSource(None, live=True)
        pipeline.add(stream(source=source))
        until(lambda: source.entered)  # noqa: B023
        pipeline.remove("street")
        assert source.left
    pipeline.close()
    pipeline.wait()


def test_a_file_that_waits_for_its_turn_can_be_removed() -> None:
    pipeline, sink = running(parallel=1), FakeSink()
    pipeline.add(stream("first", source=FakeSource(None, name="first")))
    pipeline.add(stream("second", sinks=(sink,)))
    assert pipeline.remove("second").error == "not started" and not sink.entered
    pipeline.remove("first")
    pipeline.close()
    assert pipeline.wait().exit_code == 0


def test_wrong_comings_and_goings_are_refused_and_the_others_go_on() -> None:
    pipeline, sink = running(), FakeSink()
    pace = threading.Semaphore(0)
    pipeline.add(stream("street", source=FakeSource(10, pace=pace), sinks=(sink,)))
    with pytest.raises(UsageError, match="stream street: the name is taken"):
        pipeline.add(stream("street"))
    with pytest.raises(UsageError, match="no stream is called 'stret'.*street"):
        pipeline.remove("stret")
    pace.release(11)
    pipeline.close()
    with pytest.raises(UsageError, match="stream late: the pipeline takes no more streams"):
        pipeline.add(stream("late"))
    assert pipeline.wait().exit_code == 0 and sink.indices == list(range(10))


def test_a_stream_that_breaks_can_come_back_under_its_name() -> None:
    pipeline, sink = running(), FakeSink()
    pipeline.add(stream(source=FakeSource(enter_error=InputError("no such camera"))))
    until(lambda: pipeline.summary().streams["street"].error is not None)
    pipeline.add(stream(sinks=(sink,)))
    pipeline.close()
    assert pipeline.wait().streams["street"].error is None and sink.indices == list(range(5))


def test_a_dead_engine_ends_what_comes_later_too() -> None:
    pipeline = Pipeline(FakeEngine(fault=Fault(0, error=RuntimeError("no memory"))))
    pipeline.start()
    pipeline.add(stream("first"))
    until(lambda: pipeline._closed)
    with pytest.raises(UsageError, match="takes no more streams"):
        pipeline.add(stream("second"))
    assert "no memory" in (pipeline.wait().error or "")


def test_a_pipeline_without_streams_has_nothing_to_run() -> None:
    with pytest.raises(UsageError, match="at least one stream"):
        Pipeline(FakeEngine()).run()


# Wrong use


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["a", "a"], {}, "names must differ, got 'a' 2 times"),
        (["a"], {"parallel": 0}, "parallel: expected at least 1, got 0"),
        (["a"], {"batch_wait": -1}, "batch_wait: expected 0 seconds or more"),
        (["a"], {"min_score": 50}, "min_score: expected 0 to 1, got 50"),
        (["a"], {"max_age": 0}, "max_age: expected more than 0, got 0"),
    ],
)
def test_wrong_use_is_refused_before_the_first_frame(names: list[str], options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Pipeline(FakeEngine(), [stream(name) for name in names], **options)  # type: ignore[arg-type]


def test_a_pipeline_runs_once() -> None:
    pipeline = Pipeline(FakeEngine(), [stream()])
    pipeline.run()
    with pytest.raises(RuntimeError, match="runs once"):
        pipeline.run()


# Iterating over the results


def test_iterating_gives_every_result_after_its_sinks_had_it(tmp_path: Path) -> None:
    sink = FakeSink(tmp_path / "out.txt")
    pipeline = Pipeline(FakeEngine(), [stream(sinks=(sink,), num_frames=20)])
    for number, result in enumerate(pipeline.results()):
        assert result.frame.index == number
        assert sink.results[number] is result
    assert (tmp_path / "out.txt").read_text().split() == [str(number) for number in range(20)]
    assert pipeline.summary().exit_code == 0 and street_threads() == []


def test_breaking_out_of_the_loop_ends_the_run_and_keeps_the_part_file(tmp_path: Path) -> None:
    sink, source = FakeSink(tmp_path / "out.txt"), FakeSource(None)
    pipeline = Pipeline(FakeEngine(), [stream(source=source, sinks=(sink,))])
    for result in pipeline.results():
        if result.frame.index == 7:
            break
    assert street_threads() == [] and source.left and sink.left_with is Stopped
    written = (tmp_path / "out.part.txt").read_text().split()
    assert written[:8] == [str(number) for number in range(8)] and not (tmp_path / "out.txt").exists()
    summary = pipeline.summary()
    assert summary.exit_code == 1 and "by the caller" in (summary.error or "")
    assert summary.streams["street"].outputs == (str(tmp_path / "out.part.txt"),)


def test_breaking_out_of_a_live_loop_completes_the_recording() -> None:
    sink = FakeSink()
    pipeline = Pipeline(FakeEngine(), [stream(source=FakeSource(None, live=True), sinks=(sink,))])
    for _ in pipeline.results():
        break
    assert sink.left and sink.left_with is None and street_threads() == []


def test_an_exception_in_the_loop_body_ends_the_run_and_comes_through() -> None:
    sinks = FakeSink(), FakeSink()
    streams = [stream(name, num_frames=None, sinks=(sink,)) for name, sink in zip("ab", sinks, strict=True)]
    seen = set()
    with pytest.raises(ZeroDivisionError):
        for result in Pipeline(FakeEngine(), streams).results():
            seen.add(result.frame.stream)
            if len(seen) == 2:
                _ = result.frame.index // 0
    assert street_threads() == [] and [sink.left_with for sink in sinks] == [Stopped, Stopped]


def test_iterating_raises_the_first_error_after_the_last_result() -> None:
    pipeline, _, _ = broken("source", Fault(4, error=InputError("torn")), num_frames=9)
    seen: list[Result] = []
    with pytest.raises(InputError, match="torn") as caught:
        seen.extend(pipeline.results())
    assert [result.frame.index for result in seen if result.frame.stream == "bad"] == [0, 1, 2, 3]
    assert len(seen) == 4 + 9 and caught.value.__notes__ == ["in thread 'read bad'"]


def test_results_that_nobody_asks_for_start_nothing() -> None:
    source = FakeSource()
    Pipeline(FakeEngine(), [stream(source=source)]).results()
    assert not source.entered


# Ctrl-C and SIGTERM

CHILD = """
    import json, signal, sys, threading
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as one under nohup does with this
    sys.path.insert(0, {root!r})
    from pathlib import Path
    from tests.fakes import FakeEngine, FakeSink, FakeSource
    from streamseg.flow import pipeline
    pipeline.SECONDS_TO_LET_GO = 0.3

    class Sink(FakeSink):
        def write(self, picture, result):
            super().write(picture, result)
            if result.frame.index == 20:
                print("going", flush=True)
                if {hang}:
                    threading.Event().wait()

    source, sink = FakeSource(None), Sink(Path({folder!r}) / "out.txt")
    streams = [pipeline.Stream("street", source, sinks=[sink]), pipeline.Stream("later", FakeSource(3))]
    run = pipeline.Pipeline(FakeEngine(seconds=0.001), streams, parallel=1)
    summary = run.run()
    print(json.dumps({{"error": summary.error, "left_with": str(sink.left_with), **summary.to_json()}}), flush=True)
    sys.exit(summary.exit_code)
"""


def interrupted(folder: Path, *signals: int, hang: bool = False) -> tuple[int, dict, float]:
    """Exit code, summary and seconds until the end of a child that was sent the signals while it was running."""
    code = textwrap.dedent(CHILD).format(root=str(Path(__file__).parents[2]), folder=str(folder), hang=hang)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert child.stdout and child.stdout.readline() == "going\n"
        began = time.monotonic()
        for number in signals:
            child.send_signal(number)
            time.sleep(0.2)
        output, _ = child.communicate(timeout=20)
        return child.returncode, json.loads(output), time.monotonic() - began
    finally:
        child.kill()


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_writes_what_is_in_flight_and_leaves_the_part_file(
    tmp_path: Path, number: int, exit_code: int
) -> None:
    code, summary, _ = interrupted(tmp_path, number)
    assert code == exit_code
    street = summary["streams"]["street"]
    assert street["frames"]["read"] == street["frames"]["written"] > 20
    lines = (tmp_path / "out.part.txt").read_text().split()
    assert lines == [str(index) for index in range(street["frames"]["written"])]
    assert "Stopped" in summary["left_with"] and not (tmp_path / "out.txt").exists()
    assert summary["error"] == f"stopped by {signal.Signals(number).name} before its end"
    assert summary["streams"]["later"]["error"] == "not started"


def test_a_second_ctrl_c_does_not_wait_for_a_sink_that_hangs(tmp_path: Path) -> None:
    code, summary, seconds = interrupted(tmp_path, signal.SIGINT, signal.SIGINT, hang=True)
    assert code == 130 and seconds < 10
    assert "still busy: write street" in summary["error"]


def test_ctrl_c_while_iterating_comes_through_after_the_run_has_ended() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sink = FakeSink()
        with pytest.raises(KeyboardInterrupt):
            for result in Pipeline(FakeEngine(), [stream(num_frames=None, sinks=(sink,))]).results():
                if result.frame.index == 5:
                    signal.raise_signal(signal.SIGINT)
        assert sink.left_with is Stopped and street_threads() == []
    finally:
        signal.signal(signal.SIGINT, before)


def test_signals_are_as_they_were_after_a_run() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    Pipeline(FakeEngine(), [stream()]).run()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# The summary


def went(**changes: object) -> StreamSummary:
    stages = {"source": 5.1, "engine": 17.0, "tracker": 0.9, "effects": 0.6, "sinks": 7.7}
    return StreamSummary(read=795, written=795, seconds=18.2, stages=stages, totals={"objects": {"person": 6}},
                         outputs=("street_splash.mp4",), **changes)  # type: ignore[arg-type]  # fmt: skip


EXPECTED = {
    "frames": {"read": 795, "written": 795, "dropped": {}},
    "seconds": 18.2,
    "fps": 43.7,
    "slowest": "engine",
    "stages": {"source": 5.1, "engine": 17.0, "tracker": 0.9, "effects": 0.6, "sinks": 7.7},
    "objects": {"person": 6},
    "lines": {},
    "zones": {},
    "outputs": ["street_splash.mp4"],
}


def test_the_summary_of_one_stream_is_its_numbers() -> None:
    summary = Summary({"street": went()}, seconds=18.3, error=None, exit_code=0)
    assert json.loads(json.dumps(summary.to_json())) == EXPECTED
    assert list(summary.to_json()) == list(EXPECTED)


def test_the_summary_of_several_streams_is_theirs_by_name() -> None:
    summary = Summary({"a": went(), "b": went()}, seconds=20.0, error=None, exit_code=0)
    assert summary.to_json() == {"streams": {"a": EXPECTED, "b": EXPECTED}, "seconds": 20.0}


def test_the_summary_tells_notes_warnings_and_the_error_when_there_are_any() -> None:
    told = {"notes": ["a repeated row"], "warnings": {"damaged packets skipped": 2}, "error": "disk full"}
    stream = went(notes=("a repeated row",), warnings={"damaged packets skipped": 2}, error="disk full")
    assert Summary({"street": stream}, seconds=1.0, error="x", exit_code=1).to_json() == {**EXPECTED, **told}


def test_totals_of_any_kind_and_the_number_of_events_reach_the_summary() -> None:
    counter = FakeCounter(kind="speeds", name="lane 1")
    summary = Pipeline(FakeEngine(), [stream(counters=[counter], num_frames=3)]).run()
    told = summary.to_json()
    assert told["counts"] == {"speeds": {"lane 1": 3}} and told["events"] == 3 and told["objects"] == {}


def test_a_run_measures_where_its_time_went_without_the_waiting() -> None:
    summary = Pipeline(FakeEngine(seconds=0.01), [stream(num_frames=20, sinks=(FakeSink(),))]).run().streams["street"]
    assert list(summary.stages) == ["source", "engine", "tracker", "effects", "sinks"]
    assert summary.slowest == "engine" and summary.stages["engine"] >= 0.2
    assert summary.stages["sinks"] < 0.1 and summary.seconds >= summary.stages["engine"]


def test_the_notes_and_warnings_of_the_parts_reach_the_summary() -> None:
    source, sinks = FakeSource(), (FakeSink(), FakeSink())
    source.warnings = {"damaged packets skipped": 2}
    for sink in sinks:
        sink.notes.append("sound converted to AAC")
    summary = Pipeline(FakeEngine(), [stream(source=source, sinks=sinks)]).run().streams["street"]
    assert summary.warnings == {"damaged packets skipped": 2} and summary.notes == ("sound converted to AAC",)


def test_the_picture_of_the_fakes_is_a_real_one() -> None:
    assert (picture(3).pts, picture(3).width) == (3, 16)
