"""What comes out is what went in, but for what was drawn: pixels, pictures, times and sound."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import streamseg
from streamseg.sources.test_pattern import TestPattern
from tests.clips import make_clip
from tests.end_to_end.command import WALKER, num_pictures, packets, pictures, planes, run, times


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p10le"])
def test_lossless_output_is_the_drawn_planes_bit_for_bit_and_splash_keeps_the_luma(here: Path, pix_fmt: str) -> None:
    clip = make_clip(here / "clip.mkv", width=96, height=64, num_frames=6, pix_fmt=pix_fmt)
    drawn = [
        (planes(result.picture), result)
        for result in streamseg.run(clip, engine=WALKER[1], effects=["splash:classes=person"])
        if result.picture
    ]
    run(clip, "--effect", "splash:classes=person", "--quality", "lossless")
    written, source = pictures("clip_splash.mkv"), pictures(clip)
    assert len(drawn) == len(written) == len(source) == 6
    assert {picture.format.name.replace("j", "") for picture in written} == {pix_fmt.replace("j", "")}
    grey = 512 if "10" in pix_fmt else 128
    for (wanted, result), got, given in zip(drawn, map(planes, written), map(planes, source), strict=True):
        for plane, expected in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(plane, expected)
        np.testing.assert_array_equal(got[0], given[0])
        x1, y1, x2, y2 = result.instances.of("person").boxes[0]
        (rows, columns), (h, w) = got[1].shape, got[0].shape
        centre = round((y1 + y2) / 2 * rows / h), round((x1 + x2) / 2 * columns / w)
        for number in (1, 2):
            assert got[number][centre] == given[number][centre]  # of the person: its own colour
            assert got[number][-1, -1] == got[number][0, 0] == grey  # of the dog and of the world: none
            assert given[number][0, 0] != grey


def test_overlay_and_labels_are_written_as_they_were_drawn(here: Path) -> None:
    clip = make_clip(here / "clip.mp4", width=160, height=120, num_frames=4)
    effects = ["overlay", "labels", "counts"]
    drawn = [planes(r.picture) for r in streamseg.run(clip, engine=WALKER[1], effects=effects) if r.picture]
    run(clip, *(f"--effect={name}" for name in effects), "--quality", "lossless", "-o", "out.mp4")
    for picture, expected in zip(pictures("out.mp4"), drawn, strict=True):
        for plane, wanted in zip(planes(picture), expected, strict=True):
            np.testing.assert_array_equal(plane, wanted)


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_uneven_times_sound_tags_and_chapters_go_through(here: Path, ending: str) -> None:
    stamps = [0, 30, 90, 100, 180, 240, 250, 400, 401, 480]
    tags = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}
    options: dict[str, Any] = {
        "pts": stamps,
        "time_base": Fraction(1, 600),
        "audio": "aac",
        "tags": tags,
        "pixel_aspect": Fraction(4, 3),
        "metadata": {"title": "a walk"},
    }
    clip = make_clip(here / f"clip{ending}", **options)
    run(clip, "--effect", "splash", "-o", f"out{ending}")
    tick = 0 if ending == ".mp4" else Fraction(1, 1000)
    for wanted, got in zip(times(clip), times(f"out{ending}"), strict=True):
        assert abs(got - wanted) <= tick
    assert [data for _, data in packets(f"out{ending}", "audio")] == [data for _, data in packets(clip, "audio")]
    first = pictures(f"out{ending}")[0]
    assert {tag: getattr(first, tag) for tag in tags} == tags


def test_dog_keeps_its_sound_packet_for_packet_and_every_picture_its_time(here: Path, shared_data: Path) -> None:
    clip = shared_data / "videos" / "01_dog.mp4"
    said = run(clip, "--effect", "splash", "--preset", "ultrafast", "-o", "dog.mp4", "--json")
    assert json.loads(said.stdout)["frames"] == {"read": 289, "written": 289, "dropped": {}}
    assert times("dog.mp4") == times(clip) and len(times(clip)) == 289
    assert packets("dog.mp4", "audio") == packets(clip, "audio") != []
    assert num_pictures("dog.mp4") == 289


def test_the_splash_of_the_embedded_model_leaves_every_luma_sample_alone(here: Path, embedded_model: str) -> None:
    splash = ("--effect", "splash", "--quality", "lossless", "-o", "out.mp4")
    run("test:320x180@10", "--end", "0.5", "--model", embedded_model, *splash, engine=())
    with TestPattern(size="320x180", fps=10, end=0.5) as source:
        given = [planes(frame.picture) for frame in source]
    drawn = [planes(picture) for picture in pictures("out.mp4")]
    assert len(drawn) == len(given) == 5
    for one, other in zip(drawn, given, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        for drained, full in zip(one[1:], other[1:], strict=True):  # towards grey, never beyond
            assert (np.abs(drained.astype(int) - 128) <= np.abs(full.astype(int) - 128)).all()


def test_replay_draws_the_same_within_one_grey_level(here: Path) -> None:
    clip = make_clip(here / "clip.mp4", width=160, height=120, num_frames=8)
    draw = ("--effect", "overlay", "--effect", "labels", "--quality", "lossless")
    run(clip, *draw, "-o", "first.mp4", "-o", "found.jsonl")
    run(clip, *draw, "-o", "again.mp4", engine=("--engine", "replay:path=found.jsonl"))
    given, changed = pictures(clip), False
    for one, other, source in zip(pictures("first.mp4"), pictures("again.mp4"), given, strict=True):
        for a, b, untouched in zip(planes(one), planes(other), planes(source), strict=True):
            assert np.abs(a.astype(int) - b).max() <= 1
            changed |= bool((a != untouched).any())
    assert changed
