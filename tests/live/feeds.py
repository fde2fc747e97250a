"""What a camera of the tests shows: a short H.264 or H.265 clip in which each picture bears its number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.video.frame import PictureType

Codec = Literal["h264", "hevc"]

ENCODERS: dict[Codec, str] = {"h264": "libx264", "hevc": "libx265"}
PAYLOAD = 1400  # bytes of a NAL unit in one packet: with all headers below the 1500 of an Ethernet frame
NUMBER_BITS = 12
PARAMETER_SETS: dict[Codec, tuple[int, ...]] = {"h264": (7, 8), "hevc": (32, 33, 34)}


@dataclass(frozen=True)
class Feed:
    """Pictures that are shown again and again; `units` are the NAL units of each, in the order of the decoder."""

    codec: Codec
    width: int
    height: int
    rate: Fraction
    units: tuple[tuple[bytes, ...], ...]

    @cached_property
    def parameter_sets(self) -> list[bytes]:
        """SPS and PPS, with H.265 the VPS before them."""
        wanted = PARAMETER_SETS[self.codec]
        return [nal for kind in wanted for nal in self.units[0] if kind_of(nal, self.codec) == kind]

    @cached_property
    def payloads(self) -> list[list[bytes]]:
        """The RTP payloads of each picture."""
        return [[part for nal in unit for part in packetised(nal, self.codec)] for unit in self.units]

    def annex_b(self, index: int) -> bytes:
        """One picture as a byte stream."""
        return b"".join(b"\0\0\0\1" + nal for nal in self.units[index])


@lru_cache(maxsize=16)
def made_feed(
    *, width: int = 160, height: int = 96, rate: int = 25, seconds: float = 2.0, codec: Codec = "h264", gop: float = 1.0
) -> Feed:
    """A square that walks to the right under the picture's number; a keyframe every `gop` seconds."""
    pictures = (numbered(index, width=width, height=height) for index in range(round(seconds * rate)))
    return _encoded(pictures, codec=codec, rate=Fraction(rate), gop=round(gop * rate))


def feed_of_file(path: Path, *, num_frames: int | None = None) -> Feed:
    """The first pictures of a video file, encoded anew, so that every second has a keyframe and no picture waits."""
    with av.open(path) as container:
        rate = container.streams.video[0].average_rate or Fraction(25)
        return _encoded(islice(container.decode(video=0), num_frames), codec="h264", rate=rate, gop=round(rate))


def _encoded(pictures: Iterator[av.VideoFrame], *, codec: Codec, rate: Fraction, gop: int) -> Feed:
    first = next(pictures)
    encoder = av.CodecContext.create(ENCODERS[codec], "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = first.width, first.height, "yuv420p"
    encoder.framerate, encoder.time_base, encoder.gop_size = rate, 1 / rate, gop
    # one slice a picture: readers take the first of several for the whole
    encoder.thread_count, encoder.max_b_frames = 1, 0
    encoder.options = {
        "h264": {"preset": "ultrafast", "x264-params": f"keyint={gop}:scenecut=0:sliced-threads=0:rc-lookahead=0"},
        "hevc": {
            "preset": "ultrafast",
            "x265-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:rc-lookahead=0:bframes=0"
            ":repeat-headers=1:pools=1:frame-threads=1:log-level=none",
        },
    }[codec]
    packets = []
    for index, picture in enumerate([first, *pictures]):
        packets += encoder.encode(_at(picture, index, rate))
    packets += encoder.encode(None)
    units = tuple(tuple(_nal_units(bytes(packet))) for packet in packets)
    return Feed(codec, first.width, first.height, rate, units)


def _at(picture: av.VideoFrame, index: int, rate: Fraction) -> av.VideoFrame:
    plain = picture.reformat(format="yuv420p")
    plain.pts, plain.time_base, plain.pict_type = index, 1 / rate, PictureType.NONE
    return plain


def _nal_units(stream: bytes) -> Iterator[bytes]:
    """The NAL units of a byte stream, without their start codes and without delimiters and remarks."""
    for part in stream.split(b"\0\0\1"):
        if nal := part.rstrip(b"\0"):
            yield nal


def kind_of(nal: bytes, codec: Codec) -> int:
    return nal[0] & 31 if codec == "h264" else nal[0] >> 1 & 63


def packetised(nal: bytes, codec: Codec) -> Iterator[bytes]:
    """A NAL unit as RTP payloads: itself if it is small, else fragments (RFC 6184, 5.8; RFC 7798, 4.4.3)."""
    if len(nal) <= PAYLOAD:
        yield nal
        return
    kind = kind_of(nal, codec)
    if codec == "h264":
        head, body = bytes([nal[0] & 0xE0 | 28]), nal[1:]
    else:
        head, body = bytes([nal[0] & 0x81 | 49 << 1, nal[1]]), nal[2:]
    for begin in range(0, len(body), PAYLOAD):
        part = body[begin : begin + PAYLOAD]
        first, last = begin == 0, begin + PAYLOAD >= len(body)
        yield head + bytes([first << 7 | last << 6 | kind]) + part


# The number of a picture stands in its top eighth, a bit a column, white for 1: it survives every encoder.


def numbered(index: int, *, width: int, height: int) -> av.VideoFrame:
    """A grey picture with its number and a light square that walks two pixels a picture."""
    luma = np.full((height, width), 90, np.uint8)
    luma += (np.arange(width) % 64 // 2).astype(np.uint8)
    side = height // 4
    left = 2 * index % (width - side)
    luma[height // 2 : height // 2 + side, left : left + side] = 200
    bits = [255 * (index >> bit & 1) for bit in range(NUMBER_BITS)]
    column = width // NUMBER_BITS
    luma[: height // 8, : column * NUMBER_BITS] = np.repeat(np.array(bits, np.uint8), column)
    chroma = np.full((height // 2, width), 128, np.uint8)
    return av.VideoFrame.from_ndarray(np.vstack([luma, chroma]), format="yuv420p")


def number_of(picture: av.VideoFrame) -> int:
    """The number that `numbered` drew."""
    plane: Any = picture.planes[0]  # a buffer, which its type does not say
    luma = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
    column = picture.width // NUMBER_BITS
    middle = luma[picture.height // 16, column // 2 : column * NUMBER_BITS : column]
    return sum(int(value > 128) << bit for bit, value in enumerate(middle))
