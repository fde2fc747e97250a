"""Masks as COCO writes them: run lengths, compressed or not, and polygons. The one codec of every room.

    (H, W) the picture · N, K masks · R runs or their lengths · P points · S level pieces of a border

Run lengths are {"size": [H, W], "counts": …}. `counts` tells the lengths of the runs outside, inside, outside, … the
mask in turn, down one column after the other: as a list of numbers, or compressed as text or bytes. All that is made
here is compressed text, which JSON holds as it is and pycocotools takes. A polygon is a list [x, y, x, y, …] in pixels,
where 0 is the border of the first one; a mask of polygons is a list of them, each of three points or more.

pycocotools is the codec wherever it has one. What stands here beside it is what it lacks: it makes whole pictures
where a part would do, and takes any text for run lengths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

SHORTEST = 6
"""Numbers of a polygon that has an inside: three points."""

TOLERANCE = 1.0
"""Pixels that a thinned polygon may stray from the border of an object that is LARGE."""

SMALL, LARGE = 32, 128
"""Longer sides in pixels up to which an object is small, and from which it is large."""

LEAST_OVERLAP = 0.93, 0.98
"""Intersection over union of a thinned polygon with its mask, of small objects and of large ones."""

_MOST_CHARACTERS = 8
"""Of one length in COCO's text: 39 bits and a sign."""

_MOST_PIXELS = 1 << 39
"""Of a picture: as many as one length can tell; what is computed with them stays far from NumPy's largest number."""

_FINEST = 0.3
"""Pixels of tolerance below which hardly a corner would go."""


@dataclass(frozen=True)
class Part:
    """Pixels of a mask that hang together, be it at a corner: the corners (P, 2) int32 x, y along their borders.

    outer: clockwise, as one sees it · holes: counterclockwise
    """

    outer: np.ndarray
    holes: tuple[np.ndarray, ...]


