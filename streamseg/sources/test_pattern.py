"""A moving picture made on the spot: figures that walk, the same ones at every run."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

from streamseg.sources._decoding import near_rate
from streamseg.types import Frame, InputError, StreamInfo, UsageError

# BT.709, limited range, as FFmpeg numbers them.
_BT709, _LIMITED = 1, 1


@dataclass(frozen=True)
class _Walker:
    """A figure: where its left edge is at 0 s and its top, in widths and heights of the picture; widths a second."""

    left: float
    top: float
    height: float
    speed: float
    clothes: tuple[int, int, int]


_WALKERS = (
    _Walker(left=0.05, top=0.30, height=0.50, speed=0.10, clothes=(90, 90, 200)),
    _Walker(left=0.30, top=0.45, height=0.40, speed=-0.07, clothes=(80, 190, 90)),
    _Walker(left=0.55, top=0.20, height=0.30, speed=0.05, clothes=(120, 70, 110)),
    _Walker(left=0.80, top=0.55, height=0.42, speed=-0.12, clothes=(60, 150, 120)),
)
_SKIN = (165, 112, 152)


class TestPattern:
    """A deterministic pattern with figures like people, yuv420p BT.709, as a Source.

    size: WIDTHxHEIGHT · fps · start, end: seconds; end None stands for 10 · stride: keep every Nth picture · name.
    """

    __test__ = False  # no test case, though pytest likes the name

    schemes = ("test",)
    metavar = "1280x720@30"

    info: StreamInfo
    drops: dict[str, int]
    warnings: dict[str, int]

    def __init__(
        self,
        *,
        size: str = "1280x720",
        fps: float = 30.0,
        start: float | None = None,
        end: float | None = 10.0,
        stride: int = 1,
        name: str = "test",
    ) -> None:
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size)
        if not match:
            raise UsageError(f"size: expected WIDTHxHEIGHT such as 1280x720, got {size!r}")
        self.width, self.height = int(match[1]), int(match[2])
        if not 0 < fps <= 1000:
            raise UsageError(f"fps: expected more than 0 and at most 1000 pictures a second, got {fps:g}")
        self.fps = near_rate(fps)
        self.start, self.end, self.stride, self.name = start or 0.0, 10.0 if end is None else end, stride, name
        if self.start < 0:
            raise UsageError(f"start: expected 0 s or later, got {self.start:g}")
        if self.end <= self.start:
            raise UsageError(f"end: expected a time after start ({self.start:g} s), got {self.end:g}")
        if self.stride < 1:
            raise UsageError(f"stride: expected 1 or more, got {self.stride}")
        self.drops = {}
        self.warnings = {}
        self._indices = range(self._first_index_at(self.start), self._first_index_at(self.end), self.stride)
        self._frames: Iterator[Frame] | None = None

    @staticmethod
    def spelled(text: str) -> dict[str, Any]:
        """The options of `1280x720@30`, of which either half may be left out."""
        shape = re.fullmatch(r"(?:(\d+x\d+))?(?:@(\d+(?:\.\d+)?))?", text)
        if not shape:
            raise UsageError("expected test:WIDTHxHEIGHT@FPS, such as test:1280x720@30")
        size, fps = shape.groups()
        return {**({"size": size} if size else {}), **({"fps": float(fps)} if fps else {})}

    def __enter__(self) -> Self:
        if not self._indices:
            raise InputError(
                f"{self.name}: no picture from {self.start:g} to {self.end:g} s at {float(self.fps):g} fps"
            )
        self.info = StreamInfo(
            name=self.name,
            width=self.width,
            height=self.height,
            time_base=1 / self.fps,
            average_rate=self.fps / self.stride,
            num_frames=len(self._indices),
            start=self.start,
            end=self.end,
        )
        self._frames = self._drawn()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._frames = None

    def __iter__(self) -> Iterator[Frame]:
        if self._frames is None:
            raise RuntimeError("a TestPattern is read inside its `with` block")
        return self._frames

    def _first_index_at(self, seconds: float) -> int:
        # 0.2 is a little more than a fifth as a float, and a fifth as a person means it.
        return math.ceil(Fraction(seconds).limit_denominator(1_000_000) * self.fps)

    def _drawn(self) -> Iterator[Frame]:
        background = _background(self.width, self.height)
        figures = [(walker, _figure(walker, self.width, self.height)) for walker in _WALKERS]
        for index in self._indices:
            seconds = index / self.fps
            picture = av.VideoFrame(self.width, self.height, "yuv420p")
            picture.colorspace = picture.color_primaries = picture.color_trc = _BT709
            picture.color_range = _LIMITED
            picture.pts, picture.time_base = index, 1 / self.fps
            planes = [_view(picture, number) for number in range(3)]
            for plane, still in zip(planes, background, strict=True):
                plane[:] = still
            for walker, figure in figures:
                _paste(planes, figure, *_place(walker, figure, float(seconds), self.width, self.height))
            yield Frame(
                picture=picture,
                index=index,
                time=float(seconds),
                captured_at=time.monotonic(),
                stream=self.name,
            )


_Figure = list[tuple[np.ndarray, np.ndarray]]
"""For each of the three planes: values (h, w) uint8, and where they count (h, w) bool."""


def _view(picture: av.VideoFrame, number: int) -> np.ndarray:
    plane: Any = picture.planes[number]  # a buffer, which its type does not say
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _background(width: int, height: int) -> list[np.ndarray]:
    """A street: sky that darkens upwards, ground in tiles."""
    y, x = np.mgrid[0:height, 0:width]
    tile = max(2, height // 12)
    luma = np.where(y < height // 3, 150 + y * 180 // max(1, height), 96 + 12 * ((x // tile + y // tile) % 2))
    chroma = ((height + 1) // 2, (width + 1) // 2)
    rows = np.arange(chroma[0])[:, None] * 2 < height // 3
    blue = np.where(rows, 140, 126) * np.ones(chroma)
    red = np.where(rows, 118, 130) * np.ones(chroma)
    return [np.clip(luma, 16, 235).astype(np.uint8), blue.astype(np.uint8), red.astype(np.uint8)]


def _figure(walker: _Walker, width: int, height: int) -> _Figure:
    """A head above a body, 0.4 times as wide as high; even sizes, so that luma and chroma keep together."""
    h = max(2, 2 * round(walker.height * height / 2))
    w = max(2, 2 * round(h * 0.2))
    planes: _Figure = []
    for number in range(3):
        rows, columns = (h, w) if number == 0 else (h // 2, w // 2)
        y = ((np.arange(rows) + 0.5) / rows)[:, None]
        x = ((np.arange(columns) + 0.5) / columns)[None, :]
        head = ((x - 0.5) / 0.25) ** 2 + ((y - 0.1) / 0.1) ** 2 <= 1
        body = ((x - 0.5) / 0.5) ** 2 + ((y - 0.45) / 0.27) ** 2 <= 1
        legs = (y > 0.6) & (np.abs(np.abs(x - 0.5) - 0.2) < 0.13)
        values = np.where(head, _SKIN[number], np.where(body, walker.clothes[number], 40 if number == 0 else 128))
        planes.append((values.astype(np.uint8), head | body | legs))
    return planes


def _place(walker: _Walker, figure: _Figure, seconds: float, width: int, height: int) -> tuple[int, int]:
    """Top and left of the figure in luma pixels, both even; who leaves at one side comes back at the other."""
    w = figure[0][0].shape[1]
    left = (walker.left + walker.speed * seconds) * width
    return 2 * round(walker.top * height / 2), 2 * round(((left + w) % (width + w) - w) / 2)


def _paste(planes: list[np.ndarray], figure: _Figure, top: int, left: int) -> None:
    for plane, (values, inside), scale in zip(planes, figure, itertools.chain((1,), itertools.repeat(2)), strict=False):
        y, x = top // scale, left // scale
        h, w = values.shape
        top_cut, left_cut = max(0, -y), max(0, -x)
        target = plane[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)]
        part = slice(top_cut, top_cut + target.shape[0]), slice(left_cut, left_cut + target.shape[1])
        np.copyto(target, values[part], where=inside[part])
