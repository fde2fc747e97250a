"""Keeps events and running totals in an SQLite file, to be asked with SQL while it grows."""

from __future__ import annotations

import base64
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from streamseg.publishers._append_file import is_elsewhere
from streamseg.publishers._rows import COLUMNS, row
from streamseg.types import Message, OutputError, UsageError

VERSION = 1
"""Of the tables, kept in the file's `user_version`."""

_COUNTED = """stream, event, name, direction, class, count(*) AS events
    FROM events WHERE event != 'source' GROUP BY 1, 2, 3, 4, 5, 6"""

TABLES = f"""
CREATE TABLE events ({", ".join(f'"{column}"' for column in COLUMNS)}, thumbnail BLOB, PRIMARY KEY (id));
CREATE INDEX events_by_time ON events (at);
CREATE TABLE totals (
    stream TEXT, kind TEXT, name TEXT, class TEXT, number TEXT, value, PRIMARY KEY (stream, kind, name, class, number)
) WITHOUT ROWID;
CREATE VIEW by_hour AS SELECT strftime('%Y-%m-%d %H:00', at, 'localtime') AS hour, {_COUNTED};
CREATE VIEW by_day AS SELECT date(at, 'localtime') AS day, {_COUNTED};
PRAGMA user_version = {VERSION};
"""

SECONDS_FOR_READERS = 5.0
"""What one who reads may keep the file locked before it is an error."""


class Sqlite:
    """Tables `events`, a row each however often it is sent, and `totals`; views by hour and by day of the local time.

    path · thumbnails: each event has the picture of its object as a JPEG
    """

    endings = (".sqlite",)

    def __init__(self, path: str | Path, *, thumbnails: bool = False) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".sqlite":
            raise UsageError(f"expected a file ending in .sqlite, got {str(path)!r}")
        self.target = str(path)
        self.thumbnails = thumbnails
        self._database: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None

    def __enter__(self) -> Self:
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=SECONDS_FOR_READERS, check_same_thread=False)
            try:
                self._prepare(self._database)
            except (UsageError, sqlite3.Error):
                self.__exit__()
                raise
            self._opened = os.stat(self.path)
        return self

    def send(self, messages: Sequence[Message]) -> None:
        assert self._opened is not None, "entering opens the file"
        with self._errors():
            gone = is_elsewhere(self.path, self._opened)
        if gone:
            self.__exit__()
            self.__enter__()
        assert self._database is not None, "entering opens the file"
        events = [(*row(each.body), _thumbnail(each.body)) for each in messages if each.kind == "event"]
        counts = {message.stream: message for message in messages if message.kind == "counts"}  # the newest of each
        with self._errors(), self._database:
            self._database.executemany(_insert("events", len(COLUMNS) + 1, "OR IGNORE"), events)
            self._database.executemany("DELETE FROM totals WHERE stream = ?", [(stream,) for stream in counts])
            for message in counts.values():
                self._database.executemany(_insert("totals", 6, "OR REPLACE"), _totals(message))
        with suppress(sqlite3.Error):  # so that the file alone is whole, wherever it is moved; a reader may prevent it
            self._database.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def __exit__(self, *exc: object) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()

    def _prepare(self, database: sqlite3.Connection) -> None:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and version != VERSION:
            raise UsageError(f"{self.path}: expected tables of streamseg, version {VERSION}, got others")
        database.execute("PRAGMA journal_mode = WAL")  # who reads does not wait for who writes
        if not tables:
            database.executescript(f"BEGIN; {TABLES} COMMIT;")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OutputError(f"{self.path} cannot be written: {error}") from error
        except sqlite3.DatabaseError as error:
            self.__exit__()
            raise UsageError(f"{self.path}: expected an SQLite file, got another one ({error})") from error
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {(error.strerror or str(error)).lower()}") from error


def _insert(table: str, num_columns: int, otherwise: str) -> str:
    return f"INSERT {otherwise} INTO {table} VALUES ({', '.join('?' * num_columns)})"


def _thumbnail(event: Mapping[str, Any]) -> bytes | None:
    return base64.b64decode(event["thumbnail"]) if event.get("thumbnail") else None


def _totals(message: Message) -> Iterator[tuple[Any, ...]]:
    """Rows of `totals`: stream, kind, name of the line or zone, class, what is counted, the number."""
    for kind, numbers in message.body.items():
        for path, value in _leaves(numbers):
            name, *rest = path if len(path) > 1 else ("", *path)  # `objects` and `now` have no name
            yield message.stream, kind, name, rest[0], "/".join(rest[1:]), value


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(each, (*path, str(key)))
    elif path and isinstance(value, int | float | str):
        yield path, value
