"""A thumbnail shows the object of its event."""

from __future__ import annotations

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from streamseg.server.thumbnail import of_event
from streamseg.types import Result
from tests import fakes
from tests.server.fake import result


def street() -> Result:
    """200 × 100 pixels, black, with track 7 as a white square of 20 pixels at x = 150."""
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[40:60, 150:170] = 255
    picture = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")
    shown = result(replace(fakes.frame(), picture=picture), num=1)
    boxes, tracks = np.array([[150, 40, 170, 60]], np.float32), np.array([7], np.int32)
    return replace(shown, instances=replace(shown.instances, boxes=boxes, track_ids=tracks))


def decoded(jpeg: bytes | None) -> np.ndarray:
    assert jpeg is not None
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return np.asarray(picture)


def test_the_track_of_the_event_fills_most_of_it() -> None:
    thumbnail = decoded(of_event(street(), {"track": 7}, side=72))
    assert thumbnail.shape == (72, 72)  # 20 pixels and 8 of room on each side, twice as large
    assert (thumbnail > 128).mean() == pytest.approx(20**2 / 36**2, abs=0.03)


@pytest.mark.parametrize("event", [{"track": 8}, {}, {"track": None}, {"track": "seven"}])
def test_an_event_of_no_object_in_sight_shows_the_whole_picture(event: dict[str, object]) -> None:
    assert decoded(of_event(street(), event)).shape == (80, 160)


def test_an_object_that_has_left_the_picture_shows_the_whole_picture() -> None:
    gone = street()
    gone = replace(gone, instances=replace(gone.instances, boxes=np.array([[300, 40, 320, 60]], np.float32)))
    assert decoded(of_event(gone, {"track": 7})).shape == (80, 160)
