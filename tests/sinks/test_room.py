"""What holds for every sink that writes a file or a folder: its name, its overwriting, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from streamseg import plugins, rooms
from streamseg.types import Frame, OutputError, Result, Sink, StreamInfo, UsageError
from tests import fakes
from tests.clips import numbered_picture
from tests.contract import entry
from tests.sinks.written import decode

NAMES = [name for name in rooms.names("sinks") if rooms.said("sinks", name).on_disk]


@dataclass(frozen=True)
class Output:
    """The name of a sink's output, and how many results a reader finds in it."""

    name: str
    count: Callable[[Path], int]


OUTPUTS = {
    "gif": Output("clip.gif", lambda path: len(decode(path))),
    "image_folder": Output("pictures", lambda path: len(list(path.iterdir()))),
    "jsonl": Output("clip.jsonl", lambda path: len(path.read_text().splitlines())),
    "video_file": Output("clip.mp4", lambda path: len(decode(path))),
}
"""Sink -> its output. A new sink adds its own."""

INFO = StreamInfo("made", 64, 48, Fraction(1, 10), Fraction(10))


def output(name: str) -> Output:
    what = "the name of its output, and a function that counts the results in one"
    return entry(OUTPUTS, name, room="sinks", called="OUTPUTS", what=what)


def final(name: str, folder: Path) -> Path:
    return folder / output(name).name


def made(name: str, folder: Path, *, overwrite: bool = False) -> Sink:
    sink: Sink = plugins.build("sinks", name, {"path": final(name, folder), "overwrite": overwrite})
    return sink


def result(index: int, *, width: int = 64, height: int = 48) -> Result:
    picture = numbered_picture(index, width=width, height=height)
    picture.pts, picture.time_base = index, Fraction(1, 10)
    return Result(Frame(picture, index, index / 10, 0.0, "made"), fakes.instances(0.9))


def write(sink: Sink, count: int) -> None:
    with sink:
        sink.start(INFO)
        for each in map(result, range(count)):
            sink.write(each.frame.picture, each)


def contents(path: Path) -> dict[str, bytes]:
    """What lies there, by name: of a file itself, of a folder everything in it."""
    files = [path] if path.is_file() else path.rglob("*")
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_output_has_its_final_name_only_once_it_is_complete(name: str, tmp_path: Path) -> None:
    sink = made(name, tmp_path)
    assert isinstance(sink, Sink)
    with sink:
        sink.start(INFO)
        for each in map(result, range(3)):
            sink.write(each.frame.picture, each)
            assert sink.path.exists() and ".part" in sink.path.name and not final(name, tmp_path).exists()
    assert sink.path == final(name, tmp_path) and [*tmp_path.iterdir()] == [sink.path]
    assert output(name).count(sink.path) == 3 and all(isinstance(note, str) for note in sink.notes)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [0, 2])
def test_after_an_exception_nothing_has_the_final_name(name: str, count: int, tmp_path: Path) -> None:
    sink = made(name, tmp_path)
    with pytest.raises(ZeroDivisionError), sink:
        sink.start(INFO)
        for each in map(result, range(count)):
            sink.write(each.frame.picture, each)
        raise ZeroDivisionError
    assert not final(name, tmp_path).exists()
    assert [*tmp_path.iterdir()] == ([sink.path] if count else [])


@pytest.mark.parametrize("name", NAMES)
def test_a_part_that_was_left_behind_is_no_hindrance(name: str, tmp_path: Path) -> None:
    with suppress(ZeroDivisionError), made(name, tmp_path) as sink:
        sink.start(INFO)
        sink.write(result(7).frame.picture, result(7))
        raise ZeroDivisionError
    write(made(name, tmp_path), 2)
    assert [*tmp_path.iterdir()] == [final(name, tmp_path)] and output(name).count(final(name, tmp_path)) == 2


@pytest.mark.parametrize("name", NAMES)
def test_start_comes_before_the_first_write(name: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="start.info. comes before the first write"), made(name, tmp_path) as sink:
        sink.write(result(0).frame.picture, result(0))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_that_never_began_leaves_nothing_and_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="was not written") as error, made(name, tmp_path):
        pass
    assert str(final(name, tmp_path)) in str(error.value) and [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_without_a_frame_leaves_an_empty_output_or_none(name: str, tmp_path: Path) -> None:
    try:
        write(made(name, tmp_path), 0)
    except OutputError as error:
        assert f"{final(name, tmp_path)} was not written" in str(error) and [*tmp_path.iterdir()] == []
    else:
        assert [*tmp_path.iterdir()] == [final(name, tmp_path)] and output(name).count(final(name, tmp_path)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_an_existing_output_is_refused_and_stays(name: str, tmp_path: Path) -> None:
    write(made(name, tmp_path), 2)
    before = contents(final(name, tmp_path))
    with pytest.raises(UsageError, match="--overwrite") as error, made(name, tmp_path):
        pytest.fail("the existing output was not refused")
    assert str(final(name, tmp_path)) in str(error.value)
    assert contents(final(name, tmp_path)) == before and [*tmp_path.iterdir()] == [final(name, tmp_path)]


@pytest.mark.parametrize("name", NAMES)
def test_with_overwrite_the_old_one_stays_whole_until_the_new_one_takes_its_place(name: str, tmp_path: Path) -> None:
    write(made(name, tmp_path), 3)
    before = contents(final(name, tmp_path))
    with made(name, tmp_path, overwrite=True) as sink:
        sink.start(INFO)
        sink.write(result(0).frame.picture, result(0))
        assert contents(final(name, tmp_path)) == before
    assert output(name).count(sink.path) == 1 and [*tmp_path.iterdir()] == [sink.path]


@pytest.mark.parametrize("name", NAMES)
def test_two_results_of_different_size_are_both_written(name: str, tmp_path: Path) -> None:
    with made(name, tmp_path) as sink:
        sink.start(INFO)
        for each in (result(0), result(1, width=32, height=80)):
            sink.write(each.frame.picture, each)
    assert output(name).count(sink.path) == 2


@pytest.mark.parametrize("name", NAMES)
def test_any_folder_that_a_file_may_be_called_is_made(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "Straße" / "街道 100%d: a+b"
    write(made(name, folder), 2)
    assert [*folder.iterdir()] == [final(name, folder)] and output(name).count(final(name, folder)) == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_that_is_written_is_not_changed(name: str, tmp_path: Path) -> None:
    given, untouched = result(0), result(0)
    with made(name, tmp_path) as sink:
        sink.start(INFO)
        sink.write(given.frame.picture, given)
    for plane, expected in zip(given.frame.picture.planes, untouched.frame.picture.planes, strict=True):
        assert bytes(plane) == bytes(expected)
    assert given.frame.picture.pts == 0
