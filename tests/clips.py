"""Small clips with every habit that real files have: made in a moment, each picture telling its own number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

_LOSSLESS = {"libx264": {"qp": "0"}, "libx264rgb": {"qp": "0"}, "libx265": {"x265-params": "lossless=1:log-level=none"}}
_QUICK = {"libx264": "ultrafast", "libx264rgb": "ultrafast", "libx265": "ultrafast"}


def plane_view(picture: av.VideoFrame, index: int) -> np.ndarray:
    """Plane `index` of a picture as a writable view (rows, samples), uint8 or uint16; packed ones with all samples."""
    plane: Any = picture.planes[index]  # a buffer, which its type does not say
    depth = max(component.bits for component in picture.format.components)
    dtype = np.dtype(np.uint16 if depth > 8 else np.uint8)
    rows = np.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // dtype.itemsize)
    per_pixel = sum(component.plane == index for component in picture.format.components)
    return rows[:, : plane.width * per_pixel]


def numbered_picture(index: int, *, width: int, height: int, pix_fmt: str = "yuv420p") -> av.VideoFrame:
    """A picture that no turn or flip maps to itself and that differs from its neighbours: gradients and a square.

    The square, a quarter of each side, stands at the left and moves down by a row a picture.
    """
    picture = av.VideoFrame(width, height, pix_fmt)
    names = [component.plane for component in picture.format.components]
    if len(set(names)) != len(names) or picture.format.has_palette or picture.format.is_big_endian:
        rgb: Any = numbered_picture(index, width=width, height=height, pix_fmt="gbrp").to_ndarray()
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(format=pix_fmt)
    for number in range(len(picture.planes)):
        view = plane_view(picture, number)
        h, w = view.shape
        shift = max(component.bits for component in picture.format.components) - 8
        y, x = np.mgrid[0:h, 0:w]
        values = 40 + 20 * number + (x * 80) // w + (y * 60) // h + (index * 7) % 20
        top = (index + h // 8) % max(1, h - h // 4)
        values[top : top + h // 4, : w // 4] = 210 - 30 * number
        view[:] = (values << shift).astype(view.dtype)
    return picture


def _interlace(first: av.VideoFrame, second: av.VideoFrame) -> av.VideoFrame:
    for number in range(len(first.planes)):
        plane_view(first, number)[1::2] = plane_view(second, number)[1::2]
    return first


def make_clip(
    path: Path,
    *,
    width: int = 64,
    height: int = 48,
    num_frames: int = 10,
    rate: int | Fraction = 25,
    pix_fmt: str = "yuv420p",
    codec: str | None = None,
    lossless: bool = True,
    options: Mapping[str, str] | None = None,
    gop: int = 12,
    pictures: Callable[[int], av.VideoFrame] | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int = 0,
    hflip: bool = False,
    pixel_aspect: Fraction | None = None,
    tags: Mapping[str, int] | None = None,
    interlaced: bool = False,
    audio: str | None = None,
    subtitles: Sequence[tuple[float, float, str]] = (),
    cover: bool = False,
    metadata: Mapping[str, str] | None = None,
    chapters: Sequence[Mapping[str, Any]] = (),
    container_options: Mapping[str, str] | None = None,
    keep: float = 1.0,
) -> Path:
    """Write a clip and return its path; the container follows the ending (.mp4 .mkv .mov .webm .avi .ts .nut .h264).

    num_frames 0: no video packet at all · pictures: index -> picture, instead of `numbered_picture` · pts: in
    `time_base` (default 1/rate), as many as frames; mp4 keeps them exactly · codec: default x264 (x264rgb for RGB, VP9
    for webm) · lossless: decode equals what went in, where the codec can · rotation: degrees counter-clockwise that a
    player turns it · tags: colorspace, color_primaries, color_trc, color_range as numbers · interlaced: top field
    first, line pairs from two moments · audio: a codec ("aac", "mp3", "libopus", "pcm_s16le"): a tone as long as the
    video · subtitles: (start, end, text) in seconds, SubRip in mkv, mov_text in mp4 · cover: an attached
    picture · chapters: as av's `set_chapters` · keep: only this share of the file's bytes stays (a truncated copy)
    """
    path = Path(path)
    codec = codec or _default_codec(path, pix_fmt)
    time_base = time_base or 1 / Fraction(rate)
    settings = {"preset": _QUICK[codec]} if codec in _QUICK else {}
    if lossless:
        settings |= _LOSSLESS.get(codec, {})
    if interlaced and codec == "libx264":
        settings |= {"x264-params": "interlaced=1:tff=1"}
    settings |= dict(options or {})
    with av.open(path, "w", options=dict(container_options or {})) as container:
        container.metadata.update(metadata or {})
        stream: Any = container.add_stream(codec, rate=Fraction(rate), options=settings)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.gop_size = gop
        stream.thread_count = 1
        stream.time_base = stream.codec_context.time_base = time_base
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation or hflip:
            stream.set_display_rotation(rotation, hflip=hflip)
        for tag, value in (tags or {}).items():
            setattr(stream.codec_context, tag, value)
        sound = container.add_stream(audio, rate=48000, layout="mono") if audio else None
        cover_stream = _add_cover(container) if cover else None
        texts, text_stream = _add_subtitles(container, subtitles) if subtitles else ([], None)
        if chapters:
            own_form: Any = [dict(chapter) for chapter in chapters]
            container.set_chapters(own_form)
        container.start_encoding()
        if cover_stream is not None:
            small = numbered_picture(0, width=16, height=16, pix_fmt="yuvj420p")
            small.pts = 0
            container.mux(cover_stream.encode(small))
            container.mux(cover_stream.encode(None))
        for packet in texts:
            packet.stream = text_stream
            container.mux(packet)
        make = pictures or (lambda i: numbered_picture(i, width=width, height=height, pix_fmt=pix_fmt))
        for index in range(num_frames):
            picture = _interlace(make(2 * index), make(2 * index + 1)) if interlaced else make(index)
            picture.pts = pts[index] if pts is not None else index
            picture.time_base = time_base if pts is not None else 1 / Fraction(rate)
            for tag, value in (tags or {}).items():
                setattr(picture, tag, value)
            container.mux(stream.encode(picture))
        if num_frames:
            container.mux(stream.encode(None))
        if sound is not None:
            last = (max(pts) * time_base) if pts is not None and num_frames else Fraction(num_frames) / Fraction(rate)
            for packet in _tone(sound, seconds=float(last) or 1.0):
                container.mux(packet)
    if keep < 1:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
    return path


def make_sound(path: Path, *, codec: str = "aac", seconds: float = 1.0, cover: bool = False) -> Path:
    """Write a file with a tone and no video (with `cover`: and an attached picture)."""
    with av.open(path, "w") as container:
        sound = container.add_stream(codec, rate=48000, layout="mono")
        cover_stream = _add_cover(container) if cover else None
        container.start_encoding()
        if cover_stream is not None:
            container.mux(cover_stream.encode(numbered_picture(0, width=16, height=16, pix_fmt="yuvj420p")))
            container.mux(cover_stream.encode(None))
        for packet in _tone(sound, seconds=seconds):
            container.mux(packet)
    return Path(path)


def join_clips(path: Path, *parts: Path) -> Path:
    """Put the bytes of .ts or .h264 clips one after another: the way a picture size changes in mid-stream."""
    path = Path(path)
    path.write_bytes(b"".join(Path(part).read_bytes() for part in parts))
    return path


def damage_packets(path: Path, *numbers: int, target: Path, offset: int = 4) -> Path:
    """A copy of a clip in which the video packets of these numbers hold nonsense from byte `offset` on."""
    data = bytearray(Path(path).read_bytes())
    with av.open(path) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        for number in numbers:
            packet = packets[number]
            assert packet.pos is not None
            data[packet.pos + offset : packet.pos + packet.size] = b"\xa5" * (packet.size - offset)
    Path(target).write_bytes(data)
    return Path(target)


def _default_codec(path: Path, pix_fmt: str) -> str:
    if path.suffix == ".webm":
        return "libvpx-vp9"
    return "libx264rgb" if pix_fmt in ("rgb24", "bgr24", "bgr0") else "libx264"


def _add_cover(container: Any) -> Any:
    cover = container.add_stream("mjpeg", rate=1)
    cover.width = cover.height = 16
    cover.pix_fmt = "yuvj420p"
    cover.disposition = Disposition.attached_pic
    return cover


def _add_subtitles(container: Any, texts: Sequence[tuple[float, float, str]]) -> tuple[list[Any], Any]:
    """Subtitle packets and their stream: SubRip, in mp4 and mov its own text format (two bytes of length before it)."""
    timed_text = container.format.name in ("mp4", "mov")
    stream = container.add_mux_stream("mov_text" if timed_text else "subrip")
    stream.time_base = Fraction(1, 1000)
    packets = []
    for start, end, text in texts:
        data = text.encode()
        packet = av.Packet(len(data).to_bytes(2, "big") + data if timed_text else data)
        packet.time_base = Fraction(1, 1000)
        packet.pts = packet.dts = round(start * 1000)
        packet.duration = round((end - start) * 1000)
        packets.append(packet)
    return packets, stream


def _tone(stream: Any, *, seconds: float) -> list[Any]:
    samples = round(seconds * 48000)
    wave = (np.sin(np.arange(samples) * (2 * np.pi * 440 / 48000)) * 8000).astype(np.int16)
    resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=48000)
    packets = []
    for start in range(0, samples, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        for resampled in resampler.resample(frame):
            packets += stream.encode(resampled)
    return packets + stream.encode(None)
