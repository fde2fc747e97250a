"""What is pasted is seen whole; what it hides is off the masks and boxes below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamseg.config import AugmentConfig, TrainingConfig
from streamseg.datasets.coco import Coco
from streamseg.training.loader import Batches, Picture, Pictures
from streamseg.training.paste import CROWD, Objects, covered, paste
from tests.tiny_model import make_balls, tiny_experiment, tiny_stage

SIDE, CELLS = 64, 8


def objects(*boxes: tuple[float, ...], known: bool = True, class_id: int = 1) -> Objects:
    """Objects that fill their boxes."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    masks = np.full((len(boxes), CELLS, CELLS), 255 if known else 0, np.uint8)
    ids, weights = np.full(len(boxes), class_id), np.full(len(boxes), float(known), np.float32)
    return Objects(np.clip(array, 0, SIDE), ids, array, masks, weights)


def grey(level: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def pasted(below: Objects, above: Objects) -> tuple[np.ndarray, Objects]:
    return paste(grey(50), below, grey(200), above, np.random.default_rng(0))


def test_masks_cover_the_pixels_of_their_boxes_and_no_others() -> None:
    cover = covered(objects((8, 16, 40, 32), (-16, 48, 16, 80)), size=SIDE)
    wanted = np.zeros((SIDE, SIDE), bool)
    wanted[16:32, 8:40] = wanted[48:, :16] = True
    assert ((cover > 127) == wanted).mean() > 0.97 and (cover[20:28, 12:36] == 255).all()
    assert not cover[:14].any() and not cover[:, 42:].any()


def test_a_mask_covers_as_it_is_drawn_at_any_size() -> None:
    disc = np.hypot(*(np.mgrid[:CELLS, :CELLS] - 3.5)) < 3
    several = objects((4.5, 8, 36.5, 56))
    several.mini_masks[0] = 255 * disc
    cover = covered(several, size=SIDE) > 127
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    near = disc[np.clip((y - 8) / 6, 0, CELLS - 1).astype(int), np.clip((x - 4.5) / 4, 0, CELLS - 1).astype(int)] & (
        (y > 8) & (y < 56) & (x > 4.5) & (x < 36.5)
    )
    assert (cover == near).mean() > 0.95


def test_the_pasted_object_is_in_the_picture_and_among_the_objects() -> None:
    rgb, both = pasted(objects((0, 0, 20, 20)), objects((32, 32, 56, 56), class_id=2))
    assert (rgb[36:52, 36:52] == 200).all() and (rgb[:30, :30] == 50).all() and rgb.dtype == np.uint8
    assert both.boxes.tolist() == [[0, 0, 20, 20], [32, 32, 56, 56]]
    assert both.class_ids.tolist() == [1, 2] and (both.mini_masks == 255).all()


def test_what_is_hidden_goes_off_the_mask_and_the_box_below() -> None:
    _, both = pasted(objects((0, 0, 32, 32)), objects((16, -8, 48, 40)))
    assert both.class_ids.tolist() == [1, 1]
    np.testing.assert_allclose(both.boxes[0], (0, 0, 16, 32), atol=2)
    assert (both.mini_masks[0, :, :3] == 255).all() and not both.mini_masks[0, :, 5:].any()
    np.testing.assert_array_equal(both.mask_boxes[0], (0, 0, 32, 32))


@pytest.mark.parametrize(("right", "known", "ids"), [(28, True, CROWD), (12, False, 1), (20, False, CROWD)])
def test_of_which_too_little_is_seen_becomes_a_crowd(right: int, known: bool, ids: int) -> None:
    below = objects((0, 0, 32, 32), known=known)
    _, both = pasted(below, objects((-8, -8, right, 40)))
    assert both.class_ids.tolist() == [ids, 1]
    np.testing.assert_array_equal(both.boxes[0], (0, 0, 32, 32))


def test_a_crowd_stays_and_is_not_pasted() -> None:
    rgb, both = pasted(objects((0, 0, 32, 32)), objects((0, 0, 40, 40), class_id=CROWD))
    assert (rgb == 50).all() and len(both) == 1
    _, both = pasted(objects((0, 0, 32, 32), class_id=CROWD), objects((0, 0, 40, 40)))
    assert both.class_ids.tolist() == [CROWD, 1]
    rgb, both = pasted(objects((0, 0, 32, 32)), objects((0, 0, 40, 40), known=False))
    assert (rgb == 50).all() and len(both) == 1


def test_pasting_is_a_choice_of_some_and_never_of_none() -> None:
    many = objects(*((8.0 * i, 0, 8.0 * i + 8, 8) for i in range(6)))
    counts = [len(paste(grey(0), objects(), grey(9), many, np.random.default_rng(i))[1]) for i in range(40)]
    assert min(counts) >= 1 and len(set(counts)) > 2


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    return list(Pictures(Coco(path=make_balls(tmp_path_factory.mktemp("balls"), 5)), side=14))


def config() -> TrainingConfig:
    training = tiny_experiment(Path("none.json"), max_objects=8).training
    assert training is not None
    return training


def test_a_training_pastes_as_often_as_is_asked_and_repeats_itself(pictures: list[Picture]) -> None:
    def counts(share: float) -> list[int]:
        batches = Batches(pictures, config(), tiny_stage(augment=AugmentConfig(paste=share), batch_size=4))
        rows = [batches.view(pictures[0], np.random.default_rng(i)) for i in range(40)]
        return [int((row["class_ids"] > 0).sum()) for row in rows]

    assert sum(counts(0.0)) < sum(counts(0.5)) < sum(counts(1.0))
    assert counts(0.5) == counts(0.5) and max(counts(0.0)) <= 2
