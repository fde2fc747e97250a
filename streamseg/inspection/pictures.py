"""The pictures of an inspection: boxes, masks, score maps and activations, drawn on RGB arrays large enough to see.

N boxes, M cells along a side of a mask. Pictures are (H, W, 3) uint8 RGB; boxes are xyxy in pixels of the picture
that they are drawn on, before it is enlarged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from streamseg import masks as box_masks
from streamseg.types import UsageError

Colour = tuple[int, int, int]

POSITIVE, NEGATIVE, NEUTRAL = (46, 194, 84), (240, 72, 72), (168, 168, 168)
BEFORE, AFTER, TRUE = (255, 255, 255), (255, 176, 32), (64, 200, 255)

PALETTE: tuple[Colour, ...] = (
    (255, 176, 32),
    (64, 200, 255),
    (186, 120, 255),
    (255, 110, 180),
    (110, 220, 140),
    (255, 214, 74),
    (120, 150, 255),
    (255, 130, 90),
)

WIDE = 1100
"""About so many pixels has the longer side of a picture, enlarged by whole steps, to be seen well."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def class_colour(class_id: int) -> Colour:
    """The colour of a class, the same in every picture; the background is grey."""
    return PALETTE[(class_id - 1) % len(PALETTE)] if class_id > 0 else NEUTRAL


