"""Drawing on the planes of every kind of picture, and on nothing else."""

from __future__ import annotations

import colorsys

import av
import numpy as np
import pytest

from streamseg.canvas import PALETTE, Canvas, color_of, ink_on, text_size
from streamseg.types import Instances

FORMATS = [
    "yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuva420p", "nv12", "nv21", "nv16",
    "yuyv422", "uyvy422", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv420p16le", "p010le", "y210le", "gray",
    "gray10le", "ya8", "rgb24", "bgr24", "rgba", "argb", "0rgb", "gbrp", "gbrp10le", "rgb48le",
]  # fmt: skip
CONVERTED = ["monow", "rgb565le", "yuv420p10be", "gray10be", "gbrpf32le"]
SIZES = [(1, 1), (2, 2), (17, 9), (64, 4), (33, 47)]


def picture(pixel_format: str, width: int = 32, height: int = 24, *, seed: int = 0) -> av.VideoFrame:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    made = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
    made.pts = 5
    return made


def one_colour(rgb: tuple[int, int, int], pixel_format: str, *, matrix: int, full: bool) -> av.VideoFrame:
    pixels = np.full((8, 8, 3), rgb, np.uint8)
    made = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format=pixel_format, dst_colorspace=matrix, src_color_range=2, dst_color_range=2 if full else 1
    )
    made.colorspace, made.color_range = matrix, 2 if full else 1
    return made


def memory(frame: av.VideoFrame) -> list[bytes]:
    return [bytes(plane) for plane in frame.planes]


def samples(frame: av.VideoFrame) -> list[np.ndarray]:
    """The components as they are, read without the canvas's own code; for planar formats."""
    deep = frame.format.components[0].bits > 8
    dtype = np.uint16 if deep else np.uint8
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        planes.append(rows[:, : plane.width].copy())
    return planes


def people(*boxes: tuple[float, float, float, float], value: float = 1.0) -> Instances:
    return Instances(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        masks=np.full((len(boxes), 28, 28), value, np.float32),
        scores=np.full(len(boxes), 0.9, np.float32),
        class_ids=np.ones(len(boxes), np.int32),
        track_ids=np.arange(len(boxes), dtype=np.int32),
        class_names=("background", "person"),
    )


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
    ours, theirs = Canvas(canvas.picture), Canvas(before)
    for index, component in ours._painted():
        drawn, kept = ours._read(index).astype(int), theirs._read(index).astype(int)
        rows, columns = (
            slice(16 // component.sub_y, 32 // component.sub_y),
            slice(16 // component.sub_x, 32 // component.sub_x),
        )
        assert np.ptp(drawn[rows, columns]) == 0
        drawn[rows, columns] = kept[rows, columns]
        assert np.array_equal(drawn, kept)


def test_canvas_without_a_stroke_hands_back_the_very_picture() -> None:
    before = picture("yuv420p")
    assert Canvas(before).picture is before


def test_drawn_picture_keeps_time_and_tags() -> None:
    before = picture("yuv420p")
    before.colorspace, before.color_range, before.color_primaries, before.color_trc = 9, 1, 9, 16
    canvas = Canvas(before)
    canvas.drain(people())
    drawn = canvas.picture
    tags = ("pts", "time_base", "duration", "colorspace", "color_range", "color_primaries", "color_trc")
    assert [getattr(drawn, tag) for tag in tags] == [getattr(before, tag) for tag in tags]


def test_strokes_after_the_picture_was_asked_for_are_in_it_too() -> None:
    for pixel_format in ("yuv420p", "rgb24", "nv12"):
        canvas = Canvas(picture(pixel_format))
        canvas.rectangle(0, 0, 8, 8, (255, 255, 255))
        first = memory(canvas.picture)
        canvas.rectangle(8, 8, 8, 8, (0, 0, 0))
        second = canvas.picture
        assert memory(second) != first
        once = Canvas(picture(pixel_format))
        once.rectangle(0, 0, 8, 8, (255, 255, 255))
        once.rectangle(8, 8, 8, 8, (0, 0, 0))
        assert np.array_equal(once.rgb(), canvas.rgb())


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 7, 9])
@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv420p", "yuv444p10le"])
def test_colours_are_those_that_ffmpeg_makes_of_them(pixel_format: str, matrix: int, full: bool) -> None:
    for rgb in [(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), PALETTE[0], PALETTE[5]]:
        expected = one_colour(rgb, pixel_format, matrix=matrix, full=full)
        canvas = Canvas(one_colour((90, 120, 30), pixel_format, matrix=matrix, full=full))
        canvas.rectangle(0, 0, 8, 8, rgb)
        deep = pixel_format.endswith("10le")
        for drawn, right in zip(samples(canvas.picture), samples(expected), strict=True):
            assert abs(int(drawn[0, 0]) - int(right[2, 2])) <= (6 if deep else 2)


