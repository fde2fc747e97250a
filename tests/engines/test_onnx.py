"""An ONNX file of each kind finds what it is known to find; what does not fit its kind or its YAML file is named."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from onnx import TensorProto, helper, numpy_helper

from streamseg import zoo
from streamseg.canvas import Canvas
from streamseg.config.onnx import ROLES
from streamseg.effects.overlay import Overlay
from streamseg.engines._onnx_file import OnnxModel
from streamseg.engines._onnx_kinds import KINDS
from streamseg.engines.auto import Auto
from streamseg.engines.onnx import Onnx
from streamseg.model_folder import ModelFolder
from streamseg.types import Engine, Frame, ModelError, Result, UsageError
from tests.engines.conftest import frame_of
from tests.engines.onnx_files import (
    CAR,
    CELLS,
    DOG,
    NAMES,
    SIDE,
    two_objects,
    write_file,
    write_known,
    write_mirror,
    write_yaml,
)

LEFT = np.arange(8) < 4
"""Which of eight columns are in the left half, and which of eight rows in the upper one."""


def grey(width: int, height: int, level: int = 90) -> Frame:
    return frame_of(np.full((height, width, 3), level, np.uint8))


def opened(path: Path, **options: Any) -> Onnx:
    return Onnx(model=str(path), batch_size=1, **options)


# --- what is found


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_each_kind_finds_the_known_objects(kind: str, tmp_path: Path) -> None:
    """In a picture of 128×128 a pixel of the input is two."""
    engine = opened(write_known(tmp_path / "known.onnx", kind, mask_size=8))
    assert isinstance(engine, Engine)
    assert engine.class_names == ("background", *NAMES) and engine.input_size(grey(640, 480)) == (SIDE, SIDE)
    (found,) = engine.predict([grey(128, 128)])
    np.testing.assert_allclose(found.boxes, [2 * CAR, 2 * DOG], atol=0.01)
    np.testing.assert_allclose(found.scores, [0.9, 0.6], atol=1e-3)
    assert found.names == ["car", "dog"] and (found.track_ids == -1).all()
    np.testing.assert_array_equal(found.masks[0] > 0.5, np.tile(LEFT, (8, 1)))
    np.testing.assert_array_equal(found.masks[1] > 0.5, np.tile(LEFT[:, None], (1, 8)))
    assert 0 <= found.masks.min() < 0.1 and 0.9 < found.masks.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        # 128×64: stretched, a pixel of the input is two wide and one high; else two each way, if centred below a bar
        ("stretch", [16, 8, 80, 40]),
        ("corner", [16, 16, 80, 80]),
        ("centre", [16, -16, 80, 48]),
    ],
)
def test_boxes_come_back_from_however_the_picture_was_fitted(
    kind: str, fit: str, expected: list[float], tmp_path: Path
) -> None:
    engine = opened(write_known(tmp_path / "known.onnx", kind, picture={"fit": fit}))
    (found,) = engine.predict([grey(128, 64)])
    if kind != "mask_rcnn":  # its masks come with the boxes; those that are looked up are cut at the picture's edge
        expected = np.clip(expected, 0, (128, 64, 128, 64)).tolist()
    np.testing.assert_allclose(found.boxes[found.names.index("car")], expected, atol=0.01)


def test_a_mask_is_looked_up_in_what_is_left_of_a_box_at_the_edge_of_the_picture(tmp_path: Path) -> None:
    """The dog from row 12 to 36 of the input is cut at 16: its upper half ends at 24, 8 of the 20 that are left."""
    engine = opened(write_known(tmp_path / "known.onnx", "yolo", mask_size=10))
    (found,) = engine.predict([grey(128, 64)])
    dog = found.of("dog")
    np.testing.assert_allclose(dog.boxes, [[40, 0, 104, 40]], atol=0.01)
    np.testing.assert_array_equal(dog.masks[0] > 0.5, np.tile(np.arange(10)[:, None] < 4, (1, 10)))


def test_wide_pixels_are_shown_to_the_file_as_they_are_seen(tmp_path: Path) -> None:
    """64×128 pixels, each twice as wide as high, are a square: one across and two down to a pixel of the input."""
    engine = opened(write_known(tmp_path / "known.onnx", "yolo"))
    wide = frame_of(np.zeros((128, 64, 3), np.uint8), pixel_aspect=2.0)
    (found,) = engine.predict([wide])
    np.testing.assert_allclose(found.boxes[0], CAR * [1, 2, 1, 2], atol=0.01)


def test_classes_without_a_name_are_left_out(tmp_path: Path) -> None:
    for number, kind in enumerate(KINDS):
        engine = opened(write_known(tmp_path / f"{number}.onnx", kind, class_names=["background", "N/A", "dog"]))
        (found,) = engine.predict([grey(64, 64)])
        assert engine.class_names == ("background", "dog") and found.names == ["dog"], kind
        assert found.class_ids.tolist() == [1]


def test_the_first_class_may_have_another_number_than_0(tmp_path: Path) -> None:
    for number, kind in enumerate(KINDS):
        engine = opened(write_known(tmp_path / f"{number}.onnx", kind, class_names=["car", "dog"], first_class=1))
        assert engine.predict([grey(64, 64)])[0].names == ["car", "dog"], kind


def test_class_names_may_be_given_instead(tmp_path: Path) -> None:
    path = write_known(tmp_path / "known.onnx", "yolo")
    assert opened(path, class_names=["a", "b", "c"]).predict([grey(64, 64)])[0].names == ["b", "c"]
    write_yaml(path, kind="yolo")
    assert opened(path, class_names=["a", "b", "c"]).class_names == ("background", "a", "b", "c")


def test_the_classes_of_coco_need_not_be_listed(tmp_path: Path) -> None:
    """By COCO's own numbers a car is 3, a traffic light 10, a stop sign 13, toothbrush 90; without gaps 2, 9 …"""
    path = write_file(tmp_path / "coco.onnx", two_objects("mask_rcnn"))
    by_name = {"coco91": (3, 10, 13, 72, 84, 90), "coco": (2, 9, 11, 62, 73, 79)}
    for name, numbers in by_name.items():
        write_yaml(path, kind="mask_rcnn", class_names=name)
        file, _ = OnnxModel.open(path)
        assert file.class_names == ("background", *zoo.COCO_CLASSES)
        expected = ["car", "traffic light", "stop sign", "tv", "book", "toothbrush"]
        assert [file.classes[number] for number in numbers] == expected
        assert [file.class_names[number] for number in file.reading.numbers[list(numbers)]] == expected
        assert file.reading.numbers.max() == 80


