"""What holds for every format: final names only at the end, the same bytes every time, memory that stays."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamseg import plugins, rooms
from streamseg.labels import Format
from streamseg.types import UsageError
from tests.contract import options
from tests.formats import videos

NAMES = rooms.names("formats")

OPTIONS: Mapping[str, Mapping[str, Any]] = {}
"""Format -> the options to make one with, where it has an option without a default."""


def made(name: str) -> Format:
    format: Format = plugins.build("formats", name, options(OPTIONS, name, room="formats"))
    return format


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the saved pictures by its name in the folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".jpg")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_labels_give_the_same_bytes_and_names_stay_as_they_are(name: str, tmp_path: Path) -> None:
    assert isinstance(made(name), Format)
    for folder in (tmp_path / "once", tmp_path / "again"):
        videos.write(made(name), folder, "Straße 雨", "street")
    once = contents(tmp_path / "once")
    assert once and once == contents(tmp_path / "again")
    assert not [file for file in once if ".part" in file]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_has_its_final_name_before_all_is_written(name: str, tmp_path: Path) -> None:
    videos.write(made(name), tmp_path / "whole")
    format = made(name)
    format.open(tmp_path / "half", videos.CLASS_NAMES)
    format.begin(videos.video())
    frames = list(videos.frames(pictures="street"))
    videos.save_pictures(tmp_path / "half", frames)
    for frame in frames:
        format.write(frame)
    format.end()
    assert not contents(tmp_path / "half").keys() & contents(tmp_path / "whole").keys()
    format.discard()
    assert contents(tmp_path / "half") == {}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_there_is_replaced(name: str, tmp_path: Path) -> None:
    videos.write(made(name), tmp_path / "labels", num_frames=5)
    videos.write(made(name), tmp_path / "labels", num_frames=8)
    videos.write(made(name), tmp_path / "fresh", num_frames=8)
    assert contents(tmp_path / "labels") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("name", NAMES)
def test_a_format_of_tracks_counts_the_objects_that_it_leaves_out(name: str, tmp_path: Path) -> None:
    left_out = videos.write(made(name), tmp_path, num_frames=8)
    # the dog in frames 0, 3 and 6
    assert left_out.get("objects without a track", 0) == (3 if made(name).tracks_only else 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_label_of_a_class_that_the_job_has_not_is_refused_in_words(name: str, tmp_path: Path) -> None:
    format = made(name)
    format.open(tmp_path, videos.CLASS_NAMES)
    format.begin(videos.video())
    frames = list(videos.frames(1, pictures="street")) + list(videos.frames(2, pictures="street"))[:1]
    videos.save_pictures(tmp_path, frames)
    wrong = replace(frames[1], index=7, labels=(videos.label(videos.rectangle(1, 2, 9, 9), class_name="persn"),))
    format.write(frames[0])
    with pytest.raises(UsageError) as error:
        format.write(wrong)
    assert str(error.value) == (
        "frame 7: label 'persn' is none of the classes of this job; there is dog, person; did you mean 'person'?"
    )
    format.discard()
    assert contents(tmp_path) == {}


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_memory_does_not_follow_the_number_of_frames(name: str, tmp_path: Path) -> None:
    def peak(num_frames: int) -> int:
        format = made(name)
        format.open(tmp_path / str(num_frames), videos.CLASS_NAMES)
        format.begin(videos.video(num_frames=num_frames))
        frames = list(videos.frames(30, pictures="street" if format.wants_pictures else None))[:-1]
        videos.save_pictures(tmp_path / str(num_frames), frames)
        tracemalloc.start()
        for index in range(num_frames):
            frame = frames[index % len(frames)]
            format.write(type(frame)(index, index / 10, frame.labels, frame.picture))
            if index % 10 == 0:
                gc.collect()  # what nobody holds any more is no memory that grows
        format.end()
        format.close()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(3)  # what is imported late is no memory of frames
    gc.collect()
    gc.freeze()  # what is there already need not be looked through again and again
    few = peak(30)
    # other threads of the process are counted too, and what they hold comes and goes
    grown = next((more for _ in range(4) if (more := peak(240) - few) < 150_000), None)
    assert grown is not None, f"{few} bytes for 30 frames, each time 150 kB more for 240"
