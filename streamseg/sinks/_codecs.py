"""Which encoder a codec's name means, with which options, and in which pixel format a picture goes into it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.codec.codec import Codec, find_best_pix_fmt_of_list

from streamseg.types import OutputError, UsageError
from streamseg.words import nearest

Quality = float | str | None

X26X_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
)  # fmt: skip
LARGE = 5_000_000
"""Pixels of a picture above which an encoder's memory matters more than its last few per cent of bytes."""
NARROW = 256
"""Pixels of width below which an encoder's tools for large pictures are not worth a risk."""
NVENC_PRESETS = ("p1", "p2", "p3", "p4", "p5", "p6", "p7", "fast", "medium", "slow")


@dataclass(frozen=True)
class Encoder:
    """How one of FFmpeg's encoders wants to be spoken to.

    name: FFmpeg's · presets: what `preset` may be · preset_option: the option that takes it · default: options when
    no preset is asked for, `large` those that
    differ above LARGE pixels · quality_option: the option that takes the quality, `qualities` its range, `quality` its
    default · lossless: options · exact_bits: the most bits a sample that those keep exactly · always: options ·
    narrow: those below NARROW pixels of width · plain: pixel formats that browsers play (empty: all that it has) ·
    minimum: the smallest side · odd: takes odd sizes with halved chroma · aspect: writes into its stream what shape a
    pixel has · formats: pixel formats to use of those it has (empty: all) · live: options by which no picture waits for
    the next, `live_default` those instead of `default`
    """

    name: str
    presets: tuple[str, ...]
    quality: float
    qualities: tuple[int, int]
    lossless: Mapping[str, str]
    preset_option: str = "preset"
    default: Mapping[str, str] = field(default_factory=dict)
    large: Mapping[str, str] = field(default_factory=dict)
    quality_option: str = "crf"
    exact_bits: int = 16
    always: Mapping[str, str] = field(default_factory=dict)
    narrow: Mapping[str, str] = field(default_factory=dict)
    plain: tuple[str, ...] = ()
    minimum: int = 1
    odd: bool = False
    aspect: bool = True
    formats: tuple[str, ...] = ()
    live: Mapping[str, str] = field(default_factory=dict)
    live_default: Mapping[str, str] = field(default_factory=dict)


_NVENC_ALWAYS = {"rc": "vbr", "forced-idr": "1"}

ENCODERS = (
    Encoder(
        name="libx264",
        presets=X26X_PRESETS,
        # Superfast with the one tool of the slower presets that pays: MB-tree over a lookahead of 20 frames. Measured
        # by benchmarks/encoding.py at 1080p: 1.23 times the bytes of `medium` at equal SSIM (superfast alone 1.76), for
        # 11 ms of CPU a frame (medium 50). Quality 21 looks like `medium` at its default, 23.
        default={"preset": "superfast", "mbtree": "1", "rc-lookahead": "20"},
        # At 4K the frames in the lookahead are half of the encoder's memory: 0.8 GB with 20 of them, 0.55 GB with 10.
        large={"rc-lookahead": "10"},
        quality=21,
        qualities=(0, 51),
        # Not crf=0, which is lossless in 8 bit only.
        lossless={"qp": "0"},
        always={"forced-idr": "1"},
        plain=("yuv420p", "yuvj420p", "nv12", "nv21"),
        live={"tune": "zerolatency"},
        live_default={"preset": "superfast"},
    ),
    Encoder(
        name="libx265",
        presets=X26X_PRESETS,
        default={"preset": "superfast"},
        quality=25,
        qualities=(0, 51),
        lossless={"x265-params": "lossless=1"},
        always={"forced-idr": "1", "x265-params": "log-level=error"},
        # x265 4 overruns a buffer of its CU-tree at widths of 33 to 48 pixels and takes the whole process down.
        narrow={"x265-params": "cutree=0"},
        plain=("yuv420p", "yuvj420p", "yuv420p10le"),
        minimum=16,
        live={"tune": "zerolatency"},
        live_default={"preset": "ultrafast"},
    ),
    Encoder(
        name="libsvtav1",
        presets=tuple(str(n) for n in range(14)),
        default={"preset": "10"},
        quality=35,
        qualities=(1, 63),
        lossless={"svtav1-params": "lossless=1"},
        # With 10 bit, pictures that are predicted from others come back changed by a few levels (SVT-AV1 4.1).
        exact_bits=8,
        # SVT-AV1 4.1 writes beyond its buffers where a side, rounded up to eighths, is below 32 pixels.
        minimum=32,
        odd=True,
        aspect=False,
    ),
    Encoder(
        name="libvpx-vp9",
        presets=tuple(str(n) for n in range(9)),
        preset_option="cpu-used",
        default={"cpu-used": "6"},
        quality=33,
        qualities=(0, 63),
        lossless={"lossless": "1"},
        always={"deadline": "realtime", "row-mt": "1"},
        odd=True,
        aspect=False,
    ),
    *(
        Encoder(
            name=name,
            presets=NVENC_PRESETS,
            default={"preset": "p4"},
            quality_option="cq",
            quality=quality,
            qualities=(0, 51),
            lossless={"tune": "lossless"},
            always=_NVENC_ALWAYS,
            plain=("yuv420p", "nv12", "p010le"),
            minimum=160,
            aspect=name != "av1_nvenc",
            formats=formats,
            live={"bf": "0", "delay": "0", "zerolatency": "1"},
            live_default={"preset": "p4"},
        )
        for name, quality, formats in (
            ("h264_nvenc", 23, ("yuv420p", "nv12", "yuv444p")),
            ("hevc_nvenc", 27, ("yuv420p", "nv12", "p010le", "yuv444p")),
            ("av1_nvenc", 33, ("yuv420p", "nv12", "p010le")),
        )
    ),
)
BY_NAME = {encoder.name: encoder for encoder in ENCODERS}
FRIENDLY = {
    "h264": "libx264",
    "h265": "libx265",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "nvenc": "h264_nvenc",
}

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""FFmpeg's name of the container that a file ending asks for."""


