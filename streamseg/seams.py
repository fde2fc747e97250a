"""One clock for a recording that was joined of several: `cat a.ts b.ts`, a camcorder's .m2ts, a disc's .vob.

Every piece brings its own clock, so at a seam the times of all tracks jump at once. Whoever reads such a file, be it
for its pictures or for its sound, passes its packets through `Seams` and gets the same times.
"""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from typing import Any

from av.container import InputContainer
from av.format import Flags
from av.stream import Stream

JUMP_BACK = Fraction(1, 10)
"""Seconds that a track's clock may step back and still be one wrong time among good ones."""
JUMP_AHEAD = 3600
"""Seconds: a shorter hole is a pause of the recorder and stays. FFmpeg makes a day of a clock that starts again."""
CONFIRMING = 3
"""Packets of every track that must have come after a jump before it is judged; a single wrong time is none."""
MOST_HELD = 600
"""Packets that are held back for that at most: a track may have ended with the piece before."""
NEAR = 5
"""Seconds by which the tracks of one piece lie apart at most where they begin, and a longer step needs confirming."""

LATE = 1
"""Seconds from what was reached within which a packet of a new piece begins."""

NEW_TRACK = IndexError
"""What PyAV's demux may raise behind the last packet of a file in which a track began that its header did not name."""


def telling(container: InputContainer) -> list[Stream]:
    """The tracks that tell where a container was joined, which `Seams` must see; none where it cannot have been."""
    discontinuous: Any = Flags.ts_discont
    if not container.format.flags & discontinuous.value:
        return []
    return [stream for stream in container.streams if stream.type in ("video", "audio")]


class Seams:
    """Moves the packets of a joined recording onto one clock, on which every piece follows the one before it.

    dense: indices of the tracks that are `telling`; the others follow them.
    Give `push` every packet of these tracks in the order of the file. `num` counts the seams so far.
    """

    def __init__(self, *, dense: Collection[int]) -> None:
        self.num = 0
        self._dense = frozenset(dense)
        self._offsets = [Fraction(0)]  # seconds that each piece is moved by
        self._piece: dict[int, int] = {}  # track -> the piece that its packets are of
        self._last: dict[int, Fraction] = {}  # track -> time of its last packet on the file's clock
        self._ends: dict[int, Fraction] = {}  # track -> end of its last packet on the repaired clock
        self._held: list[Any] = []

    def push(self, packet: Any) -> list[Any]:
        """The packets that are settled with this one, in their order, their pts and dts moved."""
        if not self._held and not self._jumps(packet) and not self._pauses(packet):
            return [self._placed(packet)]
        self._held.append(packet)
        return self._judged() if self._decided() else []

    def flush(self) -> list[Any]:
        """The packets that are still held, at the end of the file."""
        done: list[Any] = []
        while self._held:
            done += self._judged()
        return done

    def _jumps(self, packet: Any) -> bool:
        """Whether a packet cannot be the next one of its track on any clock so far."""
        step = self._step(packet)
        return step is not None and (step < -JUMP_BACK or step > JUMP_AHEAD)

    def _pauses(self, packet: Any) -> bool:
        """Whether there is a hole before a packet, or its time is wrong: what comes next will tell."""
        step = self._step(packet)
        return step is not None and step > NEAR

    def _step(self, packet: Any) -> Fraction | None:
        """Seconds since the packet of its track before it, None where that says nothing."""
        track, time = packet.stream_index, _time(packet)
        if track not in self._dense or track not in self._last or time is None:
            return None
        if self._piece[track] < self.num and abs(time + self._offsets[-1] - self._reached()) < NEAR:
            return None  # the other tracks are past the seam already; this one arrives there
        return time - self._last[track]

    def _decided(self) -> bool:
        waiting = dict.fromkeys(self._last, CONFIRMING)
        for packet in self._held:
            if packet.stream_index in waiting:
                waiting[packet.stream_index] -= 1
        return len(self._held) >= MOST_HELD or max(waiting.values()) <= 0

    def _judged(self) -> list[Any]:
        """Place what is held: behind a seam or a pause, or the first of it astray when the times come back at once."""
        held, self._held = self._held, []
        track = held[0].stream_index
        followers = [packet for packet in held if packet.stream_index == track and _time(packet) is not None]
        first: dict[int, Any] = {}
        done: list[Any] = []
        joined = self._jumps(held[0])
        if not all(map(self._jumps if joined else self._pauses, followers[:CONFIRMING])):
            done.append(self._astray(held.pop(0)))
        elif joined:
            first = self._begin_a_piece(held)
        else:
            done.append(self._placed(held.pop(0)))
        for packet in held:
            if packet.stream_index in first and packet is first[packet.stream_index]:
                self._piece[packet.stream_index] = self.num
                del self._last[packet.stream_index]
            done += self.push(packet)
        return done

    def _begin_a_piece(self, held: list[Any]) -> dict[int, Any]:
        """The first packet of every track in the new piece, which begins where none overlaps the piece before."""
        first: dict[int, Any] = {}
        for packet in held:
            if packet.stream_index not in first and self._jumps(packet):
                first[packet.stream_index] = packet
        self.num += 1
        self._offsets.append(max(self._ends[track] - (_time(packet) or 0) for track, packet in first.items()))
        return first

    def _placed(self, packet: Any) -> Any:
        time, track = _time(packet), packet.stream_index
        if time is None:
            return packet
        if packet.pts is not None and abs(packet.pts * packet.time_base - time) > JUMP_AHEAD:
            packet.pts = None  # it is shown when its neighbours let it
        offset = self._offsets[self._piece_of(track, time)]
        if offset:
            ticks = round(offset / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        if track in self._dense:
            step = time - self._last.get(track, time)
            usual = packet.duration * packet.time_base if packet.duration else step
            self._last[track] = time
            self._ends[track] = time + offset + (usual if 0 < usual < 1 else 0)
        return packet

    def _astray(self, packet: Any) -> Any:
        """A packet whose time is wrong among good ones, which no other is measured by.

        One that is far ahead follows the packet before it, and keeps of its times the pts if that can be true; one
        from the past is left to whoever puts the pictures in order.
        """
        track, base = packet.stream_index, packet.time_base
        ticks = round(self._offsets[self._piece[track]] / base)
        ahead, pts = self._pauses(packet), packet.pts
        if pts is not None:
            true = not ahead or -JUMP_BACK <= pts * base - self._last[track] <= NEAR
            packet.pts = pts + ticks if true else None
        if packet.dts is not None or ahead:
            packet.dts = round(self._ends[track] / base) if ahead else packet.dts + ticks
        return packet

    def _piece_of(self, track: int, time: Fraction) -> int:
        """The piece that a time is of: the track's own still, or the newest; whichever is nearer to what was reached.

        Near a seam, packets of both stand in the file: a demuxer hands out a piece's last ones late, after a piece
        without that track even a piece late.
        """
        own = self._piece.get(track, self.num)
        if own < self.num:
            reached = self._reached()
            follows = track in self._last and 0 < time - self._last[track] <= JUMP_BACK
            if not follows or abs(time + self._offsets[-1] - reached) < LATE:
                own = min(own, self.num, key=lambda piece: abs(time + self._offsets[piece] - reached))
        if track in self._dense or own == self.num:
            self._piece[track] = own
        return own

    def _reached(self) -> Fraction:
        return max(self._ends.values(), default=Fraction(0))


def _time(packet: Any) -> Fraction | None:
    """When a packet is to be decoded, on its file's clock in seconds."""
    stamp = packet.dts if packet.dts is not None else packet.pts
    return None if stamp is None or not packet.size else Fraction(stamp * packet.time_base)
