"""Remembers the numbers of a day, a point every five seconds, for the chart of the page."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

SECONDS = 5.0
POINTS = 17_280  # of 5 s: a day
MOST_POINTS = 1_000  # of one answer; a chart is no wider
MOST_COLUMNS = 100  # 69 kB each; a counter of one's own may name as many things as it likes

Column = tuple[str, str]
"""`now`, `lines` or `zones`, and what is counted there: ("lines", "gate in")."""


class History:
    """The running numbers of one stream over time, in a ring of fixed size: the oldest point makes room. For one thread
    that adds and any that ask.

    Of what was not known yet at a time, the number there is 0.
    """

    def __init__(self, *, points: int = POINTS) -> None:
        self._times = np.zeros(points)  # unix seconds
        self._columns: dict[Column, np.ndarray] = {}  # (points,) int64 each
        self._num = 0
        self._lock = threading.Lock()

    def due(self, now: float) -> bool:
        """Whether it is time for the next point, `now` in unix seconds; a clock that was set back starts anew."""
        return self._num == 0 or not 0 <= now - self._last < SECONDS

    @property
    def _last(self) -> float:
        return float(self._times[(self._num - 1) % len(self._times)])

    def add(self, now: float, numbers: Mapping[Column, int]) -> None:
        """One point more."""
        with self._lock:
            if self._num and now < self._last:
                self._num = 0
            at = self._num % len(self._times)
            self._times[at] = now
            for column in numbers.keys() - self._columns.keys():
                if len(self._columns) < MOST_COLUMNS:
                    self._columns[column] = np.zeros(len(self._times), np.int64)
            for column, values in self._columns.items():
                values[at] = numbers.get(column, 0)
            self._num += 1

    def since(self, began: float) -> dict[str, Any]:
        """The points after `began` as `/api/history` answers, thinned to a thousand; null where nothing was seen."""
        with self._lock:
            size = min(self._num, len(self._times))
            order = np.arange(self._num - size, self._num) % len(self._times)
            order = order[self._times[order] > began]
            step = -(-len(order) // MOST_POINTS) or 1
            order = order[::-1][::step][::-1]  # the newest point is always among them
            times = self._times[order]
            columns = {column: values[order] for column, values in self._columns.items()}
        gaps = np.flatnonzero(np.diff(times) > 3 * SECONDS * step) + 1
        answer: dict[str, Any] = {"now": {}, "lines": {}, "zones": {}}
        answer["time"] = _with(times, gaps, times[gaps - 1] + SECONDS)
        for (kind, name), values in sorted(columns.items()):
            answer[kind][name] = _with(values, gaps, None)
        return answer


def _with(values: np.ndarray, gaps: np.ndarray, between: Any) -> list[Any]:
    """The values (N,) as a list, with `between` put in before each of the gaps."""
    return list(np.insert(values.astype(object), gaps, between))
