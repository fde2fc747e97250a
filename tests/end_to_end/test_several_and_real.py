"""Several files at once through one engine, the real files of this world, and the summary for other programs."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.clips import make_clip
from tests.end_to_end.command import WALKER, num_pictures, packets, process, run, times

SPLASH = ("--effect", "splash", "--preset", "ultrafast")
STREAM_KEYS = {"frames", "seconds", "fps", "slowest", "stages", "objects", "lines", "zones", "outputs"}
STAGES = {"source", "engine", "tracker", "effects", "sinks"}


def summary(*arguments: str | Path, engine: tuple[str, ...] = WALKER) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(run(*arguments, "--json", engine=engine).stdout)
    return told


# Several at once


def test_two_files_at_once_share_one_engine_and_come_out_as_they_would_alone(here: Path) -> None:
    first = make_clip(here / "first.mp4", num_frames=40, audio="aac")
    second = make_clip(here / "second.mkv", width=96, height=64, num_frames=25, rate=30)
    batches = ("--engine", f"{WALKER[1]}:batch_size=4")
    alone = [
        summary(clip, *SPLASH, "--quality", "lossless", "-o", f"alone/{clip.name}", engine=batches)
        for clip in (first, second)
    ]
    told = summary(first, second, *SPLASH, "--quality", "lossless", "-o", "out/", engine=batches)
    assert {name: stream["frames"]["written"] for name, stream in told["streams"].items()} == {
        "first": 40,
        "second": 25,
    }
    assert [stream["objects"] for stream in told["streams"].values()] == [stream["objects"] for stream in alone]
    for clip, name in ((first, "first_splash.mp4"), (second, "second_splash.mkv")):
        assert packets(here / "out" / name, "video") == packets(here / "alone" / clip.name, "video")
    assert packets("out/first_splash.mp4", "audio") == packets(first, "audio")


def test_more_files_than_may_be_open_are_all_done(here: Path) -> None:
    for number in range(5):
        make_clip(here / f"{number}.mp4", num_frames=5 + number)
    told = summary("*.mp4", *SPLASH, "-o", "out/", "--parallel", "2")
    assert [stream["frames"]["written"] for stream in told["streams"].values()] == [5, 6, 7, 8, 9]
    assert [num_pictures(f"out/{number}_splash.mp4") for number in range(5)] == [5, 6, 7, 8, 9]


def test_two_files_at_once_through_the_embedded_model(here: Path, embedded_model: str) -> None:
    for name, width in (("a", 160), ("b", 176)):
        make_clip(here / f"{name}.mp4", width=width, height=96, num_frames=4)
    told = summary("a.mp4", "b.mp4", *SPLASH, "--model", embedded_model, "-o", "out/", engine=())
    assert [stream["frames"]["written"] for stream in told["streams"].values()] == [4, 4]
    assert [num_pictures(f"out/{name}_splash.mp4") for name in "ab"] == [4, 4]


# Real files


def test_box_with_damaged_slices_and_times_that_run_backwards(here: Path, shared_data: Path) -> None:
    told = summary(shared_data / "videos" / "box.mp4", *SPLASH, "-o", "box.mp4")
    assert told["frames"] == {"read": 455, "written": 455, "dropped": {}}
    assert told["warnings"] == {"timestamps that did not increase, repaired": 231}
    assert num_pictures("box.mp4") == 455
    steps = [b - a for a, b in zip(times("box.mp4"), times("box.mp4")[1:], strict=False)]
    assert min(steps) > 0
    assert packets("box.mp4", "audio") == packets(shared_data / "videos" / "box.mp4", "audio")


def test_tree_whose_header_lies(here: Path, shared_data: Path) -> None:
    told = summary(shared_data / "videos" / "tree.avi", *SPLASH, "-o", "tree.mp4")
    assert told["frames"]["read"] == told["frames"]["written"] == 68 == num_pictures("tree.mp4")


def test_carphone_keeps_the_shape_of_its_pixels(here: Path, shared_data: Path) -> None:
    told = summary(shared_data / "videos" / "carphone_pristine.mp4", *SPLASH, "-o", "out.mp4", "-o", "out.mkv")
    assert told["frames"]["written"] == 120
    for name in ("out.mp4", "out.mkv"):
        with av.open(name) as container:
            assert container.streams.video[0].sample_aspect_ratio == Fraction(128, 117)
    assert times("out.mp4") == times(shared_data / "videos" / "carphone_pristine.mp4")


def test_cockatoo_keeps_its_chroma_and_its_mp3_sound(here: Path, shared_data: Path) -> None:
    clip = shared_data / "videos" / "cockatoo.mp4"
    told = summary(clip, *SPLASH, "--end", "6", "-o", "out.mp4")
    assert told["frames"]["written"] == 120 == num_pictures("out.mp4")
    with av.open("out.mp4") as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv444p"
        assert container.streams.audio[0].codec_context.name.startswith("mp3")
    sound, whole = packets("out.mp4", "audio"), packets(clip, "audio")
    assert sound == whole[: len(sound)] and 5.9 <= sound[-1][0] <= 6
    assert any("yuv444p" in note for note in told["notes"])


# The summary for other programs


def test_json_is_alone_on_stdout_of_a_process_and_matches_its_description(here: Path) -> None:
    make_clip(here / "street.mp4", num_frames=12)
    running = process("street.mp4", *SPLASH, *WALKER, "--json", folder=here)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 0 and stderr == ""
    assert stdout.count("\n") == 1
    told = json.loads(stdout)
    assert set(told) == STREAM_KEYS
    assert told["frames"] == {"read": 12, "written": 12, "dropped": {}}
    assert set(told["stages"]) == STAGES and told["slowest"] in STAGES
    assert (told["objects"], told["lines"], told["zones"]) == ({"person": 1, "dog": 1}, {}, {})
    assert told["outputs"] == ["street_splash.mp4"]
    assert told["fps"] == pytest.approx(12 / told["seconds"], rel=0.1)


def test_json_of_several_streams_has_one_of_these_a_stream(here: Path) -> None:
    for name in "ab":
        make_clip(here / f"{name}.mp4", num_frames=3)
    told = summary("a.mp4", "b.mp4", *SPLASH)
    assert set(told) == {"streams", "seconds"} and set(told["streams"]) == {"a", "b"}
    assert all(set(stream) == STREAM_KEYS for stream in told["streams"].values())


def test_json_tells_of_a_failure_too(here: Path) -> None:
    for names in (["missing.mp4"], ["missing.mp4", "lost.mp4"]):
        ended = run(*names, *SPLASH, "--json", code=1)
        told = json.loads(ended.stdout)
        streams = told.get("streams", {"missing": told})
        assert all("no such file" in stream["error"] for stream in streams.values())
        assert ended.stderr.count("\n") == len(names) == len(streams)
