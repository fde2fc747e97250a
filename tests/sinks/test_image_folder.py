"""The image folder sink, by reading its pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamseg.canvas import Canvas
from streamseg.sinks.image_folder import ImageFolder
from streamseg.types import Frame, Instances, OutputError, Result, Sink, StreamInfo, UsageError
from tests.clips import numbered_picture

NOTHING = Instances.empty(("background",))


def write(sink: ImageFolder, indices: list[int], *, path: Path | None = None) -> ImageFolder:
    with sink:
        sink.start(StreamInfo("made", 64, 48, Fraction(1, 25), Fraction(25), path=path))
        for index in indices:
            picture = numbered_picture(index, width=64, height=48)
            sink.write(picture, Result(Frame(picture, index, index / 25, 0.0, "made"), NOTHING))
    return sink


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pictures_carry_the_numbers_of_their_frames_and_their_pixels(tmp_path: Path) -> None:
    sink = write(ImageFolder(tmp_path / "a" / "pictures"), [0, 3, 6])
    assert sink.path == tmp_path / "a" / "pictures"
    assert names(tmp_path / "a") == ["pictures"]
    assert names(sink.path) == ["000000.png", "000003.png", "000006.png"]
    expected = numbered_picture(3, width=64, height=48).to_ndarray(format="bgr24")
    np.testing.assert_array_equal(cv2.imread(str(sink.path / "000003.png")), expected)
    assert isinstance(sink, Sink)


@pytest.mark.parametrize(("width", "height"), [(1280, 48), (64, 578), (64, 48)])
def test_pictures_without_a_matrix_tag_have_the_colours_that_effects_draw_with(
    tmp_path: Path, width: int, height: int
) -> None:
    color = (200, 40, 60)
    canvas = Canvas(numbered_picture(0, width=width, height=height))
    canvas.rectangle(0, 0, width, height, color)
    with ImageFolder(tmp_path / "pictures") as sink:
        sink.start(StreamInfo("made", width, height, Fraction(1, 25), Fraction(25)))
        sink.write(canvas.picture, Result(Frame(canvas.picture, 0, 0.0, 0.0, "made"), NOTHING))
    read = cv2.imread(str(tmp_path / "pictures" / "000000.png"))[:, :, ::-1].astype(int)
    assert np.abs(read - color).max() <= 3
    model_input = Frame(canvas.picture, 0, 0.0, 0.0, "made").rgb(width // 2, height // 2).astype(int)
    assert np.abs(model_input - color).max() <= 3


def test_jpg_is_close(tmp_path: Path) -> None:
    write(ImageFolder(tmp_path / "pictures", format="jpg"), [0])
    read = cv2.imread(str(tmp_path / "pictures" / "000000.jpg")).astype(int)
    expected = numbered_picture(0, width=64, height=48).to_ndarray(format="bgr24")
    assert np.abs(read - expected).mean() < 6


def test_error_leaves_the_part_folder(tmp_path: Path) -> None:
    sink = ImageFolder(tmp_path / "pictures")
    with pytest.raises(RuntimeError), sink:
        sink.start(StreamInfo("made", 64, 48, Fraction(1, 25), Fraction(25)))
        picture = numbered_picture(0, width=64, height=48)
        sink.write(picture, Result(Frame(picture, 0, 0.0, 0.0, "made"), NOTHING))
        raise RuntimeError
    assert names(tmp_path) == ["pictures.part"] and names(sink.path) == ["000000.png"]
    write(ImageFolder(tmp_path / "pictures"), [5])
    assert names(tmp_path / "pictures") == ["000005.png"], "the next run replaces a stale part"


def test_folder_with_something_in_it_is_refused_unless_asked(tmp_path: Path) -> None:
    write(ImageFolder(tmp_path / "pictures"), [0, 1])
    (tmp_path / "pictures" / "notes.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not empty; --overwrite"):
        write(ImageFolder(tmp_path / "pictures"), [7])
    write(ImageFolder(tmp_path / "pictures", overwrite=True), [7])
    assert names(tmp_path / "pictures") == ["000007.png", "notes.txt"]


@pytest.mark.parametrize("empty_before", [False, True])
def test_pictures_that_appear_in_the_folder_meanwhile_stay(tmp_path: Path, empty_before: bool) -> None:
    final = tmp_path / "pictures"
    if empty_before:
        final.mkdir()
    sink = ImageFolder(final)
    with pytest.raises(OutputError, match=r"pictures was filled .*; the new pictures are in .*pictures\.part"), sink:
        sink.start(StreamInfo("made", 64, 48, Fraction(1, 25), Fraction(25)))
        picture = numbered_picture(0, width=64, height=48)
        sink.write(picture, Result(Frame(picture, 0, 0.0, 0.0, "made"), NOTHING))
        final.mkdir(exist_ok=True)
        (final / "000000.png").write_bytes(b"precious")
    assert (final / "000000.png").read_bytes() == b"precious" and names(final) == ["000000.png"]
    assert sink.path == tmp_path / "pictures.part" and names(sink.path) == ["000000.png"]


def test_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    write(ImageFolder(tmp_path / "pictures"), [0])
    assert names(tmp_path / "pictures") == ["000000.png"]


def test_folder_of_the_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "000000.png").write_bytes(b"precious")
    for path in (tmp_path, tmp_path / "000000.png"):
        with pytest.raises(UsageError, match="is where the input lies"):
            write(ImageFolder(tmp_path, overwrite=True), [0], path=path)
    assert (tmp_path / "000000.png").read_bytes() == b"precious"


def test_no_picture_at_all_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no picture"):
        write(ImageFolder(tmp_path / "pictures"), [])
    assert names(tmp_path) == []


def test_wrong_options_are_said_at_construction() -> None:
    with pytest.raises(UsageError, match="did you mean 'jpg'"):
        ImageFolder("pictures", format="jpeg")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="quality: expected 1 to 100"):
        ImageFolder("pictures", quality=0)


def test_unwritable_place_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o555)
    code = f"""
import os
from streamseg.sinks.image_folder import ImageFolder
from streamseg.types import OutputError
os.chdir({str(tmp_path)!r})
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    ImageFolder("locked/pictures").__enter__()
except OutputError as error:
    print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, env=os.environ
    )
    assert "pictures cannot be written: permission denied" in said.stdout, said.stderr
