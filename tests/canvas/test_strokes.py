"""Every stroke draws what it says, in every kind of picture, and nowhere else."""

from __future__ import annotations

import av
import numpy as np
import pytest

from streamseg.canvas import Canvas
from streamseg.canvas.planes import Planes
from tests.canvas.pictures import FORMATS, memory, one_colour, people, picture, samples

CONVERTED = ["monow", "rgb565le", "yuv420p10be", "gray10be", "gbrpf32le"]
SIZES = [(1, 1), (2, 2), (17, 9), (64, 4), (33, 47)]


def draw_everything(canvas: Canvas) -> None:
    width, height = canvas.width, canvas.height
    chosen = people((0, 0, width / 2, height / 2), (-5, -5, width + 5, height + 5), (width + 1, 0, width + 9, 9))
    canvas.tint(chosen.masks[0], chosen.boxes[0], (255, 0, 0), opacity=0.5)
    canvas.blur(chosen[0], radius=2)
    canvas.blur(chosen[0], radius=2, outside=True)
    canvas.pixelate(chosen[0], block=3)
    canvas.pixelate(chosen[0], block=3, outside=True)
    canvas.drain(chosen[0])
    canvas.rectangle(-3, -2, 9, 9, (0, 255, 0), radius=3)
    canvas.text(1, 1, "person", (255, 255, 255), size=12)
    canvas.fill_outside(chosen[0], (0, 0, 255))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_every_stroke_works_in_every_format_and_size(pixel_format: str, size: tuple[int, int]) -> None:
    before = picture(pixel_format, *size)
    kept = memory(before)
    canvas = Canvas(before)
    draw_everything(canvas)
    drawn = canvas.picture
    assert (drawn.format.name, drawn.width, drawn.height, drawn.pts) == (pixel_format, *size, 5)
    assert memory(before) == kept
    assert memory(drawn) != kept


