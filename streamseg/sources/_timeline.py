"""Give every picture of a stream a later time than the one before, whatever its file claims."""

from __future__ import annotations

import heapq

import av

# H.264 and H.265 hold back at most 16 pictures; what has not come right by then never will.
_MOST_HELD = 16


class Timeline:
    """Repairs timestamps that do not increase, in the order of decoding; good ones pass untouched and undelayed.

    Feed it the pts of every packet before that packet is decoded, and every picture as it is decoded. `num_backward`
    counts the steps back (or on the spot) that the decoder's pictures made, `num_missing` the pictures without a pts.

    Three kinds of damage, told apart by what comes next:
    - a container that wrote the order of decoding where the order of showing belongs: its packets run forwards and
      its pictures do not. The pictures come out right, so the n-th of them gets the n-th smallest timestamp;
    - a few wrong timestamps among good ones: spread evenly between their good neighbours;
    - a jump back for good (clips joined without care): everything after it is moved to follow what was before.
    """

    def __init__(self, *, step: int) -> None:
        """`step` is the usual distance of two pictures in ticks."""
        self.num_backward = 0
        self.num_missing = 0
        self._step = max(1, step)
        self._last: int | None = None
        self._last_decoded: int | None = None
        self._last_packet: int | None = None
        self._offset = 0
        self._held: list[av.VideoFrame] = []
        self._sent: list[int] = []
        self._packets_increase = True
        self._scrambled = False
        self._suspicious = True

    def packet(self, pts: int | None) -> None:
        """Note the timestamp of a packet that is about to be decoded."""
        if pts is None or (self._last_packet is not None and pts <= self._last_packet):
            self._packets_increase = False
        self._last_packet = pts
        if pts is not None and (self._packets_increase or self._scrambled):
            heapq.heappush(self._sent, pts)

    def picture(self, picture: av.VideoFrame) -> list[av.VideoFrame]:
        """The pictures that are settled with this one, their pts repaired; often just the one given."""
        pts = picture.pts
        if pts is None:
            self.num_missing += 1
            if not self._held:
                return [self._at(picture, self._next())]
        elif self._last_decoded is not None and pts <= self._last_decoded:
            self.num_backward += 1
            self._scrambled |= self._packets_increase and self._last_packet is not None
        if pts is not None:
            self._last_decoded = pts
        self._held.append(picture)
        return self._settle()

    def flush(self) -> list[av.VideoFrame]:
        """The pictures that are still held, at the end of the stream."""
        if self._held and self._fits():
            return self._release()
        done = self._jump() if self._held else []
        rest, self._held = self._held, []
        return done + [self._at(picture, self._next()) for picture in rest]

    def _settle(self) -> list[av.VideoFrame]:
        if self._scrambled:
            held, self._held = self._held, []
            return [self._at(picture, self._next_sent()) for picture in held]
        full = len(self._held) > _MOST_HELD
        if not self._fits():
            return self._jump() if full else []
        if self._skips_a_packet() and not full:
            return []
        if full:  # what was skipped belongs to no picture: a lost packet, or one field of two
            self._suspicious = False
        return self._release()

    def _fits(self) -> bool:
        """Whether the newest picture's own time leaves a tick for each picture held before it."""
        newest = self._held[-1].pts
        return newest is not None and (self._last is None or newest + self._offset - self._last >= len(self._held))

    def _skips_a_packet(self) -> bool:
        """Whether a packet's timestamp is passed over that may still belong to a picture to come."""
        if not (self._suspicious and self._packets_increase) or self._last is None:
            return False
        while self._sent and self._sent[0] <= self._last:
            heapq.heappop(self._sent)
        newest = self._held[-1].pts
        own = {picture.pts for picture in self._held}
        return newest is not None and any(pts < newest and pts not in own for pts in self._sent)

    def _release(self) -> list[av.VideoFrame]:
        """All that is held: at its own time where that increases, else spread between its neighbours."""
        held, self._held = self._held, []
        final = (held[-1].pts or 0) + self._offset
        while self._sent and self._sent[0] <= final - self._offset:
            heapq.heappop(self._sent)
        done: list[av.VideoFrame] = []
        astray: list[av.VideoFrame] = []
        for position, picture in enumerate(held):
            to_come = len(held) - 1 - position
            own = None if picture.pts is None else picture.pts + self._offset
            reached = self._last
            if own is None or own + to_come > final or (reached is not None and own - reached <= len(astray)):
                astray.append(picture)
                continue
            for i, lost in enumerate(astray):
                base = own - self._step * (len(astray) + 1) if reached is None else reached
                done.append(self._at(lost, base + (own - base) * (i + 1) // (len(astray) + 1)))
            astray = []
            done.append(self._at(picture, own))
        return done

    def _jump(self) -> list[av.VideoFrame]:
        """Move the rest of the stream so that the oldest picture held follows the last one."""
        held, self._held = self._held, []
        first = held[0].pts
        if first is not None:
            self._offset = self._next() - first
        done = [self._at(held[0], self._next())]
        for picture in held[1:]:
            self._held.append(picture)
            done += self._settle()
        return done

    def _next(self) -> int:
        return 0 if self._last is None else self._last + self._step

    def _next_sent(self) -> int:
        while self._sent:
            pts = heapq.heappop(self._sent)
            if self._last is None or pts > self._last:
                return pts
        return self._next()

    def _at(self, picture: av.VideoFrame, pts: int) -> av.VideoFrame:
        picture.pts = self._last = pts
        return picture
