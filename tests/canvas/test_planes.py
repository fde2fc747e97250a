"""A picture's planes are copied before they are written, and everything else about it is kept."""

from __future__ import annotations

import av
import numpy as np

from streamseg.canvas import Canvas
from streamseg.canvas.planes import Planes
from tests.canvas.pictures import memory, people, picture, samples


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


def test_only_what_is_written_is_copied_and_the_rest_comes_with_the_picture() -> None:
    before = picture("yuv420p")
    planes = Planes(before)
    planes.ink(1)[:] = 7
    assert np.shares_memory(planes.read(0), Planes(before).read(0))
    assert not np.shares_memory(planes.read(1), Planes(before).read(1))
    (y, u, v), (old_y, _, old_v) = samples(planes.picture), samples(before)
    assert np.array_equal(y, old_y) and (u == 7).all() and np.array_equal(v, old_v)


def test_component_is_kept_as_it_was_whatever_is_written_later() -> None:
    for pixel_format in ("yuv420p", "nv12"):
        planes = Planes(picture(pixel_format))
        planes.ink(1)[:] = 7
        kept = planes.kept(1)
        planes.ink(1)[:] = 8
        assert (kept == 7).all() and (planes.read(1) == 8).all()


def test_samples_are_found_wherever_a_format_puts_them() -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    for pixel_format in ("rgb24", "bgr24", "rgba", "argb", "0bgr", "gbrp"):
        planes = Planes(av.VideoFrame.from_ndarray(red, format="rgb24").reformat(format=pixel_format))
        assert [int(planes.read(index)[1, 1]) for index, _ in planes.layout.painted] == [255, 0, 0]
    for pixel_format in ("yuv420p10le", "p010le", "y210le"):  # the last two keep their 10 bits at the upper end
        white = av.VideoFrame.from_ndarray(np.full((4, 4, 3), 255, np.uint8), format="rgb24")
        planes = Planes(white.reformat(format=pixel_format))
        assert [int(planes.read(index)[0, 0]) for index, _ in planes.layout.painted] == [940, 512, 512]


def test_another_picture_becomes_the_same_samples_every_time() -> None:
    planes, other = Planes(picture("yuv420p10le", 133, 190)), picture("rgb24", 133, 190, seed=1)
    first = planes.converted(other)
    for _ in range(200):
        assert all(np.array_equal(*pair) for pair in zip(first, planes.converted(other), strict=True))
