"""A small picture of what an event is about: the object with some room around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from streamseg.types import Result, rgb_of

ROOM = 0.4  # of the object's longer side, on each side of it


def of_event(result: Result, event: Mapping[str, Any], *, side: int = 160) -> bytes | None:
    """A JPEG of `side` pixels on its longer side: the event's track, or the whole picture; None if none can be had."""
    picture = result.picture
    if picture is None:  # what an effect blurs stays blurred
        return None
    rgb = rgb_of(picture, width=picture.width, height=picture.height)
    found = result.instances
    boxes = found.boxes[found.track_ids == event.get("track", -1)] if "track" in event else found.boxes[:0]
    part = _around(rgb, boxes[0]) if len(boxes) else rgb
    scale = side / max(part.shape[:2])
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    done, coded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return coded.tobytes() if done else None


def _around(rgb: np.ndarray, box: np.ndarray) -> np.ndarray:
    """What of the picture (H, W, 3) lies in and around the box (4,) xyxy; the whole picture where nothing does."""
    x1, y1, x2, y2 = box.tolist()
    room = ROOM * max(x2 - x1, y2 - y1)
    left, top = max(0, int(x1 - room)), max(0, int(y1 - room))
    part = rgb[top : max(0, int(y2 + room)), left : max(0, int(x2 + room))]
    return part if part.size else rgb
