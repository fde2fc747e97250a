"""The shapes of objects, small: each mask is as large as the model made it and spans its box, never the whole picture.

    N, K objects, M cells along a side of a mask, (height, width) the picture

Cell (i, j) of a mask has its centre at y1 + (i + 0.5) · h / M, x1 + (j + 0.5) · w / M; pixel (r, c) has its centre at
r + 0.5, c + 0.5. Between cell centres a mask is bilinear, from the outermost centres to the border of the box it
stays what it is there, and outside its box it is zero. A pixel belongs to the box that its centre lies in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from streamseg import outlines
from streamseg.types import Instances

_NOTHING = (slice(0, 0), slice(0, 0), np.zeros((0, 0), np.uint8))
_BILINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

_LARGE = 2048
"""Pixels from which a mask is pasted the fast way."""

_GRID = 32
"""Sample points along a side where two masks are compared: areas come out within about 1 %."""

_AT = (np.arange(_GRID) + 0.5) / _GRID
"""Where they lie along it, of 1."""

_MOST_PAIRS = 512
"""Pairs compared at once, so that a crowd of a hundred overlapping objects stays within some ten megabytes."""


def as_bytes(masks: np.ndarray) -> np.ndarray:
    """Masks in [0, 1] as uint8 of the same shape, 0 to 255; uint8 stays as it is, NaN becomes 0.

    Done before anything is interpolated, so a mask that was kept as bytes is drawn exactly as it was the first time.
    """
    masks = np.asarray(masks)
    if masks.dtype == np.uint8:
        return np.ascontiguousarray(masks)
    cells = masks.astype(np.float32) * 255  # a new array, to be changed in place
    np.rint(cells, out=cells)
    np.fmax(cells, 0, out=cells)
    np.minimum(cells, 255, out=cells)
    return cells.astype(np.uint8)


def as_recorded(masks: np.ndarray) -> np.ndarray:
    """Masks in [0, 1] as they come back from a record, float32 of the same shape: each the nearest of 256 levels.

    uint8 in [0, 255] are those levels.
    """
    return as_bytes(masks).astype(np.float32) / np.float32(255)


@contextmanager
def without_threads() -> Iterator[None]:
    """OpenCV does all in the thread that asks: of masks, waking its others takes longer than what they would do."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def paste(
    mask: np.ndarray, box: Sequence[float] | np.ndarray, *, width: int, height: int
) -> tuple[slice, slice, np.ndarray]:
    """Rows, columns and the soft mask (rows, columns) uint8, 0 to 255, of the part of the box inside the picture.

    mask (M, M) float32 in [0, 1], or uint8 in [0, 255] · box (4,) xyxy, may lie partly or wholly outside, be empty
    or not finite: then rows and columns are empty.
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    if not (x2 > x1 and y2 > y1 and math.isfinite(x2 - x1) and math.isfinite(y2 - y1)):
        return _NOTHING
    first_column, end_column = max(0, math.ceil(x1 - 0.5)), min(width, math.ceil(x2 - 0.5))
    first_row, end_row = max(0, math.ceil(y1 - 0.5)), min(height, math.ceil(y2 - 0.5))
    if first_column >= end_column or first_row >= end_row:
        return _NOTHING
    cells = as_bytes(mask)
    num_rows, num_columns = end_row - first_row, end_column - first_column
    rows, columns = slice(first_row, end_row), slice(first_column, end_column)
    step_y, step_x = cells.shape[0] / (y2 - y1), cells.shape[1] / (x2 - x1)
    whole = (x2 - x1) * (y2 - y1)
    if step_x <= 1 and step_y <= 1 and whole >= _LARGE and whole <= 4 * num_rows * num_columns:
        # Three times as fast as warpAffine: scaled exactly, then moved by the fraction of a pixel that is left. That
        # rounds off the bends at cell centres by some grey levels and leaves the contour where it is.
        scaled = cv2.resize(cells, None, fx=1 / step_x, fy=1 / step_y, interpolation=cv2.INTER_LINEAR)
        middle = first_column - x1 + (num_columns - 1) / 2, first_row - y1 + (num_rows - 1) / 2
        return rows, columns, cv2.getRectSubPix(scaled, (num_columns, num_rows), middle)
    # From a pixel of the patch to the cell it looks at, both counted from the first one's centre.
    to_cells = np.array(
        [
            [step_x, 0, (first_column + 0.5 - x1) * step_x - 0.5],
            [0, step_y, (first_row + 0.5 - y1) * step_y - 0.5],
        ]
    )
    size = (num_columns, num_rows)
    return rows, columns, cv2.warpAffine(cells, to_cells, size, flags=_BILINEAR, borderMode=cv2.BORDER_REPLICATE)


def union(
    instances: Instances,
    *,
    width: int,
    height: int,
    scale_x: float = 1.0,
    scale_y: float = 1.0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """All masks together, (height, width) uint8: in every pixel the largest of the pasted masks.

    width, height: of the plane to fill · scale_x, scale_y: from pixels of the picture to pixels of that plane (0.5
    for the chroma of 4:2:0) · out: an array to fill instead of a new one; what it held is forgotten.
    """
    if out is None:
        out = np.zeros((height, width), np.uint8)
    else:
        out[:] = 0
    boxes = instances.boxes.astype(np.float64) * (scale_x, scale_y, scale_x, scale_y)
    for cells, box in zip(as_bytes(instances.masks), boxes.tolist(), strict=True):
        rows, columns, patch = paste(cells, box, width=width, height=height)
        if patch.size:
            region = out[rows, columns]
            cv2.max(region, patch, dst=region)
    return out


def rle(mask: np.ndarray, box: Sequence[float] | np.ndarray, *, width: int, height: int) -> dict[str, Any]:
    """The pasted mask at 0.5 as COCO's compressed run lengths: {"size": [height, width], "counts": str}."""
    rows, columns, patch = paste(mask, box, width=width, height=height)
    return outlines.encoded_patch(patch >= 128, left=columns.start, top=rows.start, width=width, height=height)


