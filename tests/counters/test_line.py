"""A line counts who went through it and is clear of it, once each time, whatever else they do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from streamseg.counters.line import Line
from streamseg.types import UsageError
from tests.counters.walks import HEIGHT, WIDTH, Walk, check, counted, played, result

ACROSS = [0.25, 0.5, 0.75, 0.5]
"""From (320, 360) to (960, 360): `in` is downwards."""


def person(x: float, foot: float, *, height: float = 80.0) -> list[float]:
    """The box of a person of this height; clear of a line is a quarter of it, 20 pixels."""
    return [x - 20, foot - height, x + 20, foot]


def walked(feet: Sequence[tuple[float, float] | None], *, every: float = 0.1, **options: Any) -> Any:
    """What the line says of one person whose foot is at these places, a tenth of a second apart; None: not seen."""
    results = [result(i * every, [] if at is None else [person(*at)]) for i, at in enumerate(feet)]
    return counted(Line(name="gate", ends=ACROSS, **options), results)


def down(*feet: float | None, x: float = 640.0) -> list[tuple[float, float] | None]:
    return [None if foot is None else (x, foot) for foot in feet]


def test_a_crossing_is_one_event_with_all_that_an_audit_needs() -> None:
    said = walked(down(340, 350, 370, 390))
    assert said.totals == {"lines": {"gate": {"person": {"in": 1, "out": 0}}}}
    assert said.events == [
        {
            "event": "line",
            "name": "gate",
            "direction": "in",
            "time": 0.15,  # halfway from 350 to 370
            "track": 1,
            "class": "person",
            "score": 0.9,
            "point": [640.0, 360.0],
        }
    ]


def test_it_counts_in_the_frame_in_which_the_object_is_clear() -> None:
    line = Line(name="gate", ends=ACROSS)
    events = [line.update(result(i / 10, [person(640, foot)]))[1] for i, foot in enumerate((350, 370, 379.9, 380))]
    assert [len(each) for each in events] == [0, 0, 0, 1]


def test_up_is_out_and_a_line_drawn_the_other_way_round_says_the_opposite() -> None:
    assert [event["direction"] for event in walked(down(400, 300)).events] == ["out"]
    other = Line(name="gate", ends=[0.75, 0.5, 0.25, 0.5])
    said = counted(other, [result(i, [person(640, foot)]) for i, foot in enumerate((400, 300))])
    assert said.totals == {"lines": {"gate": {"person": {"in": 1, "out": 0}}}}


def test_before_anybody_crossed_the_line_is_there_with_nothing() -> None:
    assert walked(down(300, 320)).totals == {"lines": {"gate": {}}}


@pytest.mark.parametrize(
    ("feet", "directions"),
    [
        (down(340, 370, 350, 372, 340, 379, 340), []),  # over it, but never clear
        (down(359, 361, 359, 361, 359, 361), []),  # jitter
        (down(340, 360, 360, 360, 361, 359, 360, 340), []),  # a stop on it, then back
        (down(340, 360, 360, 360, 400), ["in"]),
        (down(360, 360, 400, 440), []),  # first seen on it: nobody knows where from
        (down(355, 400), ["in"]),  # where it came from it need not have been clear
        (down(340, 400, 340), ["in", "out"]),
        (down(340, 379, 341, 381, 339), ["in", "out"]),  # clear at 381 and, on its way back, at 339
        (down(340, None, None, None, 400), ["in"]),
    ],
)
def test_only_who_is_clear_of_the_line_on_the_other_side_has_crossed(feet: Any, directions: list[str]) -> None:
    assert [event["direction"] for event in walked(feet).events] == directions


def test_who_passes_beyond_its_ends_has_not_crossed_it_but_is_on_the_other_side() -> None:
    assert walked([(200, 300), (200, 420)]).events == []
    assert walked([(1000, 300), (1000, 420)]).events == []
    around = walked([(200, 300), (200, 420), (640, 420), (640, 300)])
    assert [event["direction"] for event in around.events] == ["out"]
    assert [event["direction"] for event in walked([(310, 340), (330, 380)]).events] == ["in"]  # through its very end


def test_the_step_that_counts_is_the_last_one_over_it() -> None:
    said = walked(down(340, 370, 350, 370, 390))
    assert [event["time"] for event in said.events] == [0.25]
    past_the_end = walked([(640, 340), (640, 370), (640, 350), (200, 350), (200, 370), (200, 390)])
    assert past_the_end.events == []


def test_from_a_stop_on_the_line_the_moment_of_leaving_counts() -> None:
    assert [event["time"] for event in walked(down(340, 360, 360, 360, 400)).events] == [0.3]


def test_over_a_gap_the_step_is_taken_as_straight_and_even() -> None:
    (event,) = walked([(600, 320), None, None, None, (680, 400)]).events
    assert (event["time"], event["point"]) == (0.2, [640.0, 360.0])


def test_who_was_not_seen_for_longer_than_the_patience_begins_anew() -> None:
    away: list[tuple[float, float] | None] = [None] * 21
    assert walked([*down(340), *away, *down(400)]).events == []
    assert len(walked([*down(340), *away[2:], *down(400)]).events) == 1
    assert len(walked([*down(340), *away, *down(400)], patience=5).events) == 1


def test_frames_may_be_further_apart_than_the_patience() -> None:
    assert len(walked(down(300, 340, 400), every=10).events) == 1


def test_tracks_do_not_go_on_where_time_steps_back_or_the_picture_gets_another_size() -> None:
    line = Line(name="gate", ends=ACROSS)
    assert counted(line, [result(5, [person(640, 300)]), result(0, [person(640, 420)])]).events == []
    assert counted(line, [result(1, [person(640, 300)])]).events[0]["direction"] == "out"  # since that
    line = Line(name="gate", ends=ACROSS)
    small = result(1, [person(320, 210)], size=(WIDTH // 2, HEIGHT // 2))
    assert counted(line, [result(0, [person(640, 300)]), small]).events == []
    there = result(2, [person(320, 140)], size=(WIDTH // 2, HEIGHT // 2))
    assert counted(line, [there]).events[0]["point"] == [320, 180]  # the line has moved with the picture


def test_only_confirmed_tracks_of_the_classes_asked_for_count() -> None:
    boxes = [[person(500, foot), person(640, foot), person(800, foot)] for foot in (340, 400)]
    results = [result(i, each, tracks=[-1, 4, 5], class_ids=[1, 1, 2]) for i, each in enumerate(boxes)]
    assert counted(Line(name="gate", ends=ACROSS), results).totals["lines"]["gate"] == {
        "person": {"in": 1, "out": 0},
        "dog": {"in": 1, "out": 0},
    }
    dogs = counted(Line(name="gate", ends=ACROSS, classes=["dog"]), results)
    assert dogs.totals["lines"]["gate"] == {"dog": {"in": 1, "out": 0}}
    assert [event["track"] for event in dogs.events] == [5]


def test_the_centre_of_the_mask_may_count_instead_of_the_foot() -> None:
    boxes = [person(640, foot) for foot in (360, 420)]  # the middle of the body from 320 to 380
    results = [result(i, [box]) for i, box in enumerate(boxes)]
    (event,) = counted(Line(name="gate", ends=ACROSS, point="centre"), results).events
    assert event["time"] == pytest.approx(2 / 3, abs=1e-6)
    head = np.zeros((1, 28, 28), np.float32)
    head[:, :7] = 1  # only the upper quarter is visible, whose middle goes from 290 to 350
    assert (
        counted(
            Line(name="gate", ends=ACROSS, point="centre"), [result(i, [b], masks=head) for i, b in enumerate(boxes)]
        ).events
        == []
    )


def test_a_box_that_is_nowhere_is_not_there() -> None:
    nowhere = [float("nan")] * 4
    results = [result(i, [box]) for i, box in enumerate((person(640, 340), nowhere, person(640, 400)))]
    assert len(counted(Line(name="gate", ends=ACROSS), results).events) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ends": [0, 0, 2, 0]}, "line gate: expected shares of the picture from 0 to 1, got 2"),
        ({"point": "feet"}, "line gate: point: 'feet' is not possible; there is centre, foot"),
        ({"patience": -1}, "line gate: patience: expected seconds, 0 or more, got -1"),
        ({"patience": float("nan")}, "line gate: patience: expected seconds"),
    ],
)
def test_what_is_impossible_is_refused_by_the_line_s_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Line(**{"name": "gate", "ends": ACROSS, **options})


# A thousand walks whose crossings are known before they are walked.

SLANTED = [0.3, 0.35, 0.62, 0.7]
A, B = (np.array(SLANTED).reshape(2, 2) * (WIDTH, HEIGHT)).astype(float)
LENGTH = float(np.hypot(*(B - A)))
ALONG = (B - A) / LENGTH
INWARDS = np.array([-ALONG[1], ALONG[0]])
JITTER = 0.04

Chance = np.random.Generator
Way = tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray], float]
"""Across the line in heights of the object and along it in lengths of the line, both of the time; and its duration."""


def through(chance: Chance) -> tuple[Way, list[tuple[float, float]]]:
    """Straight through: +1 once."""
    return straight(chance, at=chance.uniform(0.1, 0.9)), [(1, 4.0)]


def beyond(chance: Chance) -> tuple[Way, list[tuple[float, float]]]:
    """Straight past one of its ends."""
    return straight(chance, at=chance.choice([chance.uniform(-0.6, -0.15), chance.uniform(1.15, 1.6)])), []


def straight(chance: Chance, *, at: float) -> Way:
    speed, drift = chance.uniform(0.5, 2), chance.uniform(-0.03, 0.03)
    return (lambda t: speed * (t - 4), lambda t: at + drift * (t - 4), 8.0)


def turn(peak: float, speed: float, at: float) -> Way:
    """Up to `peak` heights beyond the line and back again, at 4 s."""
    return (lambda t: peak - speed * np.abs(t - 4), lambda t: np.full_like(t, at), 8.0)


def shallow_turn(chance: Chance) -> tuple[Way, list[tuple[float, float]]]:
    return turn(chance.uniform(-0.05, 0.18), chance.uniform(0.3, 1), chance.uniform(0.1, 0.9)), []


def deep_turn(chance: Chance) -> tuple[Way, list[tuple[float, float]]]:
    peak, speed = chance.uniform(0.5, 1), chance.uniform(0.5, 1)
    back = peak / speed
    return turn(peak, speed, chance.uniform(0.1, 0.9)), [(1, 4 - back), (-1, 4 + back)]


def stop(chance: Chance, onwards: float) -> Way:
    """Stands on the line from 3 s to 5 s, then goes on with that many heights a second."""
    speed, at = chance.uniform(0.5, 2), chance.uniform(0.1, 0.9)
    return (
        lambda t: np.where(t < 3, speed * (t - 3), np.where(t > 5, onwards * (t - 5), 0)),
        lambda t: np.full_like(t, at),
        8.0,
    )


def stop_and_on(chance: Chance) -> tuple[Way, list[tuple[float, float]]]:
    return stop(chance, chance.uniform(0.5, 2)), [(1, 4.0)]


def stop_and_back(chance: Chance) -> tuple[Way, list[tuple[float, float]]]:
    return stop(chance, -chance.uniform(0.5, 2)), []


def around(chance: Chance) -> tuple[Way, list[tuple[float, float]]]:
    """Around one end and back through the line: only that is a crossing, at three quarters of the circle's time."""
    end, wide, high = chance.choice([0, 1]), chance.uniform(0.2, 0.5), chance.uniform(0.6, 2)
    outwards = 1 if end else -1
    return (
        lambda t: high * np.sin((t / 8 - 0.25) * 2 * np.pi),
        lambda t: end + outwards * wide * np.cos((t / 8 - 0.25) * 2 * np.pi),
        8.0,
    ), [(-1, 6.0)]


