"""What all live sources do alike: connect, notice when pictures stop, come back by themselves, tell how they are.

How a connection is made and read is a function of each source, `Connect`; what becomes of it is here, and the table
`OUTCOMES` says what follows from what.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Self

import av

from streamseg import backoff
from streamseg.buffer import Threads
from streamseg.sources._arrival import TIME_BASE, Arrivals
from streamseg.types import Frame, InputError, SourceState, StateName, StreamInfo, UsageError

log = logging.getLogger(__name__)

Event = Literal["picture", "silence", "loss", "refusal"]
"""A whole picture; none for a while; the connection failed or ended; the other end does not let us in."""

STALLED_AFTER = 5.0
"""Seconds without a whole picture."""

# Seconds after which a connection that still gives data, but no whole picture, is given up. The first picture may take
# as long as the camera's keyframes are apart, 8 or 16 s with some.
_PATIENCE_FOR_THE_FIRST = 20.0
_PATIENCE = 10.0

_HOUR = 3600.0
_USUAL_RATE = Fraction(25)


@dataclass(frozen=True)
class Outcome:
    """What follows from an event: the state, and seconds to wait before each further attempt in a row.

    spread: the share by which a wait is longer or shorter, so that many cameras do not come back in one moment
    """

    state: StateName
    waits: tuple[float, ...] = ()
    spread: float = backoff.SPREAD


OUTCOMES: Mapping[Event, Outcome] = {
    "picture": Outcome("live"),
    "silence": Outcome("stalled", backoff.STEPS),
    "loss": Outcome("lost", backoff.STEPS),
    # cameras lock out for half an hour who tries a wrong password a few times
    "refusal": Outcome("refused", (60.0,), spread=0.0),
}
"""The state that each event leads to, from any state; a source begins as `connecting`, and stays what it is, with its
cause, while it tries again."""


class Trouble(Exception):
    """Why a connection is over; cause: in words, without credentials."""

    def __init__(self, event: Event, cause: str) -> None:
        super().__init__(cause)
        self.event, self.cause = event, cause


class Finite(Exception):
    """What was opened has an end: a file, no camera; its text says what."""


@dataclass(frozen=True)
class Arrival:
    """A picture as a connection gives it.

    at: `time.monotonic()` when it came · pts: seconds on the camera's own clock, None where it has none · damaged: see
    `Frame` · rate: pictures a second, as far as is known · pixel_aspect: width of a pixel over its height
    """

    picture: av.VideoFrame
    at: float
    pts: float | None = None
    damaged: bool = False
    rate: Fraction | None = None
    pixel_aspect: Fraction = Fraction(1)


Connect = Callable[[threading.Event], Generator[Arrival | None, None, None]]
"""Opens a connection and gives what comes: pictures, and None now and then while there is none. It ends where the other
end ends it, raises `Trouble`, or `Finite` instead of a first picture; and ends soon once the event is set, however long
the other end is silent."""


@dataclass(frozen=True)
class Timing:
    """Where time and chance come from; tests bring their own.

    wait: for some seconds, less if the event is set
    """

    clock: Callable[[], float] = time.monotonic
    wait: Callable[[threading.Event, float], object] = threading.Event.wait
    chance: random.Random = field(default_factory=random.Random)


class Live:
    """A live source on top of `connect`; goes on for ever, unless interrupted or `attempts` in a row gave no picture.

    called: what messages call its place, without credentials
    """

    live = True

    info: StreamInfo
    on_state: Callable[[SourceState], None] | None = None

    def __init__(
        self,
        connect: Connect,
        *,
        name: str,
        called: str,
        attempts: int | None = None,
        timing: Timing | None = None,
    ) -> None:
        if attempts is not None and attempts < 1:
            raise UsageError(f"attempts: expected 1 or more, or none for no limit, got {attempts}")
        self.name, self.called, self.attempts = name, called, attempts
        self.drops: dict[str, int] = {}
        self.warnings: Counter[str] = Counter()
        self._connect, self._timing = connect, timing or Timing()
        self._stopped = threading.Event()
        self._frames: Generator[Frame, None, None] | None = None
        self._arrivals = Arrivals()
        self._index = self._num_failed = self._num_waits = 0
        self._told_at = self._whole_at = self._timing.clock()
        self.state = SourceState("connecting", since=self._told_at)
        self._telling = threading.RLock()  # around the state and those who hear of it
        self._threads, self._left = Threads(), threading.Event()

    def __enter__(self) -> Self:
        self._frames = self._all()
        self._left.clear()
        self._threads.start(f"watch {self.name}", self._watch, at_end=lambda failure: None)
        return self

    def __exit__(self, *exc: object) -> None:
        self._left.set()
        frames, self._frames = self._frames, None
        if frames is not None:
            frames.close()
            self._threads.wait()

    def __iter__(self) -> Iterator[Frame]:
        if self._frames is None:
            raise RuntimeError("a live source is read inside its `with` block")
        return self._frames

    def interrupt(self) -> None:
        """Lets the iteration end soon, now or when it begins; from any thread."""
        self._stopped.set()

    # Connections, one after the other

    def _all(self) -> Generator[Frame, None, None]:
        if not self._stopped.is_set():
            self._tell()
        while not self._stopped.is_set():
            before = self._index
            event: Event = "loss"
            try:
                yield from self._of_one_connection()
                cause = "the other end closed the connection"
            except Trouble as error:  # not kept: it holds what the connection held
                event, cause = error.event, error.cause
            except Finite as error:
                if self._index == 0:
                    raise InputError(f"{self.called}: {error}") from None
                cause = "the other end says that the stream is over"
            if not self._stopped.is_set():
                self._note(event, cause)
                self._check_limit(failed=self._index == before)
                self._wait(OUTCOMES[event])

    def _of_one_connection(self) -> Iterator[Frame]:
        self._arrivals.reconnected()
        self._whole_at, patience = self._timing.clock(), _PATIENCE_FOR_THE_FIRST
        with closing(self._connect(self._stopped)) as arrivals:
            for arrival in arrivals:
                if self._stopped.is_set():
                    return
                frame = None if arrival is None else self._frame(arrival)
                if frame is not None and not frame.damaged:
                    self._whole_at, patience = self._timing.clock(), _PATIENCE
                    self._note("picture")
                else:
                    self._check_silence(patience)
                self._tell_again()
                if frame is not None:
                    yield frame

    def _frame(self, arrival: Arrival) -> Frame:
        seconds = self._arrivals.time(arrived_at=arrival.at, pts=arrival.pts)
        picture = arrival.picture
        picture.pts, picture.time_base, picture.duration = round(seconds / TIME_BASE), TIME_BASE, 0
        if self._index == 0:
            self.info = self._described(arrival)
        if arrival.damaged:
            self.warnings["pictures damaged on the way"] += 1
        frame = Frame(
            picture=picture,
            index=self._index,
            time=seconds,
            captured_at=arrival.at,
            stream=self.name,
            pixel_aspect=float(arrival.pixel_aspect),
            damaged=arrival.damaged,
        )
        self._index += 1
        return frame

    def _described(self, first: Arrival) -> StreamInfo:
        return StreamInfo(
            name=self.name,
            width=first.picture.width,
            height=first.picture.height,
            time_base=TIME_BASE,
            average_rate=first.rate or _USUAL_RATE,
            pixel_aspect=first.pixel_aspect,
            live=True,
        )

    def _check_silence(self, patience: float) -> None:
        if self._timing.clock() - self._whole_at >= patience:
            raise Trouble("loss", f"data came, but no whole picture in {patience:g} s")
        self._note_silence()

    def _note_silence(self) -> None:
        if self._timing.clock() - self._whole_at >= STALLED_AFTER:
            self._note("silence", f"no whole picture for {STALLED_AFTER:g} s")

    def _watch(self) -> None:
        """Says that a live source is none, in a thread of its own: the reader may hang in a call, or in closing one."""
        seconds = STALLED_AFTER
        while not self._left.wait(seconds):
            with self._telling:
                if self.state.name == "live" and not self._stopped.is_set():
                    self._note_silence()
            left = self._whole_at + STALLED_AFTER - self._timing.clock()  # until the last picture will be that old
            seconds = left if left > 0 else STALLED_AFTER

    def _check_limit(self, *, failed: bool) -> None:
        self._num_failed += failed
        if self.attempts is not None and self._num_failed >= self.attempts:
            times = f"{self.attempts} attempt{'s' if self.attempts > 1 else ''}"
            raise InputError(f"{self.called}: given up after {times}: {self.state.cause}")

    def _wait(self, outcome: Outcome) -> None:
        seconds = outcome.waits[min(self._num_waits, len(outcome.waits) - 1)]
        seconds *= 1 + self._timing.chance.uniform(-outcome.spread, outcome.spread)
        self._num_waits += 1
        self._tell_again()
        self._timing.wait(self._stopped, seconds)

    # How it is

    def _note(self, event: Event, cause: str = "") -> None:
        """Takes on the state that the event leads to, and tells of it where it is another one."""
        with self._telling:
            if event == "picture":
                self._num_failed = self._num_waits = 0
            name, before = OUTCOMES[event].state, self.state
            if (name, cause) == (before.name, before.cause):
                return
            self.state = SourceState(name, cause, before.since if name == before.name else self._timing.clock())
            if name == "live" and before.name != "connecting":
                self.warnings["interruptions"] += 1
            self._tell(new=name != before.name)

    def _tell(self, *, new: bool = True) -> None:
        if new:
            self._log("stream %s: %s%s", self.state.name)
        if self.on_state:
            self.on_state(self.state)

    def _tell_again(self) -> None:
        if self._timing.clock() - self._told_at >= _HOUR:
            hours = (self._timing.clock() - self.state.since) / _HOUR
            self._log("stream %s: still %s%s", f"{self.state.name} after {hours:.0f} h")

    def _log(self, text: str, state: str) -> None:
        self._told_at = self._timing.clock()
        level = logging.INFO if self.state.name in ("connecting", "live") else logging.WARNING
        log.log(level, text, self.name, state, f": {self.state.cause}" if self.state.cause else f" ({self.called})")
