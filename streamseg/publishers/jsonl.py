"""Adds every event to a file as one line of JSON, through restarts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from streamseg.publishers._append_file import AppendFile
from streamseg.types import Message, UsageError


class Jsonl:
    """A log that only grows: each event is one line, whole and on the disk before the next one.

    path · thumbnails: each event carries the picture of its object as a JPEG in base64
    """

    endings = (".jsonl",)

    def __init__(self, path: str | Path, *, thumbnails: bool = False) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".jsonl":
            raise UsageError(f"expected a file ending in .jsonl, got {str(path)!r}")
        self.target = str(path)
        self.thumbnails = thumbnails
        self._file = AppendFile(self.path, is_ours=lambda first: first == b"{", is_whole=_is_json)

    def __enter__(self) -> Self:
        self._file.open()
        return self

    def send(self, messages: Sequence[Message]) -> None:
        lines = b"".join(_line(message) for message in messages if message.kind == "event")
        if lines:
            self._file.append(lines)

    def __exit__(self, *exc: object) -> None:
        self._file.close()


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _line(message: Message) -> bytes:
    text = json.dumps(message.body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"
