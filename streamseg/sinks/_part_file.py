"""An output that carries its final name only once it is complete; until then it is called NAME.part.EXT."""

from __future__ import annotations

import os
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
        self.part = self.final.with_name(f"{self.final.stem}.part{self.final.suffix}")
        self.path = self.part
        self.overwrite = overwrite

    def create(self) -> None:
        """Make sure that the part file can be written; a missing parent folder is made.

        What a stale part file holds stays until `start`: it may turn out to be the input.
        """
        try:
            if self.final.is_dir():
                raise UsageError(f"{self.final}: expected a file name for the output, got a folder")
            if self.final.exists() and not self.overwrite:
                raise UsageError(f"{self.final} exists already; --overwrite (overwrite=True) replaces it")
            self.final.parent.mkdir(parents=True, exist_ok=True)
            with open(self.part, "ab"):
                pass
        except OSError as error:
            raise OutputError(f"{self.final} cannot be written: {reason(error)}") from error

    def start(self, info: StreamInfo) -> None:
        """Empty the part file; raise UsageError when it, or the output, is the file that is being read."""
        if info.path is not None and info.path.exists():
            for name in (self.final, self.part):
                if name.exists() and name.samefile(info.path):
                    raise UsageError(f"{name} is the input itself; choose another output")
        try:
            with open(self.part, "wb"):
                pass
        except OSError as error:
            raise OutputError(f"{self.part} cannot be written: {reason(error)}") from error

    def finish(self) -> None:
        """Give the complete file its final name."""
        if self.final.exists() and not self.overwrite:
            raise OutputError(f"{self.final} has appeared while it was written; the new one is {self.part}")
        try:
            os.replace(self.part, self.final)
        except OSError as error:
            raise OutputError(f"{self.part} cannot be renamed to {self.final.name}: {reason(error)}") from error
        self.path = self.final

    def discard_if_empty(self) -> None:
        """Remove a part file that nothing was written to."""
        with suppress(OSError):
            if self.part.stat().st_size == 0:
                self.part.unlink()


def reason(error: BaseException) -> str:
    """What went wrong in words, without the file names and numbers that Python and FFmpeg put around it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[0].lower() + text[1:]
