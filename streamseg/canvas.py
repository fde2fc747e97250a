"""Draw on a frame's own planes: what no stroke touches stays bit for bit what the camera sent, 10 bit stays 10 bit.

Weights are uint8, 0 (nothing) to 255 (fully), colours are RGB in [0, 255] as on a screen, places are pixels of the
picture. A *component* is one of Y, U, V or R, G, B, a 2-D array of uint8 or uint16; a subsampled one has one sample
for sub_y × sub_x pixels.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from streamseg.masks import as_bytes, paste
from streamseg.types import Instances, matrix_of

Color = tuple[int, int, int]
Region = tuple[slice, slice]

PALETTE: tuple[Color, ...] = (
    (255, 92, 87),  # coral
    (32, 190, 255),  # sky
    (255, 193, 30),  # amber
    (164, 110, 255),  # violet
    (76, 217, 123),  # green
    (255, 112, 190),  # pink
    (24, 206, 196),  # teal
    (255, 140, 50),  # orange
    (92, 130, 255),  # blue
    (196, 222, 56),  # lime
    (222, 94, 232),  # orchid
    (158, 240, 200),  # mint
)
"""Neighbours differ in hue by a third of the circle or more, and all stand out from both asphalt and sky."""

WHITE: Color = (255, 255, 255)
DARK: Color = (16, 18, 22)


def color_of(track_id: int, class_id: int) -> Color:
    """The colour of an object: its track's, the same in every frame, or its class's before it has a track."""
    return PALETTE[(track_id if track_id >= 0 else class_id - 1) % len(PALETTE)]


def ink_on(color: Color) -> Color:
    """Dark or white, whichever is easier to read on the colour."""
    red, green, blue = color
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else WHITE


@dataclass(frozen=True)
class Backdrop:
    """A picture as components of the form of a canvas."""

    form: tuple[object, ...]
    components: tuple[np.ndarray, ...]


class Canvas:
    """The planes of one picture, to draw on.

    The picture handed in is never changed: a component is copied before its first stroke, and `picture` is a new frame
    with the same size, format, pts and tags (or the very same frame, if nothing was drawn). A format that cannot be
    drawn on as it is (a palette, one bit a pixel, big endian, floats) becomes the nearest one that can.
    """

    def __init__(self, picture: av.VideoFrame) -> None:
        layout = _layout(picture.format.name)
        if layout is None:
            picture = _tagged_like(picture, picture.reformat(format=_nearest_format(picture), threads=1))
            layout = _layout(picture.format.name)
            assert layout is not None
        self.width: int = picture.width
        self.height: int = picture.height
        self._layout: _Layout = layout
        self._original = picture
        self._drawn: av.VideoFrame | None = None
        self._current: list[np.ndarray | None] = [None] * len(layout.components)

    @property
    def unit(self) -> int:
        """The shorter side of the picture, which letters, lines and blocks scale with."""
        return min(self.width, self.height)

    @property
    def form(self) -> tuple[object, ...]:
        """Size, pixel format, matrix and range: what two pictures have to share for one to lend the other samples."""
        return (self.width, self.height, self._original.format.name, *self._matrix_and_range())

    @property
    def picture(self) -> av.VideoFrame:
        """What is drawn so far. Later strokes go to the same frame."""
        if self._drawn is None:
            return self._original
        finished = set()
        for index, component in enumerate(self._layout.components):
            if component.direct and self._current[index] is not None:
                finished.add(component.plane)
        for plane in range(len(self._drawn.planes)):
            if plane not in finished:
                source, target = (_rows(p, plane, self._layout.dtype) for p in (self._original, self._drawn))
                used = min(source.shape[1], target.shape[1])
                target[:, :used] = source[:, :used]
        for index, component in enumerate(self._layout.components):
            samples = self._current[index]
            if component.direct:
                self._current[index] = self._view(self._drawn, component)
            elif samples is not None:
                self._view(self._drawn, component)[:] = samples << self._layout.shift
        return self._drawn

    # ---- strokes ----------------------------------------------------------------------------------------------------

    def drain(self, instances: Instances) -> None:
        """Take the colour out of everything that is not an object; the luma is not touched, nor the objects' colour."""
        if self._layout.kind == "gray":
            return
        if self._layout.kind == "yuv":
            self._replace_outside(instances, {i: 1 << (self._layout.depth - 1) for i in (1, 2)}, _INSIDE)
            return
        red, green, blue = (self._read(i).astype(np.float32) for i in range(3))
        luma = np.rint(0.2126 * red + 0.7152 * green + 0.0722 * blue).astype(self._layout.dtype)
        self._replace_outside(instances, dict.fromkeys(range(3), luma), _INSIDE)

    def fill_outside(self, instances: Instances, backdrop: Color | Backdrop) -> None:
        """Put a colour, or a picture that `backdrop` has made ready for this very `form`, behind the objects."""
        behind = backdrop.components if isinstance(backdrop, Backdrop) else self._values(backdrop)
        self._replace_outside(instances, dict(enumerate(behind)), _EDGE)

    def backdrop(self, picture: av.VideoFrame) -> Backdrop:
        """A picture scaled to cover this one, its middle kept, ready to be put behind the objects of many frames."""
        return Backdrop(self.form, tuple(self._converted(picture)))

    def tint(self, mask: np.ndarray, box: np.ndarray, color: Color, *, opacity: float, outline: bool = True) -> None:
        """Lay a colour over one object, with a thin clean line around it."""
        rows, columns, patch = paste(mask, box, width=self.width, height=self.height)
        if not patch.size:
            return
        reach = max(1, round(self.unit / 540)) if outline else 1
        # Room for the line outside the box, where the picture has it, and whole chroma samples.
        top, bottom = self._grown(rows, reach + 1, self.height, self._layout.sub_y)
        left, right = self._grown(columns, reach + 1, self.width, self._layout.sub_x)
        patch = cv2.copyMakeBorder(patch, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)
        _, patch = cv2.threshold(patch, 127, 255, cv2.THRESH_BINARY)
        # The blurred step rises by the same slope along the whole contour: one table makes fill, edge and line of it.
        # Beyond the border of the picture the object goes on, so no line is drawn there.
        side = 2 * reach + 1
        patch = cv2.blur(patch, (side, side), borderType=cv2.BORDER_REPLICATE)
        weight = cv2.LUT(patch, _tint_table(round(opacity * 255), outline))
        self.stamp(weight, color, x=columns.start - left, y=rows.start - top)

    def stamp(self, weight: np.ndarray, color: Color, *, x: int, y: int) -> None:
        """Lay a colour over the picture by weight (h, w) uint8, its upper left corner at (x, y); clipped."""
        rows = slice(max(0, y), min(self.height, y + weight.shape[0]))
        columns = slice(max(0, x), min(self.width, x + weight.shape[1]))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        weight = weight[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        values = self._values(color)
        small: tuple[slice, slice, np.ndarray] | None = None
        for index, component in enumerate(self._layout.components[: len(values)]):
            if component.sub_x == component.sub_y == 1:
                _lay(self._ink(index)[rows, columns], weight, values[index])
            else:
                small = small or self._shrunk(weight, rows, columns, component)
                _lay(self._ink(index)[small[0], small[1]], small[2], values[index])

    def blur(self, instances: Instances, *, radius: float, outside: bool = False) -> None:
        """Make the objects, or everything outside them, unsharp: a Gaussian of that standard deviation in pixels."""
        if outside:
            self._replace_outside(instances, self._blurred_outside(instances, radius), _INSIDE)
            return
        for mask, box in zip(instances.masks, instances.boxes, strict=True):
            self._blur_one(mask, box, radius)

    def pixelate(self, instances: Instances, *, block: int, outside: bool = False) -> None:
        """Replace the objects, or everything outside them, by squares of one colour, `block` pixels wide.

        Every square that an object touches goes as a whole, so nothing of its outline is left either. A large object
        gets larger squares: at most 12 across its longer side, or it would still be recognised.
        """
        if outside:
            mosaic = {}
            for i, c in self._painted():
                samples = self._read(i)
                side = self._block(block)
                small, large = _mosaic(samples, side // c.sub_y, side // c.sub_x)
                mosaic[i] = large[: samples.shape[0], : samples.shape[1]]
            self._replace_outside(instances, mosaic, _INSIDE)
            return
        for mask, box in zip(instances.masks, instances.boxes, strict=True):
            self._pixelate_one(mask, box, block)

    def rectangle(
        self, x: int, y: int, width: int, height: int, color: Color, *, opacity: float = 1.0, radius: int = 0
    ) -> None:
        """A filled rectangle with round corners."""
        if width > 0 and height > 0 and width * height <= 4 * self.width * self.height:
            self.stamp(_rounded(width, height, radius, round(opacity * 255)), color, x=x, y=y)

    def text(self, x: int, y: int, text: str, color: Color, *, size: int, weight: int = 500) -> None:
        """A line of text whose line box has its upper left corner at (x, y); `text_size` says how large that box is."""
        self.stamp(_lettering(text, size, weight), color, x=x, y=y)

    # ---- RGB --------------------------------------------------------------------------------------------------------

    def rgb(self) -> np.ndarray:
        """What is drawn so far as (height, width, 3) uint8 RGB. Costs a conversion of the whole picture."""
        matrix, color_range = self._matrix_and_range()
        picture = self.picture.reformat(
            format="rgb24",
            src_colorspace=matrix,
            src_color_range=color_range,
            dst_color_range=ColorRange.JPEG,
            interpolation="BICUBIC",
        )
        return picture.to_ndarray()

    def paste_rgb(self, pixels: np.ndarray, *, rows: slice | None = None, columns: slice | None = None) -> None:
        """Draw the rows and columns (default: all) of a whole picture (height, width, 3) uint8 RGB.

        They grow to whole chroma samples; what lies outside stays bit for bit. Raises ValueError for another shape.
        """
        if pixels.shape != (self.height, self.width, 3) or pixels.dtype != np.uint8:
            raise ValueError(
                f"paste_rgb: expected uint8 of shape {(self.height, self.width, 3)}, got {pixels.dtype} {pixels.shape}"
            )
        first_row, end_row, _ = (rows or slice(None)).indices(self.height)
        first_column, end_column, _ = (columns or slice(None)).indices(self.width)
        if first_row >= end_row or first_column >= end_column:
            return
        converted = self._converted(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"))
        for index, component in self._painted():
            part = (
                slice(first_row // component.sub_y, -(-end_row // component.sub_y)),
                slice(first_column // component.sub_x, -(-end_column // component.sub_x)),
            )
            self._ink(index)[part] = converted[index][part]

    # ---- below: components ------------------------------------------------------------------------------------------

    def _painted(self) -> list[tuple[int, _Component]]:
        """The components that carry the picture: all but alpha."""
        return [(i, c) for i, c in enumerate(self._layout.components) if c.name != "A"]

    def _shape(self, component: _Component) -> tuple[int, int]:
        return -(-self.height // component.sub_y), -(-self.width // component.sub_x)

    def _view(self, picture: av.VideoFrame, component: _Component) -> np.ndarray:
        """The samples of a component where they lie in the picture: (h, w), possibly every other one, unshifted."""
        height, width = self._shape(component)
        rows = _rows(picture, component.plane, self._layout.dtype)
        return rows[:height, component.offset :: component.step][:, :width]

    def _read(self, index: int) -> np.ndarray:
        """The component as it is now, to look at."""
        current = self._current[index]
        if current is not None:
            return current
        samples = self._view(self._original, self._layout.components[index])
        if self._layout.components[index].direct:
            return samples
        return np.ascontiguousarray(samples >> self._layout.shift)

    def _blank(self, index: int) -> np.ndarray:
        """The component to draw on, its content undefined."""
        current = self._current[index]
        if current is None:
            component = self._layout.components[index]
            if self._drawn is None:
                empty = av.VideoFrame(self.width, self.height, self._original.format.name)
                self._drawn = _tagged_like(self._original, empty)
            if component.direct:
                current = self._view(self._drawn, component)
            else:
                current = np.empty(self._shape(component), self._layout.dtype)
            self._current[index] = current
        return current

    def _ink(self, index: int) -> np.ndarray:
        """The component to draw on, copied from the original before its first stroke."""
        if self._current[index] is not None:
            return self._blank(index)
        before = self._read(index)
        target = self._blank(index)
        target[:] = before
        return target

    def _matrix_and_range(self) -> tuple[Colorspace, ColorRange]:
        """The matrix and range that the samples are to be read by; where the tags are silent, what players assume."""
        full = int(self._original.color_range) == ColorRange.JPEG or self._original.format.name.startswith("yuvj")
        if self._layout.kind == "rgb":
            full = True
        elif self._layout.kind == "gray":
            full = int(self._original.color_range) != ColorRange.MPEG
        return matrix_of(self._original), ColorRange.JPEG if full else ColorRange.MPEG

    def _values(self, color: Color) -> tuple[int, ...]:
        """The colour as values of the components."""
        matrix, color_range = self._matrix_and_range()
        dim = _REFERENCE_WHITE.get(int(self._original.color_trc), 1.0)
        return _values_of(color, self._layout, int(matrix), color_range == ColorRange.JPEG, dim)

    def _converted(self, picture: av.VideoFrame) -> list[np.ndarray]:
        """Another picture as components like ours: scaled to cover this one, its middle kept, our matrix and range."""
        matrix, color_range = self._matrix_and_range()
        scale = max(self.width / picture.width, self.height / picture.height)
        width, height = max(self.width, round(picture.width * scale)), max(self.height, round(picture.height * scale))
        pixels: np.ndarray = picture.reformat(width=width, height=height, format="rgb24").to_ndarray()
        left, top = (width - self.width) // 2, (height - self.height) // 2
        pixels = np.ascontiguousarray(pixels[top : top + self.height, left : left + self.width])
        converted = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format=self._original.format.name,
            dst_colorspace=matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=color_range,
            interpolation="BICUBIC",
        )
        return [self._view(converted, c) >> self._layout.shift for _, c in self._painted()]

    def _replace_outside(self, instances: Instances, behind: Mapping[int, int | np.ndarray], ramp: np.ndarray) -> None:
        """Set components to what is behind the objects: one value or an array like the component, by index."""
        weights: dict[tuple[int, int], tuple[np.ndarray, list[Region]]] = {}
        shares: dict[tuple[int, int, int], list[np.ndarray]] = {}  # of the value behind, alike for U and V
        for index, back in behind.items():
            component = self._layout.components[index]
            key = component.sub_x, component.sub_y
            if key not in weights:
                weights[key] = self._weights(instances, component, ramp)
            weight, regions = weights[key]
            before = self._read(index)
            if self._current[index] is not None:
                before = before.copy()  # boxes overlap: each is to see what was there before the first
            target = self._blank(index)
            target[:] = back
            if isinstance(back, np.ndarray):
                for region in regions:
                    _mix(before[region], back[region], weight[region], target[region])
                continue
            if (*key, back) not in shares:
                table = _share(back, target.dtype == np.uint16)[::-1].copy()
                shares[*key, back] = [cv2.LUT(weight[region], table) for region in regions]
            for region, share in zip(regions, shares[*key, back], strict=True):
                _lift(before[region], weight[region], share, target[region])

    def _weights(
        self, instances: Instances, component: _Component, table: np.ndarray
    ) -> tuple[np.ndarray, list[Region]]:
        """The weight of the objects on a component (h, w) uint8, and the regions where it is not zero."""
        height, width = self._shape(component)
        weight = np.zeros((height, width), np.uint8)
        regions = []
        scale = 1 / component.sub_x, 1 / component.sub_y
        boxes = instances.boxes.astype(np.float64) * (*scale, *scale)
        for mask, box in zip(as_bytes(instances.masks), boxes.tolist(), strict=True):
            rows, columns, patch = paste(mask, box, width=width, height=height)
            if patch.size:
                part = weight[rows, columns]
                cv2.max(part, cv2.LUT(patch, table), dst=part)
                regions.append((rows, columns))
        return weight, regions

    def _grown(self, part: slice, by: int, end: int, sub: int) -> tuple[int, int]:
        """By how much to grow a slice at both ends so that it gains `by` pixels and ends on whole chroma samples."""
        start = max(0, part.start - by) // sub * sub
        stop = min(end, -(-(part.stop + by) // sub) * sub)
        return part.start - start, stop - part.stop

    def _shrunk(
        self, weight: np.ndarray, rows: slice, columns: slice, component: _Component
    ) -> tuple[slice, slice, np.ndarray]:
        """Rows, columns and weight on a subsampled component: the mean over each sample's pixels."""
        sub_x, sub_y = component.sub_x, component.sub_y
        top, left = rows.start % sub_y, columns.start % sub_x
        bottom, right = -rows.stop % sub_y, -columns.stop % sub_x
        if top or left or bottom or right:
            # At an odd end of the picture a sample covers fewer pixels; elsewhere the rest of it is not covered.
            ends_y, ends_x = rows.stop == self.height, columns.stop == self.width
            weight = cv2.copyMakeBorder(weight, 0, bottom * ends_y, 0, right * ends_x, cv2.BORDER_REPLICATE)
            weight = cv2.copyMakeBorder(
                weight, top, bottom * (not ends_y), left, right * (not ends_x), cv2.BORDER_CONSTANT, value=0
            )
        size = (weight.shape[1] // sub_x, weight.shape[0] // sub_y)
        small = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
        first_row, first_column = rows.start // sub_y, columns.start // sub_x
        return slice(first_row, first_row + size[1]), slice(first_column, first_column + size[0]), small

    def _blurred_outside(self, instances: Instances, radius: float) -> dict[int, np.ndarray]:
        """All components blurred as if the objects were not there, so that they cast no halo of their own colour."""
        rests: dict[tuple[int, int], np.ndarray] = {}
        blurred = {}
        for index, component in self._painted():
            key = component.sub_x, component.sub_y
            if key not in rests:
                rests[key] = cv2.bitwise_not(self._weights(instances, component, _INSIDE)[0])
            blurred[index] = _blurred(
                self._read(index), radius / component.sub_x, radius / component.sub_y, weight=rests[key]
            )
        return blurred

    def _blur_one(self, mask: np.ndarray, box: np.ndarray, radius: float) -> None:
        for index, component in self._painted():
            height, width = self._shape(component)
            sub_x, sub_y = component.sub_x, component.sub_y
            scaled = np.asarray(box, np.float64) / (sub_x, sub_y, sub_x, sub_y)
            rows, columns, patch = paste(mask, scaled, width=width, height=height)
            if not patch.size:
                return
            around_x, around_y = math.ceil(2 * radius / sub_x), math.ceil(2 * radius / sub_y)
            top, left = max(0, rows.start - around_y), max(0, columns.start - around_x)
            target = self._ink(index)
            soft = _blurred(
                target[top : rows.stop + around_y, left : columns.stop + around_x], radius / sub_x, radius / sub_y
            )
            soft = soft[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            part = target[rows, columns]
            _mix(soft, part.copy(), cv2.LUT(patch, _INSIDE), part)

    def _pixelate_one(self, mask: np.ndarray, box: np.ndarray, block: int) -> None:
        rows, columns, patch = paste(mask, box, width=self.width, height=self.height)
        if not patch.size:
            return
        side = self._block(max(block, math.ceil(max(patch.shape) / 12)))
        top, left = rows.start % side, columns.start % side
        bottom, right = -rows.stop % side, -columns.stop % side
        touched = cv2.copyMakeBorder(patch, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)
        squares = touched.reshape(touched.shape[0] // side, side, touched.shape[1] // side, side)
        chosen = np.where(squares.max(axis=(1, 3)) >= 64, 255, 0).astype(np.uint8)
        for index, component in self._painted():
            high, wide = side // component.sub_y, side // component.sub_x
            first_row, first_column = (rows.start - top) // component.sub_y, (columns.start - left) // component.sub_x
            part = self._ink(index)[
                first_row : first_row + chosen.shape[0] * high, first_column : first_column + chosen.shape[1] * wide
            ]
            _, large = _mosaic(part, high, wide)
            where = np.repeat(np.repeat(chosen, high, axis=0), wide, axis=1)
            cut = np.s_[: part.shape[0], : part.shape[1]]
            np.copyto(part, large[cut], where=where[cut] > 0)

    def _block(self, side: int) -> int:
        """A block's side in pixels, in whole chroma samples."""
        whole = math.lcm(self._layout.sub_x, self._layout.sub_y)
        return max(2, -(-side // whole)) * whole if whole > 1 else max(2, side)


# ---- pixel formats ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Component:
    """Where a component lies: every `step`-th sample of the rows of a plane, from `offset` on."""

    name: str
    plane: int
    offset: int
    step: int
    sub_x: int
    sub_y: int
    direct: bool = True  # can be drawn on where it lies


@dataclass(frozen=True)
class _Layout:
    """A pixel format: kind "yuv", "rgb" or "gray" · depth in bits · shift: unused low bits below each sample."""

    kind: str
    components: tuple[_Component, ...]
    depth: int
    shift: int

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        return np.uint8 if self.depth <= 8 else np.uint16

    @property
    def sub_x(self) -> int:
        return max(c.sub_x for c in self.components)

    @property
    def sub_y(self) -> int:
        return max(c.sub_y for c in self.components)


# The order of samples in each plane of the formats that interleave them. "x": not ours.
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
_HIGH_BITS = {"p010le": 6, "p012le": 4, "p210le": 6, "p212le": 4, "p410le": 6, "p412le": 4, "y210le": 6, "y212le": 4}


@lru_cache
def _layout(name: str) -> _Layout | None:
    """How a pixel format lies in memory; None for one that is not to be drawn on."""
    pixel_format = av.VideoFormat(name, 64, 64)
    listed = pixel_format.components
    depth = listed[0].bits if listed else 0
    if not 8 <= depth <= 16 or pixel_format.is_big_endian or pixel_format.has_palette or pixel_format.is_bit_stream:
        return None
    if any(c.bits != depth for c in listed if not c.is_alpha):
        return None
    kind = "rgb" if pixel_format.is_rgb else "yuv" if len([c for c in listed if not c.is_alpha]) == 3 else "gray"
    names = {"rgb": "RGBA", "yuv": "YUVA", "gray": "YA"}[kind]
    sub_x = 64 // pixel_format.chroma_width(64) if kind == "yuv" else 1
    sub_y = 64 // pixel_format.chroma_height(64) if kind == "yuv" else 1
    shift = _HIGH_BITS.get(name, 0)

    places: dict[str, tuple[int, int, int]] = {}  # plane, offset, step
    if name in _INTERLEAVED:
        for plane, order in enumerate(_INTERLEAVED[name]):
            for letter in set(order) - {"x"}:
                places[letter] = plane, order.index(letter), len(order) // order.count(letter)
    elif pixel_format.is_planar or kind == "gray":
        for letter, component in zip(names, listed, strict=False):
            places[letter] = component.plane, 0, 1
        if len({plane for plane, _, _ in places.values()}) != len(places) or name.startswith(("xyz", "bayer")):
            return None
    else:
        return None
    components = []
    for letter in names:
        if letter in places:
            plane, offset, step = places[letter]
            chroma = letter in "UV" and kind == "yuv"
            direct = step == 1 and shift == 0
            components.append(
                _Component(letter, plane, offset, step, sub_x if chroma else 1, sub_y if chroma else 1, direct)
            )
    return _Layout(kind, tuple(components), depth, shift)


def _nearest_format(picture: av.VideoFrame) -> str:
    """A format to draw on for a picture whose own is not."""
    if picture.format.is_big_endian and _layout(picture.format.name[:-2] + "le"):
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


def _rows(picture: av.VideoFrame, plane: int, dtype: type[np.uint8] | type[np.uint16]) -> np.ndarray:
    """The rows of a plane, padding included, top row first, as they lie in memory: (rows, samples)."""
    memory = picture.planes[plane]
    stride = memory.line_size
    if stride > 0:
        samples = np.frombuffer(memoryview(memory), np.uint8)
        return samples[: memory.height * stride].reshape(memory.height, stride).view(dtype)
    # FFmpeg's vflip makes such pictures.
    # PyAV hands out a buffer that begins at the top row, the last in memory, and so reads past the end.
    return np.asarray(_Backwards(memory)).view(dtype)


class _Backwards:
    """The memory of a plane whose rows lie from the bottom up, for numpy to look at."""

    def __init__(self, plane: av.video.plane.VideoPlane) -> None:
        self.plane = plane  # keeps the memory while any array looks at it
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (plane.height, -plane.line_size),
            "strides": (plane.line_size, 1),
            "data": (plane.buffer_ptr, False),
        }


# ---- colours ------------------------------------------------------------------------------------------------------

_REFERENCE_WHITE = {16: 0.58, 18: 0.75}
"""Signal of a white page in HDR video, PQ and HLG (ITU-R BT.2408): a label as bright as the sun is not readable."""

_LUMA_SHARES = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Share of red and of blue in the luma, by matrix (ITU-T H.273, table 4)."""


@lru_cache(maxsize=512)
def _values_of(color: Color, layout: _Layout, matrix: int, full: bool, dim: float) -> tuple[int, ...]:
    red, green, blue = (value / 255 * dim for value in color)
    peak = (1 << layout.depth) - 1
    if layout.kind == "rgb":
        return tuple(round(value * peak) for value in (red, green, blue))
    share_red, share_blue = _LUMA_SHARES[matrix]
    luma = share_red * red + (1 - share_red - share_blue) * green + share_blue * blue
    scale = 1 << (layout.depth - 8)
    y = round(luma * peak) if full else round((16 + 219 * luma) * scale)
    if layout.kind == "gray":
        return (y,)
    swing = peak if full else 224 * scale
    middle = 1 << (layout.depth - 1)
    u = middle + swing * (blue - luma) / (2 - 2 * share_blue)
    v = middle + swing * (red - luma) / (2 - 2 * share_red)
    return y, min(peak, max(0, round(u))), min(peak, max(0, round(v)))


# ---- blending -----------------------------------------------------------------------------------------------------


def _ramp(low: float, high: float) -> np.ndarray:
    """A table from mask to weight: 0 up to `low`, 255 from `high` on."""
    return np.clip(np.rint((np.arange(256) - low) / (high - low) * 255), 0, 255).astype(np.uint8)


_INSIDE = _ramp(80, 128)
"""Wherever the mask is at least a half the weight is full, so an object keeps every bit; the soft edge lies outside."""

_EDGE = _ramp(88, 168)
"""A soft edge centred on the contour, for objects that are cut out: little of their old background comes along."""

_WEIGHTS16 = np.arange(256, dtype=np.uint16)
_RESTS16 = _WEIGHTS16[::-1].copy()


@lru_cache(maxsize=64)
def _tint_table(opacity: int, outline: bool) -> np.ndarray:
    """From the blurred step across a contour (0 outside, 255 inside) to the weight of the colour."""
    step = np.arange(256) / 255
    weight = np.clip(step * 2 - 0.5, 0, 1) * opacity
    if outline:
        weight = np.maximum(weight, np.clip((1 - np.abs(2 * step - 1)) * 1.5, 0, 1) * 255)
    return np.rint(weight).astype(np.uint8)


@lru_cache(maxsize=2048)
def _share(value: int, deep: bool) -> np.ndarray:
    """What a value adds at each weight, so that value over value is that value again."""
    rest = 255 - np.arange(256)
    return (value - np.rint(value * rest / 255)).astype(np.uint16 if deep else np.uint8)


def _lay(part: np.ndarray, weight: np.ndarray, value: int) -> None:
    """part := part · (1 - weight) + value · weight, in place."""
    deep = part.dtype == np.uint16
    rest = cv2.LUT(weight, _RESTS16) if deep else cv2.bitwise_not(weight)
    cv2.multiply(part, rest, dst=part, scale=1 / 255)
    cv2.add(part, cv2.LUT(weight, _share(value, deep)), dst=part)


def _lift(over: np.ndarray, weight: np.ndarray, share: np.ndarray, target: np.ndarray) -> None:
    """target := over · weight + share, the share being what the value behind adds."""
    cv2.multiply(over, cv2.LUT(weight, _WEIGHTS16) if over.dtype == np.uint16 else weight, dst=target, scale=1 / 255)
    cv2.add(target, share, dst=target)


def _mix(over: np.ndarray, under: np.ndarray, weight: np.ndarray, target: np.ndarray) -> None:
    """target := over · weight + under · (1 - weight)."""
    deep = over.dtype == np.uint16
    rest = cv2.LUT(weight, _RESTS16) if deep else cv2.bitwise_not(weight)
    below = cv2.multiply(under, rest, scale=1 / 255)
    cv2.multiply(over, cv2.LUT(weight, _WEIGHTS16) if deep else weight, dst=target, scale=1 / 255)
    cv2.add(target, below, dst=target)


def _blurred(samples: np.ndarray, radius_x: float, radius_y: float, *, weight: np.ndarray | None = None) -> np.ndarray:
    """A Gaussian by way of a smaller picture: as smooth, and as quick for a large radius as for a small one.

    weight (h, w) uint8: how much each sample counts.
    """
    height, width = samples.shape
    by_x, by_y = max(1, int(radius_x / 2)), max(1, int(radius_y / 2))
    size = (max(1, -(-width // by_x)), max(1, -(-height // by_y)))

    def softened(values: np.ndarray) -> np.ndarray:
        small = cv2.resize(np.ascontiguousarray(values), size, interpolation=cv2.INTER_AREA).astype(np.float32)
        sigma_x, sigma_y = max(0.3, radius_x / by_x), max(0.3, radius_y / by_y)
        return cv2.GaussianBlur(small, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_REPLICATE)

    if weight is None:
        small = softened(samples)
    else:
        counting = weight if samples.dtype == np.uint8 else cv2.LUT(weight, _WEIGHTS16)
        small = softened(cv2.multiply(samples, counting, scale=1 / 255)) / np.maximum(softened(weight) / 255, 1e-3)
    small = np.clip(np.rint(small), 0, np.iinfo(samples.dtype).max).astype(samples.dtype)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _mosaic(samples: np.ndarray, high: int, wide: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each block of high × wide samples, one value a block, and blown up again to whole blocks."""
    bottom, right = -samples.shape[0] % high, -samples.shape[1] % wide
    whole = cv2.copyMakeBorder(samples, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    size = (whole.shape[1] // wide, whole.shape[0] // high)
    small = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    return small, cv2.resize(small, (whole.shape[1], whole.shape[0]), interpolation=cv2.INTER_NEAREST)


# ---- shapes and letters -------------------------------------------------------------------------------------------

_pen = threading.Lock()


def text_size(text: str, *, size: int, weight: int = 500) -> tuple[int, int]:
    """Width and height in pixels of the line box of a text whose letters are `size` pixels high, tails included."""
    lettering = _lettering(text, size, weight)
    return lettering.shape[1], lettering.shape[0]


@lru_cache(maxsize=1024)
def _lettering(text: str, size: int, weight: int) -> np.ndarray:
    """A line of text as weights (h, w), the font's own ascent above and descent below the baseline."""
    with _pen:  # a FontFace is not made for two threads
        face = _face()
        _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), face, size, weight)
        ascent, descent = size, math.ceil(size * 0.25)
        bitmap = np.zeros((ascent + descent, max(1, width) + 2), np.uint8)
        cv2.putText(bitmap, text, (0, ascent), (255,), face, size, weight)
    bitmap.flags.writeable = False
    return bitmap


@lru_cache
def _face() -> cv2.FontFace:
    return cv2.FontFace("sans")  # comes with OpenCV 5, also for Chinese, Japanese and Korean


@lru_cache(maxsize=256)
def _rounded(width: int, height: int, radius: int, weight: int) -> np.ndarray:
    """A rectangle with round corners as weights (height, width), its edge smooth."""
    radius = min(radius, width // 2, height // 2)
    x = np.maximum(np.abs(np.arange(width) + 0.5 - width / 2) - (width / 2 - radius), 0)
    y = np.maximum(np.abs(np.arange(height) + 0.5 - height / 2) - (height / 2 - radius), 0)
    outside = np.hypot(x[None, :], y[:, None]) - radius
    panel = np.rint(np.clip(0.5 - outside, 0, 1) * weight if radius else np.full_like(outside, weight))
    panel = panel.astype(np.uint8)
    panel.flags.writeable = False
    return panel
