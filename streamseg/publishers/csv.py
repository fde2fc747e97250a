"""Adds every event to a table for a spreadsheet, one row each, through restarts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from streamseg.publishers._append_file import AppendFile
from streamseg.publishers._rows import COLUMNS, row
from streamseg.types import Message, UsageError


class Csv:
    """A row an event, under one line of column names; what an event does not say is empty. The file only grows.

    path
    """

    endings = (".csv",)

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".csv":
            raise UsageError(f"expected a file ending in .csv, got {str(path)!r}")
        self.target = str(path)
        header = _rows([COLUMNS])
        self._file = AppendFile(self.path, header=header, is_ours=header.startswith)

    def __enter__(self) -> Self:
        self._file.open()
        return self

    def send(self, messages: Sequence[Message]) -> None:
        rows = [row(message.body) for message in messages if message.kind == "event"]
        if rows:
            self._file.append(_rows(rows))

    def __exit__(self, *exc: object) -> None:
        self._file.close()


def _rows(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in each] for each in rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: Any) -> Any:
    """Every row is one line, so that a half of one can be told."""
    if isinstance(value, bool):
        return int(value)
    return " ".join(value.splitlines()) if isinstance(value, str) else value
