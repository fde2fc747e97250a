"""A foreign ONNX file of eighty classes goes all the way: two of them are drawn, written, drawn again and measured."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from streamseg import zoo
from streamseg.annotate.selection import Selection
from streamseg.annotate.work import build, pins_of
from streamseg.cli import app
from streamseg.config import Component, OnnxConfig, PictureConfig
from tests.end_to_end.command import pictures, run
from tests.engines.onnx_files import CAR, CELLS, DOG, centres, left, upper, write_file, write_yaml

CLIP = "test:128x128@10"
OF_COCO = {name: number for number, name in enumerate(zoo.COCO_CLASSES)}


@pytest.fixture
def eighty(tmp_path: Path) -> Path:
    """A file of the kind `yolo` and of COCO's classes that finds a car, a dog and a person beside them."""
    boxes = np.stack([CAR, DOG, np.float32([44, 40, 60, 60])])
    rows = np.zeros((1, 4 + 80 + 3, 21), np.float32)
    rows[0, :4, :3] = centres(boxes).T
    for place, (name, score) in enumerate((("car", 0.9), ("dog", 0.8), ("person", 0.7))):
        rows[0, 4 + OF_COCO[name], place] = score
        rows[0, 4 + 80 + place, place] = 8
    prototypes = np.stack([left(), upper(), np.ones((CELLS, CELLS), np.float32)])[None]
    path = write_file(tmp_path / "eighty.onnx", {"output0": rows, "output1": prototypes})
    write_yaml(path, kind="yolo", class_names="coco")
    return path


def records(path: Path | str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_two_of_eighty_classes_are_drawn_written_and_drawn_again(eighty: Path) -> None:
    wanted = ("--classes", "car,dog", "--effect", "overlay", "--end", "0.4", "--quality", "lossless")
    run(CLIP, *wanted, "--model", str(eighty), "-o", "first.mp4", "-o", "first.jsonl", engine=())
    found = records("first.jsonl")
    assert len(found) == 4
    for record in found:
        objects = {each["class"]: each for each in record["objects"]}  # type: ignore[attr-defined, index]
        assert set(objects) == {"car", "dog"}
        np.testing.assert_allclose(objects["car"]["box"], 2 * CAR, atol=0.01)
        np.testing.assert_allclose(objects["dog"]["box"], 2 * DOG, atol=0.01)
        assert objects["car"]["crop"]["side"] == 56
    run(CLIP, *wanted, "-o", "again.mp4", "-o", "again.jsonl", engine=("--engine", "replay:path=first.jsonl"))
    again = records("again.jsonl")
    assert [record["objects"] for record in again] == [record["objects"] for record in found]
    run(CLIP, "--classes", "bus", *wanted[2:], "--model", str(eighty), "-o", "plain.mp4", engine=())
    for one, other, bare in zip(pictures("first.mp4"), pictures("again.mp4"), pictures("plain.mp4"), strict=True):
        drawn, redrawn, plain = (each.to_ndarray()[:128].astype(int) for each in (one, other, bare))  # luma
        assert abs(drawn - redrawn).max() <= 1
        changed = drawn != plain
        assert changed[36:60, 20:40].mean() > 0.9  # in the car's left half
        around = np.ones((128, 128), bool)
        around[12:84, 12:108] = False  # the boxes of car and dog, and what an outline adds
        assert not changed[around].any()


def test_it_is_measured_as_any_other_model(eighty: Path, tmp_path: Path) -> None:
    """The truth is what it finds: a car and a dog, each the half of its box, and a bench, which it does not find."""
    folder = tmp_path / "truth"
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "1.png"), np.full((128, 128, 3), 90, np.uint8))
    halves = {"car": [16, 16, 48, 80], "dog": [40, 24, 104, 48]}
    annotations = []
    for name, box in {"car": 2 * CAR, "dog": 2 * DOG, "bench": 2 * CAR}.items():
        x1, y1, x2, y2 = halves.get(name, [16, 16, 80, 80])
        width, height = box[2:] - box[:2]
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": 1,
                "category_id": OF_COCO[name] + 1,
                "bbox": [float(box[0]), float(box[1]), float(width), float(height)],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
            }
        )
    categories = [{"id": number + 1, "name": name} for name, number in OF_COCO.items()]
    images = [{"id": 1, "file_name": "1.png", "width": 128, "height": 128}]
    (folder / "truth.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    arguments = ["evaluate", "--model", str(eighty), "--data", str(folder / "truth.json"), "--json", "-q"]
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.stderr
    figures = json.loads(ran.stdout)
    assert figures["model"] == "eighty.onnx"
    assert figures["box"]["AP"] == pytest.approx(2 / 3, abs=0.01)
    assert figures["mask"]["AP50"] == pytest.approx(2 / 3, abs=0.01)
    assert figures["mask"]["AP75"] == pytest.approx(2 / 3, abs=0.01)


def test_models_show_says_what_was_read_off_the_file(eighty: Path) -> None:
    ran = CliRunner().invoke(app, ["models", "show", str(eighty)], env={"COLUMNS": "100"}, catch_exceptions=False)
    assert ran.exit_code == 0, ran.stderr
    for line in (
        "kind: yolo",
        "input: images (1, 3, 64, 64) f32",
        "output rows: output0 (1, 87, 21) f32",
        "output prototypes: output1 (1, 3, 16, 16) f32",
        "classes: person, bicycle, car, motorcycle and 76 more",
    ):
        assert line in ran.stdout.splitlines()
    assert max(map(len, ran.stdout.splitlines()[6:])) <= 100
    given = [*OnnxConfig.model_fields, *PictureConfig.model_fields]
    for name in (name for name in given if name != "picture"):
        assert f"\n  {name} " in ran.stdout, name


def test_what_is_wrong_with_its_yaml_file_is_wrong_use_said_before_the_first_frame(eighty: Path) -> None:
    write_yaml(eighty, kind="yolo", class_names="coco", mask_sise=28)
    ran = run(CLIP, "--model", str(eighty), "-o", "out.jsonl", engine=(), code=2)
    assert "eighty.yaml:4: no setting is called 'onnx.mask_sise'; did you mean 'mask_size'?" in ran.stderr
    assert not Path("out.jsonl").exists()


def test_labels_are_pinned_to_the_file_and_to_what_its_yaml_file_says(eighty: Path) -> None:
    component = Component(name="auto", options={"model": str(eighty)})
    selection = Selection(every=None, stride=1)

    def pins() -> dict[str, object]:
        return pins_of(build(component, tiles=None, threads=1), component, selection, tiles=None)

    before = pins()
    assert before["engine"] == "onnx" and before["model"] == "eighty" and before == pins()
    write_yaml(eighty, kind="yolo", class_names="coco", nms_threshold=0.6)
    after = pins()
    assert after["model hash"] != before["model hash"]
