"""Counts who crosses a line, in each direction, and says when and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from streamseg.counters._tracks import PATIENCE, Tracks, checked_patience, confirmed
from streamseg.kept import labelled, reading
from streamseg.places import Point, distances, line_of, on_line, points_of
from streamseg.types import Instances, Result, State, Totals, UsageError
from streamseg.words import nearest

CLEAR = 0.25
"""How far beyond the line an object has crossed it, in heights of its own: more than a box jitters by."""

NAME, VERSION = "counter line", 1
"""What a kept state is labelled with; a state of another form gets another version."""

Step = tuple[float, float, float]
"""Seconds, x and y in pixels of a step over the line."""


@dataclass(frozen=True)
class _Track:
    """One object and the line.

    seen_at in seconds, x, y in pixels: where it was last seen · home: the side that it was last clear on or first seen
    on, 1 for `in`, -1 for `out`, 0 while it has only been on the line · side: the one that it is on · step: how it came
    there, None where that was past the ends of the line
    """

    seen_at: float
    x: float
    y: float
    home: int
    side: int
    step: Step | None


class Line:
    """Running totals `{"lines": {name: {class name: {"in": n, "out": n}}}}`, and an event for each crossing.

    An object has crossed when it was seen on one side, went over the line between its ends, and is clear of it on the
    other side by a quarter of its own height; so jitter, a stop on the line and a turn back count nothing. Time and
    place of the event are those of the step over the line, between two frames. For a line from A to B, `in` is to the
    side where (B - A) × (P - A) is positive: downwards over one drawn from left to right. Confirmed tracks count.

    name · ends: x1, y1, x2, y2 in shares of the picture · classes: which objects, None for all · point: what of an
    object has to cross: its `foot`, the middle of its box's lower side, or the `centre` of its mask · patience: seconds
    unseen after which a track has ended
    """

    def __init__(
        self,
        *,
        name: str,
        ends: list[float],
        classes: list[str] | None = None,
        point: Point = "foot",
        patience: float = PATIENCE,
    ) -> None:
        self._ends = line_of(ends, name=name)
        if point not in get_args(Point):
            raise UsageError(f"line {name}: point: {point!r} is not possible{nearest(point, get_args(Point))}")
        self.name = name
        self.classes = classes
        self.point: Point = point
        self.patience = checked_patience(patience, who=f"line {name}")
        self._counts: dict[str, dict[str, int]] = {}
        self._tracks: Tracks[_Track] = Tracks()

    def update(self, result: Result) -> tuple[Totals, tuple[Mapping[str, Any], ...]]:
        """The totals after this frame, and the crossings that are certain with it."""
        instances, frame = confirmed(result, self.classes), result.frame
        line = self._ends * (frame.width, frame.height)
        points = points_of(instances, self.point)
        away = distances(points, line)
        heights = instances.boxes[:, 3] - instances.boxes[:, 1]
        self._tracks.ended(frame, in_sight=instances.track_ids.tolist(), patience=self.patience)
        events = []
        for i, track in enumerate(instances.track_ids.tolist()):
            here = (frame.time, float(points[i, 0]), float(points[i, 1]))
            now = _moved(self._tracks.get(track), here, int(np.sign(away[i])), line)
            if now.side != now.home and abs(away[i]) >= CLEAR * heights[i]:
                if now.step:
                    events.append(self._crossed(instances, i, now.step, "in" if now.side > 0 else "out"))
                now = replace(now, home=now.side, step=None)
            self._tracks[track] = now
        return self.totals(), tuple(events)

    def totals(self) -> Totals:
        """The totals so far."""
        return {"lines": {self.name: {class_name: dict(counts) for class_name, counts in self._counts.items()}}}

    def state(self) -> State:
        """The totals, and where every track stands, as plain data."""
        return labelled(NAME, version=VERSION, counts=self.totals()["lines"][self.name], **self._tracks.state())

    def restore(self, state: State) -> None:
        """Go on from the `state()` of another one; UsageError where it is no such state."""
        with reading(state, of=NAME, version=VERSION) as fields:
            counts = {
                str(class_name): {direction: int(numbers[direction]) for direction in ("in", "out")}
                for class_name, numbers in fields["counts"].items()
            }
            tracks = Tracks.from_state(fields, _track)
        self._counts, self._tracks = counts, tracks

    def new_run(self) -> None:
        """What follows is of another run: the ids of its tracks mean others, and its clock begins anew."""
        self._tracks.anew = True

    def _crossed(self, instances: Instances, i: int, step: Step, direction: str) -> Mapping[str, Any]:
        """Counts one crossing: its event."""
        class_name = instances.class_names[instances.class_ids[i]]
        self._counts.setdefault(class_name, {"in": 0, "out": 0})[direction] += 1
        return {
            "event": "line",
            "name": self.name,
            "direction": direction,
            "time": round(step[0], 6),
            "track": int(instances.track_ids[i]),
            "class": class_name,
            "score": round(float(instances.scores[i]), 4),
            "point": [round(step[1], 1), round(step[2], 1)],
        }


def _moved(before: _Track | None, here: Step, side: int, line: np.ndarray) -> _Track:
    """What is known of a track after it was seen here, on this side; its last step over the line is remembered."""
    if before is None:
        return _Track(*here, home=side, side=side, step=None)
    side = side or before.side  # on the line it is still where it came from
    step = before.step
    if side != before.side:
        step = _step(before, here, line) if before.side else None
    return _Track(*here, home=before.home or side, side=side, step=step)


def _step(before: _Track, now: Step, line: np.ndarray) -> Step | None:
    """When and where the way from one point to the next led over the line; None where that was past its ends.

    From a stop on the line it is the moment of leaving.
    """
    start, end = np.array([before.x, before.y]), np.array(now[1:])
    behind, ahead = distances(start, line), distances(end, line)
    share = float(behind / (behind - ahead))
    over = start + share * (end - start)
    return (before.seen_at + share * (now[0] - before.seen_at), *over.tolist()) if on_line(over, line) else None


def _track(plain: Sequence[Any]) -> _Track:
    """A track as it was written down; TypeError or ValueError where that is damaged."""
    seen_at, x, y, home, side, step = plain
    over = None if step is None else (float(step[0]), float(step[1]), float(step[2]))
    return _Track(float(seen_at), float(x), float(y), int(home), int(side), over)
