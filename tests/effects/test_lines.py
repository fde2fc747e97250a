"""Lines: where each is drawn, which side its arrow points to, and its plate of counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamseg.effects.lines import Lines
from streamseg.types import UsageError
from tests.effects.scenes import draw, even, objects, picture, rgb

AMBER = (255, 193, 30)


def drawn(ends: dict[str, list[float]], counts: dict[str, Any] | None = None) -> np.ndarray:
    on = even((90, 90, 90), width=640, height=480)
    return rgb(draw(Lines(ends=ends), on, objects(), {"lines": counts or {}})).astype(int)


def amber(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of what has the colour of lines."""
    rows, columns = np.nonzero(np.abs(seen - AMBER).max(axis=2) < 12)
    return rows, columns


def test_a_line_lies_where_it_is_counted_at() -> None:
    rows, columns = amber(drawn({"gate": [0.25, 0.5, 0.75, 0.5]}))  # its plate lies on its right end
    assert columns.min() == pytest.approx(160, abs=8) and 400 < columns.max() < 480
    assert np.bincount(rows).argmax() == pytest.approx(240, abs=2)


@pytest.mark.parametrize(
    ("ends", "points"),
    [
        ([0.2, 0.5, 0.8, 0.5], "down"),
        ([0.8, 0.5, 0.2, 0.5], "up"),
        ([0.5, 0.2, 0.5, 0.8], "left"),
        ([0.5, 0.8, 0.5, 0.2], "right"),
    ],
)
def test_its_arrow_points_to_in(ends: list[float], points: str) -> None:
    rows, columns = amber(drawn({"gate": ends})[40:440, 120:520])
    reach = {
        "down": rows.max() - 200,
        "up": 200 - rows.min(),
        "left": 200 - columns.min(),
        "right": columns.max() - 200,
    }
    assert reach[points] > 12
    if points in ("up", "down"):
        assert reach["up" if points == "down" else "down"] < 6


def test_its_plate_says_the_counts_of_all_classes_at_its_upper_end() -> None:
    ends = {"gate": [0.5, 0.9, 0.5, 0.3]}
    nine = drawn(ends, {"gate": {"person": {"in": 4, "out": 1}, "dog": {"in": 5, "out": 0}}})
    assert (nine == drawn(ends, {"gate": {"person": {"in": 9, "out": 1}}})).all()
    rows, columns = np.nonzero((nine != drawn(ends)).any(axis=2))
    assert abs(rows.mean() - 0.3 * 480) < 10 and abs(columns.mean() - 320) < 60


@pytest.mark.parametrize("ends", [[0, 0, 0, 1], [1, 0, 1, 1], [0, 0, 1, 0], [0, 1, 1, 1]])
def test_its_plate_is_wholly_in_the_picture(ends: list[float]) -> None:
    number = {"gate": {"person": {"in": 88888, "out": 0}}}
    rows, columns = np.nonzero((drawn({"gate": ends}, number) != drawn({"gate": ends})).any(axis=2))
    assert rows.min() > 2 and rows.max() < 477 and columns.min() > 2 and columns.max() < 637


def test_without_lines_nothing_is_drawn() -> None:
    before = picture("yuv420p", 320, 240)
    assert draw(Lines(), before, objects((0, 0, 20, 20)), {"lines": {"gate": {}}}) is before


def test_an_impossible_line_is_refused_by_its_name() -> None:
    with pytest.raises(UsageError, match="line gate: expected two ends apart"):
        Lines(ends={"gate": [0.5, 0.5, 0.5, 0.5]})
