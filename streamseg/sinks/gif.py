"""Writes a short clip as an animated GIF, small enough for a web page or a chat."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
from av.video.reformatter import VideoReformatter

from streamseg.scaling import matrix_of
from streamseg.sinks._part_file import PartFile, reason
from streamseg.types import OutputError, Result, StreamInfo, UsageError

HUNDREDTH = Fraction(1, 100)
FASTEST = 50
"""Pictures a second: browsers show a delay below two hundredths of a second as ten."""

SHORTEST, LONGEST = 2, 65_535
"""Hundredths of a second that a picture is shown: browsers take less for ten, and the format has no more."""

LARGE = 20_000_000
"""Bytes above which a GIF is worth a warning."""


class Gif:
    """An animated GIF that runs for ever, at the input's pace, with a palette of its own for every picture.

    path · fps: at most that many pictures a second, each shown at its own time · width: larger pictures are made
    that wide · overwrite: an older file of that name is replaced. Written picture by picture, in little memory;
    NAME.part.gif until complete.
    """

    endings = (".gif",)

    def __init__(self, path: str | Path, *, fps: float = 12.5, width: int = 640, overwrite: bool = False) -> None:
        self._reformatter = VideoReformatter()  # the picture's own would serve all sinks at once, and crash
        self._file = PartFile(path, overwrite=overwrite)
        if self._file.final.suffix.lower() != ".gif":
            raise UsageError(f"expected a file ending in .gif, got {str(path)!r}")
        if not 0 < fps <= FASTEST:
            raise UsageError(f"fps: expected more than 0 and at most {FASTEST}, got {fps:g}")
        if width < 1:
            raise UsageError(f"width: expected 1 pixel or more, got {width}")
        self.fps, self.width = fps, width
        self.notes: list[str] = []
        self._info: StreamInfo | None = None
        self._output: av.container.OutputContainer | None = None
        self._due = 0.0
        self._newest: float | None = None
        self._waiting: av.Packet[Any] | None = None

    @property
    def path(self) -> Path:
        return self._file.path

    def __enter__(self) -> Self:
        self._file.create()
        return self

    def start(self, info: StreamInfo) -> None:
        self._file.start(info)
        self._info = info

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        assert self._info is not None, "start(info) comes before the first write"
        if self._output is None:
            self._first_time = self._due = result.frame.time
            with self._errors():
                self._open(picture, self._info)
        time = result.frame.time
        self._end = self._end_of(picture, time)
        if time < self._due - 1e-6:
            return
        # The next one is due a whole number of steps after the first, so that rounding does not add up.
        self._due = self._first_time + (int((time - self._first_time) * self.fps + 1e-6) + 1) / self.fps
        with self._errors():
            self._encode(picture, round((time - self._first_time) / HUNDREDTH))

    def _end_of(self, picture: av.VideoFrame, time: float) -> float:
        """Until when the newest picture is shown, in seconds: as long as it says, no shorter than the one before."""
        assert self._info is not None
        said = float((picture.duration or 0) * (picture.time_base or 0))
        step = time - self._newest if self._newest is not None else 0.0
        self._newest = time
        end = time + (max(said, step) or 1 / self.fps)
        return end if self._info.end is None else min(end, self._info.end)

    def _open(self, picture: av.VideoFrame, info: StreamInfo) -> None:
        shown = picture.width * float(info.pixel_aspect)
        scale = min(1.0, self.width / shown)
        self._size = max(1, round(shown * scale)), max(1, round(picture.height * scale))
        self._output = av.open(f"file:{self._file.part}", "w", format="gif", options={"flush_packets": "1"})
        stream = self._output.add_stream("gif", rate=100)
        stream.width, stream.height = self._size
        stream.pix_fmt = "pal8"
        stream.codec_context.time_base = stream.time_base = HUNDREDTH
        self._stream = stream
        self._palette = _palette_graph(*self._size)
        self._last_pts = -1

    def _encode(self, picture: av.VideoFrame, pts: int) -> None:
        assert self._output is not None
        rgb = self._reformatter.reformat(
            picture, *self._size, "rgb24", src_colorspace=matrix_of(picture), interpolation="AREA"
        )
        small = rgb.reformat(format="bgra")
        small.pts = self._last_pts = max(pts, self._last_pts + 1)
        small.time_base = HUNDREDTH
        self._palette.vpush(small)
        with suppress(av.error.BlockingIOError):
            while True:
                self._mux(self._stream.encode(self._palette.vpull()), self._output)

    def _mux(self, packets: list[av.Packet[Any]], output: av.container.OutputContainer) -> None:
        """Write packets but for the newest, which waits: of the last one FFmpeg asks how long it is shown."""
        for packet in packets:
            if self._waiting is not None:
                output.mux(self._waiting)
            self._waiting = packet

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None:
        with closing(self._file):
            self._leave(exc_type)

    def _leave(self, exc_type: type[BaseException] | None) -> None:
        output, self._output = self._output, None
        if output is None:
            self._file.discard_if_empty()
            if exc_type is None:
                raise OutputError(f"{self._file.final} was not written: there was no picture to write")
            return
        if exc_type is not None:
            with suppress(av.FFmpegError, OSError, ValueError):
                self._close(output)
            return
        with self._errors():
            self._close(output)
        self._file.finish()
        size = self._file.path.stat().st_size
        if size > LARGE:
            self.notes.append(
                f"{self._file.path.name} has {size / 1e6:.0f} MB: a smaller width or fps, or a part of the clip "
                "(--start, --end), makes it smaller, and an .mp4 much smaller"
            )

    def _close(self, output: av.container.OutputContainer) -> None:
        try:
            self._palette.vpush(None)
            with suppress(av.error.EOFError, av.error.BlockingIOError):
                while True:
                    self._mux(self._stream.encode(self._palette.vpull()), output)
            self._mux(self._stream.encode(None), output)
            if self._waiting is not None:
                lasts = round((self._end - self._first_time) / HUNDREDTH) - self._last_pts
                self._waiting.duration = min(max(lasts, SHORTEST), LONGEST)
                output.mux(self._waiting)
        finally:
            output.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{self._file.part} cannot be written: {reason(error)}") from error


def _palette_graph(width: int, height: int) -> av.filter.Graph:
    """Pictures in, the same with the 256 colours that suit each best out."""
    graph = av.filter.Graph()
    entry = graph.add_buffer(width=width, height=height, format=av.VideoFormat("bgra"), time_base=HUNDREDTH)
    split, sink = graph.add("split"), graph.add("buffersink")
    colours = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
    # An ordered pattern stands still from picture to picture where error diffusion would flicker, and packs better.
    use = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4")
    entry.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(colours, 1, 0)
    colours.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