def test_the_best_are_first_and_no_more_than_the_most(tmp_path: Path) -> None:
    scores = np.float32([0.2, 0.9, 0.04, 0.5, 0.7])
    boxes = np.tile(CAR, (5, 1))
    boxes[:, 2] += np.arange(5)
    outputs = {"boxes": boxes, "labels": np.full(5, 1), "scores": scores, "masks": np.ones((5, 6, 6), np.float32)}
    path = write_file(tmp_path / "many.onnx", outputs)
    for most, expected in ((100, [0.9, 0.7, 0.5, 0.2]), (2, [0.9, 0.7])):
        write_yaml(path, kind="mask_rcnn", class_names=NAMES, max_detections=most)
        (found,) = opened(path).predict([grey(64, 64)])
        np.testing.assert_allclose(found.scores, expected)
        assert found.masks.shape[1:] == (6, 6)
    assert found.boxes[0, 2] == CAR[2] + 1


def test_what_lies_in_the_bars_or_is_no_box_is_nothing(tmp_path: Path) -> None:
    boxes = np.float32([CAR, [0, 0, 64, 16.2], [30, 30, 30, 40], [np.nan, 0, 30, 30], [50, 40, 40, 50]])
    outputs = {
        "boxes": boxes,
        "labels": np.full(5, 1),
        "scores": np.full(5, 0.9, np.float32),
        "masks": np.ones((5, 4, 4), np.float32),
    }
    path = write_file(tmp_path / "odd.onnx", outputs)
    write_yaml(path, kind="mask_rcnn", class_names=NAMES, picture={"fit": "centre"})
    (found,) = opened(path).predict([grey(128, 64)])
    assert len(found) == 1


