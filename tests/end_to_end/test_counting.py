"""Lines and zones through the whole house: from the command line to the summary, the records and the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import WALKER, pictures, planes, run

CLIP = ("test:320x240@30", "--end", "3")
GATE, SHOP = ("--line", "gate=0.4,0,0.4,1"), ("--zone", "shop=0.6,0,1,0,1,1,0.6,1")


def summary(*arguments: str | Path, engine: tuple[str, ...] = WALKER) -> Any:
    return json.loads(run(*arguments, "--json", engine=engine).stdout)


def test_who_walks_through_is_in_the_summary_and_in_the_records(here: Path) -> None:
    told = summary(*CLIP, *GATE, *SHOP, "-o", "walk.jsonl")
    assert told["lines"] == {"gate": {"person": {"in": 0, "out": 1}}}
    assert told["zones"] == {
        "shop": {"dog": {"now": 1, "entered": 1, "left": 0}, "person": {"now": 1, "entered": 1, "left": 0}}
    }
    records = [json.loads(line) for line in Path("walk.jsonl").read_text().splitlines()]
    assert (records[-1]["lines"], records[-1]["zones"]) == (told["lines"], told["zones"])
    assert records[0]["lines"] == {"gate": {}}
    events = [event for record in records for event in record.get("events", ())]
    assert [(event["event"], event["class"], event["direction"]) for event in events] == [
        ("zone", "dog", "entered"),
        ("line", "person", "out"),
        ("zone", "person", "entered"),
    ]
    # its foot begins at 0.125 and goes by 0.0075 a frame: over 0.4 after 36.7 frames
    assert events[1]["time"] == pytest.approx(36.7 / 30, abs=0.02)
    assert events[1]["point"] == pytest.approx([128, 168], abs=1)


def test_counts_shows_the_line_and_the_zone_and_what_they_count(here: Path) -> None:
    run(*CLIP, "--effect", "counts", "-o", "without.mkv", "--quality", "lossless")
    run(*CLIP, "--effect", "counts", *GATE, *SHOP, "-o", "with.mkv", "--quality", "lossless")
    before, after = (planes(pictures(name)[-1])[0] for name in ("without.mkv", "with.mkv"))
    changed = before != after
    assert changed[60:, 127:130].all()  # the line, but for its plate
    assert changed[10:-10, 200:].mean() > 0.9  # the tinted zone
    assert not changed[40:, 20:100].any() and not changed[40:, 150:180].any()


def test_a_line_may_stand_in_a_pipeline(here: Path) -> None:
    Path("gate.yaml").write_text(
        "counters: [per_class, {line: {name: gate, ends: [0.4, 0, 0.4, 1], classes: [dog]}}]\neffects: [lines]\n"
    )
    told = summary("--pipeline", "gate.yaml", *CLIP, "--line", "door=0.3,1,0.3,0", "-o", "walk.mp4")
    assert told["lines"] == {"gate": {}, "door": {"person": {"in": 1, "out": 0}}}


def test_a_wrong_line_is_wrong_use_in_a_sentence(here: Path) -> None:
    said = run(*CLIP, "--line", "gate=0.4,0,0.4,0", "-o", "walk.jsonl", code=2)
    assert "streamseg: line gate: expected two ends apart, got one point twice, so a line of length 0" in said.stderr
    assert not list(here.iterdir())


def leaving(clip: Path, *arguments: str) -> tuple[Any, list[Any]]:
    """What the embedded model counts at the line that everybody in the clip leaves over, and the events."""
    told = summary(clip, "--line", "gate=0.72,0,0.72,1", *arguments, "-o", "people.jsonl", engine=())
    records = [json.loads(line) for line in Path("people.jsonl").read_text().splitlines()]
    return told["lines"], [event for record in records for event in record.get("events", ())]


ONE_BY_ONE = Path("videos") / "one-by-one-person-detection.mp4"


def test_the_embedded_model_sees_one_of_them_leave(here: Path, shared_data: Path, embedded_model: str) -> None:
    lines, events = leaving(shared_data / ONE_BY_ONE, "--model", embedded_model, "--start", "16", "--end", "21")
    assert lines == {"gate": {"person": {"in": 0, "out": 1}}}
    assert [event["time"] for event in events] == [pytest.approx(18.7, abs=0.3)]


@pytest.mark.thorough
def test_six_people_leave_one_by_one_and_nobody_comes_in(here: Path, shared_data: Path, embedded_model: str) -> None:
    lines, events = leaving(shared_data / ONE_BY_ONE, "--model", embedded_model)
    assert lines == {"gate": {"person": {"in": 0, "out": 6}}}
    assert len(events) == len({event["id"] for event in events}) == 6  # one record for each of them
