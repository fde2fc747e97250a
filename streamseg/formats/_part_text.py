"""Text files that have their final names only once they are complete, written piece by piece."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from streamseg.types import OutputError


class PartText:
    """UTF-8 text on its way into the file `final`; NAME.part.EXT until `finish`, which replaces an older one.

    `write` appends; `close` only closes, so that a job of many videos has few files open, and `finish` may follow;
    `discard` removes what there is. Missing folders are made. OutputError says what cannot be written and why.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.part = final.with_name(f"{final.stem}.part{final.suffix}")
        with self._errors():
            final.parent.mkdir(parents=True, exist_ok=True)
            # a byte of a video's name that is no UTF-8 becomes \udcXX, which JSON reads as Python holds it
            self._file = open(  # noqa: SIM115 (until `close`)
                self.part, "w", encoding="utf-8", errors="backslashreplace", newline="\n"
            )

    def write(self, text: str) -> None:
        with self._errors():
            self._file.write(text)

    def close(self) -> None:
        with self._errors():
            self._file.close()

    def finish(self) -> None:
        """All that was written, under the final name."""
        self.close()
        with self._errors():
            os.replace(self.part, self.final)

    def taken_back(self) -> Iterator[str]:
        """All that was written, piece by piece, for another file; then nothing is left of it."""
        self.close()
        with self._errors(), open(self.part, encoding="utf-8", newline="\n") as file:
            while text := file.read(1 << 16):
                yield text
        self.discard()

    def discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        self.part.unlink(missing_ok=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.part} cannot be written: {(error.strerror or str(error)).lower()}") from error


class TextPerVideo:
    """A text file for each video of a job in a folder, named as the video is: `begin` opens the next, `end` closes it.

    `write` appends to the one of the present video. All have part names until `finish`; `discard` removes them.
    """

    def __init__(self, folder: Path, *, ending: str) -> None:
        self._folder, self._ending = folder, ending
        self._files: list[PartText] = []

    def begin(self, video: str) -> PartText:
        self._files.append(PartText(self._folder / f"{video}{self._ending}"))
        return self._files[-1]

    def write(self, text: str) -> None:
        self._files[-1].write(text)

    def end(self) -> None:
        self._files[-1].close()

    def finish(self) -> None:
        for file in self._files:
            file.finish()

    def discard(self) -> None:
        for file in self._files:
            file.discard()
