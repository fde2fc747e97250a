"""The replay engine, on files that the jsonl sink wrote."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg.engines._tiled import Tiled, Tiles
from streamseg.engines.replay import Replay
from streamseg.masks import union
from streamseg.records import to_record
from streamseg.types import Engine, Frame, InputError, Instances, Result, UsageError
from tests.clips import numbered_picture

NAMES = ("background", "car", "person")


def frame(index: int, *, stream: str = "street", width: int = 64, height: int = 48) -> Frame:
    picture = numbered_picture(index, width=width, height=height)
    picture.pts, picture.time_base = index, Fraction(1, 25)
    return Frame(picture, index, index / 25, 0.0, stream)


def person(index: int) -> Instances:
    """One person that moves by a pixel a frame, a weak detection, with track 7."""
    y, x = np.mgrid[0:28, 0:28]
    disc = np.clip((12 - np.hypot(y - 13.5, x - 13.5)) / 4 + 0.5, 0, 1).astype(np.float32)
    return Instances(
        boxes=np.array([[4.25 + index, 6, 30.5 + index, 40]], np.float32),
        masks=disc[None],
        scores=np.array([0.07], np.float32),
        class_ids=np.array([2], np.int32),
        track_ids=np.array([7], np.int32),
        class_names=NAMES,
    )


def write(path: Path, indices: list[int], *, streams: tuple[str, ...] = ("street",), crops: bool = True) -> Path:
    lines = [
        json.dumps(to_record(Result(frame(index, stream=stream), person(index)), crops=crops))
        for stream in streams
        for index in indices
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_replay_is_an_engine_that_leaves_nothing_out(tmp_path: Path) -> None:
    replay = Replay(write(tmp_path / "a.jsonl", [0, 1]))
    assert isinstance(replay, Engine)
    assert replay.class_names == ("background", "person")
    assert replay.min_score == 0.0
    assert replay.input_size(frame(0)) == (64, 48)
    (found,) = replay.predict([frame(0)])
    assert found.scores.tolist() == [np.float32(0.07)] and found.track_ids.tolist() == [7]
    assert found.names == ["person"]


def test_frames_are_found_by_index_in_any_order(tmp_path: Path) -> None:
    replay = Replay(write(tmp_path / "a.jsonl", [0, 3, 6]))
    found = replay.predict([frame(6), frame(0), frame(3)])
    assert [instances.boxes[0, 0] for instances in found] == [10.25, 4.25, 7.25]


def test_frame_that_is_not_in_the_file_has_no_objects(tmp_path: Path) -> None:
    replay = Replay(write(tmp_path / "a.jsonl", [0]))
    (found,) = replay.predict([frame(1)])
    assert len(found) == 0 and found.class_names == ("background", "person")


def test_empty_file_has_no_objects_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    (found,) = Replay(tmp_path / "a.jsonl").predict([frame(0)])
    assert len(found) == 0


def test_redraw_with_crops_is_exact_and_without_within_2_percent(tmp_path: Path) -> None:
    for crops, least in ((True, 1.0), (False, 0.98)):
        replay = Replay(write(tmp_path / f"{crops}.jsonl", [0, 1, 2], crops=crops))
        for index in range(3):
            (found,) = replay.predict([frame(index)])
            shown = person(index)
            before, after = (union(each, width=64, height=48) >= 128 for each in (shown, found))
            assert (before & after).sum() / (before | after).sum() >= least
            if crops:
                assert np.abs(found.masks - shown.masks).max() <= 0.5 / 255 + 1e-6


def test_streams_of_one_file_are_kept_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [0, 1], streams=("street", "yard"))
    replay = Replay(path)
    assert [len(found) for found in replay.predict([frame(0), frame(1, stream="yard")])] == [1, 1]
    with pytest.raises(InputError, match="holds the streams street, yard, but not door"):
        replay.predict([frame(0, stream="door")])


def test_file_of_one_stream_serves_a_stream_of_another_name(tmp_path: Path) -> None:
    (found,) = Replay(write(tmp_path / "a.jsonl", [0])).predict([frame(0, stream="copy")])
    assert len(found) == 1


def test_boxes_follow_a_frame_of_another_size(tmp_path: Path) -> None:
    (found,) = Replay(write(tmp_path / "a.jsonl", [0])).predict([frame(0, width=128, height=144)])
    np.testing.assert_allclose(found.boxes, [[8.5, 18, 61, 120]])


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a.jsonl cannot be read: no such file"):
        Replay(tmp_path / "a.jsonl")


def _without(record: dict[str, Any], name: str) -> str:
    return json.dumps({key: value for key, value in record.items() if key != name})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda record: json.dumps(record)[:50], "line 2: expected a JSON object"),
        (lambda record: "[1, 2]", "line 2: expected a JSON object, got list"),
        (lambda record: "\x00\xff", "line 2: expected a JSON object"),
        (lambda record: _without(record, "objects"), "line 2: expected a list of objects, got None"),
        (lambda record: _without(record, "index"), "line 2: index: expected 0 or more, got None"),
        (lambda record: _without(record, "stream"), "line 2: stream: expected a name, got None"),
        (lambda record: json.dumps(record | {"width": 0}), "line 2: width: expected 1 or more, got 0"),
        (lambda record: json.dumps(record | {"index": 0}), "line 2: frame 0 stands there a second time"),
        (lambda record: json.dumps(record | {"objects": [{"class": "person"}]}), "line 2: object 0: crop|mask|box"),
    ],
)
def test_wrong_line_is_named(tmp_path: Path, spoil: Any, message: str) -> None:
    path = write(tmp_path / "a.jsonl", [0, 1])
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{spoil(json.loads(second))}\n", encoding="latin-1")
    with pytest.raises(InputError, match=message):
        Replay(path)


def test_what_was_found_is_not_looked_at_in_tiles(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--tiles: expected an engine that looks at pictures"):
        Tiled(Replay(write(tmp_path / "a.jsonl", [0])), Tiles.parse("2x2"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": 10**400}, "score: expected a number"),
        ({"crop": {"side": float("inf"), "values": ""}}, "crop: expected side × side bytes"),
        ({"crop": {"side": 0, "values": ""}}, "side: expected 1 or more, got 0"),
    ],
)
def test_numbers_that_are_none_are_named_with_their_line(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "a.jsonl", [0])
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "objects": [record["objects"][0] | change]}))
    with pytest.raises(InputError, match=words):
        Replay(path)
