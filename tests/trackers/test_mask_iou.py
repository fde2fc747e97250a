"""What a viewer may expect of identities: they stay with their objects, nothing blinks, noise is not counted."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg import kept
from streamseg.counters.per_class import PerClass
from streamseg.masks import box_iou
from streamseg.plugins import build
from streamseg.trackers._pairing import assign
from streamseg.trackers._tracks import Tracks
from streamseg.trackers.mask_iou import MaskIou
from streamseg.types import Frame, Instances, Result, Tracker, UsageError

NAMES = ("background", "person", "dog")
WIDTH, HEIGHT, SIDE = 320, 180, 28
few = settings(max_examples=25, deadline=None, derandomize=True)


def picture_of(grey: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(grey, np.uint8), format="gray")


PICTURE = picture_of(np.full((HEIGHT, WIDTH), 128))


def frame_at(time: float, *, picture: av.VideoFrame = PICTURE) -> Frame:
    return Frame(picture=picture, index=0, time=time, captured_at=0.0, stream="test")


def objects(*found: tuple[float, float, float, float, float], class_ids: Sequence[int] | None = None) -> Instances:
    """Full-box masks for (x1, y1, x2, y2, score) each."""
    n = len(found)
    rows = np.array(found, np.float32).reshape(n, 5)
    return Instances(
        boxes=rows[:, :4],
        masks=np.ones((n, SIDE, SIDE), np.float32),
        scores=rows[:, 4],
        class_ids=np.array([1] * n if class_ids is None else class_ids, np.int32),
        track_ids=np.full(n, -1, np.int32),
        class_names=NAMES,
    )


def standing(score: float = 0.9, *, x: float = 100.0) -> Instances:
    return objects((x, 50, x + 30, 140, score))


def nothing() -> Instances:
    return Instances.empty(NAMES)


def ids_of(instances: Instances) -> list[int]:
    return instances.track_ids.tolist()


@dataclass(frozen=True)
class Walker:
    """An ellipse `width` × `height` whose centre is at (x, y) at time 0 and moves `speed` pixels a second."""

    x: float
    y: float
    speed: float
    width: float = 26.0
    height: float = 80.0


ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5


def look(walkers: Iterable[Walker], time: float, *, jitter: np.random.Generator | None = None, hidden=()) -> Instances:
    """What a perfect engine sees of walkers, the last in front: masks of their visible parts, tight boxes round them.

    Whoever shows less than a third is not found; the score falls with what is hidden. hidden: (x1, x2) of pillars.
    """
    walkers = list(walkers)
    owner = np.full((HEIGHT, WIDTH), -1)
    whole = []
    for number, walker in enumerate(walkers):
        x = walker.x + walker.speed * time
        inside = ((COLUMNS - x) / walker.width * 2) ** 2 + ((ROWS - walker.y) / walker.height * 2) ** 2 <= 1
        whole.append(max(1, np.pi / 4 * walker.width * walker.height))
        owner[inside] = number
    for x1, x2 in hidden:
        owner[:, x1:x2] = -1
    boxes, masks, scores = [], [], []
    for number, walker in enumerate(walkers):
        mine = owner == number
        share = mine.sum() / whole[number]
        if share < 1 / 3:
            continue
        rows, columns = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
        if jitter is not None:
            box += jitter.normal(0, 0.015, 4) * walker.height
        at = (np.arange(SIDE) + 0.5) / SIDE
        r = np.clip(box[1] + at * (box[3] - box[1]), 0, HEIGHT - 1).astype(int)
        c = np.clip(box[0] + at * (box[2] - box[0]), 0, WIDTH - 1).astype(int)
        boxes.append(box)
        masks.append(mine[np.ix_(r, c)])
        scores.append(0.3 + 0.65 * min(1, share))
    if not boxes:
        return nothing()
    n = len(boxes)
    return Instances(
        boxes=np.array(boxes, np.float32),
        masks=np.array(masks, np.float32),
        scores=np.array(scores, np.float32),
        class_ids=np.ones(n, np.int32),
        track_ids=np.full(n, -1, np.int32),
        class_names=NAMES,
    )


def nearest_id(tracked: Instances, x: float) -> int:
    centres = tracked.boxes[:, [0, 2]].mean(axis=1)
    return int(tracked.track_ids[np.abs(centres - x).argmin()])


# --- assignment and prediction ---------------------------------------------------------------------------------------


def best_total_by_trying_all(similarity: np.ndarray) -> float:
    if len(similarity) > similarity.shape[1]:
        similarity = similarity.T
    return max(
        sum(row[column] for row, column in zip(similarity, columns, strict=True))
        for columns in itertools.permutations(range(similarity.shape[1]), len(similarity))
    )


@few
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_assignment_is_as_good_as_the_best_of_all_assignments(num_tracks: int, num_detections: int, seed: int) -> None:
    similarity = np.random.default_rng(seed).random((num_tracks, num_detections)).round(1)
    similarity[similarity < 0.3] = 0
    rows, columns = assign(similarity)
    assert len(set(rows)) == len(rows) and len(set(columns)) == len(columns)
    assert (similarity[rows, columns] >= 0.3).all()
    assert similarity[rows, columns].sum() == pytest.approx(best_total_by_trying_all(similarity))


def test_predicting_once_over_a_fifth_of_a_second_equals_twice_over_a_tenth() -> None:
    once, twice = (Tracks.begin(standing(), time=0.0, hits=np.ones(1)) for _ in range(2))
    for tracks in (once, twice):
        tracks.velocity[:] = [[30.0, -10.0]]
        tracks.covariance[:] = 1.5
    once.predict(0.2)
    for _ in range(2):
        twice.predict(0.1)
    np.testing.assert_allclose(once.centre, twice.centre)
    np.testing.assert_allclose(once.covariance, twice.covariance, rtol=0.01)
    np.testing.assert_allclose(once.var_centre, twice.var_centre, rtol=0.01)


def test_velocity_of_a_steady_walker_is_found_whatever_the_frame_rate() -> None:
    for times in (np.arange(0, 2, 0.1), np.arange(0, 2, 1 / 30), np.cumsum([0.02, 0.1, 0.04, 0.2] * 5)):
        tracker = MaskIou()
        for time in times:
            tracker.update(frame_at(time), look([Walker(x=40, y=90, speed=60)], time))
        assert tracker._tracks is not None
        assert tracker._tracks.velocity[0, 0] == pytest.approx(60, abs=3)


# --- identities ------------------------------------------------------------------------------------------------------


@few
@given(
    speeds=st.tuples(st.floats(35, 110), st.floats(35, 110)),
    heights=st.tuples(st.floats(70, 100), st.floats(70, 100)),
    rate=st.sampled_from([10, 15, 25]),
    seed=st.integers(0, 1000),
)
def test_walkers_that_cross_keep_their_ids(
    speeds: tuple[float, float], heights: tuple[float, float], rate: int, seed: int
) -> None:
    # They meet in the middle of the picture after a second.
    walkers = [
        Walker(x=160 - speeds[0], y=90, speed=speeds[0], height=heights[0]),
        Walker(x=160 + speeds[1], y=90, speed=-speeds[1], height=heights[1]),
    ]
    tracker, jitter = MaskIou(), np.random.default_rng(seed)
    tracked = nothing()
    for step in range(int(2 * rate) + 1):
        time = step / rate
        tracked = tracker.update(frame_at(time), look(walkers, time, jitter=jitter))
        if step == 3:
            before = [nearest_id(tracked, walker.x + walker.speed * time) for walker in walkers]
    after = [nearest_id(tracked, walker.x + walker.speed * time) for walker in walkers]
    assert sorted(before) == [1, 2]
    assert after == before
    assert sorted(ids_of(tracked)) == [1, 2]


@few
@given(speed=st.floats(30, 110), pillar=st.integers(20, 45), rate=st.sampled_from([10, 25]), seed=st.integers(0, 1000))
def test_walker_keeps_its_id_behind_a_pillar(speed: float, pillar: int, rate: int, seed: int) -> None:
    if pillar / speed > 1.0:  # hidden for longer than anybody promises
        pillar = int(speed)
    walker = Walker(x=150 - 1.2 * speed, y=90, speed=speed)
    tracker, jitter = MaskIou(), np.random.default_rng(seed)
    seen: set[int] = set()
    duration = 1.2 + (pillar + 30) / speed + 0.8
    for step in range(int(duration * rate)):
        time = step / rate
        tracked = tracker.update(frame_at(time), look([walker], time, jitter=jitter, hidden=[(150, 150 + pillar)]))
        seen |= set(ids_of(tracked))
    assert seen - {-1} == {1}
    assert ids_of(tracked) == [1]


@few
@given(st.lists(st.floats(0.005, 0.2), min_size=8, max_size=30))
def test_variable_frame_rate_does_not_break_tracks(steps: list[float]) -> None:
    tracker, times = MaskIou(), np.cumsum([0.0, *steps])
    walkers = [Walker(x=20, y=90, speed=50), Walker(x=100, y=90, speed=40)]
    for time in times:
        tracked = tracker.update(frame_at(time), look(walkers, time % 4))
        if time > 3.9:
            return
    assert ids_of(tracked) == [1, 2]


def test_objects_that_pass_one_after_another_get_one_id_each() -> None:
    tracker, jitter, rate = MaskIou(), np.random.default_rng(0), 10
    seen: set[int] = set()
    for step in range(6 * 3 * rate):
        time = step / rate
        # One every three seconds, in turn from the left and from the right, in sight for 2.5 seconds.
        number, since = divmod(time, 3)
        walker = Walker(x=-15, y=90, speed=140) if number % 2 == 0 else Walker(x=335, y=90, speed=-140)
        seen |= set(ids_of(tracker.update(frame_at(time), look([walker], since, jitter=jitter))))
    assert seen - {-1} == {1, 2, 3, 4, 5, 6}


def test_one_who_comes_in_where_another_just_left_is_somebody_else() -> None:
    tracker = MaskIou()
    for step in range(40):
        time = step / 10
        leaver, comer = Walker(x=260, y=90, speed=60), Walker(x=455, y=90, speed=-80)  # out at 1.2 s, in at 1.8 s
        tracked = tracker.update(frame_at(time), look([leaver, comer], time))
    assert ids_of(tracked) == [2]


def test_ids_start_at_one_and_are_never_used_again() -> None:
    tracker, seen = MaskIou(), []
    for person in range(5):
        for step in range(10):
            tracked = tracker.update(frame_at(10 * person + step / 10), standing())
            seen.extend(ids_of(tracked))
        for step in range(30):
            assert len(tracker.update(frame_at(10 * person + 2 + step / 10), nothing())) in (0, 1)
    assert set(seen) - {-1} == {1, 2, 3, 4, 5}
    confirmed = [track_id for track_id in seen if track_id > 0]
    assert confirmed == sorted(confirmed)


def test_result_is_sorted_by_track_id_so_that_drawing_order_does_not_flicker() -> None:
    tracker = MaskIou()
    left, right = (20, 50, 50, 140), (200, 50, 230, 140)
    orders = set()
    for step in range(10):
        scores = (0.95, 0.9) if step % 2 else (0.9, 0.95)
        boxes = sorted([(*left, scores[0]), (*right, scores[1])], key=lambda row: -row[4])
        tracked = tracker.update(frame_at(step / 10), objects(*boxes))
        assert ids_of(tracked) == [1, 2]
        orders.add(tuple(tracked.boxes[:, 0].tolist()))
    assert len(orders) == 1


def test_tracks_never_change_class() -> None:
    tracker = MaskIou()
    for step in range(5):
        tracker.update(frame_at(step / 10), standing())
    as_dog = objects((100, 50, 130, 140, 0.99), class_ids=[2])
    for step in range(5, 10):
        tracked = tracker.update(frame_at(step / 10), as_dog)
    assert tracked.names == ["dog"]
    assert ids_of(tracked) == [2]


# --- looks -----------------------------------------------------------------------------------------------------------

DRESSED = ((220, 40, 40), (40, 60, 220))
"""Two people's colours, RGB."""


