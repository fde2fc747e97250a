"""Exported files: they answer as the model does, run by the page that tells how, and a wrong one is never kept."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from streamseg import zoo
from streamseg.cli import app
from streamseg.config import ModelConfig
from streamseg.evaluation.export import Agreement, export, export_network
from streamseg.model.mask_rcnn import MaskRCNN, load_network
from streamseg.model.portable import FORMATS, own_answer
from streamseg.types import ModelError
from tests.tiny_model import TINY, write_tiny_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
NAMES = {"onnx": "people.onnx", "openvino": "people.xml", "savedmodel": "people"}

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a model is exported by TensorFlow")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def noise(width: int, height: int, seed: int) -> np.ndarray:
    """A picture (1, height, width, 3) of coarse coloured noise, in which random weights see things."""
    cells = np.random.default_rng(seed).integers(0, 256, (1, height // 8, width // 8, 3), np.uint8)
    return cells.repeat(8, 1).repeat(8, 2)


def snippets() -> Iterator[str]:
    yield from re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)


def facts_in(output: Path) -> dict[str, str]:
    """What an export says of itself."""
    if output.suffix == ".onnx":
        import onnx

        return {fact.key: fact.value for fact in onnx.load(output).metadata_props}
    if output.suffix == ".xml":
        import openvino as ov

        network = ov.Core().read_model(output)
        return {name: network.get_rt_info(["streamseg", name]).astype(str) for name in ("class_names", "padding")}
    return dict(json.loads((output / "assets.extra" / "streamseg.json").read_text()))


# --- the three formats


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_answers_as_the_model_and_runs_as_the_page_says(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    cv2.imwrite(str(more / "1.png"), noise(96, 96, 1)[0])
    output = tmp_path / NAMES[format]
    done = export(tiny, output, format=format, pictures=more)
    assert (done.width, done.height) == (128, 96)
    assert done.agreement.pictures == 6 and done.agreement.detections > 20 and done.agreement.holds
    assert {path.name for path in tmp_path.iterdir()} == {"more"} | {
        path.name for path in FORMATS[format].files(output)
    }

    monkeypatch.chdir(tmp_path)
    picture = noise(128, 96, 2)
    cv2.imwrite("photo.jpg", picture[0, :, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    letterbox, *programs = snippets()
    names: dict[str, Any] = {}
    exec(letterbox, names)
    exec(programs[list(FORMATS).index(format)], names)
    assert names["scale"] == 1.0
    expected = own_answer(load_network(TINY, tiny / zoo.WEIGHTS), width=128, height=96)(names["picture"])
    np.testing.assert_allclose(names["boxes"], expected["boxes"], atol=0.01)
    np.testing.assert_allclose(names["masks"], expected["masks"], atol=1e-3)
    assert json.loads(facts_in(output)["class_names"]) == ["background", "ball"]


@pytest.mark.thorough
def test_the_matterport_family_with_its_exact_suppression_goes_into_onnx(tmp_path: Path) -> None:
    keras.utils.set_random_seed(7)
    config = ModelConfig.matterport(
        class_names=("background", "a", "b"),
        backbone="resnet50",
        fpn_channels=8,
        rpn_channels=8,
        box_channels=16,
        mask_channels=8,
        proposals_before_nms=300,  # more than one tile of 256
        num_proposals=40,
        max_detections=10,
        detection_min_score=0.05,
    )
    network = MaskRCNN(config, name="network")
    network.build()
    for convolution in network.backbone.convolutions:
        convolution.gamma.assign(0.5 * convolution.gamma)  # else the scores of random weights are all 0 or 1
    agreement = export_network(
        network,
        tmp_path / "a.onnx",
        format=FORMATS["onnx"],
        size=(128, 64),
        truth=own_answer(network, width=128, height=64),
        pictures=[noise(128, 64, seed) for seed in range(3)],
    )
    assert agreement.holds and agreement.detections > 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


# --- what is refused


def test_a_file_that_finds_other_things_is_not_kept_and_the_old_one_stays(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("old")
    network, other = load_network(TINY, tiny / zoo.WEIGHTS), load_network(TINY, tiny / zoo.WEIGHTS)
    bias = other.mask_head.logits.bias
    bias.assign(bias + 0.2)  # the same boxes, and cells at 0.5 become 0.55
    wanted: dict[str, Any] = {
        "format": FORMATS["openvino"],
        "size": (128, 96),
        "truth": own_answer(network, width=128, height=96),
    }
    with pytest.raises(
        ModelError, match=r"a.xml: not written.* as the model does: .*masks within 0\.0[1-9]"
    ) as refused:
        export_network(other, tmp_path / "a.xml", **wanted, pictures=[noise(128, 96, 0)])
    assert "without a counterpart" not in str(refused.value)
    with pytest.raises(ModelError, match="finds nothing in the 0 pictures"):
        export_network(network, tmp_path / "a.xml", **wanted, pictures=[])
    assert [path.name for path in tmp_path.iterdir()] == ["a.xml"]
    assert (tmp_path / "a.xml").read_text() == "old"


def answers(*rows: tuple[float, float, int, float], places: int = 4) -> dict[str, np.ndarray]:
    """Answers with a detection for each (x1 of its box, score, class, every cell of its mask)."""
    found = {
        "boxes": np.zeros((places, 4), np.float32),
        "scores": np.zeros(places, np.float32),
        "class_ids": np.zeros(places, np.int32),
        "masks": np.zeros((places, 2, 2), np.float32),
    }
    for i, (x, score, class_id, cell) in enumerate(rows):
        found["boxes"][i] = x, 0, x + 10, 10
        found["scores"][i], found["class_ids"][i], found["masks"][i] = score, class_id, cell
    return found


def agreement_of(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> Agreement:
    agreement = Agreement()
    agreement.add(found, expected, min_score=0.05)
    return agreement


def test_detections_may_stand_in_another_order() -> None:
    one, two = (10, 0.9, 1, 0.5), (50, 0.9, 1, 0.5)
    agreement = agreement_of(answers(one, two), answers(two, one))
    assert agreement.holds and (agreement.detections, agreement.box, agreement.score, agreement.mask) == (2, 0, 0, 0)


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        ((10.25, 0.9, 1, 0.5), True),
        ((10.75, 0.9, 1, 0.5), False),
        ((10, 0.9005, 1, 0.5), True),
        ((10, 0.902, 1, 0.5), False),
        ((10, 0.9, 1, 0.505), True),
        ((10, 0.9, 1, 0.52), False),
        ((10, 0.9, 2, 0.5), False),
    ],
)
def test_a_box_a_score_a_mask_and_a_class_may_differ_by_so_much(
    found: tuple[float, float, int, float], holds: bool
) -> None:
    assert agreement_of(answers(found), answers((10, 0.9, 1, 0.5))).holds is holds


def test_one_side_alone_is_a_difference_unless_it_is_the_weakest_there_can_be() -> None:
    sure, weak, weakest = (10, 0.9, 1, 0.5), (50, 0.06, 1, 0.5), (50, 0.0505, 1, 0.5)
    assert not agreement_of(answers(sure, weak), answers(sure)).holds
    assert not agreement_of(answers(sure), answers(sure, weak)).holds
    assert agreement_of(answers(sure, weakest), answers(sure)).holds
    assert agreement_of(answers(sure), answers(sure, weakest)).holds
    assert not agreement_of(answers(), answers(sure)).holds
    # a full list ends where the next one would be as good
    full, other = answers(sure, (50, 0.3, 1, 0.5), places=2), answers(sure, (90, 0.3005, 1, 0.5), places=2)
    assert agreement_of(full, other).holds


# --- the command


def test_the_command_writes_the_model_people_and_says_how_well_it_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (zoo.EMBEDDED / "people" / zoo.WEIGHTS).is_file():
        pytest.skip("the model people is not embedded in this checkout")
    monkeypatch.setattr(os, "environ", os.environ.copy())  # the command changes it for its own process
    output = tmp_path / "out" / "people.onnx"
    arguments = ["export", "--format", "onnx", "--size", "320x320", "-o", str(output)]
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.startswith(f"{output}: input 320x320; as the model: ")
    assert int(re.findall(r"(\d+) detections in 5 pictures", ran.stdout)[0]) > 5
    assert re.findall(r"streamseg: (\w+)", ran.stderr) == ["reading", "writing", "comparing"]
    assert output.stat().st_size > 1e6
    again = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert again.exit_code == 2 and "--overwrite replaces it" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "onnxx", "-o", "a.onnx"], "did you mean 'onnx'?"),
        (["--format", "onnx", "-o", "a.onnx", "--size", "big"], "expected WIDTHxHEIGHT such as 576x320, got 'big'"),
        (["--format", "onnx", "-o", "a.onnx", "--size", "500x500"], "512x512 is near"),
        (["--format", "onnx", "-o", "a.onnx", "--model", "peple"], "did you mean 'people'?"),
    ],
)
def test_wrong_use_of_the_command_ends_with_two(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    ran = CliRunner().invoke(app, ["export", *arguments], catch_exceptions=False)
    assert ran.exit_code == 2 and words in ran.stderr and ran.stderr.count("\n") == 1
