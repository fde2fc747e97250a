"""Publishes the drawn pictures as HLS: a folder with a playlist, which any web server makes a live picture of."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import av

from streamseg.sinks._codecs import Quality
from streamseg.sinks._live_video import LiveEncoding, LiveVideo
from streamseg.sinks._part_file import WriteLock, reason
from streamseg.types import OutputError, Result, StreamInfo, UsageError
from streamseg.words import writable

PLAYLIST = "index.m3u8"
OURS = re.compile(r"(index\.m3u8|segment\d{6,}\.ts)(\.tmp)?")

PAUSE = 5.0
"""Seconds without a picture after which viewers are told of a break: what plays would stand still for as long."""

WRITE = 2
"""FFmpeg's AVIO_FLAG_WRITE."""

OPTIONS = {"hls_segment_type": "mpegts", "flush_packets": "1"}

LIVE = {
    "hls_time": "1",
    "hls_list_size": "6",
    "hls_delete_threshold": "4",
    # Whole files only, under their names, and the last of them does not say that it is the last.
    "hls_flags": "delete_segments+independent_segments+program_date_time+temp_file+omit_endlist",
}
"""Two to four seconds behind, and ten seconds on the disk."""

WHOLE = {
    "hls_time": "4",
    "hls_list_size": "0",
    "hls_playlist_type": "event",
    "hls_flags": "independent_segments+temp_file",
}
"""Of a stream with an end: all of it, to be watched from its beginning while it is still written."""


class Hls:
    """A folder with index.m3u8 and the last seconds of a live stream as H.264; of a file all of it.

    path      the folder: absent, empty or one of ours, in which a live stream goes on after a restart
    codec     h264 or nvenc, or the encoder's own name
    quality   the encoder's CRF (lower is better and larger), or "lossless"; None: as good as it looks
    preset    the encoder's own word for its speed; None: a fast one
    overwrite what an earlier file left in the folder is replaced; a live stream goes on in any case

    Pictures of a new size, and those after a pause of the camera, follow a break that players know about.
    """

    schemes = ("hls",)
    metavar = "FOLDER"

    def __init__(
        self,
        path: str | Path,
        *,
        codec: str | None = None,
        quality: Quality = None,
        preset: str | int | None = None,
        overwrite: bool = False,
    ) -> None:
        if not str(path):
            raise UsageError("hls: expected a folder, as in hls:FOLDER")
        if "%" in str(path):
            raise UsageError(f"hls: {path}: expected a folder without %, which stands for the number of a segment")
        if writable(str(path)) != str(path):
            raise UsageError(f"hls: {writable(str(path))}: expected a folder whose name is UTF-8, as FFmpeg takes it")
        self._encoding = LiveEncoding(codec, quality=quality, preset=preset, container="hls")
        self._folder = Path(path).expanduser()
        self.path = self._folder / PLAYLIST
        self.overwrite = overwrite
        self.notes: list[str] = []
        self._lock = WriteLock(self._folder, self._folder)
        self._info: StreamInfo | None = None
        self._writer: _Writer | None = None
        with self._errors():
            self._check_ours()

    def __enter__(self) -> Self:
        with self._errors():
            self._check_ours()
            self._lock.take(self._opened)
            if not os.access(self._folder, os.W_OK | os.X_OK):
                self._lock.give_back()
                raise PermissionError(13, os.strerror(13))
        return self

    def _check_ours(self) -> None:
        if self._folder.is_dir():
            others = sorted(entry.name for entry in self._folder.iterdir() if not OURS.fullmatch(entry.name))
            if others:
                raise UsageError(f"{self._folder}: expected a folder for HLS alone, but it holds {others[0]}")
        elif os.path.lexists(self._folder):
            raise UsageError(f"{self._folder}: expected a folder for the stream, got a file")

    def _opened(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        return os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)

    def start(self, info: StreamInfo) -> None:
        if not info.live and self.path.exists() and not self.overwrite:
            raise UsageError(f"{self.path} exists already; --overwrite (overwrite=True) replaces it")
        with self._errors():
            _clean(self._folder, keep=_listed(self.path) if info.live else frozenset())
        self._info = info

    def resized(self, info: StreamInfo) -> None:
        """The pictures to come have another size."""
        self._info = info
        self._finish()

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        assert self._info is not None, "start(info) comes before the first write"
        time = result.frame.time
        if self._writer is not None and not self._writer.goes_on(picture, time):
            self._finish()
        with self._errors():
            if self._writer is None:
                if self._info.live:  # a writer that ends forgets those that it has just taken from the list
                    _clean(self._folder, keep=_listed(self.path))
                self._writer = _Writer(self._folder, picture, self._info, encoding=self._encoding, time=time)
                self.notes += [note for note in self._writer.notes if note not in self.notes]
            self._writer.write(picture, time)

    def _finish(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with self._errors():
                writer.close()

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None:
        try:
            if exc_type is None:
                self._finish()
            else:
                with suppress(OutputError):
                    self._finish()
        finally:
            self._lock.give_back()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{self._folder} cannot be written: {reason(error)}") from error


class _Writer:
    """What writes pictures of one size into the folder, without a break."""

    def __init__(
        self, folder: Path, picture: av.VideoFrame, info: StreamInfo, *, encoding: LiveEncoding, time: float
    ) -> None:
        self.notes: list[str] = []
        self._size, self._last = (picture.width, picture.height), time
        options = {**OPTIONS, **(LIVE if info.live else WHOLE), "hls_segment_filename": f"{folder}/segment%06d.ts"}
        if (folder / PLAYLIST).exists():  # what was written before stays in the list, followed by a break
            options["hls_flags"] += "+append_list"
        self._output = av.open(f"file:{folder / PLAYLIST}", "w", format="hls", options=options, io_open=_opened)
        self._video = LiveVideo(self._output, picture, info, encoding=encoding, time=time, notes=self.notes)

    def goes_on(self, picture: av.VideoFrame, time: float) -> bool:
        """Whether the picture follows without a break."""
        return (picture.width, picture.height) == self._size and time - self._last <= PAUSE

    def write(self, picture: av.VideoFrame, time: float) -> None:
        self._last = time
        for packet in self._video.packets(picture, time):
            self._output.mux(packet)

    def close(self) -> None:
        try:
            for packet in self._video.rest():
                self._output.mux(packet)
        finally:
            self._output.close()


class _Whole(io.FileIO):
    """A file that writes all it is given, or raises; FFmpeg's own do not notice that the disk is full."""

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) :]
        return len(data)


def _opened(url: str, flags: int, options: object) -> _Whole:
    return _Whole(url.removeprefix("file:"), "wb" if flags & WRITE else "rb")


def _listed(playlist: Path) -> frozenset[str]:
    """The playlist and the segments that stand in it; nothing where there is no playlist."""
    if not playlist.exists():
        return frozenset()
    lines = playlist.read_text(encoding="utf-8", errors="replace").splitlines()
    return frozenset({playlist.name, *(line for line in lines if not line.startswith("#"))})


def _clean(folder: Path, *, keep: frozenset[str]) -> None:
    """Remove what earlier runs left and nobody will look for."""
    for entry in folder.iterdir():
        if OURS.fullmatch(entry.name) and entry.name not in keep:
            entry.unlink()