def test_boxes_of_a_yolo_suppress_those_of_their_own_class_alone(tmp_path: Path) -> None:
    """Two cars that share 1/3 of what they cover together, and a dog where the first car is."""
    rows = np.zeros((1, 4 + 3 + 1, 3), np.float32)
    rows[0, :4] = np.float32([[16, 16, 16, 16], [24, 16, 16, 16], [16, 16, 16, 16]]).T
    rows[0, 4:7] = np.array([[0, 0.9, 0], [0, 0.8, 0], [0, 0, 0.7]]).T
    path = write_file(tmp_path / "near.onnx", {"output0": rows, "output1": np.ones((1, 1, 4, 4), np.float32)})
    for threshold, expected in ((0.4, ["car", "car", "dog"]), (0.3, ["car", "dog"])):
        write_yaml(path, kind="yolo", class_names=NAMES, nms_threshold=threshold)
        assert opened(path).predict([grey(64, 64)])[0].names == expected


def test_a_query_of_a_detr_may_be_of_two_classes(tmp_path: Path) -> None:
    outputs = two_objects("detr")
    outputs["labels"][0, 0, 0] = 0
    path = write_file(tmp_path / "both.onnx", outputs)
    write_yaml(path, kind="detr", class_names=NAMES)
    (found,) = opened(path).predict([grey(64, 64)])
    assert found.names == ["car", "dog", "person"]
    np.testing.assert_array_equal(found.boxes[0], found.boxes[2])


def without_any(graph: Any) -> None:
    """Rows of objects only where the mean of the picture is above zero."""
    graph.node.append(helper.make_node("Mul", ["scores", "mean"], ["seen"]))
    graph.node.append(helper.make_node("NonZero", ["seen"], ["places"]))
    graph.node.append(helper.make_node("Squeeze", ["places", "first"], ["chosen"]))
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    for end in graph.output:
        graph.node.append(helper.make_node("Gather", [end.name, "chosen"], [f"{end.name}_left"], axis=0))
        end.name = f"{end.name}_left"
        end.type.tensor_type.shape.dim[0].dim_param = "N"


def test_a_file_may_find_any_number_of_objects_and_none(tmp_path: Path) -> None:
    path = write_file(tmp_path / "any.onnx", two_objects("mask_rcnn"), after=without_any)
    named = {role: f"{role}_left" for role in ROLES["mask_rcnn"]}
    write_yaml(path, kind="mask_rcnn", class_names=NAMES, outputs=named)
    black, seen = opened(path).predict([grey(64, 64, 0), grey(64, 64, 200)])
    assert len(black) == 0 and black.masks.shape == (0, 8, 8) and seen.names == ["car", "dog"]


# --- the picture that goes in


