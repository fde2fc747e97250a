"""What a video sink wrote, read back: pictures, times, packets and texts of a file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from streamseg.sinks.video_file import VideoFile
from streamseg.sources.video_file import VideoFile as VideoSource
from streamseg.types import Frame, Instances, Result, StreamInfo
from tests.clips import plane_view

NOTHING = Instances.empty(("background", "person"))


def write(clip: Path, output: Path, *, kept: dict[str, Any] | None = None, **options: Any) -> VideoFile:
    """The clip through the real source into the sink."""
    with VideoSource(clip, **(kept or {})) as source, VideoFile(output, **options) as sink:
        sink.start(source.info)
        for frame in source:
            sink.write(frame.picture, Result(frame, NOTHING))
    return sink


def write_pictures(
    pictures: list[av.VideoFrame], output: Path, *, pts: list[int] | None = None, **options: Any
) -> VideoFile:
    """Pictures of 25 a second, without a file behind them."""
    first = pictures[0]
    info = StreamInfo("made", first.width, first.height, Fraction(1, 25), Fraction(25))
    with VideoFile(output, **options) as sink:
        sink.start(info)
        for index, picture in enumerate(pictures):
            picture.pts, picture.time_base = pts[index] if pts else index, Fraction(1, 25)
            sink.write(picture, Result(Frame(picture, index, index / 25, 0.0, "made"), NOTHING))
    return sink


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times(path: Path) -> list[Fraction]:
    """Seconds of every picture, counted from the first."""
    stamps = [frame.pts * frame.time_base for frame in decode(path)]
    return [stamp - stamps[0] for stamp in stamps]


def packets(path: Path, kind: str, number: int = 0) -> list[tuple[Fraction, bytes]]:
    """(time in seconds, bytes) of every packet of a track."""
    with av.open(str(path)) as container:
        stream = [s for s in container.streams if s.type == kind][number]
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size and p.pts is not None]


def planes(picture: av.VideoFrame) -> list[np.ndarray]:
    return [plane_view(picture, i).copy() for i in range(len(picture.planes))]


def together(path: Path, *parts: Path, languages: list[str]) -> Path:
    """A file with the tracks of all parts."""
    with av.open(str(path), "w") as output:
        work, names = [], iter(languages)
        for part in parts:
            container = av.open(str(part))
            for stream in container.streams:
                target = output.add_stream_from_template(stream, opaque=True)
                if stream.type != "video":
                    target.metadata["language"] = next(names)
                work.append((stream, target, [p for p in container.demux(stream) if p.dts is not None]))
                container.seek(0)
        ordered = sorted(
            ((p.dts * p.time_base, i, p, target) for i, (_, target, found) in enumerate(work) for p in found),
            key=lambda entry: entry[:2],
        )
        for _, _, packet, target in ordered:
            packet.stream = target
            output.mux(packet)
    return path


def subtitles(path: Path) -> list[tuple[float, float, str]]:
    """(start, end, text) in seconds after the first picture; the silence between is nothing."""
    first = decode(path)[0]
    found = []
    with av.open(str(path)) as container:
        for packet in container.demux(subtitles=0):
            if not packet.size or packet.pts is None:
                continue
            text = "".join(subtitle.ass.decode().split(",", 8)[-1] for subtitle in packet.decode())
            start = float(packet.pts * packet.time_base - first.pts * first.time_base)
            if text:
                found.append((round(start, 2), round(start + float(packet.duration * packet.time_base), 2), text))
    return found
