"""Fit a picture into the model's input, and bring boxes back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

PADDING = 127
"""Grey level of the bars: the lite family's zero."""


@dataclass(frozen=True)
class Letterbox:
    """A picture of width × height pixels, scaled into an input of input_width × input_height.

    inner_width, inner_height: the scaled picture's size in pixels of the input · left, top: where it begins there, by
    itself in the top left corner.
    """

    width: int
    height: int
    input_width: int
    input_height: int
    inner_width: int
    inner_height: int
    left: int = 0
    top: int = 0

    @classmethod
    def fit(cls, width: int, height: int, input_width: int, input_height: int, pixel_aspect: float = 1.0) -> Letterbox:
        """The largest scaling that keeps the picture's shape as it is shown and fits the input."""
        shown = width * pixel_aspect
        scale = min(input_width / shown, input_height / height)
        inner_width = min(input_width, max(1, round(shown * scale)))
        inner_height = min(input_height, max(1, round(height * scale)))
        return cls(width, height, input_width, input_height, inner_width, inner_height)

    @classmethod
    def stretch(cls, width: int, height: int, input_width: int, input_height: int) -> Letterbox:
        """The scaling that fills the input, whatever becomes of the picture's shape."""
        return cls(width, height, input_width, input_height, input_width, input_height)

    def centred(self) -> Letterbox:
        """The same scaling in the middle of the input; of an odd bar the larger part is on the right or below."""
        left, top = (self.input_width - self.inner_width) // 2, (self.input_height - self.inner_height) // 2
        return replace(self, left=left, top=top)

    def place(self, rgb: np.ndarray, out: np.ndarray, *, padding: int | tuple[int, ...] = PADDING) -> None:
        """Write the scaled picture (inner_height, inner_width, 3) uint8 into `out` (input_height, input_width, 3)."""
        right, bottom = self.left + self.inner_width, self.top + self.inner_height
        out[self.top : bottom, self.left : right] = rgb
        out[: self.top] = padding
        out[bottom:] = padding
        out[self.top : bottom, : self.left] = padding
        out[self.top : bottom, right:] = padding

    def to_picture(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) xyxy from pixels of the input to pixels of the picture, clipped to it."""
        limit = np.array([self.width, self.height] * 2, np.float32)
        clipped: np.ndarray = np.clip(self.beyond_picture(boxes), 0, limit)
        return clipped

    def beyond_picture(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) xyxy from pixels of the input to pixels of the picture, also where they hang over its edge."""
        scale = np.array([self.width / self.inner_width, self.height / self.inner_height] * 2, np.float32)
        scaled: np.ndarray = (boxes - self._corner) * scale
        return scaled

    def to_input(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) xyxy from pixels of the picture to pixels of the input."""
        scale = np.array([self.inner_width / self.width, self.inner_height / self.height] * 2, np.float32)
        scaled: np.ndarray = boxes * scale + self._corner
        return scaled

    @property
    def inner(self) -> tuple[int, int, int, int]:
        """The box xyxy that the picture fills, in pixels of the input."""
        return self.left, self.top, self.left + self.inner_width, self.top + self.inner_height

    @property
    def _corner(self) -> np.ndarray:
        return np.array([self.left, self.top] * 2, np.float32)


def normalised(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Boxes (…, 4) xyxy in pixels as matterport/Mask_RCNN counts them: 0 is the first pixel, 1 the last one."""
    scale = np.array([width - 1, height - 1] * 2, boxes.dtype)
    shares: np.ndarray = (boxes - np.array([0, 0, 1, 1], boxes.dtype)) / scale
    return shares


def in_pixels(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Boxes (…, 4) xyxy from `normalised` back to pixels, not rounded."""
    scale = np.array([width - 1, height - 1] * 2, boxes.dtype)
    pixels: np.ndarray = boxes * scale + np.array([0, 0, 1, 1], boxes.dtype)
    return pixels


def nearest_shape(shapes: Sequence[tuple[int, int]], width: float, height: float) -> tuple[int, int]:
    """The one of `shapes` [(width, height)] whose proportions are nearest to those of a width × height picture."""
    return min(shapes, key=lambda shape: abs(math.log(shape[0] / shape[1] * height / width)))
