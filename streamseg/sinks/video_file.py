"""Writes the drawn pictures to an mp4, mkv, webm or mov, with the input's sound, subtitles, chapters and colours."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any, Self

import av
from av.video.frame import PictureType

from streamseg.sinks._codecs import (
    Quality,
    container_of,
    encoder_for,
    merged,
    options_for,
)
from streamseg.sinks._extras import CAPTIONS, Extras, extras_of
from streamseg.sinks._last_picture import include_until
from streamseg.sinks._muxer import EXACT, Muxer
from streamseg.sinks._part_file import PartFile, reason
from streamseg.sinks._passthrough import Passthrough, lasting
from streamseg.sinks._preparation import Preparation
from streamseg.types import Frame, OutputError, Result, StreamInfo

log = logging.getLogger(__name__)

MUXER_OPTIONS: Mapping[str, Mapping[str, str]] = {
    # Readable at any moment: a fragment is closed every second, and what is closed is on the disk. Cutting by time
    # and not at keyframes leaves the encoder its long, small groups of pictures: a keyframe every second costs a third
    # to two thirds more bytes (benchmarks/encoding.py). At the end the file becomes an ordinary one.
    "mp4": {"movflags": "hybrid_fragmented+delay_moov", "frag_duration": "1000000"},
    "mov": {"movflags": "hybrid_fragmented+delay_moov", "frag_duration": "1000000"},
    "matroska": {"cluster_time_limit": "1000"},
    "webm": {"cluster_time_limit": "1000"},
}
LIVE_CLOCK = Fraction(1, 90_000)
"""Of the pictures of a live stream, which are timed by when they came."""

KEYFRAME_SECONDS = 10
KEYFRAME_PICTURES = 250
MP4_TAGS = {
    "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping",
    "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "creation_time",
}  # fmt: skip
"""Metadata that an mp4 has a place for; any other key needs the form that fewer players read."""


class VideoFile:
    """A video with the size, the times, the colour tags, the metadata, the chapters and the sound of its input.

    path      ends in .mp4, .mov, .mkv or .webm, and is called NAME.part.mp4 until it is complete
    codec     h264, h265, av1, vp9, nvenc, or an encoder's own name; None: h264, in a .webm vp9
    quality   the encoder's CRF (lower is better and larger), or "lossless"; None: as good as it looks
    preset    the encoder's own word for its speed; None: fast enough to write 1080p beside the model
    overwrite an older file of that name is replaced once the new one is complete
    """

    endings = (".mp4", ".mkv", ".webm", ".mov")

    def __init__(
        self,
        path: str | Path,
        *,
        codec: str | None = None,
        quality: Quality = None,
        preset: str | int | None = None,
        overwrite: bool = False,
    ) -> None:
        self._file = PartFile(path, overwrite=overwrite)
        self._container = container_of(self._file.final.suffix)
        self._encoder = encoder_for(codec, container=self._container)
        self._options = partial(options_for, self._encoder, quality=quality, preset=preset)
        self._options()  # a wrong value fails now
        self._lossless = quality == "lossless"
        self.notes: list[str] = []
        self._info: StreamInfo | None = None
        self._writer: _Writer | None = None

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
        with self._errors():
            if self._writer is None:
                assert self._info is not None, "start(info) comes before the first write"
                self._writer = _Writer(self, picture, result.frame.time)
            self._writer.write(picture, result.frame)

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None:
        with closing(self._file):
            self._leave(exc_type)

    def _leave(self, exc_type: type[BaseException] | None) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            self._file.discard_if_empty()
            if exc_type is None:
                raise OutputError(f"{self._file.final} was not written: there was no picture to write")
            return
        if exc_type is not None:
            with suppress(av.FFmpegError, OSError, ValueError):
                writer.close(complete=False)
            return
        with self._errors():
            writer.close(complete=True)
        self._file.finish()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What FFmpeg says of the output, as an OutputError that names it."""
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{self._file.part} cannot be written: {reason(error)}") from error


