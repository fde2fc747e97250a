"""Small parts for tests of the flow: each does its work in a line, and breaks down exactly where it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np

from streamseg.types import Frame, Instances, Result, State, StreamInfo

CLASS_NAMES = ("background", "person", "dog")


class Fault:
    """Raises `error` at the `at`-th call from 0; never without one. `calls` counts them."""

    def __init__(self, at: int | None = None, *, error: BaseException | None = None) -> None:
        self.at = at
        self.error = error or RuntimeError("broken on purpose")
        self.calls = 0

    def strike(self) -> None:
        self.calls += 1
        if self.calls - 1 == self.at:
            raise self.error


def blank(width: int, height: int, pixel_format: str = "yuv420p") -> av.VideoFrame:
    """A picture whose samples are all 0; FFmpeg hands it out with whatever lay there, which looks like a new scene."""
    made = av.VideoFrame(width, height, pixel_format)
    for plane in made.planes:
        np.frombuffer(plane, np.uint8)[:] = 0  # type: ignore[call-overload]
    return made


def picture(index: int = 0, *, width: int = 16, height: int = 16, pixel_format: str = "yuv420p") -> av.VideoFrame:
    """A picture of nothing with pts `index` at 10 frames a second."""
    made = blank(width, height, pixel_format)
    made.pts, made.time_base = index, Fraction(1, 10)
    return made


def frame(index: int = 0, *, stream: str = "street", width: int = 16, height: int = 16) -> Frame:
    """Frame `index` of a stream of 10 frames a second."""
    made = picture(index, width=width, height=height)
    return Frame(picture=made, index=index, time=index / 10, captured_at=time.monotonic(), stream=stream)


def instances(*scores: float, class_ids: Sequence[int] | None = None, left: float = 0.0) -> Instances:
    """One object a score, each 2×2 pixels at x = `left`; persons unless told otherwise."""
    n = len(scores)
    return Instances(
        boxes=np.tile(np.array([left, 0, left + 2, 2], np.float32), (n, 1)),
        masks=np.ones((n, 28, 28), np.float32),
        scores=np.array(scores, np.float32),
        class_ids=np.array(class_ids or [1] * n, np.int32),
        track_ids=np.full(n, -1, np.int32),
        class_names=CLASS_NAMES,
    )


class FakeSource:
    """`num_frames` frames (None: without end) of 10 a second; `fault` strikes before each frame and once at the end.

    pace: acquired before each frame, where a test sets the pace.
    """

    def __init__(
        self,
        num_frames: int | None = 5,
        *,
        name: str = "street",
        width: int = 16,
        height: int = 16,
        live: bool = False,
        fault: Fault | None = None,
        pace: threading.Semaphore | None = None,
        enter_error: BaseException | None = None,
    ) -> None:
        self.num_frames, self.width, self.height, self.live = num_frames, width, height, live
        self.fault, self.pace, self.enter_error = fault or Fault(), pace, enter_error
        self.info = StreamInfo(
            name,
            width,
            height,
            Fraction(1, 10),
            Fraction(10),
            num_frames=num_frames,
            live=live,
            path=Path(f"{name}.mp4"),
        )
        self.warnings: Mapping[str, int] = {}
        self.drops: Mapping[str, int] = {}
        self.entered = self.left = False
        self.exhausted = threading.Event()

    def __enter__(self) -> Self:
        if self.enter_error:
            raise self.enter_error
        self.entered = True
        return self

    def __exit__(self, *exc: object) -> None:
        self.left = True

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while self.num_frames is None or index < self.num_frames:
            if self.pace:
                self.pace.acquire()
            self.fault.strike()
            yield frame(index, stream=self.info.name, width=self.width, height=self.height)
            index += 1
        self.fault.strike()
        self.exhausted.set()


class FakeEngine:
    """Finds one person of score 0.9 whose box begins at x = the frame's index; `batches` are (stream, index) pairs.

    gate: acquired before every call, where a test sets the pace · seconds: what a call takes
    """

    class_names: tuple[str, ...] = CLASS_NAMES
    min_score: float = 0.5

    def __init__(
        self,
        *,
        batch_size: int = 1,
        scores: Sequence[float] = (0.9,),
        class_ids: Sequence[int] | None = None,
        fault: Fault | None = None,
        gate: threading.Semaphore | None = None,
        seconds: float = 0.0,
    ) -> None:
        self.batch_size, self.scores, self.class_ids = batch_size, scores, class_ids
        self.fault, self.gate, self.seconds = fault or Fault(), gate, seconds
        self.batches: list[list[tuple[str, int]]] = []

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return frame.width, frame.height

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        if self.gate:
            self.gate.acquire()
        if self.seconds:
            time.sleep(self.seconds)
        self.fault.strike()
        self.batches.append([(frame.stream, frame.index) for frame in frames])
        return [instances(*self.scores, class_ids=self.class_ids, left=frame.index) for frame in frames]


class FakeTracker:
    """Everything is track 0, and stays where it was over frames without a look; `seen` is what it was given."""

    def __init__(self, *, fault: Fault | None = None) -> None:
        self.fault = fault or Fault()
        self.seen: list[Instances | None] = []
        self._known = instances(0.9)

    def update(self, frame: Frame, instances: Instances | None) -> Instances:
        self.fault.strike()
        self.seen.append(instances)
        self._known = self._known if instances is None else instances
        return replace(self._known, track_ids=np.zeros(len(self._known), np.int32))

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass


class FakeCounter:
    """Counts objects, frame by frame, under `kind` and `name`; every one is an event."""

    def __init__(self, *, kind: str = "objects", name: str = "person", fault: Fault | None = None) -> None:
        self.kind, self.name, self.num_objects, self.fault = kind, name, 0, fault or Fault()

    def update(self, result: Result) -> tuple[dict[str, Any], tuple[Mapping[str, Any], ...]]:
        self.fault.strike()
        self.num_objects += len(result.instances)
        return self.totals(), tuple({"event": "seen", "name": self.name} for _ in range(len(result.instances)))

    def totals(self) -> dict[str, Any]:
        return {self.kind: {self.name: self.num_objects}}

    def state(self) -> State:
        return {"num_objects": self.num_objects}

    def restore(self, state: State) -> None:
        self.num_objects = state["num_objects"]


class FakeEffect:
    """Draws nothing, and remembers what it was shown: (canvas, result)."""

    def __init__(self, *, fault: Fault | None = None) -> None:
        self.fault = fault or Fault()
        self.drawn: list[tuple[Any, Result]] = []

    def draw(self, canvas: Any, result: Result) -> None:
        self.fault.strike()
        self.drawn.append((canvas, result))


class FakeSink:
    """Remembers the frames it was given; with a path, a text file of their indices under its part name, then its own.

    fault: strikes at every write · enter_error, start_error, exit_error: raised there · gate: acquired before a write
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        fault: Fault | None = None,
        gate: threading.Semaphore | None = None,
        enter_error: BaseException | None = None,
        start_error: BaseException | None = None,
        exit_error: BaseException | None = None,
    ) -> None:
        self.final = path
        self.path = path.with_suffix(f".part{path.suffix}") if path else Path("memory")
        self.fault, self.gate = fault or Fault(), gate
        self.enter_error, self.start_error, self.exit_error = enter_error, start_error, exit_error
        self.notes: list[str] = []
        self.info: StreamInfo | None = None
        self.results: list[Result] = []
        self.entered = self.left = False
        self.left_with: type[BaseException] | None = None

    @property
    def indices(self) -> list[int]:
        return [result.frame.index for result in self.results]

    def __enter__(self) -> Self:
        if self.enter_error:
            raise self.enter_error
        self.entered = True
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None:
        self.left, self.left_with = True, exc_type
        if self.exit_error:
            raise self.exit_error
        if self.final and exc_type is None:
            self.path.rename(self.final)
            self.path = self.final

    def start(self, info: StreamInfo) -> None:
        if self.start_error:
            raise self.start_error
        self.info = info
        if self.final:
            self.path.write_text("")

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        if self.gate:
            self.gate.acquire()
        self.fault.strike()
        if self.final:
            with self.path.open("a") as file:
                file.write(f"{result.frame.index}\n")
        self.results.append(result)
