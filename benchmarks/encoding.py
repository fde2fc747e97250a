"""What the default H.264 preset costs: bytes at equal SSIM against x264's `medium`, and CPU time a frame.

    python benchmarks/encoding.py CLIP… [--frames 150]

Each clip is scaled to 1080p and encoded at two qualities by x264 `medium` (its own key frames, at most 250 frames
apart), by the default of the video sink, and by the presets around it. A line is the mean over the clips: bytes
as a multiple of what `medium` needs for the same SSIM (on a line through its two points, decibels of SSIM against the
logarithm of the bytes), CPU milliseconds a frame of all threads together, and the SSIM at the default quality.
"""

from __future__ import annotations

import argparse
import io
import math
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType

from streamseg.sinks._codecs import encoder_for, options_for
from streamseg.sinks.video_file import KEYFRAME_PICTURES

WIDTH, HEIGHT, RATE = 1920, 1080, 30
QUALITIES = (21, 26)
EVERY = 3
"""Every third picture is compared."""

DEFAULT = options_for(encoder_for("h264", container="mp4"), quality=None, preset=None)
CONTESTANTS: Mapping[str, tuple[Mapping[str, str], int]] = {
    "medium": ({"preset": "medium"}, KEYFRAME_PICTURES),
    "the default": (DEFAULT, KEYFRAME_PICTURES),
    "the default, a key frame every second": (DEFAULT, RATE),
    "superfast": ({"preset": "superfast"}, KEYFRAME_PICTURES),
    "veryfast": ({"preset": "veryfast"}, KEYFRAME_PICTURES),
}


@dataclass(frozen=True)
class Encoded:
    """One encoding. num_bytes · decibels of SSIM · cpu_ms a frame."""

    num_bytes: int
    decibels: float
    cpu_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=150)
    arguments = parser.parse_args()
    results: dict[str, list[list[Encoded]]] = {name: [] for name in CONTESTANTS}
    for clip in arguments.clips:
        pictures = scaled(clip, arguments.frames)
        for name, (options, gop) in CONTESTANTS.items():
            encoded = [encode(pictures, {**options, "crf": str(q)}, gop=gop) for q in QUALITIES]
            results[name].append(encoded)
    print(f"{'':40}  bytes at equal SSIM   CPU ms a frame   SSIM at crf {QUALITIES[0]}")
    for name, clips in results.items():
        ratio = [bytes_ratio(e, reference) for e, reference in zip(clips, results["medium"], strict=True)]
        cpu = np.mean([e.cpu_ms for clip_results in clips for e in clip_results])
        quality = np.mean([1 - 10 ** (-e[0].decibels / 10) for e in clips])
        each = " ".join(f"{r:.2f}" for r in ratio)
        print(f"{name:40}  {np.mean(ratio):.2f} ({each})     {cpu:8.1f}         {quality:.4f}")


def scaled(clip: Path, num_frames: int) -> list[av.VideoFrame]:
    """The first pictures of a clip at 1080p, numbered."""
    pictures: list[av.VideoFrame] = []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            if len(pictures) == num_frames:
                break
            picture = frame.reformat(WIDTH, HEIGHT, "yuv420p", interpolation="BICUBIC")
            picture.pict_type = PictureType.NONE
            picture.pts, picture.time_base = len(pictures), Fraction(1, RATE)
            pictures.append(picture)
    return pictures


def encode(pictures: list[av.VideoFrame], options: Mapping[str, str], *, gop: int) -> Encoded:
    """Encode, decode and compare."""
    data = io.BytesIO()
    before = cpu_seconds()
    with av.open(data, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=RATE, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = gop
        for picture in pictures:
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    cpu_ms = (cpu_seconds() - before) / len(pictures) * 1000
    num_bytes = data.tell()
    data.seek(0)
    return Encoded(num_bytes, -10 * math.log10(1 - ssim(pictures, data)), cpu_ms)


def ssim(pictures: list[av.VideoFrame], data: io.BytesIO) -> float:
    """The mean SSIM of all planes, by FFmpeg's filter."""
    graph = av.filter.Graph()
    size = {"width": WIDTH, "height": HEIGHT, "format": pictures[0].format, "time_base": Fraction(1, RATE)}
    compare, sink = graph.add("ssim"), graph.add("buffersink")
    for pad in (0, 1):
        graph.add_buffer(**size).link_to(compare, 0, pad)  # type: ignore[arg-type]
    compare.link_to(sink)
    graph.configure()
    values = []
    with av.open(data) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % EVERY:
                continue
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            graph.vpush(frame, 0)
            graph.vpush(pictures[index], 1)
            try:
                while True:
                    values.append(float(graph.vpull().metadata["lavfi.ssim.All"]))
            except (av.error.BlockingIOError, av.error.EOFError):
                pass
    return float(np.mean(values))


def bytes_ratio(encoded: list[Encoded], reference: list[Encoded]) -> float:
    """Bytes over those that the reference would need for the same SSIM, the geometric mean of both qualities."""
    (x0, y0), (x1, y1) = ((e.decibels, math.log(e.num_bytes)) for e in reference)
    slope = (y1 - y0) / (x1 - x0)
    return math.exp(np.mean([math.log(e.num_bytes) - (y0 + (e.decibels - x0) * slope) for e in encoded]))


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
