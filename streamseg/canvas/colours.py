"""Which colour an object has, what is readable on it, and what a colour is in the picture's own numbers."""

from __future__ import annotations

from functools import lru_cache

Color = tuple[int, int, int]
"""Red, green and blue in [0, 255], as on a screen."""

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

_REFERENCE_WHITE = {16: 0.58, 18: 0.75}
"""Signal of a white page in HDR video, PQ and HLG (ITU-R BT.2408): a label as bright as the sun is not readable."""

_LUMA_SHARES = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Share of red and of blue in the luma, by matrix (ITU-T H.273, table 4)."""


def color_of(track_id: int, class_id: int) -> Color:
    """The colour of an object: its track's, the same in every frame, or its class's before it has a track."""
    return PALETTE[(track_id if track_id >= 0 else class_id - 1) % len(PALETTE)]


def ink_on(color: Color) -> Color:
    """Dark or white, whichever is easier to read on the colour."""
    red, green, blue = color
    # Luma as BT.601 weighs it, against about the middle of its range.
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else WHITE


@lru_cache(maxsize=512)
def values_of(color: Color, *, kind: str, depth: int, matrix: int, full: bool, transfer: int) -> tuple[int, ...]:
    """The colour as values of the components: Y, U, V, or R, G, B, or Y alone.

    kind "yuv", "rgb" or "gray" · depth in bits · matrix and transfer: as numbered in ITU-T H.273 · full: black is 0
    and white the largest value, not 16 and 235 (of 8 bits).
    """
    red, green, blue = (value / 255 * _REFERENCE_WHITE.get(transfer, 1.0) for value in color)
    peak = (1 << depth) - 1
    if kind == "rgb":
        return tuple(round(value * peak) for value in (red, green, blue))
    # H.273, 8.3: luma and its scaled differences; the limited range has 219 steps of luma, 224 of chroma.
    share_red, share_blue = _LUMA_SHARES[matrix]
    luma = share_red * red + (1 - share_red - share_blue) * green + share_blue * blue
    scale = 1 << (depth - 8)
    y = round(luma * peak) if full else round((16 + 219 * luma) * scale)
    if kind == "gray":
        return (y,)
    swing = peak if full else 224 * scale
    middle = 1 << (depth - 1)
    u = middle + swing * (blue - luma) / (2 - 2 * share_blue)
    v = middle + swing * (red - luma) / (2 - 2 * share_red)
    return y, min(peak, max(0, round(u))), min(peak, max(0, round(v)))
