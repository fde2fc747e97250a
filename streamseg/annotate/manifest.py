"""The index of a job: which videos it has, how each is cut, which chunks are done; made again of the chunks if need be.

It lies in the cache folder of the machine that leads the job, since SQLite needs a disk of its own; the chunks lie in
the job's folder. One process writes it. What it says of a chunk is believed while the chunk's file has the same size.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

from streamseg import zoo
from streamseg.annotate.chunks import Chunk, Cut
from streamseg.annotate.recordings import Ended
from streamseg.types import InputError, OutputError
from streamseg.words import writable

log = logging.getLogger(__name__)

VERSION = 1
END = 2**20
"""Bytes at the beginning and at the end of a video that tell it from another one."""

_TABLES = """
CREATE TABLE videos (name TEXT PRIMARY KEY, identity TEXT NOT NULL, cut TEXT, error TEXT);
CREATE TABLE chunks (
    video TEXT NOT NULL, number INTEGER NOT NULL, frames INTEGER NOT NULL, next_index INTEGER NOT NULL,
    bytes INTEGER NOT NULL, PRIMARY KEY (video, number)
);
CREATE TABLE job (pins TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Identity:
    """What tells a video's file from another one of the same name. modified: in nanoseconds · ends: of its two ends"""

    size: int
    modified: int
    ends: str

    @classmethod
    def of(cls, path: Path) -> Identity:
        """InputError where the file cannot be read."""
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # to open a pipe is to wait for who writes into it
                raise InputError(f"{path}: expected a video file, got a pipe or a device")
            digest = hashlib.sha256()
            with path.open("rb") as file:
                digest.update(file.read(END))
                file.seek(max(0, status.st_size - END))
                digest.update(file.read(END))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
        return cls(status.st_size, status.st_mtime_ns, digest.hexdigest())

    def to_json(self) -> dict[str, Any]:
        return {"size": self.size, "modified": self.modified, "ends": self.ends}


@dataclass(frozen=True)
class Entry:
    """What is known of a video. error: why it could not be done, "" where nothing is known against it.

    selection: the frames that it was cut for
    """

    identity: Identity
    cut: Cut | None
    error: str
    selection: str = ""


class Manifest:
    """The index of the job in `folder`. rebuilt: why an older one was thrown away, "" where it was not."""

    def __init__(self, folder: Path) -> None:
        mark = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
        self.path = zoo.cache_folder() / "jobs" / f"{mark}.sqlite"
        self.rebuilt = ""
        self._lock = threading.Lock()  # chunks of several videos end in the threads of their streams
        self._database = self._opened()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._database.close()

    @property
    def pins(self) -> Mapping[str, Any] | None:
        """What the job's detections were made with, None where it has none yet."""
        row = self._database.execute("SELECT pins FROM job").fetchone()
        return None if row is None else json.loads(row[0])

    def pin(self, pins: Mapping[str, Any]) -> None:
        with self._writing():
            self._database.execute("DELETE FROM job")
            self._database.execute("INSERT INTO job VALUES (?)", (json.dumps(pins),))

    def entry(self, video: str) -> Entry | None:
        found = self._database.execute("SELECT identity, cut, error FROM videos WHERE name = ?", (writable(video),))
        row = found.fetchone()
        if row is None:
            return None
        identity, described, error = row
        said = None if described is None else json.loads(described)
        known = None if said is None else _cut_of(said)
        return Entry(Identity(**json.loads(identity)), known, error or "", said.get("selection", "") if said else "")

    def put(self, video: str, entry: Entry) -> None:
        described = None
        if entry.cut is not None:
            described = json.dumps(_described(entry.cut) | {"selection": entry.selection})
        with self._writing():
            self._database.execute(
                "INSERT OR REPLACE INTO videos VALUES (?, ?, ?, ?)",
                (writable(video), json.dumps(entry.identity.to_json()), described, entry.error),
            )

    def chunks(self, video: str) -> dict[int, Ended]:
        """The chunks of a video that are done, by number."""
        rows = self._database.execute(
            "SELECT number, frames, next_index, bytes FROM chunks WHERE video = ?", (writable(video),)
        )
        return {row[0]: Ended(video, *row) for row in rows}

    def add(self, ended: Ended) -> None:
        row = (writable(ended.video), ended.number, ended.num_frames, ended.next_index, ended.num_bytes)
        with self._writing():
            self._database.execute("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?)", row)

    def forget(self, video: str, number: int | None = None) -> None:
        """A chunk, or all of a video's, is to be done again."""
        with self._writing():
            if number is None:
                self._database.execute("DELETE FROM chunks WHERE video = ?", (writable(video),))
            else:
                self._database.execute("DELETE FROM chunks WHERE video = ? AND number = ?", (writable(video), number))

    def clear(self) -> None:
        """Forget the whole job."""
        with self._writing():
            for table in ("videos", "chunks", "job"):
                self._database.execute(f"DELETE FROM {table}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._lock, self._database:
                yield
        except sqlite3.Error as error:
            raise OutputError(f"{self.path}: the index of the job cannot be written: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                self.rebuilt = self._why_useless()
                if self.rebuilt:
                    for leftover in (self.path, self.path.with_name(f"{self.path.name}-journal")):
                        leftover.unlink(missing_ok=True)
            return _ready(str(self.path))
        except (OSError, sqlite3.Error) as error:
            # no home, or one that cannot be written: the index is good for this run, the next makes it again
            log.debug("the index of the job is kept in memory: %s: %s", self.path, error)
            return _ready(":memory:")

    def _why_useless(self) -> str:
        """Why the index that is there is of no use, "" where it is good."""
        database = sqlite3.connect(self.path)
        try:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                return f"it was of version {version}, this is version {VERSION}"
            if database.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                return "it was damaged"
            for table in ("videos", "chunks", "job") if version else ():
                database.execute(f"SELECT * FROM {table} LIMIT 1")
        except sqlite3.DatabaseError:
            return "it was damaged"
        finally:
            with suppress(sqlite3.Error):
                database.close()
        return ""


def _ready(path: str) -> sqlite3.Connection:
    """The index at that path, its tables made where it is new."""
    database = sqlite3.connect(path, check_same_thread=False)
    try:
        # what a crash of the machine takes from the index is found again in the chunks
        database.execute("PRAGMA synchronous = OFF")
        if not database.execute("PRAGMA user_version").fetchone()[0]:
            database.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _described(cut: Cut) -> dict[str, Any]:
    return {
        "chunks": [[chunk.index, chunk.time, chunk.before] for chunk in cut.chunks],
        "num_frames": cut.num_frames,
        "num_selected": cut.num_selected,
        "rate": str(cut.rate),
        "constant_rate": cut.constant_rate,
    }


def _cut_of(described: Mapping[str, Any]) -> Cut:
    chunks = tuple(Chunk(*chunk) for chunk in described["chunks"])
    return Cut(
        chunks,
        described["num_frames"],
        described["num_selected"],
        Fraction(described["rate"]),
        described["constant_rate"],
    )
