"""Batches come out the same for the same seed, epoch and index, with crowds and unknown masks marked."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from streamseg.config import TrainingConfig
from streamseg.datasets.coco import Coco
from streamseg.training.loader import Batches, Picture, Pictures, read_picture
from streamseg.types import InputError, Sample, UsageError
from tests.tiny_model import make_balls, tiny_experiment, tiny_stage


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    path = make_balls(tmp_path_factory.mktemp("balls"), 5)
    return list(Pictures(Coco(path=path), side=14))


def training(**changes: object) -> TrainingConfig:
    config = tiny_experiment(Path("none.json"), **changes).training
    assert config is not None
    return config


def test_a_batch_depends_on_seed_epoch_and_index_alone(pictures: list[Picture]) -> None:
    def images(seed: int, epoch: int, index: int, *, epochs_before: int = 0) -> bytes:
        batches = Batches(pictures, training(seed=seed), tiny_stage(), epoch=epoch - epochs_before)
        for _ in range(epochs_before):
            batches[0]
            batches.on_epoch_end()
        return batches[index][0]["images"].tobytes()

    first = images(0, 3, 1)
    assert images(0, 3, 1) == first == images(0, 3, 1, epochs_before=3)
    assert len({first, images(1, 3, 1), images(0, 4, 1), images(0, 3, 0)}) == 4


def test_an_epoch_shows_every_picture_at_most_once(pictures: list[Picture]) -> None:
    batches = Batches(pictures, training(), tiny_stage(batch_size=2))
    assert len(batches) == 2
    orders = []
    for _ in range(8):
        assert len(set(batches.order)) == 4
        orders.append(tuple(batches.order))
        batches.on_epoch_end()
    assert {i for order in orders for i in order} == set(range(5))
    assert len(set(orders)) > 1


def test_fewer_pictures_than_a_batch_are_repeated(pictures: list[Picture]) -> None:
    batches = Batches(pictures[:2], training(), tiny_stage(batch_size=6))
    assert len(batches) == 1
    assert batches[0][0]["images"].shape == (6, 96, 96, 3)


def test_pictures_with_masks_are_drawn_more_often(pictures: list[Picture]) -> None:
    unmasked = [Picture(p.sample, p.rgb, p.mini_masks, np.zeros(2, np.float32)) for p in pictures[1:]]
    batches = Batches([pictures[0], *unmasked] * 20, training(masked_share=4), tiny_stage(batch_size=10))
    drawn = np.concatenate([(batches.on_epoch_end(), batches.order)[1] for _ in range(40)])
    assert np.mean(drawn % 5 == 0) == pytest.approx(4 / 8, abs=0.05)


def test_a_batch_holds_the_truth_padded_to_max_objects(pictures: list[Picture]) -> None:
    batch, zeros = Batches(pictures, training(max_objects=4), tiny_stage())[0]
    shapes = {name: (array.shape, array.dtype.name) for name, array in batch.items()}
    assert shapes == {
        "images": ((2, 96, 96, 3), "uint8"),
        "boxes": ((2, 4, 4), "float32"),
        "class_ids": ((2, 4), "int32"),
        "mask_boxes": ((2, 4, 4), "float32"),
        "mini_masks": ((2, 4, 14, 14), "uint8"),
        "mask_weights": ((2, 4), "float32"),
    }
    assert all(not array.any() for array in zeros.values())
    used = batch["class_ids"] > 0
    assert (batch["mask_weights"][used] == 1).all() and not batch["mask_weights"][~used].any()
    assert batch["boxes"].min() >= 0 and batch["boxes"].max() <= 96
    sizes = batch["boxes"][used][:, 2:] - batch["boxes"][used][:, :2]
    assert sizes.min() >= 2 and not batch["boxes"][~used].any()


def test_a_batch_says_which_classes_the_dataset_of_each_picture_knows(pictures: list[Picture]) -> None:
    knowing = [
        replace(picture, sample=replace(picture.sample, known_classes=np.array(known)))
        for picture, known in zip(pictures, ([True, True, False], [True, False, True]), strict=False)
    ]
    batches = Batches(knowing, training(), tiny_stage(batch_size=2))
    assert batches[0][0]["active"].tolist() == [knowing[i].sample.known_classes.tolist() for i in batches.order]


def test_more_objects_than_max_are_chosen_at_random(pictures: list[Picture]) -> None:
    batches = Batches(pictures, training(max_objects=1), tiny_stage(scale=(0.8, 0.8)))
    chosen = [batches.view(pictures[0], np.random.default_rng(i)) for i in range(20)]
    assert all(row["class_ids"].tolist() == [1] for row in chosen)
    assert len({row["mask_boxes"][0, 0] < 48 for row in chosen}) == 2


def changed_sample(sample: Sample, **changes: object) -> Sample:
    return Sample(**{**sample.__dict__, **changes})


def test_crowds_are_marked_and_have_no_mask(pictures: list[Picture]) -> None:
    sample = changed_sample(pictures[0].sample, crowd=np.array([False, True]))
    picture = read_picture(sample, side=14)
    assert picture.mask_weights.tolist() == [1, 0]
    row = Batches([picture], training(), tiny_stage(scale=(0.8, 0.8))).view(picture, np.random.default_rng(0))
    assert row["class_ids"].tolist() == [1, -1, 0, 0]
    assert row["mask_weights"].tolist() == [1, 0, 0, 0]


def test_an_unknown_mask_has_no_weight(tmp_path: Path) -> None:
    picture = Pictures(Coco(path=make_balls(tmp_path / "b", 1, masks=False)), side=14)[0]
    assert picture.mask_weights.tolist() == [0, 0] and not picture.mini_masks.any()


def test_a_picture_without_objects_is_background(pictures: list[Picture]) -> None:
    nothing = {"boxes": np.zeros((0, 4), np.float32), "class_ids": np.zeros(0, np.int32), "masks": ()}
    sample = changed_sample(pictures[0].sample, crowd=np.zeros(0, bool), **nothing)
    batch, _ = Batches([read_picture(sample, side=14)], training(), tiny_stage())[0]
    assert not batch["class_ids"].any() and not batch["boxes"].any()


def test_damaged_missing_and_resized_pictures_are_named(pictures: list[Picture], tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    for name in ("text.jpg", "nothing.jpg"):
        with pytest.raises(InputError, match=f"{name}: the picture is missing or damaged"):
            read_picture(changed_sample(pictures[0].sample, path=tmp_path / name), side=14)
    with pytest.raises(InputError, match="1.png: expected 128x97 pixels as annotated, got 128x96"):
        read_picture(changed_sample(pictures[0].sample, height=97), side=14)


def test_pictures_beyond_the_cache_are_read_when_they_are_seen(tmp_path: Path) -> None:
    dataset = Coco(path=make_balls(tmp_path / "b", 4))
    one = read_picture(dataset[0], side=14).num_bytes
    pictures = Pictures(dataset, side=14, cache_gb=2.5 * one / 1e9)
    assert len(pictures) == 4 and not pictures.kept
    for i in (3, 1, 0):
        assert pictures[i].sample.image_id == i + 1
    assert set(pictures.kept) == {1, 3}
    assert pictures[1] is pictures[1] and pictures[-1] is pictures[3] and pictures[0] is not pictures[0]
    with pytest.raises(IndexError):
        pictures[4]
    everything = Batches(Pictures(dataset, side=14), training(), tiny_stage(batch_size=4))
    for _ in range(2):  # from the files, then from memory
        for name, array in Batches(pictures, training(), tiny_stage(batch_size=4))[0][0].items():
            np.testing.assert_array_equal(array, everything[0][0][name])


class Watched:
    """A dataset that counts how often each sample is taken, and fails as it is told."""

    def __init__(self, dataset: Coco, *, failing: dict[int, Exception] | None = None) -> None:
        self.dataset, self.class_names, self.failing = dataset, dataset.class_names, failing or {}
        self.taken: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        self.taken[index] += 1
        if index in self.failing:
            raise self.failing[index]
        return self.dataset[index]


def test_nothing_is_read_before_the_first_batch_and_nothing_twice_while_it_fits(tmp_path: Path) -> None:
    dataset = Watched(Coco(path=make_balls(tmp_path / "b", 4)))
    batches = Batches(Pictures(dataset, side=14), training(), tiny_stage(batch_size=2))
    assert len(batches) == 2 and not dataset.taken
    batches[0]
    assert sorted(dataset.taken.values()) == [1, 1]
    for _ in range(2):
        batches[0], batches[1]
        batches.on_epoch_end()
    assert dict(dataset.taken) == {0: 1, 1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("change", [{"balance": "size"}, {"balance": "class"}, {"masked_share": 2}])
def test_a_choice_of_pictures_looks_at_samples_and_reads_no_picture(tmp_path: Path, change: dict[str, Any]) -> None:
    path = make_balls(tmp_path / "b", 3)
    coco = Coco(path=path)
    for picture in (path.parent / "images").iterdir():
        picture.unlink()
    seen: list[tuple[int, int]] = []
    pictures = Pictures(coco, side=14, progress=lambda done, total: seen.append((done, total)))
    share = {name: value for name, value in change.items() if name == "masked_share"}
    stage = {name: value for name, value in change.items() if name == "balance"}
    Batches(pictures, training(**share), tiny_stage(**stage))
    assert seen == [(1, 3), (2, 3), (3, 3)] and not pictures.damaged
    assert pictures.num_bytes == 3 * (128 * 96 * 3 + 2 * 14 * 14)


def test_threads_read_the_same_pictures_and_keep_no_more_than_fits(tmp_path: Path) -> None:
    dataset = Coco(path=make_balls(tmp_path / "b", 6))
    one = read_picture(dataset[0], side=14).num_bytes
    pictures = Pictures(dataset, side=14, cache_gb=3.5 * one / 1e9)
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(lambda i: pictures[i % 6], range(240)))
    assert [picture.sample.image_id for picture in read] == [i % 6 + 1 for i in range(240)]
    assert len(pictures.kept) == 3 and all(pictures[i] is picture for i, picture in pictures.kept.items())


@pytest.mark.parametrize("cache_gb", [0, 4])
@pytest.mark.parametrize("place", [0, 2, 3])
def test_in_place_of_a_damaged_picture_comes_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: int, cache_gb: float
) -> None:
    path = make_balls(tmp_path / "b", 4)
    (path.parent / "images" / f"{place + 1}.png").write_bytes(b"broken")
    pictures = Pictures(Coco(path=path), side=14, cache_gb=cache_gb)
    instead = (place + 1) % 4
    for _ in range(2):
        assert [each.sample.image_id - 1 for each in pictures] == [instead if i == place else i for i in range(4)]
    assert [record.message for record in caplog.records] == [
        f"left out: {path.parent}/images/{place + 1}.png: the picture is missing or damaged"
    ]


@pytest.mark.parametrize("error", [ValueError("no rows"), OSError("gone"), KeyError("masks"), IndexError("4")])
@pytest.mark.parametrize("balance", ["none", "size"])
def test_whatever_a_dataset_raises_is_damage_of_the_picture_it_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, balance: str
) -> None:
    dataset = Watched(Coco(path=make_balls(tmp_path / "b", 4)), failing={1: error})
    batches = Batches(Pictures(dataset, side=14), training(), tiny_stage(batch_size=4, balance=balance))
    assert batches.times.tolist() == [1, 1, 1, 1]
    assert batches[0][0]["images"].shape == batches[0][0]["images"].shape == (4, 96, 96, 3)
    assert [record.message for record in caplog.records] == [f"left out: picture 1: {type(error).__name__}: {error}"]
    assert dataset.taken[1] == 1


def test_a_wrong_option_found_out_late_is_no_damage(tmp_path: Path) -> None:
    dataset = Watched(Coco(path=make_balls(tmp_path / "b", 4)), failing={1: UsageError("call prepare() first")})
    with pytest.raises(UsageError, match="prepare"):
        Pictures(dataset, side=14)[1]


def test_five_damaged_pictures_are_left_out_and_the_sixth_ends_the_training(tmp_path: Path) -> None:
    dataset = Watched(Coco(path=make_balls(tmp_path / "b", 9)))
    dataset.failing = {i: ValueError("torn") for i in range(2, 7)}
    assert [each.sample.image_id for each in Pictures(dataset, side=14)] == [1, 2, 8, 8, 8, 8, 8, 8, 9]
    dataset.failing[8] = ValueError("torn too")
    pictures = Pictures(dataset, side=14)
    assert len([pictures[i] for i in range(8)]) == 8
    message = r"picture 8: ValueError: torn too \(expected at most 5 damaged pictures of 9, got 6\)"
    for _ in range(2):
        with pytest.raises(InputError, match=message):
            pictures[8]


class Idle(keras.Model):
    """A model that looks at batches and learns nothing."""

    def train_step(self, data: Any) -> dict[str, float]:
        return {"loss": 0.0}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fit_ends_with_the_error_of_the_dataset_and_not_with_one_of_the_backend(tmp_path: Path, workers: int) -> None:
    """The first two batches are looked at before a fit begins; of the nine after them, several see damage."""
    dataset = Watched(Coco(path=make_balls(tmp_path / "b", 22)))
    dataset.failing = {i: ValueError("torn") for i in range(1, 22, 2)}
    batches = Batches(Pictures(dataset, side=14), training(workers=workers), tiny_stage())
    model = Idle()
    model.compile(run_eagerly=True)
    with pytest.raises(InputError, match=r"ValueError: torn \(expected at most 5"), batches.failing_as_themselves():
        model.fit(batches, verbose=0, shuffle=False)


def test_an_error_that_is_not_of_a_batch_stays_as_it_is(pictures: list[Picture]) -> None:
    with pytest.raises(ZeroDivisionError), Batches(pictures, training(), tiny_stage()).failing_as_themselves():
        _ = 1 / 0


def test_a_dataset_without_pictures_is_refused() -> None:
    with pytest.raises(InputError, match="expected at least one picture to train on"):
        Pictures([], side=14)  # type: ignore[arg-type]


def test_a_picture_that_breaks_later_is_left_out_until_too_many_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_balls(tmp_path / "b", 4)
    batches = Batches(Pictures(Coco(path=path), side=14, cache_gb=0), training(), tiny_stage(batch_size=4))
    (path.parent / "images" / "2.png").write_bytes(b"broken")
    assert batches[0][0]["images"].shape == (4, 96, 96, 3) == batches[0][0]["images"].shape
    assert [record.message for record in caplog.records] == [
        f"left out: {path.parent}/images/2.png: the picture is missing or damaged"
    ]
    for number in (1, 3, 4):
        (path.parent / "images" / f"{number}.png").unlink()
    with pytest.raises(InputError, match="the picture is missing or damaged"):
        batches[0]


def test_an_epoch_balanced_by_size_shows_rare_sizes_more_often(pictures: list[Picture]) -> None:
    wide = [replace(picture, sample=changed_sample(picture.sample, width=127)) for picture in pictures[:1]]
    batches = Batches([*wide, *pictures[1:]], training(), tiny_stage(balance="size", batch_size=2))
    assert len(batches) == 4
    assert sorted(batches.order) == [0, 0, 0, 0, 1, 2, 3, 4]
