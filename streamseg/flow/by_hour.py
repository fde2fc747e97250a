"""What a stream counted in each hour and on each local day, for charts and spreadsheets."""

from __future__ import annotations

import csv
import io
import threading
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any, Literal

from streamseg.flow.events import wall_time
from streamseg.kept import labelled, reading
from streamseg.types import Result, SourceState, State, StreamInfo, Totals

NAME, VERSION = "by_hour", 1
"""What a kept state is labelled with; a state of another form gets another version."""

HOURS = 400 * 24
"""Hours that are remembered, the newest of those in which anything was counted: more than a year."""

NAMED = ("lines",), ("zones",)
"""Where the keys are names that somebody gave, even `now`."""

Every = Literal["hour", "day"]


class ByHour:
    """Adds up by the hour of the clock what the running totals of a stream grow by, whatever its counters count.

    A number that fell, as when counting began anew, adds what it is now. How many are somewhere `now` is no sum and is
    left out. Hours are those of the local clock, so that days end at midnight there.

    zone: of the clock, None for the machine's own
    """

    def __init__(self, *, zone: tzinfo | None = None, hours: int = HOURS) -> None:
        self.zone, self.hours = zone, hours
        self._before: dict[str, int] = {}
        self._counts: dict[int, Tally[str]] = {}  # by the unix seconds at which the hour begins

    def add(self, at: float, totals: Totals) -> None:
        """The totals at this time, in unix seconds; called with every frame, or whenever anything was counted."""
        now = dict(_columns(totals))
        grown = {column: number - self._lasting(column, number) for column, number in now.items()}
        self._before.update(now)
        if any(grown.values()):
            hour = int(self._begin_of_hour(at).timestamp())
            self._counts.setdefault(hour, Tally()).update(
                {column: number for column, number in grown.items() if number}
            )
            while len(self._counts) > self.hours:
                del self._counts[min(self._counts)]

    def rows(self, every: Every = "hour") -> list[dict[str, Any]]:
        """A row for every hour or day from the first to the last in which anything was counted: `begins` and numbers.

        `begins` is the local time with its offset from UTC, or the date; the numbers are named like `objects person`,
        `lines gate person in`, and each row has all of them.
        """
        columns = dict.fromkeys(column for hour in sorted(self._counts) for column in self._counts[hour])
        rows: dict[str, dict[str, Any]] = {}
        for hour in self._every_hour():
            begin = datetime.fromtimestamp(hour, self.zone).astimezone(self.zone)
            begins = begin.isoformat(timespec="minutes") if every == "hour" else begin.date().isoformat()
            row = rows.setdefault(begins, {"begins": begins, **dict.fromkeys(columns, 0)})
            for column, number in self._counts.get(hour, {}).items():
                row[column] += number
        return list(rows.values())

    def csv(self, every: Every = "hour") -> str:
        """The rows as a table with a head, empty where nothing was counted."""
        rows = self.rows(every)
        if not rows:
            return ""
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        return text.getvalue()

    def state(self) -> State:
        """The sums of every hour, and the totals so far, as plain data."""
        hours = {str(hour): dict(counts) for hour, counts in self._counts.items()}
        return labelled(NAME, version=VERSION, hours=hours, before=dict(self._before))

    def restore(self, state: State) -> None:
        """Go on from the `state()` of another one; UsageError where it is no such state."""
        with reading(state, of=NAME, version=VERSION) as fields:
            counts = {
                int(hour): Tally({str(column): int(number) for column, number in numbers.items()})
                for hour, numbers in fields["hours"].items()
            }
            before = {str(column): int(number) for column, number in fields["before"].items()}
        self._counts, self._before = counts, before

    def begin_from(self, totals: Totals) -> None:
        """What was counted before, at hours that nobody knows: it is no growth."""
        self._before = dict(_columns(totals))

    def _lasting(self, column: str, number: int) -> int:
        """How much of this number was there before."""
        before = self._before.get(column, 0)
        return before if before <= number else 0

    def _begin_of_hour(self, at: float) -> datetime:
        local = datetime.fromtimestamp(at, self.zone).astimezone(self.zone)
        past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return datetime.fromtimestamp(at - past.total_seconds(), self.zone).astimezone(self.zone)

    def _every_hour(self) -> Iterator[int]:
        """The beginnings of all hours from the first to the last one, those without a count too.

        Where the clock was put half an hour on, hours begin at another minute from there. A gap of more hours than are
        remembered, of a clock that was wrong, stays a gap.
        """
        counted = sorted(self._counts)
        yield from counted[:1]
        for before, hour in pairwise(counted):
            if hour - before <= 3600 * self.hours:
                yield from range(before + 3600, hour, 3600)
            yield hour


class Hours:
    """The sums by hour of every live stream, as a listener of its pipeline; may be asked from any thread.

    of: by the stream's name
    """

    def __init__(self, streams: Iterable[str]) -> None:
        self.of = {stream: ByHour() for stream in streams}
        self._live: set[str] = set()
        self._lock = threading.Lock()  # between the stream's thread and whoever asks

    def csv(self, stream: str, every: Every = "hour") -> str:
        """The rows of a stream as a table; empty for one that nobody knows."""
        with self._lock:
            return self.of[stream].csv(every) if stream in self.of else ""

    def on_open(self, stream: str, info: StreamInfo) -> None:
        if info.live:
            with self._lock:
                self.of.setdefault(stream, ByHour())
            self._live.add(stream)

    def on_result(self, result: Result) -> None:
        """Add what was counted, at the time of day of the picture; a file has none."""
        stream = result.frame.stream
        if stream in self._live:
            with self._lock:
                self.of[stream].add(wall_time(result.frame), result.counts)

    def on_state(self, stream: str, state: SourceState) -> None:
        pass

    def on_end(self, stream: str, error: str | None) -> None:
        pass


def _columns(totals: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
    """Every number that can only grow, after the keys that lead to it."""
    if isinstance(totals, Mapping):
        for key, inside in totals.items():
            if key != "now" or path in NAMED:
                yield from _columns(inside, (*path, str(key)))
    elif isinstance(totals, int) and not isinstance(totals, bool):
        yield " ".join(path), totals
