"""Outlines of the VGG annotator become objects, whatever its version, and what is wrong with a file is said."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from streamseg import plugins
from streamseg.datasets.via import Via
from streamseg.types import Dataset, InputError, UsageError

SQUARE = {"name": "polygon", "all_points_x": [10, 30, 30, 10], "all_points_y": [5, 5, 25, 25]}


def region(shape: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def export(*regions: dict[str, Any], numbered: bool = False, name: str = "a.png") -> dict[str, Any]:
    """What VIA writes for one picture: version 1 numbers its regions, version 2 lists them."""
    listed: Any = {str(i): each for i, each in enumerate(regions)} if numbered else list(regions)
    return {f"{name}123": {"filename": name, "size": 123, "file_attributes": {}, "regions": listed}}


def via(folder: Path, content: Any, **options: Any) -> Via:
    cv2.imwrite(str(folder / "a.png"), np.zeros((60, 80, 3), np.uint8))
    (folder / "via.json").write_text(content if isinstance(content, str) else json.dumps(content))
    found: Via = plugins.build("datasets", "via", {"path": str(folder / "via.json"), **options})
    return found


def areas(dataset: Via, index: int = 0) -> list[int]:
    sample = dataset[index]
    runs = [coco_mask.frPyObjects(polygons, sample.height, sample.width)[0] for polygons in sample.masks]
    return [int(coco_mask.area(each)) for each in runs]


@pytest.mark.parametrize("form", ["version 1", "version 2", "project"])
def test_both_versions_and_a_project_file_say_the_same(tmp_path: Path, form: str) -> None:
    content = export(region(SQUARE), numbered=form == "version 1")
    if form == "project":
        content = {"_via_settings": {}, "_via_img_metadata": content, "_via_attributes": {}}
    balloons = via(tmp_path, content, class_name="balloon")
    assert isinstance(balloons, Dataset) and balloons.class_names == ("background", "balloon")
    sample = balloons[0]
    assert (len(balloons), sample.path, sample.width, sample.height) == (1, tmp_path / "a.png", 80, 60)
    assert sample.boxes.tolist() == [[10, 5, 30, 25]] and sample.class_ids.tolist() == [1]
    assert sample.masks == ([[10, 5, 30, 5, 30, 25, 10, 25]],)
    assert balloons.warnings == {}


def test_a_byte_order_mark_before_the_json_is_no_part_of_it(tmp_path: Path) -> None:
    assert len(via(tmp_path, "\ufeff" + json.dumps(export(region(SQUARE))))) == 1


def test_rectangles_circles_and_ellipses_have_their_areas(tmp_path: Path) -> None:
    shapes = [
        {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 10},
        {"name": "circle", "cx": 40, "cy": 30, "r": 20},
        {"name": "ellipse", "cx": 40, "cy": 30, "rx": 30, "ry": 10},
        {"name": "ellipse", "cx": 40, "cy": 30, "rx": 25, "ry": 10, "theta": math.pi / 2},
    ]
    dataset = via(tmp_path, export(*map(region, shapes)))
    np.testing.assert_allclose(
        dataset[0].boxes, [[10, 20, 40, 30], [20, 10, 60, 50], [10, 20, 70, 40], [30, 5, 50, 55]], atol=1e-4
    )
    np.testing.assert_allclose(areas(dataset), [300, 400 * math.pi, 300 * math.pi, 250 * math.pi], rtol=0.03)


def test_an_ellipse_turns_clockwise_as_the_annotator_draws_it(tmp_path: Path) -> None:
    """Turned by 45°, the long half goes down to the right, where x and y grow together."""
    shape = {"name": "ellipse", "cx": 40, "cy": 30, "rx": 20, "ry": 2, "theta": math.pi / 4}
    x, y = np.array(via(tmp_path, export(region(shape)))[0].masks[0]).reshape(-1, 2).T
    assert np.corrcoef(x, y)[0, 1] > 0.9


def test_an_outline_beyond_the_border_ends_there(tmp_path: Path) -> None:
    shape = {"name": "rect", "x": 60, "y": -10, "width": 40, "height": 30}
    assert via(tmp_path, export(region(shape)))[0].boxes.tolist() == [[60, 0, 80, 20]]


def test_the_class_is_the_value_of_a_region_attribute(tmp_path: Path) -> None:
    regions = [
        region(SQUARE, kind="cat", pose="up"),
        region(SQUARE, kind={"dog": True, "cat": False}),
        region(SQUARE, kind={"dog": True, "cat": True}),
        region(SQUARE, kind=""),
        region(SQUARE),
    ]
    pets = via(tmp_path, export(*regions), attribute="kind")
    assert pets.class_names == ("background", "cat", "dog") and pets[0].class_ids.tolist() == [1, 2]
    assert pets.warnings == {"regions without a class left out": 3}
    dogs = via(tmp_path, export(*regions), attribute="kind", classes="dog")
    assert dogs.class_names == ("background", "dog") and dogs[0].class_ids.tolist() == [1]
    with pytest.raises(UsageError, match="no class 'dogs' in it; did you mean 'dog'"):
        via(tmp_path, export(*regions), attribute="kind", classes="dogs")
    with pytest.raises(InputError, match="no region has the attribute 'kinds'; did you mean 'kind'"):
        via(tmp_path, export(*regions), attribute="kinds")


def test_regions_of_a_class_called_background_are_refused_or_left_out_never_made_none(tmp_path: Path) -> None:
    regions = export(region(SQUARE, kind="background"), region(SQUARE, kind="dog"))
    with pytest.raises(UsageError, match="got 'background', which is the name of what is no object; take dog only"):
        via(tmp_path, regions, attribute="kind")
    assert via(tmp_path, regions, attribute="kind", classes="dog")[0].class_ids.tolist() == [1]


def test_one_list_of_classes_fits_files_that_lack_some_of_them(tmp_path: Path) -> None:
    pets = export(region(SQUARE, kind="dog"))
    dogs = via(tmp_path, pets, attribute="kind", classes=["cat", "dog", "dogs"])
    assert dogs.class_names == ("background", "cat", "dog", "dogs") and dogs[0].class_ids.tolist() == [2]
    assert dogs.warnings == {"classes that no region has (cat; there is dog) (dogs; did you mean 'dog'?)": 2}
    with pytest.raises(UsageError, match="there is no class 'cat' in it; there is dog"):
        via(tmp_path, pets, attribute="kind", classes=["cat", "cow"])


def test_attributes_that_are_empty_in_any_way_are_none(tmp_path: Path) -> None:
    bare: list[dict[str, Any]] = [{"shape_attributes": SQUARE, "region_attributes": empty} for empty in (None, [], {})]
    dataset = via(tmp_path, export(region(SQUARE, kind="cat"), {"shape_attributes": SQUARE}, *bare), attribute="kind")
    assert dataset.warnings == {"regions without a class left out": 4}


def test_what_has_no_area_is_left_out_and_counted(tmp_path: Path) -> None:
    line = {**SQUARE, "name": "polyline"}
    shapes = [
        SQUARE,
        line,
        {"name": "point", "cx": 4, "cy": 4},
        {"name": "circle", "cx": 200, "cy": 30, "r": 20},
        {"name": "polygon", "all_points_x": [1, 9], "all_points_y": [1, 9]},
    ]
    dataset = via(tmp_path, export(*map(region, shapes)))
    assert len(dataset[0].boxes) == 1 and dataset.warnings == {"regions without area left out": 4}
    assert len(via(tmp_path, export(region(line)), close_polylines=True)[0].boxes) == 1


def test_pictures_without_regions_are_left_out_and_counted_or_kept_as_background(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(cv2.imencode(".png", np.zeros((10, 10, 3), np.uint8))[1].tobytes())
    content = {**export(region(SQUARE)), **export(name="b.png")}
    dataset = via(tmp_path, content)
    assert len(dataset) == 1 and dataset.warnings == {"pictures without regions left out": 1}
    kept = via(tmp_path, content, keep_empty=True)
    assert len(kept) == 2 and kept[1].boxes.shape == (0, 4) and kept.warnings == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "via.json: not valid JSON"),
        ({"images": [], "annotations": []}, "expected the annotator's json .* or its project file"),
        ([], "expected the annotator's json"),
        (export(name="gone.png"), "picture .*gone.png is missing"),
        (export(), "no picture has a region that outlines an object"),
        (export(region({"name": "rect", "x": 1, "y": 2, "width": 3})), "a.png, region 1: 'height' is missing"),
        (export(region(SQUARE), region({"name": "blob"})), "a.png, region 2: expected a polygon, .*, got 'blob'"),
        (export(region({**SQUARE, "all_points_y": [5]})), "expected as many all_points_y as all_points_x, 4, got 1"),
        (export(region({**SQUARE, "all_points_y": [5, 5, 25, None]})), "region 1: "),
        ({"a": {"filename": "a.png", "regions": None}}, "via.json: a.png: regions: expected a list .*, got null"),
        (export(region(SQUARE), 5), "via.json: a.png, region 2: expected its attributes, got 5"),  # type: ignore[arg-type]
        (
            export({"shape_attributes": SQUARE, "region_attributes": "cat"}),
            'via.json: a.png, region 1: region_attributes: expected names and values, got "cat"',
        ),
        (
            export({"shape_attributes": [1, 2], "region_attributes": {}}),
            r"region 1: shape_attributes: expected names and values, got \[1, 2\]",
        ),
        (export({"region_attributes": {}}), "a.png, region 1: 'shape_attributes' is missing"),
    ],
)
def test_a_file_of_another_form_says_why(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        via(tmp_path, content)
    if "a.png" in message:
        with pytest.raises(InputError, match="via.json"):
            via(tmp_path, content, attribute="kind")


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone.json: cannot be read"):
        Via(path=tmp_path / "gone.json")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match="pictures/a.png: the picture is missing or damaged"):
        via(tmp_path, export(region(SQUARE)), images=str(tmp_path / "pictures"))