def test_white_is_235_in_limited_range_and_255_in_full_range() -> None:
    for full, white in ((False, 235), (True, 255)):
        canvas = Canvas(one_colour((0, 0, 0), "yuv420p", matrix=1, full=full))
        canvas.rectangle(0, 0, 8, 8, (255, 255, 255))
        assert [int(plane[0, 0]) for plane in samples(canvas.picture)] == [white, 128, 128]


def test_ten_bit_is_drawn_in_ten_bit() -> None:
    canvas = Canvas(one_colour((0, 0, 0), "yuv420p10le", matrix=1, full=False))
    canvas.rectangle(0, 0, 8, 8, (255, 255, 255))
    assert [int(plane[0, 0]) for plane in samples(canvas.picture)] == [940, 512, 512]


def test_half_a_weight_is_half_way() -> None:
    canvas = Canvas(one_colour((0, 0, 0), "gbrp", matrix=1, full=True))
    canvas.stamp(np.full((8, 8), 51, np.uint8), (255, 0, 100), x=0, y=0)
    assert [int(plane[0, 0]) for plane in samples(canvas.picture)] == [0, 20, 51]  # G, B, R: a fifth of each


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


def test_picture_with_its_rows_from_the_bottom_up_is_drawn_upright() -> None:
    upright = picture("yuv420p", 32, 24)
    graph = av.filter.Graph()
    source = graph.add_buffer(width=32, height=24, format="yuv420p", time_base="1/25")
    flip, sink = graph.add("vflip"), graph.add("buffersink")
    source.link_to(flip)
    flip.link_to(sink)
    graph.configure()
    graph.push(upright)
    flipped = graph.pull()
    assert flipped.planes[0].line_size < 0
    canvas = Canvas(flipped)
    canvas.rectangle(0, 0, 8, 4, (0, 0, 0))
    luma, expected = samples(canvas.picture)[0], samples(upright)[0][::-1].copy()
    expected[:4, :8] = 16
    assert np.array_equal(luma, expected)
    assert np.array_equal(samples(canvas.picture)[2][2:], samples(upright)[2][::-1][2:])


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
    ours, theirs = Canvas(canvas.picture), Canvas(before)
    for index, component in ours._painted():
        outside = slice(8 // component.sub_y, None)
        assert np.array_equal(ours._read(index)[outside], theirs._read(index)[outside])


def test_rgb_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(24, 32, 3\)"):
        Canvas(picture("yuv420p")).paste_rgb(np.zeros((5, 5, 3), np.uint8))


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


def test_colour_follows_the_track_and_before_there_is_one_the_class() -> None:
    assert color_of(3, 1) == color_of(3, 7) == PALETTE[3]
    assert color_of(-1, 1) == PALETTE[0]
    assert color_of(len(PALETTE), 1) == PALETTE[0]


def test_colours_next_to_each_other_are_a_third_of_the_circle_apart() -> None:
    hues = [colorsys.rgb_to_hsv(*(value / 255 for value in color))[0] for color in PALETTE]
    for one, other in zip(hues, hues[1:] + hues[:1], strict=True):
        assert min((one - other) % 1, (other - one) % 1) > 0.33


def test_letters_are_dark_on_bright_and_white_on_dark() -> None:
    assert max(ink_on((255, 255, 255))) < 50
    assert ink_on((0, 0, 90)) == (255, 255, 255)


def test_text_is_as_large_as_it_says_in_any_script() -> None:
    for text in ("person 12  93%", "Straßenbahn", "汽车"):
        width, height = text_size(text, size=20)
        canvas = Canvas(one_colour((0, 0, 0), "gbrp", matrix=1, full=True).reformat(width=300, height=60))
        canvas.text(10, 10, text, (255, 255, 255), size=20)
        rows, columns = np.nonzero(samples(canvas.picture)[0])
        assert 10 <= rows.min() <= rows.max() < 10 + height
        assert 10 <= columns.min() <= columns.max() < 10 + width
