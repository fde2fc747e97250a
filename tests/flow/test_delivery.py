"""A publisher has everything in its order, whoever breaks down; what is lost because too much waits is counted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from streamseg.buffer import Threads
from streamseg.flow.delivery import BATCH, Delivery
from streamseg.flow.spool import Spool
from streamseg.types import Message, OutputError, UsageError
from tests.publishers.messages import counts, events, ids, state


class Peer:
    """A publisher whose peer can be away, or take no more; `sent` is what it has, `errors` are raised one by one.

    away: entering and sending fail · frozen: sending waits until it is cleared, then fails
    """

    target = "the peer"

    def __init__(self, *, away: bool = False) -> None:
        self.away, self.frozen = threading.Event(), threading.Event()
        self.sent: list[Message] = []
        self.errors: list[BaseException] = []
        self.num_entered = self.num_empty = 0
        self.left_with: list[type[BaseException] | None] = []
        self.thawed = threading.Event()
        if away:
            self.away.set()

    def __enter__(self) -> Self:
        self.num_entered += 1
        self._fail()
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc: object) -> None:
        self.left_with.append(exc_type)

    def send(self, messages: Sequence[Message]) -> None:
        self._fail()
        if self.frozen.is_set():
            self.thawed.wait(30)
            raise OutputError("the peer: no answer")
        self.num_empty += not messages
        self.sent += messages

    def interrupt(self) -> None:
        self.thawed.set()

    def ids(self) -> list[str]:
        return [message.id for message in self.sent if message.kind == "event"]

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
        if self.away.is_set():
            raise OutputError("the peer is away")


class Delays:
    """Waits of a hundredth of a second; `asked` is how many each series had."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self) -> Iterator[float]:
        self.asked.append(0)
        place = len(self.asked) - 1
        while True:
            self.asked[place] += 1
            yield 0.01


@contextmanager
def delivering(peer: Any, *, path: Path | None = None, capacity: int = 1000, **options: Any) -> Iterator[Delivery]:
    """A delivery at work, closed at the end."""
    threads = Threads()
    delivery = Delivery(
        peer, Spool(path, capacity=capacity), **{"delays": Delays(), "seconds_to_finish": 10, **options}
    )
    delivery.start(threads)
    yield delivery
    delivery.close()
    threads.wait(patience=30)
    delivery.spool.close()
    assert threads.running == []


def put(delivery: Delivery, messages: Sequence[Message]) -> None:
    for message in messages:
        delivery.put(message)


def until(holds: Callable[[], bool], *, patience: float = 30) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.002)


def test_everything_arrives_in_order_before_it_is_left() -> None:
    peer = Peer()
    with delivering(peer) as delivery:
        put(delivery, events(1, 200))
    assert peer.ids() == ids(1, 200) and peer.left_with == [None]
    assert delivery.leave() == "" and delivery.status.state == "ok"


