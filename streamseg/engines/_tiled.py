"""Looks at a picture whole and in tiles, so that what is small in a large picture is found too.

N finds of all looks at a picture, P pairs of them
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import av
import numpy as np

from streamseg.masks import areas, common, moved_into
from streamseg.pictures import part_of
from streamseg.types import Engine, Frame, Instances, UsageError

log = logging.getLogger("streamseg")

OVERLAP = 0.2
"""Of a tile with its neighbour, where only their number is said: who is smaller than that is whole in one of them."""

LARGE = 2560 * 1440
"""Pixels of a picture that `auto` looks at in tiles; 4K has twice as many."""

SAME = 0.5
"""Share of the smaller of two masks that the other covers, from which both are the same object."""

JOINED = 0.3
"""The same of two pieces of an object that was cut by the borders of two tiles: both see what their tiles share."""

EDGE = 0.005
"""How near to its tile's border a find is cut by it, as a share of the tile; at least two pixels."""


@dataclass(frozen=True)
class Tiles:
    """How a picture is divided: into `across` × `down` tiles, or into those of `size` pixels that share `overlap`.

    Neither: as `auto` says, 2×2 for a picture that is larger than 1440p
    """

    across: int = 0
    down: int = 0
    size: int = 0
    overlap: int = 0

    @classmethod
    def parse(cls, text: str) -> Tiles:
        """`auto`, `3x3` or `1280,200` (pixels); UsageError for anything else."""
        if text == "auto":
            return cls()
        if grid := re.fullmatch(r"(\d+)[x×](\d+)", text):
            across, down = int(grid[1]), int(grid[2])
            if 1 <= across <= 20 and 1 <= down <= 20:
                return cls(across=across, down=down)
        if squares := re.fullmatch(r"(\d+),(\d+)", text):
            size, overlap = int(squares[1]), int(squares[2])
            if size >= 64 and overlap <= size // 2:
                return cls(size=size, overlap=overlap)
        raise UsageError(
            "tiles: expected auto, a grid such as 2x2 (up to 20x20), or SIZE,OVERLAP in pixels such as 1280,200 "
            f"(a size from 64, an overlap up to half of it), got {text!r}"
        )

    def of(self, width: int, height: int, *, sample: tuple[int, int] = (2, 2)) -> list[tuple[int, int, int, int]]:
        """Left, top, width and height of each tile of a picture; none where it is looked at as a whole only.

        sample: pixels across and down of a sample of chroma, at which tiles begin. The last ones end with the picture,
        though not with a sample.
        """
        across, down = self.across, self.down
        if self == Tiles():
            across = down = 2 if width * height > LARGE else 1
        if self.size:
            columns, rows = (
                _steps(side, size=self.size, overlap=self.overlap, step=step)
                for side, step in zip((width, height), sample, strict=True)
            )
        else:
            columns, rows = _even(width, across, step=sample[0]), _even(height, down, step=sample[1])
        if len(columns) == len(rows) == 1 or width < sample[0] or height < sample[1]:
            return []
        return [(left, top, w, h) for (top, h), (left, w) in product(rows, columns)]


def _even(side: int, number: int, *, step: int) -> list[tuple[int, int]]:
    """Begin and length of `number` parts of a side that share `OVERLAP` of their length."""
    length = int(np.ceil(side / (number - (number - 1) * OVERLAP) / step)) * step
    return _placed(side, length, number, step=step)


def _steps(side: int, *, size: int, overlap: int, step: int) -> list[tuple[int, int]]:
    size = size // step * step
    number = 1 if side <= size else int(np.ceil((side - overlap) / (size - overlap)))
    return _placed(side, size, number, step=step)