@pytest.mark.parametrize(
    ("layout", "element", "settings", "expected"),
    [
        ("NCHW", "float32", {}, [200, 100, 50]),
        ("NHWC", "float32", {}, [200, 100, 50]),
        ("CHW", "float32", {}, [200, 100, 50]),
        ("HWC", "float32", {}, [200, 100, 50]),
        ("NCHW", "float16", {}, [200, 100, 50]),
        ("NHWC", "uint8", {"mean": [0, 0, 0], "std": [1, 1, 1]}, [200, 100, 50]),
        ("NCHW", "float32", {"channels": "bgr"}, [50, 100, 200]),
        # (200 - 20) / 200, (100 - 10) / 100, (50 - 5) / 90
        ("NCHW", "float32", {"mean": [20, 10, 5], "std": [200, 100, 90]}, [0.9 * 255, 0.9 * 255, 0.5 * 255]),
        ("NCHW", "float32", {"channels": "bgr", "mean": [5, 10, 20], "std": [90, 100, 200]}, [127.5, 229.5, 229.5]),
    ],
)
def test_the_file_is_given_the_picture_as_its_yaml_file_says(
    layout: str, element: str, settings: Mapping[str, Any], expected: list[float], tmp_path: Path
) -> None:
    """An orange picture of 128×64 in the middle of the input, with bars of 30 grey levels above and below."""
    path = write_mirror(tmp_path / "mirror.onnx", layout=layout, element=element)
    picture = {"fit": "centre", "padding": 30, **settings}
    write_yaml(path, kind="mask_rcnn", class_names=NAMES, picture=picture)
    orange = np.zeros((64, 128, 3), np.uint8)
    orange[:] = 200, 100, 50
    (found,) = opened(path).predict([frame_of(orange)])
    seen = 255 * found.masks  # (3, SIDE, SIDE), a channel each
    np.testing.assert_allclose(seen[:, 16:48], np.broadcast_to(np.reshape(expected, (3, 1, 1)), (3, 32, 64)), atol=0.6)
    mean, std = (
        np.reshape(settings.get("mean", [0] * 3), (3, 1, 1)),
        np.reshape(settings.get("std", [255] * 3), (3, 1, 1)),
    )
    for bar in (seen[:, :16], seen[:, 48:]):
        shown = np.broadcast_to((30 - mean) / std, bar.shape)
        np.testing.assert_allclose(bar, (1 if element == "uint8" else 255) * shown, atol=0.1)


def test_a_file_that_takes_pictures_of_any_size_is_told_one(tmp_path: Path) -> None:
    path = write_file(tmp_path / "any.onnx", two_objects("yolo"), shape=("batch", 3, "height", "width"))
    write_yaml(path, kind="yolo", class_names=NAMES)
    with pytest.raises(
        UsageError, match="any.yaml: the setting 'onnx.picture.size' is missing: the file takes pictures of"
    ):
        opened(path)
    write_yaml(path, kind="yolo", class_names=NAMES, picture={"size": [96, SIDE]})
    engine = opened(path)
    assert engine.input_size(grey(10, 10)) == (96, SIDE)
    assert engine.predict([grey(96, 64)])[0].names == ["car", "dog"]


def test_pictures_side_by_side_keep_their_order(tmp_path: Path) -> None:
    path = write_file(tmp_path / "any.onnx", two_objects("mask_rcnn"), moved="boxes")
    write_yaml(path, kind="mask_rcnn", class_names=NAMES)
    engine = Onnx(model=str(path), batch_size=3, threads=2)
    assert engine.batch_size == 3
    levels = [0, 255, 51, 102, 204, 0, 153]
    lefts = [found.boxes[0, 0] - CAR[0] for found in engine.predict([grey(64, 64, level) for level in levels])]
    np.testing.assert_allclose(lefts, np.array(levels) / 255, atol=1e-3)


# --- tensors of other names, and within the graph


def test_outputs_are_found_by_their_names_or_as_the_only_ones_of_their_rank(tmp_path: Path) -> None:
    outputs = two_objects("full")
    renamed = dict(zip(("a", "b", "c"), (outputs["masks"], outputs["labels"], outputs["dets"]), strict=True))
    path = write_file(tmp_path / "renamed.onnx", renamed)
    write_yaml(path, kind="full", class_names=NAMES)
    engine = opened(path)
    assert engine.file.outputs == {"dets": "c", "labels": "b", "masks": "a"}
    assert engine.predict([grey(64, 64)])[0].names == ["car", "dog"]