class _Writer:
    """The open output of one VideoFile: an encoder, a muxer, and the sound that goes along."""

    def __init__(self, sink: VideoFile, picture: av.VideoFrame, time: float) -> None:
        info = sink._info
        assert info is not None
        self._path, self._container = sink._file.part, sink._container
        self._notes = sink.notes
        self._prepare = Preparation(
            picture,
            sink._encoder,
            container=sink._container,
            pixel_aspect=info.pixel_aspect,
            lossless=sink._lossless,
            notes=sink.notes,
        )
        self._live = info.live
        self._base = LIVE_CLOCK if info.live else picture.time_base or info.time_base
        stamp = self._stamp(picture, time)
        self._first_pts = round(time / self._base) if stamp is None else stamp
        self._last_pts: int | None = None
        self._last_keyframe = 0
        self._end = Fraction(0)  # of the last picture, in seconds of the output
        self._lasts = Fraction(0)  # the newest picture, in seconds as far as it says so
        self._repaired = 0
        self._passthrough: Passthrough | None = None

        first = self._first_pts * self._base
        zero = first - Fraction(time).limit_denominator(10**9)
        start = zero + Fraction(info.start).limit_denominator(10**6) if info.start > 0 else None
        end = zero + Fraction(info.end).limit_denominator(10**6) if info.end is not None else None
        origin = first if start is not None else min(first, _earliest_sound(info.path, first))
        self._shift = round((first - origin) / self._base)
        self._until = end - origin if end is not None else None

        options = dict(MUXER_OPTIONS[sink._container])
        options |= {"flush_packets": "1", "max_interleave_delta": "500000"}
        extras = extras_of(info.path)
        metadata = {key: value for key, value in lasting(dict(info.metadata)).items() if key.lower() != "timecode"}
        if sink._container in EXACT:
            options["movie_timescale"] = str(_movie_timescale(self._base))
            if not MP4_TAGS.issuperset(key.lower() for key in metadata):
                options["movflags"] += "+use_metadata_tags"
        self._output = av.open(f"file:{sink._file.part}", "w", format=sink._container, container_options=options)
        self._captions = extras.captions and sink._encoder.name in CAPTIONS
        self._output.metadata.update(metadata)
        self._output.set_chapters(_chapters(info, origin=origin, end=end))
        self._stream = self._add_video(sink, info, extras)
        self._muxer = Muxer(self._output, container=sink._container)
        try:
            if info.path is not None and info.path.is_file():
                self._passthrough = Passthrough(
                    info.path,
                    output=self._output,
                    muxer=self._muxer,
                    container=sink._container,
                    origin=origin,
                    start=start,
                    end=end,
                    notes=self._notes,
                )
            extras.attach(self._output, sink._container)
            self._notes += extras.left_out(info, encoder=sink._encoder.name, container=sink._container)
            self._muxer.start()
        except BaseException:
            if self._passthrough is not None:
                self._passthrough.close()
            raise

    def _add_video(self, sink: VideoFile, info: StreamInfo, extras: Extras) -> av.VideoStream:
        width, height = self._prepare.size
        options = merged(sink._options(size=(width, height)), extras.options(sink._encoder.name))
        rate = info.average_rate if info.average_rate > 0 else Fraction(25)
        stream: Any = self._output.add_stream(sink._encoder.name, rate=rate, options=options)
        stream.metadata.update(extras.metadata(sink._container, info))
        context = stream.codec_context
        context.width, context.height = width, height
        context.pix_fmt = self._prepare.pixel_format
        given = ", ".join(f"{option}={value}" for option, value in options.items())
        log.debug("%s: %s (%s), %dx%d %s", self._path, sink._encoder.name, given, width, height, context.pix_fmt)
        context.time_base = stream.time_base = self._base
        if sink._container in EXACT and context.codec.canonical_name == "hevc":
            context.codec_tag = "hvc1"  # FFmpeg's own choice, hev1, is not played by anything of Apple's
        context.sample_aspect_ratio = self._prepare.pixel_aspect
        context.gop_size = KEYFRAME_PICTURES
        tags = self._prepare.tags
        context.colorspace, context.color_range = tags["colorspace"], tags["color_range"]
        context.color_primaries, context.color_trc = tags["color_primaries"], tags["color_trc"]
        self._frame_duration = max(1, round(1 / (rate * self._base)))
        try:
            context.open()
        except av.FFmpegError as error:
            what = f"pictures of {width}×{height} in {self._prepare.pixel_format}"
            raise OutputError(f"{sink._encoder.name} cannot encode {what}: {reason(error)}") from error
        video: av.VideoStream = stream
        return video

    def write(self, picture: av.VideoFrame, original: Frame) -> None:
        captioned = self._prepare.captioned(picture, original.picture) if self._captions else picture
        frame = self._prepare.own(captioned)
        frame.pts = self._pts(self._stamp(picture, original.time))
        frame.time_base = self._base
        self._lasts = Fraction(0) if self._live else _duration(picture)
        # The input's own types would force the encoder's hand.
        frame.pict_type = PictureType.NONE
        if (frame.pts - self._last_keyframe) * self._base >= KEYFRAME_SECONDS:
            frame.pict_type = PictureType.I
            self._last_keyframe = frame.pts
        for packet in self._stream.encode(frame):
            self._mux(packet)

    def _stamp(self, picture: av.VideoFrame, time: float) -> int | None:
        """When the picture is shown, in units of the output's time base; of a live stream, whose pts jump, `time`."""
        if self._live:
            return round(time / self._base)
        if picture.pts is None or picture.time_base in (None, self._base):
            return picture.pts
        return round(picture.pts * picture.time_base / self._base)

    def _pts(self, stamp: int | None) -> int:
        """The picture's pts in the output, in units of the output's time base."""
        if stamp is None:
            pts = self._shift if self._last_pts is None else self._last_pts + self._frame_duration
        else:
            pts = stamp - self._first_pts + self._shift
        if self._last_pts is not None and pts <= self._last_pts:
            pts = self._last_pts + 1
            self._repaired += 1
        self._last_pts = pts
        return pts

    def _mux(self, packet: av.Packet[Any]) -> None:
        if self._passthrough is not None:
            stamp = packet.dts if packet.dts is not None else packet.pts
            self._passthrough.up_to((stamp or 0) * packet.time_base)
        packet.duration = self._lasting(packet)
        if packet.is_keyframe and packet.pts is not None:
            self._last_keyframe = max(self._last_keyframe, round(packet.pts * packet.time_base / self._base))
        self._muxer.mux(packet)
        if packet.pts is not None:
            self._end = max(self._end, (packet.pts + packet.duration) * packet.time_base)

    def _lasting(self, packet: av.Packet[Any]) -> int:
        """How long a packet's picture is shown, in the packet's ticks: as long as it says, if it may be the last."""
        usual, shown = self._frame_duration * self._base, (packet.pts or 0) * packet.time_base
        newest = (self._last_pts or 0) * self._base
        if shown < newest:
            lasts = min(usual, newest - shown)
        else:
            lasts = self._lasts or usual
            if self._until is not None:
                lasts = min(lasts, self._until - shown)
        return max(1, round(lasts / packet.time_base))

    def close(self, *, complete: bool) -> None:
        """Write what the encoders hold and close the file; complete: with all of the input's sound that is left."""
        try:
            rest = self._stream.encode(None)
            if not self._end:
                _order_by_showing(rest)
            for packet in rest:
                self._mux(packet)
            if self._passthrough is not None:
                if complete:
                    self._passthrough.finish(self._end)
                elif self._last_pts is not None:
                    self._passthrough.up_to((self._last_pts + self._frame_duration) * self._base)
                    self._passthrough.flush(self._end)
            self._muxer.flush()
        finally:
            self._notes.extend(self._prepare.counted_notes())
            if self._repaired:
                self._notes.append(f"{self._repaired} pictures came at times that did not increase and were moved")
            if self._passthrough is not None:
                self._passthrough.close()
            self._output.close()
        if self._container in EXACT:
            include_until(self._path, self._end)