def encoded(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W), inside where it is not 0, as compressed run lengths."""
    return encoded_all(np.asarray(mask)[..., None])[0]


def encoded_all(masks: np.ndarray) -> list[dict[str, Any]]:
    """Masks (H, W, N), inside where they are not 0, as N compressed run lengths. Raises ValueError for other shapes."""
    if masks.ndim != 3:
        raise ValueError(f"masks: expected (height, width, objects), got {masks.shape}")
    if not masks.shape[2]:
        return []
    return [_as_text(each) for each in coco_mask.encode(np.asfortranarray(masks != 0).view(np.uint8))]


def encoded_patch(inside: np.ndarray, *, left: int, top: int, width: int, height: int) -> dict[str, Any]:
    """A mask of which only a part is given, (h, w) bool, as compressed run lengths of the whole picture.

    left, top: of the part in the picture of width × height; around it the mask is empty.
    """
    # looked at along rows, as it lies in memory: turning it would take longer than sorting the few edges does
    change = np.zeros((len(inside) + 1, inside.shape[1]), bool)
    change[:-1] = inside
    change[1:] ^= inside
    rows, columns = np.divmod(np.flatnonzero(change), inside.shape[1])
    edges = np.sort((left + columns) * height + top + rows)
    if len(inside) == height:  # a run that reaches the foot of its column goes on at the head of the next
        edges = np.stack(_joined(edges[::2], edges[1::2]), axis=1).ravel()
    counts = np.diff(np.concatenate([[0], edges, [width * height]]))
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return compressed({"size": [height, width], "counts": counts.tolist()}, width=width, height=height)


def compressed(segmentation: Any, *, width: int, height: int) -> dict[str, Any]:
    """Polygons, or run lengths of either kind, of a width × height picture as compressed run lengths."""
    if isinstance(segmentation, list):
        return _as_text(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width)))
    if isinstance(segmentation["counts"], list):
        return _as_text(coco_mask.frPyObjects(dict(segmentation), height, width))
    return _as_text(segmentation)


def decoded(segmentation: Any, *, width: int, height: int) -> np.ndarray:
    """Polygons, or run lengths of either kind, as a mask (height, width) uint8, 0 or 1."""
    mask: np.ndarray = coco_mask.decode(compressed(segmentation, width=width, height=height))
    return mask


def decoded_columns(run_lengths: Mapping[str, Any], columns: slice) -> np.ndarray:
    """Some columns of a mask, (H, w) bool; nothing else is unrolled: a picture of 4K is 8 MB, an object some kilobytes.

    Raises ValueError as `lengths` does.
    """
    height, num_columns = size_of(run_lengths)[0], columns.stop - columns.start
    flips = np.clip(np.cumsum(lengths(run_lengths)) - columns.start * height, 0, num_columns * height)
    change = np.zeros(num_columns * height + 1, np.int64)
    np.add.at(change, flips, 1)
    return (np.cumsum(change[:-1]) & 1).astype(bool).reshape(num_columns, height).T


def decoded_patch(run_lengths: Mapping[str, Any]) -> tuple[int, int, np.ndarray]:
    """Left, top and the pixels (h, w) bool of the smallest part of the picture that holds all of a mask.

    What `encoded_patch` takes; (0, 0) pixels of an empty mask. Raises ValueError as `lengths` does.
    """
    columns, tops, bottoms = _column_runs(run_lengths)
    if not len(columns):
        return 0, 0, np.zeros((0, 0), bool)
    left, top = int(columns.min()), int(tops.min())
    change = np.zeros((int(columns.max()) - left + 1, int(bottoms.max()) - top + 1), np.int8)
    change[columns - left, tops - top] = 1
    change[columns - left, bottoms - top] = -1
    return left, top, np.cumsum(change[:, :-1], axis=1, dtype=np.int8).astype(bool).T


def row_lengths(inside: np.ndarray) -> np.ndarray:
    """The lengths (R,) of the runs outside, inside, outside, … a mask (H, W) bool, along one row after the other."""
    flat = inside.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    begins_inside = [0] if len(flat) and flat[0] else []
    return np.diff(np.concatenate([[0], np.array(begins_inside, np.int64), edges, [len(flat)]])).astype(np.int64)


def picture_row_lengths(run_lengths: Mapping[str, Any]) -> np.ndarray:
    """The lengths (R,) of `row_lengths` of a whole picture, of which only the part that holds the mask is unrolled."""
    height, width = size_of(run_lengths)
    left, top, inside = decoded_patch(run_lengths)
    return lengths(encoded_patch(inside.T, left=top, top=left, width=height, height=width))


def size_of(run_lengths: Any) -> tuple[int, int]:
    """The (height, width) of run lengths, of which the numbers or the text are not looked at.

    Raises ValueError where they are not made as run lengths are.
    """
    if not isinstance(run_lengths, Mapping) or not {"size", "counts"} <= run_lengths.keys():
        raise ValueError(f"expected polygons or run lengths, got {str(run_lengths)[:60]}")
    size, counts = run_lengths["size"], run_lengths["counts"]
    two = isinstance(size, list | tuple) and len(size) == 2
    if not two or not all(type(side) is int and side >= 0 for side in size):  # a bool is an int, too
        raise ValueError(f"size: expected [height, width], got {str(size)[:60]}")
    if max(*size, size[0] * size[1]) > _MOST_PIXELS:
        raise ValueError(f"size: expected that of a picture, got {str(size)[:60]}")
    if not isinstance(counts, list | str | bytes):
        raise ValueError(f"counts: expected a list or a string, got {str(counts)[:60]}")
    return size[0], size[1]


def lengths(run_lengths: Any) -> np.ndarray:
    """The lengths in run lengths of either kind, (R,) int64.

    Raises ValueError unless they are whole numbers that cover every pixel of the picture once.
    """
    height, width = size_of(run_lengths)
    counts = run_lengths["counts"]
    if isinstance(counts, list):
        return _listed(counts, in_all=height * width)
    told = _told(counts)
    if len(told) and told.min() < 0:
        raise ValueError(f"counts: expected whole numbers from 0 up, got {told[told < 0][0]}")
    if told.sum() != height * width:
        raise ValueError(
            f"counts: expected lengths that add up to the {height * width} pixels of the picture, got {told.sum()}"
        )
    return told


FARTHEST = 1_000_000
"""Pixels that a point may lie from the corner; pycocotools takes memory by their number, and all of it."""


def is_polygon(values: Any) -> bool:
    """Whether a value out of a file is a list of numbers in pairs, each the place of a pixel, if not of this picture;
    it may be too short to have an inside."""
    numbers = isinstance(values, list) and all(isinstance(x, int | float) for x in values)
    return numbers and len(values) % 2 == 0 and all(-FARTHEST <= x <= FARTHEST for x in values)


def rectangle(box: Sequence[float] | np.ndarray) -> list[float]:
    """The polygon of a box (4,) xyxy."""
    x1, y1, x2, y2 = (float(v) for v in box)
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def areas(masks: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The pixels in each of N compressed run lengths, (N,) float64."""
    # pycocotools 2.0 counts the masks in a byte, and NumPy 2 refuses to go on from 255
    portions = [coco_mask.area(list(masks[i : i + 255])) for i in range(0, len(masks), 255)]
    return np.concatenate([np.zeros(0), *portions])


