"""Makes players show the last pictures of an mp4: FFmpeg's muxer sometimes forgets how long its track lasts.

Where it closes a fragment it takes the time of the next picture in the order of decoding for the track's end. When
that happens between the last few pictures, of which the last to be decoded is not the last to be shown, one of them
falls outside the edit list, and players leave it out (FFmpeg 8.1, `mov_write_single_packet`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

DURATION_AT = {b"mvhd": (16, 24), b"tkhd": (20, 28), b"mdhd": (16, 24)}
CLOCK_AT = {b"mvhd": (12, 20), b"mdhd": (12, 20)}
"""Where the duration and the ticks a second stand in a header with times of four bytes and of eight (ISO 14496-12)."""


def include_until(path: Path, end: Fraction) -> None:
    """Let the pictures' track of a closed mp4 or mov last until `end` seconds, if it says that it is shorter."""
    with open(path, "r+b") as file:
        whole = _Box(file, b"", 0, path.stat().st_size)
        tracks = (box for box in whole.find(b"moov").boxes() if box.kind == b"trak")
        track = next((box for box in tracks if box.find(b"mdia", b"hdlr").read(8, size=4) == b"vide"), None)
        if track is None:
            return
        movie_header, edits = whole.find(b"moov", b"mvhd"), track.find(b"edts", b"elst")
        track_header, media_header = track.find(b"tkhd"), track.find(b"mdia", b"mdhd")
        if not (movie_header and edits and track_header and media_header):
            return
        step, size = (20, 8) if edits.long else (12, 4)
        lengths = [edits.number(8 + step * i, size=size) for i in range(edits.number(4, size=4))]
        wanted = math.ceil(end * movie_header.clock)
        missing = wanted - sum(lengths)
        if missing <= 0:
            return
        edits.write(8 + step * (len(lengths) - 1), lengths[-1] + missing, size=size)
        track_header.last(track_header.duration + missing)
        media_header.last(media_header.duration + round(Fraction(missing, movie_header.clock) * media_header.clock))
        movie_header.last(max(movie_header.duration, wanted))


@dataclass(frozen=True)
class _Box:
    """One box of the file, from its content's `begin` to its `end`; places are counted from `begin`. False if empty."""

    file: BinaryIO
    kind: bytes
    begin: int
    end: int

    def __bool__(self) -> bool:
        return self.end > self.begin

    def boxes(self) -> Iterator[_Box]:
        """Those inside it."""
        place = 0
        while self.begin + place + 8 <= self.end:
            size, kind, head = self.number(place, size=4), self.read(place + 4, size=4), 8
            if size == 1:
                size, head = self.number(place + 8, size=8), 16
            size = size or self.end - self.begin - place
            if size < head:
                return
            yield _Box(self.file, kind, self.begin + place + head, self.begin + place + size)
            place += size

    def find(self, *kinds: bytes) -> _Box:
        """The first box of these kinds, one inside the other; an empty one where there is none."""
        nothing = _Box(self.file, kinds[0], self.end, self.end)
        found = next((box for box in self.boxes() if box.kind == kinds[0]), nothing)
        return found.find(*kinds[1:]) if kinds[1:] else found

    @property
    def long(self) -> bool:
        """Whether its times have eight bytes."""
        return self.number(0, size=1) == 1

    @property
    def clock(self) -> int:
        """Ticks a second of a header's duration."""
        return self.number(CLOCK_AT[self.kind][self.long], size=4)

    @property
    def duration(self) -> int:
        return self.number(DURATION_AT[self.kind][self.long], size=8 if self.long else 4)

    def last(self, ticks: int) -> None:
        """Set a header's duration."""
        self.write(DURATION_AT[self.kind][self.long], ticks, size=8 if self.long else 4)

    def read(self, place: int, *, size: int) -> bytes:
        self.file.seek(self.begin + place)
        return self.file.read(size)

    def number(self, place: int, *, size: int) -> int:
        return int.from_bytes(self.read(place, size=size), "big")

    def write(self, place: int, number: int, *, size: int) -> None:
        self.file.seek(self.begin + place)
        self.file.write(number.to_bytes(size, "big"))
