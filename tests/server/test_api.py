"""What the API answers."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from email.utils import parsedate_to_datetime
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest

from streamseg.server.hub import Hub
from streamseg.types import OutputStatus, SourceState, StreamInfo
from tests import fakes
from tests.server.conftest import Client
from tests.server.fake import crossing, result


def shown(hub: Hub, number: int = 0, **rest: Any) -> None:
    """The hub sees picture `number` of the street, 320 pixels wide."""
    hub.on_result(result(fakes.frame(number, width=320, height=180), **rest))


def test_it_answers_before_there_is_a_pipeline(client: Client) -> None:
    browser = client()
    (street,) = browser.get("/api/streams").json()
    assert (street["name"], street["state"], street["age"]) == ("street", "connecting", None)
    assert browser.get("/api/events").json() == []
    empty: dict[str, Any] = {"time": [], "now": {}, "lines": {}, "zones": {}}
    assert browser.get("/api/history", params={"stream": "street"}).json() == empty
    assert browser.get("/stream/street.jpg").status_code == 404


def test_streams_say_what_was_counted(hub: Hub, client: Client) -> None:
    totals = {"objects": {"person": 6}, "lines": {"gate": {"person": {"in": 6, "out": 0}}}}
    shown(hub, num=3, totals=totals)
    (street,) = client().get("/api/streams").json()
    assert (street["width"], street["height"], street["now"]) == (320, 180, {"person": 2, "dog": 1})
    assert street["counts"] == {**totals, "zones": {}}
    assert street["read"] == street["shown"] == 1


def test_an_event_comes_whole_and_with_its_picture(hub: Hub, client: Client) -> None:
    shown(hub, num=1, events=({**crossing("street", 1), "id": "street/1"},))
    browser = client()
    (event,) = browser.get("/api/events").json()
    place = "/api/events/street%2F1/thumbnail.jpg"
    assert event == {**crossing("street", 1), "id": "street/1", "at": event["at"], "thumbnail": place}
    picture = browser.get(event["thumbnail"])
    assert picture.headers["content-type"] == "image/jpeg"
    decoded = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None and 0 < max(decoded.shape[:2]) <= 160


def test_events_can_be_asked_for_by_stream_and_page(hub: Hub, client: Client) -> None:
    for number in range(3):
        shown(hub, number, events=(crossing("street", number),))
    browser = client()

    def ids(**asked: Any) -> list[str]:
        return [event["id"] for event in browser.get("/api/events", params=asked).json()]

    assert ids(limit=1) == ["street-2"]
    assert ids(before="street-2", stream="street") == ["street-1", "street-0"]


def test_what_was_counted_by_hour_is_a_table(hub: Hub, client: Client) -> None:
    info = StreamInfo("street", 320, 180, Fraction(1, 10), Fraction(10), live=True)
    hub.hours.on_open("street", info)
    counted = result(fakes.frame(1), totals={"lines": {"gate": {"person": {"in": 6, "out": 0}}}})
    hub.hours.on_result(counted)
    for every in ("hour", "day"):
        answer = client().get("/api/counts.csv", params={"stream": "street", "every": every})
        assert answer.headers["content-type"].startswith("text/csv")
        head, row = answer.text.splitlines()
        assert head == "begins,lines gate person in" and row.endswith(",6")


@pytest.mark.parametrize(
    "path",
    [
        "/api/counts.csv?stream=stret",
        "/api/events?stream=stret",
        "/api/history?stream=stret",
        "/stream/stret.jpg",
        "/stream/stret.mjpg",
    ],
)
def test_an_unknown_stream_is_answered_with_the_nearest_name(client: Client, path: str) -> None:
    answer = client().get(path)
    assert answer.status_code == 404
    assert "street" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/events?limit=0",
        "/api/events?limit=501",
        "/api/history",
        "/api/history?stream=street&minutes=0",
        "/api/history?stream=street&minutes=nan",
        "/stream/street.jpg?width=0",
    ],
)
def test_a_wrong_question_is_refused(client: Client, path: str) -> None:
    assert client().get(path).status_code == 422


def test_a_still_is_as_wide_as_asked_for(hub: Hub, client: Client) -> None:
    shown(hub)
    browser = client()
    for asked, width in ((None, 320), (100, 160), (300, 320)):
        still = browser.get("/stream/street.jpg", params={} if asked is None else {"width": asked})
        assert still.headers["content-type"] == "image/jpeg"
        assert abs(parsedate_to_datetime(still.headers["last-modified"]).timestamp() - time.time()) < 60
        decoded = cv2.imdecode(np.frombuffer(still.content, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None and decoded.shape[1] == width


def test_a_name_with_a_slash_and_a_space_is_a_name(hub: Hub, client: Client) -> None:
    frame = fakes.frame(stream="hall/door 2", width=320, height=180)
    hub.on_result(result(frame))
    assert client().get("/stream/hall%2Fdoor%202.jpg").status_code == 200


def test_health_is_that_of_the_worst_stream(hub: Hub, client: Client) -> None:
    browser = client()
    assert browser.get("/livez").json() == {"alive": True}
    assert browser.get("/healthz").status_code == 503
    hub.on_state("street", SourceState("live"))
    assert browser.get("/healthz").json() == {"healthy": True, "streams": {"street": "live"}, "publishers": []}
    hub.on_state("yard", SourceState("lost", "gone"))
    answer = browser.get("/healthz")
    assert (answer.status_code, answer.json()["streams"]) == (503, {"street": "live", "yard": "lost"})
    hub.on_end("yard", None)
    assert browser.get("/healthz").status_code == 200


def test_publishers_are_part_of_the_health(hub: Hub, client: Client) -> None:
    mqtt = OutputStatus("mqtt", "retrying", "connection refused", dropped=3, waiting=9)
    hub.publishers = lambda: [mqtt]
    assert client().get("/healthz").json()["publishers"] == [asdict(mqtt)]


def test_the_pages_are_there(client: Client) -> None:
    browser = client()
    assert browser.get("/").text == "this is index.html"
    assert browser.get("/docs").text == "this is docs.html"
    css = browser.get("/page/page.css")
    assert css.headers["content-type"].startswith("text/css")
    assert browser.get("/login").headers["location"] == "/"  # nobody needs to log in


def test_the_description_names_everything_that_can_be_asked(client: Client) -> None:
    described = client().get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/api/streams",
        "/api/events",
        "/api/events/{event_id}/thumbnail.jpg",
        "/api/events/stream",
        "/api/history",
        "/api/counts.csv",
        "/stream/{name}.jpg",
        "/stream/{name}.mjpg",
        "/livez",
        "/healthz",
        "/metrics",
    }
    text = json.dumps(described)
    assert "securitySchemes" not in text
    needing = client("a-long-token").get("/openapi.json", headers={"Authorization": "Bearer a-long-token"}).json()
    assert "securitySchemes" in needing["components"]
