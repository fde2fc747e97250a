"""What was counted survives a restart: the counters' states in one file, soon after each event and at the end."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from streamseg import kept
from streamseg.buffer import Failure, Threads
from streamseg.flow.by_hour import ByHour
from streamseg.flow.report import merged
from streamseg.sinks._part_file import WriteLock, reason
from streamseg.types import (
    Counter,
    InputError,
    OutputError,
    Result,
    SourceState,
    State,
    StreamInfo,
    Totals,
    UsageError,
)

SECONDS_BETWEEN = 0.5
"""Between two writings, however much happens: so what was counted is on the disk within a second."""

log = logging.getLogger(__name__)


class Keeper:
    """Keeps the states of what counts in each stream in a file; entering gives them back what an earlier run kept.

    A listener of the pipeline: it asks a part for its state in the thread that uses it. One that was not there
    in the earlier run begins with nothing, and what belongs to a stream that is not there now stays in the file. A file
    of another version, or a damaged one, is kept aside, and said so. One run at a time counts in a file.
    """

    def __init__(self, path: str | Path, streams: Mapping[str, Sequence[kept.Stateful]]) -> None:
        self.path = Path(os.path.realpath(path))  # a link would be replaced, and locked beside the file
        if self.path.is_dir():
            raise UsageError(f"{self.path}: expected a file to keep the counts in, got a folder")
        if self.path.exists() and not self.path.is_file():
            raise UsageError(f"{self.path}: expected a file to keep the counts in, got a device")
        self._parts = {stream: dict(_named(parts)) for stream, parts in streams.items()}
        self._states: dict[str, dict[str, State]] = {}
        self._totals: dict[str, Totals] = {}
        self._changed = threading.Condition()
        self._due = self._closed = False
        self._threads = Threads()
        self._failing = False
        self._lock_path = self.path.with_name(f".{self.path.name}.lock")  # the file itself is replaced at each writing
        self._lock = WriteLock(self._lock_path, self.path)

    def __enter__(self) -> Self:
        self._take_lock()
        try:
            self._begin()
        except BaseException:
            self._give_lock_back()
            raise
        return self

    def _begin(self) -> None:
        self._states = self._loaded()
        for stream, parts in self._parts.items():
            back = [part for name, part in parts.items() if self._give_back(stream, name, part)]
            for part in parts.values():
                if isinstance(part, ByHour) and part not in back:
                    part.begin_from(merged(each.totals() for each in back if isinstance(each, Counter)))
        kept.save(self.path, self._states)  # whether it can be is known before the first frame
        self._threads.start(f"keep {self.path.name}", self._write, at_end=_nothing)

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._threads.wait()
        self._give_lock_back()

    def on_open(self, stream: str, info: StreamInfo) -> None:
        pass

    def on_result(self, result: Result) -> None:
        """Take the states over where something was counted."""
        stream = result.frame.stream
        if not result.events and result.counts == self._totals.get(stream):
            return
        self._totals[stream] = result.counts
        self._take(stream)

    def on_state(self, stream: str, state: SourceState) -> None:
        pass

    def on_end(self, stream: str, error: str | None) -> None:
        self._take(stream)

    def _take(self, stream: str) -> None:
        states = {name: part.state() for name, part in self._parts.get(stream, {}).items()}
        with self._changed:
            self._states[stream] = {**self._states.get(stream, {}), **states}
            self._due = True
            self._changed.notify_all()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._closed)
                if not self._due:
                    return
                states, self._due = {stream: dict(each) for stream, each in self._states.items()}, False
            self._save(states)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, SECONDS_BETWEEN)

    def _save(self, states: Mapping[str, Mapping[str, State]]) -> None:
        try:
            kept.save(self.path, states)
        except OutputError as error:
            if not self._failing:
                log.error("%s; counting goes on, and this is tried again", error)
            self._failing = True
            with self._changed:
                self._due = not self._closed
        else:
            self._failing = False

    def _take_lock(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.take(lambda: os.open(self._lock_path, os.O_WRONLY | os.O_CREAT, 0o666))
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {reason(error)}") from error

    def _give_lock_back(self) -> None:
        with suppress(OSError):
            self._lock_path.unlink()
        self._lock.give_back()

    def _loaded(self) -> dict[str, dict[str, State]]:
        if not self.path.exists():
            return {}
        try:
            return {stream: dict(states) for stream, states in kept.load(self.path).items()}
        except (InputError, UsageError) as error:
            self._keep_aside(str(error))
            return {}

    def _give_back(self, stream: str, name: str, part: kept.Stateful) -> bool:
        """Whether there was a state that it could go on from."""
        state = self._states.get(stream, {}).pop(name, None)
        if state is None:
            return False
        try:
            part.restore(state)
        except UsageError as error:
            self._keep_aside(f"{self.path}: {stream}, {name}: {error}")
            return False
        self._states[stream][name] = state
        getattr(part, "new_run", lambda: None)()
        return True

    def _keep_aside(self, why: str) -> None:
        """Copy the file to a name of its own, so that nothing is lost by what is written next."""
        aside = self.path.with_name(f"{self.path.name}.{time.strftime('%Y-%m-%dT%H-%M-%SZ', time.gmtime())}")
        try:
            shutil.copyfile(self.path, aside)
        except OSError as error:
            raise OutputError(f"{why}; it cannot be kept aside as {aside}: {error.strerror}") from error
        log.warning("%s; counted anew, and the old file is kept as %s", why, aside)


def _named(parts: Sequence[kept.Stateful]) -> Iterator[tuple[str, kept.Stateful]]:
    """Each part under its kind and, of a line or a zone, its name."""
    seen: Tally[str] = Tally()
    for part in parts:
        kind, own = type(part).__name__, getattr(part, "name", "")
        name = f"{kind} {own}".strip()
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name} {seen[name]}"), part


def _nothing(failure: Failure | None) -> None:
    if failure:
        log.error("the states of the counters are no longer kept", exc_info=failure.error)
