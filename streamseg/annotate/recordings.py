"""What was found in a chunk, as one file that never changes: a line about the chunk, a line a frame, a line at the end.

Lines of JSON, packed with gzip. The frames' are records (`records.py`) with the soft masks and without run lengths,
which are made when the labels are, and with what the tracker sees of the picture. The first line says of which video
and job the chunk is, so that an index of all chunks can be made of them alone; the last one that nothing is missing.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, Self

import av

from streamseg import masks
from streamseg.annotate.chunks import Chunk, Picked, Run
from streamseg.kept import packed, unpacked
from streamseg.records import from_record, to_record
from streamseg.trackers._looks import looks_of
from streamseg.trackers._scene_cuts import thumbnail
from streamseg.types import Frame, InputError, OutputError, Result, Sight, StreamInfo

VERSION = 2
ENDING = ".jsonl.gz"
PACKING = 1, zlib.DEFLATED, zlib.MAX_WBITS | 16, zlib.DEF_MEM_LEVEL, zlib.Z_RLE
"""Of zlib, as gzip: looking for anything but runs takes a thousandth of a second more a frame, for a tenth of the
bytes. Without a time and a name in it, the same detections are the same bytes."""

BLOCK = 1 << 20

Job = Mapping[str, Any]
"""What a chunk says of its video and its job, beside its place: `identity`, `pins`."""


class Damaged(InputError):
    """A chunk's file is not whole; `path` names it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: not whole ({why})")
        self.path = path


@dataclass(frozen=True)
class Ended:
    """A finished chunk: its file, its frames, the number of the frame behind it, and whether its video ends with it."""

    video: str
    number: int
    num_frames: int
    next_index: int
    num_bytes: int
    is_last: bool = False


def file_of(folder: Path, number: int) -> Path:
    """Where chunk `number` of the video lies whose chunks are in `folder`."""
    return folder / f"{number:06d}{ENDING}"


def numbers_in(folder: Path) -> list[int]:
    """The chunks that lie in a folder, in order."""
    stems = (path.name.removesuffix(ENDING) for path in folder.glob(f"*{ENDING}"))
    return sorted(int(stem) for stem in stems if stem.isdecimal())  # the others are part files


class Recorder:
    """Writes the results of a run of chunks, a file each, as a Sink; `ended` is told of each as soon as it is whole."""

    path: Path | None = None

    def __init__(self, folder: Path, run: Run, source: Picked, *, job: Job, ended: Callable[[Ended], None]) -> None:
        self.notes: list[str] = []
        self._folder, self._run, self._source, self._job, self._ended = folder, run, source, job, ended
        self._number = run.first
        self._file: BinaryIO | None = None
        self._num_frames = 0

    def __enter__(self) -> Self:
        return self

    def start(self, info: StreamInfo) -> None:
        with self._errors():
            self._folder.mkdir(parents=True, exist_ok=True)
        self._begin()

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        following = self._following
        if following is not None and result.frame.index >= following.index:
            self._finish(following.index)
            self._number += 1
            self._begin()
        self._write(to_record(result, run_lengths=False) | {"sight": described_sight(result)})
        self._num_frames += 1

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None:
        if exc_type is None:
            self._finish(self._source.number_after)
            return
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                self._part.unlink()

    @property
    def _following(self) -> Chunk | None:
        after = self._number + 1
        return self._run.cut.chunks[after] if after < self._run.last else None

    @property
    def _part(self) -> Path:
        return self._folder / f"{self._number:06d}.part{ENDING}"

    def _begin(self) -> None:
        self._num_frames = 0
        with self._errors():
            self._file = open(self._part, "wb")  # noqa: SIM115 (until the chunk is whole)
        self._packer = zlib.compressobj(*PACKING)
        self._write(head(self._run, self._number, self._job))

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
        data = self._packer.compress(text.encode("utf-8", "backslashreplace") + b"\n")
        with self._errors():
            self._file.write(data)

    def _finish(self, next_index: int) -> None:
        assert self._file is not None
        end: dict[str, Any] = {"frames": self._num_frames, "next_index": next_index}
        if is_last := self._number == len(self._run.cut.chunks) - 1:
            end["last"] = True
        if self._number == self._run.last - 1 and self._source.warnings:  # now the source has been left
            end["warnings"] = dict(self._source.warnings)
        self._write(end)
        final = file_of(self._folder, self._number)
        with self._errors():
            self._file.write(self._packer.flush())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            num_bytes = self._part.stat().st_size
            os.replace(self._part, final)
        self._file = None
        self._ended(Ended(self._run.video, self._number, self._num_frames, next_index, num_bytes, is_last))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self._part} cannot be written: {(error.strerror or str(error)).lower()}") from error


