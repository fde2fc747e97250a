"""The samples of one picture, whatever its pixel format: read where they lie, written on a copy.

A *component* is one of Y, U, V or R, G, B (and A, alpha): a 2-D array of uint8 or uint16, though in memory it may
share its plane with others, every second or fourth sample, or lie in the high bits of its words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from streamseg.scaling import matrix_of, rows_of


class Planes:
    """The components of one picture, each copied before it is first written.

    `original` is never changed, and `picture` is a new frame with the same size, format, pts and tags (or the very
    same frame, if nothing was written). A format that cannot be written as it is (a palette, one bit a pixel, big
    endian, floats) becomes the nearest one that can. Components are asked for by their index in `layout`.
    """

    def __init__(self, picture: av.VideoFrame) -> None:
        layout = layout_of(picture.format.name)
        if layout is None:
            picture = _tagged_like(picture, picture.reformat(format=_nearest_format(picture), threads=1))
            layout = layout_of(picture.format.name)
            assert layout is not None
        self.width: int = picture.width
        self.height: int = picture.height
        self.layout: Layout = layout
        self.original = picture
        self._drawn: av.VideoFrame | None = None
        # Of a direct component the view of its samples in `_drawn`, of another an array of its own; None: untouched.
        self._current: list[np.ndarray | None] = [None] * len(layout.components)

    @property
    def picture(self) -> av.VideoFrame:
        """What was written so far. What is written later goes to the same frame."""
        if self._drawn is None:
            return self.original
        # What was not written is copied only now, whole planes at a time.
        finished = set()
        for index, component in enumerate(self.layout.components):
            if component.direct and self._current[index] is not None:
                finished.add(component.plane)
        for plane in range(len(self._drawn.planes)):
            if plane not in finished:
                source, target = (rows_of(p, plane, self.layout.dtype) for p in (self.original, self._drawn))
                used = min(source.shape[1], target.shape[1])  # the two may be padded differently
                target[:, :used] = source[:, :used]
        for index, component in enumerate(self.layout.components):
            samples = self._current[index]
            if component.direct:
                self._current[index] = self._view(self._drawn, component)
            elif samples is not None:
                self._view(self._drawn, component)[:] = samples << self.layout.shift
        return self._drawn

    @cached_property
    def matrix_and_range(self) -> tuple[Colorspace, ColorRange]:
        """The matrix and range that the samples are to be read by; where the tags are silent, what players assume."""
        # "yuvj420p" and its like mean full range by their name alone.
        full = int(self.original.color_range) == ColorRange.JPEG or self.original.format.name.startswith("yuvj")
        if self.layout.kind == "rgb":
            full = True
        elif self.layout.kind == "gray":
            full = int(self.original.color_range) != ColorRange.MPEG
        return matrix_of(self.original), ColorRange.JPEG if full else ColorRange.MPEG

    def shape(self, component: Component) -> tuple[int, int]:
        """Rows and columns of a component; at the odd end of a picture a sample stands for fewer pixels."""
        return -(-self.height // component.sub_y), -(-self.width // component.sub_x)

    def read(self, index: int) -> np.ndarray:
        """The component as it is now, to look at."""
        current = self._current[index]
        if current is not None:
            return current
        samples = self._view(self.original, self.layout.components[index])
        if self.layout.components[index].direct:
            return samples
        return np.ascontiguousarray(samples >> self.layout.shift)

    def kept(self, index: int) -> np.ndarray:
        """The component as it is now and stays, whatever is written later."""
        current = self._current[index]
        return self.read(index) if current is None else current.copy()

    def blank(self, index: int) -> np.ndarray:
        """The component to write all of, its content undefined where nothing was written yet."""
        current = self._current[index]
        if current is None:
            component = self.layout.components[index]
            if self._drawn is None:
                empty = av.VideoFrame(self.width, self.height, self.original.format.name)
                self._drawn = _tagged_like(self.original, empty)
            if component.direct:
                current = self._view(self._drawn, component)
            else:
                current = np.empty(self.shape(component), self.layout.dtype)
            self._current[index] = current
        return current

    def ink(self, index: int) -> np.ndarray:
        """The component to write on, copied from the original before it is first written."""
        if self._current[index] is not None:
            return self.blank(index)
        before = self.read(index)
        target = self.blank(index)
        target[:] = before
        return target

    def converted(self, picture: av.VideoFrame) -> list[np.ndarray]:
        """Another picture as components like ours: scaled to cover this one, its middle kept, our matrix and range."""
        matrix, color_range = self.matrix_and_range
        # cut first: of a very long picture what lies beyond this one could be larger than any memory
        scale = max(self.width / picture.width, self.height / picture.height)
        width, height = max(1, round(self.width / scale)), max(1, round(self.height / scale))
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        pixels = picture.to_ndarray(format="rgb24")[top : top + height, left : left + width]
        part = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels, np.uint8), format="rgb24")
        pixels = part.reformat(width=self.width, height=self.height).to_ndarray()
        converted = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format=self.original.format.name,
            dst_colorspace=matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=color_range,
            interpolation="BICUBIC",
            # On several threads FFmpeg now and then spoils the first samples of a row where the part of one ends and
            # that of the next begins; seen at odd widths, in more than 8 bits.
            threads=1,
        )
        return [self._view(converted, c) >> self.layout.shift for _, c in self.layout.painted]

    def _view(self, picture: av.VideoFrame, component: Component) -> np.ndarray:
        """The samples of a component where they lie in the picture: (h, w), possibly every other one, unshifted."""
        height, width = self.shape(component)
        rows = rows_of(picture, component.plane, self.layout.dtype)
        return rows[:height, component.offset :: component.step][:, :width]


# ---- pixel formats --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Component:
    """Where a component lies: every `step`-th sample of the rows of a plane, from `offset` on."""

    name: str
    plane: int
    offset: int
    step: int
    sub_x: int
    sub_y: int
    direct: bool  # can be written where it lies: no gaps between samples, which OpenCV does not take, and no shift


@dataclass(frozen=True)
class Layout:
    """A pixel format: kind "yuv", "rgb" or "gray" · depth in bits · shift: unused low bits below each sample."""

    kind: str
    components: tuple[Component, ...]
    depth: int
    shift: int

    @cached_property
    def painted(self) -> tuple[tuple[int, Component], ...]:
        """The components that carry the picture, each with its index: all but alpha."""
        return tuple((i, c) for i, c in enumerate(self.components) if c.name != "A")

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        return np.uint8 if self.depth <= 8 else np.uint16

    @property
    def sub_x(self) -> int:
        return max(c.sub_x for c in self.components)

    @property
    def sub_y(self) -> int:
        return max(c.sub_y for c in self.components)


# The order of samples in each plane of the formats that interleave them. "x": not ours. PyAV tells a component's plane
# but neither its offset nor its step, so they are written down here, as FFmpeg's pixdesc.c has them.
_INTERLEAVED = {
    "nv12": ("Y", "UV"), "nv21": ("Y", "VU"), "nv16": ("Y", "UV"), "nv24": ("Y", "UV"), "nv42": ("Y", "VU"),
    "nv20le": ("Y", "UV"), "p010le": ("Y", "UV"), "p012le": ("Y", "UV"), "p016le": ("Y", "UV"), "p210le": ("Y", "UV"),
    "p212le": ("Y", "UV"), "p216le": ("Y", "UV"), "p410le": ("Y", "UV"), "p412le": ("Y", "UV"), "p416le": ("Y", "UV"),
    "yuyv422": ("YUYV",), "uyvy422": ("UYVY",), "yvyu422": ("YVYU",), "y210le": ("YUYV",), "y212le": ("YUYV",),
    "vuya": ("VUYA",), "vuyx": ("VUYx",), "ya8": ("YA",), "ya16le": ("YA",),
    "rgb24": ("RGB",), "bgr24": ("BGR",), "rgba": ("RGBA",), "bgra": ("BGRA",), "argb": ("ARGB",), "abgr": ("ABGR",),
    "rgb0": ("RGBx",), "bgr0": ("BGRx",), "0rgb": ("xRGB",), "0bgr": ("xBGR",),
    "rgb48le": ("RGB",), "bgr48le": ("BGR",), "rgba64le": ("RGBA",), "bgra64le": ("BGRA",),
}  # fmt: skip

# Bits that stay empty below each sample of the formats that keep theirs at the upper end of a word.
_EMPTY_BITS = {"p010le": 6, "p012le": 4, "p210le": 6, "p212le": 4, "p410le": 6, "p412le": 4, "y210le": 6, "y212le": 4}


@lru_cache
def layout_of(name: str) -> Layout | None:
    """How a pixel format lies in memory; None for one that is not to be drawn on."""
    pixel_format = av.VideoFormat(name, 64, 64)  # of a size that every subsampling divides
    listed = [component for component in pixel_format.components if not component.is_alpha]
    depths = {component.bits for component in listed}
    if pixel_format.is_big_endian or pixel_format.has_palette or pixel_format.is_bit_stream:
        return None
    if len(depths) != 1 or not 8 <= min(depths) <= 16:
        return None
    kind = "rgb" if pixel_format.is_rgb else "yuv" if len(listed) == 3 else "gray"
    places = _places(pixel_format, kind)
    if places is None:
        return None
    sub_x = 64 // pixel_format.chroma_width(64) if kind == "yuv" else 1
    sub_y = 64 // pixel_format.chroma_height(64) if kind == "yuv" else 1
    shift = _EMPTY_BITS.get(name, 0)
    components = []
    for letter, (plane, offset, step) in places.items():
        across, down = (sub_x, sub_y) if letter in "UV" else (1, 1)
        direct = step == 1 and shift == 0
        components.append(Component(letter, plane, offset, step, across, down, direct))
    return Layout(kind, tuple(components), min(depths), shift)


def _places(pixel_format: av.VideoFormat, kind: str) -> dict[str, tuple[int, int, int]] | None:
    """Plane, offset and step of each component, in the order of Layout's; None for a format of another making."""
    letters = {"rgb": "RGBA", "yuv": "YUVA", "gray": "YA"}[kind]
    name = pixel_format.name
    if name in _INTERLEAVED:
        found = {}
        for plane, order in enumerate(_INTERLEAVED[name]):
            for letter in set(order) - {"x"}:
                found[letter] = plane, order.index(letter), len(order) // order.count(letter)
        return {letter: found[letter] for letter in letters if letter in found}
    if not (pixel_format.is_planar or kind == "gray") or name.startswith(("xyz", "bayer")):
        return None
    planar = {
        letter: (component.plane, 0, 1) for letter, component in zip(letters, pixel_format.components, strict=False)
    }
    alone = len({plane for plane, _, _ in planar.values()}) == len(planar)
    return planar if alone else None


def _nearest_format(picture: av.VideoFrame) -> str:
    """A format to draw on for a picture whose own is not."""
    if picture.format.is_big_endian and layout_of(picture.format.name[:-2] + "le"):
        return picture.format.name[:-2] + "le"
    listed = picture.format.components
    deep = max((c.bits for c in listed), default=8) > 8 and not picture.format.has_palette
    if picture.format.is_rgb or picture.format.has_palette or picture.format.name.startswith(("xyz", "bayer")):
        return "gbrp16le" if deep else "rgb24"
    if len([c for c in listed if not c.is_alpha]) < 3:
        return "gray16le" if deep else "gray"
    return "yuv444p16le" if deep else "yuv444p"


def _tagged_like(model: av.VideoFrame, picture: av.VideoFrame) -> av.VideoFrame:
    """The picture with the time and the colour tags of the model."""
    if picture is not model:
        picture.pts = model.pts
        if model.time_base is not None:
            picture.time_base = model.time_base
        picture.duration = model.duration
        picture.colorspace = model.colorspace
        picture.color_range = model.color_range
        picture.color_primaries = model.color_primaries
        picture.color_trc = model.color_trc
    return picture
