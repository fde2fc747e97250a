"""Datasets are trained together by the names of their classes, and a sample's picture is read as it was annotated."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamseg import plugins
from streamseg.config import Component, ExperimentConfig, read_config, ready_files
from streamseg.training.data import open_datasets, read_rgb
from streamseg.types import Dataset, InputError, Sample, UsageError
from tests.tiny_model import make_balls


def component(path: Path) -> Component:
    return Component(name="coco", options={"path": str(path)})


def renamed(path: Path, *names: str) -> Path:
    """The COCO json with its categories named otherwise, and more of them, their ids falling."""
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 1 - i, "name": name} for i, name in enumerate(names)]
    path.write_text(json.dumps(content))
    return path


def test_datasets_are_joined_by_the_names_of_their_classes(tmp_path: Path) -> None:
    balls = make_balls(tmp_path / "a", 2)
    moons = renamed(make_balls(tmp_path / "b", 3), "moon", "ball")
    joined = open_datasets([component(balls), component(moons)], ("background", "moon", "star", "ball"))
    assert isinstance(joined, Dataset)
    assert joined.class_names == ("background", "moon", "star", "ball") and len(joined) == 5
    assert [joined[i].class_ids.tolist() for i in range(5)] == [[3, 3]] * 2 + [[1, 1]] * 3
    assert [joined[i].path for i in (1, 2)] == [tmp_path / "a/images/2.png", tmp_path / "b/images/1.png"]
    assert [joined[i].image_id for i in range(5)] == [0, 1, 2, 3, 4]
    known = [joined[i].known_classes for i in (1, 2)]
    assert np.array_equal(known, [[True, False, False, True], [True, True, False, True]])
    assert joined.warnings == {}
    with pytest.raises(IndexError, match="expected a picture from 0 to 4, got 5"):
        joined[5]


def test_one_dataset_keeps_its_image_ids(tmp_path: Path) -> None:
    joined = open_datasets([component(make_balls(tmp_path / "a", 2))], ("background", "ball"))
    assert [joined[i].image_id for i in range(2)] == [1, 2]


def test_a_class_that_the_model_lacks_is_named_with_the_nearest(tmp_path: Path) -> None:
    balls = component(make_balls(tmp_path / "a"))
    expected = "dataset coco: it has the class 'ball', which the model lacks; there is balls; did you mean 'balls'"
    with pytest.raises(UsageError, match=expected):
        open_datasets([balls], ("background", "balls"))


@pytest.mark.parametrize("path", ready_files("configs"), ids=lambda path: path.stem)
def test_the_data_of_every_configuration_that_ships_are_named_as_their_datasets_take_them(path: Path) -> None:
    training = read_config(path, ExperimentConfig).training
    assert training is not None and training.val
    for each in (*training.train, *training.val):
        plugins.check("datasets", each.name, each.options)


def test_warnings_of_the_parts_are_added_up(tmp_path: Path) -> None:
    balls = make_balls(tmp_path / "a", 2)
    content = json.loads(balls.read_text())
    content["annotations"][0]["bbox"] = [5, 5, 0, 9]
    balls.write_text(json.dumps(content))
    joined = open_datasets([component(balls)] * 2, ("background", "ball"))
    assert joined.warnings == {"objects without area left out": 2}


# --- pixels ---------------------------------------------------------------------------------------------------------


def sample(path: Path, *, width: int, height: int, rgb: np.ndarray | None = None) -> Sample:
    boxes, ids = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    return Sample(1, path, width, height, boxes, ids, (), np.zeros(0, bool), rgb)


def test_a_picture_is_read_as_rgb_and_its_alpha_left_out(tmp_path: Path) -> None:
    red = np.full((4, 6, 4), (0, 0, 255, 0), np.uint8)  # BGRA, wholly transparent
    cv2.imwrite(str(tmp_path / "red.png"), red)
    rgb = read_rgb(sample(tmp_path / "red.png", width=6, height=4))
    assert rgb.shape == (4, 6, 3) and (rgb == [255, 0, 0]).all()


def test_a_picture_made_on_the_fly_is_taken_as_it_is() -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    assert read_rgb(sample(Path("nowhere"), width=6, height=4, rgb=rgb)) is rgb


def test_a_picture_that_is_missing_or_of_another_size_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(InputError, match="a.png: expected 8x4 pixels as annotated, got 6x4"):
        read_rgb(sample(tmp_path / "a.png", width=8, height=4))
    with pytest.raises(InputError, match="b.png: the picture is missing or damaged"):
        read_rgb(sample(tmp_path / "b.png", width=6, height=4))


def test_a_picture_with_an_orientation_tag_is_read_the_way_it_was_annotated(tmp_path: Path) -> None:
    """Stored 6×4 with the tag that turns it upright to 4×6; annotators differ in which of the two they showed."""
    path = tmp_path / "turned.jpg"
    cv2.imwrite(str(path), np.zeros((4, 6, 3), np.uint8))
    jpeg = path.read_bytes()
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + jpeg[2:])
    assert read_rgb(sample(path, width=4, height=6)).shape == (6, 4, 3)
    assert read_rgb(sample(path, width=6, height=4)).shape == (4, 6, 3)
