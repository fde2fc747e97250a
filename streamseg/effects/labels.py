"""Writes at every object what it is: its class, the number of its track and the score."""

from __future__ import annotations

import numpy as np

from streamseg.canvas import Canvas, color_of, ink_on, text_size
from streamseg.types import Instances, Result

Place = tuple[int, int, int, int]  # x1, y1, x2, y2


class Labels:
    """A small plate at each object, as `person 3  93%`, in the colour that `overlay` gives it.

    Letters scale with the shorter side of the picture. A plate stands on its box, or inside or below it where that
    covers fewer other plates, and always within the picture; one wider than the picture is left out.

    classes: which objects, None for all · score: write the score
    """

    def __init__(self, *, classes: list[str] | None = None, score: bool = True) -> None:
        self.classes = classes
        self.score = score

    def draw(self, canvas: Canvas, result: Result) -> None:
        """Place and draw one plate an object, the longest known first, so that its plate moves least."""
        instances = result.instances.of(*(self.classes or ()))
        size = max(12, round(canvas.unit / 48))
        pad_x, pad_y = max(3, round(size * 0.4)), max(1, round(size * 0.12))
        taken: list[Place] = []
        for i in np.argsort(np.where(instances.track_ids < 0, 1 << 30, instances.track_ids), kind="stable").tolist():
            box = instances.boxes[i]
            if not (np.isfinite(box).all() and box[2] > box[0] and box[3] > box[1]):
                continue
            text = self._text(instances, i)
            text_width, text_height = text_size(text, size=size)
            width, height = text_width + 2 * pad_x, text_height + 2 * pad_y
            place = _place(box, width, height, canvas, taken)
            if place is None:
                continue
            taken.append(place)
            color = color_of(int(instances.track_ids[i]), int(instances.class_ids[i]))
            x, y = place[:2]
            canvas.rectangle(x, y, width, height, color, opacity=0.92, radius=round(size * 0.28))
            canvas.text(x + pad_x, y + pad_y, text, ink_on(color), size=size)

    def _text(self, instances: Instances, i: int) -> str:
        words: str = instances.class_names[instances.class_ids[i]]
        if instances.track_ids[i] >= 0:
            words += f" {instances.track_ids[i]}"
        if self.score:
            words += f"  {100 * instances.scores[i]:.0f}%"
        return words


def _place(box: np.ndarray, width: int, height: int, canvas: Canvas, taken: list[Place]) -> Place | None:
    """Where the plate of a box covers least of the plates already placed; None where it has no room or no object."""
    x1, y1, x2, y2 = (float(v) for v in box)
    if (
        width > canvas.width
        or height > canvas.height
        or x2 <= 0
        or y2 <= 0
        or x1 >= canvas.width
        or y1 >= canvas.height
    ):
        return None
    # In order of preference: standing on the box, inside its top, inside its foot, below it, further down inside it,
    # over a plate that stands on it; left, right, middle.
    further = [y1 + i * height for i in range(1, 5) if y1 + (i + 1) * height <= y2]
    tops = (y1 - height, y1, y2 - height, y2, *further, y1 - 2 * height)
    corners = np.array([(left, top) for top in tops for left in (x1, x2 - width, (x1 + x2 - width) / 2)])
    corners = np.rint(np.clip(corners, 0, (canvas.width - width, canvas.height - height)))  # (C, 2)
    others = np.array(taken).reshape(-1, 4)
    sides = np.minimum(corners[:, None] + (width, height), others[:, 2:]) - np.maximum(corners[:, None], others[:, :2])
    covered = np.maximum(sides, 0).prod(axis=2).sum(axis=1)
    x, y = corners[covered.argmin()].astype(int).tolist()
    return x, y, x + width, y + height
