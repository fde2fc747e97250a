"""Trails: the way of each object over the last seconds, in its own colour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamseg.canvas import Canvas, color_of
from streamseg.effects.trails import Trails
from streamseg.types import Frame, Instances, Result, UsageError
from tests.effects.scenes import even, objects, rgb


def walk(trails: Trails, steps: list[tuple[float, Instances]], *, height: int = 480) -> np.ndarray:
    """The last of these pictures, (height, 640, 3), after all of them were drawn."""
    on = even((90, 90, 90), width=640, height=height)
    for time, instances in steps:
        canvas = Canvas(on)
        trails.draw(canvas, Result(Frame(on, 0, time, 0.0, "test"), instances))
    return rgb(canvas.picture).astype(int)


def at(x: float, foot: float = 300.0, **more: Any) -> Instances:
    return objects((x - 20, foot - 100, x + 20, foot), **more)


def changed(seen: np.ndarray) -> np.ndarray:
    """The columns in which anything was drawn."""
    return np.flatnonzero((seen != 90).any(axis=(0, 2)))


def test_a_trail_leads_from_where_an_object_was_to_its_foot_in_its_colour() -> None:
    seen = walk(Trails(), [(i / 10, at(100 + 20 * i, tracks=(4,))) for i in range(21)])
    assert changed(seen).min() < 140 and changed(seen).max() == pytest.approx(500, abs=6)
    rows = np.flatnonzero((seen != 90).any(axis=(1, 2)))
    assert rows.min() > 290 and rows.max() < 310
    assert np.abs(seen[300, 495] - color_of(4, 1)).max() < 30
    assert np.abs(seen[300, 130] - 90).max() < np.abs(seen[300, 495] - 90).max() / 2  # it fades


def test_what_lies_longer_back_is_gone_and_so_is_who_was_not_seen_since() -> None:
    steps = [(i / 10, at(100 + 20 * i)) for i in range(21)]
    assert changed(walk(Trails(seconds=0.5), steps)).min() > 380
    assert changed(walk(Trails(seconds=0.5), [*steps, (2.3, objects())])).max() > 490  # still fading
    assert not len(changed(walk(Trails(seconds=0.5), [*steps, (2.6, objects())])))


def test_a_trail_may_follow_the_middle_of_the_mask() -> None:
    seen = walk(Trails(point="centre"), [(i / 10, at(100 + 20 * i)) for i in range(21)])
    rows = np.flatnonzero((seen != 90).any(axis=(1, 2)))
    assert rows.min() > 240 and rows.max() < 260


def test_unconfirmed_objects_leave_no_trail() -> None:
    assert not len(changed(walk(Trails(), [(i / 10, at(100 + 20 * i, tracks=(-1,))) for i in range(5)])))


def test_trails_begin_anew_where_time_steps_back() -> None:
    seen = walk(Trails(), [(5.0, at(100)), (5.1, at(300)), (0.0, at(500))])
    assert changed(seen).min() > 480


def test_what_is_impossible_is_refused_with_the_nearest_right_word() -> None:
    with pytest.raises(UsageError, match="trails: seconds: expected above 0 to 60, got 0"):
        Trails(seconds=0)
    with pytest.raises(UsageError, match="trails: point: 'center' is not possible; did you mean 'centre'"):
        Trails(point="center")  # type: ignore[arg-type]
