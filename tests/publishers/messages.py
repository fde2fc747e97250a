"""Messages as the flow makes them, and a broker's side of them."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from streamseg.types import Message

COUNTS = {
    "objects": {"person": 6, "dog": 1},
    "lines": {"gate": {"person": {"in": 4, "out": 1}, "dog": {"in": 1, "out": 0}}},
    "zones": {"shop": {"person": {"now": 2, "entered": 9, "left": 7}}},
    "now": {"person": 3, "dog": 0},
}


def event(number: int, *, stream: str = "front", **more: Any) -> Message:
    """Event `number`, a person over the line `gate`."""
    body: dict[str, Any] = {
        "id": f"e{number}",
        "event": "line",
        "name": "gate",
        "direction": "in",
        "time": number / 10,
        "at": "2026-11-21T08:15:00.123Z",
        "stream": stream,
        "track": number,
        "class": "person",
        "score": 0.93,
        "point": [10.5, 20.0],
        **more,
    }
    return Message("event", stream, body, id=body["id"])


def events(first: int, last: int) -> list[Message]:
    """Events `first` to `last`, both included."""
    return [event(number) for number in range(first, last + 1)]


def ids(first: int, last: int) -> list[str]:
    return [each.id for each in events(first, last)]


def counts(stream: str = "front", **changed: Any) -> Message:
    return Message("counts", stream, COUNTS | changed)


def state(name: str, stream: str = "front") -> Message:
    return Message("state", stream, {"state": name, "cause": "", "at": "2026-11-21T08:15:00.000Z"})


class Listening:
    """A subscriber whose session the broker keeps while it is away: what came is in `received`, in order."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._news: queue.SimpleQueue[MQTTMessage] = queue.SimpleQueue()
        self.received: list[MQTTMessage] = []
        client.on_message = lambda _client, _data, message: self._news.put(message)

    def until(self, topic: str, number: int, *, patience: float = 30) -> list[Any]:
        """The bodies of the first `number` different messages of the topic, waited for."""
        deadline = time.monotonic() + patience
        while len(bodies := _different(self.bodies(topic))) < number:
            try:
                self.received.append(self._news.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"{len(bodies)} of {number} messages came to {topic}") from None
        return bodies

    def drain(self) -> None:
        """Take what came meanwhile."""
        while not self._news.empty():
            self.received.append(self._news.get())

    def bodies(self, topic: str) -> list[Any]:
        """Of every message of the topic so far."""
        return [_read(each.payload.decode()) for each in self.received if each.topic == topic]


@contextmanager
def listening(port: int, *topics: str) -> Iterator[Listening]:
    """Hears these topics, through restarts of the broker."""
    client = Client(CallbackAPIVersion.VERSION2, client_id=f"test-{port}", clean_session=False)
    client.reconnect_delay_set(0.05, 0.1)  # type: ignore[arg-type]
    heard = Listening(client)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", port, keepalive=5)
    client.subscribe([(topic, 1) for topic in topics])
    client.loop_start()
    try:
        assert subscribed.wait(30), "the broker does not answer"
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def _different(bodies: Sequence[Any]) -> list[Any]:
    return [body for index, body in enumerate(bodies) if body not in bodies[:index]]


def _read(text: str) -> Any:
    return json.loads(text) if text[:1] == "{" else text
