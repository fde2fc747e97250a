"""What the tracker remembers of every object, and where it expects the object next.

T tracks, K of them that were seen, N detections, M the side of a mask, L numbers of a look.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from streamseg import masks
from streamseg.kept import packed, unpacked
from streamseg.trackers._looks import LENGTH
from streamseg.types import Instances, State

ACCELERATION = 1.0
JITTER = 0.06
FIRST_VELOCITY = 2.0
"""Standard deviations of the Kalman filter in sizes of the object (mean of width and height): change of velocity
within a second, error of a detection's centre, velocity of something just found. A walking person moves by about 1.2
sizes a second; boxes of the embedded model are off by 6 % (`vtest.avi`)."""

MEMORY = 2.0
"""Seconds in which the memory of an object's full extent, and that of how it looked, fades to a third."""

GROWTH = 0.5
"""Seconds in which an object that is seen larger than before is believed to be so, two thirds of it: a box that takes
in a neighbour is gone sooner."""

SETTLED = 3
"""Confident detections from which on the extent of an object is known so well that a larger box is doubted."""

LOOSE = 0.85
"""IoU with the expected box below which a detected one is taken to be loose, or of a part: ordinary jitter, 4 % of
the size on each side, leaves about that."""

PATIENCE = 1.0
FIRST_TRUST = 0.1
"""Seconds for which weak detections alone may carry an object: as many as confident ones did before, PATIENCE at most,
and FIRST_TRUST, a single look, where it has just been found. A person's score dips for some tenths of a second where
something hides half of him; false alarms, on scenery that looks like a person, waver about `min_score` for minutes."""

OUTWARDS = 0.2
"""Velocity, in sizes a second, from which an object at an edge of the picture is taken to leave it."""


