"""Shows in a corner how many objects of each class are in the picture now, and how many were seen in all."""

from __future__ import annotations

from typing import Literal, get_args

from streamseg.canvas import DARK, WHITE, Canvas, color_of, text_size
from streamseg.types import Result, UsageError
from streamseg.words import nearest

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]

_PALE = (170, 178, 190)


class Counts:
    """A small table: a row for each class with the number now and, where the `per_class` counter runs, in total.

    Counted now are confirmed tracks, or all objects where nothing tracks. A table larger than the picture is left out.

    classes: which objects, None for all · corner: top-left, top-right, bottom-left or bottom-right
    """

    def __init__(self, *, classes: list[str] | None = None, corner: Corner = "top-left") -> None:
        if corner not in get_args(Corner):
            raise UsageError(f"counts: corner: {corner!r} is not possible{nearest(corner, get_args(Corner))}")
        self.classes = classes
        self.corner = corner

    def draw(self, canvas: Canvas, result: Result) -> None:
        """Draw the table; before anything was seen there is none."""
        rows, total_known = self._rows(result)
        if not rows:
            return
        table = [("", "now", "total"), *((name, str(now), str(total)) for name, now, total in rows)]
        if not total_known:
            table = [row[:2] + ("",) for row in table]
        size = max(12, round(canvas.unit / 44))
        widths = [max(text_size(row[column], size=size)[0] for row in table) for column in range(3)]
        line = text_size("0", size=size)[1] + round(size * 0.2)
        pad, gap, dot = round(size * 0.7), round(size * 1.1), round(size * 0.6)
        names_at = pad + dot + round(size * 0.5)
        now_at = names_at + widths[0] + gap + widths[1]  # numbers are set flush right
        total_at = now_at + (gap + widths[2] if total_known else 0)
        width, height = total_at + pad, 2 * pad + line * len(table) - round(size * 0.2)
        margin = round(size * 0.7)
        if width + margin > canvas.width or height + margin > canvas.height:
            return
        x = margin if self.corner.endswith("left") else canvas.width - width - margin
        y = margin if self.corner.startswith("top") else canvas.height - height - margin

        canvas.rectangle(x, y, width, height, DARK, opacity=0.72, radius=round(size * 0.5))
        class_names = result.instances.class_names
        for number, (name, now, total) in enumerate(table):
            top = y + pad + number * line
            for text, right in ((now, now_at), (total, total_at)):
                if text:
                    left = x + right - text_size(text, size=size)[0]
                    canvas.text(left, top, text, WHITE if number else _PALE, size=size, weight=600 if number else 400)
            if number:
                color = color_of(-1, class_names.index(name)) if name in class_names else WHITE
                canvas.rectangle(x + pad, top + round(size * 0.42), dot, dot, color, radius=dot // 2)
                canvas.text(x + names_at, top, name, WHITE, size=size)

    def _rows(self, result: Result) -> tuple[list[tuple[str, int, int]], bool]:
        """Class, now and total of every class seen, in the model's order; and whether totals are known."""
        now = result.in_sight
        totals = dict(result.counts.get("objects", {}))
        order = {name: i for i, name in enumerate(result.instances.class_names)}
        names = sorted({*now, *totals}, key=lambda name: (order.get(name, len(order)), name))
        if self.classes:
            names = [name for name in names if name in self.classes]
        return [(name, now.get(name, 0), int(totals.get(name, 0))) for name in names], "objects" in result.counts
