"""Pictures are encoded once for all who wait for them, and not at all when nobody does."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from streamseg.server.hub import Hub
from streamseg.server.pictures import SECONDS_BETWEEN, WIDTHS, Picture, Pictures, encoded, width_for
from streamseg.types import Frame, Result
from tests import fakes
from tests.server.fake import crossing, result

PATIENCE = 10.0


@pytest.fixture
def pictures(hub: Hub) -> Iterator[Pictures]:
    with Pictures(hub) as pictures:
        yield pictures


def plain(value: tuple[int, int, int], *, width: int, height: int, hd: bool = False) -> Result:
    """A picture of one colour, RGB, written with BT.709 or BT.601 and without a tag that says so."""
    pixels = np.full((height, width, 3), value, np.uint8)
    picture = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
        format="yuv420p", dst_colorspace="ITU709" if hd else "ITU601"
    )
    picture.colorspace = 2  # unspecified, as of most cameras
    return result(Frame(picture, 0, 0.0, time.monotonic(), "street"))


def decoded(jpeg: bytes) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.asarray(bgr)[..., ::-1]


@pytest.mark.parametrize(("width", "height", "hd"), [(640, 360, False), (1280, 720, True)])
def test_colours_are_those_of_the_camera(width: int, height: int, hd: bool) -> None:
    shown = decoded(
        encoded(plain((200, 60, 40), width=width, height=height, hd=hd), 320, reformatter=VideoReformatter())
    )
    assert shown.shape == (180, 320, 3)
    assert np.abs(shown.reshape(-1, 3).mean(0) - (200, 60, 40)).max() < 4


def test_a_picture_is_never_enlarged_and_its_pixels_are_square() -> None:
    small = plain((0, 0, 0), width=64, height=48)
    assert decoded(encoded(small, 640, reformatter=VideoReformatter())).shape == (48, 64, 3)
    wide = replace(small, frame=replace(small.frame, pixel_aspect=2.0))
    assert decoded(encoded(wide, 64, reformatter=VideoReformatter())).shape == (24, 64, 3)


def test_what_was_drawn_is_shown() -> None:
    shown = plain((0, 0, 0), width=64, height=48)
    drawn = replace(shown, picture=plain((255, 255, 255), width=64, height=48).picture)
    assert decoded(encoded(drawn, 64, reformatter=VideoReformatter())).mean() > 250
    with pytest.raises(ValueError, match="no picture"):
        encoded(replace(shown, picture=None), 64, reformatter=VideoReformatter())


def test_any_width_is_asked_for_and_few_are_encoded() -> None:
    assert [width_for(asked) for asked in (1, 160, 161, 640, 5000)] == [160, 160, 320, 640, 1920]
    assert {width_for(asked) for asked in range(1, 9000)} == set(WIDTHS)


def test_all_who_wait_get_the_same_picture_that_was_encoded_once(hub: Hub, pictures: Pictures) -> None:
    arrived: queue.Queue[Picture] = queue.Queue()
    for _ in range(10):
        assert pictures.ask("street", 160, after=0, taker=arrived.put) is None
    hub.on_result(result(fakes.frame()))
    assert len({id(arrived.get(timeout=PATIENCE)) for _ in range(10)}) == 1
    assert pictures.num_encoded == 1
    late = pictures.ask("street", 160, after=0, taker=arrived.put)
    assert late is not None and late.number == 1


def test_nothing_is_encoded_while_nobody_asks(hub: Hub, pictures: Pictures) -> None:
    for number in range(50):
        hub.on_result(result(fakes.frame(number)))
    arrived: queue.Queue[Picture] = queue.Queue()
    pictures.ask("street", 160, after=0, taker=arrived.put)
    arrived.get(timeout=PATIENCE)
    assert pictures.num_encoded == 1


def test_who_asks_again_gets_the_newest_and_not_too_soon(hub: Hub, pictures: Pictures) -> None:
    arrived: queue.Queue[Picture] = queue.Queue()
    hub.on_result(result(fakes.frame(0)))
    pictures.ask("street", 160, after=0, taker=arrived.put)
    first, began = arrived.get(timeout=PATIENCE), time.monotonic()
    pictures.ask("street", 160, after=first.number, taker=arrived.put)
    for number in (1, 2, 3):
        hub.on_result(result(fakes.frame(number)))
    second = arrived.get(timeout=PATIENCE)
    assert second.number == first.number + 1
    assert time.monotonic() - began > SECONDS_BETWEEN / 2
    assert pictures.num_encoded == 2


def test_who_has_forgotten_is_not_called(hub: Hub, pictures: Pictures) -> None:
    forgotten: queue.Queue[Picture] = queue.Queue()
    arrived: queue.Queue[Picture] = queue.Queue()
    pictures.ask("street", 160, after=0, taker=forgotten.put)
    pictures.forget("street", 160, forgotten.put)
    pictures.ask("street", 160, after=0, taker=arrived.put)
    hub.on_result(result(fakes.frame()))
    arrived.get(timeout=PATIENCE)
    assert forgotten.empty()


def test_a_picture_that_cannot_be_encoded_does_not_end_the_others(hub: Hub, pictures: Pictures) -> None:
    broken = result(fakes.frame())
    arrived: queue.Queue[Picture] = queue.Queue()
    pictures.ask("street", 160, after=0, taker=arrived.put)
    hub.on_result(replace(broken, frame=replace(broken.frame, pixel_aspect=float("nan"))))
    time.sleep(2 * SECONDS_BETWEEN)
    hub.on_result(result(fakes.frame(1)))
    assert arrived.get(timeout=PATIENCE).number == 1


def test_thumbnails_are_made_without_being_asked_for(hub: Hub, pictures: Pictures) -> None:
    shown = result(fakes.frame(), events=(crossing("street", 1),))
    hub.on_result(shown)
    until = time.monotonic() + PATIENCE
    while hub._events[0].thumbnail is None and time.monotonic() < until:
        time.sleep(0.005)
    assert hub._events[0].result is None and hub._events[0].thumbnail


def test_it_stops_at_once_with_someone_waiting(hub: Hub) -> None:
    with Pictures(hub) as pictures:
        pictures.ask("street", 160, after=0, taker=lambda picture: None)
    assert pictures._threads.running == []
    assert hub.watchers == ()
