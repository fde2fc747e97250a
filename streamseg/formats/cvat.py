"""Tracks of polygons in CVAT's XML for video 1.1, a file NAME.xml a video; or exact masks of single frames.

    P points of a polygon

CVAT draws a track in every frame: between two written polygons it moves each point on evenly, behind the last one it
stays, until a shape that is `outside`. So the first labelled frame without the object has one, and a frame is left out
only where moving the points makes the same polygon.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree
from xml.sax import saxutils

import numpy as np

from streamseg import outlines
from streamseg.formats._classes import check_classes
from streamseg.formats._part_text import PartText, TextPerVideo
from streamseg.formats._spool import TrackSpool, tracked
from streamseg.labels import EMPTY, Label, LabelledFrame, LabelledVideo
from streamseg.types import InputError, UsageError
from streamseg.words import known_and_nearest

_SAME = 0.005
"""Pixels within which two polygons are the same: the file has two decimals."""

_SIDES = ("xtl", "ytl", "xbr", "ybr")

_LONGEST = 64
"""Frames that may be left out in a row."""


_NUMBERING, _OF_PICTURES = "numbering", "pictures"
"""An element of ours, for whoever reads the file here again; CVAT passes over it."""

_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML has not, however they are written."""


def _text(name: str) -> str:
    return saxutils.escape(_NO_XML.sub("\ufffd", name))


def _attribute(name: str) -> str:
    return saxutils.quoteattr(_NO_XML.sub("\ufffd", name))


class Cvat:
    """What CVAT's "Upload annotations" takes as "CVAT 1.1".

    tolerance: pixels by which a polygon may stray from the border of its mask, as `outlines.polygons` has it, and a
    point that is moved on from its place; None: the former as little as is reasonable, the latter not at all · frames:
    of the task for which this is, the "video" or its saved "pictures", which count from 0 however many frames lie
    between; None: the video, or the pictures where the labels were scaled as they are and the video is not · masks:
    "polygon", or "rle" for exact masks, each in its frame alone, because CVAT keeps of a track of masks only the first
    """

    wants_pictures = False
    tracks_only = True

    def __init__(
        self,
        *,
        tolerance: float | None = None,
        masks: Literal["polygon", "rle"] = "polygon",
        frames: Literal["video", "pictures"] | None = None,
    ) -> None:
        if tolerance is not None and not 0 <= tolerance < math.inf:
            raise UsageError(f"tolerance: expected pixels from 0 up, got {tolerance:g}")
        self._tolerance = tolerance
        self._frames = frames
        self._counted: int | None = None  # pictures of a video so far, where those are counted
        self.tracks_only = masks == "polygon"
        self._left_out: Counter[str] = Counter()
        self._shapes: _Tracks | _Masks | None = None

    def open(self, folder: Path, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._files = TextPerVideo(folder, ending=".xml")

    def begin(self, video: LabelledVideo) -> None:
        file = self._files.begin(video.name)
        kind = "polygon" if self.tracks_only else "mask"
        of_pictures = self._frames == "pictures" or (
            self._frames is None and (video.width, video.height) != video.original_size
        )
        self._counted = 0 if of_pictures else None
        if of_pictures:
            video = replace(video, num_frames=None)  # nobody knows yet how many pictures there will be
        file.write(_head(video, self._class_names, kind=kind, of_pictures=of_pictures))
        if self.tracks_only:
            self._shapes = _Tracks(file, video, self._left_out, self._tolerance)
        else:
            self._shapes = _Masks(file, video, self._left_out)

    def write(self, frame: LabelledFrame) -> None:
        assert self._shapes is not None, "begin(video) comes before the first write"
        check_classes(frame, self._class_names)
        number = frame.index
        if self._counted is not None:
            number, self._counted = self._counted, self._counted + 1
        self._shapes.write(frame, number)

    def end(self) -> None:
        assert self._shapes is not None, "begin(video) comes before the end"
        self._shapes.end()
        self._shapes = None
        self._files.write("</annotations>\n")
        self._files.end()

    def close(self) -> Mapping[str, int]:
        self._files.finish()
        return dict(self._left_out)

    def discard(self) -> None:
        if isinstance(self._shapes, _Tracks):
            self._shapes.spool.close()
        self._files.discard()


def _head(video: LabelledVideo, class_names: Sequence[str], *, kind: str, of_pictures: bool) -> str:
    """All that stands before the shapes. The size is that of the labels: shapes are in its pixels."""
    labels = "".join(
        f"<label><name>{_text(name)}</name><type>{kind}</type><attributes></attributes></label>\n"
        for name in class_names
    )
    frames = video.num_frames
    length = "" if frames is None else f"<size>{frames}</size>\n<start_frame>0</start_frame>\n"
    last = "" if frames is None else f"<stop_frame>{frames - 1}</stop_frame>\n"
    numbering = f"<{_NUMBERING}>{_OF_PICTURES}</{_NUMBERING}>\n" if of_pictures else ""
    source = video.path.name if video.path is not None else video.name
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta>\n<task>\n'
        f"<name>{_text(video.name)}</name>\n{length}{last}{numbering}"
        f"<mode>{'interpolation' if kind == 'polygon' else 'annotation'}</mode>\n"
        f"<labels>\n{labels}</labels>\n"
        f"<original_size>\n<width>{video.width}</width>\n<height>{video.height}</height>\n</original_size>\n"
        f"<source>{_text(source)}</source>\n</task>\n</meta>\n"
    )


