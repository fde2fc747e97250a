"""The folder that an annotation writes into: where its labels and chunks lie, and that one job at a time is in it.

One in a bucket has a copy in the cache folder, which is what the rest of the program sees: the chunks of the bucket are
fetched when the job begins, each new one is put there as soon as it is whole, and the labels when they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from streamseg import buckets, zoo
from streamseg.types import OutputError, UsageError

KEPT = ".streamseg"
"""What lies in the folder beside the labels: what was found, and what was asked."""


JOB = "job.json"
JOB_VERSION = 1
JOB_KEYS = {"videos", "pins", "request"}
"""What it holds beside its version."""

CHUNKS = "chunks"

DRAWN = "drawn.json"
"""The names of the videos that jobs have drawn here, which the next may draw again."""


class Folder:
    """The folder of a job, at a path or an address. OutputError where it cannot be written.

    path: of this machine · str() is what a person calls it
    """

    def __init__(self, place: str | Path) -> None:
        self._bucket: buckets.BucketFolder | None = None
        if isinstance(place, str) and buckets.is_address(place):
            self._bucket = buckets.BucketFolder(place)
            mark = hashlib.sha256(self._bucket.address.encode()).hexdigest()[:16]
            self.path = zoo.cache_folder() / "folders" / mark
        else:
            self.path = Path(place).expanduser()
        self.kept = self.path / KEPT
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"-o {self.path}: expected a folder, got a file")

    def __str__(self) -> str:
        return str(self.path) if self._bucket is None else self._bucket.address

    def called(self, path: str) -> str:
        """What a person calls a file in it, whose path is given."""
        return path if self._bucket is None else path.replace(str(self.path), str(self))

    def chunks_of(self, video: str) -> Path:
        """Where the chunks of a video lie."""
        return self.kept / CHUNKS / video

    @property
    def videos(self) -> list[str]:
        """The videos of which there are chunks."""
        chunks = self.kept / CHUNKS
        return sorted(path.name for path in chunks.iterdir() if path.is_dir()) if chunks.is_dir() else []

    @contextmanager
    def taken(self, *, shard: tuple[int, int] | None = None) -> Iterator[None]:
        """The right to work here, which falls away with the process, however that ends; OutputError where it is taken.

        Parts of one job work beside each other, but not beside a whole one, and each part once.
        """
        with self._errors():
            self.kept.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(13, os.strerror(13))
        with self._locked("lock", fcntl.LOCK_EX if shard is None else fcntl.LOCK_SH):
            if shard is None:
                self._clean()
                self._fetch()
                yield
            else:
                with self._locked(f"lock-{shard[0]}-of-{shard[1]}", fcntl.LOCK_EX):
                    self._fetch()
                    yield

    @contextmanager
    def _locked(self, name: str, how: int) -> Iterator[None]:
        with self._errors():
            descriptor = os.open(self.kept / name, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"{self}: another annotation is at work in this folder; wait for its end, or choose another"
                ) from None
            except OSError:
                pass  # a file system without locks
            yield
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Remove all that was found."""
        with self._errors():
            if (self.kept / CHUNKS).exists():
                shutil.rmtree(self.kept / CHUNKS)
            (self.kept / JOB).unlink(missing_ok=True)
        if self._bucket is not None:
            self._bucket.remove(f"{KEPT}/{CHUNKS}")
            self._bucket.remove(f"{KEPT}/{JOB}")

    def share(self, path: Path) -> None:
        """Let others see a file of the job that is whole."""
        if self._bucket is not None:
            name = self._name(path)
            self._bucket.put([path], [name])
            self._note_time(path, name)

    def remove(self, path: Path) -> None:
        """Remove a file of the job."""
        path.unlink(missing_ok=True)
        if self._bucket is not None:
            self._bucket.remove(self._name(path))

    def publish(self) -> None:
        """Let others see the labels, which are whole."""
        if self._bucket is not None:
            paths = self._labels()
            self._bucket.put(paths, [self._name(path) for path in paths])
            self._clean()

    def claim(self, names: Sequence[str]) -> None:
        """Note files of this folder as what jobs draw here; OutputError for one that somebody else has put there."""
        note, known = self.kept / DRAWN, set()
        with self._errors(), suppress(FileNotFoundError, ValueError):  # one that is damaged names nothing
            known = set(map(str, json.loads(note.read_bytes())))
        for name in names:
            if name not in known and os.path.lexists(self.path / name):
                raise OutputError(
                    f"{self.path / name}: the file exists and was not drawn by an annotation in this folder; "
                    "move it, or choose another folder"
                )
        if not known.issuperset(names):
            self._keep(note, sorted(known.union(names)))

    @property
    def asked(self) -> dict[str, Any] | None:
        """What the last job here was asked to do; None where there was none. UsageError where it cannot be read."""
        path = self.kept / JOB
        try:
            if self._bucket is None:
                text: bytes | None = path.read_bytes()
            else:
                text = self._bucket.read(f"{KEPT}/{JOB}")
            if text is None:
                return None
            asked: dict[str, Any] = json.loads(text)
            if not isinstance(asked, dict) or asked.get("version") != JOB_VERSION or not asked.keys() >= JOB_KEYS:
                raise ValueError(f"expected what a job of version {JOB_VERSION} was asked to do")
            if wrong := [key for key in sorted(JOB_KEYS) if not isinstance(asked[key], dict)]:
                raise ValueError(f"{wrong[0]}: expected an object, got {asked[wrong[0]]!r}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be read ({error}); give the INPUTs and options again") from error
        return asked

    def ask(self, asked: Mapping[str, Any]) -> None:
        """Note what a job is to do, for whoever finishes it."""
        self._keep(self.kept / JOB, asked)
        self.share(self.kept / JOB)

    def _keep(self, path: Path, content: Any) -> None:
        part = path.with_name(f"{path.stem}.part-{os.getpid()}.json")
        with self._errors():
            part.write_text(json.dumps(content, indent=1), encoding="utf-8")
            os.replace(part, path)

    # What is in the bucket and here

    def _fetch(self) -> None:
        """Have the chunks here that are in the bucket, and no others."""
        if self._bucket is None:
            return
        there = self._bucket.all(f"{KEPT}/{CHUNKS}")
        with self._errors():
            for path in (self.kept / CHUNKS).glob("*/*"):
                found = there.get(self._name(path))
                if found is not None and (found.size, found.modified) == _size_and_time(path):
                    del there[self._name(path)]
                elif ".part." not in path.name:
                    path.unlink()
        self._bucket.fetch([(found, self.path / name) for name, found in there.items()])

    def _note_time(self, path: Path, name: str) -> None:
        """Give a file the time that it has in the bucket, by which it is known again; without, it is fetched again."""
        assert self._bucket is not None
        with suppress(Exception):
            modified = self._bucket.modified(name)
            os.utime(path, (modified, modified))

    def _labels(self) -> list[Path]:
        return sorted(path for path in self.path.rglob("*") if path.is_file() and self.kept not in path.parents)

    def _clean(self) -> None:
        """No labels in the copy of a bucket: what a killed job left there is not what the next one puts."""
        if self._bucket is not None:
            with self._errors():
                for path in self._labels():
                    path.unlink()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self} cannot be written: {(error.strerror or str(error)).lower()}") from error


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, int(status.st_mtime)
