"""Lays a colour over every object, with a thin line around it; the same object keeps its colour from frame to frame."""

from __future__ import annotations

import numpy as np

from streamseg.canvas import Canvas, color_of
from streamseg.types import Result, UsageError


class Overlay:
    """Tinted objects.

    classes: which objects, None for all · opacity: of the colour, 0 (only the line) to 1 · outline: draw the line
    """

    def __init__(self, *, classes: list[str] | None = None, opacity: float = 0.45, outline: bool = True) -> None:
        if not 0 <= opacity <= 1:
            raise UsageError(f"overlay: opacity: expected 0 to 1, got {opacity}")
        self.classes = classes
        self.opacity = opacity
        self.outline = outline

    def draw(self, canvas: Canvas, result: Result) -> None:
        """Tint the chosen objects, the lower ones last: who stands further down stands nearer."""
        instances = result.instances.of(*(self.classes or ()))
        for i in np.argsort(instances.boxes[:, 3], kind="stable").tolist():
            color = color_of(int(instances.track_ids[i]), int(instances.class_ids[i]))
            canvas.tint(instances.masks[i], instances.boxes[i], color, opacity=self.opacity, outline=self.outline)