def _placed(side: int, length: int, number: int, *, step: int) -> list[tuple[int, int]]:
    """Begin and length of `number` parts of a side that begin evenly, at a whole step; the last one ends with it."""
    begins = [int(begin) // step * step for begin in np.linspace(0, max(0, side - length), number)]
    return [(begin, min(length, side)) for begin in begins[:-1]] + [(begins[-1], side - begins[-1])]


class Tiled:
    """An engine around an engine: every picture whole and in tiles, and each object once.

    What an inner border of a tile cuts is left out where another look has it whole; else its pieces are joined.
    """

    def __init__(self, engine: Engine, tiles: Tiles) -> None:
        if getattr(engine, "repeats", False):
            raise UsageError("--tiles: expected an engine that looks at pictures, got one that repeats what was found")
        self.engine, self.tiles = engine, tiles
        self.class_names = engine.class_names
        self.min_score = engine.min_score
        self.batch_size = engine.batch_size
        self.precision = getattr(engine, "precision", "")
        self._told: set[tuple[int, int]] = set()

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return self.engine.input_size(frame)

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        """The objects of each frame, best first; at most 100 a look."""
        layouts = [self._layout(frame) for frame in frames]
        looks = [look for frame, tiles in zip(frames, layouts, strict=True) for look in _looks(frame, tiles)]
        found = iter(self.engine.predict(looks))
        results = []
        for frame, tiles in zip(frames, layouts, strict=True):
            whole = next(found)
            parts = [next(found) for _ in tiles]
            results.append(merged(whole, parts, tiles, width=frame.width, height=frame.height) if tiles else whole)
        return results

    def _layout(self, frame: Frame) -> list[tuple[int, int, int, int]]:
        size = frame.width, frame.height
        tiles = self.tiles.of(*size, sample=_sample(frame.picture.format))
        if size not in self._told:
            self._told.add(size)
            log.info("tiles: %d looks at a picture of %dx%d, where one would do without", 1 + len(tiles), *size)
        return tiles


def _sample(layout: av.VideoFormat) -> tuple[int, int]:
    """Pixels across and down that share a sample of chroma in a pixel format, at least two: four across in DV."""
    return max(2, 64 // layout.chroma_width(64)), max(2, 64 // layout.chroma_height(64))


def _looks(frame: Frame, tiles: Sequence[tuple[int, int, int, int]]) -> list[Frame]:
    parts = [part_of(frame.picture, left=x, top=y, width=w, height=h) for x, y, w, h in tiles]
    return [frame, *(replace(frame, picture=part) for part in parts)]


def merged(
    whole: Instances,
    parts: Sequence[Instances],
    tiles: Sequence[tuple[int, int, int, int]],
    *,
    width: int,
    height: int,
) -> Instances:
    """What the whole picture and its tiles show, each object once and in the picture's coordinates."""
    looks = [whole, *(_moved(part, tile) for part, tile in zip(parts, tiles, strict=True))]
    cut = [np.zeros(len(whole), bool)]
    cut += [_cut(look.boxes, tile, width, height) for look, tile in zip(looks[1:], tiles, strict=True)]
    look_of = np.repeat(np.arange(len(looks)), [len(look) for look in looks])
    everything = _together(looks)
    return _once(_mended(everything, np.concatenate(cut), look_of))


def _moved(part: Instances, tile: tuple[int, int, int, int]) -> Instances:
    return replace(part, boxes=part.boxes + np.array([tile[0], tile[1]] * 2, np.float32))


def _cut(boxes: np.ndarray, tile: tuple[int, int, int, int], width: int, height: int) -> np.ndarray:
    """Which boxes (N, 4) reach a border of their tile that is none of the picture, (N,) bool."""
    left, top, w, h = tile
    near = np.maximum(2, EDGE * np.array([w, h, w, h]))
    at = np.array([left, top, left + w, top + h])
    inner = np.array([left > 0, top > 0, left + w < width, top + h < height])
    reached: np.ndarray = ((np.abs(boxes - at) <= near) & inner).any(axis=1)
    return reached


def _together(looks: Sequence[Instances]) -> Instances:
    looks = [look for look in looks if len(look)] or looks[:1]  # masks of nothing may have another side
    return replace(
        looks[0],
        boxes=np.concatenate([look.boxes for look in looks]),
        masks=np.concatenate([look.masks for look in looks]),
        scores=np.concatenate([look.scores for look in looks]),
        class_ids=np.concatenate([look.class_ids for look in looks]),
        track_ids=np.concatenate([look.track_ids for look in looks]),
    )


def _covered(found: Instances) -> np.ndarray:
    """How much of the smaller of two masks of a class the other covers, (N, N) in [0, 1], 0 on the diagonal."""
    boxes, size = found.boxes, areas(found.masks, found.boxes)
    meets = (np.minimum(boxes[:, None, 2:], boxes[:, 2:]) > np.maximum(boxes[:, None, :2], boxes[:, :2])).all(axis=2)
    meets &= found.class_ids[:, None] == found.class_ids
    i, j = np.nonzero(np.triu(meets, 1))
    shared = common(found.masks[i], boxes[i], found.masks[j], boxes[j])
    covered = np.zeros((len(boxes), len(boxes)))
    covered[i, j] = covered[j, i] = shared / np.maximum(np.minimum(size[i], size[j]), 1e-9)
    return covered


def _mended(found: Instances, cut: np.ndarray, look_of: np.ndarray) -> Instances:
    """The finds without those pieces that another look has whole; other pieces of one object joined. cut (N,) bool"""
    covered = _covered(found)
    has_it = (covered >= SAME) & ~cut
    pieces = np.flatnonzero(cut & ~has_it.any(axis=1))
    groups = _groups(covered, pieces, look_of)
    kept = found[~cut]
    return _together([kept, *(_joined(found[group]) for group in groups)]) if groups else kept


def _groups(covered: np.ndarray, pieces: np.ndarray, look_of: np.ndarray) -> list[np.ndarray]:
    """Which pieces belong together: those of different looks that see the same where both can see it."""
    group = {piece: piece for piece in pieces.tolist()}
    for a, b in product(group, group):
        if a < b and look_of[a] != look_of[b] and covered[a, b] >= JOINED:
            old, new = group[b], group[a]
            group = {piece: new if each == old else each for piece, each in group.items()}
    return [np.array([piece for piece in group if group[piece] == each]) for each in dict.fromkeys(group.values())]


def _joined(pieces: Instances) -> Instances:
    """One object of its pieces: its box is around all of them, its mask what any of them says, its score the best."""
    boxes = pieces.boxes
    around = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])[None]
    masks = moved_into(pieces.masks, boxes, np.repeat(around, len(boxes), axis=0))
    best = int(np.argmax(pieces.scores))
    return replace(pieces[best], boxes=around, masks=masks.max(axis=0)[None].astype(np.float32))


def _once(found: Instances) -> Instances:
    """Each object as its best find, best first."""
    found = found[np.argsort(-found.scores, kind="stable")]
    same = _covered(found) >= SAME
    kept: list[int] = []
    for i in range(len(found)):
        if not same[i, kept].any():
            kept.append(i)
    return found[np.array(kept, int)]
