"""What is shown of a frame: the effects in their order, or the word that the picture is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import av

from streamseg.canvas import DARK, WHITE, Canvas, text_size
from streamseg.types import Effect, Instances, Result

DAMAGED = "damaged picture"


def drawn(effects: Sequence[Effect], result: Result) -> Result:
    """The result with its picture; without an effect that is the frame's own."""
    if result.frame.damaged:
        return replace(result, picture=_marked(result, hidden=any(getattr(each, "hides", False) for each in effects)))
    if not effects:
        return replace(result, picture=result.frame.picture)
    canvas = Canvas(result.frame.picture)
    for effect in effects:
        effect.draw(canvas, result)
    return replace(result, picture=canvas.picture)


def _marked(result: Result, *, hidden: bool) -> av.VideoFrame:
    """The picture with a panel in its middle that says what is wrong with it; hidden: the panel alone.

    Nobody knows where on it is what must not be seen.
    """
    canvas = Canvas(result.frame.picture)
    if hidden:
        canvas.fill_outside(Instances.empty(("background",)), DARK)
    size = max(12, round(canvas.unit / 24))
    width, height = text_size(DAMAGED, size=size)
    x, y = (canvas.width - width) // 2, (canvas.height - height) // 2
    canvas.rectangle(x - size, y - size // 2, width + 2 * size, height + size, DARK, opacity=0.72, radius=size // 2)
    canvas.text(x, y, DAMAGED, WHITE, size=size)
    return canvas.picture
