"""What Prometheus scrapes."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from streamseg.flow.report import StreamSummary, Summary
from streamseg.server.hub import Hub
from streamseg.types import OutputStatus, SourceState
from tests import fakes
from tests.server.conftest import Client
from tests.server.fake import result

Sample = tuple[str, frozenset[tuple[str, str]]]


def scraped(text: str) -> dict[Sample, float]:
    """Every number by its name and labels."""
    families = text_string_to_metric_families(text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def named(name: str, **labels: str) -> Sample:
    return f"streamseg_{name}", frozenset({"stream": "street", **labels}.items())


def street(hub: Hub) -> None:
    sink = OutputStatus("rtsp", "retrying", "refused", dropped=4, waiting=5)
    run = StreamSummary(read=10, written=8, dropped={"slow engine": 2}, stages={"engine": 1.5}, sinks=(sink,))
    hub.summary = lambda: Summary({"street": run}, 1.0, None, 0)
    hub.publishers = lambda: [OutputStatus("mqtt")]
    hub.on_state("street", SourceState("live"))
    totals = {
        "objects": {"person": 6},
        "lines": {"gate": {"person": {"in": 5, "out": 1}}},
        "zones": {"shop": {"person": {"now": 2, "entered": 9, "left": 7}}},
    }
    hub.on_result(result(fakes.frame(), num=3, totals=totals))


def test_all_numbers_are_there(hub: Hub, client: Client) -> None:
    street(hub)
    numbers = scraped(client().get("/metrics").text)
    expected = {
        named("frames_read_total"): 10,
        named("frames_shown_total"): 8,
        named("frames_dropped_total", cause="slow engine"): 2,
        named("stream_state", state="live"): 1,
        named("stream_state", state="lost"): 0,
        named("objects", **{"class": "person"}): 2,
        named("objects", **{"class": "dog"}): 1,
        named("objects_seen_total", **{"class": "person"}): 6,
        named("crossings_total", line="gate", direction="in", **{"class": "person"}): 5,
        named("crossings_total", line="gate", direction="out", **{"class": "person"}): 1,
        named("zone_objects", zone="shop", **{"class": "person"}): 2,
        named("zone_passages_total", zone="shop", direction="entered", **{"class": "person"}): 9,
        named("zone_passages_total", zone="shop", direction="left", **{"class": "person"}): 7,
        named("output_dropped_total", output="rtsp"): 4,
        named("output_waiting", output="rtsp"): 5,
        named("output_state", output="mqtt", state="ok", stream=""): 1,
        named("output_state", output="rtsp", state="retrying"): 1,
        named("output_state", output="rtsp", state="ok"): 0,
        named("stage_seconds_total", stage="engine"): 1.5,
    }
    assert {sample: numbers[sample] for sample in expected} == expected
    assert 0 <= numbers[named("picture_age_seconds")] < 60
    assert ("process_open_fds", frozenset()) in numbers


def test_every_metric_says_what_it_is(hub: Hub, client: Client) -> None:
    street(hub)
    for family in text_string_to_metric_families(client().get("/metrics").text):
        assert family.documentation and family.type in ("counter", "gauge"), family.name


def test_the_documentation_lists_every_metric(hub: Hub, client: Client) -> None:
    street(hub)
    found = {name for name, _ in scraped(client().get("/metrics").text) if name.startswith("streamseg_")}
    text = (Path(__file__).resolve().parents[2] / "docs" / "web.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(streamseg_\w+)`", text)) == {name for name in found if not name.endswith("_created")}


def test_before_the_first_frame_there_is_a_state_and_no_age(client: Client) -> None:
    numbers = scraped(client().get("/metrics").text)
    assert numbers[named("stream_state", state="connecting")] == 1
    assert named("picture_age_seconds") not in numbers


def test_openmetrics_is_spoken_where_it_is_asked_for(client: Client) -> None:
    answer = client().get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_a_counter_of_ones_own_breaks_nothing(hub: Hub, client: Client) -> None:
    hub.on_result(
        result(fakes.frame(), totals={"objects": [1], "lines": {"gate": 3}, "zones": {"a": {"b": {"c": "d"}}}})
    )
    assert client().get("/metrics").status_code == 200
    assert client().get("/api/streams").status_code == 200
