"""How objects look: the colours under their masks, the upper and the lower half each on its own, as small histograms.

N objects, P points of all of them that are looked at, L numbers of a look.
"""

from __future__ import annotations

import av
import numpy as np

from streamseg.canvas.planes import Component, Layout, layout_of
from streamseg.types import Frame, Instances

POINTS = (32, 16)
"""Rows and columns of points of a box at which the picture is looked at: the cost does not grow with the picture."""

BINS = 12
"""Bins of each histogram: as many as the few hundred points of an object can fill."""

CHROMA = (80.0, 176.0)
"""The span of chroma, of 0 to 255, that the bins share: hardly anything that is filmed lies beyond; it counts there."""

LENGTH = 2 * 3 * BINS
"""Numbers of a look: two halves with a histogram of Y, U and V each."""


def looks_in(frame: Frame, instances: Instances) -> np.ndarray:
    """How each object looks in a frame, (N, 72) float32; of a picture that is gone, as it was seen then."""
    if frame.sight is None:
        return looks_of(frame.picture, instances)
    rows = {key: row for row, key in enumerate(_keys(frame.sight.instances))}
    looks: np.ndarray = frame.sight.looks[np.array([rows[key] for key in _keys(instances)], np.intp)]
    return looks


def looks_of(picture: av.VideoFrame, instances: Instances) -> np.ndarray:
    """How each object looks, (N, 72) float32: per half and component a histogram whose sum is 1.

    A histogram is all 0 where nothing is known: of what lies outside the picture, of a half without mask, of chroma in
    a grey picture, and in pixel formats that cannot be looked at where they lie.
    """
    layout = layout_of(picture.format.name)
    if layout is None or not len(instances) or any(plane.line_size <= 0 for plane in picture.planes):
        return np.zeros((len(instances), LENGTH), np.float32)
    half, x, y = _points(instances, width=picture.width, height=picture.height)
    values = [_sampled(picture, layout, component, x=x, y=y) for _, component in layout.painted]
    if layout.kind == "rgb":
        values = _yuv(*values)
    num_halves, spans = 2 * len(instances), ((0.0, 255.0), CHROMA, CHROMA)
    histograms = np.zeros((num_halves, 3, BINS))
    for component, (value, span) in enumerate(zip(values, spans, strict=False)):
        histograms[:, component] = _histograms(value, half, span=span, num_halves=num_halves)
    return _normal(histograms).reshape(len(instances), LENGTH)


def alike(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much each of some looks (N, L) is like each of the others (K, L), (N, K): 1 the same, 0 nothing in common.

    Bhattacharyya's coefficient, the mean of those of all histograms that both know; NaN where there is none.
    """
    shape = (-1, 2 * 3, BINS)
    a, b = np.sqrt(some).reshape(shape), np.sqrt(others).reshape(shape)
    known = a.any(axis=2).astype(np.float32) @ b.any(axis=2).astype(np.float32).T
    common = a.reshape(len(some), -1) @ b.reshape(len(others), -1).T
    return np.where(known > 0, common / np.maximum(known, 1), np.nan)


def _keys(instances: Instances) -> list[tuple[bytes, bytes, float, int]]:
    """What tells each object from all others of its frame."""
    arrays = zip(instances.boxes, instances.masks, instances.scores, instances.class_ids, strict=True)
    return [(box.tobytes(), mask.tobytes(), float(score), int(number)) for box, mask, score, number in arrays]


def _points(instances: Instances, *, width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points that lie on an object in the picture: the number of their half, x and y in pixels, (P,) int each.

    Halves 0 and 1 are the upper and the lower one of the first object, 2 and 3 those of the second, …
    """
    (rows, columns), side = POINTS, instances.masks.shape[1:]
    down, across = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
    x1, y1, x2, y2 = (each[:, None] for each in instances.boxes.T)
    x, y = np.floor(x1 + across * (x2 - x1)), np.floor(y1 + down * (y2 - y1))  # (N, columns), (N, rows)
    cells = instances.masks[:, (down * side[0]).astype(int)][:, :, (across * side[1]).astype(int)]
    inside = cells >= 0.5
    inside &= ((x >= 0) & (x < width))[:, None, :]
    inside &= ((y >= 0) & (y < height))[:, :, None]
    row, column = np.divmod(np.flatnonzero(inside), columns)  # rows: of all objects, one below the other
    return row // (rows // 2), x[row // rows, column].astype(np.intp), y.ravel()[row].astype(np.intp)


def _sampled(
    picture: av.VideoFrame, layout: Layout, component: Component, *, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """A component at points x, y (P,) of the picture, 0 to 255 whatever its depth: (P,) float32."""
    plane = picture.planes[component.plane]
    samples = np.frombuffer(memoryview(plane), np.uint8)[: plane.height * plane.line_size].view(layout.dtype)
    rows = y // component.sub_y * (plane.line_size // samples.itemsize)
    taken = samples.take(rows + x // component.sub_x * component.step + component.offset) >> layout.shift
    eight_bits: np.ndarray = taken.astype(np.float32) / 2 ** (layout.depth - 8)
    return eight_bits


def _yuv(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> list[np.ndarray]:
    """RGB as Y, U and V of full range (BT.601)."""
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return [luma, 128 + 0.564 * (blue - luma), 128 + 0.713 * (red - luma)]


def _histograms(value: np.ndarray, half: np.ndarray, *, span: tuple[float, float], num_halves: int) -> np.ndarray:
    """Histograms (H, BINS) of the values (P,) of H halves, each value shared by the two bins that it lies between."""
    low, high = span
    place = np.clip((value - low) * ((BINS - 1) / (high - low)), 0, BINS - 1.001)
    first = place.astype(np.intp)
    upper = place - first
    first += BINS * half
    counts = np.bincount(first, 1 - upper, num_halves * BINS)
    counts[1:] += np.bincount(first, upper, num_halves * BINS)[:-1]
    return counts.reshape(num_halves, BINS)


def _normal(histograms: np.ndarray) -> np.ndarray:
    total = histograms.sum(axis=-1, keepdims=True)
    normal: np.ndarray = (histograms / np.where(total > 0, total, 1)).astype(np.float32)
    return normal
