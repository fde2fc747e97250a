"""Brings messages to one publisher in a thread of its own, in order, until it has them: what fails is tried again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

from streamseg import backoff
from streamseg.buffer import Failure, Threads
from streamseg.flow.spool import Spool
from streamseg.types import Message, OutputState, OutputStatus, Publisher, StreamsegError, UsageError

BATCH = 50
"""Events that are sent together; after a loss, so many at most come twice."""

SECONDS_BETWEEN_LAST_ATTEMPTS = 0.25
"""At the end, when there is no time to wait longer."""

SECONDS_BETWEEN_REMINDERS = 3600.0
"""Of what still does not work."""

log = logging.getLogger(__name__)


class Delivery:
    """Hands messages on to one publisher; `put` never waits for it.

    Events queue in the spool. Of a stream's counts and state only the newest is kept; a peer that comes back is told
    those of every stream again.

    delays: makes the seconds before each further attempt · seconds_between_signs: where there is nothing to say, the
    publisher is asked so often whether its peer is still there · seconds_to_finish: at the end, for what still waits
    """

    def __init__(
        self,
        publisher: Publisher,
        spool: Spool,
        *,
        delays: Callable[[], Iterator[float]] = backoff.delays,
        seconds_between_signs: float = 5.0,
        seconds_to_finish: float = 3.0,
    ) -> None:
        self.publisher = publisher
        self.target = str(getattr(publisher, "target", type(publisher).__name__))
        self.spool = spool
        self.dropped = 0
        self.state: OutputState = "ok"
        self.cause = ""
        self._delays, self._waits = delays, delays()
        self._seconds_between_signs, self._seconds_to_finish = seconds_between_signs, seconds_to_finish
        self._changed = threading.Condition()
        self._newest: dict[tuple[str, str], Message] = {}  # counts and state, of every stream
        self._untold: set[tuple[str, str]] = set()  # those of them that the peer has not got
        self._deadline: float | None = None
        self._dropped_said = 0
        self._said_at = 0.0

    @property
    def status(self) -> OutputStatus:
        """How it is doing; may be asked from any thread."""
        return OutputStatus(self.target, self.state, self.cause, self.dropped, len(self.spool))

    def start(self, threads: Threads) -> None:
        """Begins to work in one of these threads."""
        if self.spool.found:
            log.info("%s: %d events of an earlier run are sent first", self.target, self.spool.found)
        threads.start(f"publish {self.target}", self._work, at_end=self._end)

    def put(self, message: Message) -> None:
        """For the publisher, when it comes to it."""
        if message.kind == "event":
            self._drop(self.spool.add(message))
        with self._changed:
            if message.kind != "event":
                place = message.kind, message.stream
                self._newest[place] = message
                self._untold.add(place)
            self._changed.notify_all()

    def close(self) -> None:
        """No more messages come; what waits is tried for a few seconds."""
        with self._changed:
            self._deadline = time.monotonic() + self._seconds_to_finish
            self._changed.notify_all()

    def interrupt(self) -> None:
        """End what waits for the peer, where the publisher can."""
        getattr(self.publisher, "interrupt", lambda: None)()

    def leave(self) -> str:
        """What did not arrive, in a sentence, "" where all did; the spool is closed."""
        left, kept = len(self.spool), self.spool.on_disk
        self.spool.close()
        said = []
        if self.dropped:
            said.append(f"{self.dropped} events were dropped, because too many waited")
        if kept:
            said.append(f"{kept} events wait in {self.spool.path} for the next run")
        if left > kept:
            said.append(f"{left - kept} events are lost")
        if self._untold:
            said.append("the newest totals and states did not arrive")
        return f"{self.target}: {', '.join(said)}{self.cause and f' ({self.cause})'}" if said else ""

    # In its thread.

    def _work(self) -> None:
        while True:
            try:
                self._deliver()
                return
            except UsageError:
                raise
            except (StreamsegError, OSError) as error:
                self.spool.returned()
                with self._changed:
                    self._untold = set(self._newest)
                self._say("retrying", str(error))
            if not self._pause(next(self._waits)):
                return

    def _deliver(self) -> None:
        with self.publisher as publisher:
            with self._changed:
                self._untold = set(self._newest)
            patience = 0.0  # at first nothing may be there to say, but it shows how the peer is doing
            while (messages := self._next(patience)) is not None:
                publisher.send(messages)
                self.spool.arrived()
                self._say("ok")
                patience = self._seconds_between_signs

    def _next(self, patience: float) -> list[Message] | None:
        """What is to be sent now, after a while perhaps nothing; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting() or self._deadline is not None, patience)
            if self._deadline is not None and (not self._waiting() or time.monotonic() > self._deadline):
                return None
            untold = [self._newest[place] for place in sorted(self._untold)]
            self._untold.clear()
        return [*self.spool.first(BATCH), *untold]

    def _waiting(self) -> bool:
        return bool(self._untold or len(self.spool))

    def _pause(self, seconds: float) -> bool:
        """Waits before the next attempt, near the end hardly; whether there is to be one."""
        with self._changed:
            if self._deadline is None:
                self._changed.wait_for(lambda: self._deadline is not None, seconds)
                return True
            self._changed.wait(min(seconds, SECONDS_BETWEEN_LAST_ATTEMPTS, self._deadline - time.monotonic()))
            return self._waiting() and time.monotonic() < self._deadline

    def _drop(self, count: int) -> None:
        if not count:
            return
        with self._changed:
            first, self.dropped = self.dropped == self._dropped_said, self.dropped + count
        if first:
            log.warning("%s: %d events wait; for each further one the oldest is dropped", self.target, len(self.spool))

    def _say(self, state: OutputState, cause: str = "") -> None:
        """Log what is new, and once an hour what is not."""
        before, self.state, self.cause = (self.state, self.cause), state, cause
        if state == "ok":
            if before[0] != "ok":
                self._waits = self._delays()
                log.info("%s: back", self.target)
            if self.dropped > self._dropped_said:
                log.warning("%s: %d events were dropped meanwhile", self.target, self.dropped - self._dropped_said)
                self._dropped_said = self.dropped
        elif (state, cause) != before or time.monotonic() - self._said_at > SECONDS_BETWEEN_REMINDERS:
            log.warning("%s: %s", cause if self.target in cause else f"{self.target}: {cause}", state)
            self._said_at = time.monotonic()

    def _end(self, failure: Failure | None) -> None:
        if failure:
            known = isinstance(failure.error, StreamsegError)
            self._say("failed", str(failure.error) if known else f"{type(failure.error).__name__}: {failure.error}")
