"""A zone counts who entered and who left, so that what is in it now is always the difference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from streamseg.counters.zone import Zone
from streamseg.types import UsageError
from tests.counters.walks import HEIGHT, WIDTH, Counted, Walk, check, counted, played, result

SQUARE = [0.25, 0.25, 0.75, 0.25, 0.75, 0.75, 0.25, 0.75]
"""From (320, 180) to (960, 540)."""

LEFT, TOP, RIGHT, BOTTOM = 320.0, 180.0, 960.0, 540.0


def box(share: float, *, side: int = 0, wide: float = 56.0, high: float = 112.0) -> list[float]:
    """A box with this share inside, over the left, right, upper or lower border; above 1 it is further inside."""
    if side < 2:
        x1 = LEFT - wide * (1 - share) if side == 0 else RIGHT - wide * share
        return [x1, 300, x1 + wide, 300 + high]
    y1 = TOP - high * (1 - share) if side == 2 else BOTTOM - high * share
    return [600, y1, 600 + wide, y1 + high]


def stayed(shares: Sequence[float | None], *, every: float = 0.1, **options: Any) -> Counted:
    """What the zone says of one object of which these shares are inside, a tenth of a second apart; None: not seen."""
    results = [result(i * every, [] if share is None else [box(share)]) for i, share in enumerate(shares)]
    return counted(Zone(name="shop", corners=SQUARE, **options), results)


def directions(said: Counted) -> list[str]:
    return [event["direction"] + (" ended" if event.get("ended") else "") for event in said.events]


def test_entering_and_leaving_are_events_with_all_that_an_audit_needs() -> None:
    said = stayed([0, 0.75, 1, 0.75, 0.25])
    common = {"event": "zone", "name": "shop", "track": 1, "class": "person", "score": 0.9}
    assert said.events == [
        common | {"direction": "entered", "time": 0.1, "point": [334.0, 412.0]},
        common | {"direction": "left", "time": 0.4, "point": [306.0, 412.0], "dwell": 0.3},
    ]
    assert said.totals == {"zones": {"shop": {"person": {"now": 0, "entered": 1, "left": 1}}}}


def test_before_anybody_entered_the_zone_is_there_with_nothing() -> None:
    assert stayed([0, 0.25]).totals == {"zones": {"shop": {}}}


@pytest.mark.parametrize(
    ("shares", "happened"),
    [
        ([0, 0.45, 0.4, 0.45, 0], []),  # never half of it
        ([0, 0.5], ["entered"]),
        ([0, 0.75, 0.35, 0.45, 0.35, 0.75], ["entered"]),  # on the border it stays what it was
        ([0, 0.75, 0.25, 0.45, 0.25], ["entered", "left"]),
        ([0, 0.75, 0.25, 0.75, 0.25], ["entered", "left"] * 2),
        ([1, 1], ["entered"]),  # first seen inside
        ([0.4, 0.4, 0], []),  # first seen on the border
        ([0.75, None, None, 0.4, 0], ["entered", "left"]),  # hidden for a while
        ([0, None, 0.75, None, 0], ["entered", "left"]),
    ],
)
def test_who_is_in_with_half_of_it_is_out_below_three_tenths(shares: Any, happened: list[str]) -> None:
    assert directions(stayed(shares)) == happened


def test_who_ends_inside_leaves_when_it_was_last_seen() -> None:
    said = stayed([0, 1, 1, 1, *[None] * 25])
    assert directions(said) == ["entered", "left ended"]
    assert (said.events[1]["time"], said.events[1]["dwell"]) == (0.3, 0.2)
    assert said.totals["zones"]["shop"]["person"] == {"now": 0, "entered": 1, "left": 1}
    assert directions(stayed([1, *[None] * 19])) == ["entered"]  # it may still be found
    assert directions(stayed([1, *[None] * 9], patience=0.5)) == ["entered", "left ended"]


def test_who_comes_back_after_that_enters_again() -> None:
    assert directions(stayed([1, *[None] * 25, 1])) == ["entered", "left ended", "entered"]


def test_frames_may_be_further_apart_than_the_patience() -> None:
    assert directions(stayed([1, 1, 1], every=10)) == ["entered"]


def test_where_time_steps_back_all_leave_at_the_time_of_the_new_clock() -> None:
    zone = Zone(name="shop", corners=SQUARE)
    said = counted(zone, [result(7, [box(1)]), result(9, [box(1)]), result(0, []), result(0.1, [box(1)])])
    assert directions(said) == ["entered", "left ended", "entered"]
    assert (said.events[1]["time"], said.events[1]["dwell"]) == (0, 2)
    assert said.totals["zones"]["shop"]["person"] == {"now": 1, "entered": 2, "left": 1}


def test_in_a_picture_of_another_size_the_zone_is_where_it_was_and_tracks_have_ended() -> None:
    half = np.array(box(1)) / 2
    small = result(1, [half, half - 160], size=(WIDTH // 2, HEIGHT // 2))
    said = counted(Zone(name="shop", corners=SQUARE), [result(0, [box(1)]), small])
    assert directions(said) == ["entered", "left ended", "entered"]


def test_only_confirmed_tracks_of_the_classes_asked_for_count() -> None:
    seen = [result(0, [box(1), box(1), box(1)], tracks=[-1, 4, 5], class_ids=[1, 1, 2])]
    one = {"now": 1, "entered": 1, "left": 0}
    said = counted(Zone(name="shop", corners=SQUARE), seen)
    assert said.totals["zones"]["shop"] == {"person": one, "dog": one}
    assert counted(Zone(name="shop", corners=SQUARE, classes=["dog"]), seen).totals["zones"]["shop"] == {"dog": one}


def test_a_share_is_one_of_the_mask_and_not_of_the_box() -> None:
    left_half = np.zeros((1, 28, 28), np.float32)
    left_half[:, :, :14] = 1
    seen = [result(0, [box(0.5)], masks=left_half), result(1, [box(0.5)], masks=1 - left_half)]
    assert [event["time"] for event in counted(Zone(name="shop", corners=SQUARE), seen).events] == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corners": [0, 0, 1, 1]}, "zone shop: expected three corners or more, got 2"),
        ({"corners": [0, 0, 1, 1, 1, 0, 0, 1]}, "zone shop: expected an outline that does not cross itself"),
        ({"patience": float("inf")}, "zone shop: patience: expected seconds, 0 or more, got inf"),
    ],
)
def test_what_is_impossible_is_refused_by_the_zone_s_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Zone(**{"name": "shop", "corners": SQUARE, **options})


# A thousand stays that are known before they begin: the share inside is a line through a few points in time.

JITTER = 0.03

Stay = tuple[list[tuple[float, float]], list[tuple[str, float]]]
"""Points (seconds, share), and what happens: (direction, seconds)."""


def passing(pace: float) -> Stay:
    """In at its pace, a while inside, out again."""
    return [(0, -0.5), (1.5 * pace, 1), (1.5 * pace + 2, 1), (3 * pace + 2, -0.5)], [
        ("entered", pace),
        ("left", 1.5 * pace + 2 + 0.7 * pace),
    ]


def touching(pace: float) -> Stay:
    """Not quite half of it, and back."""
    return [(0, -0.5), (0.92 * pace, 0.42), (0.92 * pace + 3, 0.42), (1.84 * pace + 3, -0.5)], []


def hesitating(pace: float) -> Stay:
    """In, on the border for long, in, out."""
    low = 1.5 * pace + 0.63 * pace
    points = [(0, -0.5), (1.5 * pace, 1), (low, 0.37), (low + 3, 0.37), (low + 3 + 0.63 * pace, 1)]
    end = points[-1][0]
    return [*points, (end + 1.5 * pace, -0.5)], [("entered", pace), ("left", end + 0.7 * pace)]


def twice(pace: float) -> Stay:
    """In, out to a fifth, in, out."""
    out = 1.5 * pace + 0.8 * pace
    again = out + 0.8 * pace
    points = [(0, -0.5), (1.5 * pace, 1), (out, 0.2), (out + 1, 0.2), (again + 1, 1), (again + 1 + 1.5 * pace, -0.5)]
    happens = [
        ("entered", pace),
        ("left", 2.2 * pace),
        ("entered", out + 1 + 0.3 * pace),
        ("left", again + 1 + 0.7 * pace),
    ]
    return points, happens


def from_inside(pace: float) -> Stay:
    """First seen inside, then out."""
    return [(0, 1), (2, 1), (2 + 1.5 * pace, -0.5)], [("entered", 0), ("left", 2 + 0.7 * pace)]


def to_the_end(pace: float) -> Stay:
    """In, and gone."""
    return [(0, -0.5), (1.5 * pace, 1), (1.5 * pace + 2, 1)], [("entered", pace), ("left ended", 1.5 * pace + 2)]


def on_the_border(pace: float) -> Stay:
    """First seen on the border, then out."""
    return [(0, 0.4), (3, 0.4), (3 + pace, -0.6)], []


STAYS = [passing, touching, hesitating, twice, from_inside, to_the_end, on_the_border]


def stays(num: int, times: np.ndarray, *, seed: int) -> list[Walk]:
    """That many objects, over any border of the zone, jittering, some of them hidden while they are inside."""
    chance = np.random.default_rng(seed)
    return [one_stay(chance, times) for _ in range(num)]


def one_stay(chance: np.random.Generator, times: np.ndarray) -> Walk:
    make = STAYS[chance.integers(len(STAYS))]
    points, happens = make(chance.uniform(0.8, 2))
    at, shares = np.array(points).T
    start = chance.uniform(0, times[-1] - 20)
    frames = np.flatnonzero((times >= start) & (times < start + at[-1]))
    if make is passing and chance.random() < 0.5:
        middle = (at[1] + at[2]) / 2
        if chance.random() < 0.5:  # hidden while inside, and found again in time
            frames = frames[np.abs(times[frames] - start - middle) > chance.uniform(0.2, 0.8)]
        else:  # hidden for longer than the patience
            at[2:] += 2.0
            frames = np.flatnonzero((times >= start) & (times < start + at[-1]))
            frames = frames[np.abs(times[frames] - start - middle - 1) > 1.3]
            away = middle + 1 - 1.3
            happens = [happens[0], ("left ended", away), ("entered", away + 2.6), ("left", happens[1][1] + 2)]
    shown = np.interp(times[frames] - start, at, shares) + chance.uniform(-JITTER, JITTER, len(frames))
    side = int(chance.integers(4))
    boxes = np.array([box(share, side=side) for share in shown])
    frame, early = float(np.diff(times).max()), 2 * JITTER * 2.5
    expected = [
        (way, start + t - early - frame * way.endswith("ended"), start + t + early + frame) for way, t in happens
    ]
    return Walk(frames, boxes, expected)


def uneven(seconds: float, *, seed: int) -> np.ndarray:
    """Times as of a camera whose rate changes: 5 to 30 frames a second."""
    return np.cumsum(np.random.default_rng(seed).uniform(1 / 30, 1 / 5, int(seconds * 8)))


@pytest.mark.parametrize(
    "times",
    [np.arange(0, 150, 1 / 6), np.arange(0, 150, 1 / 12.5), np.arange(0, 150, 1001 / 30000), uneven(150, seed=1)],
)
def test_a_thousand_stays_are_counted_exactly(times: np.ndarray) -> None:
    made = stays(1000, times, seed=len(times))
    said = counted(Zone(name="shop", corners=SQUARE), played(made, times, cells=28))
    entered = sum(way == "entered" for walk in made for way, *_ in walk.expected)
    assert said.totals["zones"]["shop"]["person"] == {"now": 0, "entered": entered, "left": entered} and entered > 500
    for event in said.events:
        if event.get("ended"):
            event["direction"] += " ended"  # type: ignore[index]
    check(made, said)
    for track in range(1, len(made) + 1):
        for came, went in zip(*[iter(said.of(track))] * 2, strict=True):
            assert went["dwell"] == pytest.approx(went["time"] - came["time"], abs=2e-6)


@pytest.mark.parametrize("seed", range(10))
def test_now_is_what_entered_and_did_not_leave_at_any_time(seed: int) -> None:
    chance, zone, inside = np.random.default_rng(seed), Zone(name="shop", corners=SQUARE), set()
    time = 0.0
    for _ in range(300):
        time = 0.0 if chance.random() < 0.02 else time + chance.uniform(0.05, 0.8)
        here = np.flatnonzero(chance.random(8) < 0.6)
        found = result(time, [box(share) for share in chance.uniform(0, 1, len(here))], tracks=here)
        totals, events = zone.update(found)
        for event in events:
            (inside.add if event["direction"] == "entered" else inside.remove)(event["track"])
        numbers = totals["zones"]["shop"].get("person", {"now": 0, "entered": 0, "left": 0})
        assert numbers["now"] == numbers["entered"] - numbers["left"] == len(inside)


def test_a_restart_anywhere_changes_nothing() -> None:
    times = np.arange(0, 40, 1 / 10)
    whole, parts = Zone(name="shop", corners=SQUARE), Zone(name="shop", corners=SQUARE)
    chance = np.random.default_rng(0)
    for each in played(stays(60, times, seed=5), times, cells=4):
        if chance.random() < 0.2:
            parts, before = Zone(name="shop", corners=SQUARE), parts
            parts.restore(json.loads(json.dumps(before.state())))
        assert parts.update(each) == whole.update(each)
    assert whole.totals()["zones"]["shop"]["person"]["left"] > 20


def test_an_object_that_becomes_another_leaves_as_what_it_entered() -> None:
    inside, outside = [box(1)], [box(0)]
    zone = Zone(name="shop", corners=SQUARE)
    walk = [(0.0, inside, 1), (0.1, inside, 2), (0.2, outside, 2)]
    said = counted(zone, [result(time, boxes, class_ids=[class_id]) for time, boxes, class_id in walk])
    assert directions(said) == ["entered", "left"] and {event["class"] for event in said.events} == {"person"}
    assert said.totals["zones"]["shop"] == {"person": {"now": 0, "entered": 1, "left": 1}}


@pytest.mark.parametrize("time", [0, 6, 500])
def test_a_new_run_is_one_whatever_its_first_time(time: float) -> None:
    before, after = Zone(name="shop", corners=SQUARE), Zone(name="shop", corners=SQUARE)
    counted(before, [result(6, [box(1), box(1)])])
    after.restore(json.loads(json.dumps(before.state())))
    after.new_run()
    said = counted(after, [result(time, [box(1)]), result(time + 0.1, [box(1)])])
    assert directions(said) == ["left ended", "left ended", "entered"]
    assert {event["time"] for event in said.events} == {time}


def test_who_was_inside_before_a_restart_has_left_with_the_first_frame_after_it() -> None:
    before, after = Zone(name="shop", corners=SQUARE), Zone(name="shop", corners=SQUARE)
    counted(before, [result(5, [box(1), box(1)]), result(6, [box(1), box(1)])])
    after.restore(before.state())
    assert after.totals()["zones"]["shop"]["person"]["now"] == 2
    said = counted(after, [result(0, [box(1)])])  # track 1 again, but of a new run
    assert directions(said) == ["left ended", "left ended", "entered"]
    assert said.totals["zones"]["shop"]["person"] == {"now": 1, "entered": 3, "left": 2}
