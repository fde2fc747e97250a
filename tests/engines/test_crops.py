"""What the heads see of boxes, outside of the networks: the graph's own ROIAlign, and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.config import ModelConfig
from streamseg.engines._crops import Pyramid, crops
from streamseg.letterbox import normalised

WIDTH, HEIGHT = 128, 96
LITE = ModelConfig()
ORIGINAL = ModelConfig.matterport()
LEVELS = (2, 3, 4, 5)


def pyramid(rng: np.random.Generator, channels: int = 3) -> dict[int, np.ndarray]:
    return {i: rng.normal(size=(HEIGHT >> i, WIDTH >> i, channels)).astype(np.float32) for i in LEVELS}


def boxes_of_all_kinds(rng: np.random.Generator) -> np.ndarray:
    """Boxes (60, 4) in pixels of every level, some over the edges, without an area, or as large as the input."""
    start = rng.uniform(-20, 100, (60, 2))
    boxes = np.concatenate([start, start + rng.uniform(0, 1, (60, 2)) * 10 ** rng.uniform(0, 3, (60, 1))], axis=1)
    boxes[0], boxes[1] = 0, (0, 0, WIDTH, HEIGHT)
    boxes[2, 2:] = boxes[2, :2]
    return boxes.astype(np.float32)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_crops_of_the_lite_family_are_those_of_the_graph(size: int) -> None:
    from keras import ops

    from streamseg.model.roi_align import roi_align

    rng = np.random.default_rng(size)
    levels, boxes = pyramid(rng), boxes_of_all_kinds(rng)
    batched = {i: level[None] for i, level in levels.items()}
    expected = ops.convert_to_numpy(roi_align(batched, boxes, np.zeros(60, np.int32), size=size))
    found = crops(Pyramid.of(levels), boxes, LITE, size=size, width=WIDTH, height=HEIGHT)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("sampling", ["one", "two", "adaptive"])
@pytest.mark.parametrize("aligned", [True, False])
def test_crops_of_the_torchvision_family_are_those_of_the_graph(sampling: str, aligned: bool) -> None:
    from keras import ops

    from streamseg.model.roi_align import roi_align

    rng = np.random.default_rng(0)
    levels, boxes = pyramid(rng), boxes_of_all_kinds(rng)
    batched = {i: level[None] for i, level in levels.items()}
    config = ModelConfig.torchvision(roi_sampling=sampling, roi_aligned=aligned)
    nowhere = np.zeros(60, np.int32)
    expected = roi_align(batched, boxes, nowhere, size=3, sampling=sampling, aligned=aligned)
    found = crops(Pyramid.of(levels), boxes, config, size=3, width=WIDTH, height=HEIGHT)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, ops.convert_to_numpy(expected), atol=1e-4)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_crops_of_the_matterport_family_are_those_of_the_graph(size: int) -> None:
    from keras import ops

    from streamseg.model.roi_align import crop_and_resize

    rng = np.random.default_rng(size)
    levels, boxes = pyramid(rng), normalised(boxes_of_all_kinds(rng), WIDTH, HEIGHT)
    boxes[3] = (0, 0, 1, 1)  # whose last samples lie on the border
    batched = {i: level[None] for i, level in levels.items()}
    nowhere = np.zeros(60, np.int32)
    expected = ops.convert_to_numpy(crop_and_resize(batched, boxes, nowhere, size=size, width=WIDTH, height=HEIGHT))
    found = crops(Pyramid.of(levels), boxes, ORIGINAL, size=size, width=WIDTH, height=HEIGHT)
    assert (found[3, -1, -1] != 0).all()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_box_that_is_no_number_sees_nothing_in_the_matterport_family() -> None:
    levels = pyramid(np.random.default_rng(0))
    boxes = np.float32([[np.nan] * 4, [0.1, 0.1, 0.4, 0.4]])
    found = crops(Pyramid.of(levels), boxes, ORIGINAL, size=2, width=WIDTH, height=HEIGHT)
    assert not found[0].any() and found[1].all()


def test_a_box_that_is_no_number_does_no_harm_to_the_others() -> None:
    levels = pyramid(np.random.default_rng(0))
    boxes = np.float32([[np.nan] * 4, [10, 10, 60, 60], [np.inf] * 4, [-np.inf, 0, np.inf, 9]])
    with np.errstate(invalid="ignore"):
        found = crops(Pyramid.of(levels), boxes, LITE, size=2, width=WIDTH, height=HEIGHT)
    alone = crops(Pyramid.of(levels), boxes[1:2], LITE, size=2, width=WIDTH, height=HEIGHT)
    np.testing.assert_array_equal(found[1:2], alone)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("side", "level"), [(10, 2), (111, 2), (113, 3), (225, 4), (449, 5), (2000, 5)])
def test_a_box_is_pooled_from_the_level_of_its_size(side: float, level: int) -> None:
    levels = {i: np.full((HEIGHT >> i, WIDTH >> i, 1), i, np.float32) for i in LEVELS}
    found = crops(Pyramid.of(levels), np.float32([[0, 0, side, side]]), LITE, size=2, width=WIDTH, height=HEIGHT)
    np.testing.assert_allclose(found, level)


def test_samples_are_not_rounded_to_a_part_of_a_cell() -> None:
    """Of a ramp, where each is its own place: a 50th of a cell of four pixels apart."""
    ramp = np.broadcast_to(np.arange(32, dtype=np.float32)[None, :, None] * 4 + 2, (24, 32, 1))  # x in pixels
    levels = {2: np.ascontiguousarray(ramp)}
    boxes = np.float32([[10 + i * 0.08, 10, 50 + i * 0.08, 30] for i in range(20)])
    found = crops(Pyramid.of(levels), boxes, LITE, size=4, width=WIDTH, height=HEIGHT)[:, 0, :, 0]
    np.testing.assert_allclose(found, np.float32([15, 25, 35, 45]) + np.arange(20)[:, None] * 0.08, atol=1e-4)


def test_no_boxes_have_no_crops() -> None:
    levels = Pyramid.of(pyramid(np.random.default_rng(0)))
    assert crops(levels, np.zeros((0, 4), np.float32), LITE, size=7, width=8, height=8).shape == (0, 7, 7, 3)
