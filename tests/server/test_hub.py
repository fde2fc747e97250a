"""The hub hears a pipeline and answers from any thread."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from streamseg.flow.report import StreamSummary, Summary
from streamseg.server.hub import EVENTS, WAITING, Hub
from streamseg.types import Listener, OutputStatus, SourceState
from tests import fakes
from tests.server.fake import crossing, info, result


def seen(number: int = 0, **rest: Any) -> Any:
    """Result `number` of the stream `street`."""
    return result(fakes.frame(number), **rest)


class Ears:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_picture(self, stream: str) -> None:
        self.heard.append(stream)

    def on_event(self, event: Mapping[str, Any]) -> None:
        self.heard.append(event["id"])

    def on_state(self, state: Mapping[str, Any]) -> None:
        self.heard.append(state["state"])


def test_it_is_a_listener(hub: Hub) -> None:
    assert isinstance(hub, Listener)


def test_before_the_first_frame_every_stream_is_connecting(hub: Hub) -> None:
    (street,) = hub.streams()
    assert (street["name"], street["state"], street["width"], street["age"]) == ("street", "connecting", None, None)
    assert street["counts"] == {"objects": {}, "lines": {}, "zones": {}}


def test_a_file_is_live_from_its_first_frame_to_its_end(hub: Hub) -> None:
    hub.on_open("street", replace(info("street", fakes.frame()), live=False))
    assert hub.streams()[0]["state"] == "live"
    hub.on_end("street", None)
    assert hub.streams()[0]["state"] == "ended"
    hub.on_end("street", "the disk is full")
    assert (hub.streams()[0]["state"], hub.streams()[0]["cause"]) == ("failed", "the disk is full")


def test_a_state_comes_with_its_cause_and_the_time_of_its_change(hub: Hub) -> None:
    hub.on_state("street", SourceState("lost", "the camera closed the connection", since=time.monotonic() - 60))
    (street,) = hub.streams()
    assert (street["state"], street["cause"]) == ("lost", "the camera closed the connection")
    assert street["since"] == pytest.approx(time.time() - 60, abs=5)


def test_the_first_frame_does_not_hide_what_a_live_source_said(hub: Hub) -> None:
    hub.on_state("street", SourceState("stalled", "no picture"))
    hub.on_open("street", info("street", fakes.frame()))
    assert hub.streams()[0]["state"] == "stalled"


def test_a_stream_that_joins_later_is_there(hub: Hub) -> None:
    hub.on_state("yard", SourceState("connecting"))
    assert hub.names == ["street", "yard"]


def test_objects_in_sight_are_confirmed_tracks(hub: Hub) -> None:
    three = seen(num=3)
    two = replace(three, instances=replace(three.instances, track_ids=three.instances.track_ids - 1))
    hub.on_result(two)
    assert hub.streams()[0]["now"] == {"person": 1, "dog": 1}


def test_an_object_that_is_not_confirmed_is_not_in_sight_where_something_tracks(hub: Hub) -> None:
    hub.on_result(replace(seen(), instances=fakes.instances(0.9, 0.8), tracked=True))
    assert hub.streams()[0]["now"] == {}


def test_without_a_tracker_all_objects_are_in_sight(hub: Hub) -> None:
    hub.on_result(replace(seen(), instances=fakes.instances(0.9, 0.8)))
    assert hub.streams()[0]["now"] == {"person": 2}


def test_frames_and_drops_are_those_of_the_pipeline() -> None:
    run = StreamSummary(read=9, written=7, dropped={"slow engine": 2})
    hub = Hub(["street"], summary=lambda: Summary({"street": run}, 1.0, None, 0))
    (street,) = hub.streams()
    assert (street["read"], street["shown"], street["dropped"]) == (9, 7, {"slow engine": 2})


def test_many_who_ask_at_once_ask_the_pipeline_once() -> None:
    asked = []
    hub = Hub(["street"], summary=lambda: asked.append(1) or Summary({}, 1.0, None, 0))  # type: ignore[func-returns-value]
    for _ in range(20):
        hub.streams()
    assert len(asked) == 1


def test_sinks_say_how_they_are_doing() -> None:
    run = StreamSummary(sinks=(OutputStatus("rtsp", "retrying", "refused", dropped=4, waiting=1),))
    hub = Hub(["street"], summary=lambda: Summary({"street": run}, 1.0, None, 0))
    status = {"name": "rtsp", "state": "retrying", "cause": "refused", "dropped": 4, "waiting": 1}
    assert hub.streams()[0]["sinks"] == [status]


def test_of_a_frame_too_old_to_be_shown_counts_and_events_are_told_and_no_picture(hub: Hub) -> None:
    hub.on_result(seen(0, num=1))
    shown = hub.newest("street")
    old = seen(1, num=3, totals={"objects": {"person": 3}}, events=(crossing("street", 1),))
    hub.on_result(replace(old, picture=None))
    assert hub.newest("street") is shown
    (street,) = hub.streams()
    assert (street["shown"], street["now"], street["counts"]["objects"]) == (1, {"person": 2, "dog": 1}, {"person": 3})
    assert [event["thumbnail"] for event in hub.events()] == [None]


def test_an_id_of_any_kind_has_a_thumbnail(hub: Hub) -> None:
    hub.on_result(seen(events=({**crossing("street", 1), "id": "hall/door 2#7"},)))
    assert hub.events()[0]["thumbnail"] == "/api/events/hall%2Fdoor%202%237/thumbnail.jpg"
    assert hub.thumbnail("hall/door 2#7") is not None


@pytest.mark.parametrize("track", [7, -1, None, "of another kind"])
def test_an_event_whose_object_is_in_no_picture_promises_none(hub: Hub, track: Any) -> None:
    hub.on_result(seen(events=({**crossing("street", 1), "track": track},)))
    assert [event["thumbnail"] for event in hub.events()] == [None]


def test_events_come_newest_first_and_page_by_page(hub: Hub) -> None:
    for number in range(5):
        hub.on_result(seen(number, events=(crossing("street", number),)))
    assert [event["id"] for event in hub.events(limit=2)] == ["street-4", "street-3"]
    assert [event["id"] for event in hub.events(limit=2, before="street-3")] == ["street-2", "street-1"]
    assert hub.events(before="an event that is not kept any more") == []
    assert hub.events(stream="yard") == []
    assert [event["id"] for event in hub.events_after("street-2")] == ["street-3", "street-4"]


def test_the_last_events_are_kept_and_only_some_pictures_wait_for_their_thumbnails(hub: Hub) -> None:
    for number in range(EVENTS + 10):
        hub.on_result(seen(number, events=(crossing("street", number),)))
    events = hub.events(limit=EVENTS)
    assert (len(events), events[-1]["id"]) == (EVENTS, "street-10")
    assert sum(event["thumbnail"] is not None for event in events) == WAITING


def test_a_thumbnail_is_made_when_it_is_asked_for_and_stays(hub: Hub) -> None:
    hub.on_result(seen(events=(crossing("street", 1),)))
    made = hub.thumbnail("street-1")
    assert made is not None and made.startswith(b"\xff\xd8")
    hub.make_waiting_thumbnails()
    assert hub.thumbnail("street-1") is made
    assert hub.thumbnail("street-2") is None


def test_an_event_without_an_id_gets_one(hub: Hub) -> None:
    hub.on_result(seen(events=({"event": "seen", "name": "person"},)))
    (event,) = hub.events()
    assert event["id"] and event["stream"] == "street"


def test_what_json_cannot_hold_breaks_nothing(hub: Hub) -> None:
    hub.on_result(seen(totals={"objects": {"person": object()}}, events=({"event": object()},)))
    assert hub.streams()[0]["counts"]["objects"] == {}
    assert len(hub.events()) == 1


def test_the_chart_gets_lines_and_zones_over_all_classes(hub: Hub) -> None:
    totals = {
        "lines": {"gate": {"person": {"in": 6, "out": 1}, "dog": {"in": 1, "out": 0}}},
        "zones": {"shop": {"person": {"now": 2, "entered": 9, "left": 7}}},
    }
    hub.on_result(seen(num=1, totals=totals))
    history = hub.history("street", minutes=1)
    assert history["now"] == {"person": [1]}
    assert history["lines"] == {"gate in": [7], "gate out": [1]}
    assert history["zones"] == {"shop now": [2]}


def test_who_watches_is_told_of_pictures_events_and_states(hub: Hub) -> None:
    ears = Ears()
    hub.watchers = (ears,)
    hub.on_state("street", SourceState("live"))
    hub.on_result(seen(events=(crossing("street", 1),)))
    assert ears.heard == ["live", "street", "street-1"]


def test_nobody_is_in_sight_of_a_camera_that_is_lost(hub: Hub) -> None:
    hub.on_state("street", SourceState("live"))
    hub.on_result(seen(num=3))
    assert sum(hub.streams()[0]["now"].values()) == 3
    hub.on_state("street", SourceState("lost", "the camera closed the connection"))
    assert hub.streams()[0]["now"] == {}


def test_before_the_first_picture_the_totals_are_those_that_were_kept() -> None:
    run = StreamSummary(totals={"lines": {"gate": {"person": {"in": 6, "out": 0}}}})
    hub = Hub(["street"], summary=lambda: Summary({"street": run}, 1.0, None, 0))
    (street,) = hub.streams()
    assert street["counts"] == {"objects": {}, "zones": {}, **run.totals}