HELD = {
    "webm": {"vp9": "vp9", "av1": "av1"},
    "mov": {"h264": "h264", "hevc": "h265"},
    "hls": {"h264": "h264"},
    "rtsp": {"h264": "h264", "hevc": "h265"},
    "flv": {"h264": "h264"},
}
"""Container -> the codecs that it holds, by FFmpeg's names and ours; .mp4 and .mkv hold all.

HLS and RTMP (flv) could carry more, but most of those who watch them take H.264 alone.
"""

STREAMED = {"hls": "HLS", "rtsp": "RTSP", "flv": "RTMP"}
"""Those of them that are no file, in words."""


def container_of(suffix: str) -> str:
    """FFmpeg's name of the container for a file ending such as ".mp4"; UsageError for an ending of no video."""
    try:
        return CONTAINERS[suffix.lower()]
    except KeyError:
        endings = ", ".join(CONTAINERS)
        raise UsageError(f"expected a file ending in {endings}, got {suffix!r}{nearest(suffix, CONTAINERS)}") from None


def ending_of(container: str) -> str:
    """The file ending of one of these containers: ".mkv" for "matroska"."""
    return next(ending for ending, name in CONTAINERS.items() if name == container)


def encoder_for(codec: str | None, *, container: str) -> Encoder:
    """The encoder that a codec's friendly name or FFmpeg's own means; None: the container's usual one.

    UsageError when there is no such codec, the container cannot hold it, or this machine cannot run it.
    """
    if codec is None:
        codec = "vp9" if container == "webm" else "h264"
    name = FRIENDLY.get(codec.lower(), codec.lower())
    if name not in BY_NAME:
        raise UsageError(f"codec: no encoder is called {codec!r}{nearest(codec, [*FRIENDLY, *BY_NAME])}")
    encoder = BY_NAME[name]
    try:
        canonical = Codec(name, "w").canonical_name
    except av.codec.codec.UnknownCodecError as error:
        raise UsageError(f"codec {codec}: the FFmpeg of this machine has no encoder {name}") from error
    if canonical not in HELD.get(container, {canonical: ""}):
        held = " or ".join(HELD[container].values())
        if container in STREAMED:
            raise UsageError(f"codec {codec}: over {STREAMED[container]} goes {held}")
        raise UsageError(f"codec {codec}: a .{container} holds {held}; choose one of them, or write an .mkv or .mp4")
    if name.endswith("_nvenc"):
        _require_hardware(encoder, codec)
    if name == "libsvtav1":
        # SVT-AV1 takes its log level from nowhere else, and by default writes a page to stderr.
        os.environ.setdefault("SVT_LOG", "1")
    return encoder


