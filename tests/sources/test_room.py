"""What holds for every source: its frames are in order and described before they come, and a wrong input is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamseg import plugins, rooms
from streamseg.types import Frame, InputError, Source
from tests.clips import make_clip, plane_view
from tests.contract import entry

NAMES = rooms.names("sources")


@dataclass(frozen=True)
class Input:
    """What a source can read, what it cannot, and the word by which it names that; each made in an empty folder.

    good: options for 5 pictures of 64×48, 10 a second · wrong: options that are well-formed but lead to no picture ·
    named: what the error must say of those
    """

    good: Callable[[Path], Mapping[str, Any]]
    wrong: Callable[[Path], Mapping[str, Any]]
    named: str


def folder_of_pictures(folder: Path) -> Mapping[str, Any]:
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((48, 64, 3), 40 * number, np.uint8))
    return {"path": folder, "fps": 10}


def folder_of_texts(folder: Path) -> Mapping[str, Any]:
    (folder / "notes").mkdir()
    (folder / "notes" / "1.txt").write_text("no picture")
    return {"path": folder / "notes"}


def video(folder: Path) -> Mapping[str, Any]:
    return {"path": make_clip(folder / "clip.mp4", num_frames=5, rate=10)}


def text(folder: Path) -> Mapping[str, Any]:
    (folder / "text.mp4").write_text("no video")
    return {"path": folder / "text.mp4"}


INPUTS = {
    "image_folder": Input(folder_of_pictures, folder_of_texts, "notes"),
    "test_pattern": Input(
        lambda folder: {"size": "64x48", "fps": 10, "end": 0.5},
        lambda folder: {"fps": 10, "start": 0.42, "end": 0.48, "name": "blink"},
        "blink",
    ),
    "video_file": Input(video, text, "text.mp4"),
}
"""Source -> its inputs. A new source adds its own."""


def inputs(name: str) -> Input:
    what = "an Input: options that give 5 pictures, and options that give none"
    return entry(INPUTS, name, room="sources", called="INPUTS", what=what)


def made(name: str, options: Mapping[str, Any]) -> Source:
    source: Source = plugins.build("sources", name, options)
    return source


def content(frames: list[Frame]) -> list[tuple[int, float, bytes]]:
    """Index, time and samples of each frame, without what pads their rows."""
    pictures = [each.picture for each in frames]
    samples = [b"".join(plane_view(p, i).tobytes() for i in range(len(p.planes))) for p in pictures]
    return [(each.index, each.time, those) for each, those in zip(frames, samples, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_info_describes_the_frames_before_the_first_one_comes(name: str, tmp_path: Path) -> None:
    with made(name, inputs(name).good(tmp_path)) as source:
        info = source.info
        assert isinstance(source, Source)
        assert info.live == rooms.said("sources", name).live
        frames = list(source)
        assert len(frames) == info.num_frames == 5 or info.num_frames is None
        assert {(each.width, each.height, each.stream) for each in frames} == {(64, 48, info.name)}
        assert {each.picture.time_base for each in frames} == {info.time_base} and info.average_rate == 10
        assert {each.pixel_aspect for each in frames} == {float(info.pixel_aspect)}


@pytest.mark.parametrize("name", NAMES)
def test_frames_come_in_order_at_times_that_increase(name: str, tmp_path: Path) -> None:
    with made(name, inputs(name).good(tmp_path)) as source:
        frames = list(source)
    assert [each.index for each in frames] == [0, 1, 2, 3, 4]
    assert [each.time for each in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    for earlier, later in pairwise(frames):
        assert earlier.picture.pts < later.picture.pts and earlier.captured_at <= later.captured_at


@pytest.mark.parametrize("name", NAMES)
def test_an_input_without_fault_is_read_without_a_warning_or_a_drop(name: str, tmp_path: Path) -> None:
    with made(name, inputs(name).good(tmp_path)) as source:
        list(source)
        assert isinstance(source.warnings, Mapping) and dict(source.warnings) == {}
        assert isinstance(source.drops, Mapping) and dict(source.drops) == {}
    assert dict(source.warnings) == {}


@pytest.mark.parametrize("name", [name for name in NAMES if not rooms.said("sources", name).live])
def test_a_second_pass_is_the_same_also_after_one_that_was_cut_short(name: str, tmp_path: Path) -> None:
    source = made(name, inputs(name).good(tmp_path))
    with source:
        first = content(list(source))
    with source:
        next(iter(source))
    with source:
        assert content(list(source)) == first
    assert len({samples for _, _, samples in first}) > 1


@pytest.mark.parametrize("name", NAMES)
def test_a_kept_frame_is_not_changed_by_those_after_it(name: str, tmp_path: Path) -> None:
    with made(name, inputs(name).good(tmp_path)) as source:
        frames = iter(source)
        kept = next(frames)
        before = content([kept])
        list(frames)
    assert content([kept]) == before


@pytest.mark.parametrize("name", NAMES)
def test_outside_of_its_with_block_nothing_is_read(name: str, tmp_path: Path) -> None:
    source = made(name, inputs(name).good(tmp_path))
    with pytest.raises(RuntimeError, match="with"):
        next(iter(source))
    with source:
        pass
    with pytest.raises(RuntimeError, match="with"):
        next(iter(source))


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_input_is_an_error_that_names_it_when_it_is_entered(name: str, tmp_path: Path) -> None:
    source = made(name, inputs(name).wrong(tmp_path))
    with pytest.raises(InputError, match=inputs(name).named), source:
        pytest.fail("the wrong input was not refused")


@pytest.mark.parametrize("name", NAMES)
def test_an_error_of_who_reads_goes_through(name: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), made(name, inputs(name).good(tmp_path)) as source:
        for _ in source:
            raise ZeroDivisionError


@pytest.mark.parametrize("name", [name for name in NAMES if "name" in plugins.option_names("sources", name)])
def test_a_stream_is_called_as_it_is_told(name: str, tmp_path: Path) -> None:
    with made(name, {**inputs(name).good(tmp_path), "name": "yard"}) as source:
        assert source.info.name == "yard" and next(iter(source)).stream == "yard"
