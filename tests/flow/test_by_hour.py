"""Totals by the hour and by the local day: what grew when, whatever the clock of the place does."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from streamseg.flow.by_hour import ByHour, Hours
from streamseg.types import Result, StreamInfo, UsageError
from tests.fakes import frame, instances


def totals(objects: int, gate_in: int = 0) -> dict[str, Any]:
    inside = {"now": objects % 2, "entered": gate_in, "left": 0}
    lines = {"gate": {"person": {"in": gate_in, "out": 0}}}
    return {"objects": {"person": objects}, "lines": lines, "zones": {"shop": {"person": inside}}}


def at(text: str, zone: tzinfo = UTC) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def told(*when: tuple[str, int], zone: tzinfo = UTC) -> ByHour:
    """One that heard these numbers of objects at these times of its place."""
    heard = ByHour(zone=zone)
    for text, objects in when:
        heard.add(at(text, zone), {"objects": {"person": objects}})
    return heard


def numbers(heard: ByHour, every: Any = "hour") -> list[tuple[str, int]]:
    return [(row["begins"], row["objects person"]) for row in heard.rows(every)]


def test_each_hour_has_what_the_totals_grew_by_in_it_and_those_between_have_nothing() -> None:
    heard = told(("2026-11-21T08:10", 2), ("2026-11-21T08:59:59", 5), ("2026-11-21T11:00", 6), ("2026-11-21T11:30", 6))
    hours = [("08", 5), ("09", 0), ("10", 0), ("11", 1)]
    assert numbers(heard) == [(f"2026-11-21T{hour}:00+00:00", number) for hour, number in hours]
    assert numbers(heard, "day") == [("2026-11-21", 6)]


def test_every_kind_of_total_has_a_column_but_what_is_there_now() -> None:
    heard = ByHour(zone=UTC)
    heard.add(at("2026-11-21T08:10"), totals(3, gate_in=2))
    heard.add(at("2026-11-21T09:10"), {**totals(3, gate_in=3), "loads": {"truck": 1}})
    columns = ["objects person", "lines gate person in", "zones shop person entered", "loads truck"]
    assert [[row[column] for column in columns] for row in heard.rows()] == [[3, 2, 2, 0], [0, 1, 1, 1]]
    assert not any("now" in column for column in heard.rows()[0])


def test_counting_that_begins_anew_is_added_to_what_was_counted_before() -> None:
    assert numbers(told(("2026-11-21T08:10", 7), ("2026-11-21T08:20", 2), ("2026-11-21T08:30", 3)), "day") == [
        ("2026-11-21", 10)
    ]


def test_days_end_at_midnight_of_the_place() -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    heard = told(("2026-11-21T23:59", 1), ("2026-11-22T00:01", 3), zone=india)
    assert numbers(heard) == [("2026-11-21T23:00+05:30", 1), ("2026-11-22T00:00+05:30", 2)]
    assert numbers(heard, "day") == [("2026-11-21", 1), ("2026-11-22", 2)]


def test_the_hour_that_comes_twice_in_autumn_has_two_rows_and_its_day_has_both() -> None:
    berlin, heard = ZoneInfo("Europe/Berlin"), ByHour(zone=ZoneInfo("Europe/Berlin"))
    for hour, objects in ((0, 1), (1, 2)):  # 2:30 in summer and 2:30 in winter time
        heard.add(at(f"2026-10-25T0{hour}:30"), {"objects": {"person": objects}})
    assert numbers(heard) == [("2026-10-25T02:00+02:00", 1), ("2026-10-25T02:00+01:00", 1)]
    assert numbers(heard, "day") == [("2026-10-25", 2)]
    spring = told(("2026-03-29T01:30", 1), ("2026-03-29T03:30", 2), zone=berlin)
    assert [begins for begins, _ in numbers(spring)] == ["2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"]


def test_a_table_can_be_read_by_any_spreadsheet() -> None:
    heard = ByHour(zone=UTC)
    heard.add(at("2026-11-21T08:10"), {"lines": {'a "gate", wide': {"person": {"in": 4}}}})
    (row,) = csv.DictReader(io.StringIO(heard.csv("day")))
    assert row == {"begins": "2026-11-21", 'lines a "gate", wide person in': "4"}
    assert ByHour().csv() == ""
    assert told(("2026-11-21T08:10", 2)).csv() == "begins,objects person\n2026-11-21T08:00+00:00,2\n"


def test_the_machine_s_own_clock_is_the_default() -> None:
    heard = ByHour()
    heard.add(at("2026-11-21T08:10"), {"objects": {"person": 1}})
    begins = datetime.fromisoformat(heard.rows()[0]["begins"])
    assert begins.minute == 0 and 0 <= at("2026-11-21T08:10") - begins.timestamp() < 3600


def test_the_oldest_hours_are_forgotten() -> None:
    heard = ByHour(zone=UTC, hours=3)
    for hour in range(10):
        heard.add(3600 * hour, {"objects": {"person": hour + 1}})
    assert [number for _, number in numbers(heard)] == [1, 1, 1]
    assert numbers(heard)[0][0] == "1970-01-01T07:00+00:00"


def test_a_restart_changes_nothing() -> None:
    whole = told(("2026-11-21T08:10", 2), ("2026-11-21T09:10", 5))
    before, after = told(("2026-11-21T08:10", 2)), ByHour(zone=UTC)
    after.restore(json.loads(json.dumps(before.state())))
    after.add(at("2026-11-21T09:10"), {"objects": {"person": 5}})
    assert after.rows() == whole.rows() and after.state() == whole.state()
    with pytest.raises(UsageError, match="the state of by_hour is damaged: 'before' is missing"):
        after.restore({key: value for key, value in before.state().items() if key != "before"})
    assert after.rows() == whole.rows()


def test_the_hours_of_a_live_stream_are_those_of_its_pictures_and_a_file_has_none() -> None:
    hours = Hours(["door", "street"])
    for stream, live in (("door", True), ("street", False)):
        hours.on_open(stream, StreamInfo(stream, 16, 16, Fraction(1, 10), Fraction(10), live=live))
        for number in (1, 2):
            seen = replace(frame(number, stream=stream), captured_at=time.monotonic() - 7200)
            hours.on_result(Result(seen, instances(), counts={"lines": {"gate": {"person": {"in": number}}}}))
    (row,) = hours.of["door"].rows()
    assert row["lines gate person in"] == 2
    begins = datetime.fromisoformat(row["begins"]).timestamp()
    assert 0 <= time.time() - 7200 - begins < 3601
    assert hours.csv("door").splitlines()[0] == "begins,lines gate person in"
    assert hours.csv("street") == hours.csv("nobody") == ""


def test_counts_stay_when_hours_begin_at_another_minute() -> None:
    before = told(("2026-11-21T08:10", 2), ("2026-11-21T09:10", 3))
    after = ByHour(zone=ZoneInfo("Asia/Kolkata"))
    after.restore(json.loads(json.dumps(before.state())))
    after.add(at("2026-11-21T10:40"), {"objects": {"person": 7}})
    assert sum(number for _, number in numbers(after)) == 7
    assert numbers(after, "day") == [("2026-11-21", 7)]


def test_of_a_clock_that_was_wrong_by_years_no_row_an_hour_is_made() -> None:
    heard = told(("1970-01-01T00:10", 1), ("2026-11-21T08:10", 3), ("2026-11-21T10:10", 4))
    assert [number for _, number in numbers(heard)] == [1, 2, 0, 1]


def test_a_line_may_be_called_now() -> None:
    heard = ByHour(zone=UTC)
    inside = {"person": {"now": 1, "entered": 2, "left": 1}}
    heard.add(at("2026-11-21T08:10"), {"lines": {"now": {"person": {"in": 3, "out": 0}}}, "zones": {"now": inside}})
    (row,) = heard.rows()
    assert {column: number for column, number in row.items() if column != "begins"} == {
        "lines now person in": 3,
        "zones now person entered": 2,
        "zones now person left": 1,
    }
