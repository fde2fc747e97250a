"""Recordings of a live stream: their names, their borders, what stays after a kill and what goes with time."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from streamseg.sinks._segments import Segments, live_sink
from streamseg.types import Frame, OutputError, Result, StreamInfo, UsageError
from tests.clips import numbered_picture
from tests.full_disk import files_of_at_most
from tests.sinks.written import NOTHING, decode, times

CAMERA = StreamInfo("camera", 64, 48, Fraction(1, 90_000), Fraction(10), live=True)
MORNING = 1_795_248_900.0  # 2026-11-21T08:15:00Z
DAY = 86_400.0


class Clock:
    """The time of day of a test."""

    def __init__(self) -> None:
        self.now = MORNING

    def __call__(self) -> float:
        return self.now


def result(
    index: int, at: float, *, width: int = 64, height: int = 48, pts: int | None = None, captured_at: float = math.inf
) -> Result:
    """One picture of the camera, captured this very moment unless said otherwise."""
    picture = numbered_picture(index, width=width, height=height)
    picture.pts, picture.time_base = index if pts is None else pts, Fraction(1, 10)
    return Result(Frame(picture, index, at, captured_at, "camera"), NOTHING)


def recorder(
    path: Path, *, clock: Callable[[], float] = time.time, name: str = "video_file", of_sink: Any = None, **options: Any
) -> Segments:
    made = live_sink(name, {"path": str(path), **(of_sink or {})}, clock=clock, **options)
    assert isinstance(made, Segments)
    return made


def put(sink: Any, *results: Result) -> None:
    for each in results:
        sink.write(each.frame.picture, each)


def record(sink: Any, *results: Result) -> None:
    with sink:
        sink.start(CAMERA)
        put(sink, *results)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def values(path: Path) -> list[int]:
    """The mean grey of every picture of a recording, which `numbered_picture` makes different."""
    return [round(picture.to_ndarray(format="gray").mean()) for picture in decode(path)]


def num_readable(path: Path) -> int:
    """Pictures of a recording that may break off within one."""
    number = 0
    with av.open(str(path)) as container, suppress(av.FFmpegError):
        for _ in container.decode(video=0):
            number += 1
    return number


# Names and borders


def test_a_recording_is_called_after_its_beginning_in_utc_and_only_at_the_end(tmp_path: Path) -> None:
    sink = recorder(tmp_path / "cam.mp4", clock=Clock())
    with sink:
        sink.start(CAMERA)
        put(sink, result(0, 0.0))
        assert names(tmp_path) == ["cam_2026-11-21T08-15-00Z.part.mp4"]
        assert sink.path == tmp_path / names(tmp_path)[0]
        put(sink, result(1, 0.1))
    assert names(tmp_path) == ["cam_2026-11-21T08-15-00Z.mp4"]
    assert sink.path == tmp_path / names(tmp_path)[0]
    with av.open(str(sink.path)) as container:
        assert container.metadata["creation_time"] == "2026-11-21T08:15:00.000000Z"


def test_the_name_is_the_time_of_the_capture_not_of_the_writing(tmp_path: Path) -> None:
    seen = result(0, 0.0, captured_at=time.monotonic() - 7.5)
    record(recorder(tmp_path / "cam.jsonl", clock=lambda: MORNING + 8.4, name="jsonl"), seen)
    assert names(tmp_path) == ["cam_2026-11-21T08-15-00Z.jsonl"]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_every_picture_is_in_one_segment_and_each_begins_with_a_keyframe(tmp_path: Path, ending: str) -> None:
    clock = Clock()
    sink = recorder(tmp_path / f"cam.{ending}", clock=clock, segment=1, of_sink={"quality": "lossless"})
    with sink:
        sink.start(CAMERA)
        for index in range(25):
            clock.now = MORNING + index / 10
            put(sink, result(index, index / 10))
    segments = sorted(tmp_path.iterdir())
    assert [path.stem[-10:] for path in segments] == ["T08-15-00Z", "T08-15-01Z", "T08-15-02Z"]
    assert [len(decode(path)) for path in segments] == [10, 10, 5]
    record(recorder(tmp_path / "whole.mkv", of_sink={"quality": "lossless"}), *(result(i, i / 10) for i in range(25)))
    whole = next(path for path in tmp_path.iterdir() if path.name.startswith("whole"))
    assert [grey for path in segments for grey in values(path)] == values(whole)
    for path in segments:
        assert decode(path)[0].key_frame and decode(path)[0].pts == 0


def test_pictures_are_timed_by_when_they_came_whatever_their_pts_say(tmp_path: Path) -> None:
    came = [100.0, 100.1, 100.25, 102.0, 102.04]
    pts = [0, 1, 36_000, 5, 6]
    record(
        recorder(tmp_path / "cam.mp4"), *(result(i, at, pts=p) for i, (at, p) in enumerate(zip(came, pts, strict=True)))
    )
    (path,) = tmp_path.iterdir()
    assert times(path) == [Fraction(round((at - 100) * 100), 100) for at in came]


def test_a_new_size_begins_a_segment_whether_it_is_announced_or_not(tmp_path: Path) -> None:
    clock = Clock()
    sink = recorder(tmp_path / "cam.mp4", clock=clock)
    with sink:
        sink.start(CAMERA)
        put(sink, result(0, 0.0), result(1, 0.1))
        clock.now += 1
        sink.resized(StreamInfo("camera", 32, 80, CAMERA.time_base, CAMERA.average_rate, live=True))
        put(sink, result(2, 0.2, width=32, height=80))
        clock.now += 1
        put(sink, result(3, 0.3))
    sizes = [[(frame.width, frame.height) for frame in decode(path)] for path in sorted(tmp_path.iterdir())]
    assert sizes == [[(64, 48)] * 2, [(32, 80)], [(64, 48)]]
    assert sink.notes == []


def test_a_short_pause_stays_in_the_recording_and_a_long_one_ends_it(tmp_path: Path) -> None:
    clock = Clock()
    sink = recorder(tmp_path / "cam.mp4", clock=clock)
    with sink:
        sink.start(CAMERA)
        put(sink, result(0, 0.0), result(1, 4.0))
        clock.now += 3600
        put(sink, result(2, 3600.0))
    early, late = sorted(tmp_path.iterdir())
    assert times(early) == [0, 4] and len(decode(late)) == 1
    assert late.name == "cam_2026-11-21T09-15-00Z.mp4"


def test_two_recordings_of_one_second_have_two_names(tmp_path: Path) -> None:
    for _ in range(3):
        record(recorder(tmp_path / "cam.mp4", clock=Clock()), result(0, 0.0))
    stem = "cam_2026-11-21T08-15-00Z"
    assert names(tmp_path) == sorted([f"{stem}.mp4", f"{stem}_2.mp4", f"{stem}_3.mp4"])


def test_lines_and_pictures_are_cut_in_the_same_way(tmp_path: Path) -> None:
    clock = Clock()
    for name, path in (("jsonl", "cam.jsonl"), ("image_folder", "walk.v2"), ("gif", "cam.gif")):
        sink = recorder(tmp_path / path, clock=clock, name=name, segment=1)
        clock.now = MORNING
        with sink:
            sink.start(CAMERA)
            for index in range(12):
                clock.now = MORNING + index / 10
                put(sink, result(index, index / 10))
    first, second = "_2026-11-21T08-15-00Z", "_2026-11-21T08-15-01Z"
    assert names(tmp_path) == sorted(
        [
            f"{part}{at}{end}"
            for at in (first, second)
            for part, end in (("cam", ".gif"), ("cam", ".jsonl"), ("walk.v2", ""))
        ]
    )
    lines = (tmp_path / f"cam{second}.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [10, 11]
    assert names(tmp_path / f"walk.v2{second}") == ["000010.png", "000011.png"]


def test_what_is_no_file_stays_the_sink_that_it_is() -> None:
    made = live_sink("tests.sinks.test_segments:Elsewhere", {"address": "a"}, segment=60)
    assert isinstance(made, Elsewhere)


class Elsewhere:
    """A sink outside the package that talks to somebody."""

    schemes = ("elsewhere",)

    def __init__(self, address: str) -> None:
        self.address = address

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *exc: object) -> None: ...
    def start(self, info: StreamInfo) -> None: ...
    def write(self, picture: av.VideoFrame, result: Result) -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [({"segment": 0}, "segment: expected 1 second or more, got 0"), ({"keep": -1}, "keep: expected more than 0"),
     ({"of_sink": {"codec": "h246"}}, "no encoder is called 'h246'")],
)  # fmt: skip
def test_a_wrong_option_fails_at_once(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recorder(tmp_path / "cam.mp4", **options)


# What goes wrong

RECORD = """
import sys, time
from pathlib import Path
from tests.sinks.test_segments import recorder, result, CAMERA
path, name = sys.argv[1:]
with recorder(Path(path), name=name) as sink:
    sink.start(CAMERA)
    for index in range(100_000):
        each = result(index, index / 10)
        sink.write(each.frame.picture, each)
        if index == 60:
            print("recording", flush=True)
        if index >= 60:
            time.sleep(0.05)
