"""A result becomes a line of JSON and comes back."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamseg import masks
from streamseg.records import class_names_of, from_record, to_record
from streamseg.types import Frame, InputError, Instances, OutputError, Result

NAMES = ("background", "person", "dog")


def result_of(instances: Instances, *, width: int = 64, height: int = 48, counts: Any = None) -> Result:
    picture = av.VideoFrame(width, height, "yuv420p")
    return Result(Frame(picture, 41, 4.1, time.monotonic(), "street"), instances, counts or {})


def one(**changes: Any) -> Instances:
    """A person in (8, 8) to (40, 40), all of it."""
    fields: dict[str, Any] = {
        "boxes": np.array([[8, 8, 40, 40]], np.float32),
        "masks": np.ones((1, 28, 28), np.float32),
        "scores": np.array([0.5], np.float32),
        "class_ids": np.array([1], np.int32),
        "track_ids": np.array([3], np.int32),
        "class_names": NAMES,
    }
    return Instances(**(fields | changes))


@st.composite
def several(draw: st.DrawFn) -> Instances:
    n, side = draw(st.integers(0, 4)), draw(st.sampled_from([2, 7, 28]))
    corner = st.floats(-20, 80, width=32)
    boxes = [sorted(draw(st.tuples(corner, corner))) + sorted(draw(st.tuples(corner, corner))) for _ in range(n)]
    unit = st.floats(0, 1, width=32)
    return Instances(
        boxes=np.array(boxes, np.float32).reshape(n, 4)[:, [0, 2, 1, 3]],
        masks=draw(arrays.arrays(np.float32, (n, side, side), elements=unit)),
        scores=draw(arrays.arrays(np.float32, n, elements=unit)),
        class_ids=draw(arrays.arrays(np.int32, n, elements=st.integers(1, 2))),
        track_ids=draw(arrays.arrays(np.int32, n, elements=st.integers(-1, 10**9))),
        class_names=NAMES,
    )


@settings(max_examples=60, deadline=None)
@given(several())
def test_objects_come_back_exactly_and_masks_within_half_a_grey_level(instances: Instances) -> None:
    record = json.loads(json.dumps(to_record(result_of(instances)), allow_nan=False))
    back = from_record(record, NAMES)
    np.testing.assert_array_equal(back.boxes, instances.boxes)
    np.testing.assert_array_equal(back.scores, instances.scores)
    np.testing.assert_array_equal(back.class_ids, instances.class_ids)
    np.testing.assert_array_equal(back.track_ids, instances.track_ids)
    assert len(back) == len(instances)
    if len(back):
        assert np.abs(back.masks - instances.masks).max() <= 0.5 / 255 + 1e-6


@settings(max_examples=60, deadline=None)
@given(several())
def test_what_comes_back_is_drawn_exactly_as_before(instances: Instances) -> None:
    back = from_record(to_record(result_of(instances)), NAMES)
    np.testing.assert_array_equal(masks.union(back, width=64, height=48), masks.union(instances, width=64, height=48))


@settings(max_examples=30, deadline=None)
@given(several())
def test_a_record_of_a_record_is_the_same(instances: Instances) -> None:
    record = to_record(result_of(instances))
    assert to_record(result_of(from_record(record, NAMES))) == record


def test_record_has_the_documented_shape() -> None:
    counts = {"objects": {"person": 1}, "lines": {"gate": {"person": {"in": 6, "out": 0}}}}
    record = to_record(result_of(one(), counts=counts))
    assert list(record) == ["stream", "index", "time", "width", "height", "objects", "lines", "zones"]
    assert (record["stream"], record["index"], record["time"]) == ("street", 41, 4.1)
    assert (record["width"], record["height"]) == (64, 48)
    assert record["lines"] == {"gate": {"person": {"in": 6, "out": 0}}} and record["zones"] == {}
    (item,) = record["objects"]
    assert list(item) == ["track", "class", "score", "box", "mask", "crop"]
    assert (item["track"], item["class"], item["score"], item["box"]) == (3, "person", 0.5, [8, 8, 40, 40])
    assert item["mask"]["size"] == [48, 64] and isinstance(item["mask"]["counts"], str)
    assert item["crop"]["side"] == 28
    assert base64.b64decode(item["crop"]["values"]) == b"\xff" * 784


def test_totals_of_any_kind_and_events_stand_beside_the_objects_and_do_not_hinder_reading_them() -> None:
    counts = {"objects": {"person": 1}, "zones": {"shop": 2}, "index": {"a": 1}, "queue": {"till": {"waiting": (3, 4)}}}
    events = ({"event": "crossed", "line": "gate", "track": 3},)
    result = replace(result_of(one(), counts=counts), events=events)
    record = json.loads(json.dumps(to_record(result)))
    assert record["index"] == 41 and record["zones"] == {"shop": 2} and len(record["objects"]) == 1
    assert record["counts"] == {"index": {"a": 1}, "queue": {"till": {"waiting": [3, 4]}}}
    assert record["events"] == [{"event": "crossed", "line": "gate", "track": 3}]
    plainer = {key: value for key, value in record.items() if key not in ("counts", "events")}
    assert plainer == to_record(result_of(one(), counts={"objects": {"person": 1}, "zones": {"shop": 2}}))
    np.testing.assert_array_equal(from_record(record, NAMES).masks, from_record(plainer, NAMES).masks)


def test_numbers_of_numpy_are_written_as_numbers_and_what_json_has_not_as_null() -> None:
    counts = {"heat": {np.int32(7): np.float32(0.5), "map": np.eye(2, dtype=np.int64), "mean": float("nan")}}
    text = json.dumps(to_record(result_of(one(), counts=counts)), allow_nan=False)
    assert json.loads(text)["counts"] == {"heat": {"7": 0.5, "map": [[1, 0], [0, 1]], "mean": None}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": {"queue": {"ids": {1, 2}}}}, "totals of queue: expected mappings, .* got set"),
        ({"counts": {"lines": {"gate": object()}}}, "totals of lines: expected mappings, .* got object"),
        ({"events": ({"at": b"now"},)}, "events: expected mappings, .* got bytes"),
    ],
)
def test_totals_and_events_that_are_no_plain_data_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OutputError, match=message):
        to_record(replace(result_of(one()), **changes))


def test_scores_and_boxes_are_short_numbers() -> None:
    scores = np.array([0.93], np.float32)
    assert '"score": 0.93,' in json.dumps(to_record(result_of(one(scores=scores))))


def test_without_crops_the_mask_comes_from_its_run_lengths() -> None:
    y, x = np.mgrid[0:28, 0:28]
    disc = ((y - 13.5) ** 2 + (x - 13.5) ** 2 < 144).astype(np.float32)[None]
    instances = one(masks=disc, boxes=np.array([[10, 5, 600, 450]]))
    record = to_record(result_of(instances, width=640, height=480), crops=False)
    assert "crop" not in record["objects"][0]
    back = from_record(record, NAMES)
    before = masks.paste(disc[0], [10, 5, 600, 450], width=640, height=480)[2] >= 128
    after = masks.paste(back.masks[0], back.boxes[0], width=640, height=480)[2] >= 128
    assert (before & after).sum() / (before | after).sum() >= 0.98


def test_mask_run_lengths_are_cocos() -> None:
    from pycocotools import mask as coco

    record = to_record(result_of(one()))
    full = coco.decode(record["objects"][0]["mask"])
    assert full.shape == (48, 64) and full.sum() == 32 * 32 and full[8:40, 8:40].all()


def test_class_names_of_a_record() -> None:
    assert class_names_of(to_record(result_of(one()))) == ["person"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box": [1, 2, 3]}, r"object 0: box: expected \[x1, y1, x2, y2\], got \[1, 2, 3\]"),
        ({"box": [1, 2, 3, "4"]}, "object 0: box"),
        ({"score": None}, "object 0: score: expected a number"),
        ({"class": "cat"}, "object 0: class 'cat' is none of the model's; there is dog, person"),
        ({"class": 1}, "object 0: class: expected a name"),
        ({"track": 1.5}, "object 0: track: expected a whole number"),
        ({"crop": {"side": 28, "values": "AAAA"}}, "object 0: crop"),
        ({"crop": {"side": 28, "values": "!"}}, "object 0: crop"),
        ({"crop": 5}, "object 0: crop"),
        ({"crop": None, "mask": {"size": [2, 2], "counts": [1, 1]}}, "object 0: mask"),
        ({"crop": None, "mask": 5}, "object 0: mask"),
        ({"crop": None, "mask": {"size": [48, 64], "counts": "0!"}}, "object 0: mask: .*, got other characters"),
    ],
)
def test_garbled_object_is_named(changes: dict[str, Any], message: str) -> None:
    record = to_record(result_of(one()))
    record["objects"][0] |= changes
    with pytest.raises(InputError, match=message):
        from_record(record, NAMES)


@pytest.mark.parametrize("field", ["class", "score", "box"])
def test_missing_field_is_named(field: str) -> None:
    record = to_record(result_of(one()))
    del record["objects"][0][field]
    with pytest.raises(InputError, match=f"object 0: {field} is missing"):
        from_record(record, NAMES)


@pytest.mark.parametrize("objects", [None, {}, "none", [5]])
def test_objects_that_are_no_list_of_objects_are_refused(objects: Any) -> None:
    with pytest.raises(InputError):
        from_record({"objects": objects}, NAMES)
