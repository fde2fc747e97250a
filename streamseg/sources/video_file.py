"""Read a video file: every picture in its own pixel format, upright, at its own time."""

from __future__ import annotations

import difflib
import logging
import math
import os
import re
import stat
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.stream import Discard, Disposition

from streamseg.seams import NEW_TRACK, Seams, telling
from streamseg.sources._decoding import Decoding, rate_of, stated_rate, usual_interval
from streamseg.sources._upright import turn_of, turned
from streamseg.types import Frame, InputError, StreamInfo, UsageError
from streamseg.words import writable

log = logging.getLogger(__name__)

_COVER = Disposition.attached_pic | Disposition.timed_thumbnails
# Playlists name other files, and FFmpeg waits for ever for those of a broken one.
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0")
# Where the times after a seek are those of a reading from the start; mpeg-ps for one guesses them. Others are decoded
# from their beginning.
SEEKABLE_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "flv")
# Seconds: a picture that is on screen for longer stands still, however slowly the others come.
_LONG = 1
# Seconds before `start` to seek to, one after the other until a picture at or before `start` comes out.
_SEEK_MARGINS = (0, 5, 30)


class VideoFile:
    """The pictures of one video file, as a Source.

    path · start, end: keep the pictures at start ≤ time < end, in seconds of the file's own time, counted from its
    first picture; one that is on screen at `start` for longer than a usual picture is kept too, its time being `start`
    · stride: keep every Nth of those · name: of the stream, default the file's name without ending ·
    threads: of the decoder, default half the cores and at most 4 (more frame threads cost a tenth more CPU a picture).
    """

    # fmt: off
    endings = (
        ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts", ".wmv",
        ".flv", ".3gp", ".ogv", ".vob", ".mxf", ".y4m", ".h264", ".h265", ".hevc", ".ivf", ".asf", ".gif",
    )
    # fmt: on

    info: StreamInfo
    drops: dict[str, int]
    notes: list[str]

    def __init__(
        self,
        path: Path,
        *,
        start: float | None = None,
        end: float | None = None,
        stride: int = 1,
        name: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.start, self.end, self.stride = start or 0.0, end, stride
        self.name = name or writable(self.path.stem)
        self.threads = max(1, min(4, _num_cores() // 2)) if threads is None else threads
        if self.start < 0:
            raise UsageError(f"start: expected 0 s or later, got {self.start:g}")
        if self.end is not None and self.end <= self.start:
            raise UsageError(f"end: expected a time after start ({self.start:g} s), got {self.end:g}")
        if self.stride < 1:
            raise UsageError(f"stride: expected 1 or more, got {self.stride}")
        if self.threads < 1:
            raise UsageError(f"threads: expected 1 or more, got {self.threads}")
        self.drops = {}
        self.notes = []
        self._container: Any = None
        self._stream: Any = None
        self._decoding: Decoding | None = None
        self._frames: Iterator[Frame] | None = None
        self._first_pts = 0
        self._num_missing = 0
        self._num_missing_seconds = 0
        self._num_converted = 0
        self._rate_is_assumed = False

    def __enter__(self) -> Self:
        _check_readable(self.path)
        try:
            self._open()
            first, index, following = self._first_to_keep()
            self.info = self._described(first)
            self._rate_is_assumed = stated_rate(self._stream) is None
            self._num_missing = _num_beyond_the_end(self._container, self._stream, self.path)
            assert self._decoding is not None
            self._frames = self._kept(chain((first, *following), self._decoding), index)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._close()

    def __iter__(self) -> Iterator[Frame]:
        if self._frames is None:
            raise RuntimeError("a VideoFile is read inside its `with` block")
        return self._frames

    @property
    def warnings(self) -> dict[str, int]:
        """What went wrong so far, and how often; grows while the file is read."""
        counts = dict(self._decoding.warnings) if self._decoding else {}
        if self._num_missing:
            counts["packets missing at the end of a truncated file"] = self._num_missing
        if self._num_missing_seconds:
            counts["seconds missing at the end of a truncated file"] = self._num_missing_seconds
        if self._num_converted:
            counts["4:2:2 pictures turned on their side, now 4:4:4"] = self._num_converted
        return counts

    # Opening

    def _open(self) -> None:
        """Open the file, choose its video and stand at its first packet."""
        self._close()
        try:
            # "file:" keeps a colon in a file's name from being taken for a protocol; the whitelist keeps a file from
            # naming an address.
            self._container = av.open(
                f"file:{self.path}", metadata_errors="replace", options={"protocol_whitelist": "file"}
            )
        except (av.FFmpegError, ValueError) as error:
            raise InputError(f"{self.path}: {_why_unreadable(self.path, error)}") from error
        self._stream = chosen_video(self._container)
        # FFmpeg would draw a text file as ANSI art.
        if self._stream is None or self._container.format.name == "tty":
            raise InputError(f"{self.path}: expected a video, got {_contents(self._container)}")
        if self._stream.codec_context is None:
            raise InputError(f"{self.path}: the FFmpeg inside PyAV has no decoder for this video")
        for stream in self._container.streams:
            if stream not in (self._stream, *telling(self._container)):
                stream.discard = Discard.all
        self._stream.thread_type = "AUTO" if self.threads > 1 else "NONE"
        self._stream.thread_count = self.threads
        self._decoding = Decoding(self._container, self._stream, threads=self.threads)

    def _close(self) -> None:
        self._frames = None
        if self._decoding is not None:
            self._decoding.close()
        if self._container is not None:
            self._container.close()
        self._container = self._stream = None

    def _first_to_keep(self) -> tuple[av.VideoFrame, int, list[av.VideoFrame]]:
        """The picture to begin with, its index, and what is decoded of those after it.

        Only decoding tells that there is one, and its size.
        """
        assert self._decoding is not None
        picture = self._decoding.next()
        if picture is None:
            damaged = self._decoding.warnings.get("damaged packets skipped", 0)
            cause = f": all its {damaged} packets are damaged" if damaged else ""
            raise InputError(f"{self.path}: the video has no picture that can be decoded{cause}")
        self._first_pts = picture.pts or 0
        index = 0
        if self.start > 0:
            picture, index = self._sought(self.start) or self._from_the_beginning()
            log.debug("%s: decoded from picture %d at %.3f s on", self.path, index, self._seconds(picture))
        last: av.VideoFrame | None = None
        while picture is not None and self._seconds(picture) < self.start:
            last, picture, index = picture, self._decoding.next(), index + 1
        if last is not None and self._stands_still(last, picture):
            self._show_from_start(last, before=picture)
            return last, index - 1, [picture] if picture is not None else []
        if picture is None:
            assert last is not None
            raise InputError(
                f"{self.path}: start is {self.start:g} s, but the last picture is at {self._seconds(last):g} s"
            )
        if self.end is not None and self._seconds(picture) >= self.end:
            raise InputError(f"{self.path}: no picture from {self.start:g} s to {self.end:g} s")
        return picture, index, []

    def _stands_still(self, last: av.VideoFrame, following: av.VideoFrame | None) -> bool:
        """Whether the last picture before `start` is on screen then, and for longer than a usual one."""
        if following is not None:
            until = self._seconds(following)
        else:
            until = self._seconds(last) + float(last.duration * self._stream.time_base)
            until = max(until, self._sound_until())
        return until > self.start and until - self._seconds(last) > min(1.5 * usual_interval(self._stream), _LONG)

    def _sound_until(self) -> float:
        """When the first packet of sound that reaches beyond `start` ends, in seconds; 0 where there is none."""
        first = float(self._first_pts * self._stream.time_base)
        with av.open(f"file:{self.path}", metadata_errors="replace") as again:
            sounds = again.streams.audio
            for stream in again.streams:
                if stream not in sounds:
                    stream.discard = Discard.all
            try:
                again.seek(int((first + self.start) * av.time_base))
                for packet in again.demux(*sounds) if sounds else ():
                    if packet.pts is not None:
                        until = float((packet.pts + (packet.duration or 0)) * packet.time_base) - first
                        if until > self.start:
                            return until
            except (av.FFmpegError, NEW_TRACK):
                pass  # what cannot be read is not heard
        return 0.0

    def _show_from_start(self, picture: av.VideoFrame, *, before: av.VideoFrame | None) -> None:
        """Move a picture's time to `start`, or as near to it as there is a tick before the next picture."""
        assert picture.pts is not None
        pts = self._first_pts + math.ceil(Fraction(self.start).limit_denominator(10**6) / self._stream.time_base)
        if before is not None and before.pts is not None:
            pts = max(picture.pts, min(pts, before.pts - 1))
        picture.duration = max(0, picture.duration - (pts - picture.pts))
        picture.pts = pts

    def _sought(self, seconds: float) -> tuple[av.VideoFrame, int] | None:
        """A picture at or shortly before `seconds`, and its index; None when no seek finds one."""
        for margin in _SEEK_MARGINS:
            if seconds <= margin or self._container.format.name not in SEEKABLE_FORMATS:
                return None
            try:
                target = self._first_pts + math.floor((seconds - margin) / self._stream.time_base)
                self._container.seek(target, stream=self._stream)
            except av.FFmpegError:
                return None
            if self._decoding is not None:
                self._decoding.close()
            self._decoding = Decoding(self._container, self._stream, threads=self.threads, from_the_beginning=False)
            picture = self._decoding.next()
            needs_one_before = 1 / float(rate_of(self._stream)) if self._decoding.interlaced else 0.0
            if picture is None or self._seconds(picture) > seconds - needs_one_before:
                continue
            num_before = self._num_stored_before(self._decoding.first_packet)
            if num_before is None:
                return None
            if self._decoding.num_before is not None:
                return picture, num_before + self._decoding.num_before
        return None

    def _from_the_beginning(self) -> tuple[av.VideoFrame, int]:
        self._open()
        assert self._decoding is not None
        picture = self._decoding.next()
        assert picture is not None
        return picture, 0

    def _num_stored_before(self, packet: Any) -> int | None:
        """How many pictures are stored before `packet`: by the index where that is whole, else by reading so far.

        None where that cannot be told, or where a recording was joined before it, so that a seek found another piece.
        """
        stream = self._stream
        if has_whole_index(self._container, stream) and packet.dts is not None:
            entries = stream.index_entries
            position: int = entries.search_timestamp(packet.dts)
            if position >= 0 and entries[position].pos == packet.pos:
                unshown: int = sum(entry.is_discard for entry in entries[:position])
                return position - unshown
        number = 0
        with av.open(f"file:{self.path}", metadata_errors="replace") as again:
            read = telling(again) or [again.streams[stream.index]]
            for other in again.streams:
                if other not in read:
                    other.discard = Discard.all
            seams = Seams(dense=[track.index for track in telling(again)])
            try:
                for stored in (settled for each in again.demux(read) for settled in seams.push(each)):
                    if stored.stream_index != stream.index:
                        continue
                    if seams.num:
                        return None
                    if (stored.pos, stored.dts, stored.pts) == (packet.pos, packet.dts, packet.pts):
                        return number
                    number += stored.size > 0 and not stored.is_discard
            except (av.FFmpegError, NEW_TRACK):
                return None
        return None

    def _described(self, first: av.VideoFrame) -> StreamInfo:
        self._turn, self._rotation = turn_of(first), first.rotation
        on_its_side = self._turn is not None and self._turn.transpose
        width, height = (first.height, first.width) if on_its_side else (first.width, first.height)
        return StreamInfo(
            name=self.name,
            path=self.path,
            width=width,
            height=height,
            time_base=Fraction(self._stream.time_base),
            average_rate=rate_of(self._stream),
            num_frames=self._expected_num_frames(),
            pixel_aspect=self._pixel_aspect(on_its_side=on_its_side),
            start=self.start,
            end=self.end,
            # Upright pictures need no flag; old files carry it as text.
            metadata={key: value for key, value in self._container.metadata.items() if key.lower() != "rotate"},
            chapters=tuple(self._container.chapters()),
        )

    def _expected_num_frames(self) -> int | None:
        """An estimate for the ETA and nothing else: headers lie."""
        stream, container = self._stream, self._container
        if stream.duration:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration:
            seconds = container.duration / av.time_base
            if "matroska" in container.format.name:  # counted from 0, wherever the first picture lies
                begin = float((stream.start_time or 0) * stream.time_base)
                seconds -= begin if begin < seconds else 0.0
        else:
            return None
        # An avi's header counts the pictures that stand still, its index does not.
        indexed = container.format.name == "avi" or has_whole_index(container, stream)
        total = len(stream.index_entries) if indexed else stream.frames
        total = total or seconds * float(rate_of(stream))
        end = seconds if self.end is None else min(self.end, seconds)
        share = max(0.0, end - self.start) / seconds
        return max(1, math.ceil(round(total * share / self.stride, 3)))

    # Reading

    def _kept(self, pictures: Iterator[av.VideoFrame], index: int) -> Iterator[Frame]:
        """The frames of these pictures, of which the first has that index, up to `end`."""
        first_index = index
        picture = next(pictures, None)
        while picture is not None and (self.end is None or self._seconds(picture) < self.end):
            if (index - first_index) % self.stride == 0:
                yield self._frame(picture, index)
            reached = max(self._seconds(picture), picture.time or 0.0)
            reached += float((picture.duration or 0) * (picture.time_base or 0))
            picture = next(pictures, None)
            index += 1
            if picture is not None and self._rate_is_assumed and not self.notes:
                rate = self.info.average_rate
                self.notes.append(f"the file does not say how many pictures a second it has: {rate} are assumed")
        if picture is None:
            self._num_missing_seconds = max(0, round(_said_seconds(self._stream) - reached - 0.5))

    def _frame(self, picture: av.VideoFrame, index: int) -> Frame:
        # of most pictures nothing is to be known but that
        if picture.rotation != self._rotation:
            self._turn, self._rotation = turn_of(picture), picture.rotation
        turn = self._turn
        on_its_side = turn is not None and turn.transpose
        if turn is not None:
            upright = turned(picture, turn)
            self._num_converted += "444" in upright.format.name and "444" not in picture.format.name
            picture = upright
        return Frame(
            picture=picture,
            index=index,
            time=self._seconds(picture),
            captured_at=time.monotonic(),
            stream=self.name,
            pixel_aspect=float(self._pixel_aspect(on_its_side=on_its_side)),
        )

    def _seconds(self, picture: av.VideoFrame) -> float:
        assert picture.pts is not None and picture.time_base is not None
        return float((picture.pts - self._first_pts) * picture.time_base)

    def _pixel_aspect(self, *, on_its_side: bool) -> Fraction:
        aspect = Fraction(self._stream.sample_aspect_ratio or 1)
        return 1 / aspect if on_its_side else aspect


def _num_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _said_seconds(stream: Any) -> float:
    """The duration that a mkv or webm file notes for this stream, 0 if it does not; other containers' lie too often.

    Some writers count it from 0 on the file's clock, some from the first picture.
    """
    match = re.fullmatch(r"(\d+):(\d+):(\d+(\.\d+)?)", stream.metadata.get("DURATION", ""))
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0


def _check_readable(path: Path) -> None:
    """InputError unless `path` is a regular file with bytes in it that may be read."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: expected a video file, got a folder")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: expected a video file, got a pipe or a device")
        if status.st_size == 0:
            raise InputError(f"{path}: the file is empty")
        with path.open("rb") as file:
            head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
        if head.startswith(_PLAYLISTS):
            raise InputError(f"{path}: expected a video, got a playlist; give the videos that it names")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file{_nearest_file(path)}") from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read it") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _nearest_file(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"; there is no folder {path.parent} either"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _why_unreadable(path: Path, error: Exception) -> str:
    """What a user can make of FFmpeg's refusal."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"mdat", b"free", b"wide"):
        return "an mp4 or mov file without its index: truncated, or its recording never ended"
    said = getattr(error, "strerror", None) or str(error)
    return f"expected a video, but nothing in this file can be read as one ({said})"


def _contents(container: Any) -> str:
    """What a file without video holds, in words."""
    if container.format.name == "tty":
        return "a text file"
    kinds = [stream.type for stream in container.streams]
    held = [words for kind, words in (("audio", "sound"), ("video", "a cover picture")) if kind in kinds]
    held += ["subtitles"] if "subtitle" in kinds else []
    return "only " + " and ".join(held) if held else "a file without any stream"


def chosen_video(container: Any) -> Any:
    """The video of a container that is read, None where it has none but covers."""
    videos = [stream for stream in container.streams.video if not stream.disposition & _COVER]
    best = container.streams.best("video")
    return next((stream for stream in videos if stream is best), videos[0] if videos else None)


def has_whole_index(container: Any, stream: Any) -> bool:
    """Whether every packet of the stream stands in the index: mp4 and mov that are not fragmented."""
    return "mp4" in container.format.name and 0 < stream.frames == len(stream.index_entries)


def _num_beyond_the_end(container: Any, stream: Any, path: Path) -> int:
    """How many packets the index promises beyond the last byte of the file."""
    if not has_whole_index(container, stream):
        return 0
    size, entries, number = path.stat().st_size, stream.index_entries, 0
    for position in range(len(entries) - 1, -1, -1):
        entry = entries[position]
        if entry.pos + entry.size <= size:
            break
        number += 1
    return number
