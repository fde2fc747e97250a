"""Play the pictures of a folder as a video, in the order a person would count them in."""

from __future__ import annotations

import math
import re
import time
import warnings as python_warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import imageio.v3 as iio
import numpy as np

from streamseg.types import Frame, InputError, StreamInfo, UsageError

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2"})
"""What counts as a picture, by its ending in small letters; a .gif is read as a video."""


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, img2 before img10; hidden files and folders inside are left out."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "." and p.is_file()]
    return sorted(found, key=_natural)


class ImageFolder:
    """The pictures of one folder, as a Source; each at its own size, upright, 8 bits of RGB or grey.

    path · fps: pictures a second · start, end: keep the pictures at start ≤ time < end, in seconds · stride: keep every
    Nth of those · name: of the stream, default the folder's name. A picture's index and time come from its place in the
    folder; one that cannot be read is counted and leaves a gap.
    """

    info: StreamInfo
    drops: dict[str, int]
    warnings: dict[str, int]

    def __init__(
        self,
        path: Path,
        *,
        fps: float = 25.0,
        start: float | None = None,
        end: float | None = None,
        stride: int = 1,
        name: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.start, self.end, self.stride = start or 0.0, end, stride
        self.name = name or self.path.resolve().name
        if not 0 < fps <= 1000:
            raise UsageError(f"fps: expected more than 0 and at most 1000 pictures a second, got {fps:g}")
        if self.start < 0:
            raise UsageError(f"start: expected 0 s or later, got {self.start:g}")
        if self.end is not None and self.end <= self.start:
            raise UsageError(f"end: expected a time after start ({self.start:g} s), got {self.end:g}")
        if self.stride < 1:
            raise UsageError(f"stride: expected 1 or more, got {self.stride}")
        self.fps = Fraction(fps).limit_denominator(1001)
        self.drops = {}
        self.warnings = {}
        self._frames: Iterator[Frame] | None = None

    def __enter__(self) -> Self:
        try:
            paths = pictures_in(self.path)
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such folder") from None
        except NotADirectoryError:
            raise InputError(f"{self.path}: expected a folder of pictures, got a file") from None
        except PermissionError:
            raise InputError(f"{self.path}: no permission to read this folder") from None
        if not paths:
            endings = " ".join(sorted(SUFFIXES))
            raise InputError(f"{self.path}: no pictures in this folder (looked for {endings})")
        last = None if self.end is None else self._first_index_at(self.end)
        kept = list(enumerate(paths))[self._first_index_at(self.start) : last : self.stride]
        if not kept:
            end = float((len(paths) - 1) / self.fps)
            raise InputError(f"{self.path}: start is {self.start:g} s, but the last picture is at {end:g} s")
        frames = self._read(kept)
        first = next(frames, None)
        if first is None:
            raise InputError(f"{self.path}: none of the {len(kept)} pictures can be read ({_complaint(kept[0][1])})")
        self.info = StreamInfo(
            name=self.name,
            path=self.path,
            width=first.width,
            height=first.height,
            time_base=1 / self.fps,
            average_rate=self.fps / self.stride,
            num_frames=len(kept),
            start=self.start,
            end=self.end,
        )
        self._frames = _chained(first, frames)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._frames = None

    def __iter__(self) -> Iterator[Frame]:
        if self._frames is None:
            raise RuntimeError("an ImageFolder is read inside its `with` block")
        return self._frames

    def _first_index_at(self, seconds: float) -> int:
        # 0.2 is a little more than a fifth as a float, and a fifth as a person means it.
        return math.ceil(Fraction(seconds).limit_denominator(1_000_000) * self.fps)

    def _read(self, kept: list[tuple[int, Path]]) -> Iterator[Frame]:
        for index, path in kept:
            try:
                picture = _picture(path)
            except Exception:  # Pillow's readers raise whatever their parsing stumbles upon
                broken = "broken pictures skipped"
                self.warnings[broken] = self.warnings.get(broken, 0) + 1
                continue
            picture.pts, picture.time_base = index, 1 / self.fps
            yield Frame(
                picture=picture,
                index=index,
                time=float(index / self.fps),
                captured_at=time.monotonic(),
                stream=self.name,
            )


def _natural(path: Path) -> tuple[Any, ...]:
    """Sorts digits as numbers: every odd part of the split is one."""
    parts = re.split(r"(\d+)", path.name.lower())
    return (*(int(part) if i % 2 else part for i, part in enumerate(parts)), path.name)


def _picture(path: Path) -> av.VideoFrame:
    """The picture as a gray or rgb24 frame, upright by its EXIF orientation, without transparency."""
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        with iio.imopen(path, "r", plugin="pillow") as file:
            mode = file.metadata(index=0)["mode"]
            deep = mode.startswith(("I", "F"))
            pixels = np.asarray(
                file.read(index=0, rotate=True, mode=None if deep else "L" if mode in ("1", "L", "LA") else "RGB")
            )
    if deep:
        pixels = _eight_bits(pixels)
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="gray" if pixels.ndim == 2 else "rgb24")


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Grey of 16 or 32 bits or floats as uint8: 16 bits lose their low byte, floats run from 0 to 1."""
    if pixels.dtype.kind == "f":
        return (np.clip(np.nan_to_num(pixels), 0, 1) * 255 + 0.5).astype(np.uint8)
    return (np.clip(pixels, 0, 65535).astype(np.uint16) >> 8).astype(np.uint8)


def _complaint(path: Path) -> str:
    try:
        _picture(path)
    except Exception as error:
        return f"{path.name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return f"{path.name} can be read by now"


def _chained(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest
