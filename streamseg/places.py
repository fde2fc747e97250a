"""Lines and zones in a picture: given in shares of its width and height, checked, and compared with what was found.

N objects, M cells along a side of a mask, K corners. A place is kept relative, 0 to 1, so that it holds for any size of
the picture; it is compared in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from streamseg.types import Instances, UsageError

Point = Literal["foot", "centre"]


# What a person says.


def named(text: str, kind: str) -> tuple[str, list[float]]:
    """The name and the numbers of `gate=0.72,0,0.72,1`, as a person writes after `--line` or `--zone`."""
    name, equals, numbers = text.partition("=")
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if not equals or not values:
        more = "" if kind == "line" else ",X3,Y3,..."
        raise UsageError(f"--{kind} {text}: expected NAME=X1,Y1,X2,Y2{more}, shares of the picture from 0 to 1")
    return name.strip(), values


def line_of(numbers: Sequence[float], *, name: str) -> np.ndarray:
    """The two ends (2, 2) float64 of a line, x and y relative to the picture; UsageError names the line."""
    ends = _corners(numbers, what=f"line {_checked(name, 'line')}")
    if len(ends) != 2:
        raise UsageError(f"line {name}: expected its two ends, X1,Y1,X2,Y2, got {2 * len(ends)} numbers")
    if (ends[0] == ends[1]).all():
        raise UsageError(f"line {name}: expected two ends apart, got one point twice, so a line of length 0")
    return ends


def zone_of(numbers: Sequence[float], *, name: str) -> np.ndarray:
    """The corners (K, 2) float64 of a zone in their order, relative to the picture; UsageError names the zone."""
    corners = _corners(numbers, what=f"zone {_checked(name, 'zone')}")
    if len(corners) < 3:
        raise UsageError(f"zone {name}: expected three corners or more, got {len(corners)}")
    for i, j in _pairs(len(corners)):
        if (corners[i] == corners[j]).all():
            raise UsageError(f"zone {name}: expected corners apart, got corner {i + 1} again as corner {j + 1}")
    edges = [(corners[i - 1], corners[i]) for i in range(len(corners))]
    for i, j in _pairs(len(edges)):
        if _meet(*edges[i], *edges[j]):
            raise UsageError(
                f"zone {name}: expected an outline that does not cross itself, but "
                f"{_said(*edges[i])} and {_said(*edges[j])} do"
            )
    return corners


def _checked(name: str, what: str) -> str:
    if not name.strip():
        raise UsageError(f"{what}: expected a name, got none")
    return name


def _corners(numbers: Sequence[float], *, what: str) -> np.ndarray:
    """The numbers in pairs, (K, 2) float64."""
    if len(numbers) % 2:
        raise UsageError(f"{what}: expected an x and a y for each point, got {len(numbers)} numbers")
    for number in numbers:
        if not 0 <= number <= 1:  # which a number that is none is not either
            raise UsageError(f"{what}: expected shares of the picture from 0 to 1, got {number:g}")
    return np.asarray(numbers, np.float64).reshape(-1, 2)


def _pairs(num: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(num) for j in range(i + 1, num)]


def _meet(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> bool:
    """Whether two edges of an outline have a point in common beside the corner that neighbours share."""
    turns = [_turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)]
    if (b == c).all() or (a == d).all():  # neighbours: only one that runs back over the other
        before, shared, after = (a, b, d) if (b == c).all() else (c, d, b)
        return turns[0] == turns[1] == 0 and float((before - shared) @ (after - shared)) > 0
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    ends = ((c, a, b), (d, a, b), (a, c, d), (b, c, d))
    return any(turn == 0 and _between(*end) for turn, end in zip(turns, ends, strict=True))


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> int:
    """1 or -1 for the side of the straight from `a` to `b` that `c` lies on, 0 for on it but for rounding."""
    turn = float(_cross(b - a, c - a))
    return 0 if abs(turn) < 1e-12 else 1 if turn > 0 else -1


def _between(point: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether a point of the straight through `a` and `b` lies between them."""
    return bool(((point - a) * (point - b) <= 0).all())


def _said(a: np.ndarray, b: np.ndarray) -> str:
    return f"{a[0]:g},{a[1]:g} to {b[0]:g},{b[1]:g}"


# Compared with what was found.


def points_of(instances: Instances, point: Point) -> np.ndarray:
    """Where each object is, (N, 2) float64 in pixels: the middle of its box's lower side, or of its mask."""
    boxes = instances.boxes.astype(np.float64)
    if point == "foot":
        return np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]], axis=1)
    covered = _covered(instances.masks)
    at = (np.arange(covered.shape[1]) + 0.5) / covered.shape[1]
    num = covered.sum(axis=(1, 2))
    across, down = (covered.sum(axis=axis) @ at / num for axis in (1, 2))
    return boxes[:, :2] + np.stack([across, down], axis=1) * (boxes[:, 2:] - boxes[:, :2])


def distances(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """How far points (N, 2) lie from a line (2, 2) made endless, (N,): positive on its `in` side.

    That is the side where (B - A) × (P - A) is positive with y downwards: below a line drawn from left to right.
    """
    along = line[1] - line[0]
    return np.asarray(_cross(along, points - line[0]) / math.hypot(*along))


def on_line(point: np.ndarray, line: np.ndarray) -> bool:
    """Whether a point (2,) of the endless line lies between the two ends (2, 2), the ends included."""
    along = line[1] - line[0]
    return bool(0 <= (point - line[0]) @ along <= along @ along)


def shares_inside(instances: Instances, corners: np.ndarray) -> np.ndarray:
    """How much of each object's mask lies in a polygon (K, 2) of pixels: (N,) from 0 to 1.

    The cells of a mask count whose centres lie inside; an object with an empty mask is its whole box.
    """
    shares = np.zeros(len(instances))
    boxes = instances.boxes.astype(np.float64)
    near = np.flatnonzero((boxes[:, :2] <= corners.max(axis=0)).all(1) & (boxes[:, 2:] >= corners.min(axis=0)).all(1))
    if len(near):
        covered = _covered(instances.masks[near])
        inside = _cells_inside(boxes[near], corners, side=covered.shape[1])
        shares[near] = (covered & inside).sum(axis=(1, 2)) / covered.sum(axis=(1, 2))
    return shares


def _covered(masks: np.ndarray) -> np.ndarray:
    """The cells that belong to each object, (N, M, M) bool; at least one."""
    covered: np.ndarray = masks >= 0.5
    covered[~covered.any(axis=(1, 2))] = True
    return covered


def _cells_inside(boxes: np.ndarray, corners: np.ndarray, *, side: int) -> np.ndarray:
    """Which centres of the side × side cells of boxes (N, 4) lie in the polygon: (N, side, side) bool.

    A ray to the right of a point inside leaves the outline an odd number of times. Where an edge meets a row of cells
    is the same for the whole row.
    """
    at = (np.arange(side) + 0.5) / side
    x = boxes[:, :1] + at * (boxes[:, 2:3] - boxes[:, :1])  # (N, side)
    y = boxes[:, 1:2] + at * (boxes[:, 3:4] - boxes[:, 1:2])
    inside = np.zeros((len(boxes), side, side), bool)
    for (x1, y1), (x2, y2) in zip(np.roll(corners, 1, axis=0), corners, strict=True):
        if y1 == y2:
            continue
        spans = (y1 <= y) != (y2 <= y)
        meets = np.where(spans, x1 + (y - y1) * ((x2 - x1) / (y2 - y1)), -np.inf)  # (N, side)
        inside ^= x[:, None, :] < meets[:, :, None]
    return inside


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(…, 2) × (…, 2): (…,)."""
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])