@dataclass
class _Run:
    """A track while it is in the picture.

    written: frame and points (P, 2) of its last polygon in the file · waiting: those since then, oldest first
    """

    written: tuple[int, np.ndarray]
    waiting: list[tuple[int, np.ndarray]] = field(default_factory=list)


class _Tracks:
    """Polygons of tracks on their way into the file of a video, a track after the other."""

    def __init__(self, file: PartText, video: LabelledVideo, left_out: Counter[str], tolerance: float | None) -> None:
        self.spool = TrackSpool()
        self._file, self._left_out, self._tolerance = file, left_out, tolerance
        self._num_frames = video.num_frames
        self._running: dict[int, _Run] = {}
        self._last: int | None = None
        self._step = 1

    def write(self, frame: LabelledFrame, index: int) -> None:
        if self._last is not None:
            self._step = index - self._last
        self._last = index
        gone = set(self._running)
        for label in tracked(frame, self._left_out):
            points = np.array(outlines.polygon(label.mask, tolerance=self._tolerance)).reshape(-1, 2)
            if not len(points):
                self._left_out[EMPTY] += 1
                continue
            number = self.spool.number(label)
            gone.discard(number)
            self._go_on(number, index, points)
        for number in sorted(gone):
            self._stop(number, outside=index)

    def end(self) -> None:
        """The file's tracks. Where the video goes on beyond the last frame that was looked at, they do not."""
        following = (self._last or 0) + self._step
        beyond = following if self._num_frames is not None and following < self._num_frames else None
        for number in sorted(self._running):
            self._stop(number, outside=beyond)
        for track in self.spool.tracks():
            self._file.write(f'<track id="{track.number}" label={_attribute(track.class_name)} source="auto">\n')
            for _, text in self.spool.texts(track.number):
                self._file.write(text)
            self._file.write("</track>\n")
        self.spool.close()

    def _go_on(self, number: int, index: int, points: np.ndarray) -> None:
        """A polygon of a track: what waits is written where moving on to this one would not make it again."""
        run = self._running.get(number)
        if run is None:
            self._running[number] = _Run((index, points))
            self._write(number, index, points)
            return
        if len(run.waiting) == _LONGEST or not self._made_again(run, (index, points)):
            run.written, run.waiting = run.waiting[-1], []
            self._write(number, *run.written)
        run.waiting.append((index, points))

    def _stop(self, number: int, *, outside: int | None) -> None:
        run = self._running.pop(number)
        last = run.waiting[-1] if run.waiting else run.written
        if run.waiting:
            self._write(number, *last)
        if outside is not None:
            self._write(number, outside, last[1], outside=True)

    def _made_again(self, run: _Run, to: tuple[int, np.ndarray]) -> bool:
        """Whether moving the points of what is written on to another polygon passes through all that waits."""
        if not run.waiting:
            return True
        (begin, first), (end, last) = run.written, to
        if len(first) != len(last):
            return False
        side = float(np.ptp(last, axis=0).max())
        pixels = _SAME if self._tolerance is None else max(outlines.shrunk(self._tolerance, side=side), _SAME)
        for index, points in run.waiting:
            moved = first + (last - first) * ((index - begin) / (end - begin))
            if len(points) != len(moved) or np.abs(points - moved).max() > pixels:
                return False
        return _matches(first, last)

    def _write(self, number: int, index: int, points: np.ndarray, *, outside: bool = False) -> None:
        text = ";".join(f"{x:g},{y:g}" for x, y in points.tolist())
        self.spool.add(
            number,
            frame=index,
            text=f'<polygon frame="{index}" keyframe="1" outside="{int(outside)}" occluded="0" points="{text}" '
            'z_order="0"></polygon>\n',
        )


