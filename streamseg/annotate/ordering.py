"""The ordered pass: what was found in every video, in its order, through the tracker to labels, pictures and overlay.

What the tracker sees of the pictures (scene cuts, the colours of objects) was recorded with what was found, so its
answer is that of a run that looks and tracks at once. Where no picture is wanted, the videos are not opened at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from streamseg import masks, plugins
from streamseg.annotate import recordings
from streamseg.annotate.chunks import Cut, Picked, Run
from streamseg.annotate.recordings import Damaged
from streamseg.annotate.selection import Selection
from streamseg.annotate.writing import Labelled, Labels, Written, blank, fitted, seen
from streamseg.flow.pipeline import Pipeline, Progress
from streamseg.flow.stream import Stream
from streamseg.labels import LabelledVideo
from streamseg.records import from_record
from streamseg.types import Frame, InputError, Instances, Source, StreamInfo

BATCH = 8
DRAWN = "_overlay"
"""What follows a video's name in that of the drawn one."""

FOLLOWED = 0.5
"""Seconds between frames up to which objects are followed from one to the next."""


@dataclass(frozen=True)
class Video:
    """A video that was looked at: its cut, the files of its chunks in order, and its real number of frames."""

    name: str
    path: Path
    cut: Cut
    files: tuple[Path, ...]
    num_frames: int


@dataclass(frozen=True)
class Order:
    """What is made of the detections.

    looked_at: which frames were · selection: of which of those labels are written · size: that the labels are
    fitted into, None for the videos' own · overlay: where drawn videos go, None for none
    """

    class_names: tuple[str, ...]
    min_score: float
    looked_at: Selection
    selection: Selection
    classes: tuple[str, ...]
    size: tuple[int, int] | None
    overlay: Path | None

    def follows(self, cut: Cut) -> bool:
        """Whether objects are followed through the video: frames that lie too far apart say nothing of each other."""
        return self.looked_at.step(float(cut.rate)) <= FOLLOWED


@dataclass(frozen=True)
class Passed:
    """How the pass went.

    errors: by video · written: of those videos that were done · outputs: drawn videos · warnings: by video, what was
    wrong with its file, how often
    """

    errors: Mapping[str, BaseException]
    written: Mapping[str, Written]
    outputs: tuple[str, ...]
    warnings: Mapping[str, Mapping[str, int]]
    exit_code: int


class Recorded:
    """Finds in a frame what was recorded of it, as an Engine; each video's frames come in their order."""

    min_score = 0.0
    batch_size = BATCH

    def __init__(self, videos: Sequence[Video], class_names: tuple[str, ...]) -> None:
        self.class_names = class_names
        self._records = {video.name: records_of(video) for video in videos}

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return frame.width, frame.height

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        return [self._of(frame) for frame in frames]

    def _of(self, frame: Frame) -> Instances:
        if frame.sight is not None:
            return frame.sight.instances
        record = next(self._records[frame.stream], None)
        if record is None or (record["index"], record["time"]) != seen(frame):
            raise InputError(f"frame {frame.index} is not the one that was looked at: the file has changed")
        return from_record(record, self.class_names)


class Unopened:
    """The frames that were looked at without their pictures, as a Source."""

    def __init__(self, video: Video, class_names: tuple[str, ...]) -> None:
        self._video, self._class_names = video, class_names
        self.warnings: Mapping[str, int] = {}

    def __enter__(self) -> Unopened:
        first = next(records_of(self._video))
        self.info = StreamInfo(
            name=self._video.name,
            path=self._video.path,
            width=first["width"],
            height=first["height"],
            time_base=Fraction(1, 1_000_000),
            average_rate=self._video.cut.rate,
            num_frames=self._video.cut.num_selected,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __iter__(self) -> Iterator[Frame]:
        picture = blank(self.info.width, self.info.height)
        for path in self._video.files:
            warnings = yield from self._frames(path, picture)
            self.warnings = Counter(self.warnings) + Counter(warnings)

    def _frames(self, path: Path, picture: av.VideoFrame) -> Generator[Frame, None, Mapping[str, int]]:
        """The frames of a chunk; returns what was wrong with the video."""
        records = recordings.records_in(path)
        while True:
            try:
                record = next(records)
            except StopIteration as end:
                warnings: Mapping[str, int] = end.value
                return warnings
            if (record["width"], record["height"]) != (picture.width, picture.height):
                picture = blank(record["width"], record["height"])
            yield recordings.frame_of(record, picture, stream=self._video.name, class_names=self._class_names)


def records_of(video: Video) -> Iterator[dict[str, Any]]:
    """Every record of a video in order; Damaged where a chunk is not whole."""
    for path in video.files:
        yield from recordings.records_in(path)


def run(videos: Sequence[Video], order: Order, labels: Labels, *, progress: Progress | None = None) -> Passed:
    """Take all videos through, one after the other: the labels of a job follow from the order alone."""
    sinks = {video.name: Labelled(labels, _describing(video, order), selection=order.selection) for video in videos}
    streams = [_stream(video, order, labels, sinks[video.name]) for video in videos]
    engine = Recorded(videos, order.class_names)
    pipeline = Pipeline(engine, streams, parallel=1, min_score=order.min_score, progress=progress)
    with masks.without_threads():
        summary = pipeline.run()
    # those that were not started have no exception: what kept them is that of another one
    errors = {name: stream.exception for name, stream in summary.streams.items() if stream.exception}
    return Passed(
        errors,
        {name: sink.written for name, sink in sinks.items() if name not in errors},
        tuple(path for name, stream in summary.streams.items() if name not in errors for path in stream.outputs),
        {name: stream.warnings for name, stream in summary.streams.items()},
        summary.exit_code if summary.exit_code >= 128 else 0,
    )


def damaged(errors: Mapping[str, BaseException]) -> Damaged | None:
    """The chunk that turned out not to be whole, if that is what went wrong."""
    return next((error for error in errors.values() if isinstance(error, Damaged)), None)


def _stream(video: Video, order: Order, labels: Labels, sink: Labelled) -> Stream:
    drawing = order.overlay is not None
    source: Source = Unopened(video, order.class_names)
    if labels.saves or drawing:
        source = Picked(Run(video.name, video.path, video.cut.uncut(), 0, 1), order.looked_at)
    follows = order.follows(video.cut)
    return Stream(
        video.name,
        source,
        tracker=plugins.build("trackers", "mask_iou", {"min_score": order.min_score}) if follows else None,
        effects=[plugins.build("effects", name) for name in ("overlay", "labels")] if drawing else [],
        sinks=[*([_overlay(video, order.overlay)] if order.overlay else []), sink],
        classes=order.classes or None,
    )


def _overlay(video: Video, folder: Path) -> Any:
    return plugins.build("sinks", "video_file", {"path": folder / f"{video.name}{DRAWN}.mp4", "overwrite": True})


def _describing(video: Video, order: Order) -> Any:
    def describe(info: StreamInfo) -> LabelledVideo:
        width, height = fitted(info.width, info.height, order.size)
        return LabelledVideo(
            video.name,
            video.path,
            width,
            height,
            video.num_frames,
            video.cut.rate,
            video.cut.constant_rate,
            (info.width, info.height),
        )

    return describe