def test_an_output_that_could_be_two_is_asked_for(tmp_path: Path) -> None:
    outputs = two_objects("detr")
    renamed = {"masks": outputs["masks"], "x": outputs["dets"], "y": outputs["labels"]}
    path = write_file(tmp_path / "renamed.onnx", renamed)
    write_yaml(path, kind="detr", class_names=NAMES)
    expected = (
        r"onnx.outputs.dets' is missing; the outputs of renamed.onnx are masks \(1, 3, 16, 16\), x \(1, 3, 4\), y"
    )
    with pytest.raises(UsageError, match=expected):
        opened(path)
    write_yaml(path, kind="detr", class_names=NAMES, outputs={"dets": "x"})
    assert opened(path).predict([grey(64, 64)])[0].names == ["car", "dog"]
    write_yaml(path, kind="detr", class_names=NAMES, outputs={"dets": "x", "masks": "mask"})
    with pytest.raises(UsageError, match="onnx.outputs.masks: renamed.onnx has no tensor 'mask'; did you mean 'masks'"):
        opened(path)


def one_mask() -> Any:
    """The body of a loop: the mask of an object, pasted by an operation that OpenVINO does not know."""
    nodes = [
        helper.make_node("Gather", ["padded", "step"], ["one"]),
        helper.make_node("Gather", ["boxes", "step"], ["box"]),
        helper.make_node("Paste", ["one", "box"], ["full"], domain="elsewhere"),
        helper.make_node("Identity", ["on"], ["goes_on"]),
        helper.make_node("Identity", ["before"], ["after"]),
    ]
    takes = [("step", TensorProto.INT64), ("on", TensorProto.BOOL), ("before", TensorProto.FLOAT)]
    gives = [("goes_on", TensorProto.BOOL), ("after", TensorProto.FLOAT), ("full", TensorProto.FLOAT)]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, kind, []) for name, kind in each] for each in (takes, gives)
    )
    outputs[2] = helper.make_tensor_value_info("full", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, "body", inputs, outputs)


def pasting(graph: Any) -> None:
    """As torchvision ends: a branch that takes tensors of the whole graph, then a loop that pastes masks into pictures.

    They have got a border before that.
    """
    branches = {}
    for name in ("then", "else"):
        node = helper.make_node("Identity", ["masks"], [name])
        end = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        branches[f"{name}_branch"] = helper.make_graph([node], name, [], [end])
    graph.node.append(helper.make_node("Greater", ["zero", "nothing"], ["any"]))
    graph.node.append(helper.make_node("If", ["any"], ["heads/Slice_12"], **branches))
    graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "border"))
    graph.node.append(helper.make_node("Pad", ["heads/Slice_12", "border"], ["padded"]))
    graph.node.append(helper.make_node("Loop", ["count", "going", "nothing"], ["last", "pasted"], body=one_mask()))
    graph.initializer.append(numpy_helper.from_array(np.array(2), "count"))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "going"))
    graph.output[3].CopyFrom(helper.make_tensor_value_info("pasted", TensorProto.FLOAT, ["N", 1, SIDE, SIDE]))


def test_a_graph_is_cut_before_its_masks_are_pasted(tmp_path: Path) -> None:
    path = write_file(tmp_path / "torchvision.onnx", two_objects("mask_rcnn"), after=pasting)
    with pytest.raises(RuntimeError):
        ov.Core().read_model(path)
    write_yaml(path, kind="mask_rcnn", class_names=NAMES, outputs={"masks": "pasted"})
    with pytest.raises(
        ModelError, match=r"OpenVINO cannot run it \(.* name the tensor .* it could be heads/Slice_12 or "
    ):
        opened(path)
    write_yaml(path, kind="mask_rcnn", class_names=NAMES, outputs={"masks": "heads/Slice_12"})
    engine = opened(path)
    assert engine.file.facts["output masks"].endswith("(2, 1, 8, 8) f32")
    (found,) = engine.predict([grey(64, 64)])
    np.testing.assert_allclose(found.boxes, [CAR, DOG], atol=0.01)
    np.testing.assert_array_equal(found.masks[0] > 0.5, np.tile(LEFT, (8, 1)))


