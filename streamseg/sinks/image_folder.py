"""Writes every picture as a numbered PNG or JPEG into a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self

import av
import cv2
from av.video.reformatter import VideoReformatter

from streamseg.scaling import matrix_of
from streamseg.sinks._part_file import WriteLock, part_folder_of, reason
from streamseg.types import OutputError, Result, StreamInfo, UsageError
from streamseg.words import nearest

FORMATS = ("png", "jpg")
OURS = re.compile(r"\d{6,}\.(png|jpg)")


class ImageFolder:
    """Numbered pictures, `000041.png` for the frame with index 41; in NAME.part until complete.

    path: the folder · format: png or jpg · quality: of a jpg, 1 to 100 · overwrite: pictures of ours that an existing
    folder holds are replaced, whatever else it holds stays
    """

    schemes = ("images",)
    metavar = "FOLDER"
    folder = "pictures"

    def __init__(
        self,
        path: str | Path,
        *,
        format: Literal["png", "jpg"] = "png",
        quality: int = 92,
        overwrite: bool = False,
    ) -> None:
        if format not in FORMATS:
            raise UsageError(f"format: expected png or jpg, got {format!r}{nearest(str(format), FORMATS)}")
        if not 1 <= quality <= 100:
            raise UsageError(f"quality: expected 1 to 100, got {quality}")
        self.final = Path(path)
        self.path = self.part = part_folder_of(self.final)
        self._lock = WriteLock(self.part, self.final)
        self.format = format
        self.overwrite = overwrite
        self.notes: list[str] = []
        self._options = [cv2.IMWRITE_JPEG_QUALITY, quality] if format == "jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
        self._started = False
        self._reformatter = VideoReformatter()  # the picture's own would serve all sinks at once, and crash
        self._num_written = 0

    def __enter__(self) -> Self:
        with self._errors(self.final):
            if self.final.exists() and not self.final.is_dir():
                raise UsageError(f"{self.final}: expected a folder for the pictures, got a file")
            if not self.overwrite and self.final.is_dir() and any(self.final.iterdir()):
                raise UsageError(f"{self.final} is not empty; --overwrite (overwrite=True) replaces the pictures in it")
            self._lock.take(self._opened)
            if not os.access(self.part, os.W_OK | os.X_OK):
                self._lock.give_back()
                raise PermissionError(13, os.strerror(13))
        return self

    def _opened(self) -> int:
        self.part.mkdir(parents=True, exist_ok=True)
        return os.open(self.part, os.O_RDONLY | os.O_DIRECTORY)

    def start(self, info: StreamInfo) -> None:
        read = info.path.resolve() if info.path is not None else None
        for folder in (self.final, self.part):
            if read is not None and folder.resolve() in (read, read.parent):
                raise UsageError(f"{folder} is where the input lies; choose another folder")
        with self._errors(self.part):
            _remove_ours(self.part)
        self._started = True
        if info.pixel_aspect != 1:
            self.notes.append(f"a pixel of these pictures is {info.pixel_aspect} times as wide as high")

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        assert self._started, "start(info) comes before the first write"
        name = f"{result.frame.index:06d}.{self.format}"
        pixels = self._reformatter.reformat(picture, format="bgr24", src_colorspace=matrix_of(picture)).to_ndarray()
        encoded, values = cv2.imencode(f".{self.format}", pixels, self._options)
        if not encoded:
            raise OutputError(f"{name}: a picture of {picture.width}×{picture.height} cannot be a {self.format}")
        unfinished = self.part / f"{name}.part"
        with self._errors(self.part / name):
            unfinished.write_bytes(values.tobytes())
            os.replace(unfinished, self.part / name)
        self._num_written += 1

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None:
        try:
            self._leave(exc_type)
        finally:
            self._lock.give_back()

    def _leave(self, exc_type: type[BaseException] | None) -> None:
        if exc_type is not None or not self._num_written:
            with suppress(OSError):
                self.part.rmdir()
            if exc_type is None:
                raise OutputError(f"{self.final} was not written: there was no picture to write")
            return
        with self._errors(self.final):
            self._finish()
        self.path = self.final

    def _finish(self) -> None:
        """Give the pictures their final place: the part folder becomes the folder, or its pictures go into that."""
        if not self.final.exists():
            os.replace(self.part, self.final)
            return
        if self.overwrite:
            _remove_ours(self.final)
        elif any(self.final.iterdir()):
            raise OutputError(f"{self.final} was filled while it was written; the new pictures are in {self.part}")
        for picture in sorted(self.part.iterdir()):
            os.replace(picture, self.final / picture.name)
        self.part.rmdir()

    @contextmanager
    def _errors(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {reason(error)}") from error


def _remove_ours(folder: Path) -> None:
    """Remove the numbered pictures of an earlier run, and nothing else."""
    for entry in folder.iterdir():
        if OURS.fullmatch(entry.name.removesuffix(".part")) and entry.is_file():
            entry.unlink()
