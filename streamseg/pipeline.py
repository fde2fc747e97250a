"""Takes the frames of every stream through engine, tracker, counters and effects to the sinks, and says how it went.

    source ──► engine ──► tracker ──► counters ──► effects ──► sinks
    _read      _infer     _write

One thread reads each source, one runs the engine for all streams, one for each stream tracks, draws and writes.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import av

from streamseg.buffer import Buffer, Closed, Failure, Junction, Threads
from streamseg.canvas import Canvas
from streamseg.types import (
    Counter,
    Effect,
    Engine,
    Frame,
    InputError,
    Instances,
    Result,
    Sink,
    Source,
    StreamInfo,
    StreamsegError,
    Totals,
    Tracker,
    UsageError,
)

BUFFER_BYTES = 50e6  # of pictures that wait in one buffer: four frames of 4K in 8 bit
BUFFER_FRAMES = 8  # more would only add delay: the slowest stage sets the pace
LIVE_FRAMES = 2  # one to work on next, one in the making; older ones make way
RESULTS_AHEAD = 2  # finished results that wait for the caller's loop
SECONDS_BETWEEN_PROGRESS = 0.1
SECONDS_TO_LET_GO = 5.0  # after a second Ctrl-C, for files to be closed

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]
Found = tuple[Frame, Instances, float]  # with the frame's share of the engine's seconds
R = TypeVar("R")


class Stopped(StreamsegError):
    """The run was stopped before this stream's end, so its sinks leave part files."""


@dataclass(frozen=True)
class Stream:
    """One file or one camera: the parts that its frames pass through, ready made.

    classes: everything else is removed before the tracker; None keeps all · notes: what the summary is to say of it. A
    live source says so before it is opened, by `live = True` on its class.
    """

    name: str
    source: Source
    tracker: Tracker | None = None
    counters: Sequence[Counter] = ()
    effects: Sequence[Effect] = ()
    sinks: Sequence[Sink] = ()
    classes: Sequence[str] | None = None
    notes: Sequence[str] = ()