WAYS = [through, beyond, shallow_turn, deep_turn, stop_and_on, stop_and_back, around]


def walks(num: int, times: np.ndarray, *, seed: int) -> list[Walk]:
    """That many objects one after the other, each on one of the ways, jittering, from either side, some hidden."""
    chance = np.random.default_rng(seed)
    return [one_walk(chance, times) for _ in range(num)]


def one_walk(chance: Chance, times: np.ndarray) -> Walk:
    make = WAYS[chance.integers(len(WAYS))]
    (across, along, seconds), crossings = make(chance)
    side, start, height = chance.choice([-1, 1]), chance.uniform(0, times[-1] - 9), chance.uniform(60, 160)
    frames = np.flatnonzero((times >= start) & (times < start + seconds))
    shown = times[frames] - start
    unconfirmed = 0
    if make is through and chance.random() < 0.6:
        kind = chance.integers(3)
        if kind == 0:  # hidden while it crosses, found again in time
            frames = frames[np.abs(shown - 4 + chance.uniform(-0.3, 0.3)) > chance.uniform(0.2, 0.6)]
        elif kind == 1:  # hidden for too long: another track begins, under the same number here
            frames, crossings = frames[np.abs(shown - 4) > 1.6], []
        else:  # confirmed only when it is over it and clear of it
            unconfirmed, crossings = int((shown < 5.5).sum()), []
        shown = times[frames] - start
    noise = chance.uniform(-JITTER, JITTER, (len(frames), 2))
    v, u = side * across(shown) + noise[:, 0], along(shown) * LENGTH + noise[:, 1] * height
    feet = A + u[:, None] * ALONG + (v * height)[:, None] * INWARDS
    heights = height * chance.uniform(0.97, 1.03, len(frames))
    boxes = np.stack([feet[:, 0] - 25, feet[:, 1] - heights, feet[:, 0] + 25, feet[:, 1]], axis=1)
    # by how much jitter can move the moment: 0.04 heights at half a height a second, and it is seen a frame apart
    about = 1.2 if make in (stop_and_on,) else 2 * JITTER / 0.5 + float(np.diff(times).max()) + 0.05
    expected = [("in" if sign * side > 0 else "out", start + t - about, start + t + about) for sign, t in crossings]
    return Walk(frames, boxes, expected, unconfirmed)


