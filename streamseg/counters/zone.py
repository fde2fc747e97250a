"""Counts who enters and leaves a zone, who is in it now, and says how long each stayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamseg.counters._tracks import PATIENCE, Tracks, checked_patience, confirmed
from streamseg.kept import labelled, reading
from streamseg.places import points_of, shares_inside, zone_of
from streamseg.types import Result, State, Totals

ENTERS, LEAVES = 0.5, 0.3
"""The share of its mask in the zone from which an object has entered, and below which it has left: between the two it
stays what it was, so that nobody on the border comes and goes with the jitter of the mask."""

NAME, VERSION = "counter zone", 1
"""What a kept state is labelled with; a state of another form gets another version."""


@dataclass(frozen=True)
class _Inside:
    """An object in the zone: since when, and what was last seen of it; seconds, pixels."""

    seen_at: float
    entered: float
    class_name: str
    score: float
    point: tuple[float, float]


class Zone:
    """Running totals `{"zones": {name: {class name: {"now": n, "entered": n, "left": n}}}}`, with events for each.

    An object enters with half of its mask, and leaves when less than 0.3 of it are inside; one first seen inside enters
    then. A track that ends inside leaves too, as it was last seen, its event with `"ended": true`: what is there now is
    always entered - left. An event of leaving has the seconds inside as `dwell`. Its point is the foot of the object.
    Confirmed tracks count.

    name · corners: x1, y1, x2, y2, x3, y3, … in shares of the picture, in their order around the zone · classes: which
    objects, None for all · patience: seconds unseen after which a track has ended
    """

    def __init__(
        self, *, name: str, corners: list[float], classes: list[str] | None = None, patience: float = PATIENCE
    ) -> None:
        self._corners = zone_of(corners, name=name)
        self.name = name
        self.classes = classes
        self.patience = checked_patience(patience, who=f"zone {name}")
        self._counts: dict[str, dict[str, int]] = {}
        self._tracks: Tracks[_Inside] = Tracks()

    def update(self, result: Result) -> tuple[Totals, tuple[Mapping[str, Any], ...]]:
        """The totals after this frame, and who entered and left with it."""
        instances, frame = confirmed(result, self.classes), result.frame
        # in a new run the seconds of before mean nothing: who was inside then leaves as it begins
        anew = frame.time if self._tracks.runs_back(frame) else None
        gone = self._tracks.ended(frame, in_sight=instances.track_ids.tolist(), patience=self.patience)
        events = [self._left(track, inside, inside.seen_at, at=anew, ended=True) for track, inside in gone]
        shares = shares_inside(instances, self._corners * (frame.width, frame.height))
        points = points_of(instances, "foot").tolist()
        names, scores = instances.names, instances.scores.tolist()
        for i, track in enumerate(instances.track_ids.tolist()):
            before = self._tracks.get(track)
            if before is None and shares[i] < ENTERS:
                continue
            # of the class as which it entered, whatever it is called by now: each leaves where it was counted
            entered, name = (frame.time, names[i]) if before is None else (before.entered, before.class_name)
            inside = _Inside(frame.time, entered, name, scores[i], tuple(points[i]))
            if shares[i] < LEAVES:
                del self._tracks[track]
                events.append(self._left(track, inside, frame.time))
                continue
            self._tracks[track] = inside
            if before is None:
                events.append(self._entered(track, inside))
        return self.totals(), tuple(events)

    def totals(self) -> Totals:
        """The totals so far."""
        return {
            "zones": {
                self.name: {
                    class_name: {"now": counts["entered"] - counts["left"], **counts}
                    for class_name, counts in self._counts.items()
                }
            }
        }

    def state(self) -> State:
        """The totals, and who is inside since when, as plain data."""
        counts = {class_name: dict(counts) for class_name, counts in self._counts.items()}
        return labelled(NAME, version=VERSION, counts=counts, **self._tracks.state())

    def restore(self, state: State) -> None:
        """Go on from the `state()` of another one; UsageError where it is no such state."""
        with reading(state, of=NAME, version=VERSION) as fields:
            counts = {
                str(class_name): {direction: int(numbers[direction]) for direction in ("entered", "left")}
                for class_name, numbers in fields["counts"].items()
            }
            tracks = Tracks.from_state(fields, _inside)
        self._counts, self._tracks = counts, tracks

    def new_run(self) -> None:
        """What follows is of another run: the ids of its tracks mean others, and its clock begins anew."""
        self._tracks.anew = True

    def _entered(self, track: int, inside: _Inside) -> dict[str, Any]:
        self._counts.setdefault(inside.class_name, {"entered": 0, "left": 0})["entered"] += 1
        return self._event("entered", track, inside, inside.entered)

    def _left(
        self, track: int, inside: _Inside, until: float, *, at: float | None = None, ended: bool = False
    ) -> dict[str, Any]:
        """Counts one that left: its event, at the time `at` if that is another one than the end of its stay."""
        self._counts[inside.class_name]["left"] += 1
        event = self._event("left", track, inside, until if at is None else at)
        return event | {"dwell": round(until - inside.entered, 6)} | ({"ended": True} if ended else {})

    def _event(self, direction: str, track: int, inside: _Inside, time: float) -> dict[str, Any]:
        return {
            "event": "zone",
            "name": self.name,
            "direction": direction,
            "time": round(time, 6),
            "track": track,
            "class": inside.class_name,
            "score": round(inside.score, 4),
            "point": [round(value, 1) for value in inside.point],
        }


def _inside(plain: Sequence[Any]) -> _Inside:
    """An object in the zone as it was written down; TypeError or ValueError where that is damaged."""
    seen_at, entered, class_name, score, (x, y) = plain
    return _Inside(float(seen_at), float(entered), str(class_name), float(score), (float(x), float(y)))
