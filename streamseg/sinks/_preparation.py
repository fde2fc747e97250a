"""Makes of a picture what an encoder takes, in its pixel format and of even size, without touching the picture."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from streamseg.scaling import matrix_of
from streamseg.sinks._codecs import Encoder, ending_of, pixel_format_for, require_exact
from streamseg.sinks._muxer import EXACT
from streamseg.types import OutputError

BT709, UNSPECIFIED = 1, 2
LIMITED, FULL = 1, 2
SQUARE = Fraction(1, 100)
"""How far from 1 a pixel's width over its height may be without anyone seeing it."""
OBLONG = 10
"""What is wider or higher than that is no pixel but a mistake of the file's."""


class Preparation:
    """Makes of a given picture one of our own in the format and size of the encoder, without a copy where it fits.

    size: (width, height) that is encoded · pixel_aspect: width of its pixels over their height · pixel_format: FFmpeg's
    name, one of `formats` if any are given · tags: the colour tags of the output
    """

    def __init__(
        self,
        first: av.VideoFrame,
        encoder: Encoder,
        *,
        container: str,
        pixel_aspect: Fraction,
        lossless: bool,
        notes: list[str],
        formats: tuple[str, ...] = (),
    ) -> None:
        chosen = pixel_format_for(first.format, encoder, of=formats)
        if lossless:
            require_exact(encoder, chosen, container=container)
        if chosen.note:
            notes.append(chosen.note)
        self.pixel_format = chosen.name
        self._given = self._shown = (first.width, first.height)
        self.pixel_aspect = pixel_aspect
        # Neither such a stream nor its container says it: PyAV cannot tell Matroska of it.
        told = encoder.aspect or container in EXACT
        if not told and abs(pixel_aspect - 1) > SQUARE and 1 / OBLONG < pixel_aspect < OBLONG:
            where = f"{encoder.name} in {ending_of(container)}"
            why = f"{where} does not say that a pixel is {pixel_aspect} times as wide as high"
            if lossless:
                raise OutputError(f"quality lossless: {why}; an .mp4 does")
            self._shown, self.pixel_aspect = _square(*self._given, pixel_aspect), Fraction(1)
            notes.append("{}×{} became {}×{}: {}".format(*self._given, *self._shown, why))
        self._scaled = 0
        self._reformatter = VideoReformatter()  # the picture's own would serve all sinks at once, and crash
        self._graph: tuple[tuple[int, int, str], av.filter.Graph] | None = None

        target = av.VideoFormat(chosen.name)
        minimum = encoder.minimum
        columns = 2 if target.chroma_width(2) == 1 and not encoder.odd else 1
        rows = 2 if target.chroma_height(2) == 1 and not encoder.odd else 1
        width, height = self._shown
        self.size = max(width + width % columns, minimum), max(height + height % rows, minimum)
        if lossless and encoder.plain:
            notes.append(f"most browsers do not play lossless {encoder.name}")
        if self.size != self._shown:
            notes.append(_padding_note(self._shown, self.size))

        rgb = _is_rgb(first.format)
        self._matrix, self._range = (BT709, LIMITED) if rgb else (matrix_of(first), _range_of(first))
        self.tags = {
            # FFmpeg's PNG decoder gives grey the matrix of RGB, which encoders refuse.
            "colorspace": BT709 if rgb else first.colorspace or UNSPECIFIED,
            "color_range": self._range if rgb or self._range == FULL else first.color_range,
            "color_primaries": first.color_primaries,
            "color_trc": first.color_trc,
        }

    def own(self, picture: av.VideoFrame) -> av.VideoFrame:
        """A frame of our own with the picture's pixels; the picture given is never touched."""
        if (picture.width, picture.height) != self._given:
            self._scaled += 1
            return self._reformatted(picture, *self.size)
        if self._shown == self._given and self._fits(picture):
            frame = self._referenced(picture)
        else:
            frame = self._reformatted(picture, *self._shown)
        return frame if self.size == self._shown else _padded(frame, *self.size)

    def captioned(self, picture: av.VideoFrame, original: av.VideoFrame) -> av.VideoFrame:
        """A drawn picture with the closed captions of its original, which PyAV copies only together with its planes."""
        given, wanted = ((each.width, each.height, each.format.name) for each in (picture, original))
        if picture is original or given != wanted:
            return picture
        copy = self._referenced(original)
        copy.make_writable()  # now it has planes of its own
        for index in range(len(copy.planes)):
            _array(copy, index)[:] = _array(picture, index)
        return copy

    def _fits(self, picture: av.VideoFrame) -> bool:
        """Whether its samples lie as those of the output do and mean the same: a clip may change its colour tags."""
        if _planes(picture.format.name) != _planes(self.pixel_format):
            return False
        return matrix_of(picture) == self._matrix and _range_of(picture) == self._range

    def _reformatted(self, picture: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
        if _is_grey(picture.format):
            picture = _coloured(picture, width, height, self.pixel_format)
            if self._fits(picture):
                return picture
        rgb = _is_rgb(picture.format)
        own = self._reformatter.reformat(  # on several threads FFmpeg now and then leaves rows of p010 grey
            picture,
            width,
            height,
            self.pixel_format,
            src_colorspace=None if rgb else matrix_of(picture),
            dst_colorspace=self._matrix,
            src_color_range=None if rgb else _range_of(picture),
            dst_color_range=self._range,
            interpolation="BICUBIC",
            threads=1,
        )
        return own if own is not picture else self._referenced(picture)

    def _referenced(self, picture: av.VideoFrame) -> av.VideoFrame:
        """A second frame on the same planes: an empty filter graph hands them through without copying."""
        key = (picture.width, picture.height, picture.format.name)
        if self._graph is None or self._graph[0] != key:
            graph = av.filter.Graph()
            entry = graph.add_buffer(
                width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000)
            )
            entry.link_to(graph.add("buffersink"))
            graph.configure()
            self._graph = (key, graph)
        graph = self._graph[1]
        graph.vpush(picture)
        return graph.vpull()

    def counted_notes(self) -> list[str]:
        if not self._scaled:
            return []
        width, height = self._shown
        noun = "picture" if self._scaled == 1 else "pictures"
        return [f"{self._scaled} {noun} of another size scaled to {width}×{height}"]


