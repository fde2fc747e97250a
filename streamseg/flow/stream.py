"""One stream on its way: its lane past the engine, its numbers, its sinks, and how it ended."""

from __future__ import annotations

import logging
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import av

from streamseg.buffer import Bell, Buffer, Failure, Lane, Threads
from streamseg.flow.drawing import drawn
from streamseg.flow.events import completed
from streamseg.flow.outbox import Outbox
from streamseg.flow.report import StreamSummary, merged, said
from streamseg.types import (
    Counter,
    Effect,
    FileSink,
    Frame,
    Instances,
    Listener,
    OutputError,
    Result,
    Sink,
    Source,
    SourceState,
    StreamInfo,
    StreamsegError,
    Tracker,
)

FILE_BYTES = 50e6  # of a file's pictures that wait for the engine, and again for the writer: four frames of 4K in 8 bit
FILE_FRAMES = 8  # more would only add delay: the slowest stage sets the pace
LIVE_BYTES = 250e6  # of a live source's pictures; 20 frames of 4K, while the engine looks at one
LIVE_SECONDS = 2  # an engine that takes longer is too slow for it

TOO_OLD = "too old"

log = logging.getLogger(__name__)

R = TypeVar("R")


@dataclass(frozen=True)
class Found:
    """What the engine says of a frame. seconds: of the whole call, and the frame's share of them."""

    instances: Instances
    seconds: float
    share: float


class Stopped(StreamsegError):
    """The run was stopped before this stream's end, so its sinks leave part files."""


