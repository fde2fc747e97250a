"""What annotation makes of a video, a frame at a time; and what a format that writes it must be able to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

EMPTY = "objects without a pixel"
"""Why a format leaves a label out where it cannot hold an empty mask."""


@dataclass(frozen=True)
class Label:
    """One object in one frame.

    track: -1 without a confirmed one · box: xyxy in pixels · mask: COCO run lengths {"size": [h, w], "counts": text},
    byte for byte as in the record
    """

    track: int
    class_name: str
    score: float
    box: tuple[float, float, float, float]
    mask: Mapping[str, Any]


@dataclass(frozen=True)
class LabelledFrame:
    """The labels of one frame, also where there are none.

    index: position in the decoded stream, from 0 · time: seconds since the first picture, of the video's own pts ·
    picture: the saved picture, relative to the output folder: STEM/frame_000041.jpg
    """

    index: int
    time: float
    labels: tuple[Label, ...]
    picture: str | None = None


@dataclass(frozen=True)
class LabelledVideo:
    """What a format may know of a video before its first frame.

    name: its stem, unique in the job, as a person wrote it · path: None where nobody knows the file any more · width,
    height: in pixels of the labels · num_frames: of the whole video, None if unknown · rate: average frames a second ·
    original_size: (width, height) of the video itself, which the labels may have been scaled down from
    """

    name: str
    path: Path | None
    width: int
    height: int
    num_frames: int | None
    rate: Fraction
    constant_rate: bool
    original_size: tuple[int, int]


@runtime_checkable
class Format(Protocol):
    """Writes the labels of all videos of a job into a folder, in a form that other tools read.

    wants_pictures: it is nothing without saved pictures · tracks_only: labels without a track are left out

    `open` once; then for each video `begin`, `write` for its frames in order, `end`; then `close`, which gives the
    files their final names and tells what was left out, by reason: {"objects without a track": 12}. `begin` raises
    UsageError where this video cannot be written in this format; nothing of it is written then, and the next may
    begin. `discard` instead of `close` removes what was written. What is there before `close` has part names.
    class_names: of the model, without the background, in its order. Ids start at 1 and follow from the order alone;
    the same labels give the same bytes. Memory does not grow with the number of frames.
    """

    wants_pictures: bool
    tracks_only: bool

    def open(self, folder: Path, class_names: Sequence[str]) -> None: ...
    def begin(self, video: LabelledVideo) -> None: ...
    def write(self, frame: LabelledFrame) -> None: ...
    def end(self) -> None: ...
    def close(self) -> Mapping[str, int]: ...
    def discard(self) -> None: ...
