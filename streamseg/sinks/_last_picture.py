"""Makes players show the last pictures of an mp4: FFmpeg's muxer sometimes forgets how long its track lasts.

Where it closes a fragment it takes the time of the next picture in the order of decoding for the track's end. If that
is one of the last few, between which pictures of an earlier time follow, a later one falls outside the edit list, and
players leave it out (FFmpeg 8.1, `mov_write_single_packet`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

Box = tuple[bytes, int, int]
"""Kind, where its content begins, where it ends."""


def include_until(path: Path, end: Fraction) -> None:
    """Let the pictures' track of a closed mp4 or mov last until `end` seconds, if it says that it is shorter."""
    with open(path, "r+b") as file:
        movie = _find(file, (b"moov",), 0, path.stat().st_size)
        if movie is None:
            return
        header = _find(file, (b"mvhd",), *movie)
        track = next((box for kind, *box in _boxes(file, *movie) if kind == b"trak" and _has_pictures(file, box)), None)
        edits = track and _find(file, (b"edts", b"elst"), *track)
        track_header = track and _find(file, (b"tkhd",), *track)
        if header is None or track_header is None or not edits:
            return
        ticks_a_second = _number(file, header[0] + (20 if _is_long(file, header) else 12), size=4)
        wanted = math.ceil(end * ticks_a_second)
        missing = wanted - _length(file, edits)
        if missing <= 0:
            return
        long = _is_long(file, edits)
        last = edits[1] - (20 if long else 12)
        _write(file, last, _number(file, last, size=8 if long else 4) + missing, size=8 if long else 4)
        for box, offsets in ((header, (16, 24)), (track_header, (20, 28))):
            long = _is_long(file, box)
            place, size = box[0] + offsets[long], 8 if long else 4
            _write(file, place, max(wanted, _number(file, place, size=size)), size=size)


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[Box]:
    while begin + 8 <= end:
        file.seek(begin)
        size, kind = struct.unpack(">I4s", file.read(8))
        content = begin + 8
        if size == 1:
            size, content = _number(file, content, size=8), content + 8
        size = size or end - begin
        if size < 8:
            return
        yield kind, content, begin + size
        begin += size


def _find(file: BinaryIO, kinds: tuple[bytes, ...], begin: int, end: int) -> tuple[int, int] | None:
    """Where the content of the first box lies that is of these kinds, one inside the other."""
    for kind, *place in _boxes(file, begin, end):
        if kind == kinds[0]:
            return _find(file, kinds[1:], *place) if kinds[1:] else (place[0], place[1])
    return None


def _has_pictures(file: BinaryIO, track: list[int]) -> bool:
    handler = _find(file, (b"mdia", b"hdlr"), track[0], track[1])
    return handler is not None and _bytes(file, handler[0] + 8, size=4) == b"vide"


def _length(file: BinaryIO, edits: tuple[int, int]) -> int:
    """The sum of an edit list's durations."""
    long = _is_long(file, edits)
    count = _number(file, edits[0] + 4, size=4)
    return sum(
        _number(file, edits[0] + 8 + number * (20 if long else 12), size=8 if long else 4) for number in range(count)
    )


def _is_long(file: BinaryIO, box: tuple[int, int]) -> bool:
    """Whether the box holds its times in 8 bytes."""
    return _number(file, box[0], size=1) == 1


def _bytes(file: BinaryIO, place: int, *, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def _number(file: BinaryIO, place: int, *, size: int) -> int:
    return int.from_bytes(_bytes(file, place, size=size), "big")


def _write(file: BinaryIO, place: int, number: int, *, size: int) -> None:
    file.seek(place)
    file.write(number.to_bytes(size, "big"))
