"""Which frames of a video are annotated: all, every Nth, or those nearest to the multiples of some seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from streamseg.types import UsageError

SAME = 1e-9
"""Seconds that times of one tick may differ by, computed in two ways."""


class Timed(Protocol):
    """A frame, or whatever else has a number and a time."""

    @property
    def index(self) -> int: ...
    @property
    def time(self) -> float: ...


T = TypeVar("T", bound=Timed)


@dataclass(frozen=True)
class Moment:
    """A frame that is known by its number and its time alone."""

    index: int
    time: float


@dataclass(frozen=True)
class Selection:
    """every: seconds between the frames, None for all · stride: every Nth of all."""

    every: float | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        if self.every is not None and self.stride != 1:
            raise UsageError("--every and --stride exclude each other")

    def __str__(self) -> str:
        if self.every is not None:
            short = f"{self.every:g}"
            return f"every {short if float(short) == self.every else repr(self.every)} s"
        return "all" if self.stride == 1 else f"1 of {self.stride}"

    def step(self, rate: float) -> float:
        """Seconds from one of them to the next, in a video of so many frames a second."""
        return max(self.every, 1 / rate) if self.every is not None else self.stride / rate

    def of(self, frames: Iterable[T], *, before: float | None = None, after: float | None = None) -> Iterator[T]:
        """The selected ones among frames that follow each other.

        before, after: the times of the frames next to these, None at the beginning and at the end of the video; so a
        part of a video has the same ones selected as the whole.
        """
        sieve: Sieve[T] = Sieve(self, before=before)
        for frame in frames:
            yield from sieve.push(frame)
        yield from sieve.flush(after=after)


class Sieve(Generic[T]):
    """The same, frame by frame: what is selected comes out when the frame behind it is known."""

    def __init__(self, selection: Selection, *, before: float | None = None) -> None:
        self._selection, self._before = selection, before
        self._held: T | None = None

    def push(self, frame: T) -> list[T]:
        """What is selected now: the frame before this one, or this one, or nothing."""
        if self._selection.every is None:
            return [frame] if frame.index % self._selection.stride == 0 else []
        selected = self._judged(frame.time)
        self._held = frame
        return selected

    def flush(self, *, after: float | None = None) -> list[T]:
        """The last frame, if it is selected. after: the time of the frame behind it, None where there is none."""
        return self._judged(after)

    def _judged(self, after: float | None) -> list[T]:
        held, self._held = self._held, None
        if held is None:
            return []
        before, self._before = self._before, held.time
        return [held] if self._is_nearest(held.time, before=before, after=after) else []

    def _is_nearest(self, time: float, *, before: float | None, after: float | None) -> bool:
        """Whether a multiple lies nearer to this frame than to its neighbours; halfway, the earlier frame has it."""
        every = self._selection.every
        assert every is not None
        last = time if after is None else (time + after) / 2
        multiple = math.floor((last + SAME) / every) * every
        return multiple >= 0 and (before is None or multiple > (before + time) / 2 + SAME)
