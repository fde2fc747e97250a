"""How a run went: frames, seconds, totals, outputs and errors, stream by stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from streamseg.records import plain
from streamseg.types import OutputStatus, SourceState, StreamsegError, Totals

KINDS = ("objects", "lines", "zones")
"""Totals that every summary names, also where nothing counts them."""


@dataclass(frozen=True)
class StreamSummary:
    """How one stream went.

    read, written: frames · dropped: frames by cause · seconds: from its start to its end · stages: busy seconds,
    without waiting · totals: of all counters, by kind · num_events: of all counters · outputs: where they lie now,
    those of a stream with an error under their part names · warnings: what was wrong in the input, how often · error,
    exception: why it did not reach its end · sinks, state: of a live stream, how its outputs and its camera are doing
    """

    read: int = 0
    written: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
    totals: Totals = field(default_factory=dict)
    num_events: int = 0
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    exception: BaseException | None = None
    sinks: tuple[OutputStatus, ...] = ()
    state: SourceState | None = None

    @property
    def fps(self) -> float:
        """Frames written a second."""
        return self.written / self.seconds if self.seconds else 0.0

    @property
    def slowest(self) -> str:
        """The stage that was busy longest."""
        return max(self.stages, key=lambda stage: self.stages[stage], default="")

    def to_json(self) -> dict[str, Any]:
        """As `run --json` prints it; what is not in every summary only where there is any.

        Totals that are neither objects, lines nor zones stand by their kind under `counts`, as in a record.
        """
        totals = {kind: plain(numbers, kind) for kind, numbers in self.totals.items()}
        extras = {
            "counts": {kind: numbers for kind, numbers in totals.items() if kind not in KINDS},
            "events": self.num_events,
            "notes": list(self.notes),
            "warnings": dict(self.warnings),
            "sinks": [asdict(status) for status in self.sinks if status.state != "ok" or status.dropped],
            "error": self.error,
        }
        return {
            "frames": {"read": self.read, "written": self.written, "dropped": dict(self.dropped)},
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 1),
            "slowest": self.slowest,
            "stages": {stage: round(seconds, 3) for stage, seconds in self.stages.items()},
            **{kind: totals.pop(kind, {}) for kind in KINDS},
            "outputs": list(self.outputs),
            **{key: value for key, value in extras.items() if value},
        }


@dataclass(frozen=True)
class Summary:
    """How a run went: every stream by name, seconds in all, the first error, and the exit code of the command.

    problems: what did not reach those who were to be told, a sentence each · precision: what the engine computed in,
    where it says so
    """

    streams: Mapping[str, StreamSummary]
    seconds: float
    error: str | None
    exit_code: int
    problems: Sequence[str] = ()
    precision: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `run --json` prints it: one stream's numbers alone, or those of several by name."""
        extras: dict[str, Any] = {"problems": list(self.problems)} if self.problems else {}
        if self.precision:
            extras = {"precision": self.precision, **extras}
        if len(self.streams) == 1:
            return next(iter(self.streams.values())).to_json() | extras
        streams = {name: stream.to_json() for name, stream in self.streams.items()}
        return {
            "streams": streams,
            "seconds": round(self.seconds, 3),
            **({"error": self.error} if self.error else {}),
            **extras,
        }


def merged(totals: Iterable[Totals]) -> dict[str, Any]:
    """One set of totals of several counters: two lines are both under `lines`."""
    together: dict[str, Any] = {}
    for part in totals:
        for kind, numbers in part.items():
            together[kind] = {**together.get(kind, {}), **numbers}
    return together


def said(error: BaseException) -> str:
    """The error in a sentence; one that nobody raised on purpose with its type."""
    return str(error) if isinstance(error, StreamsegError) else f"{type(error).__name__}: {error}"
