"""What a counter reports becomes a record that stands alone: with an id, its stream, and when it was by the clock."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from streamseg.types import Frame

_OF_FILES = uuid.UUID("5c1d3b5e-8f0a-5a7e-9d55-6b8f3a1f7c20")
"""Where ids of events in files are named: the same file looked at again gives the same ids."""


def completed(events: Sequence[Mapping[str, Any]], frame: Frame, *, live: bool) -> tuple[Mapping[str, Any], ...]:
    """The events of one frame, each with `id`, `stream` and `at` (None for a file) unless it has its own.

    The id of a live event is unique for all time; that of a file follows from the stream's name and the frame.
    """
    return tuple(
        {
            "id": _id(frame, number, live=live),
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


def _id(frame: Frame, number: int, *, live: bool) -> str:
    return (uuid.uuid4() if live else uuid.uuid5(_OF_FILES, f"{frame.stream}/{frame.index}/{number}")).hex


def _at(event: Mapping[str, Any], frame: Frame) -> str:
    """When it happened, which may be some frames before it was certain."""
    return utc(wall_time(frame) + float(event.get("time", frame.time)) - frame.time)
