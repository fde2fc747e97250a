"""Cameras and slow engines, as somebody else's package would bring them, and scenes whose truth is known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from typing import Self

import av
import numpy as np

from streamseg.types import Frame, Instances, Result, SourceState, StreamInfo
from tests.clips import numbered_picture
from tests.fakes import blank

CLASS_NAMES = ("background", "person")


class Camera:
    """30 pictures a second of a still scene in real time, `seconds` long."""

    live = True
    argument = "name"

    def __init__(self, *, seconds: float = 3.0, name: str = "camera") -> None:
        self.num_frames = round(seconds * 30)
        self.warnings: Mapping[str, int] = {}
        self.info = StreamInfo(name, 64, 48, Fraction(1, 30), Fraction(30), live=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __iter__(self) -> Iterator[Frame]:
        began = time.monotonic()
        for index in range(self.num_frames):
            time.sleep(max(0.0, began + index / 30 - time.monotonic()))
            picture = numbered_picture(0, width=64, height=48)
            picture.pts, picture.time_base = index, Fraction(1, 30)
            yield Frame(picture, index, index / 30, time.monotonic(), self.info.name)


class SlowEngine:
    """Takes half a second to find one person, who walks a pixel in three pictures."""

    class_names = CLASS_NAMES
    min_score = 0.5
    batch_size = 1

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return frame.width, frame.height

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        time.sleep(0.5)
        left = frames[0].index / 3
        return [
            Instances(
                boxes=np.array([[left, 10, left + 12, 40]], np.float32),
                masks=np.ones((1, 28, 28), np.float32),
                scores=np.array([0.9], np.float32),
                class_ids=np.array([1], np.int32),
                track_ids=np.array([-1], np.int32),
                class_names=CLASS_NAMES,
            )
        ]


class Scene:
    """Persons who walk in circles side by side, each at any time at a known place.

    speed: pixels a second at which they walk
    """

    def __init__(self, *, width: int = 640, height: int = 360, num_objects: int = 3, speed: float = 60.0) -> None:
        self.width, self.height, self.num_objects, self.speed = width, height, num_objects, speed

    def boxes(self, seconds: float) -> np.ndarray:
        """Where they are: (N, 4) float32 xyxy in pixels."""
        lane = self.width / self.num_objects
        box_width, box_height = lane / 3, self.height / 3
        radius = lane / 4
        turn = seconds * self.speed / radius + np.arange(self.num_objects)
        x = (np.arange(self.num_objects) + 0.5) * lane + radius * np.cos(turn)
        y = self.height / 2 + radius * np.sin(turn)
        corners = (x - box_width / 2, y - box_height / 2, x + box_width / 2, y + box_height / 2)
        return np.stack(corners, axis=1).astype(np.float32)


class SceneCamera:
    """A camera on a scene, `rate` pictures a second in real time, until `seconds` are over or it is interrupted.

    late: seconds by which the machine gave a picture out too late, at the worst; a test allows for it
    """

    live = True

    def __init__(self, scene: Scene, *, name: str = "camera", rate: float = 25.0, seconds: float | None = None) -> None:
        self.scene, self.rate = scene, rate
        self.num_frames = None if seconds is None else round(seconds * rate)
        self.info = StreamInfo(
            name, scene.width, scene.height, Fraction(1, 90000), Fraction(rate).limit_denominator(1000), live=True
        )
        self.warnings: Mapping[str, int] = {}
        self.state = SourceState("connecting")
        self.on_state: Callable[[SourceState], None] | None = None
        self.late = 0.0
        self._interrupted = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def interrupt(self) -> None:
        self._interrupted.set()

    def __iter__(self) -> Iterator[Frame]:
        self.state = SourceState("live")
        began = time.monotonic()
        for index in count() if self.num_frames is None else range(self.num_frames):
            due = began + index / self.rate
            if self._interrupted.wait(max(0.0, due - time.monotonic())):
                return
            now = time.monotonic()
            self.late = max(self.late, now - due)
            picture = blank(self.scene.width, self.scene.height)
            picture.pts, picture.time_base = round(index / self.rate * 90000), self.info.time_base
            yield Frame(picture, index, index / self.rate, now, self.info.name)


class TruthEngine:
    """Takes its time, and then says where the persons of each stream's scene truly were.

    `looks` are the frames it was given: when the call ended, and the stream · busy: seconds spent in calls
    """

    class_names = CLASS_NAMES
    min_score = 0.5

    def __init__(self, scenes: Mapping[str, Scene], *, seconds: float, batch_size: int = 1) -> None:
        self.scenes, self.seconds, self.batch_size = scenes, seconds, batch_size
        self.looks: list[tuple[float, str]] = []
        self.busy = 0.0

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return frame.width, frame.height

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        began = time.monotonic()
        time.sleep(self.seconds)
        ended = time.monotonic()
        self.busy += ended - began
        self.looks += [(ended, frame.stream) for frame in frames]
        return [_found(self.scenes[frame.stream].boxes(frame.time)) for frame in frames]


def _found(boxes: np.ndarray) -> Instances:
    num_objects = len(boxes)
    return Instances(
        boxes=boxes,
        masks=np.ones((num_objects, 28, 28), np.float32),
        scores=np.full(num_objects, 0.9, np.float32),
        class_ids=np.ones(num_objects, np.int32),
        track_ids=np.full(num_objects, -1, np.int32),
        class_names=CLASS_NAMES,
    )


@dataclass(frozen=True)
class Shown:
    """A frame that came out: its index, seconds of the stream, how old it was, and its objects."""

    index: int
    time: float
    age: float
    boxes: np.ndarray
    track_ids: np.ndarray


class Notebook:
    """A sink that notes what is shown and when."""

    path = None
    notes: Sequence[str] = ()

    def __init__(self) -> None:
        self.shown: list[Shown] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def start(self, info: StreamInfo) -> None:
        pass

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        frame, found = result.frame, result.instances
        age = time.monotonic() - frame.captured_at
        self.shown.append(Shown(frame.index, frame.time, age, found.boxes, found.track_ids))
