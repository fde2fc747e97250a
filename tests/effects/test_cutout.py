"""Cutout: the objects before a new background."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from streamseg.effects.cutout import Cutout
from streamseg.types import Instances, UsageError
from tests.effects.scenes import draw, even, objects, picture, planes, rgb

BOX = (16.0, 16.0, 48.0, 48.0)


def nobody() -> Instances:
    return objects()[np.zeros(len(objects()), bool)]


def test_background_is_the_colour_and_the_object_keeps_every_bit() -> None:
    before = picture("yuv444p", 64, 64)
    before.colorspace, before.color_range = 1, 1
    drawn = draw(Cutout(background="#ff0000"), before, objects(BOX))
    for was, now, red in zip(planes(before), planes(drawn), (63, 102, 240), strict=True):
        assert np.array_equal(now[18:46, 18:46], was[18:46, 18:46])
        now[16:48, 16:48] = red
        assert (now == red).all()


@pytest.mark.parametrize(
    ("background", "expected"), [(None, [255] * 3), ("black", [0] * 3), ("Grey", [128] * 3), ("#0A0b0c", [10, 11, 12])]
)
def test_colour_has_a_name_or_a_number_and_is_white_if_nothing_is_said(
    background: str | None, expected: list[int]
) -> None:
    drawn = rgb(draw(Cutout(background=background), picture("rgb24"), objects()))
    assert (drawn == expected).all()


def test_picture_covers_the_frame_and_keeps_its_middle(tmp_path: Path) -> None:
    wide = np.zeros((40, 160, 3), np.uint8)
    wide[:, 60:100] = (0, 0, 255)  # red in OpenCV's order, in the middle
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    effect = Cutout(picture=tmp_path / "wide.png")
    for size in (40, 80, 80):
        drawn = rgb(draw(effect, even((0, 0, 0), width=size, height=size), objects()))
        assert drawn.shape == (size, size, 3)
        assert np.abs(drawn[:, 2:-2].astype(int) - [255, 0, 0]).max() <= 4


def test_picture_is_upright_as_its_orientation_says(tmp_path: Path) -> None:
    tall = np.zeros((40, 20, 3), np.uint8)
    tall[:, :10] = 255  # its left half; turned a quarter clockwise, the upper one
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(tall).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    drawn = rgb(draw(Cutout(picture=tmp_path / "photo.jpg"), picture("rgb24", 40, 20), nobody()))
    assert drawn[:8].min() > 240 and drawn[-8:].max() < 15


@pytest.mark.parametrize("shape", [(2, 20000), (20000, 2), (1, 1)])
def test_picture_may_be_of_any_shape(tmp_path: Path, shape: tuple[int, int]) -> None:
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[shape[0] * 2 // 5 : shape[0] * 3 // 5 + 1, shape[1] * 2 // 5 : shape[1] * 3 // 5 + 1] = (0, 200, 0)
    Image.fromarray(pixels).save(tmp_path / "long.png")
    drawn = rgb(draw(Cutout(picture=tmp_path / "long.png"), picture("rgb24", 1920, 1080), nobody()))
    assert np.abs(drawn.reshape(-1, 3).astype(int) - (0, 200, 0)).max() <= 2


def test_picture_comes_in_the_frame_s_own_matrix_and_range(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), np.full((32, 32, 3), (0, 0, 255), np.uint8))
    for matrix, full, expected in ((1, False, (63, 102, 240)), (5, True, (76, 85, 255))):
        before = picture("yuv444p", 32, 32)
        before.colorspace, before.color_range = matrix, 2 if full else 1
        drawn = planes(draw(Cutout(picture=tmp_path / "red.png"), before, objects()))
        for plane, value in zip(drawn, expected, strict=True):
            assert np.abs(plane.astype(int) - value).max() <= 2


def test_ten_bit_stays_ten_bit() -> None:
    drawn = draw(Cutout(background="white"), picture("yuv420p10le"), objects())
    assert drawn.format.name == "yuv420p10le"
    assert [int(plane[0, 0]) for plane in planes(drawn)] == [940, 512, 512]


@pytest.mark.parametrize("background", ["whit", "#fff", "#12345g", ""])
def test_wrong_colour_is_refused(background: str) -> None:
    with pytest.raises(UsageError, match="cutout: background: expected black, white"):
        Cutout(background=background)


def test_picture_that_cannot_be_read_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    for path in (tmp_path / "missing.png", tmp_path / "text.png", tmp_path / "empty.png", tmp_path):
        with pytest.raises(UsageError, match=r"cutout: picture: expected a picture file, got .*"):
            Cutout(picture=path)


def test_colour_and_picture_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a background or a picture, got both"):
        Cutout(background="red", picture=tmp_path / "x.png")
