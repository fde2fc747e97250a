"""The picture of an event is its object as it was shown, small, in the right colours, whatever the camera sends."""

from __future__ import annotations

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from streamseg import thumbnails
from streamseg.types import Frame, Result
from tests import fakes

RED, BLUE = (200, 30, 30), (30, 30, 200)


def shown(
    box: tuple[int, int, int, int],
    *,
    size: tuple[int, int] = (640, 360),
    pixel_format: str = "yuv420p",
    pixel_aspect: float = 1.0,
) -> Result:
    """A blue picture with one red object, track 7, in its box."""
    rgb = np.full((size[1], size[0], 3), BLUE, np.uint8)
    rgb[box[1] : box[3], box[0] : box[2]] = RED
    picture = av.VideoFrame.from_ndarray(rgb, "rgb24")
    if pixel_format != "rgb24":
        hd = size[0] >= 1280
        picture = picture.reformat(format=pixel_format, dst_colorspace="ITU709" if hd else "ITU601")
    instances = replace(fakes.instances(0.9), boxes=np.array([box], np.float32), track_ids=np.array([7], np.int32))
    frame = Frame(picture, 0, 0.0, 0.0, "street", pixel_aspect=pixel_aspect)
    return Result(frame, instances, picture=picture)


def read(jpeg: bytes | None) -> np.ndarray:
    """(height, width, 3) uint8 RGB."""
    assert jpeg is not None
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def near(colour: np.ndarray, expected: tuple[int, int, int]) -> bool:
    return bool(np.abs(colour.astype(int) - expected).max() <= 4)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12", "yuv420p10le", "yuvj420p", "yuv422p", "yuv444p", "rgb24"])
@pytest.mark.parametrize("size", [(640, 360), (1280, 720)])
def test_it_shows_the_object_with_a_margin_in_its_colours(pixel_format: str, size: tuple[int, int]) -> None:
    result = shown((200, 100, 300, 300), size=size, pixel_format=pixel_format)
    picture = read(thumbnails.of_event(result, {"track": 7}))
    height, width, _ = picture.shape
    # 100 x 200 pixels, and 30 more on each side: 160 x 260
    assert height == 160 and abs(width - 160 * 160 / 260) <= 1
    assert near(picture[80, width // 2], RED)
    assert all(near(picture[y, x], BLUE) for y in (3, -3) for x in (3, -3))


@pytest.mark.parametrize("side", [40, 100])
def test_its_longer_side_is_as_long_as_asked(side: int) -> None:
    assert max(read(thumbnails.of_event(shown((100, 100, 500, 200)), {"track": 7}, side=side)).shape) == side


def test_a_small_object_is_not_blown_up() -> None:
    height, width, _ = read(thumbnails.of_event(shown((100, 100, 120, 140)), {"track": 7})).shape
    assert (height, width) == (52, 32)  # 20 x 40, and 6 on each side


@pytest.mark.parametrize("box", [(0, 0, 640, 360), (-20, -20, 30, 30), (630, 350, 700, 400), (100, 100, 100, 100)])
def test_a_box_at_the_edge_or_without_area_makes_a_picture_too(box: tuple[int, int, int, int]) -> None:
    result = shown((0, 0, 10, 10))
    result = replace(result, instances=replace(result.instances, boxes=np.array([box], np.float32)))
    picture = read(thumbnails.of_event(result, {"track": 7}))
    assert min(picture.shape[:2]) >= 2 and max(picture.shape[:2]) <= 160


def test_a_picture_of_odd_size_makes_one_too() -> None:
    assert read(thumbnails.of_event(shown((90, 60, 101, 75), size=(101, 75)), {"track": 7})).size


def test_pixels_that_are_not_square_are_shown_as_they_are_meant() -> None:
    result = shown((200, 100, 300, 200), pixel_aspect=2.0)
    height, width, _ = read(thumbnails.of_event(result, {"track": 7})).shape
    assert width == 160 and abs(height - 80) <= 1


def test_it_is_cut_from_what_was_drawn_and_leaves_it_as_it_was() -> None:
    result = shown((200, 100, 300, 300))
    grey = av.VideoFrame.from_ndarray(np.full((360, 640, 3), 128, np.uint8), "rgb24").reformat(format="yuv420p")
    drawn = replace(result, picture=grey)  # the object blurred beyond recognition
    before = bytes(grey.planes[0])
    assert near(read(thumbnails.of_event(drawn, {"track": 7}))[80, 40], (128, 128, 128))
    assert bytes(grey.planes[0]) == before


def test_there_is_none_of_what_is_not_in_the_picture() -> None:
    result = shown((200, 100, 300, 300))
    assert thumbnails.of_event(result, {"track": 8}) is None
    assert thumbnails.of_event(result, {"event": "source"}) is None
    assert thumbnails.of_event(replace(result, picture=None), {"track": 7}) is None
