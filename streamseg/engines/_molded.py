"""Pictures shown to the matterport family as the original molds them, so that figures of its weights compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import av
import numpy as np

from streamseg.config import ModelConfig
from streamseg.masks import moved_into
from streamseg.molding import Mold, normalise, unmold
from streamseg.types import Engine, Frame, Instances


@dataclass
class Molded:
    """An engine that shows each frame to another one in the middle of a black square, scaled as the original scales.

    Boxes come back in whole pixels, rounded as the original does. A stream's frames fill the input better and are
    scaled by the decoder, which is faster and finds a little else.
    """

    engine: Engine
    config: ModelConfig
    class_names: tuple[str, ...] = field(init=False)
    min_score: float = field(init=False)
    batch_size: int = field(init=False)

    def __post_init__(self) -> None:
        self.class_names, self.min_score = self.engine.class_names, self.engine.min_score
        self.batch_size = self.engine.batch_size

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return self._side, self._side

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        """The objects of each frame, in its pixels."""
        molds = [
            Mold.fit(frame.height, frame.width, mode="square", min_side=self.config.min_side, max_side=self._side)
            for frame in frames
        ]
        shown = [_molded(frame, mold) for frame, mold in zip(frames, molds, strict=True)]
        return [
            self._back(instances, mold, frame)
            for instances, mold, frame in zip(self.engine.predict(shown), molds, frames, strict=True)
        ]

    @property
    def _side(self) -> int:
        """Of the model's largest square input."""
        return max(width for width, height in self.config.input_sizes if width == height)

    def _back(self, found: Instances, mold: Mold, frame: Frame) -> Instances:
        input_shape = self._side, self._side
        top, left, bottom, right = normalise(np.array(mold.window), input_shape)
        boxes = np.clip(normalise(found.boxes[:, [1, 0, 3, 2]], input_shape), [top, left] * 2, [bottom, right] * 2)
        rows: Any = np.column_stack([boxes, found.class_ids, found.scores])
        unmolded, _, _, kept = unmold(
            rows, shape=(frame.height, frame.width), input_shape=input_shape, window=mold.window
        )
        return replace(_cut(found, mold)[kept], boxes=unmolded[:, [1, 0, 3, 2]].astype(np.float32))


def _cut(found: Instances, mold: Mold) -> Instances:
    """The finds with boxes, in pixels of the square, and masks cut to the picture in it."""
    window = np.array(mold.window, np.float32)[[1, 0, 3, 2]]
    boxes = np.clip(found.boxes, np.tile(window[:2], 2), np.tile(window[2:], 2))
    over = (boxes != found.boxes).any(axis=1)
    masks = found.masks.copy()
    masks[over] = moved_into(masks[over], found.boxes[over], boxes[over])
    return replace(found, boxes=boxes, masks=masks)


def can_mold(config: ModelConfig) -> bool:
    """Whether a model takes pictures as the original does: of its family, with a square input."""
    return config.family == "matterport" and any(width == height for width, height in config.input_sizes)


def _molded(frame: Frame, mold: Mold) -> Frame:
    pixels = mold.picture(frame.rgb(frame.width, frame.height))
    return replace(frame, picture=av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"))
