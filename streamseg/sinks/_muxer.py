"""Hands packets to a container such that each is shown exactly as long as it should be."""

from __future__ import annotations

import errno
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.stream import Stream

EXACT = ("mp4", "mov")
"""Containers that store how long a packet lasts, not when it begins."""

FAST = 1_000_000
"""Ticks a second of subtitles in these, more than any clock of sound has."""

NOTHING = b"\0\0"
"""A sample of FFmpeg's mov_text without a text."""


class Muxer:
    """Writes the packets of all tracks of an output, each with a dts not before that of the one before.

    FFmpeg closes a fragment of an mp4 where the last packet's time and duration say that its track ends, and begins
    the next one there. A packet that is said to last as long as usual, but after which nothing comes for eight
    seconds, moves all that follows eight seconds ahead. So the newest packet of a track waits here for its successor,
    which says how long it lasts.

    Where a text goes, FFmpeg writes an empty one and may close a fragment for it, in the midst of writing a packet of
    another track, and takes that track's packet after next for its next: so subtitles are written to an mp4 at its
    end, and up to its end. It compares times in ticks of different clocks for that, so theirs must be the fastest.
    """

    def __init__(self, output: OutputContainer, *, container: str) -> None:
        self._output = output
        self._exact = container in EXACT
        self._waiting: dict[int, av.Packet[Any]] = {}
        self._subtitles: dict[int, list[av.Packet[Any]]] = {}
        self._ends: dict[int, Fraction] = {}  # when all packets of a track have been shown, in seconds

    def start(self) -> None:
        """Write the header; all tracks have been added."""
        if self._exact:
            fastest = max(
                (stream.time_base.denominator for stream in self._output.streams if stream.time_base), default=1
            )
            for stream in self._output.streams:
                if stream.type == "subtitle":
                    stream.time_base = Fraction(1, max(fastest, FAST))
        self._output.start_encoding()

    def mux(self, packet: av.Packet[Any]) -> None:
        """Write a packet of the track `packet.stream`."""
        if not self._exact:
            self._output.mux(packet)
        elif packet.stream.type == "subtitle":
            self._subtitles.setdefault(packet.stream.index, []).append(packet)
        else:
            index = packet.stream.index
            packet.duration = min(packet.duration or 0, int(_countable(packet) / packet.time_base))
            before = self._waiting.get(index)
            self._waiting[index] = packet
            end = Fraction(((packet.pts or 0) + packet.duration) * packet.time_base)
            self._ends[index] = max(self._ends.get(index, Fraction(0)), end)
            if before is not None:
                _lasts_until(before, _begin(packet))
                _require_countable(before)
                self._output.mux(before)

    def flush(self) -> None:
        """Write what waits: the last packet of every track, which lasts until that track ends, and the subtitles."""
        for packets in self._subtitles.values():
            self._output.mux(self._without_gaps(packets))
        for index, packet in self._waiting.items():
            # Not always the last to be shown, whose time would be lost: of that one only when it is decoded is written.
            lasts = min(self._ends[index] - (packet.pts or 0) * packet.time_base, _countable(packet))
            packet.duration = int(lasts / packet.time_base)
            self._output.mux(packet)
        self._waiting, self._subtitles = {}, {}

    def _without_gaps(self, packets: list[av.Packet[Any]]) -> list[av.Packet[Any]]:
        """The subtitles of one track up to the end of all tracks; a text that goes before is followed by an empty one.

        Pictures of text say themselves when they go, so they may last until the next.
        """
        stream, end_of_all = packets[0].stream, max(self._ends.values(), default=Fraction(0))
        done: list[av.Packet[Any]] = []
        for packet, begin in zip(packets, [*map(_begin, packets[1:]), end_of_all], strict=True):
            done.append(packet)
            end = _begin(packet) + (packet.duration or 0) * packet.time_base
            if end > begin or (stream.codec_context is not None and stream.codec_context.name != "mov_text"):
                _lasts_until(packet, begin)
            elif end < begin:
                done.append(_text(NOTHING, stream, begin=end, end=begin, time_base=packet.time_base))
        return done


class Trial:
    """A file of one track that nobody keeps, which says whether the next packet can be written.

    FFmpeg's mp4 reads what some packets hold, as those of AC-3, and fails over damage; in an output of several tracks
    on whatever packet is written next, and for good.
    """

    def __init__(self, stream: Stream, *, container: str) -> None:
        self._output = av.open(_Nowhere(), "w", format=container)
        self._target: Stream = self._output.add_stream_from_template(stream)
        self._num = 0

    def takes(self, packet: av.Packet[Any]) -> bool:
        """Whether the packet can be written after all that could be before."""
        copy: av.Packet[Any] = av.Packet(bytes(packet))
        copy.stream, copy.time_base, copy.is_keyframe = self._target, Fraction(1, 1000), True
        copy.pts = copy.dts = 1000 * self._num
        copy.duration = 1000
        self._num += 1
        try:
            self._output.mux(copy)
        except (av.FFmpegError, ValueError):
            return False
        return True


class _Nowhere:
    """A file that takes everything and keeps nothing."""

    def __init__(self) -> None:
        self._position = 0

    def write(self, data: bytes) -> int:
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset if whence == 0 else self._position + offset
        return self._position

    def tell(self) -> int:
        return self._position


def _begin(packet: av.Packet[Any]) -> Fraction:
    """When a packet is decoded, which is when its sample begins, in seconds."""
    stamp = packet.dts if packet.dts is not None else packet.pts
    return Fraction((stamp or 0) * packet.time_base)


def _lasts_until(packet: av.Packet[Any], end: Fraction) -> None:
    packet.duration = max(0, round((end - _begin(packet)) / packet.time_base))


def _countable(packet: av.Packet[Any]) -> Fraction:
    """Seconds that a packet may last: FFmpeg ends the process over one of more than 31 bits of its track's ticks."""
    return ((1 << 31) - 1) * (packet.stream.time_base or packet.time_base)


def _require_countable(packet: av.Packet[Any]) -> None:
    """Raise av.error.ArgumentError for a packet that lasts longer."""
    lasts = (packet.duration or 0) * packet.time_base
    if lasts > _countable(packet):
        message = f"a pause of {float(lasts) / 3600:.1f} hours is longer than an mp4 or a mov holds; an .mkv does"
        raise av.error.ArgumentError(errno.EINVAL, message)


def _text(text: bytes, stream: Stream, *, begin: Fraction, end: Fraction, time_base: Fraction) -> av.Packet[Any]:
    packet: av.Packet[Any] = av.Packet(text)
    packet.stream, packet.time_base = stream, time_base
    packet.pts = packet.dts = round(begin / time_base)
    _lasts_until(packet, end)
    return packet
