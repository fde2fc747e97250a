"""Cuts the objects out and puts a colour or a picture behind them."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np

from streamseg.canvas import Backdrop, Canvas, Color
from streamseg.pictures import opened
from streamseg.types import Result, UsageError
from streamseg.words import nearest

_COLORS: dict[str, Color] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "gray": (128, 128, 128),
    "red": (220, 40, 40),
    "green": (0, 177, 64),  # of a green screen
    "blue": (0, 71, 187),  # of a blue screen
}


class Cutout:
    """A new background.

    classes: which objects stay, None for all · background: a colour by name (black, white, grey, red, green, blue) or
    as `#rrggbb`, white if nothing is said · picture: instead of a colour a picture file, scaled to cover the frame
    """

    hides = True

    def __init__(
        self, *, classes: list[str] | None = None, background: str | None = None, picture: Path | None = None
    ) -> None:
        if background is not None and picture is not None:
            raise UsageError(f"cutout: expected a background or a picture, got both: {background} and {picture}")
        self.classes = classes
        self._color = _color("white" if background is None else background)
        self._picture = None if picture is None else _opened(Path(picture))  # (h, w, 3) uint8
        self._backdrop: Backdrop | None = None

    def draw(self, canvas: Canvas, result: Result) -> None:
        """Replace everything that is not a chosen object."""
        instances = result.instances.of(*(self.classes or ()))
        if self._picture is None:
            canvas.fill_outside(instances, self._color)
            return
        if self._backdrop is None or self._backdrop.form != canvas.form:
            self._backdrop = canvas.backdrop(av.VideoFrame.from_ndarray(self._picture, format="rgb24"))
        canvas.fill_outside(instances, self._backdrop)


def _color(text: str) -> Color:
    if text.lower() in _COLORS:
        return _COLORS[text.lower()]
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    raise UsageError(
        f"cutout: background: expected {', '.join(_COLORS)} or #rrggbb, got {text!r}{nearest(text, list(_COLORS))}"
    )


def _opened(path: Path) -> np.ndarray:
    try:
        pixels: np.ndarray = opened(path).to_ndarray(format="rgb24")
    except Exception as error:  # Pillow's readers raise whatever their parsing stumbles upon
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UsageError(f"cutout: picture: expected a picture file, got {path}: {reason}") from error
    return pixels
