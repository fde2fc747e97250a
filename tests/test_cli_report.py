"""The table after a run names every number that was counted."""

from __future__ import annotations

from typing import Any

import pytest

from streamseg.cli.report import as_table, rows_of_totals
from streamseg.flow.report import StreamSummary, Summary


@pytest.mark.parametrize(
    ("totals", "rows"),
    [
        ({}, [("objects", "none")]),
        ({"objects": {}, "lines": {}, "zones": {}}, [("objects", "none")]),
        ({"objects": {"person": 2, "dog": 1}}, [("objects", "person 2, dog 1")]),
        (
            {"lines": {"gate": {"person": {"in": 6, "out": 0}}}, "objects": {"person": 6}},
            [("objects", "person 6"), ("lines", "gate person in 6, gate person out 0")],
        ),
        (
            {"dwell": {"shop": 12.5, "till": 1 / 3}, "path": {"a": [1, 2], "b": []}, "state": {"door": "open"}},
            [
                ("objects", "none"),
                ("dwell", "shop 12.5, till 0.333333"),
                ("path", "a 1 2, b none"),
                ("state", "door open"),
            ],
        ),
    ],
)
def test_every_kind_of_totals_that_counted_something_has_a_row(
    totals: dict[str, Any], rows: list[tuple[str, str]]
) -> None:
    assert list(rows_of_totals(totals)) == rows


def test_of_a_camera_that_never_came_the_table_says_that_there_was_nothing() -> None:
    assert as_table(Summary({"yard": StreamSummary()}, seconds=1.0, error=None, exit_code=130)) == "frames    none"


def test_lines_and_zones_stand_under_the_objects_in_the_table() -> None:
    stream = StreamSummary(
        read=2, written=2, seconds=1.0, totals={"objects": {"person": 1}, "lines": {"gate": {"in": 1}}}
    )
    table = as_table(Summary({"street": stream}, seconds=1.0, error=None, exit_code=0)).splitlines()
    assert table[-2:] == ["objects   person 1", "lines     gate in 1"]


def test_the_summary_says_what_the_engine_computed_in() -> None:
    stream = StreamSummary(read=2, written=2, seconds=1.0, stages={"engine": 0.5}, totals={"objects": {"person": 1}})
    summary = Summary({"street": stream}, seconds=1.0, error=None, exit_code=0, precision="int8")
    assert "engine    computed in int8" in as_table(summary).splitlines()
    assert summary.to_json()["precision"] == "int8"
    unknown = Summary({"street": stream}, seconds=1.0, error=None, exit_code=0)
    assert "computed in" not in as_table(unknown) and "precision" not in unknown.to_json()
