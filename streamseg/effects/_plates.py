"""The plates at lines and zones: a name and its numbers on a dark panel that is always within the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamseg.canvas import DARK, WHITE, Canvas, Color, text_size

_PALE: Color = (190, 197, 207)


def draw_plate(
    canvas: Canvas, x: float, y: float, *, name: str, numbers: Sequence[tuple[str, int]], color: Color
) -> None:
    """A plate as `gate  in 6  out 0` whose middle is at (x, y), moved into the picture; none where it has no room.

    color: of the mark before the name
    """
    size = max(12, round(canvas.unit / 40))
    pad, gap, mark = round(size * 0.5), round(size * 0.7), max(3, round(size * 0.3))
    words = [(name, WHITE, 600, gap)]
    for word, number in numbers:
        words += [(word, _PALE, 400, round(size * 0.3)), (str(number), WHITE, 700, gap)]
    widths = [text_size(text, size=size, weight=weight)[0] for text, _, weight, _ in words]
    width = mark + pad + sum(widths) + sum(space for *_, space in words[:-1]) + 2 * pad
    height = text_size("0", size=size)[1] + pad
    margin = max(2, round(size * 0.3))
    if width + 2 * margin > canvas.width or height + 2 * margin > canvas.height:
        return
    left = round(min(max(x - width / 2, margin), canvas.width - width - margin))
    top = round(min(max(y - height / 2, margin), canvas.height - height - margin))
    canvas.rectangle(left, top, width, height, DARK, opacity=0.85, radius=round(size * 0.35))
    canvas.rectangle(left + pad, top + pad, mark, height - 2 * pad, color, radius=mark // 2)
    at = left + pad + mark + pad
    for (text, ink, weight, space), wide in zip(words, widths, strict=True):
        canvas.text(at, top + pad // 2, text, ink, size=size, weight=weight)
        at += wide + space


def total(counts: Mapping[str, Any], key: str) -> int:
    """The sum of one number over the classes: of {"person": {"in": 2}, "dog": {"in": 1}} and "in" it is 3."""
    return sum(int(numbers.get(key, 0)) for numbers in counts.values())
