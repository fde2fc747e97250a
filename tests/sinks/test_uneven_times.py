"""Pictures, sound and texts keep their times however far apart they lie, in every container."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamseg.sinks._cues import Cue, Cues
from tests.clips import make_clip
from tests.sinks.written import packets, subtitles, write

MS = Fraction(1, 1000)
TALK = [8000 * (i // 3) + 40 * (i % 3) for i in range(12)]  # three pictures, then eight still seconds
MOTION = [40 * i + 3000 * (i // 25) for i in range(100)]  # a recorder that sleeps while nothing moves
EVEN = [40 * i for i in range(100)]
TEXTS = [(0.5, 1.7, "one"), (2.5, 3.0, "two"), (3.0, 3.4, "three")]


def moved(before: Path, after: Path, kind: str, *, every: int = 1) -> Fraction:
    """The most by which any packet's time, counted from the first picture, is another than it was."""
    found = []
    for path, step in ((before, every), (after, 1)):
        origin = min(time for time, _ in packets(path, "video"))
        found.append([time - origin for time in sorted(time for time, _ in packets(path, kind))][::step])
    assert len(found[0]) == len(found[1])
    return max(abs(one - other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("texts", [(), TEXTS], ids=["", "texts"])
@pytest.mark.parametrize("audio", [None, "aac"])
@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("pts", [TALK, MOTION, EVEN], ids=["talk", "motion", "even"])
def test_still_stretches_stay_as_long_as_they_were(
    tmp_path: Path, pts: list[int], ending: str, audio: str | None, texts: Sequence[tuple[float, float, str]]
) -> None:
    clip = make_clip(
        tmp_path / "in.mkv", num_frames=len(pts), pts=pts, time_base=MS, audio=audio, subtitles=texts, lossless=False
    )
    write(clip, tmp_path / f"out.{ending}")
    assert moved(clip, tmp_path / f"out.{ending}", "video") <= MS
    if audio:
        assert moved(clip, tmp_path / f"out.{ending}", "audio") <= 2 * MS
    if texts:
        assert subtitles(tmp_path / f"out.{ending}") == TEXTS


def test_pictures_left_out_by_a_stride_move_none_of_the_others(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", num_frames=200, audio="aac", lossless=False)
    write(clip, tmp_path / "out.mp4", kept={"stride": 50})
    assert moved(clip, tmp_path / "out.mp4", "video", every=50) <= MS


def test_a_hole_in_the_sound_stays_a_hole(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "whole.mkv", num_frames=200, audio="aac", lossless=False)
    with av.open(clip) as source, av.open(tmp_path / "in.mkv", "w") as output:
        targets = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None and not (packet.stream.type == "audio" and 2 < packet.pts * packet.time_base < 5):
                packet.stream = targets[packet.stream_index]
                output.mux(packet)
    for ending in ("mp4", "mkv"):
        write(tmp_path / "in.mkv", tmp_path / f"out.{ending}")
        assert moved(tmp_path / "in.mkv", tmp_path / f"out.{ending}", "audio") <= 2 * MS


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.sampled_from([20, 40, 40, 40, 333, 1100, 5000]), min_size=3, max_size=40),
    ending=st.sampled_from(["mp4", "mov"]),
    texts=st.booleans(),
)
def test_no_distance_of_pictures_moves_any(tmp_path: Path, steps: list[int], ending: str, texts: bool) -> None:
    pts = [sum(steps[:i]) for i in range(len(steps) + 1)]
    given_texts = [(s, s + 0.7, f"{s}") for s in range(1, pts[-1] // 1000)] if texts else []
    clip = make_clip(
        tmp_path / "in.mkv", num_frames=len(pts), pts=pts, time_base=MS, audio="aac", subtitles=given_texts
    )
    write(clip, tmp_path / f"out.{ending}", overwrite=True)
    assert moved(clip, tmp_path / f"out.{ending}", "video") <= MS
    assert moved(clip, tmp_path / f"out.{ending}", "audio") <= 2 * MS


# Texts that are on screen together


def rolling(path: Path) -> Path:
    """Captions as machines write them, each of two seconds, one every second."""
    texts = [(float(i), i + 2.0, f"line {i}") for i in range(10)]
    return make_clip(path, num_frames=300, audio="aac", subtitles=texts, lossless=False)


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_texts_that_overlap_are_shown_together_at_their_times(tmp_path: Path, ending: str) -> None:
    write(rolling(tmp_path / "in.mkv"), tmp_path / f"out.{ending}")
    expected = [(0.0, 1.0, "line 0")]
    expected += [(float(i), i + 1.0, rf"line {i - 1}\Nline {i}") for i in range(1, 10)]
    assert subtitles(tmp_path / f"out.{ending}") == [*expected, (10.0, 11.0, "line 9")]
    assert length(tmp_path / f"out.{ending}") == pytest.approx(12, abs=0.1)


def test_texts_that_overlap_stay_apart_where_a_container_can_show_both(tmp_path: Path) -> None:
    write(rolling(tmp_path / "in.mkv"), tmp_path / "out.webm")
    assert subtitles(tmp_path / "out.webm") == [(float(i), i + 2.0, f"line {i}") for i in range(10)]


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_text_ends_with_the_kept_part(tmp_path: Path, ending: str) -> None:
    write(rolling(tmp_path / "in.mkv"), tmp_path / f"out.{ending}", kept={"start": 2, "end": 4.5})
    assert max(end for _, end, _ in subtitles(tmp_path / f"out.{ending}")) == pytest.approx(2.5, abs=0.01)
    assert length(tmp_path / f"out.{ending}") == pytest.approx(2.5, abs=0.1)


def length(path: Path) -> float:
    """What a player says that a film lasts, in seconds."""
    with av.open(path) as container:
        assert container.duration is not None
        return container.duration / av.time_base


def sample(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def shown(cues: Sequence[tuple[int, int | None, str]], *, end: int) -> list[tuple[int, int, str]]:
    """What the cues become, with the lines of each piece."""
    pieces, made = [], Cues()
    for start, stop, text in cues:
        pieces += made.add(Cue(start, stop, sample(text)))
    pieces += made.end(end)
    return [(piece.start, piece.end or 0, piece.text[2:].decode()) for piece in pieces]


def test_a_text_without_an_end_is_shown_until_the_next_or_the_end() -> None:
    assert shown([(0, None, "a"), (5, None, "b")], end=9) == [(0, 5, "a"), (5, 9, "b")]


def test_a_text_alone_keeps_its_styles_and_two_together_lose_them() -> None:
    made = Cues()
    styled = sample("a") + b"\0\0\0\x10styl"
    first = made.add(Cue(0, 10, styled)) + made.add(Cue(4, 6, sample("b"))) + made.end(10)
    assert [piece.text for piece in first] == [styled, sample("a\nb"), styled]


spans: Any = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=12)


@given(spans)
def test_at_every_moment_a_piece_shows_the_texts_that_are_on_screen_then(given_spans: list[tuple[int, int]]) -> None:
    cues = sorted((start, start + lasts, f"{number}") for number, (start, lasts) in enumerate(given_spans))
    pieces = shown(cues, end=50)
    assert all(one[1] <= other[0] for one, other in zip(pieces, pieces[1:], strict=False))
    for moment in range(45):
        on_screen = {text for start, end, text in cues if start <= moment < end}
        lines = {line for start, end, text in pieces if start <= moment < end for line in text.split("\n")}
        assert lines == on_screen