def from_rle(rle: Mapping[str, Any], box: Sequence[float] | np.ndarray, *, size: int = 28) -> np.ndarray:
    """The (size, size) float32 mask in [0, 1] that, pasted into the box, covers what the run lengths cover there.

    rle: COCO's, compressed ("counts" str or bytes) or not (a list) · box (4,) xyxy in pixels of the same picture.
    Raises ValueError where they are no run lengths, or do not fill their picture.
    """
    height, width = outlines.size_of(rle)
    rows, columns, _ = paste(np.zeros((2, 2), np.uint8), box, width=width, height=height)
    inside = outlines.decoded_columns(rle, columns)
    num_rows, num_columns = rows.stop - rows.start, columns.stop - columns.start
    if num_columns <= 0 or num_rows <= 0:
        return np.zeros((size, size), np.float32)
    at_rows, at_columns = _spread(num_rows), _spread(num_columns)
    target = inside[np.ix_(at_rows + rows.start, at_columns)]  # (rows, columns)

    x1, y1, x2, y2 = (float(v) for v in box)
    down = _bilinear(at_rows + rows.start + 0.5, y1, y2, size)
    across = _bilinear(at_columns + columns.start + 0.5, x1, x2, size)
    return _fit(target, down, across)


def overlaps(masks_a: np.ndarray, boxes_a: np.ndarray, masks_b: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Intersection over union of every mask of `a` with every mask of `b`: (N, K) float32.

    masks (N, M, M) and (K, M', M') in [0, 1], inside where they reach 0.5 · boxes (N, 4) and (K, 4) xyxy. Each pair is
    compared on a small grid over the part that their boxes share.
    """
    boxes_a, boxes_b = _finite_boxes(boxes_a), _finite_boxes(boxes_b)
    result = np.zeros((len(boxes_a), len(boxes_b)), np.float32)
    if not result.size:
        return result
    areas_a, areas_b = areas(masks_a, boxes_a), areas(masks_b, boxes_b)
    low = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    high = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    meets = (high > low).all(axis=2) & (areas_a[:, None] > 0) & (areas_b[None, :] > 0)
    i, j = np.nonzero(meets)
    shared = common(masks_a[i], boxes_a[i], masks_b[j], boxes_b[j])
    result[i, j] = np.clip(shared / np.maximum(areas_a[i] + areas_b[j] - shared, 1e-9), 0, 1)
    return result


def common(masks_a: np.ndarray, boxes_a: np.ndarray, masks_b: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """The area in pixels that each mask of `a` shares with its partner of `b`, (P,) float64.

    masks (P, M, M) and (P, M', M') in [0, 1] · boxes (P, 4) each, xyxy, as for `overlaps`.
    """
    boxes_a, boxes_b = _finite_boxes(boxes_a), _finite_boxes(boxes_b)
    regions = np.hstack([np.maximum(boxes_a[:, :2], boxes_b[:, :2]), np.minimum(boxes_a[:, 2:], boxes_b[:, 2:])])
    shared: np.ndarray = np.maximum(regions[:, 2:] - regions[:, :2], 0).prod(axis=1)
    meets = np.nonzero(shared > 0)[0]
    for start in range(0, len(meets), _MOST_PAIRS):
        p = meets[start : start + _MOST_PAIRS]
        both = _sample(masks_a[p], boxes_a[p], regions[p]) & _sample(masks_b[p], boxes_b[p], regions[p])
        shared[p] *= both.mean(axis=(1, 2))
    return shared


def areas(masks: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The area of each mask (N, M, M) in its box (N, 4) in pixels, (N,) float64; inside is where it reaches 0.5."""
    boxes = _finite_boxes(boxes)
    whole: np.ndarray = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    down, across = (_bilinear(_AT, 0.0, 1.0, cells) for cells in masks.shape[1:])  # the same in every box
    for start in range(0, len(masks), _MOST_PAIRS):
        some = slice(start, start + _MOST_PAIRS)
        covered = down @ masks[some].astype(np.float32, copy=False) @ across.T >= 0.5
        whole[some] *= covered.mean(axis=(1, 2))
    return whole


def certainty(masks: np.ndarray) -> np.ndarray:
    """How certain masks (N, M, M) in [0, 1] are of what they cover, (N,) float32: the mean of what is at least 0.5 in
    each, and its greatest value where nothing is."""
    covered = masks >= 0.5
    count = covered.sum(axis=(1, 2))
    mean = (masks * covered).sum(axis=(1, 2)) / np.maximum(count, 1)
    certain: np.ndarray = np.where(count > 0, mean, masks.max(axis=(1, 2), initial=0)).astype(np.float32)
    return certain


def moved_into(masks: np.ndarray, boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The masks (N, M, M) of boxes (N, 4) as masks of other boxes (N, 4): what they cover stays where it is.

    What a mask covers beyond its new box is lost.
    """
    boxes, others = _finite_boxes(boxes), _finite_boxes(others)
    at = (np.arange(masks.shape[1]) + 0.5) / masks.shape[1]
    points = others[:, None, :2] + at[:, None] * (others[:, None, 2:] - others[:, None, :2])  # (N, M, 2) x, y
    low, high = boxes[:, None, :2], np.maximum(boxes[:, None, 2:], boxes[:, None, :2] + 1e-6)
    inside = ((points >= low) & (points < high)).astype(np.float32)
    across = _bilinear(points[..., 0], low[..., 0], high[..., 0], masks.shape[2]) * inside[..., :1]
    down = _bilinear(points[..., 1], low[..., 1], high[..., 1], masks.shape[1]) * inside[..., 1:]
    moved: np.ndarray = down @ masks @ across.transpose(0, 2, 1)
    return moved


def box_iou(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Intersection over union of every box of `a` (N, 4) with every box of `b` (K, 4), xyxy: (N, K) float32."""
    boxes_a, boxes_b = _finite_boxes(boxes_a), _finite_boxes(boxes_b)
    corner = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    sides = np.maximum(np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:]) - corner, 0)
    common = sides.prod(axis=2)
    area_a = np.maximum(boxes_a[:, 2:] - boxes_a[:, :2], 0).prod(axis=1)
    area_b = np.maximum(boxes_b[:, 2:] - boxes_b[:, :2], 0).prod(axis=1)
    together = area_a[:, None] + area_b[None, :] - common
    return np.where(together > 0, common / np.where(together > 0, together, 1), 0).astype(np.float32)


