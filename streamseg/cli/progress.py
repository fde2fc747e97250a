"""How far a run is: a bar with frames, fps and the time to go on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self, TextIO

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Call it with a stream's name, its frames done and its frames expected (None if unknown), from any thread."""

    def __init__(
        self, *, num_streams: int, quiet: bool = False, stream: TextIO | None = None, unit: str = "frame"
    ) -> None:
        self._stream = stream or sys.stderr
        self._num_streams = num_streams
        self._quiet = quiet
        self._unit = unit
        self._per_second = "fps" if unit == "frame" else f"{unit}s a second"
        self._first: int | None = None
        self._lock = threading.Lock()
        self._done: dict[str, int] = {}
        self._expected: dict[str, int | None] = {}
        self._bar: Any = None
        self._began = self._said_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, name: str, done: int, expected: int | None) -> None:
        if self._quiet:
            return
        with self._lock:
            self._done[name], self._expected[name] = done, expected
            if self._first is None:  # the model is loaded: from here on the pace means something
                self._first, self._began = done, time.monotonic()
            if self._stream.isatty():
                self._move_bar()
            elif time.monotonic() - self._said_at >= SECONDS_BETWEEN_LINES:
                self._said_at = time.monotonic()
                print(self.line(), file=self._stream, flush=True)

    @property
    def total(self) -> int | None:
        """Frames expected of all streams, None while one of them does not know or has not begun."""
        known = list(self._expected.values())
        if len(known) < self._num_streams or None in known:
            return None
        return sum(max(expected or 0, self._done[name]) for name, expected in self._expected.items())

    def line(self) -> str:
        """`1200 of 3000 frames, 43.1 fps, 42 s to go`."""
        done, total = sum(self._done.values()), self.total
        rate = (done - (self._first or 0)) / max(time.monotonic() - self._began, 1e-9)
        pace = f", {rate:.1f} {self._per_second}" if rate else ""
        to_go = f", {(total - done) / rate:.0f} s to go" if total and rate else ""
        return f"{done}{f' of {total}' if total else ''} {self._unit}s{pace}{to_go}"

    def _move_bar(self) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                file=self._stream,
                unit=f" {self._unit}s",
                ncols=_width(),
                leave=False,
                smoothing=0.1,
                total=self.total,
            )
        self._bar.total = self.total
        self._bar.update(sum(self._done.values()) - self._bar.n)


