"""Recordings joined of several, as `cat a.ts b.ts` or a disc's .vob, go on where they were joined, with their sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.clips import join_clips, make_clip
from tests.sinks.written import decode, packets, planes, times, write

SECOND_BEGINS = {"again": (0, 0), "back": (500, 0), "overlapping": (0, 1), "hours ahead": (0, 7200)}
"""What the clocks of two clips of two seconds show where they begin; FFmpeg adds a day to one that goes back."""


def recording(tmp_path: Path, begins: tuple[int, int], *, ending: str = "ts", **options: Any) -> Path:
    """Two clips of 50 pictures and a tone, joined; with the sound's codec as `audio`, by default AAC."""
    audio = options.pop("audio", "aac")
    parts = [
        make_clip(
            tmp_path / f"{number}.{ending}",
            num_frames=50,
            audio=audio,
            container_options={"output_ts_offset": str(begin)},
            **options,
        )
        for number, begin in enumerate(begins)
    ]
    return join_clips(tmp_path / f"joined.{ending}", *parts)


@pytest.mark.parametrize("begins", SECOND_BEGINS.values(), ids=SECOND_BEGINS)
@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm"])
def test_sound_and_pictures_go_on_in_step_behind_a_seam(tmp_path: Path, ending: str, begins: tuple[int, int]) -> None:
    joined = recording(tmp_path, begins)
    write(joined, tmp_path / f"out.{ending}")
    shown = times(tmp_path / f"out.{ending}")
    steps = [float(later - earlier) for earlier, later in zip(shown, shown[1:], strict=False)]
    assert len(shown) == 100
    assert min(steps) > 0.038 and max(steps) < 0.1, "no hole, and no picture that is shown for a moment only"
    sound = packets(tmp_path / f"out.{ending}", "audio")
    assert all(later > earlier for (earlier, _), (later, _) in zip(sound, sound[1:], strict=False))
    assert abs(sound[-1][0] - shown[-1]) < Fraction(1, 5)
    if ending != "webm":  # which has it converted
        half = len(sound) // 2
        assert [data for _, data in sound[:half]] == [data for _, data in sound[half:]]
        assert abs((sound[half][0] - shown[50]) - (sound[0][0] - shown[0])) <= Fraction(3, 1000)


@pytest.mark.parametrize("begins", SECOND_BEGINS.values(), ids=SECOND_BEGINS)
def test_a_start_behind_a_seam_is_counted_from_the_first_piece(tmp_path: Path, begins: tuple[int, int]) -> None:
    joined = recording(tmp_path, begins)
    write(joined, tmp_path / "whole.mkv", quality="lossless")
    write(joined, tmp_path / "part.mkv", kept={"start": 3.1}, quality="lossless")
    whole, part = decode(tmp_path / "whole.mkv"), decode(tmp_path / "part.mkv")
    assert 20 <= len(part) <= 24
    for one, other in zip(whole[-len(part) :], part, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(planes(one), planes(other), strict=True))
    sound = packets(tmp_path / "part.mkv", "audio")
    expected = [data for _, data in packets(tmp_path / "whole.mkv", "audio")][-len(sound) :]
    assert [data for _, data in sound] == expected
    assert 0.8 < sound[-1][0] - sound[0][0] < 1


def test_a_disc_with_its_own_sound_goes_on_behind_a_seam(tmp_path: Path) -> None:
    joined = recording(tmp_path, (300, 0), ending="vob", codec="mpeg2video", audio="mp2")
    write(joined, tmp_path / "out.mkv")
    shown, sound = times(tmp_path / "out.mkv"), packets(tmp_path / "out.mkv", "audio")
    assert len(shown) == 100 and 3.9 < shown[-1] < 4.2
    assert abs(sound[-1][0] - shown[-1]) < Fraction(1, 5)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm"])
def test_sound_that_changes_at_a_seam_stays_as_it_was_at_first(tmp_path: Path, ending: str) -> None:
    first = make_clip(tmp_path / "a.ts", num_frames=50, audio="aac")
    second = _at_44100(make_clip(tmp_path / "b.ts", num_frames=50), tmp_path / "c.ts")
    sink = write(join_clips(tmp_path / "joined.ts", first, second), tmp_path / f"out.{ending}")
    assert any("changes its format" in note or "converted to opus" in note for note in sink.notes)
    with av.open(tmp_path / f"out.{ending}") as container:
        frames = list(container.decode(audio=0))
    assert {(frame.sample_rate, frame.layout.name) for frame in frames} == {(48000, "mono")}
    loud = [float(frame.pts * frame.time_base) for frame in frames if np.abs(frame.to_ndarray()).max() > 0.1]
    assert min(loud) < 0.1 and 3.8 < max(loud) < 4.1
    assert len(loud) >= 0.9 * len(frames), "no hole in the sound"


def _at_44100(clip: Path, path: Path) -> Path:
    """The clip with two channels of 440 Hz at 44.1 kHz beside its pictures."""
    with av.open(clip) as source, av.open(path, "w") as output:
        video = output.add_stream_from_template(source.streams.video[0])
        sound = output.add_stream("aac", rate=44100, layout="stereo")
        made: list[Any] = [packet for packet in source.demux(video=0) if packet.dts is not None]
        begin = made[0].pts * made[0].time_base
        for packet in made:
            packet.stream = video
        for start in range(0, 2 * 44100, 1024):
            wave = 0.5 * np.sin(np.arange(start, start + 1024) * 440 * 2 * np.pi / 44100)
            frame = av.AudioFrame.from_ndarray(np.tile(wave.astype(np.float32), (2, 1)), format="fltp", layout="stereo")
            frame.sample_rate, frame.time_base = 44100, Fraction(1, 44100)
            frame.pts = start + round(begin * 44100)
            made += sound.encode(frame)
        made += sound.encode(None)
        for packet in sorted(made, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path
