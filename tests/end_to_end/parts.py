"""Parts for the end-to-end tests: an engine that costs nothing, and real parts that break down where they are told to.

They are named in `--engine`, `--effect` and YAML files as `tests.end_to_end.parts:Walker`.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from streamseg.counters.per_class import PerClass
from streamseg.effects.splash import Splash
from streamseg.engines.openvino import Openvino
from streamseg.sinks.jsonl import Jsonl
from streamseg.sinks.video_file import VideoFile as VideoSink
from streamseg.sources.video_file import VideoFile as VideoSource
from streamseg.trackers.mask_iou import MaskIou
from streamseg.types import Frame, InputError, Instances, OutputError, Result
from tests.fakes import Fault

MODULE = "tests.end_to_end.parts"
CLASS_NAMES = ("background", "person", "dog")

ERRORS: dict[str, BaseException] = {
    "broken": RuntimeError("broken on purpose"),
    "system": OSError(5, "Input/output error"),
    "memory": MemoryError("no memory on purpose"),
    "input": InputError("clip: unreadable on purpose"),
    "output": OutputError("clip: unwritable on purpose"),
}
"""Errors by the name that a YAML file can spell."""

SAID = {
    "broken": "RuntimeError: broken on purpose",
    "system": "OSError: [Errno 5] Input/output error",
    "memory": "MemoryError: no memory on purpose",
    "input": "clip: unreadable on purpose",
    "output": "clip: unwritable on purpose",
}
"""How the command line words each."""


def ellipse(side: int = 28) -> np.ndarray:
    """A soft round mask (side, side): 1 inside, 0 in the corners, a slope of some cells between."""
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side * 2 - 1
    return np.clip((1 - np.hypot(x, y)) * 4, 0, 1).astype(np.float32)


class Walker:
    """A person a quarter as wide and half as high as the picture, who walks to the right, and a dog that sits."""

    class_names = CLASS_NAMES
    min_score = 0.5

    def __init__(self, *, batch_size: int = 1, seconds: float = 0.0) -> None:
        self.batch_size, self.seconds = batch_size, seconds

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return frame.width, frame.height

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        if self.seconds:
            time.sleep(self.seconds)
        return [self._found(frame) for frame in frames]

    def _found(self, frame: Frame) -> Instances:
        w, h = frame.width, frame.height
        left = frame.index % 100 * 0.0075
        return Instances(
            boxes=np.array([[left, 0.2, left + 0.25, 0.7], [0.7, 0.75, 0.95, 1.0]], np.float32) * [w, h, w, h],
            masks=np.stack([ellipse(), ellipse()]),
            scores=np.array([0.95, 0.9], np.float32),
            class_ids=np.array([1, 2], np.int32),
            track_ids=np.full(2, -1, np.int32),
            class_names=CLASS_NAMES,
        )


class Tally:
    """An effect that draws nothing and appends a byte to the file `path` for every picture that comes by."""

    def __init__(self, *, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def draw(self, canvas: Any, result: Result) -> None:
        os.write(self._file, b".")


# The real parts, each with a fault before its `at`-th piece of work.


class BrokenSource(VideoSource):
    def __init__(self, path: Path, *, name: str | None = None, at: int, error: str) -> None:
        super().__init__(path, name=name)
        self.fault = Fault(at, error=ERRORS[error])

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            self.fault.strike()
            yield frame


class BrokenWalker(Walker):
    def __init__(self, *, at: int, error: str) -> None:
        super().__init__()
        self.fault = Fault(at, error=ERRORS[error])

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        self.fault.strike()
        return super().predict(frames)


@functools.cache
def people() -> Openvino:
    """The embedded model in its real engine, loaded once."""
    return Openvino(model="people", batch_size=1)


class BrokenOpenvino:
    """The embedded model; every run of this process shares it."""

    batch_size = 1

    def __init__(self, *, at: int, error: str) -> None:
        self.fault = Fault(at, error=ERRORS[error])
        self.class_names, self.min_score = people().class_names, people().min_score

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return people().input_size(frame)

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        self.fault.strike()
        return people().predict(frames)


class BrokenTracker(MaskIou):
    def __init__(self, *, at: int, error: str) -> None:
        super().__init__()
        self.fault = Fault(at, error=ERRORS[error])

    def update(self, frame: Frame, instances: Instances | None) -> Instances:
        self.fault.strike()
        return super().update(frame, instances)


class BrokenCounter(PerClass):
    def __init__(self, *, at: int, error: str) -> None:
        super().__init__()
        self.fault = Fault(at, error=ERRORS[error])

    def update(self, result: Result) -> Any:
        self.fault.strike()
        return super().update(result)


class BrokenEffect(Splash):
    def __init__(self, *, at: int, error: str) -> None:
        super().__init__()
        self.fault = Fault(at, error=ERRORS[error])

    def draw(self, canvas: Any, result: Result) -> None:
        self.fault.strike()
        super().draw(canvas, result)


class BrokenVideoSink(VideoSink):
    def __init__(self, path: Path, *, at: int, error: str) -> None:
        super().__init__(path)
        self.fault = Fault(at, error=ERRORS[error])

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        self.fault.strike()
        super().write(picture, result)


class BrokenJsonl(Jsonl):
    def __init__(self, path: Path, *, at: int, error: str) -> None:
        super().__init__(path)
        self.fault = Fault(at, error=ERRORS[error])

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        self.fault.strike()
        super().write(picture, result)
