"""Open Images' traps: ids of letters and digits, masks that are missing or of another size, pictures that are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from streamseg import plugins
from streamseg.datasets.open_images import OpenImages
from streamseg.training.loader import Pictures
from streamseg.types import Dataset, InputError, UsageError

HEADER = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks\n"
CAR, SIGN, LIGHT = "/m/0k4j", "/m/01mqdt", "/m/015qff"
NAMES = f"{CAR},Car\n{SIGN},Traffic sign\n{LIGHT},Traffic light\n/m/01g317,Person\n"


class Folder:
    """A small Open Images: pictures of 80×60, masks of the left half of each box's picture unless told otherwise."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, list[str]()
        (path / "names.csv").write_text(NAMES)
        for name in ("images", "masks"):
            (path / name).mkdir()

    def picture(self, image_id: str) -> None:
        cv2.imwrite(str(self.path / "images" / f"{image_id}.jpg"), np.zeros((60, 80, 3), np.uint8))

    def object(self, image_id: str, mid: str, *, size: tuple[int, int] | None = (80, 60), folder: str = "") -> Path:
        """Another object in the lower right quarter; its mask of `size` (width, height) covers it; None: no mask."""
        name = f"{image_id}_{mid[3:]}_{len(self.rows):08x}.png"
        self.rows.append(f"{name},{image_id},{mid},0a1b2c3d,0.5,1.0,0.5,1.0,0.9,1 2 3;4 5 6\n")
        path = self.path / "masks" / (folder or image_id[0]) / name
        if size is not None:
            mask = np.zeros((size[1], size[0]), np.uint8)
            mask[size[1] // 2 :, size[0] // 2 :] = 255
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), mask)
        return path

    def open(self, **options: Any) -> OpenImages:
        (self.path / "objects.csv").write_text(HEADER + "".join(self.rows))
        paths = {key: str(self.path / key) for key in ("masks", "images")}
        files = {"segmentations": str(self.path / "objects.csv"), "descriptions": str(self.path / "names.csv")}
        dataset: OpenImages = plugins.build("datasets", "open_images", {**paths, **files, **options})
        return dataset


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def street(folder: Folder) -> Folder:
    """Ids that a careless reader takes for numbers: 0012, 12 and 1e5."""
    for image_id in ("0012", "12", "1e5"):
        folder.picture(image_id)
        folder.object(image_id, CAR)
    folder.object("12", SIGN, folder="train-masks-1")
    folder.object("1e5", LIGHT, folder=".")
    return folder


def test_ids_are_text_and_masks_lie_in_folders_by_their_first_character(street: Folder) -> None:
    dataset = street.open()
    assert isinstance(dataset, Dataset)
    assert dataset.image_ids == ("0012", "12", "1e5")
    assert dataset.class_names == ("background", "Car", "Traffic light", "Traffic sign")
    assert [dataset[i].class_ids.tolist() for i in range(3)] == [[1], [1, 3], [1, 2]]
    sample = dataset[1]
    assert (sample.image_id, sample.path.name, sample.width, sample.height) == (1, "12.jpg", 80, 60)
    assert sample.boxes.tolist() == [[40, 30, 80, 60]] * 2
    assert coco_mask.area(list(sample.masks)).tolist() == [1200, 1200]
    assert dataset.warnings == {}


def test_classes_are_chosen_by_mid_or_name(street: Folder) -> None:
    for classes in (["Car", "Traffic sign"], [CAR, SIGN], ["Car", SIGN]):
        dataset = street.open(classes=classes)
        assert dataset.class_names == ("background", "Car", "Traffic sign")
        assert [len(dataset[i].boxes) for i in range(3)] == [1, 2, 1]
    assert street.open(classes="Traffic light").image_ids == ("1e5",)
    assert street.open(descriptions=None).class_names == ("background", LIGHT, SIGN, CAR)
    with pytest.raises(UsageError, match="no object has the class 'car'; did you mean 'Car'"):
        street.open(classes="car")
    with pytest.raises(UsageError, match="no object has the class 'Person'; there is Car, Traffic light, Traffic sign"):
        street.open(classes="Person")


def test_one_list_of_classes_fits_parts_that_lack_some_of_them(street: Folder) -> None:
    dataset = street.open(classes=["Person", CAR, "Traffic light"])
    assert dataset.class_names == ("background", "Car", "Person", "Traffic light")
    assert [dataset[i].class_ids.tolist() for i in range(3)] == [[1], [1], [1, 3]]
    assert dataset.warnings == {"classes that no object has (Person)": 1}
    with pytest.raises(UsageError, match="no object has the class 'Persn'; did you mean 'Person'"):
        street.open(classes=["Persn", "Car"])
    with pytest.raises(
        UsageError, match="no object has the class 'Elephant'; there is Car, Traffic light, Traffic sign"
    ):
        street.open(classes=["Elephant", "Car"])