class Pipeline:
    """One engine and the streams that share it; runs once, by `run()` or by iterating over `results()`.

    batch_wait: seconds to wait for a fuller batch · parallel: files worked on at a time; live streams run all at once ·
    min_score: what a detection needs where no tracker decides, None for the engine's own · progress: called with the
    stream's name, frames done and frames expected (None if unknown), about ten times a second, in the stream's thread.
    """

    def __init__(
        self,
        engine: Engine,
        streams: Sequence[Stream],
        *,
        batch_wait: float = 0.01,
        parallel: int = 2,
        min_score: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        _check(streams, batch_wait=batch_wait, parallel=parallel, min_score=min_score)
        self.engine = engine
        self.streams = tuple(streams)
        self.batch_wait = batch_wait
        self.parallel = parallel
        self.min_score = engine.min_score if min_score is None else min_score
        self.progress = progress
        self._threads = Threads()
        self._junction: Junction[Frame, Found] = Junction()
        self._finished: Buffer[Result] = Buffer(RESULTS_AHEAD)
        self._flows = [_Flow(stream, self._junction, engine.batch_size) for stream in self.streams]
        self._lock = threading.RLock()  # who waits, runs and has ended
        self._waiting: deque[_Flow] = deque()
        self._running: list[_Flow] = []
        self._failed: list[_Flow] = []
        self._stopped: Stopped | None = None
        self._signal: signal.Signals | None = None
        self._began: float | None = None
        self._ended: float | None = None

    # The flow. Each of the three is the whole work of a thread; what it raises ends in the `_end_of_…` further down.

    def _read(self, flow: _Flow) -> None:
        with flow.stream.source as source:
            frames = iter(source)
            while (frame := flow.timed("source", next, frames, None)) is not None:
                if flow.num_read == 0:
                    flow.open(source.info, frame.picture)
                    self._log_start(flow, frame)
                flow.hand_on(frame)
        if flow.num_read == 0:
            raise InputError(f"{source.info.path or flow.name}: no frame could be decoded")

    def _infer(self) -> None:
        engine = self.engine
        while batch := self._junction.take(most=engine.batch_size, patience=self.batch_wait, kind=engine.input_size):
            began = time.monotonic()
            found = engine.predict([frame for _, frame in batch])
            seconds = (time.monotonic() - began) / len(batch)
            if len(found) != len(batch):
                raise RuntimeError(f"{type(engine).__name__} was given {len(batch)} frames and answered {len(found)}")
            for (results, frame), instances in zip(batch, found, strict=True):
                with suppress(Closed):  # that stream has ended; the others go on
                    results.put((frame, instances, seconds))

    def _write(self, flow: _Flow) -> None:
        stream, info = flow.stream, flow.opened.get()
        with flow.sinks(info):
            for frame, instances, engine_seconds in flow.results:
                flow.stages["engine"] += engine_seconds
                result = flow.timed("tracker", self._track, stream, frame, instances)
                result = flow.timed("counters", _count, stream.counters, result)
                result = flow.timed("effects", _draw, stream.effects, result)
                flow.timed("sinks", _put_out, stream.sinks, result)
                flow.num_written += 1
                self._report(flow)
                with suppress(Closed):  # nobody iterates over the results
                    self._finished.put(result)
            flow.check_complete()
            self._report(flow, last=True)

    def _track(self, stream: Stream, frame: Frame, instances: Instances) -> Result:
        if stream.classes:
            instances = instances.of(*stream.classes)
        if stream.tracker is None:
            return Result(frame, instances[instances.scores >= self.min_score])
        return Result(frame, stream.tracker.update(frame, instances))

    # Running it.

    def run(self) -> Summary:
        """Runs every stream to its end and says how it went: what a part raised is in the summary, not raised here.

        In the main thread, Ctrl-C and SIGTERM end the reading; what is in flight is written, part files stay playable.
        A second one drops what is in flight; a third, or five seconds, leaves threads that hang behind.
        """
        self._finished.close()
        with _signals_told_to(self._threads):
            self._start()
            num_signals = 0
            while told := self._threads.wait(patience=SECONDS_TO_LET_GO if num_signals > 1 else None):
                num_signals += 1
                if num_signals > 2:
                    break
                self._signal = self._signal or signal.Signals(told)
                self._stop(f"stopped by {self._signal.name} before its end", discard=num_signals > 1)
        return self.summary()

    def results(self) -> Iterator[Result]:
        """Every result as soon as its sinks have it; of several streams as they come (`result.frame.stream`).

        Raises the first error after the last result that could still be had. Leaving the loop early, by `break` or by
        an exception, ends the run at once: what is in flight is dropped, and a file's outputs stay under their part
        names, closed and playable. `summary()` tells how far it came.
        """
        self._start()
        try:
            yield from self._finished
        finally:
            self._stop("stopped by the caller before its end", discard=True)
            self._threads.wait()
        for failure in self._threads.failures:
            failure.error.add_note(f"in thread '{failure.thread}'")
            raise failure.error

    def summary(self) -> Summary:
        """How the run went so far."""
        with self._lock:
            now = time.monotonic() if self._ended is None else self._ended
            return Summary(
                streams={flow.name: flow.summary(now) for flow in self._flows},
                seconds=now - (self._began or now),
                error=self._error(),
                exit_code=self._exit_code(),
            )

    def _log_start(self, flow: _Flow, frame: Frame) -> None:
        begins = f"picture {frame.index} at {frame.time:.3f} s"
        pictures = f"{frame.width}x{frame.height} {frame.picture.format.name}"
        sees = "{}x{}".format(*self.engine.input_size(frame))
        log.debug("stream %s: from %s, pictures %s, network input %s", flow.name, begins, pictures, sees)

    def _report(self, flow: _Flow, *, last: bool = False) -> None:
        now = time.monotonic()
        if self.progress and (last or now - flow.reported >= SECONDS_BETWEEN_PROGRESS):
            flow.reported = now
            self.progress(flow.name, flow.num_written, flow.num_expected)

    # Who runs when, and who learns of whose end.

    def _start(self) -> None:
        if self._began is not None:
            raise RuntimeError("a pipeline runs once; make a new one for another run")
        self._began = time.monotonic()
        with self._lock:
            self._waiting.extend(sorted(self._flows, key=lambda flow: not flow.live))
            self._threads.start("engine", self._infer, at_end=self._end_of_engine)
            self._start_waiting()

    def _start_waiting(self) -> None:
        """Starts whose turn it is; lock held."""
        while self._waiting and (self._waiting[0].live or sum(not flow.live for flow in self._running) < self.parallel):
            flow = self._waiting.popleft()
            flow.began = time.monotonic()
            self._running.append(flow)
            self._junction.add(flow.frames, flow.results)
            self._threads.start(f"read {flow.name}", partial(self._read, flow), at_end=flow.end_reading)
            self._threads.start(
                f"write {flow.name}", partial(self._write, flow), at_end=partial(self._end_of_stream, flow)
            )
        if not self._waiting:
            self._junction.close()
            if not self._running:
                self._ended = time.monotonic()
                self._finished.close()

    def _end_of_stream(self, flow: _Flow, failure: Failure | None) -> None:
        with self._lock:
            flow.end(failure)
            if flow.failure:
                self._failed.append(flow)
            self._running.remove(flow)
            self._start_waiting()

    def _end_of_engine(self, failure: Failure | None) -> None:
        with self._lock:
            if failure:
                self._waiting.clear()
            self._junction.close(failure)
            self._start_waiting()

    def _stop(self, reason: str, *, discard: bool) -> None:
        with self._lock:
            if not self._running:
                return
            self._stopped = self._stopped or Stopped(reason)
            self._waiting.clear()
            self._finished.close(discard=True)
            for flow in self._running:
                flow.stop(Failure(self._stopped, threading.current_thread().name), discard=discard)
            self._start_waiting()

    def _error(self) -> str | None:
        for flow in self._failed:
            if flow.failure and flow.failure.error is not self._stopped:
                return f"{flow.name}: {flow.error}"
        if self._stopped:
            hanging = f"; still busy: {', '.join(self._threads.running)}" if self._threads.running else ""
            return f"{self._stopped}{hanging}"
        return next((f"{_said(failure.error)} (thread '{failure.thread}')" for failure in self._threads.failures), None)

    def _exit_code(self) -> int:
        if self._signal:
            return 128 + self._signal
        errors = [failure.error for failure in self._threads.failures]
        if errors and all(isinstance(error, UsageError) for error in errors):
            return 1 if any(flow.num_written for flow in self._flows) else UsageError.exit_code
        return 1 if errors or self._failed else 0


class _Flow:
    """A stream under way: its buffers, its numbers, and how it ended."""

    def __init__(self, stream: Stream, junction: Junction[Frame, Found], batch_size: int) -> None:
        self.stream = stream
        self.name = stream.name
        self.live = bool(getattr(stream.source, "live", False))
        self.opened: Buffer[StreamInfo] = Buffer(1)
        self.frames: Buffer[Frame] = Buffer(BUFFER_FRAMES, bell=junction.bell)
        self.results: Buffer[Found] = Buffer(BUFFER_FRAMES, bell=junction.bell)
        self.batch_size = batch_size
        self.num_expected: int | None = None
        self.num_read = self.num_written = 0
        self.dropped: Tally[str] = Tally()
        self.stages = dict.fromkeys(("source", "engine", "tracker", "counters", "effects", "sinks"), 0.0)
        self.entered: list[Sink] = []
        self.began: float | None = None
        self.ended: float | None = None
        self.reported = 0.0
        self.failure: Failure | None = None
        self.stage_of_error: tuple[BaseException, str] | None = None

    def timed(self, stage: str, work: Callable[..., R], *args: Any) -> R:
        began = time.monotonic()
        try:
            return work(*args)
        except BaseException as error:
            self.stage_of_error = self.stage_of_error or (error, stage)
            raise
        finally:
            self.stages[stage] += time.monotonic() - began

    def open(self, info: StreamInfo, picture: av.VideoFrame) -> None:
        """The first frame is there: the buffers get their sizes, and the sinks may open."""
        self.live = self.frames.drop_oldest = info.live
        self.num_expected = info.num_frames
        num_bytes = sum(plane.buffer_size for plane in picture.planes)
        num_frames = LIVE_FRAMES if info.live else max(2, min(BUFFER_FRAMES, int(BUFFER_BYTES // num_bytes)))
        self.frames.capacity = max(num_frames, 1 if info.live else self.batch_size)
        # A whole batch must find room while the one before it is still being written.
        self.results.capacity = max(num_frames, 1 if info.live else 2 * self.batch_size)
        self.opened.put(info)

    def hand_on(self, frame: Frame) -> None:
        cause = "slow engine" if self.results.room else "slow output"
        if self.frames.put(frame):
            self.dropped[cause] += 1
        self.num_read += 1

    def end_reading(self, failure: Failure | None) -> None:
        self.opened.close(failure)
        self.frames.close(failure)

    @contextmanager
    def sinks(self, info: StreamInfo) -> Iterator[None]:
        """All sinks, entered and started; each is left on its own, whatever another one does."""
        with ExitStack() as leaving:
            for sink in self.stream.sinks:
                self.timed("sinks", sink.__enter__)
                self.entered.append(sink)
                leaving.push(partial(self._leave, sink))
            for sink in self.stream.sinks:
                self.timed("sinks", sink.start, info)
            yield

    def _leave(self, sink: Sink, *exc: Any) -> None:
        self.timed("sinks", sink.__exit__, *exc)

    def check_complete(self) -> None:
        if not self.live and self.num_read != self.num_written:
            raise RuntimeError(f"{self.num_read} frames were read, but {self.num_written} written")

    def stop(self, failure: Failure, *, discard: bool) -> None:
        """No more reading. A live stream has no end of its own, so that is an orderly one; a file's is not."""
        reason = None if self.live else failure
        self.opened.close(reason)
        self.frames.close(reason, discard=discard)
        if discard:
            self.results.close(reason, discard=True)

    def end(self, failure: Failure | None) -> None:
        """The writer has left. What failed before it came first; a stop is no failure beside a real one."""
        upstream = self.frames.failure or self.results.failure
        if failure and upstream and not isinstance(upstream.error, Stopped):
            failure = upstream
        self.failure = failure
        self.ended = time.monotonic()
        for buffer in (self.opened, self.frames, self.results):
            buffer.close(failure, discard=True)

    @property
    def error(self) -> str | None:
        if self.failure is None:
            return None
        if isinstance(self.failure.error, Stopped):
            return str(self.failure.error)
        error, stage = self.stage_of_error or (None, "")
        where = f"{stage}, " if error is self.failure.error else ""
        return f"{_said(self.failure.error)} ({where}thread '{self.failure.thread}')"

    def summary(self, now: float) -> StreamSummary:
        source, totals = self.stream.source, _merged(counter.totals() for counter in self.stream.counters)
        stages = {stage: seconds for stage, seconds in self.stages.items() if stage != "counters"}
        stages["tracker"] += self.stages["counters"]
        paths = [Path(sink.path) for sink in self.entered if getattr(sink, "path", None) is not None]
        said = [note for part in (source, *self.entered) for note in getattr(part, "notes", ())]
        lost = self.failure is not None
        return StreamSummary(
            read=self.num_read,
            written=self.num_written,
            dropped=dict(Tally(getattr(source, "drops", {})) + self.dropped),
            seconds=0.0 if self.began is None else (self.ended or now) - self.began,
            stages=stages,
            objects=totals.get("objects", {}),
            lines=totals.get("lines", {}),
            zones=totals.get("zones", {}),
            outputs=tuple(str(path) for path in paths if path.exists() or not lost),
            notes=tuple(dict.fromkeys([*self.stream.notes, *said])),
            warnings=dict(getattr(source, "warnings", {})),
            error=self.error if self.began is not None else "not started",
            exception=self.failure.error if self.failure else None,
        )


@dataclass(frozen=True)
class StreamSummary:
    """How one stream went.

    read, written: frames · dropped: frames by cause · seconds: from its start to its end · stages: busy seconds,
    without waiting · objects, lines, zones: the counters' totals · outputs: where they lie now, those of a stream with
    an error under their part names · warnings: what was wrong in the input, how often · error, exception: why it did
    not reach its end
    """

    read: int = 0
    written: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
    objects: Mapping[str, int] = field(default_factory=dict)
    lines: Mapping[str, Any] = field(default_factory=dict)
    zones: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    exception: BaseException | None = None

    @property
    def fps(self) -> float:
        """Frames written a second."""
        return self.written / self.seconds if self.seconds else 0.0

    @property
    def slowest(self) -> str:
        """The stage that was busy longest."""
        return max(self.stages, key=lambda stage: self.stages[stage], default="")

    def to_json(self) -> dict[str, Any]:
        """As `run --json` prints it; `notes`, `warnings` and `error` only where there are any."""
        extras = {"notes": list(self.notes), "warnings": dict(self.warnings), "error": self.error}
        return {
            "frames": {"read": self.read, "written": self.written, "dropped": dict(self.dropped)},
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 1),
            "slowest": self.slowest,
            "stages": {stage: round(seconds, 3) for stage, seconds in self.stages.items()},
            "objects": dict(self.objects),
            "lines": dict(self.lines),
            "zones": dict(self.zones),
            "outputs": list(self.outputs),
            **{key: value for key, value in extras.items() if value},
        }


@dataclass(frozen=True)
class Summary:
    """How a run went: every stream by name, seconds in all, the first error, and the exit code (`cli.md`)."""

    streams: Mapping[str, StreamSummary]
    seconds: float
    error: str | None
    exit_code: int

    def to_json(self) -> dict[str, Any]:
        """As `run --json` prints it: one stream's numbers alone, or those of several by name."""
        if len(self.streams) == 1:
            return next(iter(self.streams.values())).to_json()
        streams = {name: stream.to_json() for name, stream in self.streams.items()}
        return {"streams": streams, "seconds": round(self.seconds, 3), **({"error": self.error} if self.error else {})}


def _count(counters: Sequence[Counter], result: Result) -> Result:
    updates = [counter.update(result) for counter in counters]
    counts = _merged(totals for totals, _ in updates)
    return replace(result, counts=counts, events=tuple(event for _, events in updates for event in events))


def _draw(effects: Sequence[Effect], result: Result) -> Result:
    if not effects:
        return replace(result, picture=result.frame.picture)
    canvas = Canvas(result.frame.picture)
    for effect in effects:
        effect.draw(canvas, result)
    return replace(result, picture=canvas.picture)


def _put_out(sinks: Sequence[Sink], result: Result) -> None:
    picture = result.frame.picture if result.picture is None else result.picture
    for sink in sinks:
        sink.write(picture, result)


def _merged(totals: Iterable[Totals]) -> dict[str, Any]:
    """One set of totals of several counters: two lines are both under `lines`."""
    merged: dict[str, Any] = {}
    for part in totals:
        for kind, numbers in part.items():
            merged[kind] = {**merged.get(kind, {}), **numbers}
    return merged


def _said(error: BaseException) -> str:
    """The error in a sentence; one that nobody raised on purpose with its type."""
    return str(error) if isinstance(error, StreamsegError) else f"{type(error).__name__}: {error}"


@contextmanager
def _signals_told_to(threads: Threads) -> Iterator[None]:
    """Ctrl-C and SIGTERM become news for `threads.wait`, so that no exception strikes in the middle of a hand-over."""
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere Python does not let us, nor would they come
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                previous[number] = signal.signal(number, lambda told, _: threads.tell(told))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _check(streams: Sequence[Stream], *, batch_wait: float, parallel: int, min_score: float | None) -> None:
    if not streams:
        raise UsageError("a pipeline needs at least one stream, got none")
    for name, number in Tally(stream.name for stream in streams).items():
        if number > 1:
            raise UsageError(f"stream names must differ, got {name!r} {number} times")
    if parallel < 1:
        raise UsageError(f"parallel: expected at least 1, got {parallel}")
    if batch_wait < 0:
        raise UsageError(f"batch_wait: expected 0 seconds or more, got {batch_wait}")
    if min_score is not None and not 0 <= min_score <= 1:
        raise UsageError(f"min_score: expected 0 to 1, got {min_score}")
