"""A video in chunks has every frame once, with the number, time and pixels that it has in a reading from the start."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.annotate.chunks import Chunk, Cut, Misfit, Picked, Run, cut
from streamseg.annotate.selection import Selection
from streamseg.sources.video_file import VideoFile
from streamseg.types import InputError
from tests.clips import damage_packets, join_clips, make_clip, make_sound

ALL = Selection()
Seen = tuple[int, float, bytes]


def seen(frames: Any) -> list[Seen]:
    return [(frame.index, frame.time, bytes(frame.picture.planes[0])) for frame in frames]


def whole(path: Path) -> list[Seen]:
    with VideoFile(path, threads=1) as source:
        return seen(source)


def in_runs(path: Path, made: Cut, selection: Selection = ALL, *, length: int = 1) -> list[Seen]:
    """Every run of so many chunks on its own, put together."""
    found: list[Seen] = []
    for first in range(0, len(made.chunks), length):
        run = Run("clip", path, made, first, min(first + length, len(made.chunks)))
        with Picked(run, selection) as source:
            found += seen(source)
    return found


def with_edit_list(path: Path, source: Path) -> Path:
    """A copy that begins in the middle of its first group of pictures, as a camera's clip does that was trimmed."""
    options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with av.open(source) as old, av.open(path, "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None and packet.pts is not None:
                shift = 7 * round(Fraction(1, 25) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                new.mux(packet)
    return path


UNEVEN = [0, 1, 3, 4, 9, 10, 11, 12, 14, 15, 30, 31, 32, 33, 40, 41, 42, 43, 44, 45, 46, 47, 48, 60, 61, 62]
B_FRAMES = {"bf": "3", "preset": "veryfast"}

CLIPS: dict[str, tuple[Callable[[Path], Path], bool]] = {
    "plain": (lambda at: make_clip(at / "a.mp4", num_frames=50, gop=10), True),
    "b-frames": (lambda at: make_clip(at / "a.mp4", num_frames=50, gop=10, options=B_FRAMES, lossless=False), True),
    "open groups": (
        lambda at: make_clip(
            at / "a.mp4",
            num_frames=60,
            gop=10,
            lossless=False,
            options={**B_FRAMES, "x264-params": "open-gop=1:scenecut=0:bframes=3:b-adapt=0"},
        ),
        True,
    ),
    "uneven times": (
        lambda at: make_clip(at / "a.mp4", num_frames=26, gop=5, pts=UNEVEN, time_base=Fraction(1, 25)),
        True,
    ),
    "mkv": (lambda at: make_clip(at / "a.mkv", num_frames=50, rate=30, gop=10, options=B_FRAMES, lossless=False), True),
    "late first time": (
        lambda at: make_clip(
            at / "a.mkv", num_frames=50, gop=10, pts=[n + 77 for n in range(50)], time_base=Fraction(1, 25)
        ),
        True,
    ),
    "transport stream": (
        lambda at: make_clip(at / "a.ts", num_frames=50, gop=10, options=B_FRAMES, lossless=False, audio="aac"),
        True,
    ),
    "vp9": (lambda at: make_clip(at / "a.webm", num_frames=30, gop=10, lossless=False), True),
    "fragments": (
        lambda at: make_clip(
            at / "a.mp4", num_frames=50, gop=10, container_options={"movflags": "frag_keyframe+empty_moov"}
        ),
        True,
    ),
    "edit list": (
        lambda at: with_edit_list(
            at / "b.mp4", make_clip(at / "a.mp4", num_frames=50, gop=10, options=B_FRAMES, lossless=False)
        ),
        True,
    ),
    "bare": (lambda at: make_clip(at / "a.h264", num_frames=30, gop=10), False),
    "two joined": (
        lambda at: join_clips(
            at / "a.ts", *(make_clip(at / f"{n}.ts", num_frames=30, gop=10, lossless=False) for n in range(2))
        ),
        False,
    ),
}
"""Name -> how such a clip is made, and whether it can be cut."""


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_is_in_one_chunk(name: str, tmp_path: Path) -> None:
    make, can_be_cut = CLIPS[name]
    path = make(tmp_path)
    expected, made = whole(path), cut(path, ALL, seconds=0.2)
    assert (len(made.chunks) >= 3) == can_be_cut
    assert [index for index, _, _ in expected] == list(range(len(expected)))
    assert in_runs(path, made) == in_runs(path, made, length=3) == expected


@pytest.mark.parametrize("selection", [Selection(stride=4), Selection(0.3), Selection(1.7)], ids=str)
@pytest.mark.parametrize("name", ["b-frames", "uneven times", "edit list", "transport stream"])
def test_the_selected_frames_are_those_of_the_whole(name: str, selection: Selection, tmp_path: Path) -> None:
    path = CLIPS[name][0](tmp_path)
    with VideoFile(path, threads=1) as source:
        expected = seen(selection.of(source))
    made = cut(path, selection, seconds=0.2)
    assert made.num_selected == len(expected)
    assert in_runs(path, made, selection) == expected
    for number in range(len(made.chunks)):
        with Picked(Run("clip", path, made, number, number + 1), selection) as source:
            assert next(iter(source), None) is not None, "each chunk has a frame"


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_every_frame_is_in_one_chunk_whatever_the_clip(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    tmp_path = tmp_path_factory.mktemp("clip")
    steps = data.draw(st.lists(st.integers(1, 6), min_size=8, max_size=40))
    path = make_clip(
        tmp_path / f"clip{data.draw(st.sampled_from(['.mp4', '.mkv', '.mov', '.ts']))}",
        num_frames=len(steps),
        gop=data.draw(st.integers(2, 12)),
        pts=[sum(steps[:n]) + 30 for n in range(len(steps))],
        time_base=Fraction(1, 30),
        lossless=False,
        options={"bf": str(data.draw(st.integers(0, 3))), "preset": "veryfast"},
    )
    made = cut(path, ALL, seconds=data.draw(st.sampled_from([0.1, 0.4, 1.0])))
    assert in_runs(path, made, length=data.draw(st.integers(1, 3))) == whole(path)


def test_a_constant_rate_is_told_from_an_uneven_one(tmp_path: Path) -> None:
    even = cut(make_clip(tmp_path / "even.mkv", num_frames=40, rate=Fraction(30000, 1001)), ALL, seconds=1)
    assert (even.rate, even.constant_rate, even.num_frames) == (Fraction(30000, 1001), True, 40)
    uneven = cut(CLIPS["uneven times"][0](tmp_path), ALL, seconds=1)
    assert not uneven.constant_rate and float(uneven.rate) == pytest.approx(25 / (62 / 25), abs=0.01)


def test_a_wrong_cut_is_noticed(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", num_frames=30, gop=10)
    made = cut(path, ALL, seconds=0.2)
    for wrong in (Chunk(11, 0.4, 0.36), Chunk(10, 0.41, 0.36)):
        lying = Cut((made.chunks[0], wrong, made.chunks[2]), 30, 30, made.rate, True)
        with pytest.raises(Misfit):
            in_runs(path, lying)
        with pytest.raises(Misfit):
            in_runs(path, lying, length=3)
    with pytest.raises(Misfit, match="expected 31 frames, got 30"):
        in_runs(path, Cut(made.chunks, 31, 31, made.rate, True))
    assert in_runs(path, made.uncut()) == whole(path)


def test_damaged_packets_do_not_stop_the_cutting(tmp_path: Path) -> None:
    path = damage_packets(make_clip(tmp_path / "a.mp4", num_frames=30, gop=10), 12, target=tmp_path / "b.mp4")
    made = cut(path, ALL, seconds=0.2)
    assert len(made.chunks) == 3
    assert len(in_runs(path, made.uncut())) == len(whole(path))


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        cut(tmp_path / "none.mp4", ALL, seconds=1)
    with pytest.raises(InputError, match="expected a video"):
        cut(make_sound(tmp_path / "sound.mp4"), ALL, seconds=1)


def test_a_chunk_of_a_damaged_video_is_the_same_whether_the_one_before_was_read_or_not(tmp_path: Path) -> None:
    """What a decoder shows in the place of what is damaged depends on the pictures that it has seen."""
    whole = make_clip(tmp_path / "whole.mp4", num_frames=80, gop=10, lossless=False, width=128, height=96).read_bytes()
    differ = 0
    for seed in range(12):
        random, data = Random(seed), bytearray(whole)
        for _ in range(8):
            place = random.randrange(len(data) * 3 // 10, len(data) * 8 // 10)
            data[place : place + 30] = random.randbytes(30)
        path = tmp_path / f"{seed}.mp4"
        path.write_bytes(data)
        made = cut(path, Selection(), seconds=0.39)
        for number in range(1, len(made.chunks)):
            alone, after = (_shown(path, made, first, number) for first in (number, number - 1))
            assert alone == after or None in (alone, after)
            differ += alone is not None
    assert differ > 20


def _shown(path: Path, made: Cut, first: int, number: int) -> list[bytes] | None:
    """The pictures of a chunk in a run from `first` on; None where that ends with an error."""
    begin = made.chunks[number].index
    try:
        with Picked(Run("a", path, made, first, number + 1), Selection()) as source:
            return [frame.picture.to_ndarray().tobytes() for frame in source if frame.index >= begin]
    except InputError:
        return None


def test_a_file_that_does_not_say_its_times_has_no_constant_rate_but_a_bare_bitstream_has(tmp_path: Path) -> None:
    times = [5 * index + index % 4 for index in range(35)]
    first = {"container_options": {"movflags": "faststart"}}
    uneven = make_clip(tmp_path / "a.mp4", num_frames=35, rate=20, pts=times, time_base=Fraction(1, 100), **first)
    uneven.write_bytes(uneven.read_bytes()[: uneven.stat().st_size * 7 // 10])
    bare = make_clip(tmp_path / "b.h264", num_frames=12)
    made = {each.name: cut(each, Selection(), seconds=0.39) for each in (uneven, bare)}
    assert {name: each.constant_rate for name, each in made.items()} == {"a.mp4": False, "b.h264": True}
