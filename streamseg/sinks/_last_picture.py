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
        track = movie and next(
            (box for kind, *box in _boxes(file, *movie) if kind == b"trak" and _has_pictures(file, box)), None
        )
        if not movie or not track:
            return
        header = _find(file, (b"mvhd",), *movie)
        track_header = _find(file, (b"tkhd",), *track)
        edits = _find(file, (b"edts", b"elst"), *track)
        media_header = _find(file, (b"mdia", b"mdhd"), *track)
        if not (header and track_header and edits and media_header):
            return
        clock, media_clock = _clock(file, header), _clock(file, media_header)
        missing = math.ceil(end * clock) - _length(file, edits)
        if missing > 0:
            _lengthen(file, edits[1] - (20 if _is_long(file, edits) else 12), missing, like=edits)
            _lengthen(file, track_header[0] + (28 if _is_long(file, track_header) else 20), missing, like=track_header)
            _lengthen(
                file,
                media_header[0] + (24 if _is_long(file, media_header) else 16),
                round(Fraction(missing, clock) * media_clock),
                like=media_header,
            )
            place, size = header[0] + (24 if _is_long(file, header) else 16), 8 if _is_long(file, header) else 4
            _write(file, place, max(_number(file, place, size=size), math.ceil(end * clock)), size=size)


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


def _clock(file: BinaryIO, header: tuple[int, int]) -> int:
    """Ticks a second of a movie or media header."""
    return _number(file, header[0] + (20 if _is_long(file, header) else 12), size=4)


def _lengthen(file: BinaryIO, place: int, ticks: int, *, like: tuple[int, int]) -> None:
    """Add to the duration at `place` in the box `like`."""
    size = 8 if _is_long(file, like) else 4
    _write(file, place, _number(file, place, size=size) + ticks, size=size)


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
