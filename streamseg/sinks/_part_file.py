"""An output that carries its final name only once it is complete; until then it is called NAME.part.EXT.

Only one run at a time writes to a part file or folder: it holds a lock on it, which falls away with the run, however
that ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from streamseg.types import OutputError, StreamInfo, UsageError


class PartFile:
    """Where an output is being written and where it will be.

    path: where it is now, the part name and then the final one · part, final: both names · overwrite: an older file
    under the final name is replaced, at the very end
    """

    def __init__(self, final: str | os.PathLike[str], *, overwrite: bool) -> None:
        self.final = Path(final)
        self.part = part_file_of(self.final)
        self.path = self.part
        self.overwrite = overwrite
        self._lock = WriteLock(self.part, self.final)

    def create(self) -> None:
        """Make sure that the part file can be written, until `close` by this run alone; a missing folder is made.

        What a stale part file holds stays until `start`: it may turn out to be the input.
        """
        try:
            if self.final.is_dir():
                raise UsageError(f"{self.final}: expected a file name for the output, got a folder")
            if self.final.exists() and not self.overwrite:
                raise UsageError(f"{self.final} exists already; --overwrite (overwrite=True) replaces it")
            self.final.parent.mkdir(parents=True, exist_ok=True)
            self._lock.take(lambda: os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666))
        except OSError as error:
            raise OutputError(f"{self.final} cannot be written: {reason(error)}") from error

    def start(self, info: StreamInfo) -> None:
        """Empty the part file; raise UsageError when it, or the output, is the file that is being read."""
        if info.path is not None and info.path.exists():
            for name in (self.final, self.part):
                if name.exists() and name.samefile(info.path):
                    raise UsageError(f"{name} is the input itself; choose another output")
        try:
            self._empty()
        except OSError as error:
            raise OutputError(f"{self.part} cannot be written: {reason(error)}") from error

    def _empty(self) -> None:
        try:
            _truncate(self.part)
        except PermissionError:
            # On an SMB share a lock keeps out whoever opens the file once more, as the writers of this very run will.
            self._lock.give_back()
            _truncate(self.part)

    def finish(self) -> None:
        """Give the complete file its final name."""
        if self.final.exists() and not self.overwrite:
            raise OutputError(f"{self.final} has appeared while it was written; the new one is {self.part}")
        try:
            _keep(self.part)  # or a power cut may leave the name without the content
            os.replace(self.part, self.final)
        except OSError as error:
            raise OutputError(f"{self.part} cannot be renamed to {self.final.name}: {reason(error)}") from error
        self.path = self.final

    def discard_if_empty(self) -> None:
        """Remove a part file that nothing was written to."""
        with suppress(OSError):
            if self.part.stat().st_size == 0:
                self.part.unlink()

    def close(self) -> None:
        """Let other runs write to the part file."""
        self._lock.give_back()


def _keep(file: Path) -> None:
    """Have on the disk what was written to the file."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that does not know it
            raise
    finally:
        os.close(descriptor)


class WriteLock:
    """One run's right to write to `part`, a file or a folder that will be `final`.

    Nothing is left behind in the folder, and where the file system has no locks everyone may write.
    """

    def __init__(self, part: Path, final: Path) -> None:
        self._part, self._final = part, final
        self._descriptor: int | None = None

    def take(self, opened: Callable[[], int]) -> None:
        """Hold it until `give_back`; `opened` makes and opens the part. OutputError when another run holds it."""
        while True:
            descriptor = opened()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise OutputError(being_written(self._final)) from None
            except OSError:
                os.close(descriptor)
                return
            if _is_open_as(self._part, descriptor):
                self._descriptor = descriptor
                return
            os.close(descriptor)  # another run gave it its final name in this very moment

    def give_back(self) -> None:
        """Let another run take it; no error where it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may keep the descriptor open
            os.close(descriptor)


def part_file_of(final: Path) -> Path:
    """What a file is called until it is complete: a.part.mp4 for a.mp4."""
    return final.parent / f"{final.stem}.part{final.suffix}"


def part_folder_of(final: Path) -> Path:
    """What a folder is called until it is complete: walk.part for walk."""
    return final.parent / f"{final.name}.part"


def is_taken(part: Path) -> bool:
    """Whether a run writes to this part file or folder at present."""
    try:
        descriptor = os.open(part, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def being_written(final: Path) -> str:
    """The message that refuses an output which another run writes at present."""
    return f"{final}: another run is writing it; wait for its end, or choose another output"


def _is_open_as(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _truncate(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(b"\0")  # emptying alone asks for no right to write
        file.truncate(0)


def reason(error: BaseException) -> str:
    """What went wrong in words, without the file names and numbers that Python and FFmpeg put around it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[0].lower() + text[1:]
