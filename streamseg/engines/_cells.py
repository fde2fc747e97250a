"""Small masks looked up where they lie: the cells of a box in planes that span the whole input of a network.

    N objects, M cells along a side of a mask, P prototypes, (h, w) cells of a plane

No plane becomes a picture: what is under a box is cut out, mixed if it is of several planes, and sampled at the
middles of the M × M cells of the box, bilinear, as it would be in the plane scaled to the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

Window = tuple[slice, slice]


def of_planes(
    planes: np.ndarray, which: np.ndarray, boxes: np.ndarray, *, size: int, width: int, height: int
) -> np.ndarray:
    """The cells (N, M, M) of boxes (N, 4), each in its own of many planes (Q, h, w), by its index in `which` (N,).

    boxes: xyxy in pixels of the input of width × height, which a plane spans · size: M
    """

    def own(i: int, window: Window) -> np.ndarray:
        part: np.ndarray = planes[(which[i], *window)].astype(np.float32, copy=False)
        return part

    return _looked_up(own, planes.shape[1:], boxes, (size, width, height))


def of_prototypes(
    weights: np.ndarray, prototypes: np.ndarray, boxes: np.ndarray, *, size: int, width: int, height: int
) -> np.ndarray:
    """The cells (N, M, M) of boxes (N, 4) in the sums of prototypes (P, h, w) that weights (N, P) make.

    boxes: xyxy in pixels of the input of width × height, which a prototype spans · size: M
    """
    weights = np.ascontiguousarray(weights, np.float32)

    def mixed(i: int, window: Window) -> np.ndarray:
        parts = prototypes[(slice(None), *window)]
        # OpenCV multiplies, because numpy's BLAS would wait for threads on cores that the pipeline keeps busy
        flat = parts.reshape(len(parts), -1).astype(np.float32, copy=False)
        whole: np.ndarray = cv2.gemm(weights[i : i + 1], flat, 1, None, 0)
        return whole.reshape(parts.shape[1:])

    return _looked_up(mixed, prototypes.shape[1:], boxes, (size, width, height))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) of an array of any shape, float32; no number overflows."""
    shares: np.ndarray = 0.5 * np.tanh(0.5 * logits.astype(np.float32, copy=False)) + 0.5
    return shares


def _looked_up(
    part_of: Callable[[int, Window], np.ndarray], shape: tuple[int, ...], boxes: np.ndarray, grid: tuple[int, int, int]
) -> np.ndarray:
    """Cells (N, M, M) of `part_of(i, window)`, a part of the plane (h, w) of object i."""
    size, width, height = grid
    cells = np.empty((len(boxes), size, size), np.float32)
    down = _steps(boxes[:, 1::2] * (shape[0] / height), size, shape[0])
    across = _steps(boxes[:, 0::2] * (shape[1] / width), size, shape[1])
    for i, ((rows, low, high, share), (columns, left, right, part)) in enumerate(zip(down, across, strict=True)):
        plane = part_of(i, (rows, columns))
        lines = plane[low] + (plane[high] - plane[low]) * share[:, None]
        cells[i] = lines[:, left] + (lines[:, right] - lines[:, left]) * part
    return cells


def _steps(spans: np.ndarray, size: int, length: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """For each span (N, 2) of a line of `length` cells: the part of it that is needed, and in that for each of `size`
    steps the cell before it, the cell after it, and how far it is from the one to the other."""
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size
    places = np.clip(spans[:, :1] + steps * (spans[:, 1:] - spans[:, :1]) - 0.5, 0, length - 1)
    before = np.floor(places).astype(np.intp)
    after = np.minimum(before + 1, length - 1)
    shares = (places - before).astype(np.float32)
    for i in range(len(spans)):
        first = before[i, 0]
        yield slice(first, after[i, -1] + 1), before[i] - first, after[i] - first, shares[i]
