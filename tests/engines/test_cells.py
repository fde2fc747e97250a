"""Cells of a box in a plane are what the plane says at their middles, wherever the box lies."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from streamseg import masks
from streamseg.engines._cells import of_planes, of_prototypes, sigmoid

SIZE = {"size": 7, "width": 320, "height": 192}
PLANE = (24, 40)
"""(h, w): eight pixels a cell."""


def slowly(plane: np.ndarray, box: np.ndarray, *, size: int, width: int, height: int) -> np.ndarray:
    """The same for one box, a cell at a time: bilinear between the middles of a plane's cells, level beyond them."""
    rows, columns = plane.shape
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            x = (box[0] + (j + 0.5) / size * (box[2] - box[0])) * columns / width - 0.5
            y = (box[1] + (i + 0.5) / size * (box[3] - box[1])) * rows / height - 0.5
            x, y = min(max(x, 0), columns - 1), min(max(y, 0), rows - 1)
            left, top = int(x), int(y)
            right, bottom = min(left + 1, columns - 1), min(top + 1, rows - 1)
            u, v = x - left, y - top
            out[i, j] = (1 - v) * ((1 - u) * plane[top, left] + u * plane[top, right]) + v * (
                (1 - u) * plane[bottom, left] + u * plane[bottom, right]
            )
    return out


@pytest.fixture
def boxes() -> np.ndarray:
    """A hundred boxes of all sizes, some of which hang over the edge, and one around everything."""
    rng = np.random.default_rng(3)
    middle = rng.uniform(0, (320, 192), (100, 2))
    half = np.exp(rng.uniform(np.log(0.5), np.log(150), (100, 2)))
    return np.concatenate([[[0, 0, 320, 192]], np.concatenate([middle - half, middle + half], axis=1)])


def test_cells_of_planes_are_those_of_the_slow_twin(boxes: np.ndarray) -> None:
    planes = np.random.default_rng(0).normal(size=(3, *PLANE)).astype(np.float32)
    which = np.arange(len(boxes)) % 3
    expected = [slowly(planes[each], box, **SIZE) for each, box in zip(which, boxes, strict=True)]
    np.testing.assert_allclose(of_planes(planes, which, boxes, **SIZE), expected, atol=1e-4)


def test_cells_of_prototypes_are_those_of_the_mixed_plane(boxes: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    prototypes, weights = rng.normal(size=(5, *PLANE)).astype(np.float32), rng.normal(size=(len(boxes), 5))
    mixed = np.tensordot(weights, prototypes, 1).astype(np.float32)
    expected = of_planes(mixed, np.arange(len(boxes)), boxes, **SIZE)
    np.testing.assert_allclose(of_prototypes(weights, prototypes, boxes, **SIZE), expected, atol=1e-4)


def test_planes_of_whole_numbers_are_interpolated_too() -> None:
    plane = np.zeros((1, 1, 2), np.uint8)
    plane[..., 1] = 100
    cells = of_planes(plane, np.array([0]), np.float32([[0, 0, 4, 4]]), size=4, width=4, height=4)
    np.testing.assert_array_equal(cells[0], [[0, 25, 75, 100]] * 4)


@pytest.mark.parametrize("radius", [12, 40, 130])
def test_a_pasted_mask_covers_what_the_plane_scaled_to_the_picture_covers_in_the_box(radius: int) -> None:
    """56 cells a side, 640 pixels, planes of a quarter of that, as a YOLO file has them."""
    y, x = (np.mgrid[0:160, 0:160] + 0.5) * 4
    distance = np.hypot((x - 330) / 1.3, y - 310)
    logits = ((radius - distance) * 0.7).astype(np.float32)
    box = np.array([[330 - 1.3 * radius, 310 - radius, 330 + 1.3 * radius, 310 + radius]], np.float32)
    cells = sigmoid(of_planes(logits[None], np.array([0]), box, size=56, width=640, height=640))
    rows, columns, patch = masks.paste(cells[0], box[0], width=640, height=640)
    ours = patch >= 128
    whole = cv2.resize(logits, (640, 640), interpolation=cv2.INTER_LINEAR)[rows, columns] > 0
    assert (ours & whole).sum() / (ours | whole).sum() > 0.97


def test_a_sigmoid_of_anything_is_a_share() -> None:
    np.testing.assert_array_equal(sigmoid(np.float32([-1e30, -200, 0, 200, np.inf])), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(sigmoid(np.float32([np.log(3)])), [0.75], atol=1e-6)
