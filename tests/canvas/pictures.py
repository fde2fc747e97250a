"""Small pictures and people to draw on, and what is then in their memory, read without the canvas's own code."""

from __future__ import annotations

import av
import numpy as np

from streamseg.types import Instances

FORMATS = [
    "yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuva420p", "nv12", "nv21", "nv16",
    "yuyv422", "uyvy422", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv420p16le", "p010le", "y210le", "gray",
    "gray10le", "ya8", "rgb24", "bgr24", "rgba", "argb", "0rgb", "gbrp", "gbrp10le", "rgb48le",
]  # fmt: skip


def picture(pixel_format: str, width: int = 32, height: int = 24, *, seed: int = 0) -> av.VideoFrame:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    made = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
    made.pts = 5
    return made


def one_colour(rgb: tuple[int, int, int], pixel_format: str, *, matrix: int, full: bool) -> av.VideoFrame:
    pixels = np.full((8, 8, 3), rgb, np.uint8)
    made = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format=pixel_format, dst_colorspace=matrix, src_color_range=2, dst_color_range=2 if full else 1
    )
    made.colorspace, made.color_range = matrix, 2 if full else 1
    return made


def memory(frame: av.VideoFrame) -> list[bytes]:
    return [bytes(plane) for plane in frame.planes]


def samples(frame: av.VideoFrame) -> list[np.ndarray]:
    """The components as they are, read without the canvas's own code; for planar formats."""
    deep = frame.format.components[0].bits > 8
    dtype = np.uint16 if deep else np.uint8
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        planes.append(rows[:, : plane.width].copy())
    return planes


def people(*boxes: tuple[float, float, float, float], value: float = 1.0) -> Instances:
    return Instances(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        masks=np.full((len(boxes), 28, 28), value, np.float32),
        scores=np.full(len(boxes), 0.9, np.float32),
        class_ids=np.ones(len(boxes), np.int32),
        track_ids=np.arange(len(boxes), dtype=np.int32),
        class_names=("background", "person"),
    )
