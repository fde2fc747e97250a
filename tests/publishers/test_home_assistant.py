"""What Home Assistant is told fits what it asks for, and its templates read the right numbers out of our messages."""

from __future__ import annotations

import json
import re
from typing import Any

import jinja2
import pytest

from streamseg.publishers._home_assistant import Site, of_counts, of_state
from tests.publishers.messages import COUNTS

SITE = Site("homeassistant", "site", "site/availability")

KEYS = {
    "name", "unique_id", "state_topic", "value_template", "availability_topic", "state_class", "device_class",
    "entity_category", "json_attributes_topic", "device", "origin", "availability", "availability_mode",
}  # fmt: skip
"""Of its documentation of MQTT sensors and binary sensors, those that are used here."""


def sensors(counts: dict[str, Any], *, stream: str = "front") -> dict[str, dict[str, Any]]:
    return {topic: json.loads(text) for topic, text in of_counts(SITE, stream, f"site/{stream}/counts", counts)}


def shown(sensor: dict[str, Any], body: dict[str, Any]) -> str:
    """What Home Assistant shows of a message, by its own template language."""
    return jinja2.Environment().from_string(sensor["value_template"]).render(value_json=body)


def test_there_is_a_sensor_for_every_class_every_direction_and_every_zone() -> None:
    found = {sensor["name"]: shown(sensor, COUNTS) for sensor in sensors(COUNTS).values()}
    assert found == {"person now": "3", "dog now": "0", "gate in": "5", "gate out": "1", "shop now": "2"}


def test_running_totals_only_grow_and_others_are_measured() -> None:
    classes = {sensor["name"]: sensor["state_class"] for sensor in sensors(COUNTS).values()}
    assert classes["gate in"] == "total_increasing" and classes["person now"] == classes["shop now"] == "measurement"


def test_a_class_that_is_not_in_sight_any_more_is_none() -> None:
    (sensor, *_) = sensors(COUNTS).values()
    assert shown(sensor, COUNTS | {"now": {}}) == "0"


def test_a_line_that_nobody_crossed_yet_counts_zero() -> None:
    before, after = {"lines": {"gate": {}}}, COUNTS
    found = sensors(before)
    assert [shown(each, before) for each in found.values()] == ["0", "0"]
    assert [shown(each, after) for each in found.values()] == ["5", "1"]


def test_the_connection_is_on_while_pictures_come() -> None:
    topic, text = of_state(SITE, "front", "site/front/state")
    sensor = json.loads(text)
    assert topic == "homeassistant/binary_sensor/site-front/connection/config"
    assert sensor["device_class"] == "connectivity" and sensor["state_topic"] == "site/front/state"
    states = {name: shown(sensor, {"state": name}) for name in ("live", "running", "lost", "ended", "stalled")}
    assert states == {"live": "ON", "running": "ON", "lost": "OFF", "ended": "OFF", "stalled": "OFF"}


@pytest.mark.parametrize("stream", ["front", "門 1", 'a/b "c"'])
def test_each_entity_stands_in_its_own_topic_under_its_own_id(stream: str) -> None:
    counts = {"now": {"person": 1, "Straße": 1, "Stra_e": 1}, "lines": {'the "gate"': {"person": {"in": 7, "out": 0}}}}
    found = sensors(counts, stream=stream)
    assert len(found) == len({sensor["unique_id"] for sensor in found.values()}) == 5
    for topic, sensor in found.items():
        assert re.fullmatch(r"homeassistant/sensor/[\w-]+/[\w-]+/config", topic, re.ASCII)
        assert set(sensor) <= KEYS
        assert sensor["device"]["identifiers"] and sensor["device"]["name"] == stream
        assert sensor["origin"]["name"] == "streamseg"
        assert int(shown(sensor, counts)) in (0, 1, 7)
        if sensor["state_class"] == "total_increasing":
            assert sensor["availability_topic"] == "site/availability"
            continue
        program, pictures = sensor["availability"]
        assert program == {"topic": "site/availability"} and pictures["topic"] == f"site/{stream}/state"
        assert "availability_topic" not in sensor and sensor["availability_mode"] == "all"
        told = {name: shown(pictures, {"state": name}) for name in ("live", "running", "lost", "ended")}
        assert told == {"live": "online", "running": "online", "lost": "offline", "ended": "offline"}


def test_two_streams_are_two_devices() -> None:
    ids = [
        sensor["device"]["identifiers"] for name in ("a b", "a_b") for sensor in sensors(COUNTS, stream=name).values()
    ]
    assert len({tuple(each) for each in ids}) == 2