def in_colour(
    boxes: np.ndarray, colours: Sequence[tuple[int, int, int]] = DRESSED, *, light: float = 1
) -> av.VideoFrame:
    """A grey picture with a rectangle of each colour in its box, the last in front."""
    rgb = np.full((HEIGHT, WIDTH, 3), 120.0)
    for (x1, y1, x2, y2), colour in zip(boxes.round().astype(int), colours, strict=True):
        rgb[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = colour
    return av.VideoFrame.from_ndarray((rgb * light).astype(np.uint8), format="rgb24").reformat(format="yuv420p")


def two_at(left: float, right: float) -> Instances:
    return objects((left, 50, left + 30, 140, 0.9), (right, 50, right + 30, 140, 0.9))


def meeting(*, turn: bool) -> list[tuple[av.VideoFrame, Instances]]:
    """Two walk towards each other for a second, one hides the other for 0.4 s, and they go on, or turn; 25 a second.

    The detections after that come in their order from left to right, whoever they are.
    """
    steps = []
    for step in range(61):
        apart = 100 - 4 * step if step <= 25 else 4 * (step - 25) * (1 if turn else -1)
        both = two_at(145 - apart / 2, 145 + apart / 2)
        seen = both[1:] if 20 <= step <= 30 else both[np.argsort(both.boxes[:, 0])]
        steps.append((in_colour(both.boxes), seen))
    return steps


def colour_of(picture: av.VideoFrame, box: np.ndarray) -> str:
    """Whether what stands in the middle of the box is red or blue."""
    x, y = ((box[:2] + box[2:]) / 2).astype(int)
    red, _, blue = picture.to_ndarray(format="rgb24")[y, x].astype(int)
    return "red" if red > blue else "blue"


@pytest.mark.parametrize("turn", [False, True])
def test_two_who_meet_keep_their_ids_whether_they_pass_or_turn_round(turn: bool) -> None:
    tracker, colours = MaskIou(), dict[int, list[str]]()
    for step, (picture, seen) in enumerate(meeting(turn=turn)):
        tracked = tracker.update(frame_at(step / 25, picture=picture), seen)
        if step < 18 or step > 36:
            for track_id, box in zip(tracked.track_ids.tolist(), tracked.boxes, strict=True):
                colours.setdefault(track_id, []).append(colour_of(picture, box))
    assert colours.keys() == {1, 2}
    assert all(len(set(seen)) == 1 for seen in colours.values())


def test_somebody_else_who_steps_out_beside_one_who_vanishes_does_not_take_his_id() -> None:
    tracker, here, beside = MaskIou(), np.array([[100, 50, 130, 140.0]]), np.array([[114, 50, 144, 140.0]])
    for step in range(10):
        tracker.update(frame_at(step / 10, picture=in_colour(here, DRESSED[:1])), standing(x=100))
    tracked = tracker.update(frame_at(1.0, picture=in_colour(beside, DRESSED[1:])), standing(x=114))
    assert ids_of(tracked) == [1, -1]  # he is held, she is new
    assert tracked.boxes[1, 0] == 114


def test_an_object_stays_itself_when_lights_go_out() -> None:
    tracker, box = MaskIou(), standing().boxes
    for step in range(40):
        picture = in_colour(box, DRESSED[:1], light=1 if step < 20 else 0.25)
        assert ids_of(tracker.update(frame_at(step / 10, picture=picture), standing())) == [1]


@pytest.mark.parametrize("restart_at", [10, 24, 29])
def test_how_objects_look_is_kept_over_a_restart(restart_at: int) -> None:
    whole, part = MaskIou(), MaskIou()
    for step, (picture, seen) in enumerate(meeting(turn=True)):
        if step == restart_at:
            assert part._tracks is not None and part._tracks.looks.any(axis=1).all()
            part = restarted(part)
        frame = frame_at(step / 25, picture=picture)
        assert_same(part.update(frame, seen), whole.update(frame, seen))


# --- loose boxes -----------------------------------------------------------------------------------------------------


def test_a_box_with_a_neighbour_in_it_is_trimmed_and_its_mask_stays_where_it_was() -> None:
    tracker = MaskIou()
    for step in range(20):
        tracker.update(frame_at(step / 10), standing())  # 100 to 130
    loose = objects((100, 50, 170, 140, 0.9))
    loose.masks[:, :, 14:] = 0  # 100 to 135 of it
    tracked = tracker.update(frame_at(2.0), loose)
    x1, _, x2, _ = tracked.boxes[0]
    assert x2 - x1 < 45
    columns = tracked.masks[0].max(axis=0) >= 0.5
    edge = x1 + (np.flatnonzero(columns)[-1] + 1) * (x2 - x1) / SIDE
    assert ids_of(tracked) == [1] and edge == pytest.approx(min(135, x2), abs=2)


def test_an_object_half_hidden_is_returned_whole_with_a_mask_of_what_is_seen() -> None:
    tracker = MaskIou()
    for step in range(20):
        tracker.update(frame_at(step / 10), standing())  # 50 to 140
    tracked = tracker.update(frame_at(2.0), objects((100, 50, 130, 95, 0.9)))
    assert tracked.boxes[0, 3] > 115
    assert tracked.masks[0, 0].max() == 1 and tracked.masks[0, -1].max() == 0


def test_an_object_that_comes_nearer_is_not_trimmed_for_long() -> None:
    tracker = MaskIou()
    for step in range(40):
        half = 15 * (1 + 0.3 * step / 10)  # a third of its first size more each second
        box = (160 - half, 90 - 2 * half, 160 + half, 90 + 2 * half)
        tracked = tracker.update(frame_at(step / 10), objects((*box, 0.9)))
    assert box_iou(tracked.boxes, np.array([box]))[0, 0] > 0.75


# --- confirmed or noise ----------------------------------------------------------------------------------------------


def test_high_scores_of_the_first_frame_are_confirmed_at_once_and_others_by_the_second() -> None:
    tracker = MaskIou(min_score=0.5)
    both = objects((20, 50, 50, 140, 0.75), (200, 50, 230, 140, 0.74))
    assert ids_of(tracker.update(frame_at(0.0), both)) == [1, -1]
    assert ids_of(tracker.update(frame_at(0.1), both)) == [1, 2]


def test_later_a_track_is_confirmed_by_its_third_hit() -> None:
    tracker = MaskIou(min_score=0.5)
    tracker.update(frame_at(0.0), nothing())
    assert [ids_of(tracker.update(frame_at(t), standing(0.9))) for t in (0.1, 0.2, 0.3)] == [[-1], [-1], [1]]


def test_an_uncertain_newcomer_is_drawn_when_it_is_confirmed_and_not_before() -> None:
    tracker = MaskIou(min_score=0.5)
    tracker.update(frame_at(0.0), nothing())
    assert [ids_of(tracker.update(frame_at(t), standing(0.6))) for t in (0.1, 0.2, 0.3)] == [[], [], [1]]


def test_noise_is_never_given_an_id() -> None:
    tracker, noise = MaskIou(min_score=0.5), np.random.default_rng(1)
    tracker.update(frame_at(0.0), nothing())
    for step in range(1, 300):
        x, y = noise.uniform(0, 280), noise.uniform(0, 90)
        tracked = tracker.update(frame_at(step / 25), objects((x, y, x + 12, y + 30, noise.uniform(0.5, 0.99))))
        assert (tracked.track_ids == -1).all()


def test_weak_detections_never_start_a_track_and_are_dropped() -> None:
    tracker = MaskIou(min_score=0.5)
    for step in range(50):
        assert len(tracker.update(frame_at(step / 25), standing(0.49))) == 0
    assert tracker.num_tracks == 0


@pytest.mark.parametrize("rate", [5, 10, 25])
def test_weak_detections_carry_a_track_for_a_second_and_then_it_ends(rate: int) -> None:
    tracker = MaskIou(min_score=0.5)
    for step in range(2 * rate + 1):
        tracker.update(frame_at(step / rate), standing(0.9))
    for step in range(1, rate + 1):
        tracked = tracker.update(frame_at(2 + step / rate), standing(0.06, x=100 + step))
        assert ids_of(tracked) == [1]
        assert tracked.boxes[0, 0] == 100 + step
    # The trust of that second may be spent to within the rounding of times.
    tracker.update(frame_at(3 + 1 / rate), standing(0.06, x=100 + rate))
    assert len(tracker.update(frame_at(3 + 2 / rate), standing(0.06, x=100 + rate))) == 0
    assert tracker.num_tracks == 0


def test_weak_detections_carry_a_track_no_longer_than_confident_ones_did() -> None:
    tracker = MaskIou(min_score=0.5)
    for step in range(4):  # sure of it for 0.3 s, and for a single look more
        tracker.update(frame_at(step / 10), standing(0.9))
    sizes = [len(tracker.update(frame_at(0.4 + step / 10), standing(0.4))) for step in range(7)]
    assert sizes[:3] == [1, 1, 1] and sizes[-1] == 0


def test_a_dip_of_the_score_now_and_then_does_not_end_a_track() -> None:
    tracker = MaskIou(min_score=0.5)
    for step in range(100):
        assert ids_of(tracker.update(frame_at(step / 10), standing(0.4 if step % 20 >= 14 else 0.9))) == [1]


def test_what_is_below_the_weakest_score_is_nothing_at_all() -> None:
    tracker = MaskIou(min_score=0.5)
    for step in range(5):
        tracker.update(frame_at(step / 10), standing(0.9))
    assert ids_of(tracker.update(frame_at(0.5), standing(0.04, x=120))) == [1]  # held where it was
    assert len(tracker.update(frame_at(0.9), standing(0.04, x=120))) == 0


def test_scenery_that_wavers_about_the_score_is_followed_for_a_moment_only() -> None:
    tracker, chance = MaskIou(min_score=0.5), np.random.default_rng(0)
    spans: dict[int, list[float]] = {}
    for step in range(600):
        score = 0.9 if step < 4 else chance.choice([0.6, 0.4], p=[0.3, 0.7])
        for track_id in ids_of(tracker.update(frame_at(step / 10), standing(score))):
            spans.setdefault(track_id, []).append(step / 10)
    lasted = [times[-1] - times[0] for track_id, times in spans.items() if track_id > 0]
    assert lasted and max(lasted) < 3


def test_weak_detection_beside_a_track_is_dropped() -> None:
    tracker = MaskIou(min_score=0.5)
    for step in range(5):
        both = objects((100, 50, 130, 140, 0.9), (100, 50, 128, 138, 0.4), (250, 50, 280, 140, 0.4))
        assert ids_of(tracker.update(frame_at(step / 10), both)) == [1]


def test_min_score_of_none_is_one_half() -> None:
    assert len(MaskIou().update(frame_at(0), standing(0.5))) == 1
    assert len(MaskIou().update(frame_at(0), standing(0.49))) == 0
    assert len(MaskIou(min_score=0.7).update(frame_at(0), standing(0.69))) == 0


# --- misses ----------------------------------------------------------------------------------------------------------


@few
@given(st.integers(0, 2**32 - 1), st.sampled_from([10, 25, 30, 60]))
def test_nothing_blinks_through_misses_of_up_to_three_tenths_of_a_second(seed: int, rate: int) -> None:
    chance = np.random.default_rng(seed)
    tracker, missed_for = MaskIou(), 0
    for step in range(60):
        time = step / rate
        missing = step > 3 and (missed_for + 1) / rate <= 0.3 and chance.random() < 0.5
        missed_for = missed_for + 1 if missing else 0
        walker = Walker(x=40, y=90, speed=30)
        tracked = tracker.update(frame_at(time), nothing() if missing else look([walker], time, jitter=chance))
        assert ids_of(tracked) == [1], f"frame {step}"
        # The mask stays with the walker also while nobody sees him.
        assert tracked.boxes[0, [0, 2]].mean() == pytest.approx(40 + 30 * time, abs=10)


def test_a_missed_object_keeps_its_last_mask_at_its_predicted_place_and_then_goes() -> None:
    tracker = MaskIou(hold=0.3)
    for step in range(11):
        last = look([Walker(x=60, y=90, speed=50)], step / 10)
        tracker.update(frame_at(step / 10), last)
    for time in (1.1, 1.2, 1.3):
        held = tracker.update(frame_at(time), nothing())
        assert ids_of(held) == [1]
        np.testing.assert_array_equal(held.masks, last.masks)
        np.testing.assert_allclose(held.boxes - last.boxes, [[50 * (time - 1.0), 0] * 2], atol=1.5)
        assert held.scores[0] == last.scores[0]
    assert len(tracker.update(frame_at(1.4), nothing())) == 0


@pytest.mark.parametrize(("seconds_away", "expected"), [(0.5, [1]), (1.4, [1]), (1.7, [-1])])
def test_object_is_found_again_under_its_id_for_a_second_and_a_half(seconds_away: float, expected: list[int]) -> None:
    tracker = MaskIou(refind=1.5)
    for step in range(6):
        tracker.update(frame_at(step / 10), standing())
    for step in range(1, round(10 * seconds_away)):
        tracker.update(frame_at(0.5 + step / 10), nothing())
    assert ids_of(tracker.update(frame_at(0.5 + seconds_away), standing())) == expected


def test_without_hold_and_refind_a_missed_object_is_gone_at_once_and_a_moving_one_still_followed() -> None:
    tracker, walker = MaskIou(hold=0, refind=0), Walker(x=40, y=90, speed=140)
    for step in range(10):
        assert ids_of(tracker.update(frame_at(step / 10), look([walker], step / 10))) == [1]
    assert len(tracker.update(frame_at(1.0), nothing())) == 0
    assert tracker.num_tracks == 0


def test_max_missed_ends_a_track_after_that_many_frames() -> None:
    tracker = MaskIou(max_missed=2)
    for step in range(5):
        tracker.update(frame_at(step / 100), standing())
    assert [len(tracker.update(frame_at(step / 100), nothing())) for step in (5, 6, 7)] == [1, 1, 0]
    assert tracker.num_tracks == 0


def test_object_seen_in_every_frame_keeps_its_id_even_at_one_frame_in_ten_seconds() -> None:
    tracker = MaskIou()
    for step in range(6):
        assert ids_of(tracker.update(frame_at(10.0 * step), standing())) == [1]


def test_held_object_that_has_moved_out_of_the_picture_is_gone() -> None:
    tracker = MaskIou(hold=10, refind=10)
    for step in range(11):
        tracker.update(frame_at(step / 10), look([Walker(x=240, y=90, speed=60)], step / 10))
    sizes = [len(tracker.update(frame_at(1.1 + step / 10), nothing())) for step in range(20)]
    assert sizes[0] == 1 and sizes[-1] == 0


# --- scenes and pictures ---------------------------------------------------------------------------------------------


def scene(seed: int) -> av.VideoFrame:
    blocks = np.random.default_rng(seed).integers(0, 255, (9, 16))
    return picture_of(np.kron(blocks, np.ones((20, 20))))


def test_tracks_end_at_a_cut_and_the_new_scene_starts_with_new_ids() -> None:
    tracker = MaskIou()
    for step in range(5):
        tracked = tracker.update(frame_at(step / 25, picture=scene(1)), standing())
    assert ids_of(tracked) == [1]
    assert ids_of(tracker.update(frame_at(5 / 25, picture=scene(2)), standing())) == [2]
    assert tracker.num_tracks == 1


def test_nothing_is_held_over_a_cut() -> None:
    tracker = MaskIou()
    for step in range(5):
        tracker.update(frame_at(step / 25, picture=scene(1)), standing())
    assert len(tracker.update(frame_at(5 / 25, picture=scene(2)), nothing())) == 0


def test_tracks_end_where_the_pictures_get_another_size_and_ids_go_on() -> None:
    tracker = MaskIou()
    for step in range(5):
        tracker.update(frame_at(step / 25), standing(x=100))
    half = picture_of(np.full((HEIGHT // 2, WIDTH // 2), 128))
    tracked = tracker.update(frame_at(5 / 25, picture=half), objects((50, 25, 65, 70, 0.9)))
    assert ids_of(tracked) == [2]
    assert tracker.num_tracks == 1


def test_time_that_runs_backwards_begins_anew() -> None:
    tracker = MaskIou()
    for step in range(5):
        tracker.update(frame_at(5 + step / 25), standing())
    assert ids_of(tracker.update(frame_at(0.0), standing())) == [2]


def test_frames_without_objects_give_none() -> None:
    tracker = MaskIou()
    for step in range(20):
        tracked = tracker.update(frame_at(step / 25), nothing())
        assert len(tracked) == 0 and tracked.class_names == NAMES
    one_pixel = picture_of(np.zeros((1, 1)))
    assert len(tracker.update(frame_at(1.0, picture=one_pixel), objects((0, 0, 1, 1, 0.9)))) == 1


def test_boxes_without_area_do_no_harm() -> None:
    tracker = MaskIou()
    for step in range(5):
        tracked = tracker.update(frame_at(step / 25), objects((10, 10, 10, 10, 0.9), (400, 300, 390, 280, 0.9)))
        assert np.isfinite(tracked.boxes).all()


def test_masks_of_another_size_begin_anew() -> None:
    tracker = MaskIou()
    for step in range(3):
        tracker.update(frame_at(step / 25), standing())
    other = standing()
    larger = Instances(
        boxes=other.boxes,
        masks=np.ones((1, 56, 56), np.float32),
        scores=other.scores,
        class_ids=other.class_ids,
        track_ids=other.track_ids,
        class_names=NAMES,
    )
    assert ids_of(tracker.update(frame_at(0.2), larger)) == [2]


def test_objects_that_carry_ids_already_are_passed_on_unchanged() -> None:
    tracker, first = MaskIou(), standing(0.1)
    replayed = Instances(
        boxes=first.boxes,
        masks=first.masks,
        scores=first.scores,
        class_ids=first.class_ids,
        track_ids=np.array([7], np.int32),
        class_names=NAMES,
    )
    assert tracker.update(frame_at(0.0), replayed) is replayed
    gone = nothing()
    assert tracker.update(frame_at(0.1), gone) is gone


def test_thousands_of_frames_leave_only_the_tracks_in_sight() -> None:
    tracker, chance = MaskIou(min_score=0.5), np.random.default_rng(3)
    most = 0
    for step in range(3000):
        # A walker across the picture every 2 s, an uncertain and a weak detection anywhere in every frame.
        x = 150 * (step / 25 % 2)
        (u, v), (a, b) = chance.uniform(0, 300, 2), chance.uniform(0, 150, 2)
        found = objects((x, 50, x + 20, 140, 0.9), (u, a, u + 10, a + 20, 0.7), (v, b, v + 10, b + 20, 0.3))
        tracker.update(frame_at(step / 25), found)
        most = max(most, tracker.num_tracks)
    assert most <= 8
    assert tracker._next_id == 61


# --- frames that the engine passed over ------------------------------------------------------------------------------


def assert_same(some: Instances, others: Instances) -> None:
    for name in ("track_ids", "boxes", "masks", "scores", "class_ids"):
        np.testing.assert_array_equal(getattr(some, name), getattr(others, name))
    assert some.class_names == others.class_names


@few
@given(
    looks=st.lists(st.tuples(st.floats(0.03, 0.9), st.integers(0, 4)), min_size=5, max_size=25),
    seed=st.integers(0, 1000),
)
def test_what_a_look_tells_does_not_depend_on_the_frames_passed_over_before_it(
    looks: list[tuple[float, int]], seed: int
) -> None:
    watched, unwatched, chance = MaskIou(), MaskIou(), np.random.default_rng(seed)
    walkers = [Walker(x=20, y=90, speed=50), Walker(x=160, y=60, speed=20), Walker(x=300, y=110, speed=-40)]
    time = 0.0
    for step, num_between in looks:
        for number in range(num_between):
            unwatched.update(frame_at(time + (number + 1) * step / (num_between + 1)), None)
        time += step
        found = look(walkers, time % 5, jitter=chance)
        found = found[chance.random(len(found)) < 0.7]
        assert_same(unwatched.update(frame_at(time), found), watched.update(frame_at(time), found))


@few
@given(speeds=st.lists(st.floats(-40, 40), min_size=1, max_size=3), every=st.integers(2, 6), rate=st.integers(5, 25))
def test_objects_keep_their_ids_over_frames_passed_over_and_move_from_look_to_look(
    speeds: list[float], every: int, rate: int
) -> None:
    walkers = [Walker(x=80 + 80 * number, y=90, speed=speed / 2) for number, speed in enumerate(speeds)]
    tracker, shown = MaskIou(), []
    for step in range(4 * every + 1):
        found = look(walkers, step / rate) if step % every == 0 else None
        shown.append(tracker.update(frame_at(step / rate), found))
        assert ids_of(shown[-1]) == list(range(1, len(walkers) + 1))
    for step in range(2 * every, 4 * every):
        before, after = shown[step // every * every].boxes, shown[(step // every + 1) * every].boxes
        # The eye's boxes jump by whole pixels, so the speed that follows from them is only about right.
        assert (shown[step].boxes >= np.minimum(before, after) - 1.5).all()
        assert (shown[step].boxes <= np.maximum(before, after) + 1.5).all()


@settings(few, max_examples=8)
@given(speeds=st.tuples(st.floats(-30, 30), st.floats(-30, 30), st.floats(-30, 30)), seed=st.integers(0, 1000))
def test_as_many_objects_are_counted_with_a_look_at_every_second_or_third_frame(
    speeds: tuple[float, float, float], seed: int
) -> None:
    walkers = [Walker(x=60 + 100 * number, y=90, speed=speed) for number, speed in enumerate(speeds)]
    for every in (1, 2, 3):
        tracker, counter, jitter = MaskIou(), PerClass(), np.random.default_rng(seed)
        for step in range(31):
            frame = frame_at(step / 15)
            found = look(walkers, step / 15, jitter=jitter) if step % every == 0 else None
            totals, _ = counter.update(Result(frame, tracker.update(frame, found)))
        assert totals == {"objects": {"person": 3}}


def test_nothing_blinks_when_the_engine_looks_twice_a_second() -> None:
    tracker, walker = MaskIou(hold=0.3), Walker(x=40, y=90, speed=30)
    for step in range(90):
        time = step / 30
        tracked = tracker.update(frame_at(time), look([walker], time) if step % 15 == 0 else None)
        assert ids_of(tracked) == [1]
        if step >= 15:
            assert tracked.boxes[0, [0, 2]].mean() == pytest.approx(40 + 30 * time, abs=2.5)


def test_a_mask_is_carried_with_its_box() -> None:
    tracker, walker = MaskIou(), Walker(x=40, y=90, speed=30)
    seen = [tracker.update(frame_at(step / 10), look([walker], step / 10)) for step in range(10)][-1]
    carried = tracker.update(frame_at(1.0), None)
    np.testing.assert_array_equal(carried.masks, seen.masks)
    np.testing.assert_array_equal(carried.scores, seen.scores)
    np.testing.assert_allclose(carried.boxes - seen.boxes, [[3, 0, 3, 0]], atol=0.3)


def test_an_object_not_confirmed_yet_is_carried_where_it_was_shown() -> None:
    tracker = MaskIou(min_score=0.5)
    tracker.update(frame_at(0.0), nothing())
    assert ids_of(tracker.update(frame_at(0.1), objects((20, 50, 50, 140, 0.9), (200, 50, 230, 140, 0.6)))) == [-1]
    assert ids_of(tracker.update(frame_at(0.2), None)) == [-1]


def test_before_the_first_look_there_is_nothing_and_the_first_look_is_like_a_first_frame() -> None:
    tracker = MaskIou()
    for step in range(5):
        tracked = tracker.update(frame_at(step / 10), None)
        assert len(tracked) == 0 and tracked.class_names == ("background",)
    assert ids_of(tracker.update(frame_at(0.5), standing())) == [1]
    tracker.update(frame_at(0.6), nothing())
    assert tracker.update(frame_at(2.9), None).class_names == NAMES


@pytest.mark.parametrize("num_between", [0, 1, 5])
def test_hold_and_refind_are_seconds_since_an_object_was_seen_however_many_frames_were_passed_over(
    num_between: int,
) -> None:
    def pass_over(tracker: MaskIou, start: float, end: float) -> list[int]:
        times = np.linspace(start, end, num_between + 2)[1:-1]
        return [len(tracker.update(frame_at(time), None)) for time in times]

    for away, expected in ((1.4, [1]), (1.6, [-1])):
        tracker = MaskIou(hold=0.3, refind=1.5)
        for step in range(6):
            tracker.update(frame_at(step / 10), standing())
        assert len(tracker.update(frame_at(0.6), nothing())) == 1
        assert pass_over(tracker, 0.6, 0.8) == [1] * num_between  # seen at 0.5
        assert pass_over(tracker, 0.81, 1.2) == [0] * num_between
        assert len(tracker.update(frame_at(1.2), nothing())) == 0
        pass_over(tracker, 1.2, 0.5 + away)
        assert ids_of(tracker.update(frame_at(0.5 + away), standing())) == expected


def test_max_missed_counts_looks_alone() -> None:
    tracker = MaskIou(max_missed=2)
    for step in range(5):
        tracker.update(frame_at(step / 100), standing())
    sizes = []
    for step in range(5, 20):
        sizes.append(len(tracker.update(frame_at(step / 100), nothing() if step % 5 == 0 else None)))
    assert sizes == [1] * 10 + [0] * 5


def test_an_object_goes_no_further_than_a_second_and_a_half_without_a_look() -> None:
    tracker, walker = MaskIou(), Walker(x=40, y=90, speed=30)
    seen = [tracker.update(frame_at(step / 10), look([walker], step / 10)) for step in range(11)][-1]
    for time, way in ((2.0, 30), (2.5, 45), (4.0, 45)):
        carried = tracker.update(frame_at(time), None)
        assert ids_of(carried) == [1]
        np.testing.assert_allclose(carried.boxes[0] - seen.boxes[0], [way, 0, way, 0], atol=2)


def test_an_object_that_walks_out_while_the_engine_does_not_look_is_gone() -> None:
    tracker = MaskIou()
    for step in range(11):
        tracker.update(frame_at(step / 10), look([Walker(x=240, y=90, speed=60)], step / 10))
    sizes = [len(tracker.update(frame_at(1.1 + step / 10), None)) for step in range(14)]
    assert sizes[0] == 1 and sizes[-1] == 0


def test_a_cut_in_a_frame_passed_over_ends_all_tracks() -> None:
    tracker = MaskIou()
    for step in range(5):
        tracker.update(frame_at(step / 25, picture=scene(1)), standing())
    cut = tracker.update(frame_at(5 / 25, picture=scene(2)), None)
    assert len(cut) == 0 and cut.class_names == NAMES
    assert tracker.num_tracks == 0
    assert ids_of(tracker.update(frame_at(6 / 25, picture=scene(2)), standing())) == [2]


def test_time_that_runs_backwards_in_a_frame_passed_over_begins_anew() -> None:
    tracker = MaskIou()
    for step in range(5):
        tracker.update(frame_at(5 + step / 25), standing())
    assert len(tracker.update(frame_at(0.0), None)) == 0
    assert ids_of(tracker.update(frame_at(6.0), standing())) == [2]


def test_a_picture_of_another_size_that_was_passed_over_ends_all_tracks() -> None:
    tracker, half = MaskIou(), picture_of(np.full((HEIGHT // 2, WIDTH // 2), 128))
    for step in range(5):
        tracker.update(frame_at(step / 25), standing(x=100))
    assert len(tracker.update(frame_at(0.2, picture=half), None)) == 0
    assert ids_of(tracker.update(frame_at(0.24), standing(x=100))) == [2]


def test_objects_that_carry_ids_already_stay_over_a_frame_passed_over_but_not_over_a_cut() -> None:
    tracker = MaskIou()
    replayed = replace(standing(), track_ids=np.array([7], np.int32))
    assert tracker.update(frame_at(0.0, picture=scene(1)), replayed) is replayed
    assert tracker.update(frame_at(0.1, picture=scene(1)), None) is replayed
    assert len(tracker.update(frame_at(0.2, picture=scene(2)), None)) == 0


def switches_and_share_found(truth: np.ndarray, *, every: int) -> tuple[int, float]:
    """How often a person's id changes, and the share of their boxes found (IoU 0.5), with a look at each `every`-th.

    truth: rows of frame from 1, identity, x1, y1, x2, y2; ten frames a second
    """
    tracker, picture, last = MaskIou(), picture_of(np.full((576, 768), 128)), {}
    num_switches = num_found = 0
    for index in range(int(truth[:, 0].max())):
        rows = truth[truth[:, 0] == index + 1]
        people = objects(*[(*box, 0.9) for box in rows[:, 2:]])
        tracked = tracker.update(frame_at(index / 10, picture=picture), people if index % every == 0 else None)
        overlap = box_iou(people.boxes, tracked.boxes)
        for row, column in zip(*assign(np.where(overlap >= 0.5, overlap, 0)), strict=True):
            person, track_id = rows[row, 1], tracked.track_ids[column]
            num_switches += last.get(person, track_id) != track_id
            last[person] = track_id
            num_found += 1
    return num_switches, num_found / len(truth)


def test_a_real_crowd_keeps_its_ids_with_a_look_at_every_second_or_third_frame(shared_data: Path) -> None:
    rows = np.loadtxt(shared_data / "videos" / "vtest.gt.txt", delimiter=",")
    rows = rows[rows[:, 6] == 1]  # people; the others are not to be judged
    corners = rows[:, 2:4] - 1
    truth = np.hstack([rows[:, :2], corners, corners + rows[:, 4:6]])
    truth = truth[truth[:, 0] <= 300]
    at_every_frame, _ = switches_and_share_found(truth, every=1)
    for every in (2, 3):
        num_switches, share = switches_and_share_found(truth, every=every)
        assert num_switches <= at_every_frame + 1
        assert share > 0.95


# --- kept over a restart ---------------------------------------------------------------------------------------------


def restarted(component: Any) -> Any:
    """A new one that goes on from what this one knows, by way of a text."""
    fresh = type(component)()
    fresh.restore(json.loads(json.dumps(component.state(), allow_nan=False)))
    return fresh


@settings(few, max_examples=10)
@given(restart=st.integers(0, 40), seed=st.integers(0, 1000), chance_to_look=st.sampled_from([0.3, 0.6, 1.0]))
def test_a_restart_anywhere_in_a_clip_changes_nothing(restart: int, seed: int, chance_to_look: float) -> None:
    chance = np.random.default_rng(seed)
    walkers = [Walker(x=20, y=90, speed=50), Walker(x=160, y=60, speed=20), Walker(x=300, y=110, speed=-40)]
    whole, parts = (MaskIou(), PerClass()), (MaskIou(), PerClass())
    cut_at, smaller_from = chance.integers(0, 40, 2)
    for step in range(40):
        time = step / 12
        picture = scene(int(step >= cut_at))
        if step >= smaller_from:
            picture = picture.reformat(WIDTH // 2, HEIGHT // 2)
        found = look(walkers, time, jitter=chance)
        found = replace(found, class_ids=1 + (found.boxes[:, 1] > 60).astype(np.int32))
        frame, looked = frame_at(time, picture=picture), chance.random() < chance_to_look
        seen = found[chance.random(len(found)) < 0.7] if looked else None
        if step == restart:
            parts = tuple(restarted(part) for part in parts)
        results = [Result(frame, tracker.update(frame, seen)) for tracker, _ in (whole, parts)]
        assert_same(results[1].instances, results[0].instances)
        assert whole[1].update(results[0]) == parts[1].update(results[1])
    assert whole[0].state() == parts[0].state() and whole[1].state() == parts[1].state()


def test_ids_go_on_where_a_stream_begins_its_time_anew_after_a_restart() -> None:
    tracker = MaskIou()
    for step in range(5):
        tracker.update(frame_at(5 + step / 25), standing())
    assert ids_of(restarted(tracker).update(frame_at(0.0), standing())) == [2]


def test_another_model_after_a_restart_begins_with_new_ids() -> None:
    tracker = MaskIou()
    for step in range(5):
        tracker.update(frame_at(step / 25), objects((100, 50, 130, 140, 0.9), class_ids=[2]))
    tracker = restarted(tracker)
    assert ids_of(tracker.update(frame_at(0.24), replace(standing(), class_names=("background", "car")))) == [2]
    assert tracker.update(frame_at(0.28), None).names == ["car"]


def test_replayed_objects_are_kept_over_a_restart() -> None:
    tracker, replayed = MaskIou(), replace(standing(), track_ids=np.array([7], np.int32))
    tracker.update(frame_at(0.0), replayed)
    assert_same(restarted(tracker).update(frame_at(0.1), None), replayed)


def test_a_state_of_another_component_or_version_or_a_damaged_one_is_refused_and_changes_nothing() -> None:
    tracker = MaskIou()
    tracker.update(frame_at(0.0), standing())
    before = tracker.state()
    rows = kept.packed(np.zeros(5))
    for wrong, message in (
        (
            PerClass().state(),
            "expected a state of tracker mask_iou, version 2, got one of counter per_class, version 1",
        ),
        ({**before, "version": 1}, "of tracker mask_iou, version 2, got one of tracker mask_iou, version 1"),
        ({**before, "cuts": None}, "the state of tracker mask_iou is damaged"),
        ({**before, "tracks": {**before["tracks"], "scores": rows}}, "damaged: scores: expected"),
        ({**before, "cuts": {"previous": rows, "usual": None}}, "damaged: previous: expected"),
        ({key: value for key, value in before.items() if key != "next_id"}, "damaged: 'next_id' is missing"),
    ):
        with pytest.raises(UsageError, match=message):
            tracker.restore(wrong)
        assert tracker.state() == before


# --- options ---------------------------------------------------------------------------------------------------------


def test_it_is_a_tracker() -> None:
    assert isinstance(MaskIou(), Tracker)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": 1.5}, "min_score: expected 0 to 1, got 1.5"),
        ({"min_score": float("nan")}, "min_score: expected 0 to 1, got nan"),
        ({"hold": -1}, "hold: expected 0 or more, got -1"),
        ({"hold": 2, "refind": 1}, "refind: expected 2 or more, got 1"),
        ({"max_missed": -1}, "max_missed: expected 0 or more, got -1"),
        ({"min_hits": 0}, "min_hits: expected 1 or more, got 0"),
    ],
)
def test_wrong_values_fail_at_construction(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MaskIou(**options)  # type: ignore[arg-type]


def test_pipeline_builds_it_by_name_and_a_wrong_option_is_told_the_right_spelling() -> None:
    assert isinstance(build("trackers", "mask_iou", {"max_missed": 15}), MaskIou)
    with pytest.raises(UsageError, match="max_missed"):
        build("trackers", "mask_iou", {"max_mised": 15})


def test_looks_without_objects_change_nothing_whatever_side_their_masks_would_have() -> None:
    """An engine's own empty answer and that of a record may differ, and no object says which is right."""
    seen = [standing(), nothing(), standing(0.6), standing(0.6), *[nothing()] * 30, standing(0.6), standing(0.6)]
    large = [replace(each, masks=np.ones((len(each), 2 * SIDE, 2 * SIDE), np.float32)) for each in seen]
    mixed = [each if len(each) else nothing() for each in large]
    told = []
    for looks in (large, mixed):
        tracker = MaskIou()
        found = [tracker.update(frame_at(number / 10), each) for number, each in enumerate(looks)]
        told.append([(each.track_ids.tolist(), each.boxes.tolist(), each.scores.tolist()) for each in found])
    assert told[0] == told[1] and told[0][0][0] == [1]