@dataclass
class Tracks:
    """What is known of T objects; arrays of one row a track.

    centre, velocity: (T, 2) float64 x, y of the whole object, in pixels and pixels a second ·
    var_centre, covariance, var_velocity: (T, 2), the Kalman filter's uncertainty, x and y each on its own ·
    extent: (T, 2) width and height of the whole object, also while something hides a part of it ·
    seen_centre: (T, 2) `centre` when it was last seen · boxes (T, 4), masks (T, M, M), scores, class_ids: the last
    detection, its box trimmed to what was expected · ids: from 1, -1 before the track is confirmed · hits: confident
    detections · missed: looks in a row without it · seen_at: seconds · trust: seconds for which weak detections may
    still carry it · looks (T, L): how it looks where nobody hides it, all 0 where that is unknown · shown: it has been
    drawn
    """

    centre: np.ndarray
    velocity: np.ndarray
    var_centre: np.ndarray
    covariance: np.ndarray
    var_velocity: np.ndarray
    extent: np.ndarray
    seen_centre: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    ids: np.ndarray
    hits: np.ndarray
    missed: np.ndarray
    seen_at: np.ndarray
    trust: np.ndarray
    looks: np.ndarray
    shown: np.ndarray

    @classmethod
    def begin(
        cls, detections: Instances, *, time: float, hits: np.ndarray | None = None, looks: np.ndarray | None = None
    ) -> Self:
        """A new, unconfirmed track for every detection; `hits` (N,) to start from, None: 1 · looks (N, L)."""
        n = len(detections)
        centre, extent = centre_and_extent(detections.boxes)
        size = extent.mean(axis=1, keepdims=True)
        return cls(
            centre=centre,
            velocity=np.zeros((n, 2)),
            var_centre=np.repeat((JITTER * size) ** 2, 2, axis=1),
            covariance=np.zeros((n, 2)),
            var_velocity=np.repeat((FIRST_VELOCITY * size) ** 2, 2, axis=1),
            extent=extent,
            seen_centre=centre.copy(),
            boxes=detections.boxes.copy(),
            masks=detections.masks.copy(),
            scores=detections.scores.copy(),
            class_ids=detections.class_ids.copy(),
            ids=np.full(n, -1, np.int32),
            hits=np.ones(n, np.int64) if hits is None else np.array(hits, np.int64),
            missed=np.zeros(n, np.int64),
            seen_at=np.full(n, time, np.float64),
            trust=np.full(n, FIRST_TRUST),
            looks=np.zeros((n, LENGTH), np.float32) if looks is None else looks.copy(),
            shown=np.zeros(n, bool),
        )

    def state(self) -> State:
        """The arrays, packed as plain data."""
        return {f.name: packed(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The same tracks again; KeyError, TypeError or ValueError where the state is damaged."""
        tracks = cls(**{f.name: unpacked(state[f.name]) for f in fields(cls)})
        like = cls.begin(Instances.empty(("background",)), time=0.0)
        for f in fields(cls):
            array, model = getattr(tracks, f.name), getattr(like, f.name)
            columns = tracks.masks.shape[1:] if f.name == "masks" else model.shape[1:]
            expected = (len(tracks), *columns)
            if array.dtype != model.dtype or array.ndim != model.ndim or array.shape != expected:
                raise ValueError(f"{f.name}: expected {expected} of {model.dtype}, got {array.shape} of {array.dtype}")
        return tracks

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: np.ndarray) -> Self:
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def joined(self, other: Tracks) -> Self:
        """These tracks and then the others."""
        return type(self)(
            **{f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)}
        )

    @property
    def size(self) -> np.ndarray:
        """Mean of the whole object's width and height, (T, 1)."""
        mean_side: np.ndarray = self.extent.mean(axis=1, keepdims=True)
        return mean_side

    def predict(self, seconds: float) -> None:
        """Move every track on by the time that has passed: constant velocity, with white noise as acceleration.

        The noise is integrated over time, so one step of 0.2 s equals two of 0.1 s, whatever the frame rate.
        """
        noise = (ACCELERATION * self.size) ** 2
        self.centre += self.velocity * seconds
        self.var_centre += seconds * (2 * self.covariance + seconds * self.var_velocity) + noise * seconds**3 / 3
        self.covariance += seconds * self.var_velocity + noise * seconds**2 / 2
        self.var_velocity += noise * seconds

    def moved(self, seconds: float) -> Self:
        """The tracks with their centres where `predict(seconds)` would put them, all else as it is; these stay."""
        return replace(self, centre=self.centre + self.velocity * seconds)

    def observe(
        self, rows: np.ndarray, detections: Instances, *, time: float, confident: np.ndarray, picture: tuple[int, int]
    ) -> None:
        """Correct the tracks `rows` by one detection each; all others were missed once more.

        rows (K,) int · detections: K · confident (K,) bool: whether it counts as a hit · picture: width and height
        """
        measured, extent = centre_and_extent(detections.boxes)
        since = time - self.seen_at[rows]
        doubted = (self.hits[rows] >= SETTLED) & ~at_edge(detections.boxes, *picture)
        whole = self._whole(rows, extent, since=since, doubted=doubted)

        # The centre of a part says little about the centre of the whole: a walker who vanishes behind a pillar does
        # not slow down although the visible rest of him does. Nor does that of a box with somebody else in it.
        error = JITTER * whole.mean(axis=1, keepdims=True) + np.abs(whole - extent) / 4
        prior, covariance = self.var_centre[rows], self.covariance[rows]
        gain, velocity_gain = (each / (prior + error**2) for each in (prior, covariance))
        residual = measured - self.centre[rows]
        self.centre[rows] += gain * residual
        self.velocity[rows] += velocity_gain * residual
        self.var_centre[rows] = (1 - gain) * prior
        self.covariance[rows] = (1 - gain) * covariance
        self.var_velocity[rows] -= velocity_gain * covariance

        self.extent[rows] = whole
        self.seen_centre[rows] = self.centre[rows]
        self.boxes[rows], self.masks[rows] = self._trimmed(rows, detections, picture=picture)
        self.scores[rows] = detections.scores
        self.hits[rows] += confident
        self.missed += 1
        self.missed[rows] = 0
        self.seen_at[rows] = time
        self.trust[rows] = np.minimum(self.trust[rows] + np.where(confident, since, -since), PATIENCE)

    def _whole(self, rows: np.ndarray, extent: np.ndarray, *, since: np.ndarray, doubted: np.ndarray) -> np.ndarray:
        """The extents of whole objects that are seen as large as `extent` (K, 2), `since` (K,) seconds: (K, 2)."""
        before = self.extent[rows]
        smaller = np.exp(-since / MEMORY)[:, None]
        larger = np.where(doubted, np.exp(-since / GROWTH), 0)[:, None]
        whole: np.ndarray = extent + (before - extent) * np.where(before > extent, smaller, larger)
        return whole

    def _trimmed(
        self, rows: np.ndarray, detections: Instances, *, picture: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (K, 4) and masks (K, M, M) of the detections; where a box is loose, the expected one."""
        boxes = detections.boxes
        expected = np.clip(self.expected_boxes()[rows], 0, np.array([*picture, *picture], np.float32))
        inside = ~at_edge(boxes, *picture)  # of what leaves, the rest is seen exactly
        loose = np.flatnonzero((masks.paired_iou(boxes, expected) < LOOSE) & inside)
        if not len(loose):
            return boxes, detections.masks
        boxes, shapes = boxes.copy(), detections.masks.copy()
        shapes[loose] = masks.moved_into(shapes[loose], boxes[loose], expected[loose])
        boxes[loose] = expected[loose]
        return boxes, shapes

    def remember(self, rows: np.ndarray, looks: np.ndarray, *, seconds: float) -> None:
        """Take looks (K, L) of the tracks `rows` into the mean of how they look; unknown ones change nothing.

        seconds: since the look before
        """
        share = np.maximum(1 - np.exp(-seconds / MEMORY), 1 / np.maximum(self.hits[rows], 1))[:, None]
        share = np.where(self.looks[rows].any(axis=1, keepdims=True), share, 1) * looks.any(axis=1, keepdims=True)
        self.looks[rows] += (share * (looks - self.looks[rows])).astype(np.float32)

    def moved_boxes(self) -> np.ndarray:
        """The last detected box of every track, moved as it is predicted to have moved since, (T, 4) float32 xyxy."""
        moved = self.centre - self.seen_centre
        predicted: np.ndarray = (self.boxes + np.concatenate([moved, moved], axis=1)).astype(np.float32)
        return predicted

    def expected_boxes(self) -> np.ndarray:
        """Where the whole object is expected, of the size that it had lately, (T, 4) float32 xyxy."""
        half = self.extent / 2
        return np.concatenate([self.centre - half, self.centre + half], axis=1).astype(np.float32)

    def nearness(self, boxes: np.ndarray) -> np.ndarray:
        """How near every track is expected to every box (N, 4): (T, N), 1 at the same place, 0 or less out of reach.

        In reach is what lies within 0.8 of the object's extent and the filter's own uncertainty, and not beyond
        twice or half its size; boxes smaller than the object are taken as a part of it, seen on either side.
        """
        centre, extent = centre_and_extent(boxes)
        part = np.maximum(self.extent[:, None] - extent, 0) / 2
        reach = 0.8 * self.extent[:, None] + np.sqrt(self.var_centre)[:, None] + part  # (T, N, 2)
        distance = np.sqrt((((centre - self.centre[:, None]) / reach) ** 2).sum(axis=2))
        larger = extent.max(axis=1) / self.extent.max(axis=1)[:, None]
        return np.where((larger > 0.5) & (larger < 2), 1 - distance, 0)

    def leaving(self, width: int, height: int) -> np.ndarray:
        """Tracks that were last seen at an edge of the picture and were moving out over it, (T,) bool."""
        x1, y1, x2, y2 = self.boxes.T
        # In sizes a second: what only jitters at an edge stays.
        vx, vy = (self.velocity / self.size).T
        margin_x, margin_y = max(2.0, 0.01 * width), max(2.0, 0.01 * height)
        over_an_edge: np.ndarray = (
            ((x1 <= margin_x) & (vx < -OUTWARDS))
            | ((x2 >= width - margin_x) & (vx > OUTWARDS))
            | ((y1 <= margin_y) & (vy < -OUTWARDS))
            | ((y2 >= height - margin_y) & (vy > OUTWARDS))
        )
        return over_an_edge

    def outside(self, width: int, height: int) -> np.ndarray:
        """Tracks of whose moved box nothing lies inside the picture, (T,) bool."""
        x1, y1, x2, y2 = self.moved_boxes().T
        beyond: np.ndarray = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
        return beyond


def at_edge(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Boxes (N, 4) that reach an edge of the picture, so that they may go on beyond it, (N,) bool."""
    margins = np.hstack([boxes[:, :2], np.array([width, height]) - boxes[:, 2:]])
    reach: np.ndarray = margins.min(axis=1) <= 1
    return reach


def centre_and_extent(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (N, 2) and widths and heights (N, 2) of boxes xyxy (N, 4), float64; at least a pixel wide and high."""
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    return (low + high) / 2, np.maximum(high - low, 1)
