"""The nouns of streamseg: what flows through a pipeline, and what each room of it must be able to do."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol, Self, runtime_checkable

import av
import numpy as np

from streamseg.scaling import rgb_of


class StreamsegError(Exception):
    """Every error that streamseg raises on purpose.

    StreamsegError
    ├── UsageError    a wrong option, name or configuration, found before the first frame (exit code 2)
    ├── InputError    a source that cannot be read (exit code 1)
    ├── OutputError   a sink that cannot be written: no permission, disk full, file exists (exit code 1)
    └── ModelError    weights that are missing, corrupt or of another model (exit code 1)
    """

    exit_code = 1


class UsageError(StreamsegError):
    exit_code = 2


class InputError(StreamsegError):
    pass


class OutputError(StreamsegError):
    pass


class ModelError(StreamsegError):
    pass


@dataclass(frozen=True)
class Frame:
    """One picture of a stream and when it is to be shown.

    picture      in its own pixel format with its colour tags and pts; upright; never drawn on
    index        position in the decoded stream, from 0 (frames that --start or --stride leave out are counted)
    time         seconds from the stream's first pts
    captured_at  `time.monotonic()` when it was decoded
    stream       the name of its stream
    pixel_aspect width of a pixel over its height, 1 for square pixels
    damaged      decoded from damaged data, or since then and before the next keyframe: shown as such, not looked at
    sight        what was kept of a picture that is not there any more; `picture` is blank then, and of its size
    """

    picture: av.VideoFrame
    index: int
    time: float
    captured_at: float
    stream: str
    pixel_aspect: float = 1.0
    damaged: bool = False
    sight: Sight | None = None

    @property
    def width(self) -> int:
        return self.picture.width

    @property
    def height(self) -> int:
        return self.picture.height

    def rgb(self, width: int, height: int) -> np.ndarray:
        """The picture as (height, width, 3) uint8 RGB, scaled from its planes."""
        return rgb_of(self.picture, width=width, height=height)


@dataclass(frozen=True)
class Sight:
    """All that was found in a picture, and what a tracker sees of it.

    thumbnail (18, 32) float64: its grey levels, 0 to 255 · looks (N, 72) float32: how each of the instances looks
    """

    instances: Instances
    thumbnail: np.ndarray
    looks: np.ndarray


@dataclass(frozen=True)
class Instances:
    """The objects found in one picture; indexable like an array.

    boxes (N, 4) float32 xyxy in pixels of the picture · masks (N, M, M) float32 in [0, 1], each spanning its box ·
    scores (N,) float32 · class_ids (N,) int32, 0 (background) never occurs · track_ids (N,) int32, -1 before a track
    is confirmed · class_names: name of every class id, "background" first.

    Raises ValueError when the arrays do not fit each other.
    """

    boxes: np.ndarray
    masks: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    track_ids: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.boxes)
        expected: dict[str, tuple[tuple[int | None, ...], str]] = {
            "boxes": ((n, 4), "float32"),
            "masks": ((n, None, None), "float32"),
            "scores": ((n,), "float32"),
            "class_ids": ((n,), "int32"),
            "track_ids": ((n,), "int32"),
        }
        for name, (shape, dtype) in expected.items():
            array = np.asarray(getattr(self, name))
            fits = array.ndim == len(shape) and all(
                want is None or want == got for want, got in zip(shape, array.shape, strict=True)
            )
            if not fits:
                raise ValueError(f"Instances.{name}: expected shape {shape}, got {array.shape}")
            object.__setattr__(self, name, array.astype(dtype, copy=False))
        if n and (self.class_ids.min() < 1 or self.class_ids.max() >= len(self.class_names)):
            raise ValueError(
                f"Instances.class_ids: expected 1 to {len(self.class_names) - 1}, "
                f"got {self.class_ids.min()} to {self.class_ids.max()}"
            )

    @classmethod
    def empty(cls, class_names: Sequence[str], *, mask_size: int = 28) -> Self:
        """No object at all."""
        return cls(
            boxes=np.zeros((0, 4), np.float32),
            masks=np.zeros((0, mask_size, mask_size), np.float32),
            scores=np.zeros(0, np.float32),
            class_ids=np.zeros(0, np.int32),
            track_ids=np.zeros(0, np.int32),
            class_names=tuple(class_names),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Self:
        """The chosen objects: by a boolean mask (N,), an integer array, a slice or one integer."""
        if isinstance(index, (int, np.integer)):
            index = np.array([index])
        return replace(
            self,
            boxes=self.boxes[index],
            masks=self.masks[index],
            scores=self.scores[index],
            class_ids=self.class_ids[index],
            track_ids=self.track_ids[index],
        )

    def of(self, *names: str) -> Self:
        """The objects of the named classes; no name means all. A name the model does not know matches nothing."""
        if not names:
            return self
        ids = [i for i, name in enumerate(self.class_names) if name in names and i > 0]
        return self[np.isin(self.class_ids, ids)]

    @property
    def names(self) -> list[str]:
        """The class name of every object, length N."""
        return [self.class_names[i] for i in self.class_ids]


State = Mapping[str, Any]
"""What a tracker or counter knows, as plain data: dicts with texts for keys, lists, texts, numbers, booleans, None."""

Totals = Mapping[str, Any]
"""Running totals of the counters by kind, as in the run summary: {"objects": {class: n}, "lines": …, "zones": …}.

