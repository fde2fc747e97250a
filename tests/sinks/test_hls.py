"""An HLS folder, read as a player reads it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from streamseg.sinks.hls import Hls
from streamseg.types import OutputError, Result, StreamInfo, UsageError
from tests.sinks.test_segments import CAMERA, files_of_at_most, names, put, record, result

FILE = StreamInfo("clip", 64, 48, Fraction(1, 10), Fraction(10))


def pictures(start: float, seconds: float, **size: int) -> list[Result]:
    """Ten a second."""
    return [result(index, start + index / 10, **size) for index in range(round(10 * seconds))]


def playlist(folder: Path) -> list[str]:
    return (folder / "index.m3u8").read_text().splitlines()


def segments(folder: Path) -> list[str]:
    """The names in the playlist."""
    return [line for line in playlist(folder) if not line.startswith("#")]


def played(folder: Path) -> list[av.VideoFrame]:
    """All pictures of the segments in the list, which each can be decoded by itself."""
    found = []
    for name in segments(folder):
        with av.open(str(folder / name)) as container:
            shown = list(container.decode(video=0))
        assert shown[0].key_frame
        found += shown
    return found


def test_each_second_is_a_segment_and_the_list_holds_the_last_ones(tmp_path: Path) -> None:
    with Hls(tmp_path / "web") as sink:
        sink.start(CAMERA)
        for each in pictures(5.0, 12.1):
            put(sink, each)
            present = names(tmp_path / "web")
            assert all(name in present for name in (segments(sink.path.parent) if sink.path.exists() else ()))
    assert len(segments(tmp_path / "web")) == 6 and len(names(tmp_path / "web")) <= 1 + 6 + 5
    assert [line for line in playlist(tmp_path / "web") if "TARGETDURATION" in line] == ["#EXT-X-TARGETDURATION:1"]
    assert "#EXT-X-ENDLIST" not in playlist(tmp_path / "web")
    shown = played(tmp_path / "web")
    assert len(shown) == 5 * 10 + 1 and {(frame.width, frame.height) for frame in shown} == {(64, 48)}
    assert {frame.format.name for frame in shown} == {"yuv420p"}
    # the list itself, as a player reads it that does not wait for more
    with av.open(str(sink.path), options={"live_start_index": "0", "m3u8_hold_counters": "1"}) as container:
        assert len(list(container.decode(video=0))) == len(shown)


def test_a_restart_goes_on_in_the_list_after_a_break(tmp_path: Path) -> None:
    record(Hls(tmp_path), *pictures(0, 2))
    record(Hls(tmp_path), *pictures(0, 2))
    assert segments(tmp_path) == [f"segment{number:06}.ts" for number in range(4)]
    lines = playlist(tmp_path)
    breaks = [index for index, line in enumerate(lines) if line == "#EXT-X-DISCONTINUITY"]
    assert any(lines.index("segment000001.ts") < index < lines.index("segment000002.ts") for index in breaks)


@pytest.mark.parametrize(("start", "size"), [(2.0, {"width": 32, "height": 80}), (3600.0, {})])
def test_a_new_size_and_a_pause_are_a_break(tmp_path: Path, start: float, size: dict[str, int]) -> None:
    record(Hls(tmp_path), *pictures(0, 2), *pictures(start, 2, **size))
    shown = played(tmp_path)
    wanted = (size.get("width", 64), size.get("height", 48))
    assert [(frame.width, frame.height) for frame in shown] == [(64, 48)] * 20 + [wanted] * 20
    assert [line for line in playlist(tmp_path) if "TARGETDURATION" in line] == ["#EXT-X-TARGETDURATION:1"]


def test_a_camera_that_comes_and_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    record(Hls(tmp_path), *(each for hour in range(4) for each in pictures(3600.0 * hour, 12)))
    newest = int(segments(tmp_path)[0][7:13])
    held = sorted(tmp_path.glob("*.ts"))
    assert int(held[0].name[7:13]) >= newest - 6, "and a few that have just left the list"


def test_of_a_file_everything_is_kept_and_the_list_has_an_end(tmp_path: Path) -> None:
    with Hls(tmp_path) as sink:
        sink.start(FILE)
        put(sink, *pictures(0, 20))
    assert playlist(tmp_path)[-1] == "#EXT-X-ENDLIST" and len(played(tmp_path)) == 200
    with pytest.raises(UsageError, match=r"index\.m3u8 exists already; --overwrite"), Hls(tmp_path) as sink:
        sink.start(FILE)
    with Hls(tmp_path, overwrite=True) as sink:
        sink.start(FILE)
        put(sink, *pictures(0, 1))
    assert len(played(tmp_path)) == 10 and len(names(tmp_path)) == 2


def test_whatever_comes_in_goes_out_in_a_form_that_every_browser_plays(tmp_path: Path) -> None:
    from tests.clips import numbered_picture

    for pixel_format in ("yuv422p", "yuv444p10le", "rgb24", "yuvj420p", "gray"):
        each = result(0, 0.0)
        picture = numbered_picture(0, width=33, height=25, pix_fmt=pixel_format)
        with Hls(tmp_path / pixel_format) as sink:
            sink.start(CAMERA)
            sink.write(picture, each)
        (frame,) = played(tmp_path / pixel_format)
        assert (frame.width, frame.height) == (34, 26)
        assert frame.format.name == ("yuvj420p" if pixel_format in ("yuvj420p", "gray") else "yuv420p")


# What goes wrong


def test_a_folder_of_somebody_else_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "index.m3u8").write_text("")
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(UsageError, match=r"expected a folder for HLS alone, but it holds holiday\.jpg"):
        Hls(tmp_path).__enter__()
    with pytest.raises(UsageError, match="expected a folder for the stream, got a file"):
        Hls(tmp_path / "holiday.jpg").__enter__()
    assert names(tmp_path) == ["holiday.jpg", "index.m3u8"]


def test_a_folder_of_somebody_else_is_refused_before_the_first_picture(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"expected a folder for HLS alone, but it holds mine\.txt"):
        Hls(tmp_path)


def test_two_runs_never_write_to_one_folder(tmp_path: Path) -> None:
    with Hls(tmp_path) as first:
        first.start(CAMERA)
        put(first, *pictures(0, 1))
        with pytest.raises(OutputError, match="another run is writing it"):
            Hls(tmp_path).__enter__()
    record(Hls(tmp_path), *pictures(0, 1))


@pytest.mark.parametrize("codec", ["h265", "vp9"])
def test_a_codec_that_browsers_do_not_take_is_refused(codec: str) -> None:
    with pytest.raises(UsageError, match=f"codec {codec}: over HLS goes h264"):
        Hls("web", codec=codec)


PUBLISH = """
import sys, time
from tests.sinks.test_segments import CAMERA, result
from streamseg.sinks.hls import Hls
with Hls(sys.argv[1]) as sink:
    sink.start(CAMERA)
    for index in range(100_000):
        each = result(index, index / 10)
        sink.write(each.frame.picture, each)
        if index == 35:
            print("on air", flush=True)
            sys.stdin.read()
