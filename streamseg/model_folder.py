"""What every engine that runs a model needs: its folder read, frames fitted to its input, its words made Instances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from streamseg import zoo
from streamseg.config import ModelConfig, read_yaml
from streamseg.letterbox import Letterbox, in_pixels, nearest_shape, normalised
from streamseg.masks import certainty
from streamseg.types import Frame, Instances, ModelError, UsageError

InputSize = Literal["normal", "large"]
"""At which size a network sees pictures: at those of its configuration, or LARGER times as wide and as high."""

LARGER = 1.2


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk: its folder, or the one file of a foreign model, its configuration, its weights file."""

    path: Path
    config: ModelConfig
    weights: Path

    @classmethod
    def open(
        cls, model: str | Path, *, class_names: Sequence[str] | None = None, input: InputSize = "normal"
    ) -> ModelFolder:
        """Read a model by name, by folder or by the path of a weights file: of matterport/Mask_RCNN (`.h5`),
        torchvision or detectron2 (`.pth`, `.safetensors`, `.pkl`).

        class_names: what the classes of such a file are called, without the background. What cannot be read off the
        file, its input size above all, may stand beside it: `NAME.yaml` for `NAME.h5`, laid out like `configs/`, with
        the fields of `model` that differ from the original's.
        input: `large` for pictures of half as many pixels again.
        Raises UsageError for an unknown name or a wrong number of class names, ModelError for a broken model.
        """
        folder = cls._open(zoo.resolve(model), class_names)
        if input == "normal":
            return folder
        sizes = tuple((_larger(width), _larger(height)) for width, height in folder.config.input_sizes)
        return replace(folder, config=folder.config.model_copy(update={"input_sizes": sizes}))

    @classmethod
    def _open(cls, path: Path, class_names: Sequence[str] | None) -> ModelFolder:
        if path.is_dir():
            if class_names:
                raise UsageError(
                    f"--class-names: the model {path.name} has names of its own; they are for a weights file"
                )
            return cls(path, _config_in(path / zoo.CONFIG), path / zoo.WEIGHTS)
        if class_names and "background" in class_names:
            raise UsageError("--class-names: expected the classes without the background, got it among them")
        if doubled := [name for name, times in Counter(class_names or ()).items() if times > 1]:
            raise UsageError(f"--class-names: expected each name once, got {doubled[0]!r} several times")
        config_of = _reader_of(path)
        names = class_names or zoo.class_names_of(path)
        beside = path.with_suffix(".yaml")
        if not beside.is_file():
            with _place_named(path):
                return cls(path, config_of(path, class_names=names), path)

        def read_with(stated: dict[str, Any]) -> ModelConfig:
            own_names = _without_background(stated.pop("class_names"), beside) if "class_names" in stated else names
            return config_of(path, class_names=class_names or own_names, stated=stated)

        return cls(path, _config_in(beside, read_with), path)

    @property
    def name(self) -> str:
        return self.path.stem if self.path.is_file() else self.path.name

    @property
    def graphs(self) -> Path:
        """Where the graphs of its networks lie, if it has any."""
        return self.path / zoo.GRAPHS

    @property
    def int8(self) -> Path:
        """Where its networks in int8 lie, if it has any: in its folder, or beside its one file."""
        return self.path / zoo.INT8 if self.path.is_dir() else self.path.with_suffix(f".{zoo.INT8}")

    def check_weights(self) -> None:
        """Raise ModelError when the weights file is none at all; whether its tensors fit, only the network can tell."""
        if self.weights.suffix in zoo.TORCH_ENDINGS:
            return  # it was read for its configuration
        import h5py  # a tenth of a second that a run on an exported model does not need

        try:
            h5py.File(self.weights, "r", locking=False).close()
        except OSError as error:
            raise ModelError(f"{self.weights}: not a readable weights file ({error})") from error

    def input_size(self, frame: Frame) -> tuple[int, int]:
        """(width, height) of the input that loses least of the frame's resolution."""
        return nearest_shape(self.config.input_sizes, frame.width * frame.pixel_aspect, frame.height)

    def fit(self, frame: Frame, out: np.ndarray) -> Letterbox:
        """Write the frame, letterboxed, into `out` (height, width, 3) uint8 and say where it lies."""
        height, width = out.shape[:2]
        letterbox = Letterbox.fit(frame.width, frame.height, width, height, frame.pixel_aspect)
        letterbox.place(frame.rgb(letterbox.inner_width, letterbox.inner_height), out, padding=self.config.padding)
        return letterbox

    def picture_in(self, letterbox: Letterbox) -> tuple[int, int]:
        """(width, height) of what the model cuts boxes to: its input, or the picture in its top left corner."""
        if self.config.clip_to == "picture":
            return letterbox.inner_width, letterbox.inner_height
        return letterbox.input_width, letterbox.input_height

    def found(self, detections: np.ndarray, letterbox: Letterbox) -> np.ndarray:
        """The rows of a network's detections (D, 6) that are some, in pixels of the input.

        Rows with no more than a sliver inside the picture are left out.
        """
        detections = detections.copy()
        if self.config.family == "matterport":
            size = (letterbox.input_width, letterbox.input_height)
            detections[:, :4] = in_pixels(detections[:, :4], *size)
        inner = np.array([letterbox.inner_width, letterbox.inner_height] * 2, np.float32)
        boxes = np.clip(detections[:, :4], 0, inner)
        real = (detections[:, 4] >= self.config.detection_min_score) & (detections[:, 5] > 0)
        real &= (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= 0.5
        return detections[real]

    def network_boxes(self, boxes: np.ndarray, letterbox: Letterbox) -> np.ndarray:
        """Boxes (N, 4) in pixels of the input, as the network takes them."""
        if self.config.family == "matterport":
            return normalised(boxes, letterbox.input_width, letterbox.input_height)
        return boxes

    def instances(self, detections: np.ndarray, masks: np.ndarray, letterbox: Letterbox) -> Instances:
        """Detections (N, 6) in the input's pixels with their masks (N, M, M), in the picture's pixels.

        The part of a box that hangs over the picture's edge stays, so that the mask still spans it. Scores are those
        of the masks as well where the configuration says so; what then falls below its least is left out.
        """
        if self.config.mask_scoring > 0:
            detections, masks = self._scored(detections, masks)
        scale = np.array([letterbox.width / letterbox.inner_width, letterbox.height / letterbox.inner_height] * 2)
        return Instances(
            boxes=(detections[:, :4] * scale).astype(np.float32),
            masks=masks.astype(np.float32, copy=False),
            scores=detections[:, 4].astype(np.float32),
            class_ids=detections[:, 5].astype(np.int32),
            track_ids=np.full(len(detections), -1, np.int32),
            class_names=self.config.class_names,
        )

    def _scored(self, detections: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Detections (N, 6) and masks (N, M, M) by scores that the masks' certainty has its say in, best first."""
        detections = detections.copy()
        detections[:, 4] *= certainty(masks) ** np.float32(self.config.mask_scoring)
        order = np.argsort(-detections[:, 4], kind="stable")
        order = order[detections[order, 4] >= self.config.detection_min_score]
        return detections[order], masks[order]


def _larger(side: int) -> int:
    """LARGER times as many pixels, in whole cells of the coarsest level."""
    return 32 * round(LARGER * side / 32)


def _reader_of(path: Path) -> Callable[..., ModelConfig]:
    """What reads a configuration off a weights file."""
    if path.suffix in zoo.TORCH_ENDINGS:
        from streamseg.model import torchvision_weights

        return torchvision_weights.config_of
    from streamseg.model import matterport_h5

    return matterport_h5.config_of


def _config_in(file: Path, read: Callable[[dict[str, Any]], ModelConfig] = ModelConfig.model_validate) -> ModelConfig:
    """What `read` makes of the section `model` of a YAML file. Raises ModelError."""
    try:
        section = read_yaml(file)["model"]
    except UsageError as error:
        raise ModelError(str(error)) from error
    except KeyError as error:
        raise ModelError(f"{file}: the section `model` is missing") from error
    with _place_named(file, "model"):
        return read(section) if isinstance(section, dict) else ModelConfig.model_validate(section)


@contextmanager
def _place_named(file: Path, *above: str) -> Iterator[None]:
    """Make a ModelError of what pydantic refuses, with the place in the file; `above` stands before each."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (*above, *first["loc"])))
        got = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"  # no place: all that was given
        raise ModelError(f"{file}: {f'{place}: ' if place else ''}{first['msg']}{got}") from error


def _without_background(stated: Any, file: Path) -> Sequence[str]:
    """The names of the classes that the YAML file beside a weights file states. Raises ModelError."""
    texts = isinstance(stated, list) and all(isinstance(name, str) for name in stated)
    if not texts or len(stated) < 2 or stated[0] != "background" or "background" in stated[1:]:
        raise ModelError(f"{file}: model.class_names: expected [background, A, B …], got {stated!r}")
    names: Sequence[str] = stated[1:]
    return names


def grouped(frames: Sequence[Frame], size_of: Callable[[Frame], tuple[int, int]]) -> dict[tuple[int, int], list[int]]:
    """Which frames go to an input of which size, by their places."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for i, frame in enumerate(frames):
        by_size.setdefault(size_of(frame), []).append(i)
    return by_size


def at_least_one(name: str, value: int | None) -> int | None:
    """The value of an option that counts something; None stays None. Raises UsageError."""
    if value is not None and value < 1:
        raise UsageError(f"{name}: expected 1 or more, got {value}")
    return value
