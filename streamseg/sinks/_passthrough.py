"""The sound and subtitles of the input, copied into the output packet for packet while its pictures are written."""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer, OutputContainer
from av.stream import Discard, Disposition, Stream
from av.subtitles.codeccontext import SubtitleCodecContext

from streamseg.seams import NEW_TRACK, Seams, telling
from streamseg.sinks._codecs import ending_of
from streamseg.sinks._extras import naming_of
from streamseg.sinks._muxer import EXACT, Muxer
from streamseg.sinks._part_file import reason
from streamseg.sinks._tracks import (
    ADTS_RATES,
    SAMPLE_BYTES,
    ConvertedSound,
    ConvertedText,
    Copied,
    CopiedSamples,
    CopiedSubtitles,
    Track,
    bit_rate,
    name,
    own_order,
    sound_encoder,
)

LOOK_AHEAD = 10
"""Seconds of the input that are read to find out which of its tracks have anything in the kept part; also how far apart
packets of the same time are expected to lie in a file."""

TEXT_SUBTITLES = {"matroska": "subrip", "mp4": "mov_text", "mov": "mov_text", "webm": "webvtt"}
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
"""Number of channels -> what converted sound has; any other number becomes stereo."""
SOUND = {"matroska": "aac", "mp4": "aac", "mov": "aac", "webm": "libopus"}
NOISE_IN_MP4 = {f"pcm_{kind}{order}" for kind in ("s24", "s32", "f32", "f64") for order in ("le", "be")}
"""Sound of which an mp4 says what it is by a box (ISO 23003-5) that many players do not read, and play as 16 bit."""

PRIMING = Fraction(1, 10)
"""Seconds of sound before the first that is heard which its decoder may need."""

NUM_TRIED = 5
"""Packets of a track of sound with which it is tried whether the output takes it, and read for that if it began."""

PATIENT = {"analyzeduration": "3600000000", "probesize": "50000000"}
"""Microseconds and bytes that are read to find out what the tracks hold, where FFmpeg's seven seconds were too few."""

COARSE = Fraction(1, 1000)
"""Seconds: an AVI counts its sound in packets, and what is placed to the nearest of these ticks is not in step."""
FINE = Fraction(1, 1_000_000)

