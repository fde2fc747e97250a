"""A camera with an engine that is far too slow for it: every frame is written, in order, with its objects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.command import process

PIPELINE = """
engine: tests.end_to_end.live_parts:SlowEngine
source: {"tests.end_to_end.live_parts:Camera": {seconds: 4.0}}
effects: [labels]
sinks: [{video_file: {path: out.mp4}}, {jsonl: {path: out.jsonl}}]
segment: 600
"""


@pytest.mark.real_time
def test_every_frame_of_a_camera_is_written_with_the_objects_that_the_tracker_carries(tmp_path: Path) -> None:
    (tmp_path / "live.yaml").write_text(PIPELINE)
    child = process("--pipeline", "live.yaml", "--json", folder=tmp_path)
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 0, stderr
    summary = json.loads(stdout)
    assert summary["frames"] == {"read": 120, "written": 120, "dropped": {}}
    assert summary["objects"] == {"person": 1}
    (recorded,) = tmp_path.glob("out_*Z.jsonl")
    records = [json.loads(line) for line in recorded.read_text().splitlines()]
    assert [record["index"] for record in records] == list(range(120))
    found = [record["objects"] for record in records]
    assert all(len(objects) == 1 for objects in found), "nobody is lost between two looks"
    lefts = [objects[0]["box"][0] for objects in found]
    assert max(abs(left - index / 3) for index, left in enumerate(lefts[60:], start=60)) < 3, "a person walks on"
    assert {objects[0]["track"] for objects in found[60:]} == {1}
