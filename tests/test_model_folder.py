"""A model's folder is read or refused with a reason, and frames of any shape of pixel fit its input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from streamseg.config import ModelConfig
from streamseg.model_folder import ModelFolder
from streamseg.types import ModelError, UsageError
from tests.engines.conftest import frame_of

CONFIG = ModelConfig(input_sizes=((128, 64), (64, 64)))


def folder_of(path: Path, card: str | None = None) -> Path:
    path.mkdir(exist_ok=True)
    (path / "model.weights.h5").touch()
    (path / "model.yaml").write_text(card or yaml.safe_dump({"model": CONFIG.model_dump(mode="json")}))
    return path


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("name: people\n", "model.yaml: the section `model` is missing"),
        ("model:\n", "model.yaml: model: "),
        ("model: {backbone: resnet9}\n", "model.yaml: model.backbone: .*, got 'resnet9'"),
        ("model: {chanels: 3}\n", "model.yaml: model.chanels"),
        ("model: {input_sizes: [[100, 64]]}\n", "multiples of 32, got 100x64"),
        ("model: [\n", "model.yaml:"),
        ("model: !!python/object:os.system {}\n", "model.yaml:1: the tag .* is not allowed here"),
    ],
)
def test_a_broken_configuration_is_named(tmp_path: Path, card: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelFolder.open(folder_of(tmp_path / "model", card))


def test_a_folder_without_its_files_and_a_wrong_name_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no model.yaml and no model.weights.h5"):
        ModelFolder.open(tmp_path)
    with pytest.raises(UsageError, match="no model is called 'peeple'"):
        ModelFolder.open("peeple")


def test_a_frame_takes_the_input_of_its_shape_as_it_is_shown(tmp_path: Path) -> None:
    folder = ModelFolder.open(folder_of(tmp_path / "model"))
    square = np.zeros((40, 40, 3), np.uint8)
    assert folder.input_size(frame_of(square)) == (64, 64)
    assert folder.input_size(frame_of(square, pixel_aspect=2.0)) == (128, 64)


@pytest.mark.parametrize("aspect", [1.0, 2.0, 128 / 117, 0.5])
def test_a_box_around_what_was_fitted_is_the_box_in_the_picture(tmp_path: Path, aspect: float) -> None:
    folder = ModelFolder.open(folder_of(tmp_path / "model"))
    rgb = np.zeros((30, 50, 3), np.uint8)
    rgb[10:20, 20:40] = 250
    frame = frame_of(rgb, pixel_aspect=aspect)
    width, height = folder.input_size(frame)
    image = np.full((height, width, 3), 9, np.uint8)
    letterbox = folder.fit(frame, image)
    bright = image[: letterbox.inner_height, : letterbox.inner_width, 0] > 125
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    found = folder.instances(np.float32([[*box, 0.9, 1]]), np.ones((1, 28, 28), np.float32), letterbox)
    np.testing.assert_allclose(found.boxes, [[20, 10, 40, 20]], atol=1)
    assert found.names == ["person"]


def test_rows_without_score_or_class_and_slivers_in_the_bars_are_nothing(tmp_path: Path) -> None:
    folder = ModelFolder.open(folder_of(tmp_path / "model"))
    letterbox = folder.fit(frame_of(np.zeros((30, 50, 3), np.uint8)), np.zeros((64, 128, 3), np.uint8))
    assert (letterbox.inner_width, letterbox.inner_height) == (107, 64)
    rows = np.float32(
        [
            [10, 10, 30, 30, 0.9, 1],
            [10, 10, 30, 30, 0.04, 1],
            [0, 0, 0, 0, 0, 0],
            [106.8, 0, 120, 60, 0.9, 1],
            [90, 0, 120, 60, 0.9, 1],
        ]
    )
    np.testing.assert_array_equal(folder.found(rows, letterbox), rows[[0, 4]])
