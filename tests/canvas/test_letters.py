"""Text of any script is as large as it says, and its panel has round and smooth corners."""

from __future__ import annotations

import numpy as np

from streamseg.canvas import Canvas, text_size
from streamseg.canvas.letters import lettering, panel
from tests.canvas.pictures import one_colour, samples


def test_text_is_as_large_as_it_says_in_any_script() -> None:
    for text in ("person 12  93%", "Straßenbahn", "汽车"):
        width, height = text_size(text, size=20)
        canvas = Canvas(one_colour((0, 0, 0), "gbrp", matrix=1, full=True).reformat(width=300, height=60))
        canvas.text(10, 10, text, (255, 255, 255), size=20)
        rows, columns = np.nonzero(samples(canvas.picture)[0])
        assert 10 <= rows.min() <= rows.max() < 10 + height
        assert 10 <= columns.min() <= columns.max() < 10 + width


def test_panel_is_whole_inside_and_empty_in_its_corners() -> None:
    weights = panel(20, 10, radius=4, weight=200)
    assert weights.shape == (10, 20)
    assert (weights[:, 4:16] == 200).all() and (weights[4:6] == 200).all()
    assert weights[0, 0] == weights[9, 0] == weights[0, 19] == weights[9, 19] == 0
    assert 0 < weights[1, 1] < 200  # the smooth edge
    assert (panel(20, 10, radius=0, weight=200) == 200).all()


def test_half_of_a_character_is_drawn_as_something() -> None:
    assert lettering("\ud800x", size=20, weight=500).any()
