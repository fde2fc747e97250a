"""Events that wait for whoever is to be told: in order, at most so many, on disk where a kill must not lose them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from streamseg.types import Message, OutputError

SETUP = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS waiting (number INTEGER PRIMARY KEY AUTOINCREMENT, id, stream, body);
COMMIT;
"""
"""One run alone has the file. What was added survives a kill at once, a loss of power after moments."""

FORGET = "DELETE FROM waiting WHERE number <= ?"

MOST_RUNS = 100
"""Runs at a time that publish to one target, each with a file of its own."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Held:
    """What is being sent: rows up to `number`, `rows` of them, then the first `unwritten` of those in memory."""

    number: int = 0
    rows: int = 0
    unwritten: int = 0


class Spool:
    """A queue of events: any thread adds, one takes. What the disk does not take waits in memory.

    path: None for memory alone; where another run has that file, this one takes NAME-2, and what is left there the next
    run takes over · capacity: for one more, the oldest goes · found: how many earlier runs left
    """

    def __init__(self, path: Path | None, *, capacity: int) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._unwritten: deque[Message] = deque()
        self._held = _Held()
        self._gone = 0  # rows up to this number are, whether the disk could be told or not
        self._problem = ""
        self.path: Path | None
        if path is None:
            self.path, self._database = None, _opened(":memory:")
        else:
            self.path, self._database = _first_free(path)
            _take_over(path, self.path, self._database)
        self.found = self._rows = int(self._database.execute("SELECT count(*) FROM waiting").fetchone()[0])

    def __len__(self) -> int:
        with self._lock:
            return self._rows + len(self._unwritten)

    @property
    def on_disk(self) -> int:
        """How many the next run will find."""
        with self._lock:
            return self._rows if self.path else 0

    def add(self, event: Message) -> int:
        """The event is the last in the queue; how many of the first had to go for it."""
        with self._lock:
            self._unwritten.append(event)
            self._write()
            return self._make_room()

    def first(self, most: int) -> list[Message]:
        """The oldest, which are held until they have `arrived` or are `returned`. OutputError where the disk fails."""
        with self._lock:
            query = "SELECT number, id, stream, body FROM waiting WHERE number > ? ORDER BY number LIMIT ?"
            try:
                rows = self._database.execute(query, (self._gone, most)).fetchall()
            except sqlite3.Error as error:
                raise OutputError(f"{self.path} cannot be read: {error}") from error
            others = list(islice(self._unwritten, most - len(rows)))
            self._held = _Held(rows[-1][0] if rows else self._gone, len(rows), len(others))
            return [Message("event", stream, json.loads(body), id) for _, id, stream, body in rows] + others

    def arrived(self) -> None:
        """Those that are held have done their part."""
        with self._lock:
            held, self._held = self._held, _Held()
            self._gone, self._rows = max(self._gone, held.number), self._rows - held.rows
            for _ in range(held.unwritten):
                self._unwritten.popleft()
            with suppress(sqlite3.Error), self._database:  # they would come once more after a restart
                self._database.execute(FORGET, (self._gone,))

    def returned(self) -> None:
        """Those that are held wait again, before all others."""
        with self._lock:
            self._held = _Held()

    def close(self) -> None:
        """Leave the file to the next run, or remove it where nothing waits."""
        with self._lock, suppress(sqlite3.Error, OSError):
            self._database.close()
            if self.path and not self._rows:
                self.path.unlink()

    def _write(self) -> None:
        if self._held.unwritten:
            return
        rows = [(each.id, each.stream, json.dumps(each.body)) for each in self._unwritten]
        try:
            with self._database:
                self._database.executemany("INSERT INTO waiting (id, stream, body) VALUES (?, ?, ?)", rows)
                self._database.execute(FORGET, (self._gone,))  # which a full disk may have refused before
        except sqlite3.Error as error:
            if not self._problem:
                log.warning("%s: %s; until that is mended, events wait in memory alone", self.path, error)
            self._problem = str(error)
            return
        self._problem = ""
        self._rows += len(rows)
        self._unwritten.clear()

    def _make_room(self) -> int:
        """Lets the oldest go that are too many and not held, and says how many."""
        too_many = self._rows + len(self._unwritten) - self.capacity
        if too_many <= 0:
            return 0
        dropped = self._drop_rows(too_many)
        while dropped < too_many and len(self._unwritten) > self._held.unwritten:
            del self._unwritten[self._held.unwritten]
            dropped += 1
        return dropped

    def _drop_rows(self, most: int) -> int:
        which = "SELECT number FROM waiting WHERE number > ? ORDER BY number LIMIT ?"
        try:
            with self._database:
                query = f"DELETE FROM waiting WHERE number IN ({which})"
                dropped = self._database.execute(query, (max(self._gone, self._held.number), most)).rowcount
        except sqlite3.Error:
            return 0
        self._rows -= dropped
        return dropped


def default_file(target: str) -> Path:
    """Where events for this target wait, in the user's state folder; the target is named without credentials."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", target)[:60]
    return (
        state / "streamseg" / "outbox" / f"{plain}-{hashlib.blake2s(target.encode(), digest_size=4).hexdigest()}.sqlite"
    )


def _candidates(path: Path) -> Iterator[Path]:
    """The files that runs at a time have."""
    yield path
    for number in range(2, MOST_RUNS + 1):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def _take_over(first: Path, own: Path, database: sqlite3.Connection) -> None:
    """Add to our own file what lies in those that runs beside an earlier one left, and that no run has now."""
    for path in _candidates(first):
        if path == own or not path.exists():
            continue
        try:
            with closing(_opened(str(path))) as other, database:
                rows = other.execute("SELECT id, stream, body FROM waiting ORDER BY number").fetchall()
                database.executemany("INSERT INTO waiting (id, stream, body) VALUES (?, ?, ?)", rows)
            path.unlink()
        except (sqlite3.Error, OSError) as error:  # another run has it, or it is damaged: its own run will see
            log.debug("%s is left alone: %s", path, error)


def _first_free(path: Path) -> tuple[Path, sqlite3.Connection]:
    for candidate in _candidates(path):
        try:
            return candidate, _opened_file(candidate)
        except BlockingIOError:
            continue
        except OSError as error:
            raise OutputError(f"{candidate} cannot be written: {(error.strerror or str(error)).lower()}") from error
        except sqlite3.Error as error:
            raise OutputError(f"{candidate} cannot be written: {error}") from error
    raise OutputError(f"{path}: {MOST_RUNS} other runs have taken it")


def _opened_file(path: Path) -> sqlite3.Connection:
    """Raises BlockingIOError where another run has it; one that is damaged is put aside."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # events and thumbnails are nobody else's
    try:
        return _opened(str(path))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise BlockingIOError from None
        raise
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{path.stem}.damaged{path.suffix}")
        log.warning("%s: %s; it is kept as %s", path, error, aside.name)
        os.replace(path, aside)
        return _opened(str(path))


def _opened(name: str) -> sqlite3.Connection:
    database = sqlite3.connect(name, timeout=0, check_same_thread=False)
    try:
        database.executescript(SETUP)
    except sqlite3.Error:
        database.close()
        raise
    return database
