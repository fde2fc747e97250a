"""What the counters of places remember of each track, and when a track has ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np

from streamseg.types import Frame, Instances, Result, UsageError

PATIENCE = 2.0
"""Seconds unseen after which a track has ended: the tracker finds one again for up to 1.5 s, and a look may be late."""


class Seen(Protocol):
    """What is remembered of a track, with the time at which it was last seen."""

    @property
    def seen_at(self) -> float: ...

    __dataclass_fields__: ClassVar[dict[str, Any]]


S = TypeVar("S", bound=Seen)


class Tracks(dict[int, S], Generic[S]):
    """What is remembered of every track that has not ended, by its id.

    time, size: of the last frame, None before the first · anew: the next frame is of another run, whatever its time
    """

    def __init__(self, known: Mapping[int, S] | None = None) -> None:
        super().__init__(known or {})
        self.time: float | None = None
        self.size: tuple[int, int] | None = None
        self.anew = False

    def ended(self, frame: Frame, *, in_sight: Collection[int], patience: float) -> list[tuple[int, S]]:
        """Forgets the tracks that have ended before this frame, and returns them.

        All have in a new run that was given the numbers of an earlier one, where the time steps back, and where the
        picture gets another size. Else those have that are not in sight and were not for longer than
        `patience`; one that is in sight goes on, however far apart the frames are.
        """
        anew = self.runs_back(frame) or self.size not in (None, (frame.width, frame.height))
        self.time, self.size, self.anew = frame.time, (frame.width, frame.height), False
        gone = [
            track
            for track, seen in self.items()
            if anew or (track not in in_sight and frame.time - seen.seen_at > patience)
        ]
        return [(track, self.pop(track)) for track in gone]

    def state(self) -> dict[str, Any]:
        """All of it as plain data, in three fields."""
        known = {str(track): _plain(astuple(seen)) for track, seen in self.items()}
        return {"tracks": known, "time": self.time, "size": None if self.size is None else list(self.size)}

    @classmethod
    def from_state(cls, fields: Mapping[str, Any], read: Callable[[Sequence[Any]], S]) -> Self:
        """The same again; KeyError, TypeError or ValueError where the fields are damaged."""
        tracks = cls({int(track): read(plain) for track, plain in fields["tracks"].items()})
        tracks.time = None if fields["time"] is None else float(fields["time"])
        if fields["size"] is not None:
            width, height = fields["size"]
            tracks.size = int(width), int(height)
        return tracks

    def runs_back(self, frame: Frame) -> bool:
        """Whether the frame is of another clock than those before."""
        return self.time is not None and (self.anew or frame.time < self.time)


def confirmed(result: Result, classes: Collection[str] | None) -> Instances:
    """The objects that count: those of confirmed tracks that are somewhere, of these classes if any are named."""
    instances = result.instances.of(*(classes or ()))
    return instances[(instances.track_ids >= 0) & np.isfinite(instances.boxes).all(axis=1)]


def _plain(values: Sequence[Any]) -> list[Any]:
    """Tuples as lists, as JSON gives them back."""
    return [_plain(value) if isinstance(value, tuple) else value for value in values]


def checked_patience(patience: float, *, who: str) -> float:
    """The patience; UsageError where it is no number of seconds."""
    if not 0 <= patience < float("inf"):
        raise UsageError(f"{who}: patience: expected seconds, 0 or more, got {patience}")
    return patience
