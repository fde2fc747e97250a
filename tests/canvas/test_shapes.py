"""Lines and polygons as weights: where they lie, how wide they are, and that their pieces fit together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from streamseg.canvas import Canvas
from streamseg.canvas.shapes import Patch, line, path, polygon
from tests.effects.scenes import even, rgb

SIZE = {"width": 600, "height": 400}


def whole(patches: Iterable[Patch]) -> np.ndarray:
    """The weights on a picture of SIZE; fails where two pieces lie on each other."""
    sheet, taken = np.zeros((400, 600), np.uint8), np.zeros((400, 600), bool)
    for x, y, weights in patches:
        part = slice(y, y + weights.shape[0]), slice(x, x + weights.shape[1])
        assert not taken[part].any()
        sheet[part], taken[part] = weights, True
    return sheet


def test_a_line_is_as_wide_as_it_was_asked_for_and_ends_where_it_ends() -> None:
    sheet = whole(path(np.array([(100.0, 200.0), (500.0, 200.0)]), thickness=6, weight=255, **SIZE))
    assert sheet[:, 300].sum() / 255 == pytest.approx(6, abs=0.5)
    rows, columns = np.nonzero(sheet)
    assert (rows.min() + rows.max() + 1) / 2 == pytest.approx(200, abs=0.5)
    assert abs(columns.min() - 100) <= 5 and abs(columns.max() - 500) <= 5


def test_a_line_across_the_picture_is_drawn_in_pieces_that_fit_without_a_seam() -> None:
    sheet = whole(path(np.array([(0.0, 10.0), (600.0, 390.0)]), thickness=5, weight=200, **SIZE))
    across = sheet.sum(axis=0)[10:-10] / 200
    assert across.min() > 5 and across.max() < 7  # 5 pixels at a slope of 0.63 are 5.9 from above
    assert sheet.max() == 200


def test_a_line_that_stands_still_is_made_once_and_cannot_be_changed() -> None:
    first = line(((0.0, 0.0), (50.0, 50.0)), thickness=2, weight=255, **SIZE)
    assert line(((0.0, 0.0), (50.0, 50.0)), thickness=2, weight=255, **SIZE) is first
    assert not any(weights.flags.writeable for _, _, weights in first)


def test_a_path_fades_in_and_one_point_is_a_dot() -> None:
    points = np.stack([np.linspace(50, 550, 21), np.full(21, 100.0)], axis=1)
    sheet = whole(path(points, thickness=6, weight=240, fading=True, **SIZE))[100]
    assert sheet[60] < sheet[200] < sheet[400] < sheet[545] == 240
    dot = whole(path(points[:1], thickness=8, weight=255, fading=True, **SIZE))
    assert 30 < (dot > 127).sum() < 90


@pytest.mark.parametrize("points", [[(-900.0, -900.0), (-800.0, -700.0)], [(1e9, 1e9), (2e9, 0.0)], [(1e30, -1e30)]])
def test_what_lies_far_beyond_the_picture_draws_nothing(points: list[tuple[float, float]]) -> None:
    assert not whole(path(np.array(points), thickness=6, weight=255, **SIZE)).any()
    assert polygon(np.array([*points, (points[0][0], -1e3)]), weight=255, **SIZE) is None


def test_a_polygon_is_filled_to_its_outline() -> None:
    patch = polygon(np.array([(100.0, 100.0), (300.0, 100.0), (300.0, 200.0)]), weight=100, **SIZE)
    assert patch is not None
    sheet = whole([patch])
    assert sheet.sum() / 100 == pytest.approx(200 * 100 / 2, rel=0.05)
    assert sheet[110, 250] == 100 and sheet[190, 150] == 0


def test_strokes_of_the_canvas_lie_in_the_picture_in_their_colour() -> None:
    canvas = Canvas(even((0, 0, 0), width=600, height=400, pixel_format="yuv444p"))
    canvas.line(np.array([(0.0, 50.0), (600.0, 50.0)]), (255, 0, 0), thickness=9)
    canvas.trail(np.array([(0.0, 150.0), (300.0, 150.0), (600.0, 150.0)]), (0, 255, 0), thickness=9)
    canvas.polygon(np.array([(-50.0, 300.0), (700.0, 300.0), (700.0, 500.0), (-50.0, 500.0)]), (0, 0, 255), opacity=0.5)
    seen = rgb(canvas.picture).astype(int)
    assert np.abs(seen[50, 300] - (255, 0, 0)).max() < 6
    assert seen[150, 500, 1] > 240 > seen[150, 100, 1] > 60 and seen[150, 500, 0] < 6
    assert (np.abs(seen[310:390, :, 2] - 128) < 6).all() and not seen[210:290].any()