"""


def test_after_a_kill_the_folder_goes_on(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command: list[Any] = [sys.executable, "-c", PUBLISH, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None and child.stdout.readline() == "on air\n"
        assert len(played(tmp_path)) == 30  # readable while it is written
        child.send_signal(signal.SIGKILL)
    record(Hls(tmp_path), *pictures(0, 2))
    assert segments(tmp_path) == [f"segment{number:06}.ts" for number in range(5)]
    assert len(played(tmp_path)) == 50 and not any(name.endswith(".tmp") for name in names(tmp_path))


def test_a_full_disk_is_an_error_after_which_the_same_sink_goes_on(tmp_path: Path) -> None:
    sink = Hls(tmp_path, quality="lossless")
    with files_of_at_most(30_000), pytest.raises(OutputError, match="cannot be written"):
        record(sink, *(replace(each) for each in pictures(0, 20, width=320, height=240)))
    record(sink, *pictures(0, 2))
    assert len(played(tmp_path)) >= 20


def test_a_folder_with_a_per_cent_sign_is_refused_because_ffmpeg_would_write_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cam%02d: expected a folder without %"):
        Hls(tmp_path / "cam%02d")


def test_a_folder_whose_name_is_no_utf_8_is_refused_because_ffmpeg_does_not_find_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"caf\\xe9: expected a folder whose name is UTF-8"):
        Hls(tmp_path / os.fsdecode(b"caf\xe9"))
    assert names(tmp_path) == []
