"""DeepFashion2 is the same from a bucket as from a folder, and its annotations are read once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamseg import plugins, zoo
from streamseg.datasets import _storage
from streamseg.datasets.deepfashion2 import CATEGORIES, Deepfashion2
from streamseg.training.data import read_rgb
from streamseg.types import Dataset, InputError, UsageError
from tests import s3

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 40.0, 10.0, 40.0]


def item(category_id: int, /, **changes: Any) -> dict[str, Any]:
    name = CATEGORIES[category_id - 1]
    box = {"bounding_box": [10, 10, 30, 40], "segmentation": [SQUARE], "landmarks": [1, 2, 2]}
    return {"category_id": category_id, "category_name": name, "scale": 1, "style": 0, **box} | changes


def annotate(folder: Path, number: int, *items: dict[str, Any]) -> None:
    numbered = {f"item{i}": each for i, each in enumerate(items, start=1)}
    content = {"source": "shop", "pair_id": number, **numbered}
    (folder / "annos" / f"{number:06}.json").write_text(json.dumps(content))


@pytest.fixture
def clothes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures of 50×60: a top and trousers, a skirt, trousers."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "train"
    for name in ("annos", "image"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number, categories in enumerate(((1, 8), (9,), (8,)), start=1):
        picture = rng.integers(0, 256, (60, 50, 3), np.uint8)
        cv2.imwrite(str(folder / "image" / f"{number:06}.jpg"), picture)
        annotate(folder, number, *map(item, categories))
    return folder


def test_each_item_is_an_object_of_one_of_thirteen_categories(clothes: Path) -> None:
    dataset = plugins.build("datasets", "deepfashion2", {"folder": str(clothes)})
    assert isinstance(dataset, Dataset) and len(dataset) == 3
    assert len(dataset.class_names) == 14 and dataset.class_names[13] == "sling dress"
    sample = dataset[0]
    assert (sample.image_id, sample.path.name, sample.width, sample.height) == (0, "000001.jpg", 50, 60)
    assert sample.boxes.tolist() == [[10, 10, 30, 40]] * 2 and sample.class_ids.tolist() == [1, 8]
    assert sample.masks == ([SQUARE], [SQUARE]) and not sample.crowd.any()
    assert dataset.warnings == {}


def test_some_categories_bring_the_pictures_that_show_them(clothes: Path) -> None:
    dataset = Deepfashion2(folder=clothes, classes=("trousers",))
    assert dataset.class_names == ("background", "trousers")
    assert [dataset[i].path.name for i in range(len(dataset))] == ["000001.jpg", "000003.jpg"]
    assert dataset[0].class_ids.tolist() == [1]
    with pytest.raises(UsageError, match="no class 'trouser' in it; did you mean 'trousers'"):
        Deepfashion2(folder=clothes, classes=("trouser",))
    with pytest.raises(InputError, match="no picture shows vest"):
        Deepfashion2(folder=clothes, classes=("vest",))


def test_beyond_the_limit_nothing_is_read(clothes: Path) -> None:
    (clothes / "annos" / "000003.json").write_text("broken")
    assert len(Deepfashion2(folder=clothes, limit=2)) == 2
    with pytest.raises(UsageError, match="limit: expected at least 1 picture, got 0"):
        Deepfashion2(folder=clothes, limit=0)


def test_annotations_are_read_once_until_one_changes(clothes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = _storage.LocalFolder.read

    def watched(self: _storage.LocalFolder, names: list[str]) -> list[bytes]:
        read.extend(names)
        return original(self, names)

    monkeypatch.setattr(_storage.LocalFolder, "read", watched)
    first = Deepfashion2(folder=clothes)
    assert len(read) == 3
    again = Deepfashion2(folder=clothes)
    assert len(read) == 3 and again[2].masks == first[2].masks
    annotate(clothes, 3, item(13), item(1))
    assert Deepfashion2(folder=clothes)[2].class_ids.tolist() == [13, 1]
    for index in (zoo.cache_folder() / "datasets").iterdir():
        index.write_bytes(index.read_bytes()[:40])  # as a full disk leaves it
    assert Deepfashion2(folder=clothes)[2].class_ids.tolist() == [13, 1]


def test_what_is_left_out_is_counted(clothes: Path) -> None:
    (clothes / "image" / "000002.jpg").unlink()
    annotate(clothes, 3, item(1, bounding_box=[5, 5, 5, 9]), item(2, segmentation=[[1, 2, 3, 4]]), item(3))
    dataset = Deepfashion2(folder=clothes)
    assert len(dataset) == 2 and dataset[1].masks == (None, [SQUARE])
    assert dataset.warnings == {
        "pictures missing, left out": 1,
        "items without area left out": 1,
        "items without a polygon, known by their box only": 1,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 14}, "annos/000002.json: .* category_id: expected 1 to 13, got 14"),
        ({"bounding_box": [1, 2, 3]}, r"annos/000002.json: .* expected 4 numbers, got \[1, 2, 3\]"),
        ({"segmentation": [[1, 2, 3, 4, 5, None]]}, "annos/000002.json: .* expected pairs of numbers"),
        ({"segmentation": 5}, "annos/000002.json: not as DeepFashion2's annotations are"),
    ],
)
def test_an_annotation_of_another_form_is_named(clothes: Path, change: dict[str, Any], message: str) -> None:
    annotate(clothes, 2, item(1, **change))
    with pytest.raises(InputError, match=message):
        Deepfashion2(folder=clothes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "annos/000002.json").write_text("{"), "000002.json: not as DeepFashion2's"),
        (
            lambda folder: (folder / "annos/000002.json").write_text('{"item1": {}}'),
            "'category_id' is missing in an it",
        ),
        (lambda folder: (folder / "annos").rename(folder / "anno"), "train/annos: cannot be listed"),
        (lambda folder: [p.unlink() for p in (folder / "annos").iterdir()], "annos: expected a json for every picture"),
        (lambda folder: [p.unlink() for p in (folder / "image").iterdir()], "image: none of the 3 annotated pictures"),
    ],
)
def test_what_is_missing_is_named(clothes: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(clothes)
    with pytest.raises(InputError, match=message):
        Deepfashion2(folder=clothes)


def test_a_damaged_picture_is_named_when_it_is_taken(clothes: Path) -> None:
    (clothes / "image" / "000002.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="000002.jpg: the picture is missing or damaged"):
        Deepfashion2(folder=clothes)[1]


def test_places_that_are_neither_a_folder_nor_a_bucket_are_refused(clothes: Path) -> None:
    with pytest.raises(UsageError, match="expected a folder or s3://bucket/folder"):
        Deepfashion2(folder="ftp://host/clothes")
    with pytest.raises(UsageError, match="endpoint: expected only with s3://bucket/folder"):
        Deepfashion2(folder=clothes, endpoint="http://127.0.0.1:9")


# --- from a bucket --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 service on the loopback."""
    with s3.served() as url:
        yield url