@dataclass
class Drawing:
    """A picture to draw on, enlarged so that small inputs can be seen, and dimmed so that lines stand out.

    `canvas` (H · zoom, W · zoom, 3) uint8 is what was drawn so far.
    """

    canvas: np.ndarray
    zoom: float

    @classmethod
    def on(cls, picture: np.ndarray, *, light: float = 0.6) -> Drawing:
        """light: how much of the picture's brightness stays, 0 to 1."""
        zoom = float(max(1, round(WIDE / max(picture.shape[:2]))))
        flags = cv2.INTER_NEAREST if zoom >= 4 else cv2.INTER_CUBIC
        large = picture if zoom == 1 else cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=flags)
        return cls(np.rint(large * light).astype(np.uint8), zoom)

    @property
    def line(self) -> int:
        """Width of a thin line, in pixels of the canvas."""
        width: int = max(1, round(max(self.canvas.shape[:2]) / 700))
        return width

    def boxes(self, boxes: np.ndarray, colour: Colour, *, thick: bool = False, dashed: bool = False) -> Drawing:
        """Outlines of boxes (N, 4)."""
        width = self.line * 2 if thick else self.line
        for box in boxes:
            corners = self._corners(box)
            if dashed:
                self._dashes(corners, colour, width)
            else:
                cv2.rectangle(self.canvas, corners[:2], corners[2:], colour, width, cv2.LINE_AA)
        return self

    def labels(self, boxes: np.ndarray, texts: Sequence[str], colours: Sequence[Colour]) -> Drawing:
        """A line of text at each box (N, 4), the first ones first: above it, below or inside, where none stands yet.

        One that finds no free place is left out.
        """
        height, width = self.canvas.shape[:2]
        size = 0.5 * max(1.0, max(height, width) / 900)
        taken: list[tuple[int, int, int, int]] = []
        for box, text, colour in zip(boxes, texts, colours, strict=True):
            x1, y1, x2, y2 = self._corners(box)
            (w, h), below = cv2.getTextSize(text, _FONT, size, 1)
            w, h = w + 6, h + below + 4
            for x, y in ((x1, y1 - h), (x1, y2 + 1), (x2 - w, y1 - h), (x2 + 1, y1), (x1 - w, y1), (x1, y1)):
                place = (x, y, x + w, y + h)
                inside = x >= 0 and y >= 0 and x + w <= width and y + h <= height
                if inside and not any(_meet(place, other) for other in taken):
                    taken.append(place)
                    cv2.rectangle(self.canvas, (x, y), (x + w - 1, y + h - 1), colour, -1)
                    at = (x + 3, y + h - below - 2)
                    cv2.putText(self.canvas, text, at, _FONT, size, (16, 16, 16), 1, cv2.LINE_AA)
                    break
        return self

    def masks(self, masks: np.ndarray, boxes: np.ndarray, colours: Sequence[Colour]) -> Drawing:
        """Masks (N, M, M) in [0, 1] tinted inside their boxes (N, 4) and outlined, the first one on top."""
        height, width = self.canvas.shape[:2]
        for mask, box, colour in reversed(list(zip(masks, boxes, colours, strict=True))):
            rows, columns, patch = box_masks.paste(mask, box * self.zoom, width=width, height=height)
            if not patch.size:
                continue
            area = self.canvas[rows, columns]
            share = (patch[..., None] >= 128) * 0.45
            area[:] = np.rint(area * (1 - share) + np.array(colour) * share).astype(np.uint8)
            edges, _ = cv2.findContours((patch >= 128).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(self.canvas, edges, -1, colour, self.line, cv2.LINE_AA, offset=(columns.start, rows.start))
        return self

    def _corners(self, box: np.ndarray) -> tuple[int, int, int, int]:
        height, width = self.canvas.shape[:2]
        # far outside, OpenCV's fixed point would overflow; the last pixel of the picture still shows an edge
        scaled = np.nan_to_num(box * self.zoom, nan=0, posinf=1e5, neginf=-1e5)
        x1, y1, x2, y2 = (int(v) for v in np.clip(np.rint(scaled), -4096, 8191))
        return x1, y1, x2 - 1 if x2 >= width else x2, y2 - 1 if y2 >= height else y2

    def _dashes(self, corners: tuple[int, int, int, int], colour: Colour, width: int) -> None:
        x1, y1, x2, y2 = corners
        for x in range(x1, x2, 12):
            for y in (y1, y2):
                cv2.line(self.canvas, (x, y), (min(x + 6, x2), y), colour, width)
        for y in range(y1, y2, 12):
            for x in (x1, x2):
                cv2.line(self.canvas, (x, y), (x, min(y + 6, y2)), colour, width)


def _meet(place: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return place[0] < other[2] and other[0] < place[2] and place[1] < other[3] and other[1] < place[3]


def crop(picture: np.ndarray, box: np.ndarray, *, side: int = 112) -> np.ndarray:
    """What a box (4,) holds of a picture as (side, side, 3), stretched as the heads see it; grey beyond the edge."""
    x1, y1, x2, y2 = box
    scale = np.array([max(x2 - x1, 1e-3), max(y2 - y1, 1e-3)]) / side
    matrix = np.array([[scale[0], 0, x1 + 0.5 * scale[0] - 0.5], [0, scale[1], y1 + 0.5 * scale[1] - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut: np.ndarray = cv2.warpAffine(
        picture, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=(127, 127, 127)
    )
    return cut


def heat(values: np.ndarray, *, low: float | None = None, high: float | None = None, side: int = 112) -> np.ndarray:
    """Values (h, w) as colours from dark (`low`) to bright (`high`), by default their own range; no side is shorter
    than `side` pixels, each value a block of whole pixels."""
    values = np.nan_to_num(values)
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    grey = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    bgr = cv2.applyColorMap(np.rint(grey * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    step = max(1, -(-side // min(values.shape)))
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return np.repeat(np.repeat(rgb, step, 0), step, 1)


def sheet(pictures: Sequence[np.ndarray], *, columns: int, gap: int = 4) -> np.ndarray:
    """Pictures of any sizes in rows of so many columns on grey, each row as high as its tallest."""
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    width = max(sum(each.shape[1] + gap for each in row) for row in rows) + gap
    heights = [max(each.shape[0] for each in row) for row in rows]
    page = np.full((sum(heights) + gap * (len(rows) + 1), width, 3), 96, np.uint8)
    y = gap
    for row, height in zip(rows, heights, strict=True):
        x = gap
        for each in row:
            page[y : y + each.shape[0], x : x + each.shape[1]] = each
            x += each.shape[1] + gap
        y += height + gap
    return page


def check_page(path: Path) -> None:
    """UsageError for a page that would replace something else than a page."""
    if path.suffix not in (".html", ".htm"):
        raise UsageError(f"-o {path}: expected the name of an HTML page, such as page.html")
