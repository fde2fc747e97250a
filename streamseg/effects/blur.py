"""Makes the objects unsharp, or everything but them."""

from __future__ import annotations

from typing import Literal, get_args

from streamseg.canvas import Canvas
from streamseg.types import Result, UsageError
from streamseg.words import nearest

Where = Literal["objects", "background"]


class Blur:
    """A soft blur.

    classes: which objects, None for all · where: `objects`, or `background` for everything outside them · strength:
    the blur's standard deviation as a share of the picture's shorter side, up to 0.5
    """

    hides = True

    def __init__(self, *, classes: list[str] | None = None, where: Where = "objects", strength: float = 0.02) -> None:
        if where not in get_args(Where):
            raise UsageError(f"blur: where: {where!r} is not possible{nearest(where, get_args(Where))}")
        if not 0 < strength <= 0.5:
            raise UsageError(f"blur: strength: expected a share of the picture, above 0 to 0.5, got {strength}")
        self.classes = classes
        self.where = where
        self.strength = strength

    def draw(self, canvas: Canvas, result: Result) -> None:
        """Blur the chosen objects, or what is outside of them."""
        instances = result.instances.of(*(self.classes or ()))
        canvas.blur(instances, radius=self.strength * canvas.unit, outside=self.where == "background")
