"""A camera and a slow engine, as somebody else's package would bring them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Self

import numpy as np

from streamseg.types import Frame, Instances, StreamInfo
from tests.clips import numbered_picture

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
