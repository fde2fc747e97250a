"""Everything that an effect can do to a picture: a handful of strokes, each on the planes themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange

from streamseg.canvas import shapes
from streamseg.canvas.blending import EDGE, INSIDE, blurred, lay, lift, mix, mosaic, share, tint_table
from streamseg.canvas.colours import Color, values_of
from streamseg.canvas.letters import lettering, panel
from streamseg.canvas.planes import Component, Planes
from streamseg.masks import as_bytes, paste
from streamseg.types import Instances

Region = tuple[slice, slice]

_LINE = 540
"""Shorter side of a picture whose outline is a pixel wide to each side of the contour: two pixels at 1080p."""

_MOST_SQUARES = 12
"""Squares across the longer side of a pixelated object."""

_TOUCHED = 64
"""What a mask, of 255, has to reach in a square for the square to go: a quarter, so that its soft edge counts too."""


@dataclass(frozen=True)
class Backdrop:
    """A picture as components (h, w) of the form of a canvas, one for each that carries the picture."""

    form: tuple[object, ...]
    components: tuple[np.ndarray, ...]


class Canvas:
    """The planes of one picture, to draw on.

    The picture handed in is never changed: a component is copied before its first stroke, and `picture` is a new frame
    with the same size, format, pts and tags (or the very same frame, if nothing was drawn). A format that cannot be
    drawn on as it is (a palette, one bit a pixel, big endian, floats) becomes the nearest one that can.
    """

    def __init__(self, picture: av.VideoFrame) -> None:
        self._planes = Planes(picture)
        self.width: int = self._planes.width
        self.height: int = self._planes.height
        self._layout = self._planes.layout

    @property
    def unit(self) -> int:
        """The shorter side of the picture, which letters, lines and blocks scale with."""
        return min(self.width, self.height)

    @property
    def form(self) -> tuple[object, ...]:
        """Size, pixel format, matrix and range: what two pictures have to share for one to lend the other samples."""
        return (self.width, self.height, self._planes.original.format.name, *self._planes.matrix_and_range)

    @property
    def picture(self) -> av.VideoFrame:
        """What is drawn so far. Later strokes go to the same frame."""
        return self._planes.picture

    # ---- strokes ----------------------------------------------------------------------------------------------------

    def drain(self, instances: Instances) -> None:
        """Take the colour out of everything that is not an object; the luma is not touched, nor the objects' colour."""
        if self._layout.kind == "gray":
            return
        if self._layout.kind == "yuv":
            self._replace_outside(instances, {i: 1 << (self._layout.depth - 1) for i in (1, 2)}, INSIDE)
            return
        red, green, blue = (self._planes.read(i).astype(np.float32) for i in range(3))
        luma = np.rint(0.2126 * red + 0.7152 * green + 0.0722 * blue).astype(self._layout.dtype)  # as BT.709, like sRGB
        self._replace_outside(instances, dict.fromkeys(range(3), luma), INSIDE)

    def fill_outside(self, instances: Instances, backdrop: Color | Backdrop) -> None:
        """Put a colour, or a picture that `backdrop` has made ready for this very `form`, behind the objects."""
        behind = backdrop.components if isinstance(backdrop, Backdrop) else self._values(backdrop)
        self._replace_outside(instances, dict(enumerate(behind)), EDGE)

    def backdrop(self, picture: av.VideoFrame) -> Backdrop:
        """A picture scaled to cover this one, its middle kept, ready to be put behind the objects of many frames."""
        return Backdrop(self.form, tuple(self._planes.converted(picture)))

    def tint(self, mask: np.ndarray, box: np.ndarray, color: Color, *, opacity: float, outline: bool = True) -> None:
        """Lay a colour over one object, with a thin clean line around it."""
        rows, columns, patch = paste(mask, box, width=self.width, height=self.height)
        if not patch.size:
            return
        reach = max(1, round(self.unit / _LINE)) if outline else 1
        # Room for the line outside the box, where the picture has it, and whole chroma samples.
        top, bottom = _grown(rows, reach + 1, end=self.height, sub=self._layout.sub_y)
        left, right = _grown(columns, reach + 1, end=self.width, sub=self._layout.sub_x)
        patch = cv2.copyMakeBorder(patch, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)
        _, patch = cv2.threshold(patch, 127, 255, cv2.THRESH_BINARY)  # the contour is where the mask is a half
        # The blurred step rises by the same slope along the whole contour: one table makes fill, edge and line of it.
        # Beyond the border of the picture the object goes on, so no line is drawn there.
        side = 2 * reach + 1
        patch = cv2.blur(patch, (side, side), borderType=cv2.BORDER_REPLICATE)
        weight = cv2.LUT(patch, tint_table(round(opacity * 255), outline))
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
                lay(self._planes.ink(index)[rows, columns], weight, values[index])
            else:
                small = small or self._shrunk(weight, rows, columns, component)
                lay(self._planes.ink(index)[small[0], small[1]], small[2], values[index])

    def blur(self, instances: Instances, *, radius: float, outside: bool = False) -> None:
        """Make the objects, or everything outside them, unsharp: a Gaussian of that standard deviation in pixels."""
        if outside:
            self._replace_outside(instances, self._blurred_outside(instances, radius), INSIDE)
            return
        for mask, box in zip(instances.masks, instances.boxes, strict=True):
            self._blur_one(mask, box, radius)

    def pixelate(self, instances: Instances, *, block: int, outside: bool = False) -> None:
        """Replace the objects, or everything outside them, by squares of one colour, `block` pixels wide.

        Every square that an object touches goes as a whole, so nothing of its outline is left either. A large object
        gets larger squares: at most 12 across its longer side, or it would still be recognised.
        """
        if outside:
            side = self._block(block)
            squares = {
                index: mosaic(self._planes.read(index), high=side // component.sub_y, wide=side // component.sub_x)
                for index, component in self._layout.painted
            }
            self._replace_outside(instances, squares, INSIDE)
            return
        for mask, box in zip(instances.masks, instances.boxes, strict=True):
            self._pixelate_one(mask, box, block)

    def rectangle(
        self, x: int, y: int, width: int, height: int, color: Color, *, opacity: float = 1.0, radius: int = 0
    ) -> None:
        """A filled rectangle with round corners; nothing for one of more than four times the picture's area."""
        if width > 0 and height > 0 and width * height <= 4 * self.width * self.height:
            self.stamp(panel(width, height, radius=radius, weight=round(opacity * 255)), color, x=x, y=y)

    def text(self, x: int, y: int, text: str, color: Color, *, size: int, weight: int = 500) -> None:
        """A line of text whose line box has its upper left corner at (x, y); `text_size` says how large that box is."""
        self.stamp(lettering(text, size=size, weight=weight), color, x=x, y=y)

    def line(self, points: np.ndarray, color: Color, *, thickness: float, opacity: float = 1.0) -> None:
        """A line through points (K, 2) in pixels; its weights are kept for the next frame, where it lies again."""
        given = tuple((float(x), float(y)) for x, y in points)
        weight = round(opacity * 255)
        for x, y, weights in shapes.line(
            given, thickness=thickness, width=self.width, height=self.height, weight=weight
        ):
            self.stamp(weights, color, x=x, y=y)

    def trail(self, points: np.ndarray, color: Color, *, thickness: float, opacity: float = 1.0) -> None:
        """A line through points (K, 2) in pixels that fades in from the first to the last; one point is a dot."""
        weight = round(opacity * 255)
        for x, y, weights in shapes.path(
            points, thickness=thickness, width=self.width, height=self.height, weight=weight, fading=True
        ):
            self.stamp(weights, color, x=x, y=y)

    def polygon(self, corners: np.ndarray, color: Color, *, opacity: float) -> None:
        """Lay a colour over the inside of an outline with corners (K, 2) in pixels."""
        patch = shapes.polygon(corners, width=self.width, height=self.height, weight=round(opacity * 255))
        if patch:
            self.stamp(patch[2], color, x=patch[0], y=patch[1])

    # ---- RGB --------------------------------------------------------------------------------------------------------

    def rgb(self) -> np.ndarray:
        """What is drawn so far as (height, width, 3) uint8 RGB. Costs a conversion of the whole picture."""
        matrix, color_range = self._planes.matrix_and_range
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
        converted = self._planes.converted(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"))
        for index, component in self._layout.painted:
            part = (
                slice(first_row // component.sub_y, -(-end_row // component.sub_y)),
                slice(first_column // component.sub_x, -(-end_column // component.sub_x)),
            )
            self._planes.ink(index)[part] = converted[index][part]

    # ---- below: one object, one component at a time ------------------------------------------------------------------

    def _values(self, color: Color) -> tuple[int, ...]:
        """The colour as values of the components."""
        matrix, color_range = self._planes.matrix_and_range
        return values_of(
            color,
            kind=self._layout.kind,
            depth=self._layout.depth,
            matrix=int(matrix),
            full=color_range == ColorRange.JPEG,
            transfer=int(self._planes.original.color_trc),
        )

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
            before = self._planes.kept(index)  # boxes overlap: each is to see what was there before the first
            target = self._planes.blank(index)
            target[:] = back
            if isinstance(back, np.ndarray):
                for region in regions:
                    mix(before[region], back[region], weight[region], target[region])
                continue
            if (*key, back) not in shares:
                table = share(back, target.dtype == np.uint16)[::-1].copy()
                shares[*key, back] = [cv2.LUT(weight[region], table) for region in regions]
            for region, added in zip(regions, shares[*key, back], strict=True):
                lift(before[region], weight[region], added, target[region])

    def _weights(
        self, instances: Instances, component: Component, table: np.ndarray
    ) -> tuple[np.ndarray, list[Region]]:
        """The weight of the objects on a component (h, w) uint8, and the regions where it is not zero."""
        height, width = self._planes.shape(component)
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

    def _shrunk(
        self, weight: np.ndarray, rows: slice, columns: slice, component: Component
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
        soft = {}
        for index, component in self._layout.painted:
            key = component.sub_x, component.sub_y
            if key not in rests:
                rests[key] = cv2.bitwise_not(self._weights(instances, component, INSIDE)[0])
            radius_x, radius_y = radius / component.sub_x, radius / component.sub_y
            soft[index] = blurred(self._planes.read(index), radius_x=radius_x, radius_y=radius_y, weight=rests[key])
        return soft

    def _blur_one(self, mask: np.ndarray, box: np.ndarray, radius: float) -> None:
        """One object unsharp, its surroundings running into it as through a lens; the rest is not looked at."""
        for index, component in self._layout.painted:
            height, width = self._planes.shape(component)
            sub_x, sub_y = component.sub_x, component.sub_y
            scaled = np.asarray(box, np.float64) / (sub_x, sub_y, sub_x, sub_y)
            rows, columns, patch = paste(mask, scaled, width=width, height=height)
            if not patch.size:
                return
            radius_x, radius_y = radius / sub_x, radius / sub_y
            # Two standard deviations to each side hold 95 % of a Gaussian.
            around_x, around_y = math.ceil(2 * radius_x), math.ceil(2 * radius_y)
            top, left = max(0, rows.start - around_y), max(0, columns.start - around_x)
            target = self._planes.ink(index)
            around = target[top : rows.stop + around_y, left : columns.stop + around_x]
            soft = blurred(around, radius_x=radius_x, radius_y=radius_y)
            soft = soft[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            part = target[rows, columns]
            mix(soft, part.copy(), cv2.LUT(patch, INSIDE), part)

    def _pixelate_one(self, mask: np.ndarray, box: np.ndarray, block: int) -> None:
        """One object in squares, which lie on a grid of the whole picture so that they do not crawl as it moves."""
        rows, columns, patch = paste(mask, box, width=self.width, height=self.height)
        if not patch.size:
            return
        side = self._block(max(block, math.ceil(max(patch.shape) / _MOST_SQUARES)))
        top, left = rows.start % side, columns.start % side
        bottom, right = -rows.stop % side, -columns.stop % side
        touched = cv2.copyMakeBorder(patch, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)
        squares = touched.reshape(touched.shape[0] // side, side, touched.shape[1] // side, side)
        chosen = squares.max(axis=(1, 3)) >= _TOUCHED  # (rows, columns) of squares
        for index, component in self._layout.painted:
            high, wide = side // component.sub_y, side // component.sub_x
            first_row, first_column = (rows.start - top) // component.sub_y, (columns.start - left) // component.sub_x
            end_row, end_column = first_row + chosen.shape[0] * high, first_column + chosen.shape[1] * wide
            part = self._planes.ink(index)[first_row:end_row, first_column:end_column]
            where = np.repeat(np.repeat(chosen, high, axis=0), wide, axis=1)[: part.shape[0], : part.shape[1]]
            np.copyto(part, mosaic(part, high=high, wide=wide), where=where)

    def _block(self, side: int) -> int:
        """A block's side in pixels, in whole chroma samples."""
        whole = math.lcm(self._layout.sub_x, self._layout.sub_y)
        return max(2, -(-side // whole)) * whole if whole > 1 else max(2, side)


def _grown(part: slice, by: int, *, end: int, sub: int) -> tuple[int, int]:
    """By how much to grow a slice at both ends so that it gains `by` pixels and ends on whole chroma samples."""
    start = max(0, part.start - by) // sub * sub
    stop = min(end, -(-(part.stop + by) // sub) * sub)
    return part.start - start, stop - part.stop