def paired_iou(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Intersection over union of every box of `a` (N, 4) with its partner of `b` (N, 4), xyxy: (N,) float32."""
    both = np.stack([_finite_boxes(boxes_a), _finite_boxes(boxes_b)])
    sides = np.minimum(*both[..., 2:]) - np.maximum(*both[..., :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    together = np.maximum(both[..., 2:] - both[..., :2], 0).prod(axis=2).sum(axis=0) - shared
    overlap: np.ndarray = (shared / np.where(together > 0, together, 1)).astype(np.float32)
    return overlap


def _bilinear(points: np.ndarray, start: np.ndarray | float, end: np.ndarray | float, cells: int) -> np.ndarray:
    """The weight of every cell at every point, (..., points, cells): how `paste` interpolates along one side."""
    position = np.clip((points - start) * cells / (end - start) - 0.5, 0, cells - 1).astype(np.float32)
    weights = position[..., None] - np.arange(cells, dtype=np.float32)
    np.abs(weights, out=weights)
    np.subtract(1, weights, out=weights)
    return np.maximum(weights, 0, out=weights)


def _spread(num: int) -> np.ndarray:
    """Indices of all of `num` pixels, or of 224 of them evenly spread: eight points a cell are enough to find it."""
    return np.arange(num) if num <= 224 else np.linspace(0, num - 1, 224).round().astype(int)


def _fit(target: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Cells m (size, size) whose down · m · acrossᵀ reaches 0.5 inside the target (rows, columns) and only there.

    Least squares, then again with the pixels that are on their side already let be: alternating projections between
    "what bilinear cells can make" and "what has the right side of 0.5". OpenCV multiplies here, because numpy's
    BLAS would wait for threads on cores that the rest of the pipeline keeps busy.
    """
    down, across = down.astype(np.float64), across.astype(np.float64)
    invert_down, invert_across = np.linalg.pinv(down), np.linalg.pinv(across)
    wanted = target.astype(np.float64)
    for _ in range(12):
        cells = _product(_product(invert_down, wanted), invert_across.T)
        cells = np.clip(cells, 0, 1)
        made = _product(down, _product(cells, across.T))
        if ((made >= 0.5) == target).all():
            break
        wanted = np.where(target, np.maximum(made, 0.6), np.minimum(made, 0.4))
    return cells.astype(np.float32)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    product: np.ndarray = cv2.gemm(a, np.ascontiguousarray(b), 1, None, 0)
    return product


def _finite_boxes(boxes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) as float64; one that is not finite becomes an empty one."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.where(np.isfinite(boxes).all(axis=1, keepdims=True), boxes, 0)


def _sample(masks: np.ndarray, boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Where masks (P, M, M) in boxes (P, 4) cover a grid of points over regions (P, 4): (P, G, G) bool."""
    x = regions[:, :1] + _AT * (regions[:, 2:3] - regions[:, :1])  # (P, G)
    y = regions[:, 1:2] + _AT * (regions[:, 3:4] - regions[:, 1:2])
    down = _bilinear(y, boxes[:, 1:2], boxes[:, 3:4], masks.shape[1])  # (P, G, M)
    across = _bilinear(x, boxes[:, :1], boxes[:, 2:3], masks.shape[2])
    covered: np.ndarray = down @ masks.astype(np.float32, copy=False) @ across.transpose(0, 2, 1) >= 0.5
    return covered
