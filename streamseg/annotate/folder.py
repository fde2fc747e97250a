"""The folder that an annotation writes into: where its labels and chunks lie, and that one job at a time is in it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamseg.types import OutputError, UsageError

KEPT = ".streamseg"
"""What lies in the folder beside the labels: what was found, and what was asked."""


class Folder:
    """The folder of a job. OutputError where it cannot be written."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.kept = self.path / KEPT
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"-o {self.path}: expected a folder, got a file")

    def chunks_of(self, video: str) -> Path:
        """Where the chunks of a video lie."""
        return self.kept / "chunks" / video

    @property
    def videos(self) -> list[str]:
        """The videos of which there are chunks."""
        chunks = self.kept / "chunks"
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
                yield
            else:
                with self._locked(f"lock-{shard[0]}-of-{shard[1]}", fcntl.LOCK_EX):
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
                    f"{self.path}: another annotation is at work in this folder; wait for its end, or choose another"
                ) from None
            except OSError:
                pass  # a file system without locks
            yield
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Remove all that was found."""
        with self._errors():
            if (self.kept / "chunks").exists():
                shutil.rmtree(self.kept / "chunks")
            (self.kept / "job.json").unlink(missing_ok=True)

    @property
    def asked(self) -> dict[str, Any] | None:
        """What the last job here was asked to do; None where there was none. UsageError where it cannot be read."""
        path = self.kept / "job.json"
        try:
            asked: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be read ({error}); give the INPUTs and options again") from error
        return asked

    def ask(self, asked: Mapping[str, Any]) -> None:
        """Note what a job is to do, for whoever finishes it."""
        part = self.kept / f"job.part-{os.getpid()}.json"
        with self._errors():
            part.write_text(json.dumps(asked, indent=1), encoding="utf-8")
            os.replace(part, self.kept / "job.json")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {(error.strerror or str(error)).lower()}") from error
