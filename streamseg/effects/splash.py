"""Turns the world grey and leaves the objects in colour."""

from __future__ import annotations

from streamseg.canvas import Canvas
from streamseg.types import Result


class Splash:
    """Colour inside the objects' masks, grey outside; not a bit of brightness changes, nor of an object's colour.

    classes: which objects stay in colour, None for all
    """

    def __init__(self, *, classes: list[str] | None = None) -> None:
        self.classes = classes

    def draw(self, canvas: Canvas, result: Result) -> None:
        """Drain everything that is not a chosen object."""
        canvas.drain(result.instances.of(*(self.classes or ())))
