"""A recording joined of several gets one clock, the same for all of its tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.seams import Seams

VIDEO, AUDIO, TEXT = 0, 1, 2
TICK = Fraction(1, 90_000)


@dataclass
class Packet:
    """What `Seams` looks at of a packet, and the number of the piece that it was made for."""

    stream_index: int
    dts: int | None
    duration: int
    piece: int
    size: int = 100
    time_base: Fraction = TICK

    def __post_init__(self) -> None:
        self.pts = self.dts


def piece(number: int, *, begin: float, seconds: float, audio_later: float = 0.0) -> list[Packet]:
    """25 pictures a second and as long a sound in packets of 21⅓ ms, in the order of their times."""
    video = [Packet(VIDEO, round((begin + i / 25) * 90_000), 3600, number) for i in range(round(seconds * 25))]
    sound = [
        Packet(AUDIO, round((begin + audio_later) * 90_000) + 1920 * i, 1920, number)
        for i in range(int(seconds * 90_000 / 1920))
    ]
    return sorted([*video, *sound], key=lambda packet: packet.dts or 0)


def repaired(packets: Sequence[Packet]) -> tuple[list[Packet], Seams]:
    seams = Seams(dense=[VIDEO, AUDIO])
    done: list[Packet] = []
    for packet in packets:
        done += seams.push(packet)
    return done + seams.flush(), seams


def moved(before: Sequence[Packet], after: Sequence[Packet]) -> list[set[int]]:
    """The ticks by which the packets of each piece were moved."""
    ticks: dict[int, set[int]] = {}
    for old, new in zip(before, after, strict=True):
        assert (old.stream_index, old.piece) == (new.stream_index, new.piece)
        ticks.setdefault(new.piece, set()).add((new.dts or 0) - (old.dts or 0))
    return [ticks[number] for number in sorted(ticks)]


def run(packets: Sequence[Packet]) -> tuple[list[set[int]], list[Packet], Seams]:
    before = [replace(packet) for packet in packets]
    after, seams = repaired(packets)
    return moved(before, after), after, seams


def test_one_recording_is_untouched_and_not_delayed() -> None:
    seams = Seams(dense=[VIDEO, AUDIO])
    for packet in piece(0, begin=7, seconds=2, audio_later=0.3):
        dts = packet.dts
        assert [done.dts for done in seams.push(packet)] == [dts]
    assert seams.num == 0


def test_a_pause_of_eight_minutes_stays() -> None:
    ticks, _, seams = run(piece(0, begin=0, seconds=1) + piece(1, begin=500, seconds=1))
    assert (ticks, seams.num) == ([{0}, {0}], 0)


def test_a_clock_that_starts_again_goes_on_where_the_longer_track_ended() -> None:
    """Pictures end at 1.00 s and sound at 46 * 21⅓ ms, a little before: all of the second piece is 1 s later."""
    ticks, _, seams = run(piece(0, begin=0, seconds=1) + piece(1, begin=0, seconds=1))
    assert (ticks, seams.num) == ([{0}, {90_000}], 1)


def test_a_jump_of_a_day_as_ffmpeg_makes_it_of_a_clock_that_starts_again_is_a_seam() -> None:
    ticks, _, seams = run(piece(0, begin=500, seconds=1) + piece(1, begin=95_443, seconds=1))
    assert (ticks, seams.num) == ([{0}, {-(95_443 - 501) * 90_000}], 1)


def test_pieces_that_overlap_follow_each_other() -> None:
    ticks, _, _ = run(piece(0, begin=0, seconds=2) + piece(1, begin=1.5, seconds=2))
    assert ticks == [{0}, {45_000}]


def test_the_last_packet_of_a_piece_that_comes_late_stays_in_it() -> None:
    """A demuxer hands out a track's packet when its next one begins: here two packets of new sound are earlier."""
    first, second = piece(0, begin=0, seconds=1), piece(1, begin=0, seconds=1, audio_later=-0.1)
    late = next(packet for packet in reversed(first) if packet.stream_index == VIDEO)
    first.remove(late)
    ticks, _, seams = run([*first, *second[:2], late, *second[2:]])
    assert (ticks, seams.num) == ([{0}, {97_320}], 1)


