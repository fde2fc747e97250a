"""Turn a picture the way its file says it is to be shown, plane by plane, without touching a sample's value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np

from streamseg.side_data import side_data_of

# Packed formats that turn as they are: name -> samples a pixel. Others are unpacked into planes first.
_PACKED = {name: 3 for name in ("rgb24", "bgr24", "rgb48le", "bgr48le")} | {
    name: 4 for name in ("rgba", "bgra", "argb", "abgr", "rgb0", "bgr0", "0rgb", "0bgr", "rgba64le", "bgra64le")
}
_UNPACKED = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "p010le": "yuv420p10le",
    "p016le": "yuv420p16le",
    "p210le": "yuv422p10le",
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yvyu422": "yuv422p",
    "ya8": "gray",
    "monow": "gray",
    "monob": "gray",
}


@dataclass(frozen=True)
class Turn:
    """How to bring a picture upright: swap rows and columns, then mirror left-right, then mirror top-bottom."""

    transpose: bool
    mirror_x: bool
    mirror_y: bool


def turn_of(picture: av.VideoFrame) -> Turn | None:
    """The turn that the picture's display matrix asks for, to the nearest right angle; None for none."""
    matrix = side_data_of(picture).get("DISPLAYMATRIX")
    if matrix is None:
        return None
    # A stored point (x, y) is shown at (a x + c y, b x + d y): libavutil/display.h.
    a, b, _, c, d, *_ = (int(value) for value in np.frombuffer(matrix, np.int32))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(transpose=True, mirror_x=c < 0, mirror_y=b < 0)
    if a < 0 or d < 0:
        return Turn(transpose=False, mirror_x=a < 0, mirror_y=d < 0)
    return None


def turned(picture: av.VideoFrame, turn: Turn) -> av.VideoFrame:
    """A turned copy with the same pts and colour tags, without the display matrix.

    4:2:2 on its side would be 4:4:0, which no encoder takes: it becomes 4:4:4, each chroma sample standing twice. In an
    odd size of 4:2:0 a mirrored chroma plane ends up half a sample off, since its last sample covers one pixel alone.
    """
    name = picture.format.name
    if name not in _PACKED and not _is_planar(picture):
        # on several threads FFmpeg now and then leaves rows of p010 grey
        planar = picture.reformat(format=_UNPACKED.get(name, "rgb24"), threads=1)
        return turned(tagged_like(planar, picture), turn)
    width, height = picture.width, picture.height
    if turn.transpose:
        width, height = height, width
        name = re.sub("4(22|11|10)", "444", name) if "440" not in name else name.replace("440", "422")
    upright = av.VideoFrame(width, height, name)
    for source, target in zip(_plane_views(picture), _plane_views(upright), strict=True):
        samples = _turned_samples(source, turn)
        rows, columns = (-(-want // got) for want, got in zip(target.shape, samples.shape[:2], strict=False))
        if rows > 1:
            samples = np.repeat(samples, rows, axis=0)
        if columns > 1:
            samples = np.repeat(samples, columns, axis=1)
        target[:] = samples[: target.shape[0], : target.shape[1]]
    return tagged_like(upright, picture)


def tagged_like(picture: av.VideoFrame, original: av.VideoFrame) -> av.VideoFrame:
    """The same picture, now with the original's pts, time base, duration and colour tags."""
    picture.pts = original.pts
    if original.time_base is not None:
        picture.time_base = original.time_base
    picture.duration = original.duration
    picture.color_range, picture.color_trc = original.color_range, original.color_trc
    picture.color_primaries, picture.colorspace = original.color_primaries, original.colorspace
    return picture


def _is_planar(picture: av.VideoFrame) -> bool:
    """Whether every component has a plane of its own, of whole bytes."""
    components = picture.format.components
    return (
        len({component.plane for component in components}) == len(components) == len(picture.planes)
        and not picture.format.has_palette
        and not picture.format.is_bit_stream
    )


def _plane_views(picture: av.VideoFrame) -> list[np.ndarray]:
    """The planes as views: (rows, columns) of 1, 2 or 4 bytes a sample, packed ones (rows, columns, samples)."""
    bits = max(component.bits for component in picture.format.components)
    dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)
    samples = _PACKED.get(picture.format.name, 1)
    views = []
    planes: tuple[Any, ...] = picture.planes  # buffers, which their types do not say
    for plane in planes:
        rows = np.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // dtype.itemsize)
        view = rows[:, : plane.width * samples]
        views.append(view if samples == 1 else view.reshape(plane.height, plane.width, samples))
    return views


def _turned_samples(samples: np.ndarray, turn: Turn) -> np.ndarray:
    """OpenCV's transpose and flip: ten times faster than a copy of numpy's strided view."""
    if samples.dtype == np.uint32:
        samples = samples.view(np.int32)
    if turn.transpose:
        samples = cv2.transpose(samples)
    if turn.mirror_x or turn.mirror_y:
        samples = cv2.flip(samples, -1 if turn.mirror_x and turn.mirror_y else 1 if turn.mirror_x else 0)
    return samples.view(np.uint32) if samples.dtype == np.int32 else samples
