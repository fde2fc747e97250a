"""What a counter reports becomes a record that stands alone: with an id, its stream, and when it was by the clock."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamseg.types import Frame
from streamseg.words import writable

_OF_FILES = uuid.UUID("5c1d3b5e-8f0a-5a7e-9d55-6b8f3a1f7c20")
"""Where ids of events in files are named: the same file looked at again gives the same ids."""


def completed(
    events: Sequence[Mapping[str, Any]], frame: Frame, *, live: bool, path: Path | None = None
) -> tuple[Mapping[str, Any], ...]:
    """The events of one frame, each with `id`, `stream` and `at` (None for a file) unless it has its own.

    The id of a live event is unique for all time; that of a file follows from its path, the stream's name, the frame
    and what happened where.
    """
    return tuple(
        {
            "id": uuid.uuid4().hex if live else _id(event, number, frame, path),
            **event,
            "stream": frame.stream,
            "at": _at(event, frame) if live else None,
        }
        for number, event in enumerate(events)
    )


def wall_time(frame: Frame) -> float:
    """Unix seconds at which a live frame was captured."""
    return time.time() - (time.monotonic() - frame.captured_at)


def utc(seconds: float) -> str:
    """Unix seconds as `2026-11-21T08:15:00.123Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _id(event: Mapping[str, Any], number: int, frame: Frame, path: Path | None) -> str:
    place = writable(os.path.abspath(path)) if path else ""
    what = (place, frame.stream, frame.index, number, event.get("event"), event.get("name"), event.get("direction"))
    return uuid.uuid5(_OF_FILES, json.dumps(what)).hex


def _at(event: Mapping[str, Any], frame: Frame) -> str:
    """When it happened, which may be some frames before it was certain."""
    return utc(wall_time(frame) + float(event.get("time", frame.time)) - frame.time)