@pytest.mark.parametrize("pixel_format", CONVERTED)
def test_format_that_cannot_be_drawn_on_becomes_the_nearest_one_that_can(pixel_format: str) -> None:
    before = picture(pixel_format)
    canvas = Canvas(before)
    draw_everything(canvas)
    expected = {"monow": "gray", "rgb565le": "rgb24", "yuv420p10be": "yuv420p10le", "gray10be": "gray10le"}
    assert canvas.picture.format.name == expected.get(pixel_format, "gbrp16le")
    assert canvas.picture.pts == 5


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_stroke_changes_nothing_outside_itself(pixel_format: str) -> None:
    before = picture(pixel_format, 64, 64)
    canvas = Canvas(before)
    canvas.rectangle(16, 16, 16, 16, (255, 0, 0))
    ours, theirs = Planes(canvas.picture), Planes(before)
    for index, component in ours.layout.painted:
        drawn, kept = ours.read(index).astype(int), theirs.read(index).astype(int)
        rows, columns = (
            slice(16 // component.sub_y, 32 // component.sub_y),
            slice(16 // component.sub_x, 32 // component.sub_x),
        )
        assert np.ptp(drawn[rows, columns]) == 0
        drawn[rows, columns] = kept[rows, columns]
        assert np.array_equal(drawn, kept)


def test_chroma_sample_takes_the_mean_of_the_pixels_it_stands_for() -> None:
    before = one_colour((0, 0, 0), "yuv420p", matrix=1, full=False)
    canvas = Canvas(before)
    canvas.rectangle(1, 0, 1, 2, (255, 0, 0))  # half of the first chroma sample
    u, v = (int(plane[0, 0]) for plane in samples(canvas.picture)[1:])
    assert abs(u - (128 + 102) / 2) <= 1
    assert abs(v - (128 + 240) / 2) <= 1
    assert samples(canvas.picture)[0][0, :4].tolist() == [16, 63, 16, 16]


def test_odd_picture_is_filled_to_its_last_column() -> None:
    canvas = Canvas(picture("yuv420p", 17, 9))
    canvas.rectangle(0, 0, 17, 9, (255, 255, 255))
    assert [int(np.ptp(plane)) for plane in samples(canvas.picture)] == [0, 0, 0]


def test_tint_is_the_colour_in_part_inside_and_wholly_on_the_line() -> None:
    before = one_colour((0, 0, 0), "gbrp", matrix=1, full=True).reformat(width=64, height=64)
    canvas = Canvas(before)
    canvas.tint(np.ones((28, 28), np.float32), np.array([16, 16, 48, 48]), (200, 200, 200), opacity=0.5)
    row = samples(canvas.picture)[0][32].astype(int)
    assert row[:14].max() == 0  # nothing outside
    assert row[15] == row[16] == 200  # the line, one pixel to each side of the contour
    assert (row[18:46] == 100).all()  # half of the colour inside
    assert np.array_equal(row, row[::-1])


def test_tint_draws_no_line_where_the_object_leaves_the_picture() -> None:
    before = one_colour((0, 0, 0), "gbrp", matrix=1, full=True).reformat(width=64, height=64)
    canvas = Canvas(before)
    canvas.tint(np.ones((28, 28), np.float32), np.array([-20, 16, 48, 48]), (200, 200, 200), opacity=0.5)
    assert (samples(canvas.picture)[0][32, :46] == 100).all()


def test_no_square_of_a_pixelated_object_shows_more_than_one_value() -> None:
    canvas = Canvas(picture("yuv444p", 64, 64))
    canvas.pixelate(people((8, 8, 40, 40)), block=8)
    for plane in samples(canvas.picture):
        squares = plane[8:40, 8:40].reshape(4, 8, 4, 8)
        assert (squares.max(axis=(1, 3)) == squares.min(axis=(1, 3))).all()


def test_square_that_an_object_only_touches_goes_as_a_whole() -> None:
    before = picture("gray", 64, 64)
    canvas = Canvas(before)
    canvas.pixelate(people((8, 8, 17, 9)), block=8)
    changed = samples(canvas.picture)[0] != samples(before)[0]
    assert changed[8:16, 16:24].mean() > 0.9
    assert not changed[:, 24:].any()
    assert not changed[16:].any()


def test_large_object_gets_larger_squares() -> None:
    canvas = Canvas(picture("gray", 192, 192))
    canvas.pixelate(people((0, 0, 192, 192)), block=2)
    assert len(np.unique(samples(canvas.picture)[0], axis=1)) == 192
    assert np.abs(np.diff(samples(canvas.picture)[0].astype(int), axis=1)).any(axis=0).sum() <= 11


def test_blurred_background_takes_no_colour_from_the_objects() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[16:48, 16:48] = 255
    canvas = Canvas(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
    canvas.blur(people((16, 16, 48, 48)), radius=6, outside=True)
    assert np.array_equal(canvas.rgb(), pixels)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p10le", "nv12", "gbrp", "rgb24", "gray"])
def test_rgb_and_back_changes_little_and_only_where_it_is_pasted(pixel_format: str) -> None:
    smooth = np.linspace(40, 200, 32 * 24 * 3).reshape(24, 32, 3).astype(np.uint8)
    before = av.VideoFrame.from_ndarray(smooth, format="rgb24").reformat(format=pixel_format, dst_colorspace=5)
    canvas = Canvas(before)
    rgb = canvas.rgb()
    assert rgb.shape == (24, 32, 3)
    canvas.paste_rgb(rgb)
    assert np.abs(canvas.rgb().astype(int) - rgb).max() <= 6

    canvas = Canvas(before)
    canvas.paste_rgb(np.zeros_like(rgb), rows=slice(4, 8), columns=slice(0, 10))
    assert canvas.rgb()[5, 5].max() <= 4
    ours, theirs = Planes(canvas.picture), Planes(before)
    for index, component in ours.layout.painted:
        outside = slice(8 // component.sub_y, None)
        assert np.array_equal(ours.read(index)[outside], theirs.read(index)[outside])


def test_rgb_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(24, 32, 3\)"):
        Canvas(picture("yuv420p")).paste_rgb(np.zeros((5, 5, 3), np.uint8))
