"""Encodes pictures for those who watch while they are made: none waits for the next, and one a second stands alone."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.codec.context import Flags
from av.video.frame import PictureType

from streamseg.sinks._codecs import Encoder, Quality, encoder_for, options_for
from streamseg.sinks._preparation import Preparation
from streamseg.types import OutputError, StreamInfo

CLOCK = Fraction(1, 90_000)
"""Of RTP and of MPEG transport streams."""

KEYFRAME_SECONDS = 1
"""Who begins to watch, or has lost a packet, sees nothing before the next keyframe."""

FORMATS = ("yuv420p",)
"""What every browser, recorder and media server decodes; who watches cannot be asked."""

ONE_SLICE = 1920 * 1088
"""Pixels up to which one thread encodes a picture in time, and so in one slice: readers that take a slice for a picture
exist. 9.7 ms of superfast at 1080p on one core of an EPYC."""


class LiveEncoding:
    """The choice of an encoder and its options; a wrong one raises UsageError.

    codec, quality, preset: as of a video file · container: FFmpeg's name of what takes the packets
    """

    def __init__(self, codec: str | None, *, quality: Quality, preset: str | int | None, container: str) -> None:
        self.encoder: Encoder = encoder_for(codec, container=container)
        self.container = container
        self.lossless = quality == "lossless"
        self._given: dict[str, Any] = {"quality": quality, "preset": preset}
        self.options((1920, 1080))

    def options(self, size: tuple[int, int]) -> dict[str, str]:
        return options_for(self.encoder, **self._given, size=size, live=True)


class LiveVideo:
    """The one stream of an open output. Packets come out as soon as a picture goes in, the first at 0.

    in_band: the parameters of the codec stand before every keyframe, not in the header
    """

    def __init__(
        self,
        output: av.container.OutputContainer,
        first: av.VideoFrame,
        info: StreamInfo,
        *,
        encoding: LiveEncoding,
        time: float,
        notes: list[str],
        in_band: bool = False,
    ) -> None:
        self._first_time, self._last_pts, self._next_keyframe = time, -1, 0
        self._prepare = Preparation(
            first, encoding.encoder, container=encoding.container, pixel_aspect=info.pixel_aspect,
            lossless=encoding.lossless, notes=notes, formats=FORMATS,
        )  # fmt: skip
        rate = info.average_rate if info.average_rate > 0 else Fraction(25)
        self._frame_ticks = max(1, round(1 / (rate * CLOCK)))
        size = self._prepare.size
        self._stream: Any = output.add_stream(encoding.encoder.name, rate=rate, options=encoding.options(size))
        self._stream.time_base = CLOCK
        self._open(self._stream.codec_context, info, in_band=in_band)

    def _open(self, context: Any, info: StreamInfo, *, in_band: bool) -> None:
        context.width, context.height = self._prepare.size
        context.pix_fmt, context.time_base = self._prepare.pixel_format, CLOCK
        context.sample_aspect_ratio = self._prepare.pixel_aspect
        context.thread_count = 1 if context.width * context.height <= ONE_SLICE else 0
        if in_band:
            context.flags &= ~Flags.global_header.value
        for tag, value in self._prepare.tags.items():
            setattr(context, tag, value)
        try:
            context.open()
        except av.FFmpegError as error:
            what = f"pictures of {context.width}×{context.height} in {context.pix_fmt}"
            raise OutputError(f"{context.name} cannot encode {what}: {error.strerror}") from error

    def packets(self, picture: av.VideoFrame, time: float) -> Iterator[av.Packet[Any]]:
        """What comes of a picture that is shown at `time`, in seconds of the stream."""
        frame = self._prepare.own(picture)
        frame.pts = self._last_pts = max(self._last_pts + 1, round((time - self._first_time) / CLOCK))
        frame.time_base = CLOCK
        frame.pict_type = PictureType.NONE
        seconds = int(frame.pts * CLOCK)
        if seconds >= self._next_keyframe:
            frame.pict_type = PictureType.I
            self._next_keyframe = seconds + KEYFRAME_SECONDS
        yield from self._timed(self._stream.encode(frame))

    def rest(self) -> Iterator[av.Packet[Any]]:
        """What the encoder still holds."""
        yield from self._timed(self._stream.encode(None))

    def _timed(self, packets: list[av.Packet[Any]]) -> Iterator[av.Packet[Any]]:
        for packet in packets:
            packet.duration = packet.duration or self._frame_ticks
            yield packet