def _require_hardware(encoder: Encoder, codec: str) -> None:
    """Raise UsageError when the encoder's hardware is not in this machine, by opening it once."""
    context = av.CodecContext.create(encoder.name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = 256, 256, "yuv420p"
    context.framerate = Fraction(25)
    try:
        context.open()
    except (av.FFmpegError, OSError) as error:
        raise UsageError(
            f"codec {codec}: {encoder.name} needs an NVIDIA GPU that can encode, with its driver, and this machine "
            "offers none; h264 encodes on the CPU"
        ) from error


def options_for(
    encoder: Encoder,
    *,
    quality: Quality,
    preset: str | int | None,
    size: tuple[int, int] = (1920, 1080),
    live: bool = False,
) -> dict[str, str]:
    """The encoder's options for a quality, a preset and the size of a picture; UsageError for one it does not have.

    live: for those who watch while it is made
    """
    width, height = size
    options = dict(encoder.always) | (dict(encoder.live) if live else {})
    if width < NARROW:
        options = merged(options, encoder.narrow)
    if preset is None and live:
        options |= encoder.live_default
    elif preset is None:
        options |= encoder.default
        if width * height > LARGE:
            options |= encoder.large
    elif str(preset) in encoder.presets:
        options[encoder.preset_option] = str(preset)
    elif encoder.presets[0].isdigit():
        raise UsageError(f"preset: expected 0 (slowest) to {encoder.presets[-1]} for {encoder.name}, got {preset!r}")
    else:
        raise UsageError(f"preset: {encoder.name} has no {preset!r}{nearest(str(preset), encoder.presets)}")
    low, high = encoder.qualities
    wanted = f"quality: expected {low} (best) to {high} or lossless for {encoder.name}, got {quality!r}"
    if quality is None:
        options[encoder.quality_option] = f"{encoder.quality:g}"
    elif quality == "lossless":
        options = merged(options, encoder.lossless)
    else:
        try:
            value = float(quality)
        except (TypeError, ValueError):
            raise UsageError(wanted + nearest(str(quality), ["lossless"]).removesuffix("; there is lossless")) from None
        if not low <= value <= high:
            raise UsageError(wanted)
        options[encoder.quality_option] = f"{value:g}"
    return options


def merged(options: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Both together; where both have a list of an encoder's own parameters, the lists are joined."""
    joined = {key: f"{options[key]}:{more[key]}" for key in options.keys() & more.keys() if key.endswith("-params")}
    return {**options, **more, **joined}


@dataclass(frozen=True)
class PixelFormat:
    """The format that pictures are encoded in. name · note: what the user should know of it, or None."""

    name: str
    note: str | None = None


def pixel_format_for(source: av.VideoFormat, encoder: Encoder, *, of: tuple[str, ...] = ()) -> PixelFormat:
    """The encoder's format nearest to a picture's: the same where it has it; RGB becomes YUV 4:4:4.

    of: the formats to choose from, where those who watch do not take all that the encoder has
    """
    offered = of or encoder.formats
    offered = offered or tuple(f.name for f in Codec(encoder.name, "w").video_formats or () if not f.is_rgb)
    name = source.name
    deep = max(component.bits for component in source.components) > 8
    if name in offered and not name.startswith("yuva"):
        wanted = [name]
    elif source.is_rgb or source.has_palette:
        wanted = ["yuv444p10le", "yuv444p"] if deep else ["yuv444p"]
    elif len(source.components) < 3:
        wanted = ["gray10le", "yuv420p10le", "p010le", "yuv420p"] if deep else ["gray", "yuv420p"]
    else:
        # The same planes under another name: full range is a tag beside the format, and alpha is one plane more.
        wanted = [name.replace("yuvj", "yuv").replace("yuva", "yuv")]
    chosen = next((f for f in wanted if f in offered), None) or _best(offered, source)
    return PixelFormat(chosen, _note(source, chosen, encoder))


def require_exact(encoder: Encoder, pixel_format: PixelFormat, *, container: str) -> None:
    """Raise OutputError when the encoder's "lossless" would change pictures of that format all the same."""
    bits = max(component.bits for component in av.VideoFormat(pixel_format.name).components)
    if bits > encoder.exact_bits:
        another = "codec h265 in an .mp4 or .mkv" if container == "webm" else "codec h265"
        raise OutputError(
            f"quality lossless: {encoder.name} is exact up to {encoder.exact_bits} bits a sample, and these pictures "
            f"have {bits} ({pixel_format.name}); {another} keeps them exactly, or choose another quality"
        )


def _best(offered: Iterable[str], source: av.VideoFormat) -> str:
    best, _ = find_best_pix_fmt_of_list([f for f in offered if not f.startswith("yuva")], source)
    return best.name if best is not None else "yuv420p"


def _note(source: av.VideoFormat, chosen: str, encoder: Encoder) -> str | None:
    parts = []
    if source.name.replace("yuvj", "yuv") != chosen.replace("yuvj", "yuv"):
        parts.append(f"{source.name} was converted to {chosen}")
    if encoder.plain and chosen not in encoder.plain:
        parts.append(f"most browsers do not play {encoder.name}'s {chosen}")
    return "; ".join(parts) or None
