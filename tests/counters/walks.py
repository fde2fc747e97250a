"""Objects that walk as they are told, and what a counter makes of them: for the tests of lines and zones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from streamseg.types import Counter, Frame, Instances, Result

NAMES = ("background", "person", "dog")
WIDTH, HEIGHT = 1280, 720
_PICTURES = {(WIDTH, HEIGHT): av.VideoFrame(WIDTH, HEIGHT, "gray")}


@dataclass(frozen=True)
class Walk:
    """One object: its box (F, 4) at each of the frames (F,) in which it is seen.

    expected: the events that it makes, as (direction, earliest, latest) in seconds
    """

    frames: np.ndarray
    boxes: np.ndarray
    expected: Sequence[tuple[str, float, float]] = ()
    unconfirmed: int = 0  # of its first frames
    class_id: int = 1


def result(
    time: float,
    boxes: Sequence[Sequence[float]] | np.ndarray = (),
    *,
    tracks: Sequence[int] | np.ndarray | None = None,
    class_ids: Sequence[int] | np.ndarray | None = None,
    masks: np.ndarray | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Result:
    """A frame at this time with these boxes: people with tracks 1, 2, … and full masks, unless told otherwise."""
    num = len(boxes)
    instances = Instances(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        masks=np.ones((num, 28, 28), np.float32) if masks is None else masks,
        scores=np.full(num, 0.9, np.float32),
        class_ids=np.array([1] * num if class_ids is None else class_ids, np.int32),
        track_ids=np.array(range(1, num + 1) if tracks is None else tracks, np.int32),
        class_names=NAMES,
    )
    if size not in _PICTURES:
        _PICTURES[size] = av.VideoFrame(*size, "gray")
    return Result(Frame(_PICTURES[size], 0, float(time), 0.0, "street"), instances)


def played(walks: Sequence[Walk], times: np.ndarray, *, cells: int = 28) -> Iterable[Result]:
    """The results of frames at these times (F,) in which walk n is track n + 1."""
    frames = np.concatenate([walk.frames for walk in walks])
    boxes = np.concatenate([walk.boxes for walk in walks])
    who = np.repeat(np.arange(len(walks)), [len(walk.frames) for walk in walks])
    nth = np.concatenate([np.arange(len(walk.frames)) for walk in walks])
    early = np.array([walk.unconfirmed for walk in walks])[who] > nth
    classes = np.array([walk.class_id for walk in walks])[who]
    order = np.lexsort((who, frames))
    starts = np.searchsorted(frames[order], np.arange(len(times) + 1))
    for i, time in enumerate(times):
        here = order[starts[i] : starts[i + 1]]
        tracks = np.where(early[here], -1, who[here] + 1)
        masks = np.ones((len(here), cells, cells), np.float32)
        yield result(time, boxes[here], tracks=tracks, class_ids=classes[here], masks=masks)


@dataclass
class Counted:
    """What a counter said of a clip: its last totals and all events."""

    totals: Mapping[str, Any] = field(default_factory=dict)
    events: list[Mapping[str, Any]] = field(default_factory=list)

    def of(self, track: int) -> list[Mapping[str, Any]]:
        return [event for event in self.events if event["track"] == track]


def counted(counter: Counter, results: Iterable[Result]) -> Counted:
    said = Counted()
    for each in results:
        said.totals, events = counter.update(each)
        said.events += events
    return said


def check(walks: Sequence[Walk], said: Counted) -> None:
    """Every walk made exactly the events that it is known to make, in their order and at their times."""
    by_track: dict[int, list[Mapping[str, Any]]] = {}
    for event in said.events:
        by_track.setdefault(event["track"], []).append(event)
    for track, walk in enumerate(walks, start=1):
        events = sorted(by_track.get(track, []), key=lambda event: event["time"])
        directions = [event["direction"] for event in events]
        assert directions == [direction for direction, *_ in walk.expected], (track, events, walk.expected)
        for event, (_, earliest, latest) in zip(events, walk.expected, strict=True):
            assert earliest <= event["time"] <= latest, (track, event, walk.expected)
