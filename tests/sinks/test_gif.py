"""The gif sink, by decoding what it wrote with another program's reader."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from streamseg.canvas import Canvas
from streamseg.sinks.gif import Gif
from streamseg.types import Frame, Instances, OutputError, Result, Sink, StreamInfo, UsageError
from tests.clips import numbered_picture

NOTHING = Instances.empty(("background",))


def write(
    sink: Gif, count: int, *, rate: int = 25, width: int = 64, height: int = 48, pixel_aspect: Fraction = Fraction(1)
) -> Gif:
    with sink:
        sink.start(StreamInfo("made", width, height, Fraction(1, rate), Fraction(rate), pixel_aspect=pixel_aspect))
        for index in range(count):
            picture = numbered_picture(index, width=width, height=height)
            picture.pts, picture.time_base = index, Fraction(1, rate)
            sink.write(picture, Result(Frame(picture, index, index / rate, 0.0, "made"), NOTHING))
    return sink


def durations(path: Path) -> list[float]:
    return [iio.immeta(path, index=i, plugin="pillow")["duration"] for i in range(len(iio.imread(path)))]


def test_gif_plays_at_the_pace_of_the_input(tmp_path: Path) -> None:
    """50 pictures of 25 a second at 12.5 a second: every second one, 80 ms each."""
    sink = write(Gif(tmp_path / "out.gif"), 50)
    assert len(iio.imread(sink.path)) == 25
    assert set(durations(sink.path)) == {80}
    assert iio.immeta(sink.path, plugin="pillow")["loop"] == 0
    assert sink.notes == [] and isinstance(sink, Sink)


def test_slow_input_keeps_all_its_pictures(tmp_path: Path) -> None:
    write(Gif(tmp_path / "out.gif"), 6, rate=5)
    assert durations(tmp_path / "out.gif") == [200] * 6


def test_uneven_times_keep_their_mean_pace(tmp_path: Path) -> None:
    """30 a second at 12.5: within a hundredth of a second of every picture's own time."""
    write(Gif(tmp_path / "out.gif"), 60, rate=30)
    assert sum(durations(tmp_path / "out.gif")) == 2000


@pytest.mark.parametrize(("end", "last"), [(None, 3000), (1.2, 1000), (0.201, 20)])
def test_a_last_picture_that_stands_does_so_until_the_end_of_the_kept_part(
    tmp_path: Path, end: float | None, last: int
) -> None:
    with Gif(tmp_path / "out.gif") as sink:
        sink.start(StreamInfo("made", 64, 48, Fraction(1, 10), Fraction(10), end=end))
        for index in range(3):
            picture = numbered_picture(index, width=64, height=48)
            picture.pts, picture.time_base, picture.duration = index, Fraction(1, 10), 30 if index == 2 else 1
            sink.write(picture, Result(Frame(picture, index, index / 10, 0.0, "made"), NOTHING))
    assert durations(tmp_path / "out.gif") == [100, 100, last]


def test_a_picture_alone_is_shown_as_long_as_one_of_many(tmp_path: Path) -> None:
    write(Gif(tmp_path / "out.gif", fps=5), 1)
    assert iio.immeta(tmp_path / "out.gif", plugin="pillow")["duration"] == 200


def test_colours_come_close(tmp_path: Path) -> None:
    write(Gif(tmp_path / "out.gif"), 1)
    expected = numbered_picture(0, width=64, height=48).to_ndarray(format="rgb24").astype(int)
    assert np.abs(iio.imread(tmp_path / "out.gif")[0].astype(int) - expected).mean() < 4


@pytest.mark.parametrize("width", [1280, 640])
def test_pictures_without_a_matrix_tag_have_the_colours_that_effects_draw_with(tmp_path: Path, width: int) -> None:
    color = (200, 40, 60)
    canvas = Canvas(numbered_picture(0, width=width, height=48))
    canvas.rectangle(0, 0, width, 48, color)
    with Gif(tmp_path / "out.gif") as sink:
        sink.start(StreamInfo("made", width, 48, Fraction(1, 25), Fraction(25)))
        sink.write(canvas.picture, Result(Frame(canvas.picture, 0, 0.0, 0.0, "made"), NOTHING))
    assert np.abs(iio.imread(tmp_path / "out.gif")[0].astype(int) - color).max() <= 8


def test_large_and_oblong_pixels_become_a_small_square_picture(tmp_path: Path) -> None:
    write(Gif(tmp_path / "out.gif", width=80), 2, width=160, height=96)
    assert iio.imread(tmp_path / "out.gif").shape[1:3] == (48, 80)
    write(Gif(tmp_path / "wide.gif"), 2, width=64, height=48, pixel_aspect=Fraction(2))
    assert iio.imread(tmp_path / "wide.gif").shape[1:3] == (48, 128)


def test_error_leaves_a_gif_under_the_part_name(tmp_path: Path) -> None:
    sink = Gif(tmp_path / "out.gif")
    with pytest.raises(RuntimeError), sink:
        sink.start(StreamInfo("made", 64, 48, Fraction(1, 10), Fraction(10)))
        for index in range(5):
            picture = numbered_picture(index, width=64, height=48)
            sink.write(picture, Result(Frame(picture, index, index / 10, 0.0, "made"), NOTHING))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out.part.gif"]
    assert len(iio.imread(sink.path, extension=".gif")) == 5


def test_existing_file_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "out.gif").write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists already"):
        write(Gif(tmp_path / "out.gif"), 1)
    write(Gif(tmp_path / "out.gif", overwrite=True), 3)
    assert len(iio.imread(tmp_path / "out.gif")) == 2


def test_no_picture_at_all_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no picture"):
        write(Gif(tmp_path / "out.gif"), 0)
    assert list(tmp_path.iterdir()) == []


def test_wrong_options_are_said_at_construction() -> None:
    for options, message in (({"fps": 60}, "at most 50"), ({"fps": 0}, "more than 0"), ({"width": 0}, "1 pixel")):
        with pytest.raises(UsageError, match=message):
            Gif("out.gif", **options)
    with pytest.raises(UsageError, match=r"ending in \.gif"):
        Gif("out.png")
