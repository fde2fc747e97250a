"""Pictures read from their own planes and by their own colours, and made small so for a network."""

from __future__ import annotations

import threading

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

_local = threading.local()


def rgb_of(picture: av.VideoFrame, *, width: int, height: int) -> np.ndarray:
    """The picture scaled to `width` × `height` RGB from its own planes: (height, width, 3) uint8.

    The picture's own colour range and `matrix_of` it are honoured. Source pixels are averaged when it shrinks; what
    shrinks to less than half is halved first, which spares more than half of the time at 4K.
    """
    matrix = matrix_of(picture)  # before it is small: without a tag it hangs on the size
    while picture.width >= 2 * width and picture.height >= 2 * height and (half := _halved(picture)) is not None:
        picture = half
    reformatter = getattr(_local, "reformatter", None)
    if reformatter is None:
        reformatter = _local.reformatter = VideoReformatter()
    scaled = reformatter.reformat(
        picture, width, height, "rgb24", src_colorspace=matrix, interpolation=Interpolation.BILINEAR
    )
    return scaled.to_ndarray()


def _halved(picture: av.VideoFrame) -> av.VideoFrame | None:
    """The picture at half its size, each sample the mean of four; None where its planes cannot be halved so."""
    import cv2  # not needed before the first picture

    layout = picture.format
    bits = {component.bits for component in layout.components}
    plain = layout.is_planar and not layout.is_big_endian and len(bits) == 1 and 8 <= max(bits) <= 16
    if not plain or any(plane.width % 2 or plane.height % 2 or plane.line_size % 4 for plane in picture.planes):
        return None
    dtype = np.uint8 if bits == {8} else np.uint16
    half = av.VideoFrame(picture.width // 2, picture.height // 2, layout.name)
    half.color_range = picture.color_range
    planes = [component.plane for component in layout.components]
    for i, (source, target) in enumerate(zip(picture.planes, half.planes, strict=True)):
        shape = (-1, planes.count(i))  # of nv12 and its like, two samples stand side by side
        before, after = (
            rows.reshape(len(rows), *shape)[: plane.height, : plane.width]
            for plane, rows in ((source, rows_of(picture, i, dtype)), (target, rows_of(half, i, dtype)))
        )
        cv2.resize(before, (target.width, target.height), dst=after, interpolation=cv2.INTER_AREA)
    return half


# FFmpeg's numbers of matrices, and those of them that its scaler knows: 6 is 5 under another name, 10 nearly 9
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


def matrix_of(picture: av.VideoFrame) -> Colorspace:
    """The colour matrix to read the picture by: its tag's; without one BT.709 if it is HD, else BT.601, as players do.

    FFmpeg itself would read every untagged picture by BT.601.
    """
    hd = picture.width >= 1280 or picture.height > 576
    return Colorspace(_MATRICES.get(int(picture.colorspace), 1 if hd else 5))


def rows_of(picture: av.VideoFrame, plane: int, dtype: type[np.uint8] | type[np.uint16]) -> np.ndarray:
    """The rows of a plane, padding included, top row first, as they lie in memory: (rows, samples)."""
    memory = picture.planes[plane]
    stride = memory.line_size
    if stride > 0:
        samples = np.frombuffer(memoryview(memory), np.uint8)
        return samples[: memory.height * stride].reshape(memory.height, stride).view(dtype)
    # FFmpeg's vflip makes such pictures.
    # PyAV hands out a buffer that begins at the top row, the last in memory, and so reads past the end.
    return np.asarray(_Backwards(memory)).view(dtype)


class _Backwards:
    """The memory of a plane whose rows lie from the bottom up, for numpy to look at."""

    def __init__(self, plane: av.video.plane.VideoPlane) -> None:
        self.plane = plane  # keeps the memory while any array looks at it
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (plane.height, -plane.line_size),
            "strides": (plane.line_size, 1),
            "data": (plane.buffer_ptr, False),
        }
