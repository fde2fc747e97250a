"""`streamseg evaluate` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
from click.testing import Result
from typer.testing import CliRunner

from streamseg.cli import app
from streamseg.cli.evaluate import as_table
from streamseg.datasets.shapes import Shapes

ENGINE = ("--engine", "tests.evaluation.test_evaluate:Seer", "--model", "any", "-q")

CONFIG = """
name: shapes
model: {class_names: [background, square, circle, triangle]}
training:
  train: shapes
  val: [{shapes: {count: 2}}, {shapes: {count: 1}}]
  stages: [{epochs: 1}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "shapes.yaml"
    path.write_text(CONFIG)
    return path


def evaluated(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["evaluate", *ENGINE, *map(str, arguments)], catch_exceptions=False)


def refused(*arguments: Any) -> str:
    """What is said of a wrong use."""
    result = evaluated(*arguments)
    assert result.exit_code == 2
    return result.stderr


def test_the_json_holds_boxes_and_masks_alone_unless_more_is_asked_for(config: Path) -> None:
    figures = json.loads(evaluated("--data", config, "--json").stdout)
    assert set(figures) == {"model", "images", "seconds", "box", "mask"} and figures["images"] == 3
    assert set(figures["box"]) == {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"} == set(figures["mask"])
    assert figures["box"]["AP"] == 1


def test_every_option_reaches_the_measurement(config: Path, tmp_path: Path) -> None:
    asked = ("--metric", "voc", "--metric", "bowl", "--iou", "0.75", "--min-score", "0.4", "--limit", "2", "--json")
    figures = json.loads(evaluated("--data", config, *asked, "--submission", tmp_path / "a.csv").stdout)
    assert set(figures) == {"model", "images", "seconds", "voc", "bowl", "submission"} and figures["images"] == 2
    assert (figures["voc"]["iou"], figures["voc"]["min_score"], figures["bowl"]["min_score"]) == (0.75, 0.4, 0.4)
    assert (tmp_path / "a.csv").read_text().startswith("ImageId,EncodedPixels\nshapes-0-0,")
    worse = ("--dilate", "5", "--augment", "plain,left_right", "--min-votes", "1", "--metric", "bowl", "--json")
    assert json.loads(evaluated("--data", config, *worse).stdout)["bowl"]["AP"] < 0.5 < figures["bowl"]["AP"]


def test_a_folder_of_pictures_is_for_a_submission(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "shapes-0-0.png"), Shapes(count=1)[0].rgb)
    said = evaluated("--data", tmp_path, "--submission", tmp_path / "a.csv").stdout
    count = len(Shapes(count=1)[0].masks)
    assert said.splitlines()[1] == f"{count} objects from score 0.5 up in {tmp_path / 'a.csv'}"
    assert "a folder of pictures has no truth to measure on" in refused("--data", tmp_path)


def test_wrong_ways_and_metrics_are_answered_with_the_nearest(config: Path) -> None:
    assert "did you mean 'left_right'" in refused("--data", config, "--augment", "leftright")
    assert "did you mean 'voc'" in refused("--data", config, "--metric", "vocs")
    assert "no configuration is called 'peeple'; did you mean 'people'?" in refused("--data", "peeple")


def test_the_engine_takes_its_options_behind_its_name(config: Path) -> None:
    seer = "tests.evaluation.test_evaluate:Seer"
    assert "no option is called 'shift'" in refused("--data", config, "--engine", f"{seer}:shift=3")
    others = evaluated("--data", config, "--engine", f"{seer}:seed=3", "--json")  # it knows other pictures' truth
    assert json.loads(others.stdout)["box"]["AP"] < 1


def test_settings_point_a_configuration_at_other_pictures(config: Path) -> None:
    changed = ("--set", "training.val.0.count=4", "--set", "training.val.1.count=2", "--json")
    assert json.loads(evaluated("--data", config, *changed).stdout)["images"] == 6
    other = ("--set", "training.val={shapes: {count: 1, seed: 3}}", "--json")
    assert json.loads(evaluated("--data", config, *other).stdout)["images"] == 1
    assert "--set training.vall.0=3: " in refused("--data", config, "--set", "training.vall.0=3")
    assert "--set training.val: expected PATH=VALUE" in refused("--data", config, "--set", "training.val")


def test_settings_of_what_has_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    for data, kind in ((tmp_path / "a.json", "COCO's json"), (tmp_path, "a folder of pictures")):
        message = f"--set a=1: expected a training's YAML file as --data, got {data}: {kind} has no settings"
        assert message in " ".join(refused("--data", data, "--set", "a=1").split())


def test_a_training_without_validation_pictures_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG.replace("  val: [{shapes: {count: 2}}, {shapes: {count: 1}}]\n", ""))
    assert "it names no pictures to evaluate on; expected `val`" in refused("--data", tmp_path / "a.yaml")


def test_all_metrics_are_shown_as_small_tables() -> None:
    ap = {"AP": 0.25, "AP50": -1}
    voc = {"AP": 0.5, "iou": 0.6, "AP_range": 0.375, "images": 9, "min_score": 0.7}
    bowl = {"AP": 0.4, "min_score": 0.7, "best_AP": 0.45, "best_min_score": 0.62}
    written = {"path": "a.csv", "objects": 31, "min_score": 0.7}
    figures = {"model": "m", "images": 9, "seconds": 1, "box": ap, "mask": ap, "voc": voc, "bowl": bowl}
    assert [line.split() for line in as_table(figures | {"submission": written}).splitlines()] == [
        ["m:", "9", "pictures", "in", "1.0", "s"],
        ["AP", "AP50"],
        ["box", "0.250", "-"],
        ["mask", "0.250", "-"],
        ["mAP@0.6", "mAP@.5:.95", "score"],
        ["voc", "0.500", "0.375", "0.700"],
        ["mean", "score", "best", "at", "score"],
        ["bowl", "0.400", "0.700", "0.450", "0.620"],
        ["31", "objects", "from", "score", "0.7", "up", "in", "a.csv"],
    ]