def _duration(picture: av.VideoFrame) -> Fraction:
    """How long a picture says that it is shown, in seconds; 0 where it does not say."""
    return (picture.duration or 0) * (picture.time_base or Fraction(0))


def _order_by_showing(packets: list[av.Packet[Any]]) -> None:
    """Give all packets of a film decoding times that increase and are not after those of showing.

    x265 leaves some of its own to chance where its pictures are fewer than it looks ahead.
    """
    shown = [packet.pts or 0 for packet in packets]
    in_order = sorted(shown)
    delay = max((early - late for early, late in zip(in_order, shown, strict=True)), default=0)
    for packet, pts in zip(packets, in_order, strict=True):
        packet.dts = pts - delay


def _movie_timescale(base: Fraction) -> int:
    """A clock on which both pictures and 48 kHz sound fall on whole ticks: an mp4's offsets between tracks use it."""
    both = base.denominator * 48000 // gcd(base.denominator, 48000)
    return both if both <= 10_000_000 else 90_000


def _earliest_sound(path: Path | None, first: Fraction) -> Fraction:
    """When the sound begins if it does so well before the first picture, else `first`.

    An encoder's priming of a few hundredths of a second before the first picture is no reason to delay the picture.
    """
    if path is None or not path.is_file():
        return first
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            begins = [
                Fraction(s.start_time * s.time_base)
                for s in container.streams.audio
                if s.start_time is not None and s.time_base is not None
            ]
    except (av.FFmpegError, OSError):
        return first
    earliest = min(begins, default=first)
    return earliest if first - earliest > Fraction(1, 10) else first


def _chapters(info: StreamInfo, *, origin: Fraction, end: Fraction | None) -> list[Any]:
    """The input's chapters as far as they lie in the kept part, on the output's clock."""
    chapters: list[Any] = []
    for chapter in info.chapters:
        base = chapter["time_base"]
        start, stop = chapter["start"] * base - origin, chapter["end"] * base - origin
        start = max(start, Fraction(0))
        if end is not None:
            stop = min(stop, end - origin)
        if stop > start:
            chapters.append({**chapter, "start": round(start / base), "end": round(stop / base)})
    return chapters
