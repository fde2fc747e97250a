"""A foreign ONNX file opened: what is in it, what the YAML file beside it says, and whether the two fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from streamseg import zoo
from streamseg.config import OnnxConfig, OnnxFile, is_class, read_config
from streamseg.engines._onnx_graph import LARGEST_CELLS, PictureInput, Whole, described, shape_of
from streamseg.engines._onnx_kinds import KINDS, Reading
from streamseg.engines._shapes import Shape, expected_in_words, fits, in_words
from streamseg.types import ModelError, UsageError
from streamseg.words import nearest

_COCO_GAPS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""Numbers below 91 that COCO's categories leave out."""


@dataclass(frozen=True)
class OnnxModel:
    """What is known of an ONNX file before it runs.

    classes: as the file counts them, "" for a number that is none · width, height: of its input in pixels · outputs:
    role -> the name of its tensor · facts: what was read off the file, for people
    """

    path: Path
    config: OnnxConfig
    classes: tuple[str, ...]
    width: int
    height: int
    outputs: Mapping[str, str]
    facts: Mapping[str, str]

    @classmethod
    def open(cls, model: str | Path, *, class_names: Sequence[str] | None = None) -> tuple[OnnxModel, ov.Model]:
        """Read a file and the YAML file beside it: what is known of it, and its graph for pictures
        (height, width, 3) uint8 RGB.

        class_names: instead of those in the YAML file. Raises UsageError for what is wrong in that one, ModelError for
        a file that cannot be read or whose tensors do not fit the kind.
        """
        path = Path(model).expanduser()
        if not zoo.is_onnx(path):
            raise UsageError(f"model: expected an .onnx file, got {model}")
        beside = path.with_suffix(".yaml")
        if not path.is_file():
            raise ModelError(f"{path}: no such file")
        if not beside.is_file():
            raise UsageError(f"{beside}: no such file; it has to say what the outputs of {path.name} mean")
        config = read_config(beside, OnnxFile).onnx
        classes = _counted(config, class_names, beside)
        whole = Whole.read(path)
        tensors = _tensors_of_roles(whole, config, beside)
        graph = whole.cut(tensors)
        given = PictureInput.of(graph, path)
        facts = {"kind": config.kind, "input": described(graph.inputs[0])}
        width, height = _size(given, config, beside)
        given.fix(graph, path, width=width, height=height)
        ports = dict(zip(tensors, graph.outputs, strict=True))
        facts |= {f"output {role}": described(port) for role, port in ports.items()}
        names = {role: port.any_name for role, port in ports.items()}
        opened = cls(path, config, classes, width, height, names, facts)
        opened.check({role: shape_of(port) for role, port in ports.items()})
        return opened, given.prepared(graph, config.picture)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def weights(self) -> Path:
        """The file that decides, beside the configuration, what is found."""
        return self.path

    @property
    def class_names(self) -> tuple[str, ...]:
        """The background and the classes that count."""
        return ("background", *filter(None, self.classes))

    @property
    def reading(self) -> Reading:
        """What the outputs are read by."""
        counts = np.array([bool(name) for name in self.classes])
        return Reading(self.config, self.width, self.height, (np.cumsum(counts) * counts).astype(np.int32))

    def check(self, shapes: Mapping[str, Shape]) -> None:
        """Raise ModelError for the first of the outputs, by role, whose shape does not fit the kind."""
        known = {"K": len(self.classes)}
        for role, alternatives in KINDS[self.config.kind].shapes.items():
            if not any(fits(shapes[role], dimensions, known) for dimensions in alternatives):
                expected = " or ".join(expected_in_words(dimensions, known) for dimensions in alternatives)
                raise self.wrong(role, f"expected {expected}, got {in_words(shapes[role])}")
        if known.get("M", 0) > LARGEST_CELLS:
            raise self.wrong(
                "masks",
                f"expected at most {LARGEST_CELLS} cells a side of a box, got {known['M']}: these are of the whole "
                f"picture; name the tensor before they are pasted in {self.name}.yaml, onnx.outputs.masks",
            )

    def wrong(self, role: str, what: str) -> ModelError:
        """The error for an output that is not what its kind has."""
        return ModelError(
            f"{self.path}: output {self.outputs[role]!r} as {role} of the kind {self.config.kind}: {what}"
        )


def _counted(config: OnnxConfig, class_names: Sequence[str] | None, beside: Path) -> tuple[str, ...]:
    """The classes as the file counts them, from 0; "" for a number that is none."""
    names = class_names or config.class_names
    if names is None:
        raise UsageError(f"{beside}: the setting 'onnx.class_names' is missing (or --class-names)")
    if names == "coco":
        names = zoo.COCO_CLASSES
    elif names == "coco91":
        coco = iter(zoo.COCO_CLASSES)
        names = ["" if number in _COCO_GAPS else next(coco) for number in range(91)]
    return ("",) * config.first_class + tuple(name if is_class(name) else "" for name in names)


def _tensors_of_roles(whole: Whole, config: OnnxConfig, beside: Path) -> dict[str, Any]:
    """Role -> its tensor in the graph: the one that the YAML file names, else the output that is called as the role.

    Else it is the only other output with as many dimensions as the role has. Raises UsageError for a role that is
    left without.
    """
    shapes, outputs, tensors = KINDS[config.kind].shapes, whole.outputs, whole.tensors
    names = {role: config.outputs.get(role, role) for role in shapes}
    chosen: dict[str, Any] = {}
    for role, name in names.items():
        if role not in config.outputs and role not in outputs:
            ranks = {len(dimensions) for dimensions in shapes[role]}
            free = [each for each in outputs if each not in names.values()]
            fitting = [each for each in free if len(shape_of(outputs[each]) or ()) in ranks]
            if len(fitting) != 1:
                listed = ", ".join(f"{each} {in_words(shape_of(port))}" for each, port in outputs.items())
                raise UsageError(
                    f"{beside}: the setting 'onnx.outputs.{role}' is missing; the outputs of {whole.path.name} are "
                    f"{listed}"
                )
            name = fitting[0]
        if name not in tensors:
            raise UsageError(
                f"{beside}: onnx.outputs.{role}: {whole.path.name} has no tensor {name!r}{nearest(name, outputs)}"
            )
        chosen[role] = tensors[name]
    return chosen


def _size(given: PictureInput, config: OnnxConfig, beside: Path) -> tuple[int, int]:
    """(width, height) of the input in pixels, as the file or the YAML file says. Raises UsageError."""
    width, height = config.picture.size or (given.width, given.height)
    if width is None or height is None:
        raise UsageError(f"{beside}: the setting 'onnx.picture.size' is missing: the file takes pictures of any size")
    for own, asked in ((given.width, width), (given.height, height)):
        if own is not None and own != asked:
            raise UsageError(
                f"{beside}: onnx.picture.size: expected [{given.width}, {given.height}] as the file says, got "
                f"[{width}, {height}]"
            )
    return width, height