def uneven(seconds: float, *, seed: int) -> np.ndarray:
    """Times as of a camera whose rate changes: 4 to 30 frames a second."""
    return np.cumsum(np.random.default_rng(seed).uniform(1 / 30, 1 / 4, int(seconds * 7)))


@pytest.mark.parametrize(
    "times",
    [np.arange(0, 150, 1 / 5), np.arange(0, 150, 1 / 12.5), np.arange(0, 150, 1001 / 30000), uneven(150, seed=1)],
)
def test_a_thousand_walks_are_counted_exactly(times: np.ndarray) -> None:
    made = walks(1000, times, seed=len(times))
    said = counted(Line(name="gate", ends=SLANTED), played(made, times, cells=2))
    check(made, said)
    expected = [direction for walk in made for direction, *_ in walk.expected]
    assert said.totals["lines"]["gate"]["person"] == {way: expected.count(way) for way in ("in", "out")}
    assert min(expected.count("in"), expected.count("out")) > 250
    assert all(on_the_line(*event["point"]) for event in said.events)


def on_the_line(x: float, y: float) -> bool:
    u, v = (np.array([x, y]) - A) @ ALONG, (np.array([x, y]) - A) @ INWARDS
    return bool(abs(v) < 0.2 and -0.2 <= u <= LENGTH + 0.2)


