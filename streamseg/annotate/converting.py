"""Labels that were written as JSONL become those of another tool; every mask is copied as it stands there."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from streamseg.annotate.asking import check_names, formats_of
from streamseg.annotate.chunks import TOLERANCE, cut
from streamseg.annotate.request import ConvertRequest
from streamseg.annotate.selection import Selection
from streamseg.annotate.writing import label_of, save, seen
from streamseg.labels import Format, LabelledFrame, LabelledVideo
from streamseg.outlines import lengths
from streamseg.records import from_record
from streamseg.sources._decoding import near_rate
from streamseg.sources.video_file import VideoFile
from streamseg.types import InputError, UsageError
from streamseg.words import is_plain

NEAR = 1e-4
"""Share by which a rate that is told from times may be off; 30 and 30000/1001 are a thousandth apart."""


@dataclass(frozen=True)
class Converted:
    """What was written, and what the format left out."""

    frames: int
    objects: int
    left_out: Mapping[str, int]


@dataclass
class _Stream:
    """What the lines say of one stream as a whole."""

    name: str
    width: int
    height: int
    first: tuple[int, float]
    last: tuple[int, float]
    times: list[tuple[int, float]] = field(default_factory=list)


def convert(request: ConvertRequest) -> Converted:
    """Write the labels in the format; InputError with the line for what is none of ours."""
    if not request.labels:
        raise UsageError("expected the LABELS.jsonl to convert")
    if not request.output:
        raise UsageError("-o: expected the FOLDER for the files")
    if not request.format:
        raise UsageError("--format: expected the format to write")
    ((name, format),) = formats_of([request.format]).items()
    path, folder = Path(request.labels).expanduser(), Path(request.output).expanduser()
    video = None if request.video is None else Path(request.video).expanduser()
    if format.wants_pictures and video is None:
        raise UsageError(f"--format {name}: it is nothing without pictures; --video FILE is where they come from")
    described, classes = _described(path)
    if video is not None and len(described) > 1:
        raise UsageError(f"--video: the labels are of several videos ({', '.join(described)}), expected those of one")
    check_names([name], described)
    if name == "jsonl" and path.resolve() in [(folder / f"{each}.jsonl").resolve() for each in described]:
        raise UsageError(f"-o {folder}: {path} would be written over itself; choose another folder")
    format.open(folder, classes)
    try:
        frames, objects = _written(path, format, described, folder=folder, video=video)
        return Converted(frames, objects, format.close())
    except BaseException:
        format.discard()
        raise


def _written(
    path: Path, format: Format, described: Mapping[str, LabelledVideo], *, folder: Path, video: Path | None
) -> tuple[int, int]:
    """Give the format every line, video by video; how many frames and objects there were."""
    frames = objects = 0
    for name, described_video in described.items():
        with ExitStack() as opened:
            pictures = _Pictures(opened.enter_context(VideoFile(video))) if video is not None else None
            labelled = described_video if pictures is None else pictures.describe(described_video)
            format.begin(labelled)
            for record in _records(path):
                if record["stream"] != name:
                    continue
                saved = record.get("picture")
                if pictures is not None and format.wants_pictures:
                    saved = pictures.save(record, folder, labelled)
                labels = tuple(map(label_of, record["objects"]))
                format.write(LabelledFrame(record["index"], record["time"], labels, saved))
                frames, objects = frames + 1, objects + len(labels)
            format.end()
    return frames, objects


class _Pictures:
    """The pictures that the records are of, taken out of the video in their order."""

    def __init__(self, source: VideoFile) -> None:
        self._source, self._frames = source, iter(source)
        self._num_frames = cut(source.path, Selection(), seconds=math.inf).num_frames  # which is no estimate

    def describe(self, video: LabelledVideo) -> LabelledVideo:
        info = self._source.info
        size = (info.width, info.height)
        if abs(info.width * video.height - info.height * video.width) > max(size):  # labels may have been scaled down
            raise InputError(
                f"{info.path}: it has {info.width}x{info.height} pixels, "
                f"but the labels are of {video.width}x{video.height}"
            )
        return LabelledVideo(
            video.name,
            info.path,
            video.width,
            video.height,
            self._num_frames,
            info.average_rate if video.constant_rate else video.rate,
            video.constant_rate,
            size,
        )

    def save(self, record: Mapping[str, Any], folder: Path, video: LabelledVideo) -> str:
        name = f"{video.name}/frame_{record['index']:06d}.jpg"
        for frame in self._frames:
            if frame.index == record["index"]:
                if seen(frame)[1] != record["time"]:
                    break
                save(frame.picture, folder / name, width=video.width, height=video.height)
                return name
        raise InputError(f"{video.path}: its frame {record['index']} is not the one that the labels are of")


def _described(path: Path) -> tuple[dict[str, LabelledVideo], list[str]]:
    """The videos that the lines are of, and the classes, both in the order in which they appear."""
    streams: dict[str, _Stream] = {}
    classes: dict[str, None] = {}
    for record in _records(path):
        classes |= dict.fromkeys(item["class"] for item in record["objects"])
        now = (record["index"], record["time"])
        stream = streams.get(record["stream"])
        if stream is None:
            stream = streams[record["stream"]] = _Stream(
                record["stream"], record["width"], record["height"], first=now, last=now
            )
        elif now[0] <= stream.last[0]:
            raise InputError(f"{path}: frame {now[0]} of {stream.name} stands behind frame {stream.last[0]}")
        elif now[1] < stream.last[1]:
            raise InputError(
                f"{path}: frame {now[0]} of {stream.name} is at {now[1]} s, before the one at {stream.last[1]} s"
            )
        elif (record["width"], record["height"]) != (stream.width, stream.height):
            raise InputError(
                f"{path}: frame {now[0]} of {stream.name} has {record['width']}x{record['height']} pixels, "
                f"those before {stream.width}x{stream.height}"
            )
        stream.last = now
        stream.times.append(now)
    if not streams:
        raise InputError(f"{path}: there are no labels in it")
    return {name: _video(stream) for name, stream in streams.items()}, list(classes)


def _video(stream: _Stream) -> LabelledVideo:
    frames = stream.last[0] - stream.first[0]
    seconds = stream.last[1] - stream.first[1]
    rate = _rate(frames / seconds) if frames and seconds > 0 else Fraction(25)
    index, time = stream.first
    constant = all(abs(at - time - (number - index) / rate) <= TOLERANCE for number, at in stream.times)
    size = (stream.width, stream.height)
    return LabelledVideo(stream.name, None, *size, None, rate, constant, size)


def _rate(measured: float) -> Fraction:
    """The rate that was meant: a whole number or one of television's, such as 30000/1001, if one is near enough."""
    usual = (Fraction(round(measured)), Fraction(round(measured * 1.001) * 1000, 1001))
    nearest = min(usual, key=lambda rate: abs(rate - measured))
    return nearest if abs(nearest - measured) < NEAR * measured else near_rate(measured)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Every line, checked; InputError names the one that is wrong."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _record(line, f"{path}, line {number}")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error


