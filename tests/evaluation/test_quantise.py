"""Networks in int8 are written only if they find what those in float32 find, and say what they are made of."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamseg.cli import app
from streamseg.engines.openvino import MADE, Openvino, network_mark
from streamseg.evaluation.quantise import Frames, Quantised, Rounding, check_quantised, quantise
from streamseg.model_folder import ModelFolder
from streamseg.types import ModelError, UsageError
from tests.tiny_model import make_balls, write_tiny_model


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "onnx", "--precision", "int8", "--data", "a.json"], "expected --format openvino, got 'onnx'"),
        (["--format", "openvino", "--precision", "int8"], "--precision int8: expected --data"),
        (
            ["--format", "openvino", "--precision", "int4", "-o", "a.xml"],
            "--precision: expected f32 or int8, got 'int4'",
        ),
        (
            ["--format", "openvino", "--data", "a.json", "-o", "a.xml"],
            "--data, --set and --limit are for --precision int8",
        ),
        (["--format", "openvino"], "--format openvino: expected -o with the path to write to"),
        (
            ["--format", "openvino", "--precision", "int8", "--data", "a.json", "--size", "64x64"],
            "--precision int8: --size and --pictures are for a file for other programs",
        ),
        (
            ["--format", "openvino", "--precision", "int8", "--data", "a.json", "--set", "a=b"],
            "--set a=b: expected a training's YAML file as --data, got a.json",
        ),
    ],
)
def test_wrong_use_of_the_command_ends_with_two(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    ran = CliRunner().invoke(app, ["export", *arguments], catch_exceptions=False)
    assert ran.exit_code == 2 and words in ran.stderr and ran.stderr.count("\n") == 1


def test_pictures_are_spread_over_all_and_read_again_each_time(tmp_path: Path) -> None:
    data = make_balls(tmp_path, num_pictures=9)
    frames = Frames(data, 3)
    assert [frame.stream for frame in frames] == ["1", "5", "9"] == [frame.stream for frame in frames]
    assert len(Frames(data, 30).places) == 9


def test_what_is_lost_is_the_larger_loss() -> None:
    told = Quantised(Path("x"), 7, {"box": 0.5, "mask": 0.4}, {"box": 0.51, "mask": 0.393})
    assert told.lost == pytest.approx(0.007)
    assert str(told) == "box AP 0.500 in f32, 0.510 in int8; mask AP 0.400 in f32, 0.393 in int8, on 7 pictures"
    assert str(replace(told, float_first=3)) == f"{told}, the first 3 convolutions in f32"


def test_only_networks_in_int8_are_replaced_and_only_if_asked(tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason='nncf is not here; pip install "streamseg[export]" brings it')
    output = tmp_path / "int8"
    check_quantised(output, overwrite=False)
    output.mkdir()
    with pytest.raises(UsageError, match="int8 is no folder of networks in int8"):
        check_quantised(output, overwrite=True)
    (output / MADE).write_text("{}")
    with pytest.raises(UsageError, match="int8 exists already; --overwrite replaces it"):
        check_quantised(output, overwrite=False)
    check_quantised(output, overwrite=True)


@pytest.mark.thorough
def test_a_model_is_rounded_measured_written_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of random weights finds nothing that is true, so what is true is what it finds itself."""
    pytest.importorskip("nncf", reason='nncf is not here; pip install "streamseg[export]" brings it')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tiny = write_tiny_model(tmp_path / "tiny")
    data = make_balls(tmp_path / "balls", num_pictures=6)
    labels = json.loads(data.read_text())
    engine = Openvino(model=str(tiny), precision="f32")
    labels["annotations"] = [
        {
            "id": 1000 * number + i,
            "image_id": int(frame.stream),
            "category_id": 1,
            "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
            "area": float((x1 - x0) * (y1 - y0)),
            "iscrowd": 0,
            "segmentation": [[float(v) for v in (x0, y0, x1, y0, x1, y1, x0, y1)]],
        }
        for number, frame in enumerate(Frames(data, 6))
        for i, (x0, y0, x1, y1) in enumerate(engine.predict([frame])[0].boxes[:4])
    ]
    data.write_text(json.dumps(labels))
    with pytest.raises(ModelError, match=r"not written, int8 loses more than -1: box AP 0\.\d+ in f32, 0\.\d+ in int8"):
        quantise(tiny, learn_from=data, judge_on=data, most_lost=-1)  # what nothing can keep to
    assert not (tiny / "int8").exists()

    # of random weights, rounding leaves little
    done = quantise(tiny, learn_from=data, judge_on=data, limit=5, most_lost=1)
    assert done.path == tiny / "int8" and done.pictures == 5 and done.f32["box"] > 0.5
    made = json.loads((done.path / MADE).read_text())
    folder = ModelFolder.open(tiny)
    figures = {"pictures": 5, "f32": done.f32, "int8": done.int8, "float_first": 0}
    assert made == {"networks": network_mark(folder), **figures}
    assert sum(path.stat().st_size for path in done.path.glob("*.bin")) < 0.5 * sum(
        path.stat().st_size for path in next((tmp_path / "cache/streamseg/openvino").glob("tiny-*")).glob("*.bin")
    )
    rounded = Openvino(model=str(tiny), precision="int8")
    frame = next(iter(Frames(data, 1)))
    assert len(rounded.predict([frame])[0]) > 0

    def rounding_in(float_first: int) -> int:
        operations = Rounding(folder, data).networks(float_first=float_first)["features"].get_ops()
        return sum(operation.get_type_name() == "FakeQuantize" for operation in operations)

    assert rounding_in(3) < rounding_in(1) < rounding_in(0)  # what goes into each convolution, and its weights
