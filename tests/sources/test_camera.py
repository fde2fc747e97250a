"""A camera of this machine is a live source; one that is absent or busy is a state, one that cannot be is an error."""

from __future__ import annotations

import errno
import os
import pty
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from streamseg import plugins
from streamseg.config import Component
from streamseg.sources import camera
from streamseg.sources._connection import Way, packets
from streamseg.sources._live import Trouble
from streamseg.sources.camera import Camera
from streamseg.spelling import expand
from streamseg.types import InputError, UsageError

# what FFmpeg draws at the pace of a camera, through the same code but for the device
PATTERN: dict[str, Any] = {"device": "testsrc=size=64x48:rate=25,realtime", "format": "lavfi"}


def test_pictures_come_at_the_pace_of_the_camera() -> None:
    with Camera(**PATTERN, name="desk") as source:
        frames = list(islice(source, 15))
    assert [each.index for each in frames] == list(range(15))
    assert all(earlier.time < later.time for earlier, later in pairwise(frames))
    assert frames[-1].time == pytest.approx(14 / 25, abs=0.1)
    assert (source.info.name, source.info.width, source.info.average_rate) == ("desk", 64, 25)
    assert not any(each.damaged for each in frames) and source.state.name == "live"


def test_an_absent_camera_is_waited_for_and_given_up_only_if_told_to() -> None:
    with Camera("/dev/video-that-is-not-there", attempts=1) as source, pytest.raises(InputError) as error:
        next(iter(source))
    assert source.state.name == "lost"
    absent = "given up after 1 attempt: no such device; is the camera plugged in?"
    assert str(error.value) == f"camera:/dev/video-that-is-not-there: {absent}"


def test_a_device_that_is_no_camera_is_named_so() -> None:
    expected = pytest.raises(InputError, match="given up after 1 attempt: this device is no camera")
    with expected, Camera("/dev/null", attempts=1) as source:
        next(iter(source))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.EBUSY, errno.EACCES, errno.EINVAL])
def test_what_a_driver_says_has_words(number: int) -> None:
    words = camera._in_words(OSError(number, "driver's words", "/dev/video0"))
    assert words and "driver" not in words and "/dev" not in words


def test_a_camera_is_spelled_by_its_number_or_its_path() -> None:
    found = expand(["camera:", "camera:1", "camera:/dev/video7"])
    assert [each.source for each in found] == [
        Component(name="camera"),
        Component(name="camera", options={"device": 1}),
        Component(name="camera", options={"device": "/dev/video7"}),
    ]
    assert [Camera(each).name for each in (1, "7", "/dev/v4l/by-id/usb-cam")] == ["video1", "video7", "usb-cam"]


@dataclass
class Packet:
    stream_index: int = 0
    size: int = 1


VIDEO: Any = SimpleNamespace(index=0)


class Device:
    """A container of a device that has a packet only at every third look."""

    read_timeout = 5.0

    def __init__(self, *packets: Packet) -> None:
        self._packets, self.num_looks = list(packets), 0

    def demux(self) -> Iterator[Packet]:
        while self._packets:
            self.num_looks += 1
            if self.num_looks % 3:
                raise av.BlockingIOError(errno.EAGAIN, "not yet")
            yield self._packets.pop(0)


class HangingDevice(Device):
    def demux(self) -> Iterator[Packet]:
        raise av.BlockingIOError(errno.EAGAIN, "not yet")


def test_a_device_without_a_picture_is_asked_again_and_one_that_hangs_is_left() -> None:
    stopped, way = threading.Event(), Way("/dev/video0", timeout=0.05)
    found = list(packets(way, Device(Packet(), Packet()), VIDEO, stopped))
    assert [each is None for each in found] == [True, True, False, True, True, False]
    with pytest.raises(Trouble, match="nothing came for 0.05 s"):
        list(packets(way, HangingDevice(), VIDEO, stopped))
    stopped.set()
    assert list(packets(way, HangingDevice(), VIDEO, stopped)) == []


def test_sound_alone_is_no_picture_but_a_sign_of_life() -> None:
    class Radio(Device):
        def demux(self) -> Iterator[Packet]:
            yield from self._packets

    found = list(packets(Way("http://radio"), Radio(Packet(0), Packet(1), Packet(1)), VIDEO, threading.Event()))
    assert found == [Packet(0), None, None]


def test_reads_of_an_open_device_do_not_block() -> None:
    ours, theirs = pty.openpty()
    try:
        path = os.ttyname(theirs)
        assert os.get_blocking(theirs)
        camera._unblock(path)
        assert not os.get_blocking(theirs) and os.get_blocking(ours)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "front"}, "camera:front: expected a number such as 0, or a path such as /dev/video0"),
        ({"device": -1}, "camera:-1: expected a number such as 0"),
        ({"device": "/"}, "camera:/: expected a video device, got a folder"),
        ({"device": str(Path(__file__))}, "expected a video device, got a file"),
        ({"format": "v4l3"}, "format: the FFmpeg inside PyAV reads no 'v4l3'; it is v4l2 for cameras"),
        ({"size": "big"}, "size: expected WIDTHxHEIGHT such as 1280x720, got 'big'"),
        ({"fps": 0}, "fps: expected more than 0 and at most 1000 pictures a second, got 0"),
        ({"pixel_format": "yuv 422"}, "pixel_format: expected a name such as yuyv422 or mjpeg, got 'yuv 422'"),
        ({"timeout": 100}, "timeout: expected 0.1 to 60 s, got 100"),
    ],
)
def test_a_camera_that_cannot_be_fails_at_construction(options: dict, words: str) -> None:
    with pytest.raises(UsageError) as error:
        plugins.build("sources", "camera", options)
    assert words in str(error.value)