# A slow, obvious twin: every frame looks back at all of the way.


def crossings_of(feet: list[tuple[float, float, float]], clear: float) -> list[tuple[str, float]]:
    """Direction and time of each crossing of the line ACROSS by somebody who was at these (time, x, y)."""
    found, home, since = [], 0, 0
    for now, (_, _, y) in enumerate(feet):
        side = (y > 360) - (y < 360)
        home = home or side
        if side != -home or not side or abs(y - 360) < clear:
            continue
        before = max(i for i in range(since, now) if (feet[i][2] - 360) * home > 0)
        on = before
        while feet[on + 1][2] == 360:
            on += 1
        (t1, x1, y1), (t2, x2, y2) = feet[on], feet[on + 1]
        share = (360 - y1) / (y2 - y1)
        if 320 <= x1 + share * (x2 - x1) <= 960:
            found.append(("in" if side > 0 else "out", round(t1 + share * (t2 - t1), 6)))
        home, since = side, now
    return found


@pytest.mark.parametrize("seed", range(40))
def test_any_way_is_counted_as_by_looking_back_at_all_of_it(seed: int) -> None:
    chance = np.random.default_rng(seed)
    steps = chance.choice([-30, -15, -5, 0, 0, 5, 15, 30], (400, 2)) * (4, 1)
    steps[:, 1] -= np.sign(np.cumsum(steps[:, 1])) * (chance.random(400) < 0.3) * 5  # it keeps near the line
    ways = np.cumsum(steps, axis=0) + (330, 360)
    feet = [(i / 8, float(x), float(y)) for i, (x, y) in enumerate(ways) if i % 9 or i % 2]
    said = counted(Line(name="gate", ends=ACROSS), [result(t, [person(x, y)]) for t, x, y in feet])
    assert [(event["direction"], event["time"]) for event in said.events] == crossings_of(feet, 20)


def test_a_restart_anywhere_changes_nothing() -> None:
    times = np.arange(0, 20, 1 / 10)
    results = list(played(walks(60, times, seed=5), times, cells=2))
    whole, parts, chance = Line(name="gate", ends=SLANTED), Line(name="gate", ends=SLANTED), np.random.default_rng(0)
    for each in results:
        if chance.random() < 0.2:
            parts, before = Line(name="gate", ends=SLANTED), parts
            parts.restore(json.loads(json.dumps(before.state())))
        assert parts.update(each) == whole.update(each)
    assert whole.totals()["lines"]["gate"]["person"]["in"] > 5


def test_what_was_counted_before_a_restart_is_counted_on_by_new_tracks() -> None:
    before, after = Line(name="gate", ends=ACROSS), Line(name="gate", ends=ACROSS)
    counted(before, [result(i, [person(640, foot)]) for i, foot in enumerate((340, 400, 420, 340))])
    after.restore(before.state())
    said = counted(after, [result(i / 10, [person(640, foot)]) for i, foot in enumerate((400, 420))])
    assert said.events == []  # the same number, but another person
    assert said.totals == {"lines": {"gate": {"person": {"in": 1, "out": 1}}}}


def test_what_it_remembers_does_not_grow_with_the_stream() -> None:
    line = Line(name="gate", ends=ACROSS)
    for i in range(2000):
        line.update(result(i / 10, [person(640, 340)], tracks=[i + 1]))
    assert len(line.state()["tracks"]) < 25
