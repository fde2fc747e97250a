"""What holds for every dataset: its samples are well-formed, always the same, and come to an end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from streamseg import plugins, rooms
from streamseg.types import Dataset, Sample
from tests.contract import entry
from tests.datasets import test_deepfashion2, test_mask_folder, test_nuclei, test_open_images, test_via
from tests.formats import test_cvat as test_cvat_format
from tests.formats import videos
from tests.tiny_model import make_balls

NAMES = rooms.names("datasets")


def clothes(folder: Path) -> Mapping[str, Any]:
    for name in ("annos", "image"):
        (folder / name).mkdir()
    for number, categories in enumerate(((1, 8), (9,)), start=1):
        cv2.imwrite(str(folder / "image" / f"{number:06}.jpg"), np.zeros((60, 50, 3), np.uint8))
        test_deepfashion2.annotate(folder, number, *map(test_deepfashion2.item, categories))
    return {"folder": str(folder)}


def moles(folder: Path) -> Mapping[str, Any]:
    for name in ("a", "b"):
        test_mask_folder.write(folder / "images" / f"{name}.png")
        test_mask_folder.write(folder / "masks" / "mole" / f"{name}.png", box=(5, 2, 15, 8))
    return {"folder": folder}


def cars(folder: Path) -> Mapping[str, Any]:
    street = test_open_images.Folder(folder)
    for image_id in ("0012", "12"):
        street.picture(image_id)
        street.object(image_id, test_open_images.CAR)
    street.object("12", test_open_images.SIGN, size=None)
    street.open()
    return {"segmentations": folder / "objects.csv", "masks": folder / "masks", "images": folder / "images"}


def outlines(folder: Path) -> Mapping[str, Any]:
    regions = {}
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.zeros((60, 80, 3), np.uint8))
        regions |= test_via.export(test_via.region(test_via.SQUARE), name=name)
    (folder / "via.json").write_text(json.dumps(regions))
    return {"path": folder / "via.json"}


def walk(folder: Path) -> Mapping[str, Any]:
    frames = list(videos.frames(3, pictures="street"))
    videos.save_pictures(folder, frames)
    return {"path": test_cvat_format.written(folder, frames)}


TWO_PICTURES: Mapping[str, Callable[[Path], Mapping[str, Any]]] = {
    "coco": lambda folder: {"path": make_balls(folder / "balls")},
    "cvat": walk,
    "deepfashion2": clothes,
    "mask_folder": moles,
    "nuclei": lambda folder: {"folder": test_nuclei.make_nuclei(folder)},
    "open_images": cars,
    "shapes": lambda folder: {"count": 2},
    "via": outlines,
}
"""Dataset -> what makes two pictures with objects in an empty folder and returns the options that lead to them."""


@pytest.fixture(scope="module", params=NAMES)
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """One of two pictures with objects."""
    name = request.param
    what = "a function that makes two pictures with objects in a folder and returns the dataset's options"
    make = entry(TWO_PICTURES, name, room="datasets", called="TWO_PICTURES", what=what)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        made: Dataset = plugins.build("datasets", name, make(tmp_path_factory.mktemp(name)))
    return made


def samples(dataset: Dataset) -> list[Sample]:
    return [dataset[index] for index in range(len(dataset))]


def drawn(mask: Any, sample: Sample) -> np.ndarray:
    """A mask, polygons or run lengths, as (H, W) bool."""
    if isinstance(mask, dict) and isinstance(mask["counts"], str | bytes):
        runs = mask
    else:
        runs = coco_mask.frPyObjects(mask, sample.height, sample.width)
        runs = coco_mask.merge(runs) if isinstance(runs, list) else runs
    return coco_mask.decode(runs).astype(bool)


def test_it_has_class_names_of_which_the_first_is_the_background(dataset: Dataset) -> None:
    assert isinstance(dataset, Dataset) and len(dataset) == 2
    assert isinstance(dataset.class_names, tuple) and dataset.class_names[0] == "background"
    assert len(set(dataset.class_names)) == len(dataset.class_names) > 1


def test_arrays_have_a_row_for_each_object(dataset: Dataset) -> None:
    for sample in samples(dataset):
        count = len(sample.boxes)
        assert count > 0
        assert (sample.boxes.shape, sample.boxes.dtype) == ((count, 4), np.float32)
        assert (sample.class_ids.shape, sample.class_ids.dtype) == ((count,), np.int32)
        assert (sample.crowd.shape, sample.crowd.dtype) == ((count,), bool)
        assert isinstance(sample.masks, tuple) and len(sample.masks) == count
        assert sample.areas is None or sample.areas.shape == (count,)
        assert sample.known_classes is None or sample.known_classes.shape == (len(dataset.class_names),)


def test_class_ids_are_those_of_its_names_and_never_the_background(dataset: Dataset) -> None:
    for sample in samples(dataset):
        assert sample.class_ids.min() >= 1 and sample.class_ids.max() < len(dataset.class_names)


def test_boxes_lie_in_the_picture_and_span_their_masks(dataset: Dataset) -> None:
    for sample in samples(dataset):
        assert (sample.boxes >= 0).all() and (sample.boxes[:, :2] < sample.boxes[:, 2:]).all()
        assert (sample.boxes[:, 2:] <= (sample.width, sample.height)).all()
        for box, mask in zip(sample.boxes, sample.masks, strict=True):
            if mask is None:
                continue
            pixels = drawn(mask, sample)
            assert pixels.shape == (sample.height, sample.width)
            x, y, width, height = cv2.boundingRect(pixels.astype(np.uint8))
            np.testing.assert_allclose((x, y, x + width, y + height), box, atol=1.5)


def test_the_size_is_that_of_its_picture(dataset: Dataset) -> None:
    for sample in samples(dataset):
        if sample.rgb is not None:
            assert (sample.rgb.shape, sample.rgb.dtype) == ((sample.height, sample.width, 3), np.uint8)
        else:
            with Image.open(sample.path) as picture:
                assert picture.size == (sample.width, sample.height)


def test_a_sample_is_always_the_same_and_has_a_number_of_its_own(dataset: Dataset) -> None:
    for once, again in zip(samples(dataset), samples(dataset), strict=True):
        np.testing.assert_equal(vars(again), vars(once))
    assert len({sample.image_id for sample in samples(dataset)}) == 2
    assert len({sample.path for sample in samples(dataset)}) == 2


def test_it_can_be_run_through_like_a_list(dataset: Dataset) -> None:
    for index in (2, 7, -3):
        with pytest.raises(IndexError):
            dataset[index]
    assert [sample.image_id for sample in dataset] == [sample.image_id for sample in samples(dataset)]  # type: ignore[attr-defined]