class JobProgress:
    """Call it with what is done, a video's name, its frames done and those expected: a bar for the job, one for it.

    Elsewhere than on a terminal a line now and then.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._lock = threading.Lock()
        self._what = ""
        self._done: dict[str, int] = {}
        self._expected: dict[str, int | None] = {}
        self._first = 0
        self._bars: list[Any] = []
        self._began = self._said_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def __call__(self, what: str, name: str, done: int, expected: int | None) -> None:
        if self._quiet:
            return
        with self._lock:
            if what != self._what:
                self._begin(what)
            if name not in self._done:
                self._first += done
            self._done[name], self._expected[name] = done, expected
            if self._stream.isatty():
                self._move_bars(name)
            elif time.monotonic() - self._said_at >= SECONDS_BETWEEN_LINES:
                self._said_at = time.monotonic()
                print(f"{what}: {self.line()}; {name}: {done} of {expected or 'some'}", file=self._stream, flush=True)

    def line(self) -> str:
        """`1200 of 3000 frames, 43.1 fps, 42 s to go`."""
        done, known = sum(self._done.values()), [each for each in self._expected.values() if each is not None]
        total = sum(known) if len(known) == len(self._expected) else None
        rate = (done - self._first) / max(time.monotonic() - self._began, 1e-9)
        pace = f", {rate:.1f} fps" if rate else ""
        to_go = f", {max(0, total - done) / rate:.0f} s to go" if total and rate else ""
        return f"{done}{f' of {total}' if total else ''} frames{pace}{to_go}"

    def _begin(self, what: str) -> None:
        self._close()
        self._what, self._done, self._expected, self._first = what, {}, {}, 0
        self._began = time.monotonic()

    def _close(self) -> None:
        for bar in reversed(self._bars):
            bar.close()
        self._bars = []

    def _move_bars(self, name: str) -> None:
        from tqdm import tqdm

        if not self._bars:
            common: dict[str, Any] = {"file": self._stream, "ncols": _width(), "leave": False, "smoothing": 0.1}
            self._bars = [tqdm(desc=text, position=place, **common) for place, text in enumerate((self._what, name))]
        known = [each for each in self._expected.values() if each is not None]
        job, video = self._bars
        job.total = sum(known) if len(known) == len(self._expected) else None
        job.update(sum(self._done.values()) - job.n)
        if video.desc.rstrip(": ") != name:
            video.set_description(name, refresh=False)
            video.reset(self._expected[name])
        video.update(self._done[name] - video.n)


class TrainingProgress:
    """Call it with what a training says: the step of the epoch and the losses, or what it reads."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._bar: Any = None
        self._stage: object = None
        self._said_at = time.monotonic() - SECONDS_BETWEEN_LINES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, state: Mapping[str, Any]) -> None:
        if self._quiet:
            return
        if "epoch" in state:
            what, done, total = f"epoch {state['epoch']} of {state['epochs']}", state["step"], state["steps"]
        else:
            what = next(iter(state))
            done, total = state[what], state.get("total")
        losses = ", ".join(f"{name} {value:.3f}" for name, value in (state.get("losses") or {}).items())
        if self._stream.isatty():
            self._move_bar(what, done, total, losses)
        elif done == total or time.monotonic() - self._said_at >= SECONDS_BETWEEN_LINES:
            self._said_at = time.monotonic()
            print(f"{what}: {done} of {total}{f', {losses}' if losses else ''}", file=self._stream, flush=True)

    def _move_bar(self, what: str, done: int, total: int | None, losses: str) -> None:
        from tqdm import tqdm

        if self._bar is None or what != self._stage:
            if self._bar is not None:
                self._bar.close()
            self._stage = what
            self._bar = tqdm(file=self._stream, desc=what, total=total, ncols=_width(), smoothing=0.1)
        self._bar.set_postfix_str(losses, refresh=False)
        self._bar.update(done - self._bar.n)


def _width() -> int:
    """Columns for a bar; a terminal that does not know its size counts as 80, where tqdm would draw nothing."""
    return shutil.get_terminal_size().columns - 1


class _AboveTheBar(logging.Handler):
    """Writes log lines to stderr without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(f"streamseg: {self.format(record)}", file=sys.stderr)


@contextlib.contextmanager
def greetings_hidden() -> Iterator[None]:
    """Around an import of TensorFlow: what its C++ writes to file descriptor 2 then, whatever its settings say."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class _AsJson(logging.Formatter):
    """A log line as one JSON object: time in UTC, level, who says it, and what."""

    def format(self, record: logging.LogRecord) -> str:
        from streamseg.flow.events import utc  # it loads PyAV, which the help does without

        said = {
            "at": utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def tell(text: str) -> None:
    """A line on stderr in the form of the log, also where the log is to be quiet."""
    for handler in logging.getLogger("streamseg").handlers:
        handler.handle(logging.LogRecord("streamseg.cli", logging.INFO, __file__, 0, text, None, None))


def log_to_stderr(*, quiet: bool, verbose: bool, as_json: bool = False) -> None:
    """What the library logs, as lines on stderr: notices normally, everything with `verbose`, errors with `quiet`.

    as_json: each line is an object, for a collector of logs
    """
    logger = logging.getLogger("streamseg")
    logger.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    handler: logging.Handler = _AboveTheBar()
    if as_json:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_AsJson())
    logger.handlers = [handler]
    logger.propagate = False