@dataclass(frozen=True)
class Stream:
    """One file or one live source: the parts that its frames pass through, ready made.

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


class Flow:
    """A stream under way.

    lane: its frames past the engine · opened: what it is, once its first frame is there · last: its newest Result, for
    who asks from outside · batch_size: of the engine · min_score: what a detection needs where no tracker decides ·
    max_age: seconds, beside those of one look, after which a live frame is no longer shown, None for none · max_fps:
    frames a second that are taken of a live source, None for all · detect_every: the engine looks at every so many-th
    frame · listeners: who hears of it · reading: its reader is at work · removed: why it was ended before its end, if
    it was
    """

    def __init__(
        self,
        stream: Stream,
        bell: Bell,
        *,
        batch_size: int,
        min_score: float,
        max_age: float | None = None,
        max_fps: float | None = None,
        detect_every: int = 1,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.stream = stream
        self.name = stream.name
        self.live = bool(getattr(stream.source, "live", False))
        self.opened: Buffer[StreamInfo] = Buffer(1)
        self.lane: Lane[Frame, Found] = Lane(FILE_FRAMES, live=self.live, bell=bell)
        self.batch_size, self.min_score = batch_size, min_score
        self.max_age, self.max_fps, self.detect_every, self.listeners = max_age, max_fps, detect_every, listeners
        self.num_expected: int | None = None
        self.num_written = self.num_events = 0
        self.dropped: Tally[str] = Tally()
        self.stages = dict.fromkeys(("source", "engine", "tracker", "counters", "effects", "sinks"), 0.0)
        self.last: Result | None = None
        self.entered: list[Sink] = []
        self.outboxes: list[Outbox] = []
        self.began: float | None = None
        self.ended: float | None = None
        self.reported = 0.0
        self.failure: Failure | None = None
        self.stage_of_error: tuple[BaseException, str] | None = None
        self.reading = False
        self.removed: Stopped | None = None
        self._looked_at: Instances | None = None
        self._look = 0.0  # seconds of a look of the engine, of late
        self._due = 0.0  # time of the next frame to be taken, where they are limited
        self._untold: tuple[Mapping[str, Any], ...] = ()  # events of frames that were not shown
        if self.live:
            stream.source.on_state = partial(self.tell, "on_state", self.name)  # type: ignore[attr-defined]

    @property
    def num_read(self) -> int:
        return self.lane.num_put

    def timed(self, stage: str, work: Callable[..., R], *args: Any) -> R:
        """What `work` gives; its seconds count for `stage`, which is named if it fails."""
        began = time.monotonic()
        try:
            return work(*args)
        except BaseException as error:
            self.stage_of_error = self.stage_of_error or (error, stage)
            raise
        finally:
            self.stages[stage] += time.monotonic() - began

    def tell(self, what: str, *args: Any) -> None:
        """Let every listener hear it; one that fails is no matter of the stream's."""
        for listener in self.listeners:
            try:
                getattr(listener, what)(*args)
            except Exception:
                log.exception("%s: %s failed to hear %s", self.name, type(listener).__name__, what)

    @property
    def state(self) -> SourceState | None:
        """Of a live source; a file has none."""
        return getattr(self.stream.source, "state", None)

    # Reading

    def is_taken(self, frame: Frame) -> bool:
        """Whether the frame is read at all: of a live source as many a second as are wanted, evenly."""
        if not self.live or self.max_fps is None:
            return True
        interval = 1 / self.max_fps
        if frame.time < self._due - interval / 4:  # a camera's frames come a little early and a little late
            return False
        self._due = max(self._due, frame.time - interval) + interval
        return True

    def is_for_the_engine(self, frame: Frame) -> bool:
        """Whether the engine may look at a frame that is read; of one it does not, the tracker says where all is."""
        return not frame.damaged and self.num_read % self.detect_every == 0

    def open(self, info: StreamInfo, picture: av.VideoFrame) -> None:
        """The first frame is there: the lane gets its length, and the sinks may open."""
        self.live = self.lane.live = info.live
        self.num_expected = info.num_frames
        num_bytes = sum(plane.buffer_size for plane in picture.planes)
        if info.live:
            wanted = ceil(LIVE_SECONDS * (info.average_rate or 30))
            self.lane.capacity = max(4, min(wanted, int(LIVE_BYTES // num_bytes)))
        else:
            fit = max(2, min(FILE_FRAMES, int(FILE_BYTES // num_bytes)))
            # A whole batch must find room while the one before it is still being written.
            self.lane.capacity = max(fit, self.batch_size) + max(fit, 2 * self.batch_size)
        self.opened.put(info)
        self.tell("on_open", self.name, info)

    def end_reading(self, failure: Failure | None) -> None:
        """The reader has left; what it read goes on."""
        self.reading = False
        self.opened.close(failure)
        self.lane.close(failure)

    # Writing

    def load(self) -> None:
        """Let a tracker that has a `load` do it now: in this stream's thread, while the engine opens its model."""
        load = getattr(self.stream.tracker, "load", None)
        if load is not None:
            load()

    def results(self) -> Iterator[Result]:
        """What is known and drawn of every frame, in order; those too old to be shown are left out.

        Of a frame that the engine passed over, the tracker says where its objects are. A frame that is too old but was
        looked at still reaches tracker and counters, which must miss nothing.
        """
        for frame, found in self.lane:
            instances = self._looked(found)
            old = self._is_too_old(frame)
            if old:
                self.dropped[TOO_OLD] += 1
            if old and instances is None:
                continue
            if frame.damaged:
                result = self._unknown(frame)
            else:
                result = self.timed("tracker", self._tracked, frame, instances)
                result = self.timed("counters", self._counted, result)
            self.last = result
            if old:
                self._untold += result.events
                self.tell("on_result", result)
            else:
                result = self.timed("effects", drawn, self.stream.effects, result)
                self.tell("on_result", result)
                yield replace(result, events=self._untold + result.events) if self._untold else result
                self._untold = ()
        if self._untold and self.last is not None:  # the last is shown after all, for what happened in it
            self.dropped[TOO_OLD] -= 1
            yield replace(self.timed("effects", drawn, self.stream.effects, self.last), events=self._untold)

    def _looked(self, found: Found | None) -> Instances | None:
        if found is None:
            return None
        self.stages["engine"] += found.share
        self._look = max(found.seconds, 0.9 * self._look)  # a long one is soon forgotten
        return found.instances

    def _is_too_old(self, frame: Frame) -> bool:
        """Older than `max_age`, not counting the look that it had to wait for."""
        if not self.live or self.max_age is None:
            return False
        return time.monotonic() - frame.captured_at > self.max_age + self._look

    def _unknown(self, frame: Frame) -> Result:
        """What is known of a damaged frame: nothing but what was counted before."""
        last = self.last
        names = ("background",) if last is None else last.instances.class_names
        counts = {} if last is None else last.counts
        return Result(frame, Instances.empty(names), counts=counts, tracked=self.stream.tracker is not None)

    def _tracked(self, frame: Frame, instances: Instances | None) -> Result:
        if instances is not None and self.stream.classes:
            instances = instances.of(*self.stream.classes)
        if self.stream.tracker is not None:
            return Result(frame, self.stream.tracker.update(frame, instances), tracked=True)
        if instances is not None:
            self._looked_at = instances[instances.scores >= self.min_score]
        return Result(frame, Instances.empty(("background",)) if self._looked_at is None else self._looked_at)

    def _counted(self, result: Result) -> Result:
        updates = [counter.update(result) for counter in self.stream.counters]
        counts = merged(totals for totals, _ in updates)
        events = [event for _, events in updates for event in events]
        self.num_events += len(events)
        told = completed(events, result.frame, live=self.live, path=self.stream.source.info.path)
        return replace(result, counts=counts, events=told)

    def put_out(self, result: Result) -> None:
        """Give the result to every sink."""
        self.timed("sinks", _put_out, self.outboxes if self.live else self.stream.sinks, result)
        self.num_written += 1

    def sinks(self, info: StreamInfo, threads: Threads) -> AbstractContextManager[None]:
        """All sinks, at work; those of a live stream each in a thread of its own."""
        return self._boxed(info, threads) if self.live else self._entered(info)

    @contextmanager
    def _boxed(self, info: StreamInfo, threads: Threads) -> Iterator[None]:
        """Every sink in an outbox; OutputError at the end where one of them could not do its work."""
        # A whole lane may come out at once, after the engine took long over a frame.
        self.outboxes = [Outbox(sink, info, capacity=self.lane.capacity) for sink in self.stream.sinks]
        self.entered = list(self.stream.sinks)
        for box in self.outboxes:
            box.start(threads, stream=self.name)
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            for box in self.outboxes:
                box.close(error)
            for box in self.outboxes:
                box.wait()
        for status in (box.status for box in self.outboxes):
            if status.state != "ok":
                raise OutputError(f"{status.name}: {status.cause}")

    @contextmanager
    def _entered(self, info: StreamInfo) -> Iterator[None]:
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
        """Every frame that was read was written, or its drop was counted."""
        num_lost = self.num_read - self.num_written - (self.lane.dropped + self.dropped).total()
        if num_lost:
            raise RuntimeError(f"{self.num_read} frames were read, but {self.num_read - num_lost} written or dropped")

    # Ending

    def stop(self, failure: Failure, *, discard: bool) -> None:
        """No more reading. A live stream has no end of its own, so that is an orderly one; a file's is not."""
        reason = None if self.live else failure
        self.opened.close(reason)
        self.lane.close(reason, lose="everything" if discard else "nothing")
        self._interrupt()

    def _interrupt(self) -> None:
        """Wake a live source that waits for its camera."""
        if self.live:
            getattr(self.stream.source, "interrupt", lambda: None)()

    def end(self, failure: Failure | None) -> None:
        """The writer has left. What failed before it came first; a stop is no failure beside a real one."""
        upstream = self.lane.failure
        if failure and upstream and not isinstance(upstream.error, Stopped):
            failure = upstream
        self.failure = failure
        self.ended = time.monotonic()
        self.opened.close(failure, discard=True)
        self.lane.close(failure, lose="everything")
        self._interrupt()
        self.tell("on_end", self.name, self.error)

    @property
    def error(self) -> str | None:
        """Why the stream did not reach its end, in a sentence."""
        if self.failure is None:
            return None
        if isinstance(self.failure.error, Stopped):
            return str(self.failure.error)
        error, stage = self.stage_of_error or (None, "")
        where = f"{stage}, " if error is self.failure.error else ""
        return f"{said(self.failure.error)} ({where}thread '{self.failure.thread}')"

    def summary(self, now: float) -> StreamSummary:
        """How the stream went so far; what its counters counted as its last result has it."""
        source = self.stream.source
        stages = {stage: seconds for stage, seconds in self.stages.items() if stage != "counters"}
        stages["tracker"] += self.stages["counters"]
        entered = tuple(self.entered)
        paths = [Path(sink.path) for sink in entered if isinstance(sink, FileSink) and sink.path is not None]
        addresses = [str(sink.address) for sink in entered if hasattr(sink, "address")]
        noted = [note for part in (source, *entered) for note in getattr(part, "notes", ())]
        lost = self.failure is not None
        return StreamSummary(
            read=self.num_read,
            written=self.num_written,
            dropped=dict(_copied(getattr(source, "drops", {})) + _copied(self.lane.dropped) + _copied(self.dropped)),
            seconds=0.0 if self.began is None else (self.ended or now) - self.began,
            stages=stages,
            totals=self.last.counts if self.last else merged(each.totals() for each in self.stream.counters),
            num_events=self.num_events,
            sinks=tuple(box.status for box in self.outboxes),
            state=self.state,
            outputs=tuple(str(path) for path in paths if not lost or _is_there(path)) + tuple(addresses),
            notes=tuple(dict.fromkeys([*self.stream.notes, *noted])),
            warnings=dict(getattr(source, "warnings", {})),
            error=self.error if self.began is not None else "not started",
            exception=self.failure.error if self.failure else None,
        )


def _is_there(path: Path) -> bool:
    """Whether there is such a file; so it may be where the disk has gone."""
    try:
        return path.exists()
    except OSError:
        return True


def _copied(tally: Mapping[str, int]) -> Tally[str]:
    """A tally as it is now; adding up the one that another thread counts in fails where that finds a new cause."""
    return Tally(dict(tally))


def _put_out(sinks: Sequence[Sink | Outbox], result: Result) -> None:
    picture = result.frame.picture if result.picture is None else result.picture
    for sink in sinks:
        sink.write(picture, result)