def test_outputs_that_nothing_takes_are_not_computed(tmp_path: Path) -> None:
    """A fifth output of an operation that OpenVINO does not know is left out, and nothing has to be said of it."""

    def unknown(graph: Any) -> None:
        graph.node.append(helper.make_node("Unknown", ["boxes"], ["more"], domain="elsewhere"))
        graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 4]))

    path = write_file(tmp_path / "more.onnx", two_objects("mask_rcnn"), after=unknown)
    write_yaml(path, kind="mask_rcnn", class_names=NAMES)
    assert opened(path).predict([grey(64, 64)])[0].names == ["car", "dog"]


# --- what is wrong with a file

CHANGES: list[tuple[str, str, Callable[[np.ndarray], np.ndarray], str]] = [
    ("detr", "dets", lambda a: a[..., :3], r"expected \(1, Q, 4\), got \(1, 3, 3\)"),
    ("detr", "labels", lambda a: a[..., :2], r"expected \(1, Q = 3, K = 3\), got \(1, 3, 2\)"),
    ("detr", "masks", lambda a: a[:, :2], r"expected \(1, Q = 3, h, w\), got \(1, 2, 16, 16\)"),
    ("detr", "masks", lambda a: a[0], r"expected \(1, Q = 3, h, w\), got \(3, 16, 16\)"),
    ("yolo", "output0", lambda a: a[:, :8], r"expected \(1, 4\+K\+P = 9, Q\), got \(1, 8, 5\)"),
    ("yolo", "output0", lambda a: a.transpose(0, 2, 1), r"expected \(1, 4\+K\+P = 9, Q\), got \(1, 5, 9\)"),
    ("yolo_end2end", "output0", lambda a: a[..., :7], r"expected \(1, N, 6\+P = 8\), got \(1, 3, 7\)"),
    ("mask_rcnn", "boxes", lambda a: a[None], r"expected \(N, 4\), got \(1, 2, 4\)"),
    ("mask_rcnn", "labels", lambda a: a[:1], r"expected \(N = 2,\), got \(1,\)"),
    ("mask_rcnn", "scores", lambda a: a[:, None], r"expected \(N = 2,\), got \(2, 1\)"),
    ("mask_rcnn", "masks", lambda a: a[..., :7], r"expected .* or \(N = 2, M, M\), got \(2, 1, 8, 7\)"),
    ("mask_rcnn", "masks", lambda a: np.ones((2, 257, 257), a.dtype), "256 cells a side of a box, got 257: these are"),
    ("full", "dets", lambda a: a[..., :4], r"expected \(1, N, 5\), got \(1, 2, 4\)"),
    ("full", "labels", lambda a: a[0], r"expected \(1, N = 2\), got \(2,\)"),
    ("full", "masks", lambda a: a[:, :1], r"expected \(1, N = 2, h, w\), got \(1, 1, 16, 16\)"),
]
"""Kind, output, what makes it wrong, and what is said."""


@pytest.mark.parametrize(("kind", "name", "change", "message"), CHANGES)
def test_a_shape_that_does_not_fit_the_kind_is_refused_by_name(
    kind: str, name: str, change: Callable[[np.ndarray], np.ndarray], message: str, tmp_path: Path
) -> None:
    outputs = two_objects(kind)
    path = write_file(tmp_path / "wrong.onnx", {**outputs, name: np.ascontiguousarray(change(outputs[name]))})
    write_yaml(path, kind=kind, class_names=NAMES)
    role = {"output0": "rows"}.get(name, name)
    with pytest.raises(ModelError, match=message) as error:
        opened(path)
    assert str(error.value).startswith(f"{path}: output {name!r} as {role} of the kind {kind}: expected ")
    assert "\n" not in str(error.value)


