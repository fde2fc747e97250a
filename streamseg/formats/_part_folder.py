"""Many small files that have their final places only once all of them are complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamseg.types import OutputError


class PartFolder:
    """Files on their way into the folder `final`; until `finish`, which replaces older ones, they lie in `part`.

    `write` makes one file, and the folders that its name leads through; `discard` removes all of them. What a killed
    job left in `part` goes at once. OutputError says what cannot be written and why.
    """

    def __init__(self, final: Path, part: Path) -> None:
        self.final, self.part = final, part
        with self._errors(part):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)

    def write(self, name: str, content: bytes) -> None:
        path = self.part / name
        with self._errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def finish(self) -> None:
        """Every file in its final place."""
        with self._errors(self.final):
            _move(self.part, self.final)

    def discard(self) -> None:
        shutil.rmtree(self.part, ignore_errors=True)

    @contextmanager
    def _errors(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from error


def _move(part: Path, final: Path) -> None:
    """All files of a folder and its folders to where they belong, none of them listed: there may be millions."""
    final.mkdir(parents=True, exist_ok=True)
    moved = True
    while moved:  # some file systems pass over entries while others are taken away
        moved = False
        with os.scandir(part) as entries:
            for entry in entries:
                moved = True
                if entry.is_dir(follow_symlinks=False):
                    _move(Path(entry.path), final / entry.name)
                else:
                    os.replace(entry.path, final / entry.name)
    part.rmdir()
