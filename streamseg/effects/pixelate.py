"""Hides the objects, or everything but them, behind coarse squares."""

from __future__ import annotations

from typing import Literal, get_args

from streamseg.canvas import Canvas
from streamseg.types import Result, UsageError
from streamseg.words import nearest

Where = Literal["objects", "background"]


class Pixelate:
    """Squares of one colour each; nothing finer than a square is left of what they cover.

    A square that touches an object covers it wholly, and an object is never more than 12 squares long.

    classes: which objects, None for all · where: `objects`, or `background` for everything outside them · strength:
    the side of a square as a share of the picture's shorter side, up to 0.5
    """

    hides = True

    def __init__(self, *, classes: list[str] | None = None, where: Where = "objects", strength: float = 0.025) -> None:
        if where not in get_args(Where):
            raise UsageError(f"pixelate: where: {where!r} is not possible{nearest(where, get_args(Where))}")
        if not 0 < strength <= 0.5:
            raise UsageError(f"pixelate: strength: expected a share of the picture, above 0 to 0.5, got {strength}")
        self.classes = classes
        self.where = where
        self.strength = strength

    def draw(self, canvas: Canvas, result: Result) -> None:
        """Pixelate the chosen objects, or what is outside of them."""
        instances = result.instances.of(*(self.classes or ()))
        block = max(1, round(self.strength * canvas.unit))
        canvas.pixelate(instances, block=block, outside=self.where == "background")
