"""A half-trained model gives masks to objects that have none, and leaves everything else as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamseg.config import ModelConfig
from streamseg.datasets.coco import Coco
from streamseg.training.loader import Picture, Pictures
from streamseg.training.teach import as_inputs, load_taught, save_taught, teach
from streamseg.types import ModelError
from tests.tiny_model import TINY, make_balls, write_tiny_model


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    """Three pictures of two objects: all masks known; the first alone; none, and the second object is a crowd."""
    known = Pictures(Coco(path=make_balls(tmp_path_factory.mktemp("balls") / "b", 3)), side=14)
    second = replace(known[1], mask_weights=np.float32([1, 0]))
    crowd = replace(known[2].sample, crowd=np.array([False, True]))
    return [known[0], second, replace(known[2], sample=crowd, mask_weights=np.zeros(2, np.float32))]


@pytest.fixture(scope="module")
def taught(pictures: list[Picture], tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    model = write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    return teach(pictures, TINY, model / "model.weights.h5", weight=0.25)


def test_unknown_masks_are_taught_at_their_weight(pictures: list[Picture], taught: list[Picture]) -> None:
    assert [picture.mask_weights.tolist() for picture in taught] == [[1, 1], [1, 0.25], [0.25, 0]]
    for before, after, row in ((pictures[1], taught[1], 1), (pictures[2], taught[2], 0)):
        assert after.mini_masks[row].std() > 5 and (after.mini_masks[row] != before.mini_masks[row]).any()


def test_true_masks_crowds_and_the_pictures_given_stay(pictures: list[Picture], taught: list[Picture]) -> None:
    assert taught[0] is pictures[0]
    np.testing.assert_array_equal(taught[1].mini_masks[0], pictures[1].mini_masks[0])
    np.testing.assert_array_equal(taught[2].mini_masks[1], pictures[2].mini_masks[1])
    assert pictures[1].mask_weights.tolist() == [1, 0]


def test_what_was_taught_is_kept_for_a_resume(pictures: list[Picture], taught: list[Picture], tmp_path: Path) -> None:
    save_taught(taught, tmp_path / "taught.npz")
    again = load_taught(pictures, tmp_path / "taught.npz")
    for one, other in zip(again, taught, strict=True):
        np.testing.assert_array_equal(one.mini_masks, other.mini_masks)
        np.testing.assert_array_equal(one.mask_weights, other.mask_weights)
    assert [path.name for path in tmp_path.iterdir()] == ["taught.npz"]


def test_the_matterport_family_is_asked_in_its_own_coordinates(pictures: list[Picture]) -> None:
    config = ModelConfig.matterport(class_names=("background", "ball"), input_sizes=((96, 96),))
    image, boxes, class_ids = as_inputs(pictures[0], np.array([0, 1]), config)
    sample = pictures[0].sample
    scale = image.shape[1] / max(sample.width, sample.height)
    expected = (sample.boxes * scale - np.float32([0, 0, 1, 1])) / 95
    np.testing.assert_allclose(boxes[:2], expected, atol=1e-6)
    assert boxes.min() >= 0 and boxes.max() <= 1 and class_ids.tolist() == [1, 1, 1, 1]
    beside = image[0, int(sample.height * scale) :]
    assert beside.size and not beside.any()  # padded with the family's 0


def test_masks_that_were_taught_for_other_pictures_are_refused(
    pictures: list[Picture], taught: list[Picture], tmp_path: Path
) -> None:
    save_taught(taught, tmp_path / "taught.npz")
    for others in (pictures[:-1], [*pictures, pictures[0]]):
        with pytest.raises(ModelError, match="taught.npz: these masks are of other pictures than are trained on"):
            load_taught(others, tmp_path / "taught.npz")
