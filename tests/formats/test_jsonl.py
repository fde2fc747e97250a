"""Our own labels are records: what reads those of a run reads these."""

from __future__ import annotations

import json
from pathlib import Path

from streamseg.engines.replay import Replay
from streamseg.formats.jsonl import Jsonl
from tests import fakes
from tests.formats import videos


def test_a_line_a_frame_holds_every_object_and_its_mask_as_it_is(tmp_path: Path) -> None:
    videos.write(Jsonl(), tmp_path, "street")
    lines = [json.loads(line) for line in (tmp_path / "street.jsonl").read_text().splitlines()]
    for line, frame in zip(lines, videos.frames(pictures="street"), strict=True):
        assert (line["stream"], line["index"], line["time"]) == ("street", frame.index, frame.time)
        assert (line["width"], line["height"], line["picture"]) == (64, 48, frame.picture)
        assert [each["mask"] for each in line["objects"]] == [label.mask for label in frame.labels]
        assert [each["track"] for each in line["objects"]] == [label.track for label in frame.labels]
        assert [tuple(each["box"]) for each in line["objects"]] == [label.box for label in frame.labels]


def test_a_run_can_replay_them(tmp_path: Path) -> None:
    videos.write(Jsonl(), tmp_path, "street")
    engine = Replay(tmp_path / "street.jsonl")
    assert engine.class_names == ("background", "person", "dog")
    (found,) = engine.predict([fakes.frame(3, width=64, height=48)])
    assert list(found.names) == ["person", "dog"] and list(found.track_ids) == [1, -1]


def test_a_name_that_is_no_utf8_is_written_too(tmp_path: Path) -> None:
    videos.write(Jsonl(), tmp_path, "b\udce4r")
    (path,) = tmp_path.glob("*.jsonl")
    assert json.loads(path.read_text().splitlines()[0])["stream"] == "b\udce4r"