"""


@contextmanager
def recording_elsewhere(path: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that records until it is killed."""
    command = [sys.executable, "-c", RECORD, str(path), name]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None and child.stdout.readline() == "recording\n"
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("path", "name"), [("cam.mp4", "video_file"), ("cam.mkv", "video_file"), ("cam.jsonl", "jsonl")]
)
def test_what_a_kill_left_is_renamed_at_the_next_start_and_nothing_is_lost(
    tmp_path: Path, path: str, name: str
) -> None:
    with recording_elsewhere(tmp_path / path, name) as child:
        (part,) = tmp_path.iterdir()
        with recorder(tmp_path / path, name=name):  # another run is still writing it
            assert names(tmp_path) == [part.name] and ".part." in part.name
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=20)
    record(recorder(tmp_path / path, name=name), result(0, 0.0))
    killed, new = sorted(tmp_path.iterdir())
    assert killed.name == part.name.replace(".part", "")
    if name == "jsonl":
        assert len(killed.read_text().splitlines()) >= 60 and len(new.read_text().splitlines()) == 1
    else:
        assert len(decode(killed)) >= 20 and len(decode(new)) == 1


def test_what_a_kill_left_never_replaces_a_recording(tmp_path: Path) -> None:
    stem = "cam_2026-11-21T08-15-00Z"
    (tmp_path / f"{stem}.jsonl").write_text("finished\n")
    (tmp_path / f"{stem}.part.jsonl").write_text("left behind\n")
    with recorder(tmp_path / "cam.jsonl", name="jsonl"):
        pass
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"{stem}.jsonl": "finished\n", f"{stem}_2.jsonl": "left behind\n",
    }  # fmt: skip


