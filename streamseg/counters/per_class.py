"""Counts how many objects of each class were seen in a stream, each once however long it stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from streamseg.kept import labelled, reading
from streamseg.types import Result, State, Totals

NAME, VERSION = "counter per_class", 1
"""What a kept state is labelled with; a state of another form gets another version."""


class PerClass:
    """Running totals `{"objects": {class name: confirmed tracks}}`, classes in the order of their first appearance.

    A track is counted once, in the frame where it is confirmed (`track_ids` at least 0). In a new run that was given
    the numbers of an earlier one, and where time steps back, the ids of tracks mean others. It makes no events.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._counted = _Numbers()
        self._time: float | None = None  # of the last frame

    def update(self, result: Result) -> tuple[Totals, tuple[Mapping[str, Any], ...]]:
        """The totals after this frame, and no events."""
        instances, time = result.instances, result.frame.time
        if self._time is not None and time < self._time:
            self._counted = _Numbers()
        self._time = time
        for track_id, name in zip(instances.track_ids.tolist(), instances.names, strict=True):
            if track_id >= 0 and self._counted.add(track_id):
                self._counts[name] = self._counts.get(name, 0) + 1
        return self.totals(), ()

    def totals(self) -> Totals:
        """The totals so far."""
        return {"objects": dict(self._counts)}

    def state(self) -> State:
        """The totals and which tracks are in them, as plain data."""
        return labelled(
            NAME, version=VERSION, objects=dict(self._counts), counted=self._counted.state(), time=self._time
        )

    def restore(self, state: State) -> None:
        """Go on from the `state()` of another one; UsageError where it is no such state."""
        with reading(state, of=NAME, version=VERSION) as fields:
            counts = {str(name): int(number) for name, number in fields["objects"].items()}
            counted = _Numbers.from_state(fields["counted"])
            time = None if fields["time"] is None else float(fields["time"])
        self._counts, self._counted, self._time = counts, counted, time

    def new_run(self) -> None:
        """What follows is of another run: the ids of its tracks mean others."""
        self._counted, self._time = _Numbers(), None


class _Numbers:
    """A set of whole numbers from 0 that stays small when they come about in order, as track ids do for months."""

    def __init__(self) -> None:
        self._below = 1  # 1 to `_below` - 1 are in the set; ids start at 1, and a stray 0 goes among the others
        self._others: set[int] = set()

    def state(self) -> State:
        """The numbers as plain data."""
        return {"below": self._below, "others": sorted(self._others)}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same numbers again; KeyError, TypeError or ValueError where the state is damaged."""
        numbers = cls()
        numbers._below, numbers._others = int(state["below"]), {int(number) for number in state["others"]}
        return numbers

    def __len__(self) -> int:
        """How many numbers are held one by one."""
        return len(self._others)

    def add(self, number: int) -> bool:
        """Take the number in; False if it was there already."""
        if 0 < number < self._below or number in self._others:
            return False
        self._others.add(number)
        while self._below in self._others:
            self._others.remove(self._below)
            self._below += 1
        return True
