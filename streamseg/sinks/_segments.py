"""Records a live stream into files that are called after their beginning, and removes those that are old enough."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import av

from streamseg import plugins
from streamseg.sinks._part_file import WriteLock, part_file_of, part_folder_of, reason
from streamseg.types import FileSink, Frame, OutputError, Result, Sink, StreamInfo, UsageError

log = logging.getLogger(__name__)

PAUSE = 5.0
"""Seconds without a picture after which a recording ends: the camera is away then, and a player would show its last
picture for as long as that took. A shorter pause stays in the recording as long as it was."""

MOST_NOTES = 20
"""A recording of weeks has something to say of every file."""

SMALL = BLOCK = 65536
"""Bytes below which a video that holds no picture is what a full disk or an early kill left of one."""

_EXAMPLE = "2026-11-21T08-15-00Z"

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".gif")


def live_sink(
    name: str,
    options: Mapping[str, Any],
    *,
    segment: float | None = None,
    keep: float | None = None,
    clock: Callable[[], float] = time.time,
) -> Any:
    """The sink `name` for a live stream: what writes a file or a folder makes recordings, any other is as it always is.

    segment, keep, clock: of recordings, as `Segments` takes them. What exists is never replaced, so that `overwrite`
    means nothing here.
    """
    said = plugins.said("sinks", name)
    if not said.on_disk:
        return plugins.build("sinks", name, options)
    given = {option: value for option, value in options.items() if option != "overwrite"}

    def make(path: Path) -> FileSink:
        sink: FileSink = plugins.build("sinks", name, {**given, said.argument: path})
        return sink

    path = given[said.argument]
    return Segments(make, path, folders=bool(said.folder), segment=segment, keep=keep, clock=clock)


def recorded_as(path: Path) -> Path:
    """What a recording for this path is called, for instance."""
    return path.with_name(f"{path.stem}_{_EXAMPLE}{path.suffix}")


class Segments:
    """One recording after another, each written by a sink of its own and named by its first picture's time in UTC.

    make      the sink that writes to a path
    path      cam.mp4 for recordings called cam_2026-11-21T08-15-00Z.mp4
    folders   they are folders
    segment   seconds after which the next one begins; None: only at a new size, or after a pause of the camera
    keep      seconds after its end for which a recording stays; None: for ever
    clock     seconds since 1970

    What a killed run left under its part name is given its final one on entering. May be entered again after an error.
    """

    def __init__(
        self,
        make: Callable[[Path], FileSink],
        path: str | Path,
        *,
        folders: bool = False,
        segment: float | None = None,
        keep: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if segment is not None and not segment >= 1:
            raise UsageError(f"segment: expected 1 second or more, got {segment:g}")
        if keep is not None and not keep > 0:
            raise UsageError(f"keep: expected more than 0 seconds, got {keep:g}")
        self._names = _Names(Path(path), folders=folders)
        make(self._names.path)  # a wrong option fails now
        self._make = make
        self.segment, self.keep = segment, keep
        self._clock = clock
        self.path = Path(path)
        self.notes: list[str] = []
        self._info: StreamInfo | None = None
        self._current: _Recording | None = None
        self._failed = False

    def __enter__(self) -> Self:
        folder = self._names.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._names.recover()
        except OSError as error:
            raise OutputError(f"{self._names.path} cannot be written: {reason(error)}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{self._names.path} cannot be written: no permission to write to {folder}")
        self._failed = False
        return self

    def start(self, info: StreamInfo) -> None:
        self._info = info

    def resized(self, info: StreamInfo) -> None:
        """The pictures to come have another size: they go into a recording of their own."""
        self._info = info
        self._finish()

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        assert self._info is not None, "start(info) comes before the first write"
        if self._current is not None and not self._current.goes_on(picture, result.frame, most=self.segment):
            self._finish()
        try:
            self._current = self._current or self._begun(picture, result.frame)
            self._current.write(picture, result)
        except BaseException:
            self._failed = True
            raise
        self.path = self._current.sink.path

    def _begun(self, picture: av.VideoFrame, frame: Frame) -> _Recording:
        """A recording that begins with this picture."""
        assert self._info is not None
        began = self._clock() - max(0.0, time.monotonic() - frame.captured_at)
        width, height = picture.width, picture.height
        metadata = {**self._info.metadata, "creation_time": datetime.fromtimestamp(began, UTC).isoformat()}
        self._sweep()  # first, because on a full disk that makes the room
        sink = self._make(self._names.free(began))
        sink.__enter__()
        try:
            sink.start(replace(self._info, width=width, height=height, metadata=metadata))
        except BaseException:
            sink.__exit__(*sys.exc_info())
            raise
        return _Recording(sink, frame.time, (width, height), last=frame.time)

    def _finish(self) -> None:
        """Give the present recording, if there is one, its final name."""
        recording, self._current = self._current, None
        if recording is None:
            return
        try:
            recording.sink.__exit__(None, None, None)
            self.path = recording.sink.path
        finally:
            self._note(recording.sink)

    def _note(self, sink: Sink) -> None:
        self.notes += [note for note in sink.notes if note not in self.notes][: MOST_NOTES - len(self.notes)]

    def _sweep(self) -> None:
        """Remove the recordings that ended longer ago than they are to be kept."""
        for path, began in self._names.finished() if self.keep is not None else ():
            with suppress(FileNotFoundError):  # another run has the same in mind
                if self._clock() - max(began, path.stat().st_mtime) > (self.keep or 0):
                    _remove(path)

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None:
        if not self._failed:  # what failed elsewhere is no reason to leave what was recorded unfinished
            self._finish()
            return
        recording, self._current = self._current, None
        if recording is not None:
            recording.sink.__exit__(exc_type, exc, tb)
            self._note(recording.sink)


@dataclass
class _Recording:
    """One that is being written. began, last: stream time of its first and newest picture · size: of its pictures"""

    sink: FileSink
    began: float
    size: tuple[int, int]
    last: float

    def goes_on(self, picture: av.VideoFrame, frame: Frame, *, most: float | None) -> bool:
        """Whether the picture belongs to it, and not to one that begins with it."""
        ended = most is not None and frame.time - self.began >= most
        return not ended and frame.time - self.last <= PAUSE and (picture.width, picture.height) == self.size

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        self.last = result.frame.time
        self.sink.write(picture, result)


@dataclass(frozen=True)
class _Names:
    """What the recordings of one stream are called. path: cam.mp4 for cam_2026-11-21T08-15-00Z.mp4"""

    path: Path
    folders: bool = False

    @property
    def _words(self) -> tuple[str, str]:
        return (self.path.name, "") if self.folders else (self.path.stem, self.path.suffix)

    def free(self, began: float) -> Path:
        """A name that no recording has, finished or not, for one that began at this time."""
        stem, suffix = self._words
        time_of_day = datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        return self._free(self.path.with_name(f"{stem}_{time_of_day}{suffix}"))

    def _free(self, wanted: Path) -> Path:
        path, number = wanted, 2
        while os.path.lexists(path) or os.path.lexists(self._part(path)):
            suffix = self._words[1]
            path = wanted.with_name(f"{wanted.name.removesuffix(suffix)}_{number}{suffix}")
            number += 1
        return path

    def _part(self, path: Path) -> Path:
        return part_folder_of(path) if self.folders else part_file_of(path)

    def finished(self) -> Iterator[tuple[Path, float]]:
        """The finished recordings, each with the time of its beginning."""
        return ((path, began) for path, began, part in self._found() if not part)

    def recover(self) -> None:
        """Give what killed runs left its final name; of what another run is writing, and of nothing, nothing."""
        for part in [path for path, _, part in self._found() if part]:
            suffix = self._words[1]
            final = part.with_name(part.name.removesuffix(suffix).removesuffix(".part") + suffix)
            lock = WriteLock(part, final)
            try:
                # to be written, or NFS says that it has no locks
                how = os.O_RDONLY if self.folders else os.O_RDWR
                lock.take(lambda part=part, how=how: os.open(part, how))  # type: ignore[misc]
            except (OutputError, FileNotFoundError):
                continue
            try:
                self._settle(part, final)
            finally:
                lock.give_back()

    def _settle(self, part: Path, final: Path) -> None:
        if part.suffix == ".jsonl":
            _end_with_a_line(part)
        if _is_nothing(part):
            _remove(part)
            return
        if os.path.lexists(final):
            final = self._free(final)
        os.rename(part, final)
        log.info("%s: what an earlier run left unfinished is now %s", part, final.name)

    def _found(self) -> list[tuple[Path, float, bool]]:
        """Every recording that is there, when it began, and whether it has its part name."""
        stem, suffix = map(re.escape, self._words)
        shape = re.compile(rf"{stem}_(\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\dZ)(?:_\d+)*(\.part)?{suffix}")
        found = []
        for path in sorted(self.path.parent.iterdir()):
            if path.is_symlink() or path.is_dir() != self.folders:
                continue  # somebody else's, whatever it is called
            if match := shape.fullmatch(path.name):
                with suppress(ValueError):  # 2026-99-99
                    began = datetime.strptime(match[1], "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC)
                    found.append((path, began.timestamp(), match[2] is not None))
        return found


def _end_with_a_line(part: Path) -> None:
    """Cut off what a killed run left of a line."""
    with part.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - BLOCK)
            file.seek(begin)
            if (place := file.read(end - begin).rfind(b"\n")) >= 0:
                end = begin + place + 1
                break
            end = begin
        file.truncate(end)


def _is_nothing(part: Path) -> bool:
    """Whether an unfinished recording holds nothing at all: no picture, no line."""
    if part.is_dir():
        return not any(part.iterdir())
    size = part.stat().st_size
    if size > SMALL or part.suffix.lower() not in VIDEOS:
        return size == 0
    try:
        with av.open(f"file:{part}") as container:
            return not any(packet.size for packet in container.demux(video=0))
    except (av.FFmpegError, OSError, IndexError):
        return True


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, reason(error))
