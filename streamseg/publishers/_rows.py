"""An event as a row of a table, the same in every table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

COLUMNS = (
    "id",
    "at",
    "stream",
    "event",
    "name",
    "direction",
    "time",
    "track",
    "class",
    "score",
    "x",
    "y",
    "dwell",
    "ended",
    "state",
    "cause",
    "more",
)
"""What a row tells; `more` is JSON of what an event of an outside counter says besides."""

ELSEWHERE = ("point", "thumbnail")
"""What an event has that is no column as it stands."""


def row(event: Mapping[str, Any]) -> tuple[Any, ...]:
    """The event in the order of COLUMNS; None where it says nothing."""
    x, y = event.get("point") or (None, None)
    more = {key: value for key, value in event.items() if key not in COLUMNS and key not in ELSEWHERE}
    told = {**event, "x": x, "y": y, "more": more or None}
    return tuple(_cell(told.get(column)) for column in COLUMNS)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
