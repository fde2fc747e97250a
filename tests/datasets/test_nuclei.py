"""Nuclei are read mask by mask, split without overlap, and what is wrong with the folder is said at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from streamseg import plugins
from streamseg.datasets.nuclei import Nuclei
from streamseg.training.data import read_rgb
from streamseg.types import Dataset, InputError, UsageError


def write(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)
    return path


def make_nuclei(folder: Path, num_pictures: int = 2) -> Path:
    """Pictures of 60×40 with alpha; the mask of the first nucleus is x 10 to 20, y 5 to 25, of the other the rest."""
    for i in range(num_pictures):
        write(folder / f"id{i}" / "images" / f"id{i}.png", np.full((40, 60, 4), i, np.uint8))
        first, second = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
        first[5:25, 10:20] = second[30:31, 59:60] = 255
        write(folder / f"id{i}" / "masks" / "a.png", first)
        write(folder / f"id{i}" / "masks" / "b.png", second)
    return folder


def test_each_mask_is_a_nucleus_with_the_smallest_box_around_it(tmp_path: Path) -> None:
    nuclei = Nuclei(folder=make_nuclei(tmp_path))
    assert isinstance(nuclei, Dataset) and len(nuclei) == 2
    sample = nuclei[1]
    assert (sample.image_id, sample.path.stem, sample.width, sample.height) == (1, "id1", 60, 40)
    assert sample.boxes.tolist() == [[10, 5, 20, 25], [59, 30, 60, 31]]
    assert sample.class_ids.tolist() == [1, 1] and not sample.crowd.any()
    masks = [coco_mask.decode(mask) for mask in sample.masks]
    assert masks[0][5:25, 10:20].all() and masks[0].sum() == 200 and masks[1].sum() == 1
    assert (read_rgb(sample) == 1).all()
    assert nuclei.warnings == {}


def test_train_and_val_never_share_a_picture_and_the_seed_decides_which(tmp_path: Path) -> None:
    make_nuclei(tmp_path, 10)

    def ids(**options: Any) -> list[str]:
        dataset = plugins.build("datasets", "nuclei", {"folder": str(tmp_path), **options})
        return [dataset[i].path.stem for i in range(len(dataset))]

    train, val = ids(part="train"), ids(part="val")
    assert (len(train), len(val)) == (8, 2) and sorted(train + val) == ids()
    assert ids(part="train") == train
    assert any(ids(part="val", seed=seed) != val for seed in (1, 2, 3))
    assert len(ids(part="train", split=0.5)) == 5


def test_an_empty_mask_is_left_out_and_counted_once(tmp_path: Path) -> None:
    make_nuclei(tmp_path, 1)
    write(tmp_path / "id0/masks/c.png", np.zeros((40, 60), np.uint8))
    nuclei = Nuclei(folder=tmp_path)
    assert len(nuclei[0].boxes) == len(nuclei[0].masks) == 2
    assert nuclei.warnings == {"empty masks left out": 1}


def grown(folder: Path) -> Any:
    return write(folder / "id0/masks/b.png", np.zeros((40, 61), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (grown, "id0/masks/b.png: expected 60x40 pixels as id0.png has, got 61x40"),
        (lambda folder: (folder / "id0/images/id0.png").unlink(), "id0/images: expected one picture, found 0"),
        (lambda folder: write(folder / "id0/images/two.png", np.zeros((4, 4))), "expected one picture, found 2"),
        (lambda folder: (folder / "id0/images/id0.png").write_bytes(b"x"), "id0.png: the picture is missing or damag"),
        (lambda folder: (folder / "id0/masks/a.png").write_bytes(b"x"), "a.png: the picture is missing or damaged"),
        (lambda folder: (folder / "id0/masks").rename(folder / "id0/mask"), "id0/masks: expected a picture for every"),
    ],
)
def test_what_is_wrong_is_named_before_a_training(tmp_path: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(make_nuclei(tmp_path, 1))
    with pytest.raises(InputError, match=message):
        Nuclei(folder=tmp_path)


def test_a_folder_that_is_missing_or_of_another_layout_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder; expected the one that holds ID/images"):
        Nuclei(folder=tmp_path / "nowhere")
    with pytest.raises(InputError, match="expected folders ID/images and ID/masks, found none"):
        Nuclei(folder=tmp_path)
    with pytest.raises(UsageError, match="nuclei: split: expected a share between 0 and 1, got 1"):
        options = {"folder": make_nuclei(tmp_path), "part": "train", "split": 1}
        plugins.build("datasets", "nuclei", options)
    with pytest.raises(UsageError, match="split: 0.8 of 1 pictures leaves none for val"):
        Nuclei(folder=make_nuclei(tmp_path / "one", 1), part="val")


def test_the_real_pictures_are_read(shared_data: Path) -> None:
    parts = [Nuclei(folder=shared_data / "nuclei/stage1_train", part=part) for part in ("train", "val")]
    assert [len(part) for part in parts] == [208, 52]
    for part in parts:
        sample = part[0]
        assert read_rgb(sample).shape == (sample.height, sample.width, 3)
        sizes = np.array([coco_mask.decode(mask).sum() for mask in sample.masks])
        assert len(sizes) > 1 and (sizes > 0).all()
        assert (np.prod(sample.boxes[:, 2:] - sample.boxes[:, :2], axis=1) >= sizes).all()