def test_what_holds_nothing_goes_and_what_is_called_otherwise_stays(tmp_path: Path) -> None:
    for name in ("cam_2026-11-21T08-15-00Z.part.mp4", "cam_2026-11-21T08-15-01Z.part.mp4"):
        (tmp_path / name).write_bytes(b"" if "00Z" in name else b"\0\0\0\x1cftyp")
    others = [
        "cam.part.mp4",
        "cam_late.part.mp4",
        "other_2026-11-21T08-15-00Z.part.mp4",
        "cam_2026-99-99T08-15-00Z.mp4",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    with recorder(tmp_path / "cam.mp4", keep=1):
        pass
    assert names(tmp_path) == sorted(others)


def test_an_error_elsewhere_ends_a_recording_in_order(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), recorder(tmp_path / "cam.mp4", clock=Clock()) as sink:
        sink.start(CAMERA)
        put(sink, result(0, 0.0))
        raise ZeroDivisionError
    assert names(tmp_path) == ["cam_2026-11-21T08-15-00Z.mp4"]


def test_a_full_disk_is_an_error_after_which_the_same_sink_goes_on(tmp_path: Path) -> None:
    sink = recorder(tmp_path / "cam.mp4", of_sink={"quality": "lossless"})
    with files_of_at_most(100_000), pytest.raises(OutputError, match=r"cam_.*\.part\.mp4 cannot be written"):
        record(sink, *(result(index, index / 10, width=320, height=240) for index in range(300)))
    assert len(names(tmp_path)) == 1 and ".part." in names(tmp_path)[0]
    with files_of_at_most(100), pytest.raises(OutputError):
        record(sink, *(result(index, index / 10, width=320, height=240) for index in range(100)))
    record(sink, *(result(index, index / 10) for index in range(5)))
    cut, new = sorted(tmp_path.iterdir())
    assert num_readable(cut) > 10 and num_readable(new) == 5 and ".part." not in cut.name + new.name


def test_on_a_full_disk_old_recordings_make_room(tmp_path: Path) -> None:
    clock = Clock()
    old = tmp_path / "cam_2026-11-13T08-15-00Z.mp4"
    old.write_bytes(bytes(1000))
    os.utime(old, (MORNING - 8 * DAY,) * 2)
    sink = recorder(tmp_path / "cam.mp4", clock=clock, keep=7 * DAY)
    with files_of_at_most(0), pytest.raises(OutputError):
        record(sink, *(result(index, index / 10) for index in range(3)))
    assert not old.exists()


def test_a_folder_that_cannot_be_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/cam\.mp4 cannot be written: (file exists|not a directory)"):
        recorder(tmp_path / "file" / "cam.mp4").__enter__()


# What goes with time


def test_recordings_stay_for_as_long_as_wanted_after_their_end(tmp_path: Path) -> None:
    clock = Clock()
    for age, name in ((8, "cam_2026-11-13T08-15-00Z.mp4"), (6, "cam_2026-11-15T08-15-00Z.mp4"), (9, "cam_old.mp4"),
                      (8, "other_2026-11-13T08-15-00Z.mp4"), (8, "cam_2026-11-13T08-15-00Z.jsonl"),
                      (1, "cam_2026-11-12T08-15-00Z.mp4")):  # fmt: skip
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (MORNING - age * DAY,) * 2)
    before = names(tmp_path)
    record(recorder(tmp_path / "cam.mp4", clock=clock, keep=7 * DAY), result(0, 0.0))
    assert set(before) - set(names(tmp_path)) == {"cam_2026-11-13T08-15-00Z.mp4"}


def test_what_only_is_called_like_a_recording_stays(tmp_path: Path) -> None:
    film, link = tmp_path / "film.mp4", tmp_path / "cam_2026-11-12T08-15-00Z.mp4"
    film.write_text("film")
    link.symlink_to(film)
    (tmp_path / "cam_2026-11-13T08-15-00Z.mp4").mkdir()
    for path in (film, link, tmp_path / "cam_2026-11-13T08-15-00Z.mp4"):
        os.utime(path, (MORNING - 30 * DAY,) * 2, follow_symlinks=False)
    before = set(names(tmp_path))
    record(recorder(tmp_path / "cam.mp4", clock=Clock(), keep=DAY), result(0, 0.0))
    assert before < set(names(tmp_path)) and film.read_text() == "film"


def test_folders_of_pictures_go_with_time_as_well(tmp_path: Path) -> None:
    clock = Clock()
    sink = recorder(tmp_path / "walk", clock=clock, name="image_folder", keep=DAY)
    record(sink, result(0, 0.0))
    for path in tmp_path.iterdir():
        os.utime(path, (MORNING, MORNING))
    clock.now += 2 * DAY
    record(sink, result(0, 0.0))
    assert names(tmp_path) == ["walk_2026-11-23T08-15-00Z"]