def test_one_wrong_time_among_good_ones_is_no_seam() -> None:
    packets = piece(0, begin=100, seconds=2)
    packets[30].dts = packets[30].pts = 0
    ticks, _, seams = run(packets)
    assert (ticks, seams.num) == ([{0}], 0)


def test_the_last_packet_of_sound_before_a_silent_piece_stays_in_its_own() -> None:
    first, third = piece(0, begin=1, seconds=3), piece(2, begin=1, seconds=3)
    silent = [packet for packet in piece(1, begin=70, seconds=1) if packet.stream_index == VIDEO]
    late = next(packet for packet in reversed(first) if packet.stream_index == AUDIO)
    first.remove(late)
    ticks, _, seams = run([*first, *silent, *third[:1], late, *third[1:]])
    assert (ticks, seams.num) == ([{0}, {0}, {70 * 90_000}], 1)


@pytest.mark.parametrize("ahead", [600, 20_000])
def test_one_time_far_ahead_of_good_ones_is_neither_a_pause_nor_a_seam(ahead: int) -> None:
    packets = piece(0, begin=100, seconds=2)
    wrong = [packet for packet in packets if packet.stream_index == VIDEO][20]
    wrong.dts = (wrong.dts or 0) + ahead * 90_000
    ticks, after, seams = run(packets)
    assert (ticks, seams.num) == ([{0, -ahead * 90_000}], 0)
    shown = [packet.pts for packet in after if packet.stream_index == VIDEO]
    assert shown == [(100 * 25 + i) * 3600 for i in range(50)]


def test_a_pts_hours_from_its_dts_is_no_time() -> None:
    packets = piece(0, begin=100, seconds=1)
    packets[9].pts = 20_000 * 90_000
    _, after, _ = run(packets)
    assert [packet.pts is None for packet in after] == [i == 9 for i in range(len(packets))]


def test_a_text_behind_the_seam_moves_along_though_its_own_clock_goes_forward() -> None:
    texts = [Packet(TEXT, 45_000, 0, 0), Packet(TEXT, 60_000, 0, 1)]
    first, second = piece(0, begin=0, seconds=1), piece(1, begin=0, seconds=1)
    ticks, _, _ = run([*first[:40], texts[0], *first[40:], *second[:50], texts[1], *second[50:]])
    assert ticks == [{0}, {90_000}]


def test_a_piece_of_one_packet_follows_too() -> None:
    ticks, _, seams = run([*piece(0, begin=10, seconds=1), Packet(VIDEO, 0, 3600, 1)])
    assert (ticks, seams.num) == ([{0}, {11 * 90_000}], 1)


def test_packets_without_a_time_keep_their_place() -> None:
    packets = piece(0, begin=0, seconds=1) + piece(1, begin=0, seconds=1)
    for number in (10, 70, 75):
        packets[number].dts = packets[number].pts = None
    before = list(packets)
    after, _ = repaired(packets)
    assert [id(packet) for packet in after] == [id(packet) for packet in before]
    assert after[70].dts is None


pieces = st.lists(
    st.tuples(st.integers(0, 95_000), st.sampled_from([0.5, 1.2]), st.sampled_from([-0.2, 0.0, 0.13])),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(pieces)
def test_every_piece_moves_as_a_whole_and_follows_the_one_before(given_pieces: list[tuple[int, float, float]]) -> None:
    joined: list[Packet] = []
    for number, (begin, seconds, later) in enumerate(given_pieces):
        joined += piece(number, begin=begin, seconds=seconds, audio_later=later)
    ticks, after, seams = run(joined)
    assert all(len(of_piece) == 1 for of_piece in ticks), "sound and pictures stay in step"
    for track in (VIDEO, AUDIO):
        times = [packet.dts or 0 for packet in after if packet.stream_index == track]
        assert all(one < other for one, other in zip(times, times[1:], strict=False))
    for (one, length, _), (other, _, _), number in zip(given_pieces, given_pieces[1:], range(1, 9), strict=False):
        gaps = [
            min(p.dts or 0 for p in after if (p.piece, p.stream_index) == (number, track))
            - max((p.dts or 0) + p.duration for p in after if (p.piece, p.stream_index) == (number - 1, track))
            for track in (VIDEO, AUDIO)
        ]
        if not -0.2 <= other - one - length < 3600:  # else a pause, and it stays
            assert min(gaps) == 0
    assert seams.num <= len(given_pieces) - 1
