"""Writes what was found and counted as one line of JSON a frame, for other programs and to draw it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Self

import av

from streamseg.records import to_record
from streamseg.sinks._part_file import PartFile, reason
from streamseg.types import OutputError, Result, StreamInfo, UsageError


class Jsonl:
    """A line of JSON a frame, each whole and on the disk as soon as it is written; NAME.part.jsonl until complete.

    path · overwrite: an older file of that name is replaced · crops: the soft masks stand beside the run lengths, so
    that the `replay` engine draws exactly the same again. It numbers the classes as they appear: of a model of several,
    what has no track may get another class's colour
    """

    endings = (".jsonl",)
    wants_pictures = False

    def __init__(self, path: str | Path, *, overwrite: bool = False, crops: bool = True) -> None:
        self._file = PartFile(path, overwrite=overwrite)
        if self._file.final.suffix.lower() != ".jsonl":
            raise UsageError(f"expected a file ending in .jsonl, got {str(path)!r}")
        self.crops = crops
        self.notes: list[str] = []
        self._lines: FileIO | None = None

    @property
    def path(self) -> Path:
        return self._file.path

    def __enter__(self) -> Self:
        self._file.create()
        return self

    def start(self, info: StreamInfo) -> None:
        self._file.start(info)
        with self._errors():
            self._lines = FileIO(self._file.part, "w")

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        assert self._lines is not None, "start(info) comes before the first write"
        line = json.dumps(to_record(result, crops=self.crops), ensure_ascii=False, separators=(",", ":"))
        with self._errors():
            # a byte of the input's name that is no UTF-8 becomes \udcXX, which JSON reads as Python holds it
            _append(self._lines, line.encode("utf-8", "backslashreplace") + b"\n")

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None:
        with closing(self._file):
            self._leave(exc_type)

    def _leave(self, exc_type: type[BaseException] | None) -> None:
        lines, self._lines = self._lines, None
        if exc_type is not None:
            if lines is not None:
                with suppress(OSError):
                    lines.close()
            self._file.discard_if_empty()
            return
        if lines is None:
            self._file.discard_if_empty()
            raise OutputError(f"{self._file.final} was not written: no stream was started")
        with self._errors():
            lines.close()
        self._file.finish()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self._file.part} cannot be written: {reason(error)}") from error


def _append(file: FileIO, line: bytes) -> None:
    """Write all of it, or nothing, and raise OSError."""
    before, rest = file.tell(), memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        file.truncate(before)
        file.seek(before)
        raise
