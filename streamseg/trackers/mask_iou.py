"""Follows every object from picture to picture by its mask, its box and its looks, so that it keeps its id and colour.

T tracks, N detections of one picture, K pairs of them, L numbers of a look.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from streamseg import masks
from streamseg.kept import labelled, packed, reading, unpacked
from streamseg.trackers._looks import looks_in
from streamseg.trackers._objects import covered, distinct
from streamseg.trackers._pairing import assign, load, nearness, overlap, strangeness, with_looks
from streamseg.trackers._scene_cuts import SceneCuts
from streamseg.trackers._tracks import Tracks, at_edge
from streamseg.types import Frame, Instances, State, UsageError

WEAKEST = 0.05
"""Engines return detections from this score up."""

HIDDEN = 0.2
"""Share of a box that another one may cover, and how the object looks is still learnt from it."""

GAP = 1.5
"""Seconds between two looks after which the earlier one says little about the later: no motion is carried on for
longer, and nothing new can be expected to have been seen before."""

NAME, VERSION = "tracker mask_iou", 2
"""What a kept state is labelled with; a state of another form gets another version."""

ARRAYS = ("boxes", "masks", "scores", "class_ids", "track_ids")
"""The fields of Instances with a row for every object."""

ROUNDING = 0.002
"""Seconds by which the times of frames may be off: mkv keeps them to a millisecond."""


class MaskIou:
    """Gives objects their identities: `update(frame, instances)` returns the objects to draw and to count.

    A frame that the engine passed over comes with None for its instances: what the last look showed is carried over it,
    moved as it is expected to have moved. Such a frame teaches nothing, so identities do not depend on how many of them
    lie between two looks: only looks find, miss, confirm and end tracks. A cut ends them in any frame.

    min_score: what a detection needs to start or firmly continue a track; None: 0.5 (`run` fills in the model's own).
    Weaker ones, from 0.05, may only continue a track: for as long as confident ones have before, and a second at most.
    Then it ends, for what is never seen firmly again was not there.
    hold: seconds since it was seen for which a confirmed track that a look missed is still drawn and counted, its last
    mask moved on.
    refind: seconds since it was seen for which a track that is missed may be found again under its id.
    max_missed: looks in a row without it after which a track ends, even within `refind`; None: no such limit.
    min_hits: confident detections that confirm a track, with at most one look without it between two of them.

    What comes back is sorted by track id, so that what is drawn on top does not flicker. Ids are int32, from 1, in the
    order in which tracks are confirmed; none is used twice in a stream. A moved box may reach out of the picture.

    Tracks never change class. A track that is not yet confirmed has id -1. It is drawn when its score is at least
    halfway from `min_score` to 1, or when nothing could have confirmed it before (first look, after a cut or a gap);
    otherwise it has to be confirmed first, so that noise does not blink. In the first look at a stream or scene such
    a high score confirms at once, a lower one at the second hit.

    Who is who is told by where objects are expected and by the colours under their masks. A box that is loose, or shows
    only a part, is returned as the whole object is expected, with its mask where it was.

    Time is the frames' own, in seconds, so a variable frame rate does not matter. All tracks end at a hard cut, and
    where the pictures get another size, as those of a camera do that changes from day to night.
    Objects that already carry track ids (a replay) are passed on unchanged, with everything after them, and stay where
    they are over a frame that was passed over.
    """

    def __init__(
        self,
        *,
        min_score: float | None = None,
        hold: float = 0.3,
        refind: float = 1.5,
        max_missed: int | None = None,
        min_hits: int = 3,
    ) -> None:
        self.min_score = _in_range("min_score", 0.5 if min_score is None else min_score, least=0, most=1)
        self.hold = _in_range("hold", hold, least=0)
        self.refind = _in_range("refind", refind, least=hold)
        self.max_missed = math.inf if max_missed is None else _in_range("max_missed", max_missed, least=0)
        self.min_hits = int(_in_range("min_hits", min_hits, least=1))
        self.high_score = (1 + self.min_score) / 2
        self._tracks: Tracks | None = None
        self._cuts = SceneCuts()
        self._time = 0.0  # of the last frame
        self._looked_at = 0.0  # the time of the last frame that came with instances
        self._size = (0, 0)
        self._next_id = 1
        self._class_names: tuple[str, ...] = ("background",)
        self._given: Instances | None = None  # the last objects, where they came with track ids of their own

    def load(self) -> None:
        """Load what takes time to load; without it, the second frame waits for that."""
        load()

    @property
    def num_tracks(self) -> int:
        """How many tracks are alive, confirmed or not, in sight or not."""
        return 0 if self._tracks is None else len(self._tracks)

    def update(self, frame: Frame, instances: Instances | None) -> Instances:
        """The objects of this frame with their identities; called for every frame of one stream in turn.

        instances: what the engine found, None where it passed over this frame. Before its first look there is nothing,
        of the class names ("background",).
        """
        if self._begins_anew(frame):
            self._tracks = None
            self._given = None if self._given is None else self._given[:0]
        if instances is None:
            return self._carried(frame)
        class_names = tuple(instances.class_names)
        if class_names != self._class_names:  # another model, as after a restart: its class ids mean others
            self._tracks, self._class_names = None, class_names
        if self._given is not None or np.any(instances.track_ids >= 0):
            self._given = instances
            return instances
        return self._followed(frame, instances)

    def state(self) -> State:
        """What the frames so far have taught, as plain data; without the options."""
        given = self._given
        return labelled(
            NAME,
            version=VERSION,
            tracks=None if self._tracks is None else self._tracks.state(),
            cuts=self._cuts.state(),
            time=self._time,
            looked_at=self._looked_at,
            size=list(self._size),
            next_id=self._next_id,
            class_names=list(self._class_names),
            given=None if given is None else {name: packed(getattr(given, name)) for name in ARRAYS},
        )

    def restore(self, state: State) -> None:
        """Go on from the `state()` of another one; UsageError where it is no such state."""
        with reading(state, of=NAME, version=VERSION) as fields:
            tracks = None if fields["tracks"] is None else Tracks.from_state(fields["tracks"])
            cuts = SceneCuts.from_state(fields["cuts"])
            time, looked_at = float(fields["time"]), float(fields["looked_at"])
            width, height = (int(side) for side in fields["size"])
            next_id = int(fields["next_id"])
            class_names = tuple(str(name) for name in fields["class_names"])
            given = None
            if fields["given"] is not None:
                arrays = {name: unpacked(fields["given"][name]) for name in ARRAYS}
                given = Instances(**arrays, class_names=class_names)
        self._tracks, self._cuts, self._time, self._looked_at = tracks, cuts, time, looked_at
        self._size, self._next_id, self._class_names, self._given = (width, height), next_id, class_names, given

    def _begins_anew(self, frame: Frame) -> bool:
        """Whether what was seen before says nothing about this one: a cut, a step back in time, another size."""
        cut = self._cuts.is_cut(frame)
        seconds, self._time = frame.time - self._time, frame.time
        before, self._size = self._size, (frame.width, frame.height)
        return cut or seconds < 0 or self._size != before

    def _carried(self, frame: Frame) -> Instances:
        """The objects of the last look as they are expected in this frame; nothing is learnt or forgotten."""
        if self._given is not None:
            return self._given
        if self._tracks is None:
            return Instances.empty(self._class_names)
        tracks = self._tracks.moved(min(frame.time - self._looked_at, GAP))
        return self._drawn(tracks[~tracks.outside(frame.width, frame.height)], frame)

    def _followed(self, frame: Frame, instances: Instances) -> Instances:
        """The objects of a frame that the engine looked at, joined to the tracks so far."""
        detections = instances[instances.scores >= min(WEAKEST, self.min_score)]
        # so that a run and one over what it has recorded are the same, pixel for pixel
        detections = replace(detections, masks=masks.as_recorded(detections.masks))
        detections = distinct(detections, min_score=self.min_score)
        detections, self._tracks = _of_one_side(detections, self._tracks)
        seconds, self._looked_at = frame.time - self._looked_at, frame.time
        tracks = self._tracks if self._fits(detections) else None
        anew = tracks is None
        if tracks is None:
            tracks = Tracks.begin(detections[:0], time=frame.time)
        out_of_nothing = anew or seconds > GAP
        tracks = tracks[(tracks.missed == 0) | self._may_be_found(tracks, frame)]

        tracks.predict(min(seconds, GAP))
        looks = looks_in(frame, detections)
        looks[at_edge(detections.boxes, *self._size)] = 0  # halves of a part are not those of the whole
        left = self._joined(tracks, detections, looks, time=frame.time, seconds=seconds)
        found = detections[left]
        hits = np.full(len(found), max(1, self.min_hits - 1) if out_of_nothing else 1)
        if anew:
            hits[found.scores >= self.high_score] = self.min_hits
        tracks = tracks.joined(Tracks.begin(found, time=frame.time, hits=hits, looks=looks[left]))

        self._confirm(tracks)
        tracks = tracks[self._alive(tracks, frame)]
        tracks.shown |= (tracks.ids > 0) | (tracks.scores >= self.high_score) | out_of_nothing
        self._tracks = tracks
        return self._drawn(tracks, frame)

    def _joined(
        self, tracks: Tracks, detections: Instances, looks: np.ndarray, *, time: float, seconds: float
    ) -> np.ndarray:
        """Teach the tracks by the detections that are theirs; the confident ones that are nobody's yet, (N,) bool.

        looks (N, L): of the detections · seconds: since the look before
        """
        left = detections.scores >= self.min_score
        rows, columns = self._match(tracks, detections, looks, time=time)
        tracks.observe(rows, detections[columns], time=time, confident=left[columns], picture=self._size)
        alone = covered(detections.boxes)[columns] < HIDDEN
        tracks.remember(rows[alone], looks[columns[alone]], seconds=seconds)
        left[columns] = False
        return left

    def _fits(self, detections: Instances) -> bool:
        """Whether the detections' masks can be compared with the tracks' (another engine may use another size)."""
        return self._tracks is None or self._tracks.masks.shape[1:] == detections.masks.shape[1:]

    def _match(
        self, tracks: Tracks, detections: Instances, looks: np.ndarray, *, time: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which track goes with which detection: rows (K,) of tracks, columns (K,) of detections."""
        rows, columns = np.zeros(0, np.int64), np.zeros(0, np.int64)
        if not len(tracks) or not len(detections):
            return rows, columns
        confirmed, unseen = tracks.ids > 0, time - tracks.seen_at
        carried = ((tracks.missed == 0) | (unseen <= self.hold)) & (tracks.trust > 0)
        may_come_back = (tracks.missed == 0) | (confirmed & ~tracks.leaving(*self._size))
        confident = detections.scores >= self.min_score
        sure, strange = self._sure(tracks, detections), strangeness(tracks, looks)
        # Between equals, prefer the track that is sure, and the one seen last: a hidden one must not take the
        # detection of the object in front of it.
        weight = np.where(confirmed, 1.0, 0.9) * (1 - 0.3 * np.clip(unseen / max(self.refind, 1e-9), 0, 1))
        by_place = overlap(tracks, detections, firm=sure & confident)
        # After an occlusion, and for small fast objects, detection and prediction lie beside each other.
        by_nearness = nearness(tracks, detections) * sure

        for candidates, wanted, similarity in (
            (np.ones(len(tracks), bool), confident, by_place),
            (carried, ~confident, by_place),
            (may_come_back, confident, by_nearness),
        ):
            candidates, wanted = candidates.copy(), wanted.copy()
            candidates[rows] = False
            wanted[columns] = False
            r, c = np.flatnonzero(candidates), np.flatnonzero(wanted)
            if len(r) and len(c):
                chosen = np.ix_(r, c)
                pairs_r, pairs_c = assign(with_looks(similarity[chosen], strange[chosen]) * weight[r, None])
                rows, columns = np.append(rows, r[pairs_r]), np.append(columns, c[pairs_c])
        return rows, columns

    def _sure(self, tracks: Tracks, detections: Instances) -> np.ndarray:
        """Pairs (T, N) of which the track is confirmed, or both have a high score."""
        high = (tracks.scores >= self.high_score)[:, None] & (detections.scores >= self.high_score)
        return (tracks.ids > 0)[:, None] | high

    def _confirm(self, tracks: Tracks) -> None:
        new = np.flatnonzero((tracks.ids < 0) & (tracks.hits >= self.min_hits))
        tracks.ids[new] = np.arange(self._next_id, self._next_id + len(new))
        self._next_id += len(new)

    def _alive(self, tracks: Tracks, frame: Frame) -> np.ndarray:
        """Tracks that were seen, or may still be found again, (T,) bool."""
        # What is not confirmed yet may flicker, but not come and go: noise does.
        most_missed = np.where(tracks.ids > 0, self.max_missed, min(1, self.max_missed))
        alive = self._may_be_found(tracks, frame) & (tracks.missed <= most_missed)
        alive &= ~tracks.outside(frame.width, frame.height)
        alive &= tracks.trust > 0
        kept: np.ndarray = alive | (tracks.missed == 0)
        return kept

    def _may_be_found(self, tracks: Tracks, frame: Frame) -> np.ndarray:
        """Tracks that were seen so lately that they may be found again once they are missed, (T,) bool."""
        brief = (tracks.ids < 0) | tracks.leaving(frame.width, frame.height)
        return frame.time - tracks.seen_at <= np.where(brief, self.hold, self.refind) + ROUNDING

    def _drawn(self, tracks: Tracks, frame: Frame) -> Instances:
        seen = (tracks.missed == 0) & tracks.shown
        held = (tracks.ids > 0) & (frame.time - tracks.seen_at <= self.hold + ROUNDING)
        chosen = np.flatnonzero(seen | held)
        # Confirmed ones by id, then the others, the best of them first.
        ids = tracks.ids[chosen]
        chosen = chosen[np.lexsort((-tracks.scores[chosen], np.where(ids > 0, ids, np.iinfo(np.int32).max)))]
        return Instances(
            boxes=tracks.moved_boxes()[chosen],
            masks=tracks.masks[chosen],
            scores=tracks.scores[chosen],
            class_ids=tracks.class_ids[chosen],
            track_ids=tracks.ids[chosen],
            class_names=self._class_names,
        )


def _of_one_side(detections: Instances, tracks: Tracks | None) -> tuple[Instances, Tracks | None]:
    """The same with masks of one side where either is empty: whose that would be, nobody knows who says so."""
    if tracks is not None and not len(detections):
        detections = replace(detections, masks=tracks.masks[:0])
    elif tracks is not None and not len(tracks):
        tracks = replace(tracks, masks=detections.masks[:0])
    return detections, tracks


def _in_range(name: str, value: float, *, least: float, most: float = math.inf) -> float:
    """The value; UsageError unless it lies from `least` to `most`."""
    if not least <= value <= most:
        expected = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
        raise UsageError(f"tracker mask_iou: {name}: expected {expected}, got {value}")
    return value
