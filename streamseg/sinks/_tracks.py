"""The ways in which a track of the input becomes one of the output: copied, or converted to what the container holds.

Each takes the packets of its track, on the output's clock and in the order of the file, and gives those to be written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any, Protocol

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.bitstream import BitStreamFilterContext
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext

from streamseg.sinks._cues import Cue, Cues
from streamseg.sinks._muxer import EXACT, Trial

UNKNOWN = 86_400
"""Seconds: a subtitle that is said to last longer has an end that nobody knew; FFmpeg writes 49 days for it."""

ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
ADTS_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "7.1"}
ADTS_LOW_COMPLEXITY = 1
"""What the header of an AAC packet in a transport stream may say (ISO 13818-7, adts_fixed_header)."""

SAMPLE_BYTES = {"pcm_u8": 1, "pcm_s8": 1, "pcm_mulaw": 1, "pcm_alaw": 1} | {
    f"pcm_{kind}{bits}{order}": bits // 8
    for kind, bits in (("s", 16), ("s", 24), ("s", 32), ("f", 32), ("f", 64))
    for order in ("le", "be")
}
"""Decoder of PCM -> bytes that a sample of one channel has."""
SILENCE = {"pcm_u8": b"\x80", "pcm_mulaw": b"\xff", "pcm_alaw": b"\xd5"}
"""A byte of silence where it is not 0."""
MOST_SILENCE = 3600
"""Seconds of silence that fill a hole at most."""
STEP = Fraction(1, 50)
"""Seconds: what the times of PCM are apart by less is their clock's, which an mkv rounds to a millisecond."""

NATIVE_ORDER = tuple(channel.name for channel in av.AudioLayout("22.2").channels)
"""Names of channels in the order in which every layout of FFmpeg's own has them."""


class Track(Protocol):
    """One track on its way from `source`, of the input, to `target`, of the output."""

    source: Stream
    target: Stream

    def take(self, packet: av.Packet[Any]) -> Iterable[av.Packet[Any]]:
        """The packets that are ready with this one."""

    def end(self, time: Fraction) -> Iterable[av.Packet[Any]]:
        """The last packets, of an output that ends at `time` seconds."""


class Copied:
    """A track of sound packet for packet.

    AAC of transport streams has a header in every packet, which files keep once for all. Where it changes, in a
    recording joined of several, the rest is converted to what it was at first: files cannot change.

    container: its name; packets that it does not take, as damaged ones may be, are left out with a note
    """

    def __init__(self, source: Stream, target: Stream, notes: list[str], *, container: str) -> None:
        self.source, self.target = source, target
        self._trial = Trial(source, container=container) if container in EXACT else None
        self._notes = notes
        self._unframed: BitStreamFilterContext | None = None
        self._first_header: tuple[int, int, int] | None = None
        self._converted: ConvertedSound | None = None
        if source.codec_context.name == "aac" and not source.codec_context.extradata:
            # FFmpeg does this itself for most outputs, but not for a fragmented mp4.
            self._unframed = BitStreamFilterContext("aac_adtstoasc", source)

    def take(self, packet: av.Packet[Any]) -> Iterable[av.Packet[Any]]:
        if self._converted is None and self._unframed is not None and self._changed(packet):
            self._converted = self._conversion()
        if self._converted is not None:
            return self._converted.take(packet)
        try:
            unframed = self._unframed.filter(packet) if self._unframed is not None else [packet]
        except av.error.InvalidDataError:
            unframed = []
        taken = [each for each in unframed if self._trial is None or self._trial.takes(each)]
        if not unframed or len(taken) < len(unframed):
            note_damage(self.source, self._notes)
        return taken

    def end(self, time: Fraction) -> Iterable[av.Packet[Any]]:
        return self._converted.end(time) if self._converted is not None else ()

    def _changed(self, packet: av.Packet[Any]) -> bool:
        header = _adts_header(packet)
        self._first_header = self._first_header or header
        return header is not None and header != self._first_header

    def _conversion(self) -> ConvertedSound:
        assert self._first_header is not None
        profile, rate, channels = self._first_header
        if profile != ADTS_LOW_COMPLEXITY or rate >= len(ADTS_RATES) or channels not in ADTS_LAYOUTS:
            raise ValueError("its format changes there")
        layout = ADTS_LAYOUTS[channels]
        self._notes.append(
            f"{name(self.source)} changes its format; from there on it was converted to "
            f"{ADTS_RATES[rate]} Hz {layout}, as it is before"
        )
        return ConvertedSound(
            self.source, self.target, sound_encoder("aac", rate=ADTS_RATES[rate], layout=layout), self._notes
        )


