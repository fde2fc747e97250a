"""Augmenters of imgaug's kind: masks go where the pixels of their object go, and nothing else changes them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from streamseg.config import AugmentConfig
from streamseg.matterport.augmentation import Augmenter, augmentation_of, augmented, pictures_of
from streamseg.matterport.config import training_config
from streamseg.matterport.train import Plan, Shelf, batches_of
from streamseg.types import UsageError
from tests.matterport.test_dataset import Squares
from tests.matterport.test_train import Placed, resizing, rows_of


class Shifted:
    """Moves a picture to the right by some columns, drawn anew for each picture; beside it is `fill`."""

    def __init__(self, fill: int = 0) -> None:
        self.rng, self.fill, self.columns = np.random.default_rng(3), fill, 0

    def to_deterministic(self) -> Shifted:
        alike = copy.copy(self)
        alike.columns = int(self.rng.integers(1, 20))
        return alike

    def augment_image(self, image: np.ndarray) -> np.ndarray:
        moved = np.full_like(image, self.fill)
        moved[:, self.columns :] = image[:, : -self.columns]
        return moved


class Inverted:
    def to_deterministic(self) -> Inverted:
        return self

    def augment_image(self, image: np.ndarray) -> np.ndarray:
        return 255 - image


class Multiply(Inverted):
    """Named and called as imgaug's: hooks say whether it acts on what it is given."""

    def augment_image(self, image: np.ndarray, parents: Any = None, hooks: Any = None) -> np.ndarray:
        acts = hooks is None or hooks.is_activated(image, augmenter=self, parents=parents, default=True)
        return self.acted(image) if acts else image

    def acted(self, image: np.ndarray) -> np.ndarray:
        return image // 2


class Fliplr(Multiply):
    def acted(self, image: np.ndarray) -> np.ndarray:
        return image[:, ::-1]


class HorizontalMirror(Fliplr):
    pass


class Sequential(Multiply, list):  # type: ignore[type-arg]
    def augment_image(self, image: np.ndarray, parents: Any = None, hooks: Any = None) -> np.ndarray:
        for each in self:
            image = each.augment_image(image, parents=[self], hooks=hooks)
        return image


class Cut(Inverted):
    def augment_image(self, image: np.ndarray) -> np.ndarray:
        return image[2:]