def _matches(points: np.ndarray, others: np.ndarray) -> bool:
    """Whether CVAT moves each point (P, 2) of one polygon to the point of the same number in another.

    It goes to the one that is nearest in its share of the way around.
    """
    apart = np.abs(_shares(points)[:, None] - _shares(others))
    return bool((apart.argmin(axis=1) == np.arange(len(apart))).all())


def _shares(points: np.ndarray) -> np.ndarray:
    """How far around a polygon (P, 2) each of its points is, and the first one once more: (P + 1,) from 0 to 1."""
    steps = np.hypot(*(np.roll(points, -1, axis=0) - points).T)
    shares: np.ndarray = np.concatenate([[0], np.cumsum(steps)]) / max(steps.sum(), 1e-9)
    return shares


class _Masks:
    """Exact masks on their way into the file of a video, a frame after the other."""

    def __init__(self, file: PartText, video: LabelledVideo, left_out: Counter[str]) -> None:
        self._file, self._video, self._left_out = file, video, left_out

    def write(self, frame: LabelledFrame, index: int) -> None:
        name = frame.picture or f"frame_{frame.index:06d}"
        shapes = [self._shape(label) for label in frame.labels]
        self._file.write(
            f'<image id="{index}" name={_attribute(name)} width="{self._video.width}" '
            f'height="{self._video.height}">\n{"".join(shapes)}</image>\n'
        )

    def _shape(self, label: Label) -> str:
        left, top, inside = outlines.decoded_patch(label.mask)
        if not inside.size:
            self._left_out[EMPTY] += 1
            return ""
        lengths = ", ".join(map(str, outlines.row_lengths(inside).tolist()))
        return (
            f'<mask label={_attribute(label.class_name)} source="auto" occluded="0" rle="{lengths}" left="{left}" '
            f'top="{top}" width="{inside.shape[1]}" height="{inside.shape[0]}" z_order="0"></mask>\n'
        )

    def end(self) -> None:
        pass


@dataclass(frozen=True)
class Shape:
    """One object in one frame of a file of CVAT's.

    name: of the picture where the file lists some, "" otherwise · box: xyxy in pixels · segmentation: polygons or run
    lengths, None where only the box is known · track: None for an object of one frame · keyframe: somebody set it
    there; it does not only lie between two that somebody set
    """

    frame: int
    name: str
    class_name: str
    box: tuple[float, float, float, float]
    segmentation: Any
    track: int | None
    keyframe: bool = True


