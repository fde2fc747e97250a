"""Which files are pictures, in what order a person counts them, which cannot be read; and a part of a picture."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
from PIL import Image, ImageOps

from streamseg.scaling import matrix_of
from streamseg.types import UsageError

ENDINGS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".avif")
    + (".ppm", ".pgm", ".pbm", ".pnm")
)
"""In small letters: what both Pillow, which reads for a run, and OpenCV, which reads for a training, can decode.

A .gif is a video. One of the two cannot read .tga; neither can .exr and what cameras call raw.
"""


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its ending; hidden ones, which other programs leave behind, are none."""
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")


def pictures_in(folder: Path, *, names: str | None = None) -> list[Path]:
    """The pictures of a folder, img2 before img10; names: only those of a numbering such as `img%04d.png`.

    Raises OSError for a folder that cannot be read, UsageError for names without a number in them.
    """
    fits = is_picture if names is None else _numbered(names)
    return sorted((path for path in folder.iterdir() if fits(path) and path.is_file()), key=natural)


def natural(path: Path) -> tuple[Any, ...]:
    """A key to sort paths by, with every row of digits as a number."""
    parts = re.split(r"(\d+)", str(path).lower())
    return (*(int(part) if i % 2 else part for i, part in enumerate(parts)), str(path))


def split_numbering(names: str) -> tuple[str, str, str] | None:
    """`img%04d.png` as what stands before its number, its width and what stands after; None for any other name."""
    parts = re.fullmatch(r"(.*)%(\d*)d(.*)", names)
    return (parts[1], parts[2], parts[3]) if parts else None


def _numbered(names: str) -> Callable[[Path], bool]:
    """Whether a path has a name of the numbering: `%d` is any number, `%04d` one of four digits or more."""
    parts = split_numbering(names)
    if parts is None:
        raise UsageError(f"names: expected one with its number, such as img%04d.png, got {names!r}")
    before, width, after = parts
    least = int(width) if width.startswith("0") else 1
    shape = re.compile(rf"{re.escape(before)}\d{{{max(least, 1)},}}{re.escape(after)}")
    return lambda path: shape.fullmatch(path.name) is not None


def too_many_pixels() -> str:
    """What a picture has that Pillow refuses with a DecompressionBombError."""
    return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000} million pixels"


def opened(path: Path) -> av.VideoFrame:
    """The picture of a file as a gray or rgb24 frame, upright by its EXIF orientation, without transparency.

    Raises whatever Pillow's readers stumble upon.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as file:
            deep = file.mode.startswith(("I", "F"))
            upright = ImageOps.exif_transpose(file)
            grey = upright.mode in ("1", "L", "LA")
            pixels = np.asarray(upright if deep else upright.convert("L" if grey else "RGB"))
    if deep:
        pixels = _eight_bits(pixels)
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="gray" if pixels.ndim == 2 else "rgb24")


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Grey of 16 or 32 bits or floats as uint8: 16 bits lose their low byte, floats run from 0 to 1."""
    if pixels.dtype.kind == "f":
        from_floats: np.ndarray = (np.clip(np.nan_to_num(pixels), 0, 1) * 255 + 0.5).astype(np.uint8)
        return from_floats
    from_integers: np.ndarray = (np.clip(pixels, 0, 65535).astype(np.uint16) >> 8).astype(np.uint8)
    return from_integers


def why_no_stream(path: Path) -> str | None:
    """What the head of a picture says against a stream of it alone; None also where it cannot even be told."""
    try:
        with Image.open(path) as picture:
            if picture.format == "WEBP" and getattr(picture, "is_animated", False):
                return "an animated WebP, which FFmpeg here cannot read; save it as .gif or .mp4"
    except Image.DecompressionBombError:
        return f"it has {too_many_pixels()}, the most that a picture may have"
    except Exception:  # Pillow's readers raise whatever their parsing stumbles upon
        return None
    return None


def part_of(picture: av.VideoFrame, *, left: int, top: int, width: int, height: int) -> av.VideoFrame:
    """A part of the picture in its own pixel format, its colours read as those of the whole; nothing is copied.

    The part begins and ends at whole chroma samples; it may be smaller by one of them than what was asked for.
    """
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000)
    )
    crop = graph.add("crop", f"{width}:{height}:{left}:{top}")
    sink = graph.add("buffersink")
    graph.link_nodes(source, crop, sink).configure()
    graph.push(picture)
    part = graph.pull()
    assert isinstance(part, av.VideoFrame)
    part.colorspace = matrix_of(picture)  # by its own size a part would be taken for SD
    part.color_range = picture.color_range
    return part