TRACK_ERRORS = (av.error.InvalidDataError, av.error.ArgumentError, av.error.PatchWelcomeError, ValueError)
"""What FFmpeg says of a packet that it does not take; of the disk it says other things."""

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
        muxer: Muxer,
        container: str,
        origin: Fraction,
        start: Fraction | None,
        end: Fraction | None,
        notes: list[str],
    ) -> None:
        self.notes = notes
        self._output, self._muxer = output, muxer
        self._container = container
        self._origin, self._start, self._end = origin, start, end
        self._tracks: dict[int, Track] = {}
        self._last_dts: dict[int, int] = {}
        self._hidden: dict[int, deque[av.Packet[Any]]] = {}
        self._begun: set[int] = set()
        self._shown: dict[int, av.Packet[Any]] = {}
        self._pending: deque[av.Packet[Any]] = deque()
        self._packets: Iterator[av.Packet[Any]] = iter(())
        try:
            self._input: InputContainer | None = _opened(path)
        except (av.FFmpegError, OSError) as error:
            self._input = None
            self.notes.append(f"no sound or subtitles: {path} could not be read a second time ({error})")
            return
        self._open()

    def _open(self) -> None:
        assert self._input is not None
        wanted = [s for s in self._input.streams if s.type in ("audio", "subtitle")]
        clocks = telling(self._input)
        for stream in self._input.streams:
            if stream not in wanted and stream not in clocks:
                stream.discard = Discard.all
        if not wanted:
            self.close()
            return
        if self._start is not None and not clocks:
            # A subtitle may have begun long before the moment in which it is seen.
            with suppress(av.FFmpegError):
                self._input.seek(max(0, int((self._start - LOOK_AHEAD) * av.time_base)))
        self._packets = self._read(wanted, clocks)
        present = self._look_ahead(len(wanted))
        for stream in wanted:
            if present is None or stream.index in present:
                track = self._add(stream)
                if track is not None:
                    self._tracks[stream.index] = track
            else:
                self.notes.append(f"{name(stream)} has nothing in this part and is left out")

    def _look_ahead(self, num_tracks: int) -> set[int] | None:
        """Indices of the tracks that have packets in the kept part; None when that would take reading too far."""
        present: set[int] = set()
        while len(present) < num_tracks:
            packet = self._read_on()
            if packet is None:
                return present
            present.add(packet.stream_index)
            if _time(packet) > self._far and len(present) < num_tracks:
                return None
        return present

    def _read_on(self) -> av.Packet[Any] | None:
        """One packet more of those that wait to be written, None at the end."""
        packet = next(self._packets, None)
        if packet is not None:
            self._pending.append(packet)
        return packet

    def _waiting(self, stream: Stream) -> Iterator[av.Packet[Any]]:
        """The packets of a track that wait to be written, and for as long as they are asked for, those after them.

        Of a track that has just begun where the looking ends, a few more are read.
        """
        position, found, until = 0, 0, self._far
        while position < len(self._pending) or self._read_on() is not None:
            packet = self._pending[position]
            position += 1
            if packet.stream_index == stream.index:
                found += 1
                if found < NUM_TRIED:
                    until = max(until, _time(packet) + LOOK_AHEAD)
                yield packet
            if _time(packet) > until:
                return

    @property
    def _far(self) -> Fraction:
        """Up to when is looked for tracks, in seconds of the input."""
        return max(self._origin, self._start or self._origin) + LOOK_AHEAD

    def _read(self, streams: list[Stream], clocks: list[Stream]) -> Iterator[av.Packet[Any]]:
        """The packets of the kept part, in the order of the file and on one clock, however it was joined."""
        seams = Seams(dense=[stream.index for stream in clocks])
        wanted = {stream.index for stream in streams}
        for packet in self._demuxed({stream.index: stream for stream in (*streams, *clocks)}):
            for settled in seams.push(packet) if packet is not None else seams.flush():
                if settled.stream_index not in wanted or (settled.pts is None and settled.dts is None):
                    continue
                time = _time(settled)
                if self._end is not None and time >= self._end:
                    if time >= self._end + LOOK_AHEAD:
                        return
                elif self._start is None or time >= self._start:
                    yield from self._still_shown()
                    yield from self._heard(settled)
                elif settled.stream.type == "subtitle":
                    yield from self._seen_at_start(settled, time)
        yield from self._still_shown()

    def _heard(self, packet: av.Packet[Any]) -> Iterable[av.Packet[Any]]:
        """What goes on with a packet: none of sound that its file hides, as a trimmed recording does.

        Other containers have no way of hiding it. What a decoder needs before the first sound goes along with that.
        """
        if packet.stream.type != "audio":
            return (packet,)
        hidden = self._hidden.setdefault(packet.stream_index, deque())
        while hidden and _time(packet) - _time(hidden[0]) > PRIMING:
            hidden.popleft()
        if packet.is_discard:
            if packet.stream_index not in self._begun:
                hidden.append(packet)
            return ()
        self._begun.add(packet.stream_index)
        needed = tuple(hidden)
        hidden.clear()
        return (*needed, packet)

    def _demuxed(self, streams: Mapping[int, Stream]) -> Iterator[av.Packet[Any] | None]:
        """Every packet of these tracks, None at the end."""
        assert self._input is not None
        try:
            yield from self._input.demux(list(streams.values()))
        except av.FFmpegError as error:
            self.notes.append(f"sound and subtitles end early: the input is damaged there ({error.strerror})")
        except NEW_TRACK:
            pass
        yield None

    def _seen_at_start(self, packet: av.Packet[Any], time: Fraction) -> Iterable[av.Packet[Any]]:
        """A subtitle from before the start if it is still to be seen then; it is made to begin there.

        Pictures of text that do not say how long they last do so until the next, which comes or not.
        """
        assert self._start is not None
        begin = int(self._start / packet.time_base)
        decoder = packet.stream.codec_context
        if not packet.duration:
            if isinstance(decoder, SubtitleCodecContext) and not decoder.codec.text_sub:
                packet.pts = packet.dts = begin
                self._shown[packet.stream_index] = packet
            return ()
        stop = time + packet.duration * packet.time_base
        if stop <= self._start:
            return ()
        packet.pts = packet.dts = begin
        packet.duration = int((stop - self._start) / packet.time_base)
        return (packet,)

    def _still_shown(self) -> Iterable[av.Packet[Any]]:
        """The pictures of text that are on screen at the start, once."""
        shown, self._shown = self._shown, {}
        return shown.values()

    def _add(self, stream: Stream) -> Track | None:
        """The track of the output that takes this stream, or None with a note."""
        made: Track | None
        try:
            if self._is_held(stream):
                made = self._copied(stream)
            elif stream.type == "audio":
                made = self._converted_sound(stream)
            else:
                made = self._converted_text(stream)
        except (av.FFmpegError, ValueError, OSError) as error:
            self.notes.append(f"{name(stream)} is left out: it could not be converted ({error})")
            return None
        if made is not None:
            described = lasting({key: value for key, value in stream.metadata.items() if key.lower() != "name"})
            made.target.metadata.update(described | naming_of(stream))
            made.target.disposition = stream.disposition & ~Disposition.attached_pic
        return made

    def _is_held(self, stream: Stream) -> bool:
        """Whether the output takes a stream as it is; its first packets may be damaged."""
        waiting = [packet for packet in self._pending if packet.stream_index == stream.index][:1]
        if stream.type == "audio":
            waiting = list(islice(self._waiting(stream), NUM_TRIED))
        if not waiting:
            return _holds(self._container, stream, None)
        return any(_holds(self._container, stream, packet) for packet in waiting)

    def _copied(self, stream: Stream) -> Track:
        target: Stream = self._output.add_stream_from_template(stream)
        if self._container in EXACT and stream.codec_context.name in SAMPLE_BYTES:
            return CopiedSamples(stream, target)
        if stream.type == "audio":
            return Copied(stream, target, self.notes, container=self._container)
        return CopiedSubtitles(stream, target)

    def _converted_sound(self, stream: Stream) -> Track | None:
        decoder = stream.codec_context
        order = own_order(decoder) if isinstance(decoder, AudioCodecContext) else ()
        if not isinstance(decoder, AudioCodecContext) or not self._can_be_decoded(stream):
            self.notes.append(f"{name(stream)} is left out: nothing of it could be decoded")
            return None
        codec = SOUND[self._container]
        rate = 48000
        if codec == "aac":
            rate = min((known for known in ADTS_RATES if decoder.sample_rate <= known <= 48000), default=48000)
        layout = LAYOUTS.get(decoder.layout.nb_channels, "stereo")
        # Tried beside the output: in it, one that fails would take the whole output along.
        sound_encoder(codec, rate=rate, layout=layout)
        target: Any = self._output.add_stream(codec, rate=rate, layout=layout, bit_rate=bit_rate(layout))
        kept = self._container == "mp4" and decoder.name.startswith("pcm_") and _holds("mov", stream, None)
        advice = "; a .mov keeps it" if kept else ""
        self.notes.append(f"{name(stream)} was converted to {codec.removeprefix('lib')}{advice}")
        return ConvertedSound(stream, target, target.codec_context, self.notes, order=order)

    def _can_be_decoded(self, stream: Stream) -> bool:
        """Whether the first packets that wait, or some more, become sound; the decoder begins anew afterwards.

        A track that begins later than is looked is believed to, if it is known what it holds.
        """
        decoder: Any = stream.codec_context
        seen = False
        try:
            for packet in self._waiting(stream):
                seen = True
                with suppress(av.FFmpegError):
                    if decoder.decode(packet):
                        return True
            return not seen and decoder.sample_rate > 0 and decoder.layout.nb_channels > 0
        finally:
            decoder.flush_buffers()

    def _converted_text(self, stream: Stream) -> Track | None:
        decoder = stream.codec_context
        if not isinstance(decoder, SubtitleCodecContext) or not decoder.codec.text_sub:
            self.notes.append(f"{name(stream)} is left out: a {ending_of(self._container)} file cannot hold it")
            return None
        codec = TEXT_SUBTITLES[self._container]
        decoder.open(strict=False)
        target: Any = self._output.add_stream(codec)
        target.codec_context.subtitle_header = decoder.subtitle_header
        target.codec_context.time_base = target.time_base = Fraction(1, 1000)
        self.notes.append(f"{name(stream)} was converted to {codec}")
        return ConvertedText(stream, target, container=self._container)

    def up_to(self, seconds: Fraction | None) -> None:
        """Write the packets that belong before this time of the output; None: all that are left."""
        while self._pending or self._read_on() is not None:
            packet = self._pending[0]
            if seconds is not None and _time(packet) - self._origin > seconds:
                return
            self._pending.popleft()
            track = self._tracks.get(packet.stream_index)
            if track is not None:
                self._place(packet)
                self._write(track, partial(track.take, packet))

    def finish(self, end: Fraction) -> None:
        """Write all that is left, and what the tracks hold; the pictures end at `end` seconds."""
        self.up_to(None)
        self.flush(end)

    def flush(self, end: Fraction) -> None:
        """Write what the tracks hold; the pictures end at `end` seconds."""
        for track in list(self._tracks.values()):
            self._write(track, partial(track.end, end))
        self._tracks = {}

    def close(self) -> None:
        """Close the input."""
        if self._input is not None:
            self._input.close()
            self._input = None

    def _place(self, packet: av.Packet[Any]) -> None:
        """Put a packet on the output's clock; a subtitle ends with the kept part."""
        if self._end is not None and packet.stream.type == "subtitle" and packet.duration:
            packet.duration = min(packet.duration, int((self._end - _time(packet)) / packet.time_base))
        if packet.time_base > COARSE:
            _rescale(packet, packet.time_base / math.ceil(packet.time_base / FINE))
        shift = round(self._origin / packet.time_base)
        if packet.dts is not None:
            packet.dts -= shift
        packet.pts = packet.pts - shift if packet.pts is not None else packet.dts
        packet.dts = packet.dts if packet.dts is not None else packet.pts

    def _write(self, track: Track, made: Callable[[], Iterable[av.Packet[Any]]]) -> None:
        """Write what a track makes; one that fails ends there, with a note, and all others go on."""
        try:
            for packet in made():
                self._mux(packet, track)
        except TRACK_ERRORS as error:
            self._tracks.pop(track.source.index, None)
            self.notes.append(f"{name(track.source)} ends early: {reason(error)}")

    def _mux(self, packet: av.Packet[Any], track: Track) -> None:
        packet.stream = track.target
        if packet.dts is not None:
            # A muxer refuses times that decrease, of sound in an mp4 those that do not increase; on its own clock, to
            # which many a packet of an mkv's milliseconds is moved that falls on one with the packet before.
            _rescale(packet, track.target.time_base or packet.time_base)
            last = self._last_dts.get(track.source.index)
            strictly = track.source.type == "audio" and self._container in EXACT
            least = packet.dts if last is None else last + strictly
            if packet.dts < least:
                end = packet.dts + (packet.duration or 0)
                packet.dts = least
                packet.pts = max(packet.pts or least, least)
                if track.source.type == "subtitle":
                    packet.duration = max(0, end - packet.pts)
            self._last_dts[track.source.index] = packet.dts
        self._muxer.mux(packet)


