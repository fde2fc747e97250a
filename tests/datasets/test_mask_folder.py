"""Masks find their pictures by name and their classes by folder, and what does not fit is said or counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from streamseg import plugins
from streamseg.datasets.mask_folder import MaskFolder
from streamseg.types import Dataset, InputError, UsageError


def write(path: Path, *, box: tuple[int, int, int, int] = (0, 0, 0, 0), size: tuple[int, int] = (30, 20)) -> Path:
    """A picture of `size` (width, height), black but for the box x1, y1, x2, y2."""
    picture = np.zeros((size[1], size[0]), np.uint8)
    picture[box[1] : box[3], box[0] : box[2]] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)
    return path


@pytest.fixture
def moles(tmp_path: Path) -> Path:
    """Picture mole1 with two masks, mole12 with one, none without; no class folders."""
    for name in ("mole1", "mole12", "none"):
        write(tmp_path / "images" / f"{name}.jpg")
    write(tmp_path / "masks/mole1_segmentation.png", box=(5, 2, 15, 8))
    write(tmp_path / "masks/mole1-2.png", box=(20, 10, 21, 11))
    write(tmp_path / "masks/mole12.png", box=(0, 0, 30, 20))
    return tmp_path


def test_a_mask_belongs_to_the_picture_with_the_longest_name_that_its_own_begins_with(moles: Path) -> None:
    dataset = plugins.build("datasets", "mask_folder", {"folder": str(moles), "class_name": "mole"})
    assert isinstance(dataset, Dataset) and dataset.class_names == ("background", "mole")
    assert [dataset[i].path.name for i in range(len(dataset))] == ["mole1.jpg", "mole12.jpg"]
    first = dataset[0]
    assert (first.image_id, first.width, first.height) == (0, 30, 20)
    assert first.boxes.tolist() == [[20, 10, 21, 11], [5, 2, 15, 8]] and first.class_ids.tolist() == [1, 1]
    assert coco_mask.area(list(first.masks)).tolist() == [1, 60]
    assert dataset[1].boxes.tolist() == [[0, 0, 30, 20]]
    assert dataset.warnings == {"pictures without masks left out": 1}


def test_a_folder_in_masks_is_a_class(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"images/{name}.png")
    write(tmp_path / "masks/benign/a.png", box=(0, 0, 5, 5))
    write(tmp_path / "masks/malignant/a.png", box=(10, 10, 20, 20))
    write(tmp_path / "masks/malignant/b_0.png", box=(1, 1, 2, 2))
    dataset = MaskFolder(folder=tmp_path)
    assert dataset.class_names == ("background", "benign", "malignant")
    assert [dataset[i].class_ids.tolist() for i in range(2)] == [[1, 2], [2]]
    benign = MaskFolder(folder=tmp_path, classes=("benign",))
    assert len(benign) == 1 and benign[0].class_ids.tolist() == [1]
    with pytest.raises(UsageError, match="no class 'benin' in it; did you mean 'benign'"):
        MaskFolder(folder=tmp_path, classes=("benin",))
    write(tmp_path / "masks/a.png")
    with pytest.raises(InputError, match="masks: expected masks or a folder for each class, found both: a.png and ben"):
        MaskFolder(folder=tmp_path)


def test_pictures_without_masks_are_background_when_asked_for(moles: Path) -> None:
    dataset = MaskFolder(folder=moles, keep_empty=True)
    assert len(dataset) == 3 and dataset[2].boxes.shape == (0, 4) and dataset.warnings == {}


def test_parts_do_not_overlap(moles: Path) -> None:
    names = [
        {dataset[i].path.name for i in range(len(dataset))}
        for part in ("train", "val")
        for dataset in [MaskFolder(folder=moles, part=part, split=0.5)]  # type: ignore[arg-type]
    ]
    assert len(names[0]) == len(names[1]) == 1 and names[0] != names[1]


def test_masks_that_are_empty_or_of_no_picture_are_left_out_and_counted(moles: Path) -> None:
    write(moles / "masks/mole1_3.png")
    write(moles / "masks/stranger.png")
    dataset = MaskFolder(folder=moles, keep_empty=True)
    assert len(dataset[0].boxes) == len(dataset[0].masks) == 2
    assert dataset.warnings == {"masks without a picture left out": 1, "empty masks left out": 1}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: write(folder / "masks/mole1_3.png", size=(30, 21)), "mole1_3.png: expected 30x20 pixels as mo"),
        (lambda folder: (folder / "masks/mole12.png").write_bytes(b""), "mole12.png: the picture is missing or damag"),
        (
            lambda folder: (folder / "images/mole1.jpg").write_bytes(b"x"),
            "mole1.jpg: the picture is missing or damaged",
        ),
        (lambda folder: (folder / "images").rename(folder / "pictures"), "images: cannot be read as a folder of pict"),
        (lambda folder: (folder / "masks").rename(folder / "mask"), "masks: cannot be read as a folder of pictures"),
        (lambda folder: [p.unlink() for p in (folder / "images").iterdir()], "images: there is no picture in it"),
        (lambda folder: [p.unlink() for p in (folder / "masks").iterdir()], "masks: no mask is named after a picture"),
    ],
)
def test_what_is_wrong_is_named(moles: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(moles)
    with pytest.raises(InputError, match=message):
        MaskFolder(folder=moles)


def test_two_pictures_of_one_name_are_refused(moles: Path) -> None:
    write(moles / "images" / "mole1.png")
    with pytest.raises(
        InputError, match="mole1.png: expected pictures with names of their own, there is mole1.jpg too"
    ):
        MaskFolder(folder=moles)