def boxes(masks: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The smallest boxes (N, 4) float64 xyxy around N compressed run lengths; zeros around an empty one."""
    found = np.asarray(coco_mask.toBbox(list(masks)), np.float64) if masks else np.zeros((0, 4))
    found[:, 2:] += found[:, :2]
    return found


def overlaps(
    masks: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], *, of_own: bool = False
) -> np.ndarray:
    """Intersection over union of every mask with every other one, (N, K) float64; 0 where both are empty.

    masks: N, others: K compressed run lengths · of_own: intersection over the mask's own area instead, as COCO compares
    with a crowd.
    """
    if not masks or not others:
        return np.zeros((len(masks), len(others)))
    return np.asarray(coco_mask.iou(list(masks), list(others), [of_own] * len(others)), np.float64)


def without(mask: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The pixels of a mask that are in none of the others; all are compressed run lengths of one picture."""
    if not others:
        return dict(mask)
    counts = lengths(_as_text(coco_mask.merge(list(others)))).tolist()
    swapped = counts[1:] if counts[0] == 0 else [0, *counts]
    outside = coco_mask.frPyObjects({"size": list(mask["size"]), "counts": swapped}, *mask["size"])
    return _as_text(coco_mask.merge([dict(mask), outside], intersect=True))


def runs(mask: Mapping[str, Any]) -> list[int]:
    """First pixel and length of every run of a mask (run lengths): pixels counted from 1, down the columns."""
    edges = np.cumsum(lengths(mask))
    begins, ends = _joined(edges[: len(edges) // 2 * 2 : 2], edges[1::2])
    pairs: list[int] = np.stack([begins + 1, ends - begins], axis=1).ravel().tolist()
    return pairs


def from_runs(pairs: Sequence[int], *, width: int, height: int) -> dict[str, Any]:
    """The compressed run lengths of `runs`, which may stand in any order and overlap.

    Raises ValueError for a run that is not within the picture.
    """
    inside = np.zeros(height * width, bool)
    for first, length in zip(pairs[::2], pairs[1::2], strict=True):
        if min(first, length) < 1 or first + length - 1 > len(inside):
            raise ValueError(f"expected runs within {width}x{height} pixels, got {first} {length}")
        inside[first - 1 : first - 1 + length] = True
    return encoded(inside.reshape((height, width), order="F"))


def parts(mask: Mapping[str, Any]) -> list[Part]:
    """The parts of a mask (run lengths), the highest first, each with every corner of its borders.

    Only the runs are looked at, so it takes as long as the object is large, however large the picture. Raises
    ValueError as `lengths` does.
    """
    columns, tops, bottoms = _column_runs(mask)
    if not len(columns):
        return []
    pieces = _pieces(columns, tops, bottoms, width=mask["size"][1])
    rings = _rings(pieces)
    ring_of = np.empty(len(pieces.y), np.int64)
    for number, ring in enumerate(rings):
        ring_of[ring] = number
    area = np.bincount(ring_of, weights=(pieces.start - pieces.end) * pieces.y)
    above = _rings_above(pieces, ring_of)
    holes: dict[int, list[np.ndarray]] = {number: [] for number in range(len(rings)) if area[number] > 0}
    for number in np.flatnonzero(area < 0).tolist():
        around = above[number]
        while area[around] < 0:  # another hole of the same part, which is higher
            around = above[around]
        holes[around].append(pieces.corners(rings[number]))
    return [Part(pieces.corners(rings[number]), tuple(inner)) for number, inner in holes.items()]


def polygons(mask: Mapping[str, Any], *, tolerance: float | None = None) -> list[list[float]]:
    """A mask (run lengths) as polygons, one for each part, into which its holes are cut; none of an empty mask.

    tolerance: how far they may stray from the border, in pixels, for an object whose longer side has LARGE pixels or
    more; it shrinks as the square root of that side. Parts and holes that are smaller than it fall away. 0:
    pycocotools makes the very same mask of them. None: TOLERANCE, or as much less as LEAST_OVERLAP asks for.
    """
    return [joined(rings).ravel().tolist() for rings in _thinned_parts(mask, tolerance)]


def polygon(mask: Mapping[str, Any], *, tolerance: float | None = None) -> list[float]:
    """A mask (run lengths) as a single polygon: parts and holes hang together by cuts that have no area.

    tolerance: as for `polygons` · an empty list of an empty mask
    """
    rings = [ring for part in _thinned_parts(mask, tolerance) for ring in part]
    return joined(rings).ravel().tolist() if rings else []


def thinned(
    exact: list[list[np.ndarray]], tolerance: float | None, *, overlap: Callable[[list[list[np.ndarray]]], float]
) -> list[list[np.ndarray]]:
    """The rings (P, 2) int32 of each part of an object, the outer one first, within the tolerance of `polygons`.

    overlap: intersection over union of what a reader makes of such rings with what it makes of the exact ones
    """
    if not exact or tolerance == 0:
        return exact
    side = int(max(np.ptp(np.concatenate([part[0] for part in exact]), axis=0)))
    pixels = shrunk(TOLERANCE if tolerance is None else tolerance, side=side)
    if tolerance is not None:
        return _without_needless(exact, pixels)
    needed = float(np.interp(side, (SMALL, LARGE), LEAST_OVERLAP))
    while pixels >= _FINEST:
        found = _without_needless(exact, pixels)
        if overlap(found) >= needed:
            return found
        pixels *= 0.8
    return exact


def joined(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Closed rings (P, 2) as one: each hangs at the nearest corner of those before it, by a cut there and back."""
    first, *others = sorted(rings, key=lambda ring: int(ring[:, 0].min()))
    whole = first
    for ring in others:
        apart = whole[:, None].astype(np.float32) - ring
        here, there = np.unravel_index(np.argmin((apart**2).sum(axis=2)), apart.shape[:2])
        around = np.roll(ring, -there, axis=0)
        whole = np.concatenate([whole[: here + 1], around, around[:1], whole[here:]])
    return whole


def shrunk(tolerance: float, *, side: float) -> float:
    """The tolerance, in pixels, for an object whose longer side has `side` pixels."""
    return tolerance * min(math.sqrt(side / LARGE), 1)


def hull(segmentation: Any, *, width: int, height: int) -> np.ndarray | None:
    """The corners (P, 2) float32 of the smallest convex shape around a mask; None around an empty one.

    segmentation: polygons, or run lengths of either kind, of a width × height picture.
    """
    if isinstance(segmentation, list):
        points = np.concatenate([np.array(polygon, np.float32).reshape(-1, 2) for polygon in segmentation])
        around_points: np.ndarray = cv2.convexHull(points)[:, 0]
        return around_points
    pixels = cv2.findNonZero(decoded(segmentation, width=width, height=height))
    if pixels is None:
        return None
    hull_of_pixels = cv2.convexHull(pixels)[:, 0].astype(np.float32)
    corners = hull_of_pixels[:, None] + np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)  # of each pixel
    around_pixels: np.ndarray = cv2.convexHull(corners.reshape(-1, 2))[:, 0]
    return around_pixels


def mini_mask(segmentation: Any, box: np.ndarray, *, width: int, height: int, side: int) -> np.ndarray:
    """A mask inside its box (4,) xyxy as (side, side) uint8 0…255.

    segmentation: polygons, or run lengths of either kind, of a width × height picture.
    """
    if isinstance(segmentation, list):
        # drawn at eight times the cells of the mini mask and averaged, so that edges fall where they are
        scale = 8 * side / np.maximum(box[2:] - box[:2], 1e-3)
        canvas = np.zeros((8 * side, 8 * side), np.uint8)
        for polygon in segmentation:
            points = (np.array(polygon, np.float32).reshape(-1, 2) - box[:2]) * scale
            cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], 255, shift=4)
        averaged: np.ndarray = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
        return averaged
    full = decoded(segmentation, width=width, height=height).astype(np.float32) * 255
    scale_x, scale_y = (box[2:] - box[:2]) / side
    matrix = np.array([[scale_x, 0, box[0] + 0.5 * scale_x - 0.5], [0, scale_y, box[1] + 0.5 * scale_y - 0.5]])
    cut: np.ndarray = cv2.warpAffine(
        full, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT
    )
    return cut.astype(np.uint8)


def _as_text(run_lengths: Mapping[str, Any]) -> dict[str, Any]:
    """Compressed run lengths as this file hands them out, whether pycocotools made them or a file held them."""
    counts = run_lengths["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in run_lengths["size"]], "counts": text}


def _joined(begins: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs in their order from `begins` to before `ends`, both (R,), without empty ones, those that touch made one."""
    begins, ends = begins[begins < ends], ends[begins < ends]
    apart = begins[1:] != ends[:-1]
    first, last = np.ones((2, len(begins)), bool)
    first[1:], last[:-1] = apart, apart
    return begins[first], ends[last]


def _listed(counts: list[Any], *, in_all: int) -> np.ndarray:
    """The lengths in a list, (R,) int64. Raises ValueError unless they add up to `in_all`."""
    for length in counts:
        if not isinstance(length, int) or length < 0:
            raise ValueError(f"counts: expected whole numbers from 0 up, got {length!r}")
    if sum(counts) != in_all:  # here, because they may be larger than NumPy's numbers
        raise ValueError(
            f"counts: expected lengths that add up to the {in_all} pixels of the picture, got {sum(counts)}"
        )
    return np.array(counts, np.int64)


def _told(counts: str | bytes) -> np.ndarray:
    """The lengths in COCO's compressed text, (R,) int64. Raises ValueError where it is none.

    Each is five bits a character from `0` on, the lowest first; a sixth bit says that more follow, and the last one's
    fifth is the sign. From the fourth length on, what is told is the difference from the one before the last.
    """
    # what is no ASCII becomes bytes from 128 up, which are none of COCO's
    text = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
    bits = np.frombuffer(text, np.uint8).astype(np.int64) - ord("0")
    if not len(bits):
        return bits
    last = np.flatnonzero(bits & 32 == 0)
    if bits.min() < 0 or bits.max() > 63 or not len(last) or last[-1] != len(bits) - 1:
        raise ValueError("counts: expected COCO's compressed run lengths, got other characters")
    first = np.concatenate([[0], last[:-1] + 1])
    size = last - first + 1
    if size.max() > _MOST_CHARACTERS:
        raise ValueError("counts: expected COCO's compressed run lengths, got one of more than any picture has pixels")
    place = np.arange(len(bits)) - np.repeat(first, size)
    values: np.ndarray = np.add.reduceat((bits & 31) << 5 * place, first)
    values -= np.where(bits[last] & 16, 1 << 5 * size, 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


@dataclass(frozen=True)
class _Pieces:
    """The level pieces of a mask's borders, (S,) each, those above pixels first, each kind from the top down.

    One begins at x `start` and ends at x `end`, so that the inside is at the right hand: pieces above pixels lead to
    the right, those `below` pixels to the left · run: (S,) the number of a run that it is above or below · above: (R,)
    the piece above each run
    """

    start: np.ndarray
    end: np.ndarray
    y: np.ndarray
    below: np.ndarray
    run: np.ndarray
    above: np.ndarray

    def corners(self, ring: np.ndarray) -> np.ndarray:
        """The corners (P, 2) int32 along some of them, one after the other."""
        y = self.y[ring]
        points = np.stack([self.start[ring], y, self.end[ring], y], axis=1)
        return points.reshape(-1, 2).astype(np.int32)


def _column_runs(mask: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of a mask, cut where columns end: column, first row and the row after the last, (R,) int64 each."""
    edges = np.cumsum(lengths(mask))
    begins, ends = _joined(edges[: len(edges) // 2 * 2 : 2], edges[1::2])
    height = max(mask["size"][0], 1)
    first, num_columns = begins // height, (ends - 1) // height - begins // height + 1
    run = np.repeat(np.arange(len(begins)), num_columns)
    columns = first[run] + np.arange(len(run)) - (np.cumsum(num_columns) - num_columns)[run]
    tops = np.maximum(begins[run] - columns * height, 0)
    return columns, tops, np.minimum(ends[run] - columns * height, height)


def _pieces(columns: np.ndarray, tops: np.ndarray, bottoms: np.ndarray, *, width: int) -> _Pieces:
    """The borders above and below runs (R,), where neighbours in one row are one piece."""
    num_runs = len(columns)
    rows = np.concatenate([tops, bottoms])
    below = np.arange(2 * num_runs) >= num_runs
    places = (rows + below * (rows.max() + 1)) * (width + 2) + np.tile(columns, 2)
    order = np.argsort(places, kind="stable")
    begins = np.ones(len(order), bool)
    begins[1:] = np.diff(places[order]) != 1
    piece_of = np.empty(len(order), np.int64)
    piece_of[order] = np.cumsum(begins) - 1
    first, last = order[begins], order[np.roll(begins, -1)]
    left, right = columns[first % num_runs], columns[last % num_runs] + 1
    leftwards = below[first]
    return _Pieces(
        start=np.where(leftwards, right, left),
        end=np.where(leftwards, left, right),
        y=rows[first],
        below=leftwards,
        run=first % num_runs,
        above=piece_of[:num_runs],
    )


def _rings(pieces: _Pieces) -> list[np.ndarray]:
    """The pieces of each closed border in their order.

    On one column line the upright borders lead from the first corner to the second, from the third to the fourth, …,
    each from the end of one piece to the start of another. Where four borders meet, two corners are in one place; the
    upper border takes the one of the piece above pixels, so that pixels which touch at a corner hang together.
    """
    count = len(pieces.y)
    x, y = np.concatenate([pieces.start, pieces.end]), np.tile(pieces.y, 2)
    pairs = np.argsort((x * (y.max() + 1) + y) * 2 + np.tile(pieces.below, 2), kind="stable").reshape(-1, 2)
    following = np.empty(count, np.int64)
    following[pairs.max(axis=1) - count] = pairs.min(axis=1)
    onward, seen, rings = following.tolist(), [False] * count, []
    for first in range(count):
        ring = []
        while not seen[first]:
            seen[first] = True
            ring.append(first)
            first = onward[first]
        if ring:
            rings.append(np.array(ring))
    return rings


def _rings_above(pieces: _Pieces, ring_of: np.ndarray) -> dict[int, int]:
    """For each closed border its uppermost piece below pixels: the border that is above those pixels.

    Of a hole it is the part's outer border, or another of its holes. ring_of: (S,) the border of each piece
    """
    below = np.flatnonzero(pieces.below)
    rings, uppermost = np.unique(ring_of[below], return_index=True)
    around = ring_of[pieces.above[pieces.run[below[uppermost]]]]
    return dict(zip(rings.tolist(), around.tolist(), strict=True))


def _thinned_parts(mask: Mapping[str, Any], tolerance: float | None) -> list[list[np.ndarray]]:
    """The borders of each part, the outer one first, thinned within the tolerance that `polygons` takes."""
    exact = [[part.outer, *part.holes] for part in parts(mask)]
    return thinned(exact, tolerance, overlap=lambda found: _overlap(found, mask))


def _without_needless(exact: list[list[np.ndarray]], pixels: float) -> list[list[np.ndarray]]:
    """Borders without the corners that are not needed to stay within some pixels; the largest part always stays.

    The last thing that OpenCV does, leaving out corners that are nearly in line, may add up to half as much again.
    """
    found = [[cv2.approxPolyDP(ring, pixels, True)[:, 0] for ring in part] for part in exact]
    kept = [[ring for ring in part if len(ring) > 2] for part in found if len(part[0]) > 2]
    return kept or [[max((part[0] for part in exact), key=cv2.contourArea)]]


def _overlap(found: list[list[np.ndarray]], mask: Mapping[str, Any]) -> float:
    """Intersection over union of a mask with what pycocotools makes of the borders of its parts."""
    height, width = size_of(mask)
    drawn = compressed([joined(part).ravel().tolist() for part in found], width=width, height=height)
    return float(overlaps([drawn], [mask])[0, 0])
