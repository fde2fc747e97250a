"""A page on the data of a training counts what is there, names what is wrong, and needs no other file."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from streamseg.cli import app
from streamseg.config import Component, ExperimentConfig, ModelConfig, TrainingConfig
from streamseg.inspection.census import (
    DOUBLED_MASK,
    EMPTY_MASK,
    MANY_OBJECTS,
    MISFIT,
    NO_OBJECTS,
    OUTSIDE,
    TWICE,
    UNREADABLE,
    Census,
    take_census,
)
from streamseg.inspection.census_page import NOWHERE, SHARED, _bar, _table, colour_of, drawn, report, write_report
from streamseg.training.data import open_datasets
from streamseg.types import Sample, UsageError
from tests.datasets.test_nuclei import make_nuclei
from tests.tiny_model import make_balls

SQUARE = [10, 10, 40, 10, 40, 40, 10, 40]
RUNS = {"size": [80, 100], "counts": [8000]}  # no pixel is set


class Folder:
    """Pictures of 100×80 with noise, as a COCO json that each test spoils."""

    def __init__(self, folder: Path, num_pictures: int) -> None:
        (folder / "images").mkdir(parents=True)
        self.path = folder / "set.json"
        self.annotations: list[dict[str, Any]] = []
        self.images = [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 80} for i in range(num_pictures)]
        for i in range(num_pictures):
            noise = np.random.default_rng((num_pictures, i)).integers(0, 256, (80, 100, 3), np.uint8)
            cv2.imwrite(str(folder / "images" / f"{i}.png"), noise)

    def add(self, image_id: int, category_id: int = 1, **changes: Any) -> None:
        one = {"image_id": image_id, "category_id": category_id, "bbox": [10, 10, 30, 30], "segmentation": [SQUARE]}
        self.annotations.append({**one, **changes})

    def component(self) -> Component:
        content = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        self.path.write_text(json.dumps(content))
        return Component(name="coco", options={"path": str(self.path)})

    def census(self, **options: Any) -> Census:
        dataset = open_datasets([self.component()], ("background", "cat", "dog"))
        return take_census(dataset, range(len(dataset)), **options)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "a", 3)


def test_a_page_replaces_nothing_else_than_a_page(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine")
    result = CliRunner().invoke(app, ["inspect", "data", str(mine), "-o", str(mine)])
    assert result.exit_code == 2 and "expected the name of an HTML page" in result.output
    assert mine.read_text() == "name: mine"


def test_pictures_objects_classes_and_sizes_are_counted(folder: Folder) -> None:
    folder.add(0)
    folder.add(0, 2, bbox=[0, 0, 16, 9], segmentation=[])
    folder.add(1, bbox=[50, 10, 30, 30], segmentation=[[x + 40 * (i % 2 == 0) for i, x in enumerate(SQUARE)]])
    folder.add(2, iscrowd=1, segmentation=RUNS)
    seen: list[tuple[int, int]] = []
    census = folder.census(progress=lambda done, total: seen.append((done, total)))
    assert (census.num_pictures, census.num_objects, census.num_crowds, census.num_unknown_masks) == (3, 3, 1, 1)
    assert census.objects == {1: 2, 2: 1} and census.pictures == {1: 2, 2: 1}
    assert census.sizes == {(100, 80): 3} and census.per_picture == [2, 1, 0]
    assert census.sides == {1: [30, 30], 2: [12]}
    assert {kind: problem.count for kind, problem in census.problems.items()} == {NO_OBJECTS: 1}
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_every_kind_of_problem_is_named_with_its_picture(folder: Folder) -> None:
    folder.add(0)
    folder.add(0, segmentation=[[*SQUARE[:-1], 39]])  # the same outline once more, one corner a pixel off
    folder.add(1, segmentation=RUNS)
    folder.add(1, bbox=[10, 10, 60, 30])
    folder.add(1, bbox=[90, 10, 30, 30], segmentation=[])
    cv2.imwrite(str(folder.path.parent / "images/2.png"), np.zeros((9, 9, 3), np.uint8))
    folder.add(2)
    census = folder.census(max_objects=2)
    found = {kind: problem.examples for kind, problem in census.problems.items()}
    assert found[DOUBLED_MASK][0][0] == 0 and "objects 0 and 1: IoU 0.9" in found[DOUBLED_MASK][0][1]
    assert found[EMPTY_MASK] == [(1, "object 0")]
    assert found[MISFIT] == [(1, "object 1: box (10, 10) to (70, 40), its mask fills (10, 10) to (40, 40)")]
    assert found[OUTSIDE] == [(1, "object 2: (90, 10) to (120, 40)")]
    assert found[MANY_OBJECTS] == [(1, "3 objects")]
    (index, said), *_ = found[UNREADABLE]
    assert index == 2 and "2.png: expected 100x80 pixels as annotated, got 9x9" in said
    assert len(found) == 6


def test_an_outline_drawn_by_hand_may_stand_off_its_box_a_little(folder: Folder) -> None:
    folder.add(0, bbox=[8, 9, 34, 32])
    assert MISFIT not in folder.census().problems


def test_of_many_problems_of_a_kind_the_first_are_kept(tmp_path: Path) -> None:
    census = Folder(tmp_path / "many", 20).census()
    problem = census.problems[NO_OBJECTS]
    assert problem.count == 20 and [index for index, _ in problem.examples] == list(range(8))


def experiment(train: Any, val: Any = None, *names: str) -> ExperimentConfig:
    training = TrainingConfig(train=train, val=val, stages=[{"epochs": 1}])  # type: ignore[arg-type, list-item]
    model = ModelConfig(class_names=("background", *(names or ("cat", "dog"))))
    return ExperimentConfig(name="pets", model=model, training=training)


def test_pictures_in_both_parts_and_twice_in_one_are_found_whatever_their_name(tmp_path: Path) -> None:
    train, val = Folder(tmp_path / "train", 3), Folder(tmp_path / "val", 4)
    copied = (train.path.parent / "images/1.png").read_bytes()
    for name in ("0", "3"):
        (val.path.parent / f"images/{name}.png").write_bytes(copied)
    _, census = report(experiment(train.component(), val.component()))
    assert SHARED not in census["train"].problems
    assert census["val"].problems[SHARED].examples == [(0, "is picture 1 of train")]
    assert census["val"].problems[TWICE].examples == [(3, "the same pixels as picture 0")]


def test_the_page_stands_alone_and_shows_pictures_with_their_problems(tmp_path: Path) -> None:
    train = Folder(tmp_path / "<train>", 5)
    for i in range(5):
        train.add(i)
    train.add(4, segmentation=RUNS)
    html, census = report(experiment(train.component(), None, "cat", "dog", "cow"), num_samples=2)
    assert census["train"].problems[NOWHERE].count == 2  # dog and cow
    assert "dog" in html and "cow" in html and "4.png: object 1" in html
    assert "http" not in html.replace("http-equiv", "") and "src=" in html and 'src="data:image/jpeg;base64,' in html
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert 2 <= len(pictures) <= 3  # two at random, and the one with an empty mask
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(pictures[-1]), np.uint8), cv2.IMREAD_COLOR)
    assert max(decoded.shape[:2]) == 360
    assert "masks without a single pixel: object 1" in html
    assert "Nothing was found" not in html


def test_a_limit_reads_so_many_of_each_part(tmp_path: Path) -> None:
    options = {"count": 40, "width": 64, "height": 64}
    sets = [Component(name="shapes", options={**options, "seed": seed}) for seed in (0, 1)]
    asked = experiment(sets[0], sets[1], "square", "circle", "triangle")
    html, census = report(asked, limit=5, num_samples=1)
    assert [each.num_pictures for each in census.values()] == [5, 5]
    assert "5 pictures of each part at most were read" in html


def test_sound_data_have_no_problem(tmp_path: Path) -> None:
    html, census = report(experiment(str(make_balls(tmp_path / "balls", 3)), None, "ball"))
    assert census["train"].problems == {} and "Nothing was found" in html


def test_a_mask_is_tinted_in_its_colour_and_a_box_drawn_around_it() -> None:
    rgb = np.zeros((360, 360, 3), np.uint8)
    square = [[100, 100, 200, 100, 200, 200, 100, 200]]
    boxes = np.array([[100, 100, 200, 200]], np.float32)
    sample = Sample(0, Path("a"), 360, 360, boxes, np.array([1]), (square,), np.zeros(1, bool), rgb)
    picture = drawn(sample, ("background", "cat"))
    colour = np.array([int(colour_of(1)[i : i + 2], 16) for i in (1, 3, 5)])
    assert picture.shape == (360, 360, 3) and not rgb.any()
    assert (picture[150, 150] == colour // 2).all() and (picture[100, 150] == colour).all()
    assert not picture[50, 50].any()


def test_the_command_writes_the_page_and_says_what_was_found(tmp_path: Path) -> None:
    nuclei = make_nuclei(tmp_path / "nuclei", 5)
    config = tmp_path / "cells.yaml"
    config.write_text(
        "name: cells\nmodel: {class_names: [background, nucleus]}\n"
        "training:\n  train: {nuclei: {folder: wrong, part: train}}\n  stages: [{epochs: 1}]\n"
    )
    page = tmp_path / "out" / "page.html"
    setting = f"training.train.0.folder={nuclei}"
    ran = CliRunner().invoke(app, ["inspect", "data", str(config), "-o", str(page), "--set", setting])
    assert ran.exit_code == 0, ran.output
    assert "train: 4 pictures, 8 nucleus" in ran.output and f"page: {page}" in ran.output
    assert "The data of cells" in page.read_text()
    wrong = CliRunner().invoke(app, ["inspect", "data", str(config), "-o", str(page)])
    assert wrong.exit_code == 1 and "wrong: no such folder" in wrong.output
    for given in (["data"], ["date", str(config)]):
        refused = CliRunner().invoke(app, ["inspect", *given, "-o", str(page)])
        assert refused.exit_code == 2 and "expected `streamseg inspect data CONFIG -o PAGE.html`" in refused.output


def test_a_configuration_without_a_training_has_no_data() -> None:
    with pytest.raises(UsageError, match="the configuration of x has no `training` section"):
        report(ExperimentConfig(name="x"))


def test_a_name_that_is_no_utf_8_does_not_keep_the_page_from_being_written(tmp_path: Path) -> None:
    write_report(tmp_path / "page.html", "<p>kamera\udce4 Straße</p>")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "<p>kamera&#56548; Straße</p>"


def test_a_class_that_looks_like_a_cell_is_text() -> None:
    assert "<script>" not in _table(["class"], [["<td ><script>alert(1)</script>"], [_bar(0.5, "red")]])
