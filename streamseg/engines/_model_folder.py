"""What every engine that runs a model needs: its folder read, frames fitted to its input, its words made Instances."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from streamseg import zoo
from streamseg.config import ModelConfig, read_yaml
from streamseg.letterbox import Letterbox, nearest_shape
from streamseg.types import Frame, Instances, ModelError, UsageError


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk: its folder, its configuration, its weights file."""

    path: Path
    config: ModelConfig

    @classmethod
    def open(cls, model: str | Path) -> ModelFolder:
        """Read a model by name or folder. Raises UsageError for an unknown name, ModelError for a broken folder."""
        path = zoo.resolve(model)
        try:
            card = read_yaml(path / zoo.CONFIG)
            config = ModelConfig.model_validate(card["model"])
        except UsageError as error:
            raise ModelError(str(error)) from error
        except KeyError as error:
            raise ModelError(f"{path / zoo.CONFIG}: the section `model` is missing") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, ("model", *first["loc"])))
            raise ModelError(f"{path / zoo.CONFIG}: {place}: {first['msg']}, got {first['input']!r}") from error
        return cls(path, config)

    @property
    def weights(self) -> Path:
        return self.path / zoo.WEIGHTS

    def check_weights(self) -> None:
        """Raise ModelError when the weights file is none at all; whether its tensors fit, only the network can tell."""
        import h5py  # a tenth of a second that a run on an exported model does not need

        try:
            h5py.File(self.weights, "r").close()
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

    def found(self, detections: np.ndarray, letterbox: Letterbox) -> np.ndarray:
        """The rows of detections (D, 6) that are some, with more than a sliver inside the picture."""
        inner = np.array([letterbox.inner_width, letterbox.inner_height] * 2, np.float32)
        boxes = np.clip(detections[:, :4], 0, inner)
        real = (detections[:, 4] >= self.config.detection_min_score) & (detections[:, 5] > 0)
        real &= (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= 0.5
        return detections[real]

    def instances(self, detections: np.ndarray, masks: np.ndarray, letterbox: Letterbox) -> Instances:
        """Detections (N, 6) in the input's pixels with their masks (N, M, M), in the picture's pixels.

        The part of a box that hangs over the picture's edge stays, so that the mask still spans it.
        """
        scale = np.array([letterbox.width / letterbox.inner_width, letterbox.height / letterbox.inner_height] * 2)
        return Instances(
            boxes=(detections[:, :4] * scale).astype(np.float32),
            masks=masks.astype(np.float32, copy=False),
            scores=detections[:, 4].astype(np.float32),
            class_ids=detections[:, 5].astype(np.int32),
            track_ids=np.full(len(detections), -1, np.int32),
            class_names=self.config.class_names,
        )


def at_least_one(name: str, value: int | None) -> int | None:
    """The value of an option that counts something; None stays None. Raises UsageError."""
    if value is not None and value < 1:
        raise UsageError(f"{name}: expected 1 or more, got {value}")
    return value
