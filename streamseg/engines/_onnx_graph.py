"""The graph of an ONNX file in OpenVINO: read, cut to what is wanted, its input fixed and prepared for pictures."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvino as ov
from openvino.frontend import (
    FrontEndManager,
    GeneralFailure,
    InitializationFailure,
    NotImplementedFailure,
    OpConversionFailure,
    OpValidationFailure,
)
from openvino.preprocess import PrePostProcessor

from streamseg.config import PictureConfig
from streamseg.engines._shapes import Shape, in_words
from streamseg.types import ModelError

LARGEST_CELLS = 256
"""Cells a side from which a mask is no small one of a box."""

FAILURES = (
    RuntimeError,
    GeneralFailure,
    InitializationFailure,
    NotImplementedFailure,
    OpConversionFailure,
    OpValidationFailure,
)
"""What OpenVINO raises where a file is wrong, or says what it cannot run."""

UNCONVERTED = ("ONNXFrameworkNode", "NotSupportedONNXNode")
"""What stands in a graph for an operation that OpenVINO does not know, or knows and cannot convert."""

_LAYOUTS = ("NCHW", "NHWC", "CHW", "HWC")


@dataclass(frozen=True)
class Whole:
    """All of a file's graph. reason: why OpenVINO cannot run it as a whole, "" where it can."""

    path: Path
    graph: ov.Model
    reason: str

    @classmethod
    def read(cls, path: Path) -> Whole:
        """Raises ModelError for what is no ONNX file."""
        frontend = _frontend()
        try:
            parsed = frontend.load(str(path))
        except FAILURES as error:
            raise ModelError(f"{path}: not a readable ONNX file ({last_words(error)})") from error
        try:
            return cls(path, frontend.convert(parsed), "")
        except FAILURES as error:
            reason = last_words(error)
        try:
            return cls(path, frontend.convert_partially(frontend.load(str(path))), reason)
        except FAILURES as error:
            raise ModelError(f"{path}: OpenVINO cannot run it ({reason})") from error

    @property
    def outputs(self) -> dict[str, Any]:
        """Its outputs by name, each as the port that makes it."""
        return {name: port.node.input_value(0) for port in self.graph.outputs for name in sorted(port.names)[:1]}

    @property
    def tensors(self) -> dict[str, Any]:
        """Every tensor within it by each of its names."""
        return {name: port for op in self.graph.get_ordered_ops() for port in op.outputs() for name in port.names}

    def cut(self, tensors: Mapping[str, Any]) -> ov.Model:
        """The part that makes these tensors, which are its outputs in their order.

        What comes after them is not computed, and may be what OpenVINO cannot run, such as a loop that pastes masks
        into pictures.
        """
        part = ov.Model(list(tensors.values()), self.graph.get_parameters(), self.path.stem)
        if any(op.get_type_name() in UNCONVERTED for op in _operations(part)):
            raise ModelError(f"{self.path}: OpenVINO cannot run it ({self.reason}){self._advice}")
        return part

    @property
    def _advice(self) -> str:
        """The end of a message that it cannot be run: the last tensors that could be small masks of boxes.

        One with a border around the masks, which torchvision pads before it pastes, is none of them.
        """
        found = []
        for name, port in self.tensors.items():
            shape = shape_of(port) or ()
            square = len(shape) == 4 and shape[1] == 1 and shape[2] == shape[3]
            if square and 7 <= (shape[3] or 0) <= LARGEST_CELLS and port.get_node().get_type_name() != "Pad":
                found.append(name)
        if not found:
            return ""
        return (
            f"; where only what pastes the masks is at fault, name the tensor before that in {self.path.stem}.yaml, "
            f"onnx.outputs.masks; it could be {' or '.join(found[:-3:-1])}"
        )