def _record(line: bytes, where: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
        for name, (words, is_right) in FIELDS.items():
            if not is_right(record[name]):
                raise ValueError(f"{name}: expected {words}, got {str(record[name])[:60]!r}")
        if not _is_below(record["stream"]):
            raise ValueError(f"stream: expected a name that a file can have, got {record['stream']!r}")
        if not isinstance(record.get("picture", ""), str):
            raise ValueError(f"picture: expected the name of a file, got {record['picture']!r}")
        for item in record["objects"]:
            if list(item["mask"]["size"]) != [record["height"], record["width"]]:
                raise ValueError(f"mask: expected the size of the picture, got {item['mask']['size']}")
            if not isinstance(item["mask"]["counts"], str):
                raise ValueError("mask: expected COCO's compressed run lengths, a text")
            lengths(item["mask"])
            if not item["class"] or not is_plain(item["class"]) or not 0 <= item["score"] <= 1:
                raise ValueError(f"expected a class and a score from 0 to 1, got {item['class']!r}, {item['score']!r}")
            x1, y1, x2, y2 = item["box"]
            if x2 < x1 or y2 < y1:
                raise ValueError(f"box: expected [x1, y1, x2, y2] with x1 ≤ x2 and y1 ≤ y2, got {item['box']}")
        from_record(record, ["background", *dict.fromkeys(item["class"] for item in record["objects"])])
    except KeyError as error:
        raise InputError(f"{where}: {error} is missing") from error
    except RecursionError:
        raise InputError(f"{where}: expected a record of `run` or `annotate`, got lists within lists") from None
    except (ValueError, TypeError, AttributeError, InputError) as error:
        raise InputError(f"{where}: expected a record of `run` or `annotate` ({error})") from error
    return record


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < 2**31


FIELDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "stream": ("a text", lambda value: isinstance(value, str)),
    "index": ("a whole number from 0 up", partial(_is_whole, least=0)),
    "time": ("seconds", lambda value: type(value) in (int, float) and math.isfinite(value)),
    "width": ("pixels", partial(_is_whole, least=1)),
    "height": ("pixels", partial(_is_whole, least=1)),
    "objects": ("a list", lambda value: isinstance(value, list)),
}
"""What a record has at least, in words and as a check."""


def _is_below(name: str) -> bool:
    """Whether files that are called so lie in the folder that they are written into."""
    path = PurePosixPath(name)
    return str(path) == name != "." and not path.is_absolute() and ".." not in path.parts and "\0" not in name