def keep(folder: Path, ended: Ended, data: bytes) -> None:
    """Record a chunk that another machine has looked at, whole as it came; OutputError where that cannot be written."""
    part, final = folder / f"{ended.number:06d}.part{ENDING}", file_of(folder, ended.number)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, final)
    except OSError as error:
        raise OutputError(f"{part} cannot be written: {(error.strerror or str(error)).lower()}") from error


def described_sight(result: Result) -> dict[str, Any]:
    """What the tracker sees of a frame, as plain data; with its time to the last digit, which its motion hangs on."""
    frame, instances = result.frame, result.instances
    instances = replace(instances, masks=masks.as_recorded(instances.masks))
    return {
        "time": frame.time,
        "thumbnail": packed(thumbnail(frame)),
        "looks": packed(looks_of(frame.picture, instances)),
    }


def frame_of(record: Mapping[str, Any], picture: av.VideoFrame, *, stream: str, class_names: Sequence[str]) -> Frame:
    """The frame of a record without its picture, in the place of which comes a blank one of its size."""
    sight = record["sight"]
    seen = Sight(from_record(record, class_names), unpacked(sight["thumbnail"]), unpacked(sight["looks"]))
    index, time = record["index"], sight["time"]
    return Frame(picture, index, time, monotonic(), stream, sight=seen)


def head(run: Run, number: int, job: Job) -> dict[str, Any]:
    """The first line of a chunk."""
    chunk = run.cut.chunks[number]
    return {
        "version": VERSION,
        "video": run.video,
        "chunk": number,
        "first_index": chunk.index,
        "time": chunk.time,
        **job,
    }


def head_in(path: Path) -> dict[str, Any]:
    """The first line of the chunk in a file; Damaged where there is none."""
    for line in _lines(path):
        if line.get("version") != VERSION:
            raise Damaged(path, f"expected version {VERSION}, got {line.get('version')!r}")
        return line
    raise Damaged(path, "it is empty")


def records_in(path: Path) -> Generator[dict[str, Any], None, Mapping[str, int]]:
    """The records of the frames in a chunk's file; Damaged, before the first one, where its bytes are not whole.

    Returns what was wrong with the video, how often.
    """
    with _damage(path), gzip.open(path, "rb") as file:  # its checksum stands at its end, wrong records before it
        while file.read(BLOCK):
            pass
    lines = _lines(path)
    next(lines, None)
    for number, line in enumerate(lines):
        if "objects" in line:
            yield line
        elif line.get("frames") == number:
            warnings: Mapping[str, int] = line.get("warnings", {})
            return warnings
        else:
            raise Damaged(path, "frames are missing")
    raise Damaged(path, "its end is missing")


def checked(path: Path, video: str) -> Ended:
    """What a chunk's file says of itself, once all of it was read; Damaged where it is not whole."""
    first, last, num_lines = None, None, 0
    for line in _lines(path):
        first, last, num_lines = first or line, line, num_lines + 1
    if first is None or last is None or last.get("frames") != num_lines - 2 or "next_index" not in last:
        raise Damaged(path, "its end is missing")
    is_last = last.get("last") is True
    return Ended(video, int(first["chunk"]), num_lines - 2, int(last["next_index"]), path.stat().st_size, is_last)


def join(ended: Sequence[Ended], chunks: Sequence[Chunk]) -> bool:
    """Whether every frame of the video is in exactly one of these chunks."""
    return all(each.next_index == chunk.index for each, chunk in zip(ended[:-1], chunks[1:], strict=True))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with _damage(path), gzip.open(path, "rb") as file:
        for line in file:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise Damaged(path, "a line is no object")
            yield value


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise Damaged(path, str(error)) from error
