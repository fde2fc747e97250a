"""What holds for every source: its frames are in order and described, and a wrong input is named.

Sources of files and live ones are held to a list each: only a file is described when it is entered, and ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamseg import plugins, rooms
from streamseg.types import Frame, InputError, LiveSource, Source, SourceState
from tests.clips import make_clip, plane_view
from tests.contract import entry
from tests.live import needs
from tests.sources.http_camera import HttpCamera

LIVE = [name for name in rooms.names("sources") if rooms.said("sources", name).live]
NAMES = [name for name in rooms.names("sources") if name not in LIVE]


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
"""Source of files -> its inputs. A new source adds its own."""


@dataclass(frozen=True)
class Place:
    """Where a live source finds a camera, and where there is none.

    camera: options for pictures of 64×48 without end, about 20 a second, while the `with` block lasts, in an empty
    folder · nothing: options that are well-formed and lead to no camera · cause: words of the state that this is
    """

    camera: Callable[[Path], AbstractContextManager[Mapping[str, Any]]]
    nothing: Mapping[str, Any]
    cause: str


@contextmanager
def at_an_address(folder: Path) -> Iterator[Mapping[str, Any]]:
    with HttpCamera(folder) as camera:
        yield {"url": camera.url("/mjpeg")}


@contextmanager
def drawn_by_ffmpeg(folder: Path) -> Iterator[Mapping[str, Any]]:
    yield {"device": "testsrc=size=64x48:rate=20,realtime", "format": "lavfi"}


@contextmanager
def drawn_by_gstreamer(folder: Path) -> Iterator[Mapping[str, Any]]:
    caps = "video/x-raw,format=I420,width=64,height=48,framerate=20/1"
    yield {"launch": f"videotestsrc is-live=true ! {caps} ! appsink"}


PLACES = {
    "camera": Place(drawn_by_ffmpeg, {"device": "/dev/video-none"}, "no such device"),
    "gst": Place(drawn_by_gstreamer, {"launch": "rtsp://127.0.0.1:1/none"}, "Could not open resource"),
    "rtsp": Place(at_an_address, {"url": "rtsp://127.0.0.1:1/none"}, "connection refused"),
}
"""Live source -> its place. A new one adds its own."""


def place(name: str) -> Place:
    if name == "gst":
        needs.gstreamer()
    return entry(PLACES, name, room="sources", called="PLACES", what="a Place: a camera, and where there is none")


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
        assert isinstance(source, Source) and not info.live
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


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", rooms.names("sources"))
def test_outside_of_its_with_block_nothing_is_read(name: str, tmp_path: Path) -> None:
    source = made(name, place(name).nothing if name in LIVE else inputs(name).good(tmp_path))
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


def living(name: str, options: Mapping[str, Any]) -> LiveSource:
    source: LiveSource = plugins.build("sources", name, options)
    return source


def num_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("name", LIVE)
def test_what_lives_says_how_it_is_and_describes_itself_by_its_first_frame(name: str, tmp_path: Path) -> None:
    states: list[SourceState] = []
    with place(name).camera(tmp_path) as options:
        source = living(name, options)
        source.on_state = states.append
        assert source.state.name == "connecting"
        with source:
            assert states == [] and source.state.name == "connecting"
            frames = list(islice(source, 5))
    assert isinstance(source, LiveSource) and isinstance(source, Source)
    assert [each.name for each in states] == ["connecting", "live"] and source.state == states[-1]
    info = source.info
    assert info.live and info.num_frames is None and info.path is None and info.average_rate > 0
    assert {(each.width, each.height, each.stream) for each in frames} == {(64, 48, info.name)}
    assert (info.width, info.height) == (64, 48)
    assert {each.picture.time_base for each in frames} == {info.time_base}
    assert {each.pixel_aspect for each in frames} == {float(info.pixel_aspect)}
    assert dict(source.warnings) == {} and dict(source.drops) == {}


@pytest.mark.parametrize("name", LIVE)
def test_live_frames_come_in_order_at_times_that_increase_and_stay_as_they_are(name: str, tmp_path: Path) -> None:
    with place(name).camera(tmp_path) as options, living(name, options) as source:
        frames = iter(source)
        kept = next(frames)
        before = content([kept])
        following = list(islice(frames, 5))
        assert content([kept]) == before
    assert kept.time == 0 and [each.index for each in (kept, *following)] == [0, 1, 2, 3, 4, 5]
    for earlier, later in pairwise([kept, *following]):
        assert earlier.time < later.time and earlier.picture.pts < later.picture.pts
        assert earlier.captured_at <= later.captured_at
    assert len({samples for _, _, samples in content(following)}) > 1


@pytest.mark.parametrize("name", LIVE)
def test_an_absent_camera_is_a_state_and_with_a_limit_of_attempts_an_error(name: str) -> None:
    source = living(name, {**place(name).nothing, "attempts": 1})
    with source, pytest.raises(InputError, match=place(name).cause):
        next(iter(source))
    assert source.state.name == "lost" and place(name).cause in source.state.cause


def interrupted(source: LiveSource) -> list[Frame]:
    """The frames until another thread interrupts, once the source knows how it is."""
    told = threading.Event()
    frames: list[Frame] = []

    def read() -> None:
        with source:
            frames.extend(source)

    source.on_state = lambda state: told.set() if state.name != "connecting" else None
    reader = threading.Thread(target=read)
    reader.start()
    assert told.wait(20)
    source.interrupt()
    reader.join(20)
    assert not reader.is_alive()
    return frames


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("present", [True, False])
def test_an_interruption_from_another_thread_ends_it_and_leaves_nothing_open(
    name: str, present: bool, tmp_path: Path
) -> None:
    with place(name).camera(tmp_path) as there:
        options = there if present else place(name).nothing
        interrupted(living(name, options))  # the first one also opens what a library keeps
        descriptors = num_descriptors()
        assert bool(interrupted(living(name, options))) <= present
        # a server that lives in this process lets go of its end in its own time
        assert num_descriptors() <= descriptors + 1


@pytest.mark.parametrize("name", LIVE)
def test_an_error_of_who_watches_goes_through(name: str, tmp_path: Path) -> None:
    with place(name).camera(tmp_path) as options, pytest.raises(ZeroDivisionError), living(name, options) as source:
        for _ in source:
            raise ZeroDivisionError


@pytest.mark.parametrize("name", LIVE)
def test_a_live_stream_is_called_as_it_is_told(name: str, tmp_path: Path) -> None:
    with place(name).camera(tmp_path) as options, living(name, {**options, "name": "yard"}) as source:
        assert next(iter(source)).stream == "yard" and source.info.name == "yard"
