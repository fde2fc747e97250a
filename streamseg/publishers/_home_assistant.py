"""What Home Assistant needs to be told once, so that it shows counts and states by itself (MQTT discovery)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streamseg.types import RUNNING


@dataclass(frozen=True)
class Site:
    """Where a program posts: its discovery prefix there, its own topic, and the topic that says whether it is there."""

    prefix: str
    topic: str
    availability: str


def of_counts(site: Site, stream: str, topic: str, counts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(topic, JSON) of a sensor for each class in sight, each direction over a line, and what is in each zone now.

    topic: where the counts are posted
    """
    for name in counts.get("now", {}):
        value = f"value_json.now[{_quoted(name)}] | default(0)"
        yield _sensor_of_now(site, stream, topic, f"{name} now", id=f"{_plain(name)}_now", value=value)
    for line in counts.get("lines", {}):
        for direction in ("in", "out"):
            value = _sum_of_classes("lines", line, direction)
            id = f"{_plain(line)}_{direction}"
            grows = {"state_class": "total_increasing"}
            yield _entity(site, stream, topic, f"{line} {direction}", id=id, component="sensor", value=value, **grows)
    for zone in counts.get("zones", {}):
        value = _sum_of_classes("zones", zone, "now")
        yield _sensor_of_now(site, stream, topic, f"{zone} now", id=f"zone_{_plain(zone)}_now", value=value)


def of_state(site: Site, stream: str, topic: str) -> tuple[str, str]:
    """(topic, JSON) of the binary sensor that says whether the stream's pictures come; topic: of its state."""
    value = f"'ON' if value_json.state in {list(RUNNING)} else 'OFF'"
    told = {"device_class": "connectivity", "entity_category": "diagnostic", "json_attributes_topic": topic}
    return _entity(site, stream, topic, "connection", id="connection", component="binary_sensor", value=value, **told)


def _sensor_of_now(site: Site, stream: str, topic: str, name: str, *, id: str, value: str) -> tuple[str, str]:
    """One of which nothing is known while no pictures come."""
    pictures = {
        "topic": f"{topic.rpartition('/')[0]}/state",
        "value_template": f"{{{{ 'online' if value_json.state in {list(RUNNING)} else 'offline' }}}}",
    }
    known = {"availability": [{"topic": site.availability}, pictures], "availability_mode": "all"}
    told = {"state_class": "measurement", **known}
    return _entity(site, stream, topic, name, id=id, component="sensor", value=value, **told)


def _entity(
    site: Site,
    stream: str,
    topic: str,
    name: str,
    *,
    id: str,
    component: str,
    value: str,
    **told: Any,
) -> tuple[str, str]:
    node = f"{_plain(site.topic)}-{_plain(stream)}"
    body = {
        "name": name,
        "unique_id": f"streamseg_{node}_{id}",
        "state_topic": topic,
        "value_template": f"{{{{ {value} }}}}",
        **({} if "availability" in told else {"availability_topic": site.availability}),
        **told,
        "device": {
            "identifiers": [f"streamseg_{node}"],
            "name": stream,
            "manufacturer": "streamseg",
        },
        "origin": {"name": "streamseg"},
    }
    return f"{site.prefix}/{component}/{node}/{id}/config", json.dumps(body, ensure_ascii=False)


def _sum_of_classes(kind: str, name: str, number: str) -> str:
    return f"value_json.{kind}[{_quoted(name)}].values() | sum(attribute={_quoted(number)})"


def _quoted(text: str) -> str:
    """As a literal of a template."""
    return json.dumps(text, ensure_ascii=False)


def _plain(text: str) -> str:
    """The text in the few letters that may stand in ids and in a discovery topic; two texts never become the same."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "_", text)
    if plain == text:
        return plain
    return f"{plain}_{hashlib.blake2s(text.encode(), digest_size=3).hexdigest()}"
