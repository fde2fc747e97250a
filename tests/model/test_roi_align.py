"""ROIAlign reads what a slow loop over cells reads, from the level that suits the box."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from keras import ops

from streamseg.model.roi_align import crop_and_resize, roi_align

SIZES = {2: (16, 24), 3: (8, 12), 4: (4, 6), 5: (2, 3)}


def slow_roi_align(
    levels: dict[int, np.ndarray],
    boxes: np.ndarray,
    picture_ids: np.ndarray,
    size: int,
    *,
    sampling: str = "one",
    aligned: bool = True,
) -> np.ndarray:
    pooled = []
    for box, picture in zip(boxes.astype(float), picture_ids, strict=True):
        area = max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
        wanted = np.floor(4 + np.log2(max(np.sqrt(area), 1e-3) / 224) + 1e-6)
        level = int(np.clip(wanted, min(levels), max(levels)))
        left, top, right, bottom = box / 2**level - (0.5 if aligned else 0)
        width, height = right - left, bottom - top
        if not aligned:
            width, height = max(width, 1), max(height, 1)
        samples_x, samples_y = {
            "one": (1, 1),
            "two": (2, 2),
            "adaptive": (max(1, int(np.ceil(width / size))), max(1, int(np.ceil(height / size)))),
        }[sampling]
        cells = np.zeros((size, size, levels[level].shape[-1]))
        for i, j in np.ndindex(size, size):
            for k, m in np.ndindex(samples_y, samples_x):
                y = top + (i + (k + 0.5) / samples_y) / size * height
                x = left + (j + (m + 0.5) / samples_x) / size * width
                cells[i, j] += bilinear(levels[level][picture], y, x, empty=not aligned)
        pooled.append(cells / (samples_x * samples_y))
    return np.array(pooled)


def bilinear(features: np.ndarray, y: float, x: float, *, empty: bool) -> np.ndarray:
    """The value between four cells; beside the map its border, or nothing further than a cell away if `empty`."""
    rows, columns = features.shape[:2]
    if empty and not (-1 <= y <= rows and -1 <= x <= columns):
        return np.zeros(features.shape[2])
    y, x = min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    upper = features[top, left] * (1 - (x - left)) + features[top, right] * (x - left)
    lower = features[bottom, left] * (1 - (x - left)) + features[bottom, right] * (x - left)
    value: np.ndarray = upper * (1 - (y - top)) + lower * (y - top)
    return value


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", ["one", "two", "adaptive"])
def test_roi_align_is_its_slow_twin(sampling: Literal["one", "two", "adaptive"], aligned: bool) -> None:
    rng = np.random.default_rng(0)
    levels = {i: rng.normal(size=(2, *size, 3)).astype(np.float32) for i, size in SIZES.items()}
    start = rng.uniform(-10, 60, (30, 2))
    boxes = np.concatenate([start, start + rng.uniform(0, 90, (30, 2))], 1).astype(np.float32)
    boxes[0] = 0
    boxes[1] = (-200, -200, 500, 400)  # level 5
    picture_ids = rng.integers(0, 2, 30).astype(np.int32)
    how: Any = {"sampling": sampling, "aligned": aligned}
    pooled = roi_align(levels, boxes, picture_ids, size=5, **how)
    expected = slow_roi_align(levels, boxes, picture_ids, 5, **how)
    np.testing.assert_allclose(ops.convert_to_numpy(pooled), expected, atol=1e-4)


def test_a_box_that_is_no_number_has_no_features_and_the_others_have_theirs() -> None:
    levels = {i: np.full((1, *size, 1), i, np.float32) for i, size in SIZES.items()}
    boxes = np.float32([[0, 0, 111, 111], [np.nan, 0, 9, np.nan], [0, 0, 449, 449]])
    pooled = ops.convert_to_numpy(roi_align(levels, boxes, np.zeros(3, np.int32), size=2))
    assert np.isnan(pooled[1]).any()
    np.testing.assert_array_equal(pooled[[0, 2]], np.float32([2, 5])[:, None, None, None] + np.zeros((2, 2, 2, 1)))


@pytest.mark.parametrize(
    ("side", "level"), [(10, 2), (111, 2), (113, 3), (223, 3), (225, 4), (447, 4), (449, 5), (2000, 5)]
)
def test_a_box_is_pooled_from_the_level_of_its_size(side: float, level: int) -> None:
    levels = {i: np.full((1, *size, 1), i, np.float32) for i, size in SIZES.items()}
    pooled = roi_align(levels, np.float32([[0, 0, side, side]]), np.zeros(1, np.int32), size=2)
    np.testing.assert_allclose(ops.convert_to_numpy(pooled), level)


def test_a_ramp_is_read_at_the_middle_of_each_cell() -> None:
    ramp = np.broadcast_to(np.arange(24, dtype=np.float32)[None, None, :, None] * 4 + 2, (1, 16, 24, 1))  # x in pixels
    levels = {i: ramp if i == 2 else np.zeros((1, *size, 1), np.float32) for i, size in SIZES.items()}
    pooled = roi_align(levels, np.float32([[10, 10, 50, 30]]), np.zeros(1, np.int32), size=4)
    np.testing.assert_allclose(ops.convert_to_numpy(pooled)[0, 0, :, 0], [15, 25, 35, 45], atol=1e-4)


def test_samples_are_averaged_and_not_aligned_ones_lie_half_a_cell_further() -> None:
    square = np.broadcast_to(np.arange(24, dtype=np.float32)[None, None, :, None] ** 2, (1, 16, 24, 1))
    levels = {i: square if i == 2 else np.zeros((1, *size, 1), np.float32) for i, size in SIZES.items()}
    box, ids = np.float32([[8, 8, 40, 40]]), np.zeros(1, np.int32)  # columns 2 to 10, of which one is 4 pixels

    def first(**options: Any) -> float:
        return float(ops.convert_to_numpy(roi_align(levels, box, ids, size=2, **options))[0, 0, 0, 0])

    # a half of the box is 4 columns: its middle is 3.5 from the middle of the first
    assert first() == pytest.approx((3**2 + 4**2) / 2)
    assert first(sampling="two") == pytest.approx(((2**2 + 3**2) / 2 + (4**2 + 5**2) / 2) / 2)
    assert first(sampling="adaptive") == pytest.approx((2**2 + 3**2 + 4**2 + 5**2) / 4)
    assert first(sampling="two", aligned=False) == pytest.approx((3**2 + 5**2) / 2)


@pytest.mark.parametrize("side", [4, 32, 256])
def test_a_box_that_ends_on_the_far_edge_sees_the_border_and_one_that_goes_beyond_sees_nothing_there(side: int) -> None:
    start = np.random.default_rng(0).uniform(0, 0.9, (200, 2)).astype(np.float32)
    map_, picture_ids = np.ones((1, side, side, 1), np.float32), np.zeros(200, np.int32)
    for size in (7, 14):
        for end, seen in ((1.0, 1.0), (1.001, 0.0)):
            boxes = np.concatenate([start, np.full((200, 2), end, np.float32)], -1)
            crops = crop_and_resize({2: map_}, boxes, picture_ids, size=size, width=128, height=128)
            crops = ops.convert_to_numpy(crops)[..., 0]
            for border in (crops[:, -1], crops[:, :, -1]):
                np.testing.assert_allclose(border, seen, atol=1e-5)
            np.testing.assert_allclose(crops[:, :-1, :-1], 1, atol=1e-5)
