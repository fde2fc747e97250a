"""Pictures and objects for the tests of the effects, small enough to be checked in the head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import av
import cv2
import numpy as np

from streamseg.canvas import Canvas
from streamseg.types import Effect, Frame, Instances, Result

NAMES = ("background", "person", "dog")
Box = tuple[float, float, float, float]


def picture(pixel_format: str = "yuv420p", width: int = 64, height: int = 48, *, seed: int = 0) -> av.VideoFrame:
    """Random colours, so that nothing is grey or even by chance."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    made = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
    made.pts = 7
    return made


def even(rgb: tuple[int, int, int], *, width: int, height: int, pixel_format: str = "rgb24") -> av.VideoFrame:
    pixels = np.full((height, width, 3), rgb, np.uint8)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)


def objects(
    *boxes: Box, classes: tuple[int, ...] = (), tracks: tuple[int, ...] = (), masks: np.ndarray | None = None
) -> Instances:
    """One object a box, filling it; people with tracks 1, 2, … unless it is said otherwise."""
    num = len(boxes)
    return Instances(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        masks=np.ones((num, 28, 28), np.float32) if masks is None else masks,
        scores=np.full(num, 0.93, np.float32),
        class_ids=np.array(classes or [1] * num, np.int32),
        track_ids=np.array(tracks or range(1, num + 1), np.int32),
        class_names=NAMES,
    )


def soft_disc(size: int = 28) -> np.ndarray:
    """A round mask with a soft edge, (size, size) float32."""
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    return np.clip((size * 0.4 - np.hypot(x, y)) / 4 + 0.5, 0, 1).astype(np.float32)


def draw(
    effect: Effect | list[Effect], on: av.VideoFrame, instances: Instances, counts: Mapping[str, Any] | None = None
) -> av.VideoFrame:
    canvas = Canvas(on)
    result = Result(Frame(on, 0, 0.0, 0.0, "test"), instances, counts or {})
    for each in effect if isinstance(effect, list) else [effect]:
        each.draw(canvas, result)
    return canvas.picture


def planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """The planes of a planar picture, without padding."""
    dtype = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    return [np.frombuffer(p, dtype).reshape(p.height, -1)[:, : p.width].copy() for p in frame.planes]


def rgb(frame: av.VideoFrame) -> np.ndarray:
    return Canvas(frame).rgb()


def enlarged(mask: np.ndarray, box: Box, *, width: int, height: int) -> np.ndarray:
    """Where a mask is at least a half, by OpenCV's plain resize into a box of whole pixels: (height, width) bool."""
    x1, y1, x2, y2 = (int(v) for v in box)
    full = np.zeros((height, width), bool)
    full[y1:y2, x1:x2] = cv2.resize(mask, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR) >= 0.5
    return full