def _opened(path: Path) -> InputContainer:
    """The input with what its sound is, which FFmpeg must read on to find out where it begins late."""
    container = av.open(f"file:{path}", metadata_errors="replace")
    if all(stream.codec_context is None or stream.codec_context.sample_rate for stream in container.streams.audio):
        return container
    container.close()
    return av.open(f"file:{path}", metadata_errors="replace", options=PATIENT)


def _rescale(packet: av.Packet[Any], base: Fraction) -> None:
    """Put the times of a packet on another clock."""
    if base == packet.time_base:
        return
    ratio = packet.time_base / base
    packet.pts = None if packet.pts is None else round(packet.pts * ratio)
    packet.dts = None if packet.dts is None else round(packet.dts * ratio)
    packet.duration = round((packet.duration or 0) * ratio)
    packet.time_base = base


def _time(packet: av.Packet[Any]) -> Fraction:
    """When a packet begins in its file's time, in seconds."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    assert stamp is not None
    return stamp * packet.time_base


def _holds(container: str, stream: Stream, first: av.Packet[Any] | None) -> bool:
    """Whether a container takes a stream as it is, found out by writing a file of its first packet to memory.

    Some muxers refuse only when they are closed, which for an output would be at the very end.
    """
    codec = stream.codec_context
    if codec is None or (container == "mp4" and codec.name in NOISE_IN_MP4):
        return False
    probe = av.open(io.BytesIO(), "w", format=container)
    try:
        target = probe.add_stream_from_template(stream)
        probe.start_encoding()
        if first is not None and (codec.name != "aac" or codec.extradata):
            packet: av.Packet[Any] = av.Packet(bytes(first))
            packet.pts = packet.dts = 0
            packet.time_base, packet.duration, packet.is_keyframe = first.time_base, 1, True
            packet.stream = target
            probe.mux(packet)
        probe.close()
    except (av.FFmpegError, ValueError):
        return False
    finally:
        with suppress(av.FFmpegError, ValueError):
            probe.close()
    return True