@pytest.fixture
def bucket(clothes: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket with the files of `clothes` under train/."""
    for name, value in s3.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3.bucket(endpoint, "clothes") as found:
        for path in clothes.rglob("*.*"):
            found.upload_file(str(path), f"train/{path.relative_to(clothes)}")
        yield found


def test_a_bucket_holds_what_the_folder_holds(clothes: Path, bucket: Any, endpoint: str) -> None:
    here = Deepfashion2(folder=clothes)
    options = {"folder": "s3://clothes/train/", "endpoint": endpoint}
    there = plugins.build("datasets", "deepfashion2", options)
    assert len(there) == len(here) == 3 and there.class_names == here.class_names
    for i in range(3):
        one, other = here[i], there[i]
        assert (one.image_id, one.width, one.height) == (other.image_id, other.width, other.height)
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.class_ids, other.class_ids)
        assert one.masks == other.masks
        np.testing.assert_array_equal(read_rgb(one), read_rgb(other))
        assert other.path.read_bytes() == one.path.read_bytes()
    skirts = plugins.build("datasets", "deepfashion2", {**options, "classes": "skirt", "limit": 2})
    assert len(skirts) == 1 and skirts[0].class_ids.tolist() == [1]


def test_a_picture_is_fetched_once_until_it_is_replaced(clothes: Path, bucket: Any, endpoint: str) -> None:
    first = Deepfashion2(folder="s3://clothes/train", endpoint=endpoint)[0].path
    bucket.Object("train/image/000002.jpg").delete()
    replaced = Deepfashion2(folder="s3://clothes/train", endpoint=endpoint)
    assert replaced[0].path == first and replaced.warnings == {"pictures missing, left out": 1}
    bucket.upload_file(str(clothes / "image/000003.jpg"), "train/image/000001.jpg")
    third = Deepfashion2(folder="s3://clothes/train", endpoint=endpoint)
    assert third[0].path.read_bytes() == (clothes / "image/000003.jpg").read_bytes()


def test_what_cannot_be_read_in_a_bucket_is_named(bucket: Any, endpoint: str) -> None:
    with pytest.raises(InputError, match="s3://clothes/nowhere/annos: cannot be listed"):
        Deepfashion2(folder="s3://clothes/nowhere", endpoint=endpoint)
    with pytest.raises(InputError, match="s3://strangers/train/annos: cannot be listed"):
        Deepfashion2(folder="s3://strangers/train", endpoint=endpoint)
    opened = Deepfashion2(folder="s3://clothes/train", endpoint=endpoint)
    bucket.Object("train/image/000002.jpg").delete()
    with pytest.raises(InputError, match="s3://clothes/train/image/000002.jpg: cannot be read"):
        opened[1]
