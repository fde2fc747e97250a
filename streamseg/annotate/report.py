"""How an annotation went: video by video, what was written and what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class VideoSummary:
    """How one video went. looked_at: its frames that this job looked at · the others: of its labels"""

    frames: int = 0
    objects: int = 0
    tracks: int = 0
    looked_at: int = 0
    error: str | None = None


@dataclass(frozen=True)
class AnnotationSummary:
    """How an annotation went. left_out: by format, what it does not know · notes: what its user should know"""

    videos: Mapping[str, VideoSummary]
    outputs: Sequence[str] = ()
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    seconds: float = 0.0
    error: str | None = None
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """As `annotate --json` prints it."""
        return asdict(self)
