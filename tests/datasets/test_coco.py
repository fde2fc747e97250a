"""COCO's json is read with its crowds and unknown masks, and what is wrong with a file is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from streamseg import plugins
from streamseg.datasets.coco import Coco
from streamseg.training.data import Joined
from streamseg.types import Dataset, InputError, Sample, UsageError
from tests.tiny_model import make_balls


def content() -> dict[str, Any]:
    square = [10, 10, 30, 10, 30, 50, 10, 50]
    one = {"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 10, 20, 40], "iscrowd": 0, "segmentation": [square]}
    return {
        "images": [
            {"id": 9, "file_name": "b.png", "width": 64, "height": 48},
            {"id": 7, "file_name": "a.png", "width": 100, "height": 80},
        ],
        "annotations": [
            one,
            {**one, "id": 2, "category_id": 3, "segmentation": []},
            {**one, "id": 3, "iscrowd": 1, "segmentation": {"size": [80, 100], "counts": [8000]}},
            {**one, "id": 4, "bbox": [5, 5, 0, 10]},
            {**one, "id": 5, "image_id": 9, "segmentation": None},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    }


def dataset(folder: Path, data: Any) -> Coco:
    (folder / "images").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        (folder / "images" / name).touch()
    (folder / "set.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return Coco(path=folder / "set.json")


def test_pictures_come_in_the_order_of_their_ids_with_their_objects(tmp_path: Path) -> None:
    coco = dataset(tmp_path, content())
    assert isinstance(coco, Dataset)
    assert len(coco) == 2
    assert coco.class_names == ("background", "car", "dog")
    assert coco.class_ids == {3: 1, 18: 2}
    first = coco[0]
    assert (first.image_id, first.path, first.width, first.height) == (7, tmp_path / "images" / "a.png", 100, 80)
    np.testing.assert_array_equal(first.boxes, [[10, 10, 30, 50]] * 3)
    assert first.class_ids.tolist() == [2, 1, 2]
    assert first.crowd.tolist() == [False, False, True]


def test_a_byte_order_mark_before_the_json_is_no_part_of_it(tmp_path: Path) -> None:
    assert len(dataset(tmp_path, "\ufeff" + json.dumps(content()))) == 2


def test_an_empty_or_absent_segmentation_is_an_unknown_mask(tmp_path: Path) -> None:
    coco = dataset(tmp_path, content())
    assert [mask is None for mask in coco[0].masks] == [False, True, False]
    assert coco[1].masks == (None,)


def test_a_picture_without_objects_has_empty_arrays(tmp_path: Path) -> None:
    data = content()
    data["annotations"] = data["annotations"][-1:]
    sample = dataset(tmp_path, data)[0]
    assert sample.boxes.shape == (0, 4) and sample.class_ids.shape == sample.crowd.shape == (0,)


def test_pictures_lie_beside_the_json_or_in_cocos_own_layout_or_where_it_is_said(tmp_path: Path) -> None:
    make_balls(tmp_path / "balls")
    assert Coco(path=tmp_path / "balls" / "balls.json").images == tmp_path / "balls" / "images"
    for folder in ("annotations", "val2017"):
        (tmp_path / folder).mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "val2017" / name).touch()
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(content()))
    assert Coco(path=path)[0].path == tmp_path / "val2017" / "a.png"
    for name in ("a.png", "b.png"):
        (tmp_path / "val2017" / name).rename(tmp_path / name)
    assert Coco(path=path, images=tmp_path)[0].path == tmp_path / "a.png"
    with pytest.raises(InputError, match="picture .*val2017/a.png, and 1 more are missing"):
        Coco(path=path)
    (tmp_path / "val2017").rmdir()
    with pytest.raises(InputError, match="no folder of pictures found; looked for .*images and .*val2017"):
        Coco(path=path)


def without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda data: {name: value for name, value in data.items() if name != key}


def with_annotation(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: {**data, "annotations": [{**data["annotations"][0], **changes}]}


def with_picture(picture: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: {**data, "images": [picture]}


def run_lengths(counts: Any) -> dict[str, Any]:
    return {"size": [80, 100], "counts": counts}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: "{", "set.json: not valid JSON"),
        (lambda data: [], "expected a COCO file .* images is missing"),
        (without("annotations"), "annotations is missing"),
        (without("categories"), "categories is missing"),
        (lambda data: {**data, "images": [], "annotations": []}, "no pictures are listed"),
        (lambda data: {**data, "images": 5}, "not as COCO files are"),
        (with_picture({"id": 7, "file_name": "a.png", "width": 5}), "'height' is missing"),
        (with_picture("a.png"), "not as COCO files are"),
        (
            lambda data: {**data, "images": data["images"] * 2},
            "picture [0-9]+: expected an id of its own for each, got it",
        ),
        (
            with_picture({"id": 7, "file_name": "a.png", "width": "5", "height": 5}),
            "picture 7: expected width and height",
        ),
        (lambda data: {**data, "categories": [{"id": 3, "name": 5}]}, "category 3: name: expected a text, got 5"),
        (lambda data: "[" * 100_000, "set.json: not valid JSON"),
        (with_annotation(segmentation=[[10**400, 2, 3, 4, 5, 6]]), "annotation 1: segmentation: expected polygons"),
        (with_annotation(image_id=5), "annotation 1 is of picture 5, which is not listed"),
        (with_annotation(category_id=5), "annotation 1 is of category 5, which is not listed; there is "),
        (with_annotation(bbox=[1, 2, 3]), r"annotation 1: bbox: expected \[x, y, width, height\], got \[1, 2, 3\]"),
        (with_annotation(bbox=[1, 2, 3, float("nan")]), "annotation 1: bbox"),
        (with_annotation(bbox=[1, 2, 3, "4"]), "annotation 1: bbox"),
        (with_annotation(bbox=None), "annotation 1: bbox"),
        (with_annotation(segmentation=[[1, 2, 3, 4, 5]]), r"annotation 1: segmentation: expected polygons \[x, y"),
        (with_annotation(segmentation=[1, 2, 3]), "annotation 1: segmentation: expected polygons"),
        (
            with_annotation(segmentation=[[1, 2, 3, 4, 5, float("nan")]]),
            "annotation 1: segmentation: expected polygons",
        ),
        (with_annotation(segmentation="all"), "annotation 1: segmentation: expected polygons or run lengths, got all"),
        (
            with_annotation(segmentation={"size": [100, 80], "counts": [8000]}),
            r"expected run lengths of 100x80 pixels as its picture has, got size \[100, 80\]",
        ),
        (with_annotation(area="x"), "set.json: annotation 1: area: expected a number of pixels, got 'x'"),
        (with_annotation(segmentation={"size": 5, "counts": [8000]}), r"size: expected \[height, width\], got 5"),
        (with_annotation(segmentation={"size": [80, "100"], "counts": [8000]}), r"size: expected \[height, width\]"),
        (with_annotation(segmentation=run_lengths(5)), "counts: expected a list or a string, got 5"),
        (with_annotation(segmentation=run_lengths(["a", 20])), "counts: expected whole numbers from 0 up, got 'a'"),
        (with_annotation(segmentation=run_lengths([-1, 8001])), "counts: expected whole numbers from 0 up, got -1"),
        (with_annotation(segmentation=run_lengths([0.5, 7999.5])), "counts: expected whole numbers from 0 up, got 0.5"),
        (
            with_annotation(segmentation=run_lengths([10, 20])),
            "set.json: annotation 1: segmentation: counts: expected lengths that add up to the 8000 pixels .* got 30",
        ),
    ],
)
def test_a_file_that_is_not_coco_says_why(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataset(tmp_path, change(content()))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("garbage!!", "expected COCO's compressed run lengths, got other characters"),
        ("Z", "expected COCO's compressed run lengths, got other characters"),  # says that more follows
        ("é", "expected COCO's compressed run lengths, got other characters"),
        ("", "expected lengths that add up to the 8000 pixels of the picture, got 0"),
        ("5", "expected lengths that add up to the 8000 pixels of the picture, got 5"),
        ("O", "expected whole numbers from 0 up, got -1"),
    ],
)
def test_compressed_run_lengths_are_looked_at_when_their_sample_is_taken(
    tmp_path: Path, counts: str, message: str
) -> None:
    coco = dataset(tmp_path, with_annotation(segmentation=run_lengths(counts))(content()))
    with pytest.raises(InputError, match=f"set.json: annotation 1: segmentation: counts: {message}"):
        coco[0]


def test_compressed_run_lengths_are_decoded_as_coco_itself_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for share in (0, 0.001, 0.1, 0.5, 0.9, 1):
        mask = np.asfortranarray(rng.random((80, 100)) < share, np.uint8)
        counts = coco_mask.encode(mask)["counts"].decode()
        sample = dataset(tmp_path, with_annotation(segmentation=run_lengths(counts))(content()))[0]
        np.testing.assert_array_equal(coco_mask.decode(sample.masks[0]), mask)
        for wrong in (counts[:-1], counts + "1"):
            with pytest.raises(InputError, match="counts"):
                dataset(tmp_path, with_annotation(segmentation=run_lengths(wrong))(content()))[0]


def test_an_area_that_is_not_told_is_that_of_the_mask(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0]["area"], data["annotations"][2]["area"] = None, 12.5
    areas = dataset(tmp_path, data)[0].areas
    assert areas is not None and np.isnan(areas[:2]).all() and areas[2] == 12.5


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing.json: cannot be read"):
        Coco(path=tmp_path / "nothing.json")


@pytest.mark.parametrize("part", ["minival2014", "valminusminival2014", "val2014"])
def test_minival_and_valminusminival_are_pictures_of_val(tmp_path: Path, part: str) -> None:
    data = content()
    for folder in ("annotations", "val2014"):
        (tmp_path / folder).mkdir()
    for picture in data["images"]:
        picture["file_name"] = f"COCO_val2014_{picture['id']:012}.jpg"
        (tmp_path / "val2014" / picture["file_name"]).touch()
    path = tmp_path / "annotations" / f"instances_{part}.json"
    path.write_text(json.dumps(data))
    assert Coco(path=path)[0].path == tmp_path / "val2014" / "COCO_val2014_000000000007.jpg"


def test_some_classes_bring_the_pictures_that_show_them(tmp_path: Path) -> None:
    dataset(tmp_path, content())
    cars = plugins.build("datasets", "coco", {"path": str(tmp_path / "set.json"), "classes": "car"})
    assert cars.class_names == ("background", "car") and cars.class_ids == {3: 1}
    assert len(cars) == 1 and cars[0].class_ids.tolist() == [1]
    every = Coco(path=tmp_path / "set.json", classes=("car",), keep_empty=True)
    assert [every[i].class_ids.tolist() for i in range(len(every))] == [[1], []]
    with pytest.raises(UsageError, match="there is no class 'cars' in it; did you mean 'car'"):
        Coco(path=tmp_path / "set.json", classes=("cars",))
    data = content()
    data["categories"].append({"id": 1, "name": "person"})
    dataset(tmp_path, data)
    with pytest.raises(InputError, match="set.json: no picture shows person"):
        Coco(path=tmp_path / "set.json", classes=("person",))


def with_categories(*categories: tuple[int, str], used: Sequence[int]) -> dict[str, Any]:
    """Annotations of picture 7, one of each category that is used, listed in any order."""
    data = content()
    one = data["annotations"][0]
    data["annotations"] = [{**one, "id": i, "category_id": number} for i, number in enumerate(used)]
    data["categories"] = [{"id": number, "name": name} for number, name in categories]
    return data


def names_of(sample: Sample, class_names: Sequence[str]) -> list[str]:
    assert sample.class_ids.min() > 0
    return [class_names[i] for i in sample.class_ids]


def test_category_ids_may_begin_with_0_have_gaps_and_stand_in_any_order(tmp_path: Path) -> None:
    coco = dataset(tmp_path, with_categories((7, "dog"), (0, "car"), (2, "cat"), used=[7, 0, 2, 0]))
    assert coco.class_names == ("background", "car", "cat", "dog")
    assert names_of(coco[0], coco.class_names) == ["dog", "car", "cat", "car"]
    cars = Coco(path=tmp_path / "set.json", classes=("dog", "car"))
    assert names_of(cars[0], cars.class_names) == ["dog", "car", "car"]
    joined = Joined([coco, cars], class_names=["background", "cat", "dog", "car"])
    assert names_of(joined[0], joined.class_names) == ["dog", "car", "cat", "car"]


def test_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    coco = dataset(tmp_path, with_categories((0, "cell"), (1, "cell"), (2, "dirt"), used=[2, 1, 0]))
    assert coco.class_names == ("background", "cell", "dirt") and coco[0].class_ids.tolist() == [2, 1, 1]


def test_a_category_called_background_is_none_or_else_refused(tmp_path: Path) -> None:
    listed = (0, "background"), (1, "car")
    coco = dataset(tmp_path, with_categories(*listed, used=[1]))
    assert coco.class_names == ("background", "car") and coco[0].class_ids.tolist() == [1]
    with pytest.raises(UsageError, match="got 'background', which is the name of what is no object; take car only"):
        dataset(tmp_path, with_categories(*listed, used=[1, 0]))
    cars = Coco(path=tmp_path / "set.json", classes=("car",))
    assert cars[0].class_ids.tolist() == [1]


def test_a_category_id_with_two_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set\.json: category 1: expected one name, got 'car' and 'dog'"):
        dataset(tmp_path, with_categories((1, "car"), (1, "dog"), used=[1]))
    assert len(dataset(tmp_path, with_categories((1, "car"), (1, "car"), used=[1])).class_names) == 2


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0]["segmentation"].append([1, 2, 3, 4])
    data["annotations"][1]["segmentation"] = [[1, 2, 3, 4]]
    data["annotations"][2]["segmentation"]["size"] = [8, 10]
    coco = dataset(tmp_path, data)
    assert coco.warnings == {
        "objects without area left out": 1,
        "polygons of fewer than three points left out": 2,
        "crowd regions of another size than their picture, known by their box only": 1,
    }
    assert coco[0].masks == ([[10, 10, 30, 10, 30, 50, 10, 50]], None, None)


def test_coco_itself_is_read(shared_data: Path) -> None:
    path = shared_data / "coco-mini/annotations/instances_val2017.json"
    coco = Coco(path=path)
    assert (len(coco), len(coco.class_names)) == (112, 81)
    assert sum(int(coco[i].crowd.sum()) for i in range(112)) == 11 and coco.warnings == {}
    dogs = Coco(path=path, classes=("dog", "cat"))
    assert dogs.class_names == ("background", "cat", "dog") and 0 < len(dogs) < 30


@pytest.mark.parametrize(("folder", "num_pictures", "num_boxes"), [("people/val.json", 125, 340 + 7)])
def test_the_real_validation_set_is_read(shared_data: Path, folder: str, num_pictures: int, num_boxes: int) -> None:
    coco = Coco(path=shared_data / folder)
    samples = [coco[i] for i in range(len(coco))]
    assert len(samples) == num_pictures
    assert sum(len(sample.boxes) for sample in samples) == num_boxes
    assert sum(int(sample.crowd.sum()) for sample in samples) == 7
