"""What holds for every tracker: frames that the engine passed over, and a state that another one goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from streamseg import plugins, rooms
from streamseg.types import Frame, Instances, Tracker
from tests.clips import numbered_picture
from tests.contract import check_states, options, through_json

NAMES = rooms.names("trackers")

OPTIONS: Mapping[str, Mapping[str, Any]] = {}
"""Tracker -> the options to make one with, where it has an option without a default."""

Seen = tuple[Frame, Instances | None]


def made(name: str) -> Tracker:
    tracker: Tracker = plugins.build("trackers", name, options(OPTIONS, name, room="trackers"))
    return tracker


def frame(index: int) -> Frame:
    picture = numbered_picture(index, width=64, height=48)
    picture.pts, picture.time_base = index, Fraction(1, 10)
    return Frame(picture, index, index / 10, 0.0, "made")


def clip(num_frames: int = 12) -> list[Seen]:
    """A person and a dog walk apart, 2 pixels a frame; the engine looks at two frames of three."""
    seen: list[Seen] = []
    for index in range(num_frames):
        boxes = np.array([[20 - index, 4, 30 - index, 24], [30 + index, 20, 44 + index, 40]], np.float32)
        found = Instances(
            boxes=boxes,
            masks=np.ones((2, 28, 28), np.float32),
            scores=np.array([0.95, 0.9], np.float32),
            class_ids=np.array([1, 2], np.int32),
            track_ids=np.full(2, -1, np.int32),
            class_names=("background", "person", "dog"),
        )
        seen.append((frame(index), None if index % 3 == 2 else found))
    return seen


def followed(tracker: Tracker, seen: list[Seen]) -> list[Instances]:
    return [tracker.update(*each) for each in seen]


def plain(instances: Instances) -> dict[str, Any]:
    arrays = ("boxes", "masks", "scores", "class_ids", "track_ids")
    return {"class_names": instances.class_names, **{name: getattr(instances, name).tolist() for name in arrays}}


@pytest.mark.parametrize("name", NAMES)
def test_objects_keep_their_identities_and_no_frame_has_one_twice(name: str) -> None:
    tracker = made(name)
    assert isinstance(tracker, Tracker)
    found = followed(tracker, clip())
    for instances in found:
        confirmed = instances.track_ids[instances.track_ids >= 0]
        assert len(set(confirmed.tolist())) == len(confirmed)
    last = dict(zip(found[-1].names, found[-1].track_ids.tolist(), strict=True))
    assert last.keys() == {"person", "dog"} and min(last.values()) >= 0
    assert dict(zip(found[-4].names, found[-4].track_ids.tolist(), strict=True)) == last


@pytest.mark.parametrize("name", NAMES)
def test_before_the_first_look_there_is_nothing_and_no_class(name: str) -> None:
    found = made(name).update(frame(0), None)
    assert len(found) == 0 and found.class_names == ("background",)


@pytest.mark.parametrize("name", NAMES)
def test_over_a_frame_that_was_passed_over_the_same_objects_are_carried(name: str) -> None:
    tracker, seen = made(name), clip()
    assert seen[-1][1] is None
    *_, looked, carried = followed(tracker, seen)
    assert len(looked) and carried.track_ids.tolist() == looked.track_ids.tolist()
    assert carried.names == looked.names
    np.testing.assert_allclose(carried.boxes, looked.boxes, atol=4)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_given_is_not_changed(name: str) -> None:
    tracker, given, untouched = made(name), clip(), clip()
    returned = followed(tracker, given)
    before = [plain(each) for each in returned]
    followed(tracker, clip(15)[12:])
    assert [plain(each) for each in returned] == before
    for (_, instances), (_, expected) in zip(given, untouched, strict=True):
        assert (instances is None) == (expected is None)
        assert instances is None or expected is None or plain(instances) == plain(expected)


@pytest.mark.parametrize("cut", range(12))
@pytest.mark.parametrize("name", NAMES)
def test_another_one_goes_on_from_its_state_as_if_nothing_had_been(name: str, cut: int) -> None:
    whole, first, second = made(name), made(name), made(name)
    expected = followed(whole, clip())
    followed(first, clip()[:cut])
    state = first.state()
    kept = through_json(state)
    followed(first, clip()[cut:])
    assert state == kept, "a state is what was known when it was taken"
    second.restore(kept)
    assert second.state() == kept
    assert [plain(each) for each in followed(second, clip()[cut:])] == [plain(each) for each in expected[cut:]]


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_something_else_is_refused_and_changes_nothing(name: str) -> None:
    tracker = made(name)
    followed(tracker, clip())
    check_states("trackers", name, lambda: made(name), tracker)
