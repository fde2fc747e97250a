"""Every knob of a foreign ONNX model: what its outputs mean and how a picture becomes its input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from streamseg.config.knobs import Knobs, Positive, Share
from streamseg.words import nearest

Kind = Literal["detr", "yolo", "yolo_end2end", "mask_rcnn", "full"]

ROLES: Mapping[str, tuple[str, ...]] = {
    "detr": ("dets", "labels", "masks"),
    "yolo": ("rows", "prototypes"),
    "yolo_end2end": ("rows", "prototypes"),
    "mask_rcnn": ("boxes", "labels", "scores", "masks"),
    "full": ("dets", "labels", "masks"),
}
"""Kind -> what is taken from its outputs."""

_UNIT = {"mean": (0, 0, 0), "std": (255, 255, 255)}
"""Channels from 0 to 1."""

PICTURES: Mapping[str, Mapping[str, Any]] = {
    "detr": {"fit": "stretch", "mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)},
    "yolo": {"fit": "centre", "padding": 114, **_UNIT},
    "yolo_end2end": {"fit": "centre", "padding": 114, **_UNIT},
    "mask_rcnn": {"fit": "corner", "padding": 0, **_UNIT},
    "full": {
        "fit": "corner",
        "padding": 114,
        "channels": "bgr",
        "mean": (103.53, 116.28, 123.675),
        "std": (57.375, 57.12, 58.395),
    },
}
"""Kind -> how those who publish such files prepare a picture: RF-DETR, YOLO, torchvision, MMDetection's RTMDet."""

_Spread = Annotated[float, Field(gt=0)]


class PictureConfig(Knobs):
    """How a picture becomes the input of a file. What is not set is as usual for the file's kind."""

    size: tuple[Positive, Positive] | None = Field(
        None, description="(width, height) of the input in pixels; null: as the file says"
    )
    fit: Literal["corner", "centre", "stretch"] = Field(
        "corner",
        description="the picture keeps its shape and stands in the top left `corner` or the `centre` of the input, "
        "with bars beside it, or is stretched to fill it",
    )
    channels: Literal["rgb", "bgr"] = Field("rgb", description="the order in which the file takes the channels")
    mean: tuple[float, float, float] = Field(
        (0, 0, 0), description="taken off the channels, in grey levels, in the file's order"
    )
    std: tuple[_Spread, _Spread, _Spread] = Field(
        (255, 255, 255), description="by which the channels are divided afterwards, in grey levels"
    )
    padding: Annotated[int, Field(ge=0, le=255)] = Field(0, description="grey level of the bars")


class OnnxConfig(Knobs):
    """What cannot be read off an ONNX file: the section `onnx` of the YAML file beside it."""

    kind: Kind = Field(
        description="what the outputs mean: detr (queries, masks of the whole input), yolo (rows and prototypes, "
        "overlaps to be judged), yolo_end2end (the same, judged), mask_rcnn (a small mask a box), full (judged, masks "
        "of the whole input)"
    )
    class_names: tuple[str, ...] | Literal["coco", "coco91"] | None = Field(
        None,
        description='what the file counts as classes, in its order; "", N/A and background are left out; coco: the 80 '
        "of COCO; coco91: COCO's in the numbering from 0 to 90 with gaps",
    )
    first_class: Annotated[int, Field(ge=0)] = Field(
        0, description="the number that the file gives the first of class_names"
    )
    outputs: dict[str, str] = Field(
        {},
        description="the file's own names of the tensors, such as {masks: output1}; one within the graph is taken, "
        "and what comes after it left out",
    )
    picture: PictureConfig = Field(PictureConfig(), description="how a picture becomes the input")
    mask_size: Positive = Field(
        56, description="cells a side of a mask that is looked up in planes; mask_rcnn has its own"
    )
    min_score: Share = Field(0.5, description="score of a firm detection")
    nms_threshold: Share = Field(
        0.5, description="a detection goes when its IoU with a better one of its class is greater (yolo)"
    )
    max_detections: Positive = Field(100, description="most detections a picture")

    @model_validator(mode="before")
    @classmethod
    def _usual_picture(cls, value: Any) -> Any:
        """The usual picture of the kind where nothing else is said; what is wrong stays for the fields to refuse."""
        if not isinstance(value, dict) or value.get("kind") not in tuple(PICTURES):
            return value
        picture = value.get("picture", {})
        return {**value, "picture": {**PICTURES[value["kind"]], **picture}} if isinstance(picture, dict) else value

    @model_validator(mode="after")
    def _fits(self) -> OnnxConfig:
        for role in self.outputs:
            if role not in ROLES[self.kind]:
                raise ValueError(f"outputs: the kind {self.kind} takes no {role!r}{nearest(role, ROLES[self.kind])}")
        if self.class_names is not None and not isinstance(self.class_names, str):
            named = [name for name in self.class_names if is_class(name)]
            twice = next((name for name in named if named.count(name) > 1), None)
            if not named or twice:
                given = f"{twice!r} twice" if twice else "none"
                raise ValueError(f"class_names: expected at least one name, and each once, got {given}")
        return self


class OnnxFile(Knobs):
    """The YAML file beside an ONNX file."""

    onnx: OnnxConfig = Field(description="what cannot be read off the file")


def is_class(name: str) -> bool:
    """Whether an entry of `class_names` is a class, and not a gap in the numbering or the background."""
    return name not in ("", "N/A", "background", "__background__")