def picture_with(num_masks: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of 30 × 40 pixels with one value inside each of its masks, and the masks."""
    rgb, masks = np.zeros((30, 40, 3), np.uint8), np.zeros((30, 40, num_masks), bool)
    for i in range(num_masks):
        masks[3 * i : 3 * i + 2, 4 : 10 + i, i] = True
        rgb[masks[..., i]] = 100 + i
    return rgb, masks


@pytest.mark.parametrize("num_masks", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("augmenter", [Shifted(), Sequential([Fliplr(), HorizontalMirror(), Fliplr()])])
def test_masks_go_where_the_pixels_of_their_object_go(augmenter: Augmenter, num_masks: int) -> None:
    rgb, masks = picture_with(num_masks)
    changed, moved = augmented(augmenter, rgb, masks)
    assert not np.array_equal(changed, rgb) or not num_masks
    assert moved.shape == masks.shape and moved.dtype == bool
    for i in range(num_masks):
        np.testing.assert_array_equal(moved[..., i], changed[..., 0] == 100 + i)


def test_what_an_augmenter_fills_in_beside_the_picture_is_of_no_object() -> None:
    rgb, masks = picture_with(2)
    changed, moved = augmented(Shifted(fill=255), rgb, masks)
    assert (changed[:, 0] == 255).all() and not moved[:, 0].any()
    np.testing.assert_array_equal(moved[..., 1], changed[..., 0] == 101)


def test_with_hooks_masks_follow_only_what_moves_pixels() -> None:
    rgb, masks = picture_with(2)
    changed, moved = augmented(Sequential([Fliplr(), Multiply()]), rgb, masks)
    np.testing.assert_array_equal(changed, rgb[:, ::-1] // 2)
    np.testing.assert_array_equal(moved, masks[:, ::-1])


def test_an_augmenter_that_cannot_be_followed_is_named() -> None:
    rgb, masks = picture_with(1)
    with pytest.raises(UsageError, match=r"Cut: expected a picture of \(30, 40, 3\) uint8 .*, got \(28, 40, 3\)"):
        augmented(Cut(), rgb, masks)
    with pytest.raises(UsageError, match="Sequential of Fliplr, Widened: expected a picture .* float64"):
        augmented(Sequential([Fliplr(), Widened()]), rgb, masks)
    with pytest.raises(UsageError, match="Inverted changes the values of masks too"):
        augmented(Inverted(), rgb, masks)


class Widened(Multiply):
    def acted(self, image: np.ndarray) -> np.ndarray:
        return image.astype(np.float64)


@pytest.mark.parametrize("given", [None, False])
def test_no_augmentation_is_none(given: Any) -> None:
    assert augmentation_of(given) is None


def test_what_is_no_augmentation_is_refused() -> None:
    config = augmentation_of({"flip_left_right": True})
    assert config == AugmentConfig(flip_left_right=True, aspect=0, colour=0)
    for wrong in (True, "flips", [Fliplr()], Fliplr):
        with pytest.raises(UsageError, match="expected fields of AugmentConfig, .* or an augmenter with to_determ"):
            augmentation_of(wrong)
    with pytest.raises(UsageError, match="augmentation: flip"):
        augmentation_of({"flip": True})


def views(mode: str, augment: Any, *, unchanged: frozenset[int] = frozenset()) -> list[dict[str, np.ndarray]]:
    """What twelve steps of a training see of two pictures, whose object is blue."""
    config = resizing(mode, smallest=64, largest=64)
    config.STEPS_PER_EPOCH = 12
    dataset = Placed(shape=(64, 64) if mode == "square" else (80, 100), box=(10, 20, 40, 40), count=2)
    own = augment if isinstance(augment, AugmentConfig) else None
    training = training_config(config, datasets={"train": "here"}, learning_rate=0.001, epochs=1, augment=own)
    pictures = Shelf().take([dataset, dataset], training, config)
    plan = Plan(0.001, 1, "all", augment, 0, "", "", unchanged)
    seen, validated = batches_of(plan, config, training, pictures=pictures, match=None)
    for row in rows_of(validated):
        if mode == "square":
            assert row["boxes"][0].tolist() == [20, 10, 40, 40]
    return rows_of(seen)


@pytest.mark.parametrize("mode", ["square", "crop"])
def test_a_training_moves_boxes_and_masks_along(mode: str) -> None:
    lefts = set()
    for row in views(mode, Shifted()):
        rows, columns = np.nonzero(row["images"][..., 2] > 127)
        if not row["class_ids"].any():
            continue
        box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert row["boxes"][0].tolist() == list(box)
        assert row["mini_masks"][0][4:-4, 4:-4].min() > 127
        lefts.add(box[0])
    assert len(lefts) > 3


def test_pictures_of_some_sources_are_not_augmented() -> None:
    dataset = Squares()
    assert pictures_of(dataset, None) == frozenset() and pictures_of(dataset, ["squares"]) == {0, 1, 2}
    dataset.add_image("other", "one", None, left=0)
    dataset.prepare()
    assert pictures_of(dataset, ["other"]) == {3}
    with pytest.warns(UserWarning, match="no_augmentation_sources: no picture is of 'square'; did you mean 'squares'"):
        assert pictures_of(dataset, ["square"]) == frozenset()
    with pytest.raises(UsageError, match=r"expected a list of sources, got 'other'; write \['other'\]"):
        pictures_of(dataset, "other")


@pytest.mark.parametrize("augment", [Shifted(), AugmentConfig(quarter_turns=True, aspect=0, colour=0)])
def test_a_training_leaves_such_pictures_as_they_are(augment: Any) -> None:
    assert {tuple(row["boxes"][0]) for row in views("square", augment, unchanged=frozenset({0, 1}))} == {
        (20, 10, 40, 40)
    }
    assert len({tuple(row["boxes"][0]) for row in views("square", augment, unchanged=frozenset({0}))}) > 1