def test_a_peer_that_is_absent_at_first_gets_everything_in_order(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(away=True)
    caplog.set_level(logging.INFO)
    with delivering(peer) as delivery:
        put(delivery, events(1, 70))
        until(lambda: delivery.status.state == "retrying" and peer.num_entered > 3)
        assert (delivery.status.name, delivery.status.cause, delivery.status.waiting) == (
            "the peer",
            "the peer is away",
            70,
        )
        peer.away.clear()
        until(lambda: delivery.status.state == "ok")
        put(delivery, events(71, 80))
    assert peer.ids() == ids(1, 80)
    assert [record.message for record in caplog.records] == ["the peer is away: retrying", "the peer: back"]


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_loss_in_the_middle_costs_nothing_and_keeps_the_order(at: int) -> None:
    peer = Peer()
    with delivering(peer) as delivery:
        put(delivery, events(1, 10 * at))
        until(lambda: len(peer.ids()) == 10 * at)
        peer.errors = [OutputError("the peer: lost"), OutputError("the peer: still away")]
        put(delivery, events(10 * at + 1, 150))
    assert peer.ids() == ids(1, 150) and peer.left_with[-1] is None


def test_waits_begin_anew_after_a_success() -> None:
    peer, delays = Peer(away=True), Delays()
    with delivering(peer, delays=delays) as delivery:
        until(lambda: peer.num_entered == 4)
        peer.away.clear()
        until(lambda: delivery.status.state == "ok" and peer.num_empty > 0)
        peer.errors = [OutputError("the peer: lost")]
        put(delivery, events(1, 1))
        until(lambda: len(peer.ids()) == 1)
    assert delays.asked[0] >= 3 and delays.asked[1:] == [1]


def test_of_counts_and_states_only_the_newest_waits_and_a_peer_that_comes_back_gets_all_of_them_again() -> None:
    peer = Peer(away=True)
    with delivering(peer) as delivery:
        put(delivery, [counts(now={"person": number}) for number in range(5)])
        put(delivery, [state("lost"), state("live"), counts("back")])
        peer.away.clear()
        until(lambda: len(peer.sent) == 3)
        assert {(each.kind, each.stream): each for each in peer.sent} == {
            ("counts", "front"): counts(now={"person": 4}),
            ("state", "front"): state("live"),
            ("counts", "back"): counts("back"),
        }
        peer.sent.clear()
        peer.errors = [OutputError("the peer: restarted")]
        put(delivery, events(1, 1))
        until(lambda: len(peer.sent) == 4)
    assert {each.kind for each in peer.sent[1:]} == {"counts", "state"}


def test_a_loss_is_noticed_where_nothing_happens() -> None:
    peer = Peer()
    with delivering(peer, seconds_between_signs=0.01) as delivery:
        until(lambda: peer.num_empty > 3)
        peer.away.set()
        until(lambda: delivery.status.state == "retrying")
        peer.away.clear()
        until(lambda: delivery.status.state == "ok")


def test_once_it_is_full_the_oldest_go_and_it_says_how_many(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(away=True)
    caplog.set_level(logging.WARNING)
    with delivering(peer, capacity=100) as delivery:
        put(delivery, events(1, 130))
        assert (delivery.status.dropped, delivery.status.waiting) == (30, 100)
        peer.away.clear()
        until(lambda: delivery.status.state == "ok")
    assert peer.ids() == ids(31, 130)
    said = [record.message for record in caplog.records if "dropped" in record.message]
    assert said == [
        "the peer: 100 events wait; for each further one the oldest is dropped",
        "the peer: 30 events were dropped meanwhile",
    ]
    assert delivery.leave() == "the peer: 30 events were dropped, because too many waited"


def test_a_frozen_peer_holds_up_nobody_and_sent_and_dropped_and_waiting_are_all() -> None:
    peer = Peer()
    with delivering(peer, capacity=200) as delivery:
        peer.frozen.set()
        began = time.monotonic()
        put(delivery, events(1, 1000))
        assert time.monotonic() - began < 10  # the peer alone would take 30
        assert delivery.status.dropped + delivery.status.waiting == 1000
        peer.frozen.clear()
        peer.thawed.set()
    dropped = delivery.status.dropped
    assert len(peer.ids()) == 1000 - dropped and 800 - BATCH <= dropped <= 800
    assert peer.ids() == sorted(peer.ids(), key=lambda id: int(id[1:])) and peer.ids()[-150:] == ids(851, 1000)


def test_at_the_end_a_peer_that_is_away_is_tried_at_once_and_not_for_long(tmp_path: Path) -> None:
    peer, path = Peer(away=True), tmp_path / "spool.sqlite"
    began = time.monotonic()
    with delivering(peer, path=path, delays=lambda: iter([60.0] * 9), seconds_to_finish=0.05) as delivery:
        put(delivery, events(1, 3))
        until(lambda: delivery.status.state == "retrying")
    assert time.monotonic() - began < 30
    assert delivery.leave() == f"the peer: 3 events wait in {path} for the next run (the peer is away)"
    with delivering(peer, path=path, delays=lambda: iter([60.0] * 9)) as delivery:
        put(delivery, events(4, 4))
        until(lambda: delivery.status.state == "retrying")
        peer.away.clear()
    assert peer.ids() == ids(1, 4)
    assert delivery.leave() == "" and not path.exists()


def test_at_the_end_it_brings_what_it_can_in_its_time() -> None:
    class Slow(Peer):
        def send(self, messages: Sequence[Message]) -> None:
            time.sleep(0.05)
            super().send(messages)

    peer = Slow()
    with delivering(peer, seconds_to_finish=0.08) as delivery:
        put(delivery, events(1, 20 * BATCH))
    arrived = len(peer.ids())
    assert peer.ids() == ids(1, arrived) and arrived < 20 * BATCH
    assert delivery.leave() == f"the peer: {20 * BATCH - arrived} events are lost"


@pytest.mark.parametrize(
    ("error", "cause"),
    [(UsageError("no such table"), "no such table"), (KeyError("at"), "KeyError: 'at'")],
)
def test_what_another_try_cannot_mend_is_given_up(
    error: Exception, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Peer()
    peer.errors = [error]
    with delivering(peer, capacity=10) as delivery:
        until(lambda: delivery.status.state == "failed")
        put(delivery, events(1, 15))
    assert delivery.status.cause == cause and f"the peer: {cause}: failed" in caplog.text
    assert delivery.leave() == f"the peer: 5 events were dropped, because too many waited, 10 events are lost ({cause})"


def test_the_last_totals_and_states_are_tried_again_at_the_end_and_named_where_they_do_not_arrive() -> None:
    peer = Peer()
    with delivering(peer) as delivery:
        put(delivery, [state("live")])
        until(lambda: len(peer.sent) == 1)
        peer.errors = [OutputError("the peer: lost")]
        put(delivery, [state("ended"), counts(now={"person": 4})])
    assert peer.sent[-2:] == [counts(now={"person": 4}), state("ended")] and delivery.leave() == ""
    away = Peer(away=True)
    with delivering(away, seconds_to_finish=0.05) as delivery:
        put(delivery, [state("ended")])
    assert delivery.leave() == "the peer: the newest totals and states did not arrive (the peer is away)"
