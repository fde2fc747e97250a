"""A file is a picture by its ending where everything that reads pictures can read it."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from streamseg.datasets._picture_files import decoded, picture_size, read_mask
from streamseg.pictures import ENDINGS, is_picture, why_no_stream
from streamseg.sources.image_folder import ImageFolder
from streamseg.types import InputError


def picture_of(path: Path) -> Path:
    """A picture of 32×16 pixels, its left half nearly white, its right half nearly black."""
    pixels = np.full((16, 32, 3), 10, np.uint8)
    pixels[:, :16] = 240
    picture = Image.fromarray(pixels)
    (picture.convert("1", dither=Image.Dither.NONE) if path.suffix == ".pbm" else picture).save(path)
    return path


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_a_picture_of_every_ending_is_read_by_a_run_and_by_a_training(tmp_path: Path, ending: str) -> None:
    path = picture_of(tmp_path / f"a{ending}")
    with ImageFolder(tmp_path) as source:
        (frame,) = source
    assert (frame.width, frame.height) == picture_size(path) == (32, 16)
    read = decoded(path, cv2.IMREAD_COLOR)
    assert read is not None
    for pixels in (frame.rgb(32, 16), read):
        assert pixels[:, :12].min() > 200 and pixels[:, 20:].max() < 60


def test_a_picture_whose_name_is_no_utf_8_is_read_by_a_training(tmp_path: Path) -> None:
    path = picture_of(tmp_path / os.fsdecode(b"kamera\xe4.png"))
    read = decoded(path, cv2.IMREAD_GRAYSCALE)
    assert read is not None and read.shape == (16, 32)


@pytest.mark.parametrize("name", ["a.gif", "a.mp4", "._a.png", "a"])
def test_clips_and_hidden_files_are_no_pictures(name: str) -> None:
    assert not is_picture(Path(name))


def test_what_no_stream_can_be_made_of_is_called_by_its_name(tmp_path: Path) -> None:
    colours = [Image.new("RGB", (32, 16), colour) for colour in ("red", "green")]
    colours[0].save(tmp_path / "moving.webp", save_all=True, append_images=colours[1:])
    Image.new("1", (20000, 10000)).save(tmp_path / "huge.png")
    assert "an animated WebP" in str(why_no_stream(tmp_path / "moving.webp"))
    assert (
        why_no_stream(tmp_path / "huge.png") == "it has more than 178 million pixels, the most that a picture may have"
    )
    assert why_no_stream(picture_of(tmp_path / "still.webp")) is None
    with pytest.raises(InputError, match="huge.png: the picture has more than 178 million pixels"):
        picture_size(tmp_path / "huge.png")


def test_a_mask_of_16_bits_is_read_as_one_of_8(tmp_path: Path) -> None:
    for name, most in (("8.png", np.uint8(255)), ("16.png", np.uint16(255)), ("few.png", np.uint16(1))):
        mask = np.zeros((6, 8), type(most))
        mask[2:4, 3:5] = most
        assert cv2.imwrite(str(tmp_path / name), mask)
        assert read_mask(tmp_path / name).sum() == 4
