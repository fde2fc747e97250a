"""`streamseg models`: what it lists, the table of knobs that it shows, and what it fetches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import pytest
import yaml
from typer.testing import CliRunner

from streamseg.cli import app
from streamseg.cli.knobs import GROUPS, Line, as_text, table
from streamseg.config import AugmentConfig, Component, ModelConfig, StageConfig, TrainingConfig

WIDTH = 100


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder and the cache are the test's own, the terminal has 100 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    return tmp_path / "cache" / "streamseg" / "models"


def models(*arguments: str, code: int = 0) -> Any:
    ran = CliRunner().invoke(app, ["models", *arguments], catch_exceptions=False)
    assert ran.exit_code == code, ran.stdout + ran.stderr
    return ran


def matterport_file(path: Path, *, num_classes: int) -> Path:
    """The outlines of a weights file of the original: what its configuration is read off, all zeros."""
    shapes = {
        "mrcnn_class_logits": {"kernel": (1024, num_classes), "bias": (num_classes,)},
        "mrcnn_class_conv1": {"kernel": (7, 7, 256, 1024), "bias": (1024,)},
        "mrcnn_mask_conv1": {"kernel": (3, 3, 256, 256), "bias": (256,)},
        "fpn_p2": {"kernel": (3, 3, 256, 256), "bias": (256,)},
        "rpn_conv_shared": {"kernel": (3, 3, 256, 512), "bias": (512,)},
        "rpn_class_raw": {"kernel": (1, 1, 512, 6), "bias": (6,)},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in shapes]
        for layer, tensors in shapes.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in tensors]
            for name, shape in tensors.items():
                group.create_dataset(f"{layer}/{name}:0", shape, "f4")
    return path


def lines_of(said: str) -> dict[str, str]:
    """The first line of every knob in a table, by its name."""
    rows = [line for line in said.splitlines() if line[:2] in ("* ", "  ") and line[2:3].strip()]
    return {line[2:].split()[0]: line for line in rows}


# --- the table


def test_every_knob_of_model_training_stage_and_augmentation_has_a_line() -> None:
    training = TrainingConfig(train="a.json", stages=(StageConfig(epochs=1),))
    said = lines_of(table(ModelConfig(), training, width=WIDTH))
    for schema in (ModelConfig, TrainingConfig, StageConfig, AugmentConfig):
        for name, field in schema.model_fields.items():
            assert field.description, name
            assert name in said or name in ("stages", "augment")


def test_every_heading_is_opened_by_a_knob_that_there_is() -> None:
    assert set(GROUPS) <= {*ModelConfig.model_fields, *TrainingConfig.model_fields}
    said = table(ModelConfig(), TrainingConfig(train="a.json", stages=(StageConfig(epochs=1),)), width=WIDTH)
    assert [line for line in said.splitlines() if line in GROUPS.values()] == list(GROUPS.values())


def test_only_what_is_set_to_something_else_carries_the_mark_and_its_default() -> None:
    said = table(ModelConfig(class_names=("background", "mole"), min_score=0.7, box_pool=7), None, width=WIDTH)
    marked = {name for name, line in lines_of(said).items() if line.startswith("*")}
    assert marked == {"min_score"}
    assert "(default: 0.5)" in said and said.count("(default:") == 1


def test_a_model_of_the_original_is_measured_by_the_defaults_of_the_original() -> None:
    said = lines_of(table(ModelConfig.matterport(backbone="resnet50"), None, width=WIDTH))
    assert {name for name, line in said.items() if line.startswith("*")} == {"backbone"}


def test_stages_share_a_value_or_show_all_of_theirs() -> None:
    stages = (StageConfig(epochs=2), StageConfig(epochs=3, augment=AugmentConfig(angle=30)))
    said = lines_of(table(ModelConfig(), TrainingConfig(train="a.json", stages=stages), width=WIDTH))
    assert said["epochs"].split()[1:4] == ["2", "|", "3"]
    assert said["batch_size"].split()[1:3] == ["8", "pictures"]
    assert said["angle"].split()[:5] == ["*", "angle", "0", "|", "30"]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    names = ("background", *(f"class number {i}" for i in range(80)))
    training = TrainingConfig(
        train=[{"coco": {"path": "/a/very/long/path" * 3 + "/train.json"}}], stages=(StageConfig(epochs=1),) * 4
    )
    said = table(ModelConfig(class_names=names), training, width=width).splitlines()
    assert max(map(len, said)) <= width


def test_a_value_too_long_for_its_column_spans_the_line_and_the_effect_follows() -> None:
    path = "/data/" + "x" * 40 + "/train.json"
    above, below = Line("train", path, "the pictures").wrapped(WIDTH)
    assert above.split() == ["train", path]
    assert below.split() == ["the", "pictures"] and below.index("the") > 50


def test_values_stand_there_as_in_yaml() -> None:
    values = {"a": None, "b": True, "c": 5e-6, "d": [0.1, 2], "e": {"f": 1.0}, "g": "text"}
    assert yaml.safe_load(as_text(values).replace("5e-06", "5.0e-6")) == values
    assert as_text(Component(name="coco", options={"path": "a.json"})) == "{coco: {path: a.json}}"
    assert as_text(Component(name="shapes")) == "shapes"


# --- the command


def test_show_tells_an_embedded_model_with_its_training() -> None:
    said = models("show", "people").stdout
    assert "command: streamseg train configs/people.yaml\n" in said
    assert {"class_names", "rpn_levels", "loss_weights", "epochs", "angle"} <= set(lines_of(said))
    assert max(map(len, said.splitlines()[2:])) <= WIDTH


def test_show_tells_what_can_be_read_off_a_weights_file(tmp_path: Path) -> None:
    path = matterport_file(tmp_path / "moles.h5", num_classes=3)
    said = models("show", str(path), "--class-names", "mole, naevus").stdout
    assert "[background, mole, naevus]" in said and "matterport family" in said
    assert "resnet50" in lines_of(said)["backbone"]
    assert "Training" not in said
    assert "knows 2 classes" in models("show", str(path), "--class-names", "mole", code=2).stderr


def test_show_tells_a_configuration_by_its_path_or_its_name(tmp_path: Path) -> None:
    said = models("show", "shapes").stdout
    assert said.startswith("configuration: ") and "square" in lines_of(said)["class_names"]
    (tmp_path / "mine.yaml").write_text("name: mine\nmodel: {fpn_channels: 96}\n")
    assert lines_of(models("show", "mine.yaml").stdout)["fpn_channels"].split()[:3] == ["*", "fpn_channels", "96"]
    assert "--class-names" in models("show", "mine.yaml", "--class-names", "a", code=2).stderr


def test_a_training_of_another_version_does_not_hide_the_model(cache: Path) -> None:
    folder = cache / "birds"
    folder.mkdir(parents=True)
    card = {"model": {"class_names": ["background", "bird"]}, "training": {"train": "a.json", "wings": 2}}
    (folder / "model.yaml").write_text(yaml.safe_dump(card))
    (folder / "model.weights.h5").write_bytes(b"")
    said = models("show", "birds").stdout
    assert "training: of another version of streamseg" in said and "bird]" in lines_of(said)["class_names"]


def test_coco_is_listed_to_be_downloaded_and_then_with_its_classes(cache: Path) -> None:
    assert "coco                      not here yet: streamseg models download coco" in models().stdout
    matterport_file(cache / "mask_rcnn_coco.h5", num_classes=81)
    assert "coco                      person, bicycle, car, motorcycle and 76 more  " in models().stdout
    said = " ".join(models("show", "coco").stdout.split())
    assert "[background, person, bicycle, " in said and "hair drier, toothbrush]" in said


def test_a_model_that_is_not_here_yet_says_how_to_get_it() -> None:
    ran = CliRunner().invoke(app, ["run", "sample:", "--model", "coco", "-o", "a.jsonl"], catch_exceptions=False)
    assert ran.exit_code == 1
    assert "get it with: streamseg models download coco (or put mask_rcnn_coco.h5 at " in ran.stderr
