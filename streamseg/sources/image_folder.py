"""Play the pictures of a folder, or one picture, as a video, in the order a person would count them in."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from PIL import Image

from streamseg.pictures import ENDINGS, opened, pictures_in, too_many_pixels
from streamseg.sources._decoding import near_rate
from streamseg.types import Frame, InputError, StreamInfo, UsageError
from streamseg.words import writable


class ImageFolder:
    """The pictures of one folder, as a Source; each at its own size, upright, 8 bits of RGB or grey.

    path: the folder, or one picture · names: only the pictures of a numbering such as `img%04d.png` · fps: pictures a
    second · start, end: keep the pictures at start ≤ time < end, in seconds · stride: keep every Nth of those · name:
    of the stream, default the folder's name. A picture's index and time come from its place in the folder; one that
    cannot be read is counted and leaves a gap. Of one that moves it is the first that counts.
    """

    folder = "pictures"
    endings = (".tif", ".tiff")  # one alone; PyAV, which reads every other one, fails at what many of these carry

    info: StreamInfo
    drops: dict[str, int]
    warnings: dict[str, int]

    def __init__(
        self,
        path: Path,
        *,
        names: str | None = None,
        fps: float = 25.0,
        start: float | None = None,
        end: float | None = None,
        stride: int = 1,
        name: str | None = None,
    ) -> None:
        self.path, self.names = Path(path), names
        self.start, self.end, self.stride = start or 0.0, end, stride
        self.name = name or writable(self.path.stem if os.path.isfile(self.path) else self.path.resolve().name)
        if not 0 < fps <= 1000:
            raise UsageError(f"fps: expected more than 0 and at most 1000 pictures a second, got {fps:g}")
        if self.start < 0:
            raise UsageError(f"start: expected 0 s or later, got {self.start:g}")
        if self.end is not None and self.end <= self.start:
            raise UsageError(f"end: expected a time after start ({self.start:g} s), got {self.end:g}")
        if self.stride < 1:
            raise UsageError(f"stride: expected 1 or more, got {self.stride}")
        self.fps = near_rate(fps)
        self.drops = {}
        self.warnings = {}
        self._frames: Iterator[Frame] | None = None

    def __enter__(self) -> Self:
        try:
            paths = [self.path] if os.path.isfile(self.path) else pictures_in(self.path, names=self.names)
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such folder") from None
        except PermissionError:
            raise InputError(f"{self.path}: no permission to read this folder") from None
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror})") from None
        if not paths:
            looked_for = self.names or " ".join(sorted(ENDINGS))
            raise InputError(f"{self.path}: no pictures in this folder (looked for {looked_for})")
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
                picture = opened(path)
            except Exception as error:  # Pillow's readers raise whatever their parsing stumbles upon
                huge = isinstance(error, Image.DecompressionBombError)
                skipped = f"{f'pictures of {too_many_pixels()}' if huge else 'broken pictures'} skipped"
                self.warnings[skipped] = self.warnings.get(skipped, 0) + 1
                continue
            picture.pts, picture.time_base = index, 1 / self.fps
            yield Frame(
                picture=picture,
                index=index,
                time=float(index / self.fps),
                captured_at=time.monotonic(),
                stream=self.name,
            )


def _complaint(path: Path) -> str:
    try:
        opened(path)
    except Image.DecompressionBombError:
        return f"{path.name}: it has {too_many_pixels()}"
    except Exception as error:
        return f"{path.name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return f"{path.name} can be read by now"


def _chained(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest
