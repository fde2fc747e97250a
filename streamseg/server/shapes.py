"""What the API answers, as its OpenAPI description shows it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from streamseg.types import OutputState

Name = Literal["connecting", "live", "stalled", "lost", "refused", "ended", "failed"]


class Output(BaseModel):
    """How a sink of a live stream, or a publisher, is doing."""

    name: str
    state: OutputState
    cause: str = Field(description="why; empty while it works")
    dropped: int = Field(description="pictures or messages that it never had")
    waiting: int = Field(description="those that wait for it")


class StreamStatus(BaseModel):
    """How a stream is doing."""

    name: str
    state: Name = Field(description="`ended` and `failed`: no more pictures will come")
    cause: str = Field(description="why it is in this state; empty while it is live")
    since: float = Field(description="when the state changed, in unix seconds")
    width: int | None = Field(description="pixels; null before the first picture")
    height: int | None
    fps: float = Field(description="pictures a second that were shown in the last seconds")
    age: float | None = Field(description="seconds since the newest picture was captured; null before the first")
    read: int = Field(description="frames; read = shown + dropped")
    shown: int
    dropped: dict[str, int] = Field(description="frames by cause")
    now: dict[str, int] = Field(description="objects in sight by class")
    counts: dict[str, Any] = Field(description="running totals: objects by class, lines and zones by name and class")
    sinks: list[Output]


class Event(BaseModel):
    """A crossing, or whatever else was counted; other counters add other fields."""

    model_config = ConfigDict(extra="allow")

    id: str
    stream: str
    thumbnail: str | None = Field(description="where its picture is; null where there is none")


class HistoryOfStream(BaseModel):
    """Numbers over time, a point every five seconds or, in a long time, the points thinned; null: nothing was seen."""

    time: list[float] = Field(description="unix seconds")
    now: dict[str, list[int | None]] = Field(description="objects in sight by class")
    lines: dict[str, list[int | None]] = Field(description="running totals: `gate in`, `gate out`")
    zones: dict[str, list[int | None]] = Field(description="objects inside: `shop now`")


class Health(BaseModel):
    """Whether every stream is live."""

    healthy: bool
    streams: dict[str, Name]
    publishers: list[Output]


class Alive(BaseModel):
    """The process answers."""

    alive: Literal[True] = True


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str
