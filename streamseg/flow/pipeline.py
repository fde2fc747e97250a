"""Takes the frames of every stream through engine, tracker, counters and effects to the sinks, and says how it went.

    source ──► engine ──► tracker ──► counters ──► effects ──► sinks
    _read      _infer     _write

One thread reads each source, one runs the engine for all streams, one for each stream tracks, draws and writes. Between
them is one lane a stream (`buffer.Lane`), which keeps its frames in order.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial

from streamseg.buffer import Buffer, Closed, Failure, Junction, Threads
from streamseg.flow import signals
from streamseg.flow.report import StreamSummary, Summary, said
from streamseg.flow.stream import Flow, Found, Stopped, Stream
from streamseg.types import Engine, Frame, InputError, Listener, Result, UsageError
from streamseg.words import nearest

RESULTS_AHEAD = 2  # finished results that wait for the caller's loop
SECONDS_BETWEEN_PROGRESS = 0.1
SECONDS_TO_LET_GO = 5.0  # after a second Ctrl-C, for files to be closed

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]


class Pipeline:
    """One engine and the streams that share it; runs once, by `run()` or by iterating over `results()`.

    batch_wait: seconds to wait for a fuller batch · parallel: files worked on at a time; live streams run all at once ·
    min_score: what a detection needs where no tracker decides, None for the engine's own · max_age: seconds, beside
    those of one look of the engine, after which a live frame is dropped instead of shown, None for none · max_fps:
    frames a second that are taken of each live source, None for all · detect_every: the engine looks at every so
    many-th frame of a stream, objects are carried over the others · listeners: who hears what happens; one that is a
    context manager is entered before the first frame and left after the last · progress: called with the stream's name,
    frames done and frames expected (None if unknown), about ten times a second, in the stream's thread.

    Streams may also come and go while it runs: `start()`, then `add` and `remove`, `close()` when no more will come,
    and `wait()` for the end.
    """

    def __init__(
        self,
        engine: Engine,
        streams: Sequence[Stream] = (),
        *,
        batch_wait: float = 0.01,
        parallel: int = 2,
        min_score: float | None = None,
        max_age: float | None = None,
        max_fps: float | None = None,
        detect_every: int = 1,
        listeners: Sequence[Listener] = (),
        progress: Progress | None = None,
    ) -> None:
        _check(streams, parallel=parallel, batch_wait=batch_wait, min_score=min_score)
        _check_positive(max_age=max_age, max_fps=max_fps, detect_every=detect_every)
        self.engine = engine
        self.batch_wait = batch_wait
        self.parallel = parallel
        self.min_score = engine.min_score if min_score is None else min_score
        self.max_age = max_age
        self.max_fps = max_fps
        self.detect_every = detect_every
        self.listeners = tuple(listeners)
        self.progress = progress
        self._threads = Threads()
        self._listening = ExitStack()
        self._junction: Junction[Frame, Found] = Junction()
        self._finished: Buffer[Result] = Buffer(RESULTS_AHEAD)
        self._lock = threading.RLock()  # who waits, runs and has ended
        self._changed = threading.Condition(self._lock)
        self._flows: dict[str, Flow] = {}
        self._waiting: deque[Flow] = deque()
        self._running: list[Flow] = []
        self._failed: list[Flow] = []
        self._closed = False  # no more streams will come
        self._stopped: Stopped | None = None
        self._signal: signal.Signals | None = None
        self._looking_since: float | None = None
        self._began: float | None = None
        self._ended: float | None = None
        for stream in streams:
            self.add(stream)

    # The flow. Each of the three is the whole work of a thread; what it raises ends in the `_end_of_…` further down.

    def _read(self, flow: Flow) -> None:
        with flow.stream.source as source:
            frames = iter(source)
            while (frame := flow.timed("source", next, frames, None)) is not None:
                if flow.num_read == 0:
                    flow.open(source.info, frame.picture)
                    self._log_start(flow, frame)
                if flow.is_taken(frame):
                    flow.lane.put(frame, look=flow.is_for_the_engine(frame))
        if flow.num_read == 0 and not flow.live:  # a camera that never came is no error
            raise InputError(f"{source.info.path or flow.name}: no frame could be decoded")

    def _infer(self) -> None:
        engine = self.engine
        while batch := self._junction.take(most=engine.batch_size, patience=self.batch_wait, kind=engine.input_size):
            self._looking_since = began = time.monotonic()
            found = engine.predict([slot.item for slot in batch])
            self._looking_since, seconds = None, time.monotonic() - began
            if len(found) != len(batch):
                raise RuntimeError(f"{type(engine).__name__} was given {len(batch)} frames and answered {len(found)}")
            for slot, instances in zip(batch, found, strict=True):
                with suppress(Closed):  # that stream has ended; the others go on
                    slot.fill(Found(instances, seconds, share=seconds / len(batch)))

    def _write(self, flow: Flow) -> None:
        flow.load()
        with flow.sinks(flow.opened.get(), self._threads):
            for result in flow.results():
                flow.put_out(result)
                self._report(flow)
                with suppress(Closed):  # nobody iterates over the results
                    self._finished.put(result)
            flow.check_complete()
            self._report(flow, last=True)

    # Running it.

    def run(self) -> Summary:
        """Runs every stream to its end and says how it went: what a part raised is in the summary, not raised here."""
        if not self._flows:
            raise UsageError("a pipeline needs at least one stream, got none")
        with signals.told_to(self._threads.tell):  # from the first file on that a stream opens
            self.start()
            self.close()
            return self.wait()

    def start(self) -> None:
        """Begins with the streams that there are; more may be added."""
        self._finished.close()
        self._start()

    def _start(self) -> None:
        with self._lock:
            if self._began is not None:
                raise RuntimeError("a pipeline runs once; make a new one for another run")
            with ExitStack() as entered:  # left again where one of them fails
                for listener in self.listeners:
                    if isinstance(listener, AbstractContextManager):
                        entered.enter_context(listener)
                self._listening = entered.pop_all()
            self._began = time.monotonic()
            self._threads.start("engine", self._infer, at_end=self._end_of_engine)
            self._start_waiting()

    def add(self, stream: Stream) -> None:
        """One stream more, at any time; a file may have to wait for its turn.

        UsageError when another stream of that name is not through yet, or when no more streams are taken.
        """
        flow = Flow(
            stream,
            self._junction.bell,
            batch_size=self.engine.batch_size,
            min_score=self.min_score,
            max_age=self.max_age,
            max_fps=self.max_fps,
            detect_every=self.detect_every,
            listeners=self.listeners,
        )
        with self._lock:
            if self._closed:
                raise UsageError(f"stream {stream.name}: the pipeline takes no more streams")
            if (other := self._flows.get(stream.name)) and (other in self._waiting or other in self._running):
                raise UsageError(f"stream {stream.name}: the name is taken by a stream that is not through yet")
            self._flows[stream.name] = flow
            first_file = sum(waiting.live for waiting in self._waiting)
            self._waiting.insert(first_file if flow.live else len(self._waiting), flow)
            if self._began is not None:
                self._start_waiting()

    def remove(self, name: str) -> StreamSummary:
        """Ends one stream, and says how it went once it has left its source and its sinks; the others go on.

        What is in flight is written. A live recording is completed; of a file that was not through, the outputs stay
        under their part names. UsageError when no stream is called so.
        """
        with self._changed:
            flow = self._flows.get(name)
            if flow is None:
                raise UsageError(f"no stream is called {name!r}{nearest(name, self._flows)}")
            if flow in self._waiting:
                self._waiting.remove(flow)
            elif flow in self._running:
                flow.removed = Stopped("removed before its end")
                flow.stop(Failure(flow.removed, threading.current_thread().name), discard=False)
            self._changed.wait_for(lambda: flow not in self._running and not flow.reading)
            self._start_waiting()
            if self._flows.get(name) is flow:
                del self._flows[name]
        return flow.summary(time.monotonic())

    def close(self) -> None:
        """No more streams will come: the pipeline ends with those that it has."""
        with self._lock:
            self._closed = True
            self._start_waiting()

    def wait(self) -> Summary:
        """Waits for the end of all streams after `close()`, and says how they went.

        In the main thread, Ctrl-C, SIGTERM and SIGHUP end the reading; what is in flight is written, part files stay
        playable.
        A second one drops what is in flight; a third, or five seconds, leaves threads that hang behind.
        """
        with signals.told_to(self._threads.tell):
            num_signals = 0
            while told := self._threads.wait(patience=SECONDS_TO_LET_GO if num_signals > 1 else None):
                num_signals += 1
                if num_signals > 2:
                    break
                self._signal = self._signal or signal.Signals(told)
                self._stop(f"stopped by {self._signal.name} before its end", discard=num_signals > 1)
        self._listening.close()
        return self.summary()

    def results(self) -> Iterator[Result]:
        """Every result as soon as its sinks have it; of several streams as they come (`result.frame.stream`).

        Raises the first error after the last result that could still be had. Leaving the loop early, by `break` or by
        an exception, ends the run at once: what is in flight is dropped, and a file's outputs stay under their part
        names, closed and playable. `summary()` tells how far it came.
        """
        self._start()
        self.close()
        try:
            yield from self._finished
        finally:
            self._stop("stopped by the caller before its end", discard=True)
            self._threads.wait()
            self._listening.close()
        for failure in self._failures():
            failure.error.add_note(f"in thread '{failure.thread}'")
            raise failure.error

    @property
    def seconds_looking(self) -> float:
        """How long the engine has been at its present call; 0 while it waits for frames."""
        since = self._looking_since
        return 0.0 if since is None else time.monotonic() - since

    def summary(self) -> Summary:
        """How the run went so far; of a stream that was removed nothing."""
        with self._lock:
            now = time.monotonic() if self._ended is None else self._ended
            flows, began, error, code = [*self._flows.values()], self._began, self._error(), self._exit_code()
        # without the lock: it looks at files, on a disk that may not answer
        return Summary(
            streams={flow.name: flow.summary(now) for flow in flows},
            seconds=now - (began or now),
            error=error,
            exit_code=code,
            precision=getattr(self.engine, "precision", ""),
        )

    def _log_start(self, flow: Flow, frame: Frame) -> None:
        begins = f"picture {frame.index} at {frame.time:.3f} s"
        pictures = f"{frame.width}x{frame.height} {frame.picture.format.name}"
        sees = "{}x{}".format(*self.engine.input_size(frame))
        log.debug("stream %s: from %s, pictures %s, network input %s", flow.name, begins, pictures, sees)

    def _report(self, flow: Flow, *, last: bool = False) -> None:
        now = time.monotonic()
        if self.progress and (last or now - flow.reported >= SECONDS_BETWEEN_PROGRESS):
            flow.reported = now
            self.progress(flow.name, flow.num_written, flow.num_expected)

    # Who runs when, and who learns of whose end.

    def _start_waiting(self) -> None:
        """Starts whose turn it is; lock held."""
        if self._began is None:
            return
        while self._waiting and (self._waiting[0].live or sum(not flow.live for flow in self._running) < self.parallel):
            flow = self._waiting.popleft()
            flow.began = time.monotonic()
            flow.reading = True
            self._running.append(flow)
            self._junction.add(flow.lane)
            self._threads.start(f"read {flow.name}", partial(self._read, flow), at_end=partial(self._end_of_read, flow))
            self._threads.start(
                f"write {flow.name}", partial(self._write, flow), at_end=partial(self._end_of_stream, flow)
            )
        if self._closed and not self._waiting:
            self._junction.close()
            if not self._running and self._ended is None:
                self._ended = time.monotonic()
                self._finished.close()

    def _end_of_read(self, flow: Flow, failure: Failure | None) -> None:
        flow.end_reading(failure)
        with self._changed:
            self._changed.notify_all()

    def _end_of_stream(self, flow: Flow, failure: Failure | None) -> None:
        with self._changed:
            flow.end(failure)
            if flow.failure and flow.failure.error is not flow.removed:
                self._failed.append(flow)
            self._running.remove(flow)
            self._start_waiting()
            self._changed.notify_all()

    def _end_of_engine(self, failure: Failure | None) -> None:
        with self._lock:
            if failure:
                self._closed = True
                self._waiting.clear()
            self._junction.close(failure)
            self._start_waiting()

    def _stop(self, reason: str, *, discard: bool) -> None:
        with self._lock:
            self._closed = True
            if self._running:
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
        return next((f"{said(failure.error)} (thread '{failure.thread}')" for failure in self._failures()), None)

    def _failures(self) -> list[Failure]:
        """What went wrong in the threads; that a stream was removed is nothing wrong."""
        return [
            failure
            for failure in self._threads.failures
            if not isinstance(failure.error, Stopped) or failure.error is self._stopped
        ]

    def _exit_code(self) -> int:
        if self._signal:
            return 128 + self._signal
        errors = [failure.error for failure in self._failures()]
        if errors and all(isinstance(error, UsageError) for error in errors):
            return 1 if any(flow.num_written for flow in self._flows.values()) else UsageError.exit_code
        return 1 if errors or self._failed else 0


def _check(streams: Sequence[Stream], *, parallel: int, batch_wait: float, min_score: float | None) -> None:
    for name, number in Tally(stream.name for stream in streams).items():
        if number > 1:
            raise UsageError(f"stream names must differ, got {name!r} {number} times")
    if parallel < 1:
        raise UsageError(f"parallel: expected at least 1, got {parallel}")
    if batch_wait < 0:
        raise UsageError(f"batch_wait: expected 0 seconds or more, got {batch_wait}")
    if min_score is not None and not 0 <= min_score <= 1:
        raise UsageError(f"min_score: expected 0 to 1, got {min_score}")


def _check_positive(**limits: float | None) -> None:
    for name, limit in limits.items():
        if limit is not None and limit <= 0:
            raise UsageError(f"{name}: expected more than 0, got {limit}")
