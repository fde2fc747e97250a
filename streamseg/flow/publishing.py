"""What happens in the streams of a pipeline becomes messages: every event, the running totals, and each stream's state.

    Pipeline ──► Publishing ──► Delivery ──► Publisher
    listens      messages       a thread, a spool, another try

Nothing here waits: what a publisher is too slow for, or cannot take at present, waits in its spool.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
import uuid
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from streamseg import backoff, thumbnails
from streamseg.buffer import Threads
from streamseg.flow.delivery import Delivery
from streamseg.flow.events import utc
from streamseg.flow.spool import Spool, default_file
from streamseg.records import plain
from streamseg.types import (
    Instances,
    Message,
    OutputError,
    OutputStatus,
    Publisher,
    Result,
    SourceState,
    StreamInfo,
    Totals,
)

SECONDS_BETWEEN_COUNTS = 1.0
"""Of one stream, unless there is an event."""

CAPACITY = 10_000
"""Events that wait for a publisher that says nothing else."""

KINDS = ("objects", "lines", "zones")
"""Totals that are always told, also where nothing counts them."""

log = logging.getLogger(__name__)


@dataclass
class _Told:
    """What a stream's totals were when they were last told, and when.

    newest: the totals and the objects that were not told yet · tracked: somebody follows the objects, in the flow or,
    as there was a track, before it · totals: the newest
    """

    counts: Mapping[str, Any] | None = None
    at: float = float("-inf")
    newest: tuple[Totals, Instances] | None = None
    tracked: bool = False
    totals: Totals | None = None


class Publishing:
    """Hears a pipeline (a `Listener`) and tells its publishers, from entering it to leaving it.

    Entering opens the files, so that what is wrong with one is said at once: UsageError, OutputError. Leaving gives
    what still waits a few seconds; `problems` then says in sentences what did not arrive.

    clock: monotonic seconds · delays, seconds_to_finish: of every `Delivery`
    """

    def __init__(
        self,
        publishers: Sequence[Publisher],
        *,
        clock: Callable[[], float] = time.monotonic,
        delays: Callable[[], Iterator[float]] = backoff.delays,
        seconds_to_finish: float = 3.0,
    ) -> None:
        self.publishers = tuple(publishers)
        self.problems: tuple[str, ...] = ()
        self._clock = clock
        self._delays, self._seconds_to_finish = delays, seconds_to_finish
        self._deliveries: tuple[Delivery, ...] = ()
        self._threads = Threads()
        self._told: dict[str, _Told] = {}
        self._telling = threading.RLock()  # around it: results come from a stream's thread, states from its source's

    @property
    def statuses(self) -> tuple[OutputStatus, ...]:
        """How each publisher is doing; may be asked from any thread."""
        return tuple(delivery.status for delivery in self._deliveries)

    def __enter__(self) -> Self:
        for publisher in self.publishers:
            if not getattr(publisher, "remote", False):
                with publisher:
                    pass
        self._deliveries = tuple(map(self._delivery, self.publishers))
        for delivery in self._deliveries:
            delivery.start(self._threads)
        return self

    def __exit__(self, *exc: object) -> None:
        for delivery in self._deliveries:
            delivery.close()
        self._threads.wait(patience=self._seconds_to_finish + 1)
        for delivery in self._deliveries:
            delivery.interrupt()
        self._threads.wait(patience=1)
        self.problems = tuple(said for delivery in self._deliveries if (said := delivery.leave()))

    def _delivery(self, publisher: Publisher) -> Delivery:
        capacity = int(getattr(publisher, "capacity", CAPACITY))
        return Delivery(
            publisher,
            _spool(publisher, capacity=capacity),
            delays=self._delays,
            seconds_to_finish=self._seconds_to_finish,
        )

    # What a listener hears.

    def on_open(self, stream: str, info: StreamInfo) -> None:
        if not info.live:
            self._put(_state(stream, "running", at=time.time()))

    def on_result(self, result: Result) -> None:
        for event in result.events:
            self._put_event(event, result)
        with self._telling:
            told = self._told.setdefault(result.frame.stream, _Told())
            if not result.frame.damaged:  # of which nothing is known
                told.totals = result.counts
                told.newest = result.counts, result.instances
                told.tracked |= result.tracked
            if result.events or self._clock() - told.at >= SECONDS_BETWEEN_COUNTS:
                self._put_counts(result.frame.stream)

    def on_state(self, stream: str, state: SourceState) -> None:
        at = time.time() - (time.monotonic() - state.since)
        message = _state(stream, state.name, cause=state.cause, at=at)
        event = {"id": uuid.uuid4().hex, "event": "source", "stream": stream, **message.body}
        self._put_counts(stream)
        if state.name != "live":
            self._put_nobody(stream)
        self._put(Message("event", stream, event, id=event["id"]))
        self._put(message)

    def on_end(self, stream: str, error: str | None) -> None:
        self._put_counts(stream)
        self._put(_state(stream, "ended", cause=error or "", at=time.time()))

    def _put(self, message: Message) -> None:
        for delivery in self._deliveries:
            delivery.put(message)

    def _put_event(self, event: Mapping[str, Any], result: Result) -> None:
        """To each publisher with the object's picture or without, as it wants it."""
        stream = result.frame.stream
        try:
            body = plain(event, "events")
        except OutputError as error:  # of a counter from outside
            log.error("%s: an event was not published: %s", stream, error)
            return
        message = Message("event", stream, body, id=str(body["id"]))
        if not any(_wants_thumbnails(each) for each in self.publishers):
            self._put(message)
            return
        picture = thumbnails.of_event(result, body)
        shown = {**body, "thumbnail": base64.b64encode(picture).decode("ascii")} if picture else body
        for delivery in self._deliveries:
            wants = _wants_thumbnails(delivery.publisher)
            delivery.put(Message("event", stream, shown, id=message.id) if wants else message)

    def _put_nobody(self, stream: str) -> None:
        """The stream's totals, and that nobody is in sight where no pictures come."""
        with self._telling:
            told = self._told.get(stream)
            if told is not None and told.totals is not None:
                told.newest = told.totals, Instances.empty(("background",))
                self._put_counts(stream)

    def _put_counts(self, stream: str) -> None:
        """The stream's totals, if they are others than those that were told last."""
        with self._telling:
            told = self._told.get(stream)
            if told is None or told.newest is None:
                return
            newest, told.newest, told.at = told.newest, None, self._clock()
            try:
                told.tracked |= bool((newest[1].track_ids >= 0).any())
                counts = _counts(*newest, tracked=told.tracked)
            except OutputError as error:
                log.error("%s: totals were not published: %s", stream, error)
                return
            if counts != told.counts:
                told.counts = counts
                self._put(Message("counts", stream, counts))