def _square(width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """The size at which square pixels show the same, with no fewer columns and rows."""
    if pixel_aspect > 1:
        return round(width * pixel_aspect), height
    return width, round(height / pixel_aspect)


def _is_rgb(pixel_format: av.VideoFormat) -> bool:
    return pixel_format.is_rgb or pixel_format.has_palette


def _is_grey(pixel_format: av.VideoFormat) -> bool:
    return len(pixel_format.components) < 3 and not pixel_format.has_palette


def _range_of(picture: av.VideoFrame) -> int:
    """LIMITED or FULL, as the tag says, or else what players assume: grey alone is full, as in a PNG."""
    if picture.format.name.startswith("yuvj"):
        return FULL
    return picture.color_range or (FULL if _is_grey(picture.format) else LIMITED)


def _planes(name: str) -> str:
    """The name of a pixel format's layout: full range has names of its own for the same planes."""
    return name.replace("yuvj", "yuv")


def _padding_note(given: tuple[int, ...], size: tuple[int, ...]) -> str:
    added = []
    for more, noun in ((size[0] - given[0], "column"), (size[1] - given[1], "row")):
        if more:
            added.append(f"{more} repeated {noun}{'s' if more > 1 else ''}")
    return f"{given[0]}×{given[1]} got {' and '.join(added)}: the encoder takes {size[0]}×{size[1]}"


def _padded(frame: av.VideoFrame, width: int, height: int) -> av.VideoFrame:
    """The picture with its last column and row repeated up to width × height."""
    padded = av.VideoFrame(width, height, frame.format.name)
    for index in range(len(frame.planes)):
        old, new = _array(frame, index), _array(padded, index)
        rows, columns = old.shape[:2]
        new[:rows, :columns] = old
        new[:rows, columns:] = old[:, -1:]
        new[rows:] = new[rows - 1]
    padded.colorspace, padded.color_range = frame.colorspace, frame.color_range
    padded.color_primaries, padded.color_trc = frame.color_primaries, frame.color_trc
    return padded


def _coloured(grey: av.VideoFrame, width: int, height: int, pixel_format: str) -> av.VideoFrame:
    """A grey picture with chroma planes that say nothing; FFmpeg would stretch its levels besides."""
    picture = av.VideoFrame(width, height, pixel_format)
    depth = picture.format.components[0].bits
    luma = VideoReformatter().reformat(
        grey, width, height, "gray" if depth == 8 else f"gray{depth}le", interpolation="BICUBIC"
    )
    _array(picture, 0)[:] = _array(luma, 0)
    for index in range(1, len(picture.planes)):
        _array(picture, index)[:] = 1 << (depth - 1)
    picture.colorspace, picture.color_range = grey.colorspace, _range_of(grey)
    picture.color_primaries, picture.color_trc = grey.color_primaries, grey.color_trc
    return picture


def _array(frame: av.VideoFrame, index: int) -> np.ndarray:
    """A plane as (rows, columns, samples) in place; samples: 2 where U and V lie together, else 1."""
    plane, components = frame.planes[index], frame.format.components
    dtype = np.dtype(np.uint16 if max(component.bits for component in components) > 8 else np.uint8)
    samples = sum(component.plane == index for component in components)
    lines = np.frombuffer(cast(Any, plane), dtype).reshape(plane.height, plane.line_size // dtype.itemsize)
    return lines[:, : plane.width * samples].reshape(plane.height, plane.width, samples)
