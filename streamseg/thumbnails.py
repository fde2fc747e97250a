"""The picture of what an event is about: its object, as it was shown, small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from streamseg.pictures import part_of
from streamseg.scaling import matrix_of
from streamseg.types import Result

MARGIN = 0.15
"""Around the object, of its longer side."""

QUALITY = 80
"""Of the JPEG; about 6 kB of 160 pixels."""


def of_event(result: Result, event: Mapping[str, Any], *, side: int = 160) -> bytes | None:
    """A JPEG of the event's object, `side` pixels along its longer side and at most as large as it is in the picture.

    It is cut from what was drawn, so that what is blurred there is blurred here. None where the object is not in the
    picture any more, or no picture was drawn.
    """
    if result.picture is None or not is_shown(result, event):
        return None
    found = np.flatnonzero(result.instances.track_ids == event["track"])
    box = _around(result.instances.boxes[found[0]], width=result.picture.width, height=result.picture.height)
    return _jpeg(result.picture, box, side=side, pixel_aspect=result.frame.pixel_aspect)


def is_shown(result: Result, event: Mapping[str, Any]) -> bool:
    """Whether the event's object is in a picture that was drawn; one that has ended is in none any more."""
    track = event.get("track")
    known = isinstance(track, int) and track >= 0 and track in result.instances.track_ids
    return result.picture is not None and bool(known)


def _around(box: np.ndarray, *, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of the box (4,) xyxy with its margin, in whole chroma samples inside the picture."""
    margin = MARGIN * max(box[2] - box[0], box[3] - box[1])
    left, top = (int(max(0, low - margin)) // 2 * 2 for low in box[:2])
    left, top = min(left, (width - 2) // 2 * 2), min(top, (height - 2) // 2 * 2)
    right, bottom = min(width, int(box[2] + margin) + 1), min(height, int(box[3] + margin) + 1)
    return left, top, max(2, (right - left) // 2 * 2), max(2, (bottom - top) // 2 * 2)


def _jpeg(picture: av.VideoFrame, box: tuple[int, int, int, int], *, side: int, pixel_aspect: float) -> bytes:
    left, top, width, height = box
    part = part_of(picture, left=left, top=top, width=width, height=height)
    shown = part.width * pixel_aspect, part.height
    scale = min(1.0, side / max(shown))
    scaled = VideoReformatter().reformat(
        part,
        max(1, round(shown[0] * scale)),
        max(1, round(shown[1] * scale)),
        "bgr24",
        src_colorspace=matrix_of(part),
        interpolation=Interpolation.AREA,
    )
    _, coded = cv2.imencode(".jpg", scaled.to_ndarray(), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return coded.tobytes()