class CopiedSamples:
    """A track of PCM packet for packet, in a container that counts samples and so knows of no hole between them.

    A hole is filled with silence, and of packets that overlap the earlier one is heard.
    """

    def __init__(self, source: Stream, target: Stream) -> None:
        self.source, self.target = source, target
        decoder: Any = source.codec_context
        own_order(decoder)  # before the layout is read
        self._rate: int = decoder.sample_rate
        self._size = SAMPLE_BYTES[decoder.name] * decoder.layout.nb_channels
        self._silence = SILENCE.get(decoder.name, b"\0") * self._size
        self._end: Fraction | None = None  # of the samples so far, in seconds

    def take(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        begin = _begin(packet)
        missing = round((begin - self._end) * self._rate) if self._end is not None else 0
        if self._end is None:
            self._end = begin
        elif missing > MOST_SILENCE * self._rate:
            hours = missing / self._rate / 3600
            raise ValueError(f"a pause of {hours:.1f} hours is longer than an mp4 or a mov holds; an .mkv does")
        elif missing > STEP * self._rate:
            for start in range(0, missing, self._rate):
                yield self._samples(self._silence * min(self._rate, missing - start))
        elif missing < -STEP * self._rate:
            rest = bytes(packet)[-missing * self._size :]
            if rest:
                yield self._samples(rest)
            return
        self._end += Fraction(packet.size // self._size, self._rate)
        yield packet

    def end(self, time: Fraction) -> Iterable[av.Packet[Any]]:
        return ()

    def _samples(self, data: bytes) -> av.Packet[Any]:
        """A packet that follows those so far."""
        assert self._end is not None
        packet: av.Packet[Any] = av.Packet(data)
        packet.time_base, packet.is_keyframe = Fraction(1, self._rate), True
        packet.pts = packet.dts = round(self._end * self._rate)
        packet.duration = len(data) // self._size
        self._end += Fraction(packet.duration, self._rate)
        return packet


class ConvertedSound:
    """A track of sound decoded and encoded anew, with one rate and layout however often the source changes its own.

    order: names of the channels of which the decoder does not say where they stand, as `own_order` gives them
    """

    def __init__(
        self,
        source: Stream,
        target: Stream,
        encoder: AudioCodecContext,
        notes: list[str],
        *,
        order: Sequence[str] = (),
    ) -> None:
        self.source, self.target = source, target
        self._encoder: Any = encoder
        self._notes = notes
        self._order = order
        self._resampler: av.AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None

    def take(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        decoder: Any = self.source.codec_context
        try:
            frames = decoder.decode(packet)
        except av.FFmpegError:  # decoders have many words for it
            note_damage(self.source, self._notes)
            return
        for frame in frames:
            yield from self._encoded(frame)

    def end(self, time: Fraction) -> Iterator[av.Packet[Any]]:
        decoder: Any = self.source.codec_context
        frames: list[av.AudioFrame] = []
        with suppress(av.FFmpegError):
            frames = decoder.decode(None)
        for frame in frames:
            yield from self._encoded(frame)
        yield from self._rest_of_the_resampler()
        yield from self._encoder.encode(None)

    def _encoded(self, frame: av.AudioFrame) -> Iterator[av.Packet[Any]]:
        if self._order and frame.layout.name == _unordered(len(self._order)):
            frame = _in_native_order(frame, self._order)
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            yield from self._rest_of_the_resampler()
            encoder = self._encoder
            self._shape = shape
            self._resampler = av.AudioResampler(encoder.format, encoder.layout, encoder.sample_rate)
        assert self._resampler is not None
        for resampled in self._resampler.resample(frame):
            yield from self._encoder.encode(resampled)

    def _rest_of_the_resampler(self) -> Iterator[av.Packet[Any]]:
        if self._resampler is not None:
            for resampled in self._resampler.resample(None):
                if resampled is not None:
                    yield from self._encoder.encode(resampled)


class CopiedSubtitles:
    """A track of subtitles packet for packet; one whose end is not known lasts until the next."""

    def __init__(self, source: Stream, target: Stream) -> None:
        self.source, self.target = source, target
        self._waiting: av.Packet[Any] | None = None

    def take(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        yield from self.end(_begin(packet))
        if (packet.duration or 0) * packet.time_base < UNKNOWN:
            yield packet
        else:
            self._waiting = packet

    def end(self, time: Fraction) -> Iterator[av.Packet[Any]]:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.duration = max(0, round((time - _begin(waiting)) / waiting.time_base))
            yield waiting


class ConvertedText:
    """A track of subtitles in another format of text; where only one can be shown at a time, overlapping ones share."""

    def __init__(self, source: Stream, target: Stream, *, container: str) -> None:
        self.source, self.target = source, target
        self._cues = Cues() if container in EXACT else None
        self._single = CopiedSubtitles(source, target)

    def take(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        decoder, encoder = self.source.codec_context, self.target.codec_context
        assert isinstance(decoder, SubtitleCodecContext) and isinstance(encoder, SubtitleCodecContext)
        decoded = decoder.decode2(packet)
        if decoded is None or not len(decoded):
            return
        text = bytes(encoder.encode_subtitle(decoded))
        start = round(_begin(packet) * 1000)
        lasts = round((packet.duration or 0) * packet.time_base * 1000) or decoded.end_display_time
        cue = Cue(start, start + lasts if 0 < lasts < UNKNOWN * 1000 else None, text)
        if self._cues is not None:
            yield from map(self._packet, self._cues.add(cue))
        else:
            yield from self._single.take(self._packet(cue))

    def end(self, time: Fraction) -> Iterable[av.Packet[Any]]:
        if self._cues is not None:
            return map(self._packet, self._cues.end(round(time * 1000)))
        return self._single.end(time)

    @staticmethod
    def _packet(cue: Cue) -> av.Packet[Any]:
        packet: av.Packet[Any] = av.Packet(cue.text)
        packet.time_base = Fraction(1, 1000)
        packet.pts = packet.dts = cue.start
        packet.duration = cue.end - cue.start if cue.end is not None else UNKNOWN * 1000
        return packet


def name(stream: Stream) -> str:
    """A track as a note calls it."""
    codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
    language = f", {stream.language}" if stream.language not in (None, "und") else ""
    return f"track {stream.index} ({stream.type}, {codec}{language})"


def own_order(decoder: AudioCodecContext) -> tuple[str, ...]:
    """The channels of sound that has them in an order of its own, as a .mov can; empty where FFmpeg has a word for it.

    PyAV frees such an order once for every frame and every time it is read, which ends the process. So it is taken
    from the decoder, whose frames then say only how many channels there are. To be called before the first decoding.
    """
    layout = decoder.layout
    names = tuple(channel.name for channel in layout.channels)
    if not layout.name.startswith(f"{_unordered(len(names))} ("):
        return ()
    decoder.layout = _unordered(len(names))  # from here on the order is `layout`'s alone
    return names if len(set(names)) == len(names) and set(names) <= set(NATIVE_ORDER) else ()


def _unordered(num_channels: int) -> str:
    """The layout of channels of which nobody says where they stand."""
    return f"{num_channels} channels"


def _in_native_order(frame: av.AudioFrame, order: Sequence[str]) -> av.AudioFrame:
    """The same sound with its channels in FFmpeg's order, which its layout says."""
    names = sorted(order, key=NATIVE_ORDER.index)
    rows = [order.index(name) for name in names]
    samples: np.ndarray = frame.to_ndarray()
    samples = samples[rows] if frame.format.is_planar else samples.reshape(-1, len(rows))[:, rows].reshape(1, -1)
    made = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=frame.format.name, layout="+".join(names))
    made.sample_rate, made.pts, made.time_base = frame.sample_rate, frame.pts, frame.time_base
    return made


def note_damage(stream: Stream, notes: list[str]) -> None:
    """Say once that a track has damaged packets."""
    note = f"damaged packets of {name(stream)} were skipped"
    if note not in notes:
        notes.append(note)


def bit_rate(layout: str) -> int:
    """Bits a second that converted sound gets."""
    return 80_000 * av.AudioLayout(layout).nb_channels


def sound_encoder(codec: str, *, rate: int, layout: str) -> AudioCodecContext:
    """An open encoder beside any output; av.FFmpegError or ValueError where it cannot be."""
    context: Any = av.CodecContext.create(codec, "w")
    context.sample_rate, context.layout, context.bit_rate = rate, layout, bit_rate(layout)
    context.format = context.codec.audio_formats[0]
    context.time_base = Fraction(1, rate)
    context.open()
    encoder: AudioCodecContext = context
    return encoder


def _adts_header(packet: av.Packet[Any]) -> tuple[int, int, int] | None:
    """Profile, index of the rate and number of channels that an AAC packet says of itself, None without a header."""
    head = bytes(packet)[:4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    return head[2] >> 6, head[2] >> 2 & 15, (head[2] & 1) << 2 | head[3] >> 6


def _begin(packet: av.Packet[Any]) -> Fraction:
    stamp = packet.pts if packet.pts is not None else packet.dts
    assert stamp is not None
    return Fraction(stamp * packet.time_base)