@dataclass(frozen=True)
class Annotations:
    """A file of CVAT's.

    class_names: in the order of the file · size: (width, height) of the pictures, where it tells one for all · images:
    those of the pictures that it lists, by their names, None where it does not tell · num_frames: of the task, where it
    tells · of_pictures: frames are certainly counted in saved pictures, not in those of the video · left_out: what is
    no outline, by reason
    """

    class_names: tuple[str, ...]
    size: tuple[int, int] | None
    images: Mapping[str, tuple[int, int] | None]
    num_frames: int | None
    of_pictures: bool
    shapes: tuple[Shape, ...]
    left_out: Mapping[str, int]


def load(path: Path) -> Annotations:
    """What a file says that CVAT exported as "CVAT for video 1.1" or "CVAT for images 1.1", or that `Cvat` wrote.

    Tracks are in every frame from one shape to the next as CVAT draws them, where the points of both answer each other;
    where they do not, the earlier shape stays, which CVAT's own exports never need. Raises InputError.
    """
    try:
        return _Reader(path).read()
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: not valid XML ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, ValueError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: not as CVAT's files are: {said}") from error


class _Reader:
    """One pass over a file, of which never more than one track or picture is in memory as XML."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._class_names: dict[str, None] = {}
        self._told = False  # whether the file lists its labels
        self._size: tuple[int, int] | None = None
        self._images: dict[str, tuple[int, int] | None] = {}
        self._num_frames: int | None = None
        self._of_pictures = False
        self._task: str | None = None  # to which the tracks belong, in the file of a project
        self._shapes: list[Shape] = []
        self._left_out: Counter[str] = Counter()

    def read(self) -> Annotations:
        depth, take = 0, {"meta": self._meta, "track": self._track, "image": self._image}
        with open(self._path, "rb") as file:
            for event, element in ElementTree.iterparse(file, events=("start", "end")):
                depth += 1 if event == "start" else -1
                if event == "start" and depth == 1 and element.tag != "annotations":
                    raise ValueError(f"expected <annotations> at the top, got <{element.tag}>")
                if event == "end" and depth == 1 and element.tag in take:
                    take[element.tag](element)
                    element.clear()
        return Annotations(
            tuple(self._class_names),
            self._size,
            self._images,
            self._num_frames,
            self._of_pictures,
            tuple(self._shapes),
            dict(self._left_out),
        )

    def _meta(self, element: ElementTree.Element) -> None:
        for label in element.iter("label"):
            self._class_names[label.findtext("name") or ""] = None
        self._told = bool(self._class_names)
        size = next(element.iter("original_size"), None)
        if size is not None:
            self._size = int(size.findtext("width") or 0), int(size.findtext("height") or 0)
        if not element.findtext(".//frame_filter"):  # else its frames keep the numbers of the video
            length = element.findtext(".//size") or ""
            self._num_frames = int(length) if length.isdecimal() else None
        self._of_pictures = element.findtext(f".//{_NUMBERING}") == _OF_PICTURES

    def _track(self, element: ElementTree.Element) -> None:
        class_name, number = self._class_name(element), int(element.get("id") or 0)
        task = element.get("task_id")
        if self._task not in (None, task):
            raise ValueError(f"tracks of the tasks {self._task} and {task}; expected those of one, exported by itself")
        self._task = task
        before: tuple[Shape, bool] | None = None
        for each in element:
            frame, outside = int(each.attrib["frame"]), each.get("outside") == "1"
            shape = self._shape(each, class_name=class_name, frame=frame, track=number)
            if before is not None and not before[1]:
                self._shapes += _between(before[0], frame, shape)
            if shape is None:
                before = None
                continue
            if not outside:
                self._shapes.append(shape)
            before = shape, outside

    def _image(self, element: ElementTree.Element) -> None:
        frame = int(element.attrib["id"])
        name = element.get("name") or f"frame_{frame:06d}"
        size = (int(element.attrib["width"]), int(element.attrib["height"])) if "width" in element.attrib else None
        self._images[name] = size
        for each in element:
            class_name = self._class_name(each)
            shape = self._shape(each, class_name=class_name, frame=frame, name=name, size=size)
            self._shapes += [] if shape is None else [shape]

    def _class_name(self, element: ElementTree.Element) -> str:
        name = element.attrib["label"]
        if self._told and name not in self._class_names:
            raise ValueError(f"label {name!r} is none of those it lists{known_and_nearest(name, self._class_names)}")
        self._class_names[name] = None
        return name

    def _shape(
        self,
        element: ElementTree.Element,
        *,
        class_name: str,
        frame: int,
        name: str = "",
        size: tuple[int, int] | None = None,
        track: int | None = None,
    ) -> Shape | None:
        """A shape, or None where it has no outline that we know; such are counted. size: of its picture, if known"""
        segmentation: Any = None
        if element.tag == "polygon":
            points = [float(number) for pair in element.attrib["points"].split(";") for number in pair.split(",")]
            if not outlines.is_polygon(points) or len(points) < outlines.SHORTEST:
                raise ValueError(f"frame {frame}: expected points x,y;x,y;x,y, got {element.attrib['points'][:60]!r}")
            box, segmentation = _box_around(points), [points]
        elif element.tag == "box":
            box = _turned([float(element.attrib[side]) for side in _SIDES], float(element.get("rotation") or 0))
        elif element.tag == "mask":
            segmentation = self._run_lengths(element, frame, size or self._size)
            box = _box_around(outlines.boxes([segmentation])[0].tolist())
        else:
            self._left_out[f"shapes of the kind {element.tag}"] += 1
            return None
        return Shape(frame, name, class_name, box, segmentation, track, element.get("keyframe", "1") == "1")

    def _run_lengths(self, element: ElementTree.Element, frame: int, size: tuple[int, int] | None) -> dict[str, Any]:
        if size is None:
            raise ValueError(f"frame {frame}: a mask, but the size of the pictures is missing")
        left, top, width, height = (int(element.attrib[key]) for key in ("left", "top", "width", "height"))
        lengths = np.array([int(number) for number in element.attrib["rle"].split(",")], np.int64)
        if lengths.min() < 0 or lengths.sum() != width * height:
            raise ValueError(f"frame {frame}: expected run lengths of {width}x{height} pixels, got {lengths.sum()}")
        if min(left, top) < 0 or left + width > size[0] or top + height > size[1]:
            raise ValueError(f"frame {frame}: a mask that leaves the picture of {size[0]}x{size[1]}")
        inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
        return outlines.encoded_patch(inside, left=left, top=top, width=size[0], height=size[1])


def _between(shape: Shape, end: int, other: Shape | None) -> Iterator[Shape]:
    """A track's shapes in the frames after `shape` and before the frame `end` of the next one in the file."""
    first, last = _points(shape), _points(other)
    moves = first is not None and last is not None and len(first) == len(last) and _matches(first, last)
    for frame in range(shape.frame + 1, end):
        if not moves or first is None or last is None:
            yield replace(shape, frame=frame, keyframe=False)
            continue
        points = (first + (last - first) * ((frame - shape.frame) / (end - shape.frame))).ravel().tolist()
        yield replace(shape, frame=frame, box=_box_around(points), segmentation=[points], keyframe=False)


def _points(shape: Shape | None) -> np.ndarray | None:
    """The points (P, 2) of a shape that is one polygon."""
    if shape is None or not isinstance(shape.segmentation, list):
        return None
    return np.reshape(shape.segmentation[0], (-1, 2))


def _turned(box: Sequence[float], degrees: float) -> tuple[float, float, float, float]:
    """The box around a box xyxy that is turned clockwise about its middle."""
    x1, y1, x2, y2 = box
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    x, y, width, height = (x1 + x2) / 2, (y1 + y2) / 2, abs(x2 - x1), abs(y2 - y1)
    across = (abs(width * cosine) + abs(height * sine)) / 2
    down = (abs(width * sine) + abs(height * cosine)) / 2
    return (x - across, y - down, x + across, y + down) if degrees else _box_around([x1, y1, x2, y2])


def _box_around(points: Sequence[float]) -> tuple[float, float, float, float]:
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])