def test_a_wrong_number_of_classes_is_told_from_a_yolo(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected \(1, 4\+K\+P = 86, Q\), got \(1, 9, 5\)"):
        opened(write_known(tmp_path / "known.onnx", "yolo", class_names="coco"))


@pytest.mark.parametrize(
    ("kind", "name", "change", "message"),
    [
        ("mask_rcnn", "labels", lambda a: a + 90, "found something of class 91; expected at most 2, the last of onnx."),
        ("mask_rcnn", "scores", lambda a: a * 10, "scores of the kind mask_rcnn: expected 0 to 1, got 6 to 9"),
        ("full", "masks", lambda a: a * 20 - 10, "masks of the kind full: expected 0 to 1, got -10 to 10"),
        ("detr", "masks", lambda a: a * np.nan, "masks of the kind detr: expected 0 to 1, got nan to nan"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_name(
    kind: str, name: str, change: Callable[[np.ndarray], np.ndarray], message: str, tmp_path: Path
) -> None:
    outputs = two_objects(kind)
    path = write_file(tmp_path / "wrong.onnx", {**outputs, name: change(outputs[name])})
    write_yaml(path, kind=kind, class_names=NAMES)
    engine = opened(path)
    with pytest.raises(ModelError, match=message):
        engine.predict([grey(64, 64)])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, SIDE, SIDE), r"input 'images': expected \(1, 3, H, W\), .* got \(1, 4, 64, 64\)"),
        ((2, 3, SIDE, SIDE), r"expected \(1, 3, H, W\), .* got \(2, 3, 64, 64\)"),
        ((1, 3, 5, SIDE, SIDE), r"expected \(1, 3, H, W\), .* got \(1, 3, 5, 64, 64\)"),
    ],
)
def test_an_input_that_is_no_picture_is_refused(shape: tuple[int, ...], message: str, tmp_path: Path) -> None:
    path = write_file(tmp_path / "wrong.onnx", two_objects("yolo"), shape=shape)
    write_yaml(path, kind="yolo", class_names=NAMES)
    with pytest.raises(ModelError, match=message):
        opened(path)


def test_a_second_input_is_refused(tmp_path: Path) -> None:
    def sizes(graph: Any) -> None:
        graph.input.append(helper.make_tensor_value_info("sizes", TensorProto.FLOAT, [1, 2]))
        graph.node.append(helper.make_node("Add", ["sizes", "sizes"], ["twice"]))
        graph.node.append(helper.make_node("ReduceMean", ["twice"], ["left"], keepdims=0))
        graph.node.append(helper.make_node("Add", ["boxes", "left"], ["moved"]))
        graph.output[0].name = "moved"

    path = write_file(tmp_path / "wrong.onnx", two_objects("mask_rcnn"), after=sizes)
    write_yaml(path, kind="mask_rcnn", class_names=NAMES)
    with pytest.raises(ModelError, match="expected one input, a picture, got images, sizes"):
        opened(path)


def test_a_file_that_is_none_or_that_nothing_is_said_of_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ModelError, match="model.onnx: no such file"):
        opened(path)
    path.write_bytes(b"no model at all")
    with pytest.raises(UsageError, match="model.yaml: no such file; it has to say what the outputs of model.onnx mean"):
        opened(path)
    write_yaml(path, kind="yolo", class_names="coco")
    with pytest.raises(ModelError, match="model.onnx: not a readable ONNX file"):
        opened(path)
    whole = write_known(tmp_path / "whole.onnx", "yolo").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="model.onnx: not a readable ONNX file"):
        opened(path)
    with pytest.raises(UsageError, match="expected an .onnx file, got people"):
        Onnx(model="people")