A counter names its own kind as it likes; what stands under it is a mapping of texts, numbers, lists and mappings.
"""


@dataclass(frozen=True)
class Result:
    """What is known and drawn of one frame.

    counts  running totals of all counters by kind (`objects`, `lines`, `zones`, whatever an outside one counts) ·
    events: what is new with this frame, of all counters; both reach every effect and sink, the summary and the records
    whole · picture: the drawn picture with the source's size, format, pts and tags, or None when nothing draws ·
    tracked: somebody follows the objects, so that those that count have tracks
    """

    frame: Frame
    instances: Instances
    counts: Totals = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] = ()
    picture: av.VideoFrame | None = None
    tracked: bool = False

    @property
    def in_sight(self) -> dict[str, int]:
        """How many objects of each class are in the picture: confirmed tracks, or all objects where nothing tracks."""
        ids = self.instances.track_ids
        tracked = self.tracked or "objects" in self.counts or bool((ids >= 0).any())
        return dict(Tally(self.instances[ids >= 0].names if tracked else self.instances.names))


@dataclass(frozen=True)
class StreamInfo:
    """What a sink may want to know of the stream before its first frame; everything after rotation.

    path: the file it came from, None for none · width, height in pixels · time_base of the pictures' pts ·
    average_rate in frames per second · num_frames: expected number of frames to come, None if unknown ·
    pixel_aspect: width of a pixel over its height · start, end: the kept part in seconds of the source's time (end
    None: to the end) · metadata, chapters: of the container (`av`'s own form) · live
    """

    name: str
    width: int
    height: int
    time_base: Fraction
    average_rate: Fraction
    path: Path | None = None
    num_frames: int | None = None
    pixel_aspect: Fraction = Fraction(1)
    start: float = 0.0
    end: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Mapping[str, Any], ...] = ()
    live: bool = False


StateName = Literal["connecting", "live", "stalled", "lost", "refused"]


RUNNING = ("live", "running")
"""States of a stream in which pictures come: of a live source, and of a file."""


@dataclass(frozen=True)
class SourceState:
    """How a live source is doing.

    cause: why, in words and without credentials, "" where it is live · since: `time.monotonic()` of the change
    """

    name: StateName
    cause: str = ""
    since: float = field(default_factory=time.monotonic)


@runtime_checkable
class Source(Protocol):
    """A context manager that yields the frames of one stream; a wrong input raises InputError when it is entered.

    `info` holds once entered. `warnings` maps what went wrong on the way ("damaged packets skipped") to how often;
    `drops` the frames that were lost, by cause. One whose class says `live` is a `LiveSource`.
    """

    info: StreamInfo
    warnings: Mapping[str, int]

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def __iter__(self) -> Iterator[Frame]: ...


@runtime_checkable
class LiveSource(Source, Protocol):
    """A source that goes on for ever: what it loses comes back, and an absent camera is a state, no error.

    `info` holds when the first frame is out. `on_state` is set by the flow before it enters, and called with each
    new `state`, in the reading thread or another, one at a time. `interrupt()`, from any thread, lets the iteration end
    soon.
    """

    live: bool
    state: SourceState
    on_state: Callable[[SourceState], None] | None

    def interrupt(self) -> None: ...


@runtime_checkable
class Engine(Protocol):
    """Finds the objects of pictures. Returns detections from score 0.05 up, at most 100 a picture, best first.

    min_score: what the model recommends for a firm detection · batch_size: the most frames of one call ·
    input_size(frame): (width, height) of the network input that the frame goes to; one call takes frames of one size.
    """

    class_names: tuple[str, ...]
    min_score: float
    batch_size: int

    def input_size(self, frame: Frame) -> tuple[int, int]: ...
    def predict(self, frames: Sequence[Frame]) -> list[Instances]: ...


@runtime_checkable
class Tracker(Protocol):
    """Gives the objects of one stream their identities, frame after frame.

    `update(frame, instances)` is called for every frame in turn and returns the objects to draw and to count.
    `instances` is None where the engine passed over the frame: then what is known is carried over it, boxes moved to
    where they are expected, under the same ids; that the engine did not look is no miss, and nothing ends by it sooner
    than its time. Before the engine's first look there are no objects, and no class name but "background".

    `restore(state)` goes on from what another one of its kind gave as `state()`: what follows is the same as if that
    one had gone on. The state holds no options, only what the frames taught. One of another kind or version raises
    UsageError, naming both, and changes nothing.
    """

    def update(self, frame: Frame, instances: Instances | None) -> Instances: ...
    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


@runtime_checkable
class Counter(Protocol):
    """Counts what was tracked in one stream; holds numbers and draws nothing.

    `update(result)` is called for every frame in turn, also for those that the engine passed over, whose objects the
    tracker carried; it returns the running totals and what is new with this frame. `totals()` are those of the last
    `update`. `state()` and `restore(state)` as a tracker's. One that remembers tracks may have `new_run()`, which is
    called after a `restore` in another run: there the ids of tracks mean others, and time begins anew.
    """

    def update(self, result: Result) -> tuple[Totals, tuple[Mapping[str, Any], ...]]: ...
    def totals(self) -> Totals: ...
    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


@runtime_checkable
class Effect(Protocol):
    """Draws one thing on the canvas of a frame.

    One that covers what nobody may see says so by `hides = True`: a damaged picture, on which nothing is detected, is
    then not shown. Each stream has effects of its own.
    """

    def draw(self, canvas: Any, result: Result) -> None: ...


@runtime_checkable
class Sink(Protocol):
    """Takes the results of one stream.

    `start(info)` is called once after entering and before the first `write`. `write(picture, result)` takes the
    drawn picture. Leaving without an exception completes the output under its final name; leaving with one closes
    what there is under the part name, playable where possible. `notes`: what the user should know at the end (a
    converted format, a repeated row).

    It has a `path`, where the output is now: the part name, then the final name; or an `address`, without credentials.
    That of a live stream works in a thread of its own. It may be entered again after an error, may have a
    `resized(info)` for pictures of a new size, else they are scaled to the first, and an `interrupt()`, which lets a
    write that waits for somebody else end.
    """

    notes: list[str]

    def __enter__(self) -> Self: ...
    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None: ...
    def start(self, info: StreamInfo) -> None: ...
    def write(self, picture: av.VideoFrame, result: Result) -> None: ...


@runtime_checkable
class FileSink(Sink, Protocol):
    """A sink that writes to the disk, to its `path`."""

    path: Path


@dataclass(frozen=True)
class Message:
    """What a publisher tells of one stream.

    body: of an event, its record; of counts, the running totals by kind and `now`, the objects in sight by class; of a
    state, `state`, `cause` and `at` · id: of an event, the same however often it is sent
    """

    kind: Literal["event", "counts", "state"]
    stream: str
    body: Mapping[str, Any]
    id: str = ""


@runtime_checkable
class Publisher(Protocol):
    """Tells somebody else, or a file, what happens in all streams of a pipeline; works in a thread of its own.

    Entering opens the file or the connection. `send` returns when the peer or the disk has the messages; an OutputError
    of either is tried again later, with the same messages in the same order.
    """

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def send(self, messages: Sequence[Message]) -> None: ...


OutputState = Literal["ok", "retrying", "failed"]


@dataclass(frozen=True)
class OutputStatus:
    """How a sink of a live stream, or a publisher, is doing.

    state: whether it works, is tried again, or was given up · cause: why, "" where it works · dropped: pictures or
    messages that it never had · waiting: those that wait for it
    """

    name: str
    state: OutputState = "ok"
    cause: str = ""
    dropped: int = 0
    waiting: int = 0


@runtime_checkable
class Listener(Protocol):
    """Hears what happens in a pipeline, each in the thread in which it happens; returns at once and raises nothing.

    on_open: the first frame is there · on_result: counted and drawn, on its way to the sinks; without a picture where
    the frame is too old to be shown · on_state: of a live source · on_end: with what went wrong, if anything did
    """

    def on_open(self, stream: str, info: StreamInfo) -> None: ...
    def on_result(self, result: Result) -> None: ...
    def on_state(self, stream: str, state: SourceState) -> None: ...
    def on_end(self, stream: str, error: str | None) -> None: ...


@dataclass(frozen=True)
class Sample:
    """One picture to train or evaluate on.

    image_id · path · width, height · boxes (N, 4) float32 xyxy · class_ids (N,) int32 · masks: per object COCO
    polygons or RLE, None where unknown · crowd (N,) bool: a region of many objects, neither object nor background ·
    rgb (H, W, 3) uint8: the picture itself where it was made on the fly; else it is read from `path` ·
    areas (N,): as annotated, for COCO's size bands, NaN where unknown; None: those of the masks ·
    known_classes (C,) bool: the classes that its dataset marks, of the others its background may hold some; None: all
    """

    image_id: int
    path: Path
    width: int
    height: int
    boxes: np.ndarray
    class_ids: np.ndarray
    masks: tuple[Any, ...]
    crowd: np.ndarray
    rgb: np.ndarray | None = None
    areas: np.ndarray | None = None
    known_classes: np.ndarray | None = None


@runtime_checkable
class Dataset(Protocol):
    """Pictures with their true objects."""

    class_names: tuple[str, ...]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...
