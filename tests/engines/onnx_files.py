"""ONNX files whose answer to every picture is known: constants, or constants that a picture's brightness moves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

SIDE = 64
"""Of the square inputs, in pixels."""

CELLS = 16
"""Cells a side of a plane over the whole input: four pixels each."""

CAR = np.array([8, 8, 40, 40], np.float32)
DOG = np.array([20, 12, 52, 36], np.float32)
"""Boxes xyxy in pixels of the input. The car's mask is the left half of its box, the dog's the upper half."""

SCORES = np.array([0.9, 0.6], np.float32)
NAMES = ("person", "car", "dog")

ELEMENTS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


def left(box: np.ndarray = CAR) -> np.ndarray:
    """A plane (CELLS, CELLS) that is 1 left of the middle of the box and -1 right of it."""
    middles = (np.arange(CELLS) + 0.5) * SIDE / CELLS
    return np.tile(np.where(middles < (box[0] + box[2]) / 2, 1, -1), (CELLS, 1)).astype(np.float32)


def upper(box: np.ndarray = DOG) -> np.ndarray:
    """A plane (CELLS, CELLS) that is 1 above the middle of the box and -1 below it."""
    middles = (np.arange(CELLS) + 0.5) * SIDE / CELLS
    return np.tile(np.where(middles < (box[1] + box[3]) / 2, 1, -1)[:, None], (1, CELLS)).astype(np.float32)


def centres(boxes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) as middles, widths and heights."""
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def two_objects(kind: str, *, cells: int = 8) -> dict[str, np.ndarray]:
    """What a file of the kind gives where there are the car and the dog, by the usual names of its outputs.

    cells: a side of the masks of `mask_rcnn`
    """
    boxes, planes = np.stack([CAR, DOG]), np.stack([left(), upper()])
    if kind == "detr":  # three queries, the last of nothing
        dets = np.zeros((1, 3, 4), np.float32)
        dets[0, :2] = centres(boxes) / SIDE
        labels = np.full((1, 3, 3), -9, np.float32)
        labels[0, [0, 1], [1, 2]] = np.log(SCORES / (1 - SCORES))
        return {"dets": dets, "labels": labels, "masks": np.concatenate([8 * planes, planes[:1]])[None]}
    if kind == "yolo":  # five places, of which two pairs see the same
        rows = np.zeros((1, 4 + 3 + 2, 5), np.float32)
        rows[0, :4] = centres(boxes[[0, 0, 1, 1, 1]]).T
        rows[0, 4:7] = np.array([[0, 0.9, 0], [0, 0.8, 0], [0, 0, 0.6], [0, 0, 0.3], [0.01, 0.02, 0.03]]).T
        rows[0, 7:] = np.array([[8, 0], [8, 0], [0, 8], [0, 8], [8, 8]]).T
        return {"output0": rows, "output1": planes[None]}
    if kind == "yolo_end2end":  # the third row is none
        rows = np.zeros((1, 3, 6 + 2), np.float32)
        rows[0, :2, :4], rows[0, :2, 4], rows[0, :2, 5] = boxes, SCORES, (1, 2)
        rows[0, :2, 6:] = 8 * np.eye(2)
        return {"output0": rows, "output1": planes[None]}
    if kind == "mask_rcnn":
        half = np.arange(cells) < cells // 2
        own = np.stack([np.tile(half, (cells, 1)), np.tile(half[:, None], (1, cells))])[:, None]
        return {"boxes": boxes, "labels": np.array([1, 2]), "scores": SCORES, "masks": own.astype(np.float32)}
    assert kind == "full"
    dets = np.concatenate([boxes, SCORES[:, None]], axis=1)[None]
    shares = ((planes + 1) / 2)[None].astype(np.float32)
    return {"dets": dets, "labels": np.array([[1, 2]]), "masks": shares}


def write_file(
    path: Path,
    outputs: Mapping[str, np.ndarray],
    *,
    shape: tuple[int | str, ...] = (1, 3, SIDE, SIDE),
    element: str = "float32",
    moved: str = "",
    after: Any = None,
) -> Path:
    """An ONNX file with these answers.

    shape, element: of its input · moved: an output to whose numbers the mean of the prepared picture is added ·
    after: called with the graph before it is written, to change it
    """
    constants = [numpy_helper.from_array(np.float32(0), "nothing")]
    nodes = [
        helper.make_node("Cast", ["images"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["grey"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
    ]
    ends = []
    for name, array in outputs.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        constants.append(numpy_helper.from_array(array, f"{name}_constant"))
        change = f"{name}_change"
        nodes.append(helper.make_node("Cast", ["mean" if name == moved else "zero"], [change], to=kind))
        nodes.append(helper.make_node("Add", [f"{name}_constant", change], [name]))
        ends.append(helper.make_tensor_value_info(name, kind, array.shape))
    begin = helper.make_tensor_value_info("images", ELEMENTS[element], shape)
    graph = helper.make_graph(nodes, "known", [begin], ends, constants)
    if after is not None:
        after(graph)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("elsewhere", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


def write_yaml(path: Path, **settings: Any) -> None:
    """The YAML file beside the ONNX file at `path`."""
    plain = {key: [*value] if isinstance(value, tuple) else value for key, value in settings.items()}
    path.with_suffix(".yaml").write_text(yaml.safe_dump({"onnx": plain}, sort_keys=False))


def write_known(path: Path, kind: str, *, class_names: Any = NAMES, **settings: Any) -> Path:
    """A file that finds the car and the dog in every picture, and its YAML file with these settings."""
    write_yaml(path, kind=kind, class_names=class_names, **settings)
    return write_file(path, two_objects(kind))


def write_mirror(path: Path, *, layout: str = "NCHW", element: str = "float32") -> Path:
    """A file of the kind `mask_rcnn` that shows what it was given: an object a channel, whose mask is the channel.

    Its boxes are the whole input; the channels of a uint8 input are divided by 255.
    """
    lengths = {"N": 1, "C": 3, "H": SIDE, "W": SIDE}
    nodes = [helper.make_node("Cast", ["images"], ["given"], to=TensorProto.FLOAT)]
    constants = [
        numpy_helper.from_array(np.array([3, 1, SIDE, SIDE]), "shape"),
        numpy_helper.from_array(np.float32(255 if element == "uint8" else 1), "most"),
        numpy_helper.from_array(np.tile(np.float32([0, 0, SIDE, SIDE]), (3, 1)), "boxes"),
        numpy_helper.from_array(np.arange(3), "labels"),
        numpy_helper.from_array(np.float32([0.9, 0.8, 0.7]), "scores"),
    ]
    first = [layout.index("C"), *(i for i, each in enumerate(layout) if each != "C")]
    nodes += [
        helper.make_node("Transpose", ["given"], ["channels"], perm=first),
        helper.make_node("Reshape", ["channels", "shape"], ["planes"]),
        helper.make_node("Div", ["planes", "most"], ["masks"]),
    ]
    ends = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [3, 4]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, [3]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [3]),
        helper.make_tensor_value_info("masks", TensorProto.FLOAT, [3, 1, SIDE, SIDE]),
    ]
    begin = helper.make_tensor_value_info("images", ELEMENTS[element], [lengths[each] for each in layout])
    graph = helper.make_graph(nodes, "mirror", [begin], ends, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path