@dataclass(frozen=True)
class PictureInput:
    """The one input of a graph, a picture. layout: `NCHW`, `HWC` … · width, height: in pixels, None: of any size"""

    name: str
    layout: str
    width: int | None
    height: int | None

    @classmethod
    def of(cls, graph: ov.Model, path: Path) -> PictureInput:
        """Raises ModelError where it has another number of inputs, or one of another shape."""
        if len(graph.inputs) != 1:
            names = ", ".join(port.any_name for port in graph.inputs) or "none"
            raise ModelError(f"{path}: expected one input, a picture, got {names}")
        port = graph.inputs[0]
        shape = shape_of(port) or ()
        layout = next((each for each in _LAYOUTS if _is_picture(shape, each)), None)
        if layout is None:
            raise ModelError(
                f"{path}: input {port.any_name!r}: expected (1, 3, H, W), (1, H, W, 3), (3, H, W) or (H, W, 3), got "
                f"{in_words(shape_of(port))}"
            )
        return cls(port.any_name, layout, shape[layout.index("W")], shape[layout.index("H")])

    def fix(self, graph: ov.Model, path: Path, *, width: int, height: int) -> None:
        """Give the input of the graph its size in pixels, for one picture. Raises ModelError where it does not fit."""
        lengths = {"N": 1, "C": 3, "H": height, "W": width}
        try:
            graph.reshape({graph.inputs[0]: ov.PartialShape([lengths[each] for each in self.layout])})
        except FAILURES as error:
            raise ModelError(f"{path}: it takes no pictures of {width}x{height} ({last_words(error)})") from error

    def prepared(self, graph: ov.Model, picture: PictureConfig) -> ov.Model:
        """The graph for pictures (height, width, 3) uint8 RGB, in which it makes its input of them, and with float32
        for every kind of floating-point number that it gives. The graph itself is used up."""
        steps = PrePostProcessor(graph)
        given = steps.input()
        given.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout(self.layout.replace("C", "") + "C"))
        given.model().set_layout(ov.Layout(self.layout))
        process = given.preprocess()
        if picture.channels == "bgr":
            process.reverse_channels()
        if any(picture.mean) or any(each != 1 for each in picture.std):
            process.convert_element_type(ov.Type.f32).mean(list(picture.mean)).scale(list(picture.std))
        for number, port in enumerate(graph.outputs):
            if port.element_type.is_real():
                steps.output(number).tensor().set_element_type(ov.Type.f32)
        return steps.build()


@functools.cache
def _frontend() -> Any:
    """What reads ONNX; no other frontend is asked, since each says what it does not like.

    It stays: where it goes, so does the code of the operations in a graph that it could not convert.
    """
    return FrontEndManager().load_by_framework("onnx")


def _operations(graph: ov.Model) -> Iterator[Any]:
    """All operations of a graph, and those within its loops and branches: OpenVINO may crash of one there."""
    for operation in graph.get_ordered_ops():
        yield operation
        branches = hasattr(operation, "get_then_body")
        for body in ("get_then_body", "get_else_body") if branches else ("get_function",):
            if hasattr(operation, body):
                yield from _operations(getattr(operation, body)())


def shape_of(port: Any) -> Shape:
    """The shape of a tensor as far as it is known."""
    partial = port.partial_shape
    if partial.rank.is_dynamic:
        return None
    return tuple(None if each.is_dynamic else each.get_length() for each in partial)


def described(port: Any) -> str:
    """`images (1, 3, 640, 640) f32`."""
    return f"{port.any_name} {in_words(shape_of(port))} {port.element_type.get_type_name()}"


def last_words(error: Exception) -> str:
    """What OpenVINO says is wrong, in a line: what it could not convert, or else the last line."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("No conversion rule", "Conversion is failed"))]
    return (told or lines or [type(error).__name__])[-1][:200]


def _is_picture(shape: tuple[int | None, ...], layout: str) -> bool:
    """Whether an input of the shape can be a picture in the layout: one of them, with three channels."""
    fixed = {"N": 1, "C": 3}
    return len(shape) == len(layout) and all(
        length in (None, fixed.get(each, length)) for each, length in zip(layout, shape, strict=True)
    )
