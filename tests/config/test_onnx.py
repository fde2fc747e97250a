"""What a YAML file says of an ONNX file is taken with the usual of its kind, and a wrong line is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamseg.config import OnnxConfig, OnnxFile, read_config
from streamseg.config.onnx import ROLES
from streamseg.types import UsageError


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("class_names: coco", ":1: the setting 'onnx.kind' is missing"),
        ("kind: yollo", ":2: onnx.kind: expected 'detr', 'yolo', .*got 'yollo'"),
        ("kind: [yolo]", ":2: onnx.kind: expected 'detr', 'yolo', .*'full', got "),
        ("kind: yolo\n  kind: detr", ":3: the key 'kind' stands twice"),
        ("kind: yolo\n  class_name: coco", ":3: no setting .* 'onnx.class_name'; did you mean 'class_names'"),
        ("kind: yolo\n  class_names: [a, a]", "class_names: expected at least one name, and each once, got 'a' twice"),
        ("kind: yolo\n  class_names: ['', N/A]", "at least one name, and each once, got none"),
        ("kind: yolo\n  class_names: cocoa", ":3: onnx.class_names.*got 'cocoa'"),
        ("kind: yolo\n  class_names: [a, no]", ":3: onnx.class_names.*got False"),
        ("kind: yolo\n  first_class: -1", ":3: onnx.first_class: expected greater than or equal to 0, got -1"),
        ("kind: yolo\n  outputs: {boxes: a}", "outputs: the kind yolo takes no 'boxes'; there is prototypes, rows"),
        ("kind: yolo\n  outputs: {rows: 5}", ":3: onnx.outputs.rows: expected a valid string, got 5"),
        ("kind: yolo\n  mask_size: 0", ":3: onnx.mask_size: expected greater than 0, got 0"),
        ("kind: yolo\n  min_score: 1.5", ":3: onnx.min_score: expected less than or equal to 1, got 1.5"),
        ("kind: yolo\n  nms_threshold: -1", ":3: onnx.nms_threshold: expected greater than or equal to 0, got -1"),
        ("kind: yolo\n  max_detections: 0", ":3: onnx.max_detections: expected greater than 0, got 0"),
        ("kind: yolo\n  picture: 640", ":3: onnx.picture: expected .*, got 640"),
        ("kind: yolo\n  picture:\n    fit: center", ":4: onnx.picture.fit: expected 'corner', 'centre' or 'stretch'"),
        ("kind: yolo\n  picture:\n    size: [640]", ":4: the setting 'onnx.picture.size.1' is missing"),
        ("kind: yolo\n  picture:\n    size: [0, 4]", ":4: onnx.picture.size.0: expected greater than 0, got 0"),
        ("kind: yolo\n  picture:\n    channels: grb", ":4: onnx.picture.channels: expected 'rgb' or 'bgr', got 'grb'"),
        ("kind: yolo\n  picture:\n    std: [1, 1, 0]", ":4: onnx.picture.std.2: expected greater than 0, got 0"),
        ("kind: yolo\n  picture:\n    mean: 0", ":4: onnx.picture.mean: expected a list, got 0"),
        ("kind: yolo\n  picture:\n    padding: 300", ":4: onnx.picture.padding: expected less than or equal to 255"),
        ("!!python/object:os.system {}", ":2: the tag .* is not allowed here"),
    ],
)
def test_a_wrong_line_is_named(lines: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(f"onnx:\n  {lines}\n")
    with pytest.raises(UsageError, match=message) as error:
        read_config(path, OnnxFile)
    assert str(error.value).startswith(f"{path}:") and "\n" not in str(error.value)


def test_a_file_without_the_section_or_with_more_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("kind: yolo\n")
    with pytest.raises(UsageError, match=r"model.yaml:1: the setting 'onnx' is missing"):
        read_config(path, OnnxFile)
    path.write_text("onnx: {kind: yolo}\nmodel: {}\n")
    with pytest.raises(UsageError, match=r"model.yaml:2: no setting is called 'model'"):
        read_config(path, OnnxFile)


@pytest.mark.parametrize(
    ("kind", "usual"),
    [
        # RF-DETR stretches and takes ImageNet's mean off; YOLO has grey bars on both sides; RTMDet takes B, G, R
        ("detr", ("stretch", "rgb", 123.675, 58.395, 0)),
        ("yolo", ("centre", "rgb", 0, 255, 114)),
        ("yolo_end2end", ("centre", "rgb", 0, 255, 114)),
        ("mask_rcnn", ("corner", "rgb", 0, 255, 0)),
        ("full", ("corner", "bgr", 103.53, 57.375, 114)),
    ],
)
def test_pictures_are_prepared_as_is_usual_for_the_kind(kind: str, usual: tuple[object, ...]) -> None:
    picture = OnnxConfig.model_validate({"kind": kind}).picture
    assert (picture.fit, picture.channels, picture.mean[0], picture.std[0], picture.padding) == usual
    one = OnnxConfig.model_validate({"kind": kind, "picture": {"padding": 7, "size": [9, 8]}}).picture
    assert one == picture.model_copy(update={"padding": 7, "size": (9, 8)})


def test_the_examples_of_the_documentation_are_right(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    examples = re.findall(r"```yaml\n(onnx:.*?)```", page, re.S)
    kinds = set()
    for text in examples:
        (tmp_path / "model.yaml").write_text(text)
        kinds.add(read_config(tmp_path / "model.yaml", OnnxFile).onnx.kind)
    assert kinds == set(ROLES)