def test_descriptions_may_have_a_row_of_column_names(street: Folder) -> None:
    (street.path / "names.csv").write_text("LabelName,DisplayName\n" + NAMES)
    assert "Traffic sign" in street.open().class_names
    (street.path / "names.csv").write_text("Car;Traffic sign\n")
    with pytest.raises(InputError, match="names.csv: expected rows of a MID and a name"):
        street.open()


def test_byte_order_marks_before_the_columns_are_no_part_of_them(street: Folder) -> None:
    (street.path / "names.csv").write_text("\ufeff" + NAMES)
    street.open()
    rows = street.path / "objects.csv"
    rows.write_text("\ufeff" + rows.read_text())
    folders = {name: street.path / name for name in ("masks", "images")}
    marked = OpenImages(segmentations=rows, descriptions=street.path / "names.csv", **folders)
    assert marked.class_names == ("background", "Car", "Traffic light", "Traffic sign")


def test_a_limit_takes_so_many_pictures_a_class_and_the_seed_decides_which(folder: Folder) -> None:
    for i in range(20):
        folder.picture(f"a{i}")
        folder.object(f"a{i}", CAR)
    folder.object("a7", SIGN)
    dataset = folder.open(limit=3)
    assert "a7" in dataset.image_ids and 3 <= len(dataset) <= 4  # the only sign, though the cars may be full by then
    assert folder.open(limit=3).image_ids == dataset.image_ids
    assert any(folder.open(limit=3, seed=seed).image_ids != dataset.image_ids for seed in (1, 2, 3))
    with pytest.raises(UsageError, match="limit: expected at least 1 picture a class, got 0"):
        folder.open(limit=0)


def test_a_random_split_keeps_its_parts_apart(folder: Folder) -> None:
    for i in range(10):
        folder.picture(f"b{i}")
        folder.object(f"b{i}", CAR)
    train, val = (set(folder.open(part=part, split=0.7, seed=4).image_ids) for part in ("train", "val"))
    assert (len(train), len(val)) == (7, 3) and len(train | val) == 10


def test_every_trap_is_counted_and_none_ends_a_training(street: Folder) -> None:
    """One picture is gone; of three more objects one has no mask, one an empty and one a damaged mask, one a small."""
    street.object("gone", CAR)
    street.object("0012", SIGN, size=None)
    cv2.imwrite(str(street.object("0012", LIGHT)), np.zeros((60, 80), np.uint8))
    street.object("12", LIGHT).write_bytes(b"damaged")
    street.object("1e5", SIGN, size=(40, 30))
    dataset = street.open()
    assert len(list(Pictures(dataset, side=14))) == 3
    assert dataset.warnings == {
        "pictures missing, left out": 1,
        "masks missing, their objects known by the box only": 1,
        "masks damaged or empty, their objects known by the box only": 2,
        "masks of another size than their picture, resized": 1,
    }
    first, second, third = (dataset[i] for i in range(3))
    assert [mask is None for mask in first.masks] == [False, True, True]
    assert [mask is None for mask in second.masks] == [False, False, True]
    assert np.concatenate([first.boxes, second.boxes, third.boxes]).tolist() == [[40, 30, 80, 60]] * 9
    assert coco_mask.decode(third.masks[2]).shape == (60, 80) and coco_mask.area(third.masks[2]) == 1200


def test_files_that_are_missing_or_of_another_form_are_named(street: Folder) -> None:
    street.open()
    with pytest.raises(InputError, match="nowhere: no such folder"):
        street.open(masks=str(street.path / "nowhere"))
    with pytest.raises(InputError, match="masks: none of the 3 pictures that objects.csv lists is there"):
        street.open(images=str(street.path / "masks"))
    with pytest.raises(InputError, match="nothing.csv: cannot be read"):
        street.open(descriptions=str(street.path / "nothing.csv"))
    with pytest.raises(InputError, match="nothing.csv: cannot be read"):
        street.open(segmentations=str(street.path / "nothing.csv"))
    boxes = street.path / "boxes.csv"
    boxes.write_text(HEADER.replace("ImageID", "imageid"))
    with pytest.raises(InputError, match="boxes.csv: the column ImageID is missing; did you mean 'imageid'"):
        street.open(segmentations=str(boxes))
    boxes.write_text(HEADER + "12_a.png,12\n")
    with pytest.raises(InputError, match="boxes.csv:2: expected 10 values in the row"):
        street.open(segmentations=str(boxes))
    boxes.write_text(HEADER + f"12_a.png,12,{CAR},a,40,80,30,60,0.9,\n")
    with pytest.raises(InputError, match="12_a.png: expected a box as shares from 0 to 1, got 40, 30, 80, 60"):
        street.open(segmentations=str(boxes))
    (street.path / "images" / "12.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="12.jpg: the picture is missing or damaged"):
        street.open()[1]
