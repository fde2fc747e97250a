"""The jsonl sink, by reading its lines."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from streamseg.engines.replay import Replay
from streamseg.sinks.jsonl import Jsonl
from streamseg.types import Frame, Instances, OutputError, Result, Sink, StreamInfo, UsageError
from tests.clips import numbered_picture
from tests.full_disk import files_of_at_most

INFO = StreamInfo("street", 64, 48, Fraction(1, 25), Fraction(25))


def result(index: int) -> Result:
    picture = numbered_picture(index, width=64, height=48)
    instances = Instances(
        boxes=np.array([[1, 2, 11, 22]], np.float32),
        masks=np.ones((1, 28, 28), np.float32),
        scores=np.array([0.5], np.float32),
        class_ids=np.array([1], np.int32),
        track_ids=np.array([index], np.int32),
        class_names=("background", "Fußgänger"),
    )
    return Result(Frame(picture, index, index / 25, 0.0, "street"), instances)


def test_every_line_is_on_the_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with Jsonl(tmp_path / "out.jsonl") as sink:
        sink.start(INFO)
        for index in range(3):
            made = result(index)
            sink.write(made.frame.picture, made)
            lines = (tmp_path / "out.part.jsonl").read_text(encoding="utf-8").splitlines()
            assert [json.loads(line)["index"] for line in lines] == list(range(index + 1))
    assert sink.path == tmp_path / "out.jsonl"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert "Fußgänger" in sink.path.read_text(encoding="utf-8")


def test_sink_protocol_is_fitted(tmp_path: Path) -> None:
    assert isinstance(Jsonl(tmp_path / "out.jsonl"), Sink)


def test_crops_can_be_left_out(tmp_path: Path) -> None:
    for crops in (True, False):
        with Jsonl(tmp_path / f"{crops}.jsonl", crops=crops) as sink:
            sink.start(INFO)
            sink.write(result(0).frame.picture, result(0))
        assert ("crop" in json.loads(sink.path.read_text())["objects"][0]) is crops


def test_totals_and_events_of_any_counter_are_in_the_line_and_replay_passes_over_them(tmp_path: Path) -> None:
    made = replace(result(0), counts={"queue": {"till": 2}}, events=({"event": "joined", "track": 0},))
    with Jsonl(tmp_path / "out.jsonl") as sink:
        sink.start(INFO)
        sink.write(made.frame.picture, made)
    line = json.loads(sink.path.read_text())
    assert (line["counts"], line["events"]) == ({"queue": {"till": 2}}, [{"event": "joined", "track": 0}])
    (replayed,) = Replay(sink.path).predict([made.frame])
    np.testing.assert_array_equal(replayed.boxes, made.instances.boxes)


def test_error_leaves_the_part_file_with_what_was_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Jsonl(tmp_path / "out.jsonl") as sink:
        sink.start(INFO)
        sink.write(result(0).frame.picture, result(0))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out.part.jsonl"]
    assert json.loads(sink.path.read_text())["index"] == 0


def test_existing_file_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("precious")
    with pytest.raises(UsageError, match="exists already"), Jsonl(tmp_path / "out.jsonl"):
        pass
    with Jsonl(tmp_path / "out.jsonl", overwrite=True) as sink:
        sink.start(INFO)
        assert (tmp_path / "out.jsonl").read_text() == "precious"
        sink.write(result(0).frame.picture, result(0))
    assert json.loads((tmp_path / "out.jsonl").read_text())["index"] == 0


def test_another_ending_is_refused() -> None:
    with pytest.raises(UsageError, match=r"ending in \.jsonl"):
        Jsonl("out.json")


def test_full_disk_is_an_output_error_and_nothing_gets_the_final_name(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "out.part.jsonl").symlink_to("/dev/full")
    with (
        pytest.raises(OutputError, match="cannot be written: no space left"),
        Jsonl(tmp_path / "out.jsonl") as sink,
    ):
        sink.start(INFO)
        sink.write(result(0).frame.picture, result(0))
    assert not (tmp_path / "out.jsonl").exists()


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    sink = Jsonl(tmp_path / "out.jsonl")
    with pytest.raises(OutputError, match="cannot be written: file too large"), files_of_at_most(3000), sink:
        sink.start(INFO)
        for index in range(100):
            sink.write(result(index).frame.picture, result(index))
    text = (tmp_path / "out.part.jsonl").read_text(encoding="utf-8")
    assert text.endswith("}\n") and [json.loads(line) for line in text.splitlines()]
