"""Shapes are the same for the same seed, lie inside the picture, and are coloured where their masks say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from streamseg import plugins
from streamseg.datasets.shapes import LEAST_CONTRAST, Shapes
from streamseg.training.data import read_rgb
from streamseg.types import Dataset, UsageError


def test_a_picture_is_decided_by_its_seed_and_index() -> None:
    shapes = Shapes(count=30)
    assert isinstance(shapes, Dataset) and len(shapes) == 30
    again, other = Shapes(count=8, seed=0), Shapes(count=8, seed=1)
    for i in range(8):
        np.testing.assert_array_equal(read_rgb(shapes[i]), read_rgb(again[i]))
        assert shapes[i].masks == again[i].masks
        assert not np.array_equal(read_rgb(shapes[i]), read_rgb(other[i]))
    with pytest.raises(IndexError):
        again[8]


def test_every_mask_is_one_colour_apart_from_the_ground_and_the_rest_is_ground() -> None:
    shapes = Shapes(count=40, width=160, height=96)
    seen = set()
    for i in range(40):
        sample = shapes[i]
        rgb = read_rgb(sample)
        assert rgb.shape == (96, 160, 3) and 1 <= len(sample.boxes) <= 4
        masks = np.array([coco_mask.decode(mask) for mask in sample.masks], bool)
        assert masks.sum(axis=0).max() == 1  # what is hidden belongs to the shape before it
        (ground,) = np.unique(rgb[~masks.any(axis=0)], axis=0)
        for mask in masks:
            (colour,) = np.unique(rgb[mask], axis=0)
            assert np.abs(colour.astype(int) - ground).max() >= LEAST_CONTRAST
        seen |= set(sample.class_ids.tolist())
    assert seen == {1, 2, 3}


def test_squares_circles_and_triangles_fill_their_boxes_as_they_should() -> None:
    """A square fills its box, a circle π/4 of it, a triangle half."""
    shapes = Shapes(count=60, width=256, height=256, most=1)
    shares: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for i in range(60):
        sample = shapes[i]
        x1, y1, x2, y2 = sample.boxes[0]
        shares[int(sample.class_ids[0])].append(coco_mask.decode(sample.masks[0]).sum() / ((x2 - x1) * (y2 - y1)))
    np.testing.assert_allclose(shares[1], 1)
    np.testing.assert_allclose(shares[2], np.pi / 4, atol=0.02)
    np.testing.assert_allclose(shares[3], 0.5, atol=0.03)


def test_options_that_cannot_be_are_refused() -> None:
    assert plugins.build("datasets", "shapes", {"most": 1, "count": 3})[2].path == Path("shapes-0-2")
    with pytest.raises(UsageError, match="dataset shapes: most: expected at least 1, got 0"):
        plugins.build("datasets", "shapes", {"most": 0})
    with pytest.raises(UsageError, match="did you mean 'width'"):
        plugins.build("datasets", "shapes", {"widht": 64})
