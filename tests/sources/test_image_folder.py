"""A folder of pictures plays in the order of its numbers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from streamseg.pictures import pictures_in
from streamseg.sources.image_folder import ImageFolder
from streamseg.types import Frame, InputError, Source, UsageError


def save(path: Path, value: int = 0, *, width: int = 8, height: int = 6) -> None:
    iio.imwrite(path, np.full((height, width, 3), value, np.uint8))


def read(source: ImageFolder) -> list[Frame]:
    with source:
        return list(source)


def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1, 100, 2):
        save(tmp_path / f"img{number}.png", number)
    frames = read(ImageFolder(tmp_path))
    assert [int(frame.picture.to_ndarray()[0, 0, 0]) for frame in frames] == [1, 2, 9, 10, 100]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]


def test_hidden_files_and_other_files_are_no_pictures(tmp_path: Path) -> None:
    for name in ("b.png", ".hidden.png", "A.JPG"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in pictures_in(tmp_path)] == ["A.JPG", "b.png"]


@pytest.mark.parametrize(("fps", "rate"), [(0.0002, Fraction(1, 5000)), (1 / 1800, Fraction(1, 1800)), (29.97, None)])
def test_a_rate_may_be_a_picture_in_hours(tmp_path: Path, fps: float, rate: Fraction | None) -> None:
    assert ImageFolder(tmp_path, fps=fps).fps == (rate or Fraction(2997, 100))


def test_times_are_those_of_the_rate(tmp_path: Path) -> None:
    for number in range(10):
        save(tmp_path / f"{number}.png", number)
    with ImageFolder(tmp_path, fps=10, start=0.2, end=0.9, stride=3, name="walk") as source:
        assert isinstance(source, Source)
        assert (source.info.name, source.info.num_frames, source.info.width, source.info.height) == ("walk", 3, 8, 6)
        frames = list(source)
    assert [(frame.index, frame.time, frame.stream) for frame in frames] == [
        (2, 0.2, "walk"),
        (5, 0.5, "walk"),
        (8, 0.8, "walk"),
    ]
    assert [frame.picture.pts * frame.picture.time_base for frame in frames] == [Fraction(n, 10) for n in (2, 5, 8)]


def test_pictures_of_different_sizes_are_passed_on(tmp_path: Path) -> None:
    save(tmp_path / "1.png", width=8)
    save(tmp_path / "2.jpg", width=9)
    assert [(f.width, f.height) for f in read(ImageFolder(tmp_path))] == [(8, 6), (9, 6)]


def test_a_broken_picture_is_counted_and_leaves_a_gap(tmp_path: Path) -> None:
    save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    save(tmp_path / "3.png")
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:40])
    save(tmp_path / "4.png")
    source = ImageFolder(tmp_path, fps=1)
    assert [frame.time for frame in read(source)] == [0.0, 3.0]
    assert source.warnings == {"broken pictures skipped": 2}


@pytest.mark.parametrize(
    ("mode", "pix_fmt", "pixel"),
    [
        ("L", "gray", [200]),
        ("1", "gray", [255]),
        ("RGB", "rgb24", [10, 20, 30]),
        ("RGBA", "rgb24", [10, 20, 30]),
        ("P", "rgb24", [10, 20, 30]),
        ("I;16", "gray", [0x12]),
        ("LA", "gray", [200]),
    ],
)
def test_every_kind_of_png_becomes_grey_or_rgb(tmp_path: Path, mode: str, pix_fmt: str, pixel: list[int]) -> None:
    if mode == "P":
        picture = Image.new("RGB", (4, 3), (10, 20, 30)).quantize(4)
    elif mode == "I;16":
        picture = Image.fromarray(np.full((3, 4), 0x1234, np.uint16))
    else:
        colours: dict[str, Any] = {"L": 200, "1": 1, "RGB": (10, 20, 30), "RGBA": (10, 20, 30, 40), "LA": (200, 50)}
        picture = Image.new(mode, (4, 3), colours[mode])
    picture.save(tmp_path / "a.png")
    (frame,) = read(ImageFolder(tmp_path))
    assert frame.picture.format.name == pix_fmt
    assert frame.picture.to_ndarray()[0, 0].ravel().tolist() == pixel


def test_a_four_colour_jpeg_is_not_taken_for_transparency(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    (frame,) = read(ImageFolder(tmp_path))
    red, green, blue = frame.picture.to_ndarray()[8, 8]
    assert red > 200 and green < 60 and blue < 60


def test_a_photo_that_says_how_to_turn_it_comes_out_upright(tmp_path: Path) -> None:
    photo = Image.new("RGB", (8, 4), (0, 0, 0))
    exif = photo.getexif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    photo.save(tmp_path / "phone.jpg", exif=exif)
    (frame,) = read(ImageFolder(tmp_path))
    assert (frame.width, frame.height) == (4, 8)


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures in this folder"), ImageFolder(tmp_path):
        pass


def test_a_folder_of_broken_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="none of the 1 pictures can be read"), ImageFolder(tmp_path):
        pass


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"), ImageFolder(tmp_path / "nowhere"):
        pass


def test_one_picture_is_a_stream_of_one_called_after_it(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 7)
    save(tmp_path / "b.png", 8)
    with ImageFolder(tmp_path / "b.png") as source:
        (frame,) = source
        assert source.info.name == "b" and frame.picture.to_ndarray().max() == 8


def test_a_numbering_leaves_all_other_pictures_out(tmp_path: Path) -> None:
    for name in ("a_0010.png", "a_0009.png", "a_10000.png", "a_1.png", "ba_0001.png", "a_0001.jpg", "a_0001.png.png"):
        save(tmp_path / name)
    assert [path.name for path in pictures_in(tmp_path, names="a_%04d.png")] == [
        "a_0009.png",
        "a_0010.png",
        "a_10000.png",
    ]
    assert [path.name for path in pictures_in(tmp_path, names="a_%d.jpg")] == ["a_0001.jpg"]
    with ImageFolder(tmp_path, names="a_%04d.png") as source:
        assert source.info.num_frames == 3
    with pytest.raises(UsageError, match=r"names: expected one with its number, such as img%04d.png, got 'a.png'"):
        pictures_in(tmp_path, names="a.png")


def test_a_picture_in_colours_of_print_and_measurement_comes_out_in_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(tmp_path / "1.tif")
    Image.new("LAB", (8, 6), (255, 128, 128)).save(tmp_path / "2.tif")  # L 100 %, a and b 0: white
    print_red, white = (frame.picture.to_ndarray()[0, 0] for frame in read(ImageFolder(tmp_path)))
    assert print_red[0] > 200 and print_red[1] < 60 and print_red[2] < 60
    assert white.min() > 250


def test_a_picture_of_too_many_pixels_is_told_from_a_broken_one(tmp_path: Path) -> None:
    save(tmp_path / "1.png")
    Image.new("1", (20000, 10000)).save(tmp_path / "2.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    source = ImageFolder(tmp_path)
    assert len(read(source)) == 1
    assert source.warnings == {
        "pictures of more than 178 million pixels skipped": 1,
        "broken pictures skipped": 1,
    }
    (tmp_path / "1.png").unlink()
    with pytest.raises(InputError, match="2.png: it has more than 178 million pixels"), ImageFolder(tmp_path):
        pass


def test_a_start_behind_the_last_picture_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    with pytest.raises(InputError, match="the last picture is at 0 s"), ImageFolder(tmp_path, start=3):
        pass


@pytest.mark.parametrize(
    ("options", "word"), [({"fps": 0}, "fps"), ({"start": -1}, "start"), ({"end": 0}, "end"), ({"stride": 0}, "stride")]
)
def test_a_wrong_option_fails_at_construction(tmp_path: Path, options: dict, word: str) -> None:
    with pytest.raises(UsageError, match=f"^{word}: expected"):
        ImageFolder(tmp_path, **options)
