"""A file that grows by whole lines, through restarts and kills, and never loses one that it has."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

from streamseg.types import OutputError, UsageError

LONGEST = 1 << 20
"""Bytes of a line; what goes on for longer without an end is no file of lines."""

log = logging.getLogger(__name__)


class AppendFile:
    """Lines are added at its end by one run at a time; each is on the disk when `append` returns.

    header: the line that it begins with, if any · is_ours: whether a file that is there already begins like one of ours
    · is_whole: whether a last line that has no end lacks nothing else
    """

    def __init__(
        self,
        path: Path,
        *,
        header: bytes = b"",
        is_ours: Callable[[bytes], bool],
        is_whole: Callable[[bytes], bool] = lambda line: False,
    ) -> None:
        self.path = path
        self._header = header
        self._is_ours, self._is_whole = is_ours, is_whole
        self._descriptor: int | None = None

    def open(self) -> None:
        """Open it, made with its folder where it is not there; what a killed run wrote half of its last line goes.

        UsageError where another kind of file is there, which stays as it is; OutputError where it cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o666)
            self._prepare(self._descriptor)
        except OSError as error:
            self.close()
            raise self._failed(error) from error
        except (OutputError, UsageError):
            self.close()
            raise

    def append(self, lines: bytes) -> None:
        """Add whole lines. OutputError where they are not all on the disk; then none of them is."""
        if self._descriptor is None or self._is_elsewhere(self._descriptor):
            self.close()
            self.open()
        assert self._descriptor is not None
        try:
            _write(self._descriptor, lines)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Let other runs write to it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _prepare(self, descriptor: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UsageError(f"{self.path}: expected a file")
        self._lock(descriptor)
        first = os.pread(descriptor, max(len(self._header), 1), 0)
        if first and not self._is_ours(first):
            raise UsageError(f"{self.path}: expected a file that streamseg's events can be added to, got another one")
        self._mend(descriptor)
        if self._header and not os.fstat(descriptor).st_size:
            _write(descriptor, self._header)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{self.path}: another run is writing it") from None
        except OSError:
            pass  # a file system without locks

    def _mend(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, LONGEST, max(0, size - LONGEST))
        half = tail.rpartition(b"\n")[2]
        if len(half) == LONGEST:
            raise UsageError(f"{self.path}: expected lines of text")
        if half and self._is_whole(half):
            _write(descriptor, b"\n")
        elif half:
            os.ftruncate(descriptor, size - len(half))
            log.warning("%s: the half of a line that a killed run left was removed: %r", self.path, half[:300])

    def _is_elsewhere(self, descriptor: int) -> bool:
        try:
            return is_elsewhere(self.path, os.fstat(descriptor))
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> OutputError:
        reason = (error.strerror or str(error)).lower()
        return OutputError(f"{self.path} cannot be written: {reason}")


def is_elsewhere(path: Path, opened: os.stat_result) -> bool:
    """Whether the file that was opened was moved away or removed since, as those do that keep logs short. OSError."""
    try:
        return not os.path.samestat(os.stat(path), opened)
    except FileNotFoundError:
        return True


def _write(descriptor: int, lines: bytes) -> None:
    before = os.fstat(descriptor).st_size
    rest = memoryview(lines)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, before)
        raise
