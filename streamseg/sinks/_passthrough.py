"""The sound and subtitles of the input, copied into the output packet for packet while its pictures are written."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.codeccontext import AudioCodecContext
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.stream import Discard, Disposition, Stream
from av.subtitles.codeccontext import SubtitleCodecContext

LOOK_AHEAD = 10
"""Seconds of the input that are read to find out which of its tracks have anything in the kept part; also how far apart
packets of the same time are expected to lie in a file."""

TEXT_SUBTITLES = {"matroska": "subrip", "mp4": "mov_text", "mov": "mov_text", "webm": "webvtt"}
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
"""Number of channels -> what converted sound has; any other number becomes stereo."""
SOUND = {"matroska": "aac", "mp4": "aac", "mov": "aac", "webm": "libopus"}

STALE_TAGS = {
    "encoder", "major_brand", "minor_version", "compatible_brands", "duration", "rotate", "vendor_id",
    "bps", "number_of_frames", "number_of_bytes", "source_id",
}  # fmt: skip
"""Metadata that described the old file and would lie about the new one."""


def lasting(metadata: dict[str, str]) -> dict[str, str]:
    """The metadata that still hold for a copy."""
    return {
        key: value
        for key, value in metadata.items()
        if (word := key.lower().split("-")[0]) not in STALE_TAGS and not word.startswith("_statistics")
    }


@dataclass
class _Track:
    """One track on its way: packets of `source` become packets of `target`, copied or, with a decoder, converted.

    unframed: takes each packet's own header off, where a file keeps it once for all
    """

    source: Stream
    target: Stream
    convert: bool
    unframed: BitStreamFilterContext | None = None
    last_dts: int | None = None


class Passthrough:
    """Copies every audio and subtitle track of a file into an output, up to the time that the pictures have reached.

    Times are seconds, exact. `origin` is the time in the input that becomes 0 in the output; of the input's packets
    those at or after `start` and before `end` are kept (None: no limit). Only what lies around the present time is
    ever in memory. What was converted or left out, and why, is added to `notes`.
    """

    def __init__(
        self,
        path: Path,
        *,
        output: OutputContainer,
        container: str,
        origin: Fraction,
        start: Fraction | None,
        end: Fraction | None,
        notes: list[str],
    ) -> None:
        self.notes = notes
        self._output = output
        self._container = container
        self._origin, self._start, self._end = origin, start, end
        self._tracks: dict[int, _Track] = {}
        self._pending: deque[av.Packet] = deque()
        self._packets: Iterator[av.Packet] = iter(())
        try:
            self._input: InputContainer | None = av.open(f"file:{path}", metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            self._input = None
            self.notes.append(f"no sound or subtitles: {path} could not be read a second time ({error})")
            return
        self._open()

    def _open(self) -> None:
        assert self._input is not None
        wanted = [s for s in self._input.streams if s.type in ("audio", "subtitle")]
        for stream in self._input.streams:
            if stream not in wanted:
                stream.discard = Discard.all
        if not wanted:
            self.close()
            return
        if self._start is not None:
            # A subtitle may have begun long before the moment in which it is seen.
            with suppress(av.FFmpegError):
                self._input.seek(max(0, int((self._start - LOOK_AHEAD) * av.time_base)))
        self._packets = self._read(wanted)
        present = self._look_ahead(len(wanted))
        for stream in wanted:
            if present is None or stream.index in present:
                track = self._add(stream)
                if track is not None:
                    self._tracks[stream.index] = track
            else:
                self.notes.append(f"{_name(stream)} has nothing in this part and is left out")

    def _look_ahead(self, num_tracks: int) -> set[int] | None:
        """Indices of the tracks that have packets in the kept part; None when that would take reading too far."""
        present: set[int] = set()
        limit = max(self._origin, self._start or self._origin) + LOOK_AHEAD
        for packet in self._packets:
            self._pending.append(packet)
            present.add(packet.stream_index)
            if len(present) == num_tracks:
                return present
            if _time(packet) > limit:
                return None
        return present

    def _read(self, streams: list[Stream]) -> Iterator[av.Packet]:
        """The packets of the kept part, in the order of the file."""
        assert self._input is not None
        try:
            for packet in self._input.demux(streams):
                if packet.pts is None and packet.dts is None:
                    continue
                time = _time(packet)
                if self._end is not None and time >= self._end:
                    if time >= self._end + LOOK_AHEAD:
                        return
                    continue
                if self._start is not None and time < self._start and not self._shown_later(packet, time):
                    continue
                yield packet
        except av.FFmpegError as error:
            self.notes.append(f"sound and subtitles end early: the input is damaged there ({error.strerror})")

    def _shown_later(self, packet: av.Packet, time: Fraction) -> bool:
        """Whether a subtitle from before the start is still to be seen then; it is made to begin there."""
        assert self._start is not None
        if packet.stream.type != "subtitle" or not packet.duration:
            return False
        stop = time + packet.duration * packet.time_base
        if stop <= self._start:
            return False
        packet.pts = packet.dts = int(self._start / packet.time_base)
        packet.duration = int((stop - self._start) / packet.time_base)
        return True

    def _add(self, stream: Stream) -> _Track | None:
        """The track of the output that takes this stream, or None with a note."""
        if _holds(self._container, stream):
            target: Stream = self._output.add_stream_from_template(stream)
            convert = False
        else:
            try:
                made = self._add_converted(stream)
            except (av.FFmpegError, ValueError, OSError) as error:
                made = None
                self.notes.append(f"{_name(stream)} is left out: it could not be converted ({error})")
            if made is None:
                return None
            target, convert = made, True
        target.metadata.update(lasting(stream.metadata))
        target.disposition = stream.disposition & ~Disposition.attached_pic
        track = _Track(stream, target, convert)
        if not convert and stream.codec_context.name == "aac" and not stream.codec_context.extradata:
            # AAC as transport streams have it. FFmpeg does this itself for most outputs, but not for a fragmented mp4.
            track.unframed = BitStreamFilterContext("aac_adtstoasc", stream)
        return track

    def _add_converted(self, stream: Stream) -> Stream | None:
        decoder = stream.codec_context
        if isinstance(decoder, AudioCodecContext):
            codec = SOUND[self._container]
            rate = 48000 if codec == "libopus" else min(decoder.sample_rate, 48000)
            layout = LAYOUTS.get(decoder.layout.nb_channels, "stereo")
            bit_rate = 80_000 * av.AudioLayout(layout).nb_channels
            _try_encoder(codec, rate=rate, layout=layout, bit_rate=bit_rate)
            made: Any = self._output.add_stream(codec, rate=rate, layout=layout, bit_rate=bit_rate)
        elif isinstance(decoder, SubtitleCodecContext) and _is_text(stream):
            codec = TEXT_SUBTITLES[self._container]
            decoder.open(strict=False)
            made = self._output.add_stream(codec)
            made.codec_context.subtitle_header = decoder.subtitle_header
            made.codec_context.time_base = made.time_base = Fraction(1, 1000)
        else:
            self.notes.append(f"{_name(stream)} is left out: a {_ending(self._container)} file cannot hold it")
            return None
        self.notes.append(f"{_name(stream)} was converted to {codec.removeprefix('lib')}")
        return made

    def up_to(self, seconds: Fraction | None) -> None:
        """Write the packets that belong before this time of the output; None: all that are left."""
        while True:
            if not self._pending:
                packet = next(self._packets, None)
                if packet is None:
                    return
                self._pending.append(packet)
            packet = self._pending[0]
            if seconds is not None and _time(packet) - self._origin > seconds:
                return
            self._pending.popleft()
            track = self._tracks.get(packet.stream_index)
            if track is not None:
                self._write(packet, track)

    def finish(self) -> None:
        """Write all that is left, and what the converters hold."""
        self.up_to(None)
        self.flush()

    def flush(self) -> None:
        """Write what the converters hold."""
        for track in self._tracks.values():
            if track.convert and isinstance(track.target.codec_context, AudioCodecContext):
                decoder: Any = track.source.codec_context
                for frame in decoder.decode(None):
                    self._encode_sound(frame, track)
                for made in track.target.codec_context.encode(None):
                    self._mux(made, track)
        self._tracks = {}

    def close(self) -> None:
        """Close the input."""
        if self._input is not None:
            self._input.close()
            self._input = None

    def _write(self, packet: av.Packet, track: _Track) -> None:
        if not track.convert:
            shift = round(self._origin / packet.time_base)
            if packet.dts is not None:
                packet.dts -= shift
            packet.pts = packet.pts - shift if packet.pts is not None else packet.dts
            packet.dts = packet.dts if packet.dts is not None else packet.pts
            for copied in track.unframed.filter(packet) if track.unframed else (packet,):
                self._mux(copied, track)
            return
        try:
            decoder: Any = track.source.codec_context
            if isinstance(decoder, AudioCodecContext):
                for frame in decoder.decode(packet):
                    self._encode_sound(frame, track)
            else:
                self._encode_subtitle(packet, track)
        except av.error.InvalidDataError:
            note = f"damaged packets of {_name(track.source)} were skipped"
            if note not in self.notes:
                self.notes.append(note)

    def _encode_sound(self, frame: Any, track: _Track) -> None:
        if frame.pts is not None:
            frame.pts -= round(self._origin / frame.time_base)
        encoder: Any = track.target.codec_context
        for made in encoder.encode(frame):
            self._mux(made, track)

    def _encode_subtitle(self, packet: av.Packet, track: _Track) -> None:
        decoder, encoder = track.source.codec_context, track.target.codec_context
        assert isinstance(decoder, SubtitleCodecContext) and isinstance(encoder, SubtitleCodecContext)
        time = _time(packet) - self._origin
        decoded = decoder.decode2(packet)
        if decoded is None or not len(decoded):
            return
        made = encoder.encode_subtitle(decoded)
        made.time_base = Fraction(1, 1000)
        made.pts = made.dts = round(time * 1000)
        made.duration = round((packet.duration or 0) * packet.time_base * 1000) or decoded.end_display_time
        self._mux(made, track)

    def _mux(self, packet: av.Packet, track: _Track) -> None:
        packet.stream = track.target
        if packet.dts is not None:
            # A muxer refuses times that do not increase; a few inputs have them.
            if track.last_dts is not None and packet.dts <= track.last_dts and track.source.type == "audio":
                packet.dts = track.last_dts + 1
                packet.pts = max(packet.pts or packet.dts, packet.dts)
            track.last_dts = packet.dts
        self._output.mux(packet)


def _try_encoder(codec: str, *, rate: int, layout: str, bit_rate: int) -> None:
    """Open an encoder beside the output: in it, one that fails would take the whole output along."""
    context: Any = av.CodecContext.create(codec, "w")
    context.sample_rate, context.layout, context.bit_rate = rate, layout, bit_rate
    context.format = context.codec.audio_formats[0]
    context.open()


def _time(packet: av.Packet) -> Fraction:
    """When a packet begins in its file's time, in seconds."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    assert stamp is not None
    return stamp * packet.time_base


def _name(stream: Stream) -> str:
    codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
    language = f", {stream.language}" if stream.language not in (None, "und") else ""
    return f"track {stream.index} ({stream.type}, {codec}{language})"


def _ending(container: str) -> str:
    return {"matroska": ".mkv"}.get(container, f".{container}")


def _is_text(stream: Stream) -> bool:
    return bool(stream.codec_context.codec.text_sub)


def _holds(container: str, stream: Stream) -> bool:
    """Whether a container takes a stream as it is, found out by writing a header to memory."""
    if stream.codec_context is None:
        return False
    probe = av.open(io.BytesIO(), "w", format=container)
    try:
        probe.add_stream_from_template(stream)
        probe.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    finally:
        with suppress(av.FFmpegError, ValueError):
            probe.close()
    return True
