"""A picture made small: by halves where its planes allow it, and never with other colours than FFmpeg's in one step."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter

from streamseg.scaling import _halved, matrix_of, rgb_of, rows_of

HALVED = (
    "yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuva420p", "nv12", "nv21", "yuv420p10le", "p010le", "gbrp",
)  # fmt: skip
WHOLE = ("rgb24", "bgr24", "gray", "yuyv422", "yuv420p10be", "gbrpf32le", "monow")


def smooth(width: int, height: int, pixel_format: str) -> av.VideoFrame:
    """A picture of slow colours, which any good scaling shows alike."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    rgb = np.stack([np.sin(5 * x + k) * np.cos(4 * y - k) * 100 + 128 for k in range(3)], -1).astype(np.uint8)
    picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    made = picture if pixel_format == "rgb24" else picture.reformat(format=pixel_format, threads=1)
    return made


def in_one_step(picture: av.VideoFrame, width: int, height: int) -> np.ndarray:
    made: np.ndarray = (
        VideoReformatter()
        .reformat(
            picture, width, height, "rgb24", src_colorspace=matrix_of(picture), interpolation=Interpolation.BILINEAR
        )
        .to_ndarray()
    )
    return made


@pytest.mark.parametrize("pixel_format", HALVED)
def test_each_sample_of_a_half_is_the_mean_of_four(pixel_format: str) -> None:
    picture = smooth(128, 72, pixel_format)
    half = _halved(picture)
    assert half is not None and (half.width, half.height, half.format.name) == (64, 36, pixel_format)
    dtype = np.uint8 if picture.format.components[0].bits == 8 else np.uint16
    several = [component.plane for component in picture.format.components]
    for i, plane in enumerate(half.planes):
        n = several.count(i)
        before = rows_of(picture, i, dtype)[: 2 * plane.height, : 2 * plane.width * n].astype(float)
        after = rows_of(half, i, dtype)[: plane.height, : plane.width * n].astype(float)
        means = before.reshape(plane.height, 2, plane.width, 2, n).mean(axis=(1, 3)).reshape(after.shape)
        assert np.abs(after - means).max() <= 0.5


@pytest.mark.parametrize("pixel_format", WHOLE)
def test_a_picture_without_such_planes_is_scaled_as_it_is(pixel_format: str) -> None:
    picture = smooth(128, 72, pixel_format)
    assert _halved(picture) is None
    assert (rgb_of(picture, width=32, height=18) == in_one_step(picture, 32, 18)).all()


@pytest.mark.parametrize(("width", "height"), [(130, 72), (128, 74), (127, 72), (128, 71)])
def test_one_with_odd_planes_is_scaled_as_it_is(width: int, height: int) -> None:
    picture = smooth(width, height, "yuv420p")
    assert _halved(picture) is None
    assert (rgb_of(picture, width=32, height=18) == in_one_step(picture, 32, 18)).all()


@pytest.mark.parametrize("pixel_format", HALVED)
def test_halves_show_the_colours_of_one_step(pixel_format: str) -> None:
    """Also where no tag says how they are to be read, and the small picture alone would be taken for SD."""
    picture = smooth(1280, 720, pixel_format)
    if pixel_format != "gbrp":
        picture.colorspace = 2  # not said
    small, expected = rgb_of(picture, width=288, height=162), in_one_step(picture, 288, 162)
    difference = np.abs(small.astype(int) - expected)
    assert difference.mean() < 1 and difference.max() <= 7  # FFmpeg computes RGB in steps of up to 3


def test_a_picture_that_shrinks_by_less_than_half_is_scaled_in_one_step() -> None:
    picture = smooth(640, 360, "yuv420p")
    assert (rgb_of(picture, width=576, height=324) == in_one_step(picture, 576, 324)).all()