def _spool(publisher: Publisher, *, capacity: int) -> Spool:
    """On disk for one that talks to somebody else; a file of its own choice must do, without one memory may."""
    if not getattr(publisher, "remote", False):
        return Spool(None, capacity=capacity)
    path: Path | None = getattr(publisher, "spool", None)
    if path is not None:
        return Spool(path, capacity=capacity)
    try:
        return Spool(default_file(str(getattr(publisher, "target", type(publisher).__name__))), capacity=capacity)
    except OutputError as error:
        log.warning("%s; what waits is lost if this run is killed", error)
        return Spool(None, capacity=capacity)


def _state(stream: str, name: str, *, cause: str = "", at: float) -> Message:
    return Message("state", stream, {"state": name, "cause": cause, "at": utc(at)})


def _counts(totals: Totals, instances: Instances, *, tracked: bool) -> dict[str, Any]:
    """The running totals by kind, and how many of each class are in sight now, of every class that was ever seen."""
    told: dict[str, Any] = {kind: {} for kind in KINDS} | plain(totals, "totals")
    in_sight = instances[instances.track_ids >= 0] if tracked else instances
    return {**told, "now": dict.fromkeys(told["objects"], 0) | Tally(in_sight.names)}


def _wants_thumbnails(publisher: Publisher) -> bool:
    return bool(getattr(publisher, "thumbnails", False))
