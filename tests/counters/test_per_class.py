"""Every confirmed track is counted once, under its class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest

from streamseg.counters.per_class import PerClass
from streamseg.types import Counter, Frame, Instances, Result, UsageError

NAMES = ("background", "person", "dog")
FRAME = Frame(picture=av.VideoFrame(16, 16, "yuv420p"), index=0, time=0.0, captured_at=0.0, stream="test")


def seen(track_ids: Sequence[int], class_ids: Sequence[int] | None = None) -> Result:
    n = len(track_ids)
    instances = Instances(
        boxes=np.zeros((n, 4), np.float32),
        masks=np.zeros((n, 2, 2), np.float32),
        scores=np.ones(n, np.float32),
        class_ids=np.array([1] * n if class_ids is None else class_ids, np.int32),
        track_ids=np.array(track_ids, np.int32),
        class_names=NAMES,
    )
    return Result(frame=FRAME, instances=instances)


def test_a_track_is_counted_once_however_often_it_is_seen() -> None:
    counter = PerClass()
    for _ in range(3):
        totals, events = counter.update(seen([1, 2]))
    assert totals == {"objects": {"person": 2}}
    assert events == ()
    assert counter.totals() == totals


def test_unconfirmed_objects_are_not_counted() -> None:
    assert PerClass().update(seen([-1, -1]))[0] == {"objects": {}}


def test_classes_are_counted_apart() -> None:
    counter = PerClass()
    counter.update(seen([1, 2], class_ids=[2, 1]))
    assert counter.update(seen([3, 2], class_ids=[1, 1]))[0] == {"objects": {"dog": 1, "person": 2}}


def test_a_track_that_comes_back_is_not_counted_again() -> None:
    counter = PerClass()
    for ids in ([1], [], [2], [1, 2], [0], [0]):
        totals, _ = counter.update(seen(ids))
    assert totals == {"objects": {"person": 3}}


def test_totals_given_out_do_not_change_later() -> None:
    counter = PerClass()
    first, _ = counter.update(seen([1]))
    counter.update(seen([2]))
    assert first == {"objects": {"person": 1}}


def test_any_order_of_ids_is_counted_like_a_set() -> None:
    counter, ids = PerClass(), np.random.default_rng(0).integers(0, 200, 400)
    for start in range(0, 400, 4):
        totals, _ = counter.update(seen(np.unique(ids[start : start + 4]).tolist()))
    assert totals["objects"]["person"] == len(set(ids.tolist()))


def test_a_hundred_thousand_tracks_take_no_memory() -> None:
    counter = PerClass()
    for first in range(1, 100_001, 10):
        counter.update(seen(range(first, first + 10)))
    assert counter.totals() == {"objects": {"person": 100_000}}
    assert len(counter._counted) == 0


def test_a_restart_changes_nothing() -> None:
    whole, parts, chance = PerClass(), PerClass(), np.random.default_rng(1)
    for step in range(60):
        if step % 7 == 0:
            state, parts = json.loads(json.dumps(parts.state())), PerClass()
            parts.restore(state)
        ids = np.unique(chance.integers(-1, step + 5, 4))
        result = seen(ids.tolist(), class_ids=(1 + ids % 2).tolist())
        assert parts.update(result) == whole.update(result)
    assert list(parts.totals()["objects"]) == list(whole.totals()["objects"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"of": "tracker mask_iou"}, "expected a state of counter per_class, version 1, got one of tracker mask_iou"),
        ({"version": 2}, "version 1, got one of counter per_class, version 2"),
        ({"objects": [1]}, "the state of counter per_class is damaged"),
        ({"counted": {"below": 3}}, "damaged: 'others' is missing"),
    ],
)
def test_a_state_that_is_not_its_own_is_refused_and_changes_nothing(wrong: dict[str, Any], message: str) -> None:
    counter = PerClass()
    counter.update(seen([1, 2]))
    before = counter.state()
    with pytest.raises(UsageError, match=message):
        counter.restore({**before, **wrong})
    assert counter.state() == before


def test_it_is_a_counter() -> None:
    assert isinstance(PerClass(), Counter)


def test_the_tracks_of_a_new_run_are_counted_beside_those_that_were_kept() -> None:
    before, after = PerClass(), PerClass()
    for time in (0.0, 0.1):
        before.update(at(seen([1, 2]), time))
    after.restore(json.loads(json.dumps(before.state())))
    for time in (0.0, 0.1):
        totals, _ = after.update(at(seen([1, 2, 3]), time))
    assert totals == {"objects": {"person": 5}}


def at(result: Result, time: float) -> Result:
    return replace(result, frame=replace(result.frame, time=time))


@pytest.mark.parametrize("time", [0.0, 0.1, 500.0])
def test_a_new_run_counts_its_own_tracks_whatever_its_first_time(time: float) -> None:
    before, after = PerClass(), PerClass()
    before.update(at(seen([1, 2]), 0.1))
    after.restore(json.loads(json.dumps(before.state())))
    after.new_run()
    assert after.update(at(seen([1, 2, 3]), time))[0] == {"objects": {"person": 5}}


def test_a_number_without_end_is_a_damaged_state() -> None:
    with pytest.raises(UsageError, match="the state of counter per_class is damaged"):
        PerClass().restore({**PerClass().state(), "objects": {"person": float("inf")}})