# --- what is wrong with the YAML file, beside what tests/config/test_onnx.py looks at


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_names": None}, "the setting 'onnx.class_names' is missing"),
        ({"picture": {"size": [32, 64]}}, r"onnx.picture.size: expected \[64, 64\] as the file says, got \[32, 64\]"),
        ({"outputs": {"rows": "output"}}, "onnx.outputs.rows: model.onnx has no tensor 'output'; did you mean 'output"),
    ],
)
def test_what_the_yaml_file_says_otherwise_than_the_file_is_named(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_file(tmp_path / "model.onnx", two_objects("yolo"))
    write_yaml(path, **{"kind": "yolo", "class_names": [*NAMES], **settings})
    with pytest.raises(UsageError, match=message) as error:
        opened(path)
    assert str(error.value).startswith(str(path.with_suffix(".yaml"))) and "\n" not in str(error.value)


def test_what_a_kind_takes_is_the_same_in_its_settings_and_in_its_shapes() -> None:
    assert {kind: set(roles) for kind, roles in ROLES.items()} == {
        kind: set(each.shapes) for kind, each in KINDS.items()
    }


# --- the engine among the others


def test_auto_takes_it_for_an_onnx_file_and_no_other_engine_does(tmp_path: Path) -> None:
    path = write_known(tmp_path / "known.onnx", "yolo")
    engine = Auto(model=str(path), batch_size=2)
    assert isinstance(engine, Onnx) and (engine.batch_size, engine.precision) == (2, "f32")
    with pytest.raises(ModelError, match="expected the folder of a model; an ONNX file only runs, in the engine onnx"):
        ModelFolder.open(path)
    with pytest.raises(UsageError, match="input: .*known.onnx says itself how large its pictures are"):
        Auto(model=str(path), input="large")


def test_bfloat16_is_refused_where_it_would_be_slower(tmp_path: Path) -> None:
    path = write_known(tmp_path / "known.onnx", "yolo")
    if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert opened(path, precision="bf16").precision == "bf16"
    else:
        with pytest.raises(UsageError, match="precision: this CPU has no bfloat16 and would imitate it"):
            opened(path, precision="bf16")
    with pytest.raises(UsageError, match="precision: expected auto, bf16 or f32, got 'int8'"):
        opened(path, precision="int8")
    with pytest.raises(UsageError, match="batch_size: expected 1 or more, got 0"):
        Onnx(model=str(path), batch_size=0)


def crowd(path: Path, count: int) -> Path:
    """A file of the kind `yolo` that finds `count` objects a quarter as wide and high as the picture."""
    rng = np.random.default_rng(0)
    rows = np.zeros((1, 4 + 1 + 4, 300), np.float32)
    rows[0, :4] = np.concatenate([rng.uniform(8, SIDE - 8, (2, 300)), np.full((2, 300), SIDE / 4)])
    rows[0, 4, :count] = 0.9
    rows[0, 5:] = rng.normal(size=(4, 300))
    prototypes = rng.normal(size=(1, 4, CELLS, CELLS)).astype(np.float32)
    write_yaml(path, kind="yolo", class_names=["person"], nms_threshold=1.0)
    return write_file(path, {"output0": rows, "output1": prototypes})


def test_a_hundred_objects_in_4k_take_less_memory_than_one_picture_of_a_mask(tmp_path: Path) -> None:
    """Found and drawn; a mask of 3840×2160 as bytes would be 8.3 MB, and a hundred of them a hundred times that."""
    frame = grey(3840, 2160)
    peaks = {}
    for count in (1, 100):
        engine = opened(crowd(tmp_path / f"{count}.onnx", count))
        overlay = Overlay()
        canvas = Canvas(frame.picture)
        tracemalloc.start()
        (found,) = engine.predict([frame])
        overlay.draw(canvas, Result(frame, found))
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(found) == count
    assert peaks[100] - peaks[1] < 3840 * 2160
