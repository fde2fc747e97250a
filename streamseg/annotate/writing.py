"""Results become labels, in the size and form that was asked for, and go to every format; pictures beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation

from streamseg.annotate.selection import Selection, Sieve
from streamseg.labels import Format, Label, LabelledFrame, LabelledVideo
from streamseg.records import to_record
from streamseg.scaling import matrix_of
from streamseg.types import Frame, OutputError, Result, StreamInfo, UsageError

QUALITY = 95
"""Of saved pictures: what is trained on should not show what JPEG leaves out."""


@dataclass
class Written:
    """What was written of one video. refused: why a format could not take it, by the format's name"""

    frames: int = 0
    objects: int = 0
    tracks: set[int] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)


class Labels:
    """All formats of a job, open in one folder. saves: whether pictures are saved."""

    def __init__(
        self, folder: Path, formats: Mapping[str, Format], class_names: Sequence[str], *, pictures: bool
    ) -> None:
        self.folder, self.formats = folder, formats
        self.saves = pictures or any(format.wants_pictures for format in formats.values())
        self._class_names = tuple(class_names)

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            for format in self.formats.values():
                format.open(self.folder, self._class_names)
                opened.callback(format.discard)
            opened.pop_all()
        return self

    def discard(self) -> None:
        """Remove what was written."""
        for format in self.formats.values():
            format.discard()

    def close(self) -> dict[str, Mapping[str, int]]:
        """Complete every format; what each has left out."""
        return {name: format.close() for name, format in self.formats.items()}

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None:
        if exc_type is not None:
            self.discard()


class Labelled:
    """Writes one video's labels, as a Sink. written: what became of it."""

    path: Path | None = None

    def __init__(
        self, labels: Labels, describe: Callable[[StreamInfo], LabelledVideo], *, selection: Selection
    ) -> None:
        self.notes: list[str] = []
        self.written = Written()
        self._labels, self._describe = labels, describe
        self._sieve: Sieve[_Held] = Sieve(selection)
        self._taking: list[Format] = []
        self._video: LabelledVideo | None = None

    def __enter__(self) -> Self:
        return self

    def start(self, info: StreamInfo) -> None:
        self._video = self._describe(info)
        for name, format in self._labels.formats.items():
            try:
                format.begin(self._video)
            except UsageError as error:
                self.written.refused[name] = str(error)
            else:
                self._taking.append(format)

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        for held in self._sieve.push(_Held(result)):
            self._put(held.result)

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None:
        if exc_type is None:
            for held in self._sieve.flush():
                self._put(held.result)
            for format in self._taking:
                format.end()

    def _put(self, result: Result) -> None:
        assert self._video is not None
        name = None
        if self._labels.saves:
            name = f"{self._video.name}/frame_{result.frame.index:06d}.jpg"
            save(result.frame.picture, self._labels.folder / name, width=self._video.width, height=self._video.height)
        labels = labels_of(result, width=self._video.width, height=self._video.height)
        self.written.frames += 1
        self.written.objects += len(labels)
        self.written.tracks |= {label.track for label in labels if label.track >= 0}
        frame = LabelledFrame(result.frame.index, result.frame.time, labels, name)
        for format in self._taking:
            format.write(frame)


@dataclass(frozen=True)
class _Held:
    """A result that the sieve judges by its frame."""

    result: Result

    @property
    def index(self) -> int:
        return self.result.frame.index

    @property
    def time(self) -> float:
        return self.result.frame.time


def labels_of(result: Result, *, width: int, height: int) -> tuple[Label, ...]:
    """The objects of a result as labels of pictures of width × height."""
    frame = result.frame
    if (frame.width, frame.height) != (width, height):
        scale = np.array([width / frame.width, height / frame.height] * 2, np.float32)
        instances = replace(result.instances, boxes=result.instances.boxes * scale)
        result = Result(replace(frame, picture=blank(width, height)), instances)
    return tuple(map(label_of, to_record(result, crops=False)["objects"]))


def label_of(item: Mapping[str, Any]) -> Label:
    """An object of a record as a label, its mask as it stands there."""
    track, box = item.get("track"), item["box"]
    return Label(
        -1 if track is None else track, item["class"], item["score"], (box[0], box[1], box[2], box[3]), item["mask"]
    )


def fitted(width: int, height: int, into: tuple[int, int] | None) -> tuple[int, int]:
    """The size of a picture that is fitted into another size, its shape kept; never larger than it is."""
    if into is None:
        return width, height
    scale = min(1.0, into[0] / width, into[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def blank(width: int, height: int) -> av.VideoFrame:
    """A picture of that size, whatever is in it, for where no picture is looked at."""
    return av.VideoFrame(width, height, "gray")


def save(picture: av.VideoFrame, path: Path, *, width: int, height: int) -> None:
    """Save a picture as a JPEG of that size, which has its name only once it is whole."""
    scaled = picture.reformat(
        width, height, "bgr24", src_colorspace=matrix_of(picture), interpolation=Interpolation.AREA
    )
    coded, values = cv2.imencode(".jpg", scaled.to_ndarray(), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not coded:
        raise OutputError(f"{path}: a picture of {width}×{height} cannot be a jpg")
    part = path.with_suffix(".part.jpg")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(values.tobytes())
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from error


def seen(frame: Frame) -> tuple[int, float]:
    """The number and the time by which a frame is found again in a record."""
    return frame.index, round(frame.time, 6)
