"""What holds for every publisher: it has what it was sent, in order, through restarts."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streamseg import plugins, rooms
from streamseg.types import Publisher
from tests.contract import entry
from tests.live.broker import Broker
from tests.publishers.messages import counts, events, ids, listening, state

NAMES = rooms.names("publishers")


@dataclass(frozen=True)
class Peer:
    """The options that lead a publisher to its peer, and the ids of the events that are there, in order."""

    options: dict[str, Any]
    ids: Callable[[int], list[str]]


@contextmanager
def _jsonl(folder: Path) -> Iterator[Peer]:
    path = folder / "events.jsonl"
    yield Peer({"path": path}, lambda _: [json.loads(line)["id"] for line in path.read_text().splitlines()])


@contextmanager
def _csv(folder: Path) -> Iterator[Peer]:
    path = folder / "events.csv"
    yield Peer({"path": path}, lambda _: [row["id"] for row in csv.DictReader(path.read_text().splitlines())])


@contextmanager
def _sqlite(folder: Path) -> Iterator[Peer]:
    def found(_: int) -> list[str]:
        with closing(sqlite3.connect(folder / "events.sqlite")) as database:
            return [id for (id,) in database.execute("SELECT id FROM events ORDER BY rowid")]

    yield Peer({"path": folder / "events.sqlite"}, found)


@contextmanager
def _mqtt(folder: Path) -> Iterator[Peer]:
    with Broker(folder) as broker, listening(broker.port, "site/+/events") as heard:
        address = f"mqtt://127.0.0.1:{broker.port}/site"
        yield Peer(
            {"address": address}, lambda number: [each["id"] for each in heard.until("site/front/events", number)]
        )


PEERS = {"csv": _csv, "jsonl": _jsonl, "mqtt": _mqtt, "sqlite": _sqlite}
"""Publisher -> its peer. A new publisher adds its own."""


@pytest.fixture(params=NAMES)
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Peer]]:
    what = "a context with the options that lead to its peer, and a function that reads the ids of its events"
    with entry(PEERS, request.param, room="publishers", called="PEERS", what=what)(tmp_path) as made:
        yield request.param, made


def made(name: str, peer: Peer) -> Publisher:
    publisher: Publisher = plugins.build("publishers", name, peer.options)
    return publisher


def test_what_is_sent_is_there_in_order_also_after_it_was_entered_again(peer: tuple[str, Peer]) -> None:
    publisher = made(*peer)
    assert isinstance(publisher, Publisher)
    with publisher:
        publisher.send(events(1, 3))
        publisher.send([*events(4, 4), counts(), state("live")])
    with publisher:
        publisher.send(events(5, 6))
    with made(*peer) as another:
        another.send(events(7, 7))
    assert peer[1].ids(7) == ids(1, 7)


def test_an_empty_send_asks_only_whether_it_is_still_there(peer: tuple[str, Peer]) -> None:
    with made(*peer) as publisher:
        publisher.send([])
        publisher.send(events(1, 1))
        publisher.send([])
    assert peer[1].ids(1) == ids(1, 1)


def test_it_can_be_left_with_an_error_and_entered_again(peer: tuple[str, Peer]) -> None:
    publisher = made(*peer)
    with pytest.raises(ZeroDivisionError), publisher:
        publisher.send(events(1, 1))
        raise ZeroDivisionError
    with publisher:
        publisher.send(events(2, 2))
    assert peer[1].ids(2) == ids(1, 2)


def test_it_says_where_it_publishes(peer: tuple[str, Peer]) -> None:
    (place,) = peer[1].options.values()
    assert getattr(made(*peer), "target", None) == str(place)
