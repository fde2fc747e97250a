"""Decode one stream from where its container stands, come what may: damage is counted and passed over."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Any

import av
from av.format import Flags

from streamseg.seams import NEW_TRACK, Seams, telling
from streamseg.sources._deinterlace import Deinterlacer
from streamseg.sources._timeline import Timeline

# In a row; a disk that fails for good must not be read for ever.
_MOST_READ_ERRORS = 8
# Pictures a second. What is beyond is a clock's ticks, taken for a rate where two pictures tell too little.
_MOST_RATE = 1000
_USUAL_RATE = Fraction(25)
_FINEST = 1001  # largest denominator of a rate that is told from a number, as of 30000/1001


def rate_of(stream: Any) -> Fraction:
    """Pictures a second, 25 where the file does not say."""
    return stated_rate(stream) or _USUAL_RATE


def stated_rate(stream: Any) -> Fraction | None:
    """Pictures a second as the file says, or its bitstream does; None where neither says anything that can be true."""
    bitstream = stream.codec_context.framerate
    told = (bitstream,) if _is_bare(stream) else (stream.average_rate, stream.guessed_rate, bitstream)
    return next((Fraction(rate) for rate in told if rate and 0 < rate <= _MOST_RATE), None)


def near_rate(measured: float) -> Fraction:
    """A rate as a fraction of small numbers; of less than a picture a second, the time between two is one."""
    if measured >= 1:
        return Fraction(measured).limit_denominator(_FINEST)
    return 1 / Fraction(1 / measured).limit_denominator(_FINEST)


def usual_interval(stream: Any) -> float:
    """Seconds from a picture to the next where nothing stands still; the average would count still stretches in."""
    rate = rate_of(stream)
    # FFmpeg guesses it from the distances of the first pictures.
    guessed = None if _is_bare(stream) else stream.guessed_rate
    return float(1 / max(rate, Fraction(guessed) if guessed and guessed <= _MOST_RATE else rate))


def _is_bare(stream: Any) -> bool:
    """Whether it is a bitstream without timestamps: FFmpeg's readers of those hand out 25 pictures a second."""
    container = stream.container.format
    return bool(container.flags & Flags.no_timestamps.value) or container.name.endswith("_pipe")


class Decoding:
    """One pass over the pictures of a stream, whole ones at increasing times: deinterlaced, pts repaired.

    Many decoders patch over what they cannot read and hand out the picture; `warnings` counts those too. Those of
    H.264, MPEG-4 and its kin, MPEG-2 and ProRes mark such pictures; H.265 and MJPEG make one of any bytes, unmarked.

    `first_packet` is the first packet read. `num_before` is how many packets after it belong to pictures shown before
    the first one that came out, None while there is none or where timestamps are missing.
    """

    def __init__(self, container: Any, stream: Any, *, threads: int = 1, from_the_beginning: bool = True) -> None:
        self.first_packet: Any = None
        self.num_before: int | None = None
        self._container = container
        self._stream = stream
        # A seek leaves packets whose pictures need what was skipped; and two fields may be two packets of one picture.
        self._counts_lost = from_the_beginning and stream.codec_context.name in ("h264", "hevc")
        # Where transport streams were joined, FFmpeg calls the packets beside the seam incomplete, whole as they are.
        self._counts_incomplete = stream.container.format.name != "mpegts"
        self._num_damaged = 0
        self._num_kept = 0
        self._num_read_errors = 0
        self._telling = telling(stream.container)
        self._seams = Seams(dense=[track.index for track in self._telling])
        self._timeline = Timeline(step=round(1 / (rate_of(stream) * stream.time_base)))
        self._deinterlacer = Deinterlacer(threads=threads)
        self._pictures: Generator[av.VideoFrame] | None = self._decoded()

    def __iter__(self) -> Iterator[av.VideoFrame]:
        return self._pictures or iter(())

    def next(self) -> av.VideoFrame | None:
        """The next picture, or None at the end."""
        return next(iter(self), None)

    def close(self) -> None:
        """Let go of the decoder and its pictures, which would else stay until Python looks for circles of references.

        The warnings stay.
        """
        pictures, self._pictures = self._pictures, None
        if pictures is not None:
            pictures.close()
        self._telling = []
        self._container = self._stream = self.first_packet = None
        self._deinterlacer.close()

    @property
    def interlaced(self) -> bool:
        """Whether pictures so far were made of two fields, so that each needs its neighbours."""
        return self._deinterlacer.num_interlaced > 0

    @property
    def warnings(self) -> dict[str, int]:
        """What went wrong so far, and how often."""
        counts = {
            "damaged packets skipped": self._num_damaged,
            "damaged pictures kept": self._num_kept,
            "read errors passed over": self._num_read_errors,
            "timestamps that did not increase, repaired": self._timeline.num_backward,
            "missing timestamps filled in": self._timeline.num_missing,
            "seams of joined recordings, put on one clock": self._seams.num,
            "interlaced pictures deinterlaced": self._deinterlacer.num_interlaced,
        }
        return {what: count for what, count in counts.items() if count}

    def _decoded(self) -> Generator[av.VideoFrame]:
        for picture in self._decoded_by_the_codec():
            for timed in self._timeline.picture(picture):
                yield from self._deinterlacer.push(timed)
        for timed in self._timeline.flush():
            yield from self._deinterlacer.push(timed)
        yield from self._deinterlacer.flush()

    def _count_lost(self, *, num_packets: int, num_pictures: int) -> None:
        """Count the packets that these decoders drop without a word when too little of them is whole."""
        if self._counts_lost and not self.interlaced:
            self._num_damaged += max(0, num_packets - num_pictures - self._num_damaged)

    def _decoded_by_the_codec(self) -> Iterator[av.VideoFrame]:
        sent: list[int] | None = []
        incomplete: set[int] = set()
        num_packets = num_pictures = 0
        for packet in self._packets():
            if packet is not None and not packet.is_discard:
                num_packets += 1
                self._timeline.packet(packet.pts)
                if sent is not None and packet.pts is not None:
                    sent.append(packet.pts)
                if self._counts_incomplete and packet.is_corrupt and packet.pts is not None:
                    incomplete.add(packet.pts)
            try:
                pictures = self._stream.codec_context.decode(packet)
            except av.EOFError:
                continue
            except av.FFmpegError:
                self._num_damaged += 1
                continue
            for picture in pictures:
                if sent is not None:
                    self.num_before = sum(pts < picture.pts for pts in sent) if picture.pts is not None else None
                    sent = None
                # Pictures that only emptying the decoder brings out have none.
                picture.time_base = self._stream.time_base
                num_pictures += 1
                self._num_kept += picture.is_corrupt or picture.pts in incomplete
                yield picture
        self._count_lost(num_packets=num_packets, num_pictures=num_pictures)

    def _packets(self) -> Iterator[Any]:
        """The stream's packets, then None, which empties the decoder."""
        for packet in self._read():
            for settled in self._seams.push(packet):
                if settled.stream_index == self._stream.index:
                    self.first_packet = self.first_packet or settled
                    yield settled
        for settled in self._seams.flush():
            if settled.stream_index == self._stream.index:
                yield settled
        yield None

    def _read(self) -> Iterator[Any]:
        """The packets of the stream, and of those that tell where recordings were joined."""
        wanted = self._telling or [self._stream]
        in_a_row = 0
        while in_a_row < _MOST_READ_ERRORS:
            try:
                for packet in self._container.demux(wanted):
                    if packet.size:
                        in_a_row = 0
                        yield packet
                return
            except NEW_TRACK:
                return
            except av.FFmpegError:
                self._num_read_errors += 1
                in_a_row += 1
