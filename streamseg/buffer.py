"""Hands frames from thread to thread: a full buffer makes its producer wait, and a dead neighbour wakes everyone.

No sentinel, no polling, no sleep. A buffer is closed once, with what went wrong or without; what it holds can still be
taken, then its consumer learns why no more will come. So an error travels the way the frames travel, behind them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
S = TypeVar("S")


class Closed(Exception):
    """The buffer takes nothing more, or holds nothing more; a thread that lets it pass has ended in order."""


@dataclass(frozen=True)
class Failure:
    """What went wrong, and the name of the thread in which it did."""

    error: BaseException
    thread: str


class Bell:
    """Wakes the one thread that watches many buffers; counts its rings, so that none is missed."""

    def __init__(self) -> None:
        self.num_rings = 0
        self._changed = threading.Condition()

    def ring(self) -> None:
        with self._changed:
            self.num_rings += 1
            self._changed.notify_all()

    def wait_beyond(self, num_rings: int, *, patience: float | None = None) -> None:
        """Waits for a ring after the `num_rings` already heard, at most `patience` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.num_rings > num_rings, patience)


class Buffer(Generic[T]):
    """Hands items from one thread to the next, in order, at most `capacity` waiting.

    A full buffer makes `put` wait; with `drop_oldest` it drops the oldest waiting item instead. `capacity` and
    `drop_oldest` may be set until the first `put`: a frame's size and a source's kind are known only then.
    """

    def __init__(self, capacity: int, *, drop_oldest: bool = False, bell: Bell | None = None) -> None:
        self.capacity = capacity
        self.drop_oldest = drop_oldest
        self.num_dropped = 0
        self.closed = False
        self.failure: Failure | None = None
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._bell = bell

    def put(self, item: T) -> bool:
        """Adds the item, waiting for room; True when the oldest had to go for it. Raises Closed."""
        with self._changed:
            if not self.drop_oldest:
                self._changed.wait_for(lambda: self.closed or len(self._items) < self.capacity)
            if self.closed:
                raise Closed
            full = len(self._items) >= self.capacity
            if full:
                self._items.popleft()
                self.num_dropped += 1
            self._items.append(item)
            self._changed.notify_all()
        self._ring()
        return full

    def get(self) -> T:
        """The oldest item, waited for. Once closed and empty, raises the failure's error, or Closed without one."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self.closed)
            if not self._items:
                raise self.failure.error if self.failure else Closed
            item = self._items.popleft()
            self._changed.notify_all()
        self._ring()
        return item

    def take(self, *, fits: Callable[[T], bool]) -> T | None:
        """The oldest item if there is one and it fits; never waits."""
        with self._changed:
            if not self._items or not fits(self._items[0]):
                return None
            item = self._items.popleft()
            self._changed.notify_all()
        self._ring()
        return item

    def __iter__(self) -> Iterator[T]:
        with suppress(Closed):
            while True:
                yield self.get()

    @property
    def room(self) -> int:
        """How many items fit in now."""
        with self._changed:
            return max(self.capacity - len(self._items), 0)

    @property
    def ended(self) -> bool:
        """Closed, and everything was taken."""
        with self._changed:
            return self.closed and not self._items

    def close(self, failure: Failure | None = None, *, discard: bool = False) -> None:
        """Takes nothing more and wakes everyone; the first failure stays. `discard`: forgets what still waits."""
        with self._changed:
            if not self.closed or (discard and self._items):  # an end is no longer in order when items are lost
                self.closed, self.failure = True, self.failure or failure
            if discard:
                self._items.clear()
            self._changed.notify_all()
        self._ring()

    def _ring(self) -> None:
        if self._bell:
            self._bell.ring()


@dataclass(frozen=True)
class _Lane(Generic[T, S]):
    inbox: Buffer[T]
    outlet: Buffer[S]


class Junction(Generic[T, S]):
    """Where several streams meet at one thread: items of all inboxes in turn, in groups of one kind.

    An item is only taken when its own outlet has room for what becomes of it, so the thread never waits for a slow
    stream while others could go on. An inbox that has ended closes its outlet, with the same failure. Its buffers must
    have been made with `bell`.
    """

    def __init__(self) -> None:
        self.bell = Bell()
        self._lanes: deque[_Lane[T, S]] = deque()
        self._lock = threading.RLock()
        self._closed = False
        self._failure: Failure | None = None

    def add(self, inbox: Buffer[T], outlet: Buffer[S]) -> None:
        """A stream joins, at any time."""
        with self._lock:
            self._lanes.append(_Lane(inbox, outlet))
            if self._failure:
                self.close(self._failure)
        self.bell.ring()

    def close(self, failure: Failure | None = None) -> None:
        """No more streams will join. With a failure: the thread is dead, so every stream ends with that failure."""
        with self._lock:
            self._closed = True
            if failure:
                self._failure = failure
                for lane in self._lanes:
                    lane.inbox.close(failure, discard=True)
                    lane.outlet.close(failure)
                self._lanes.clear()
        self.bell.ring()

    def take(self, *, most: int, patience: float, kind: Callable[[T], Hashable]) -> list[tuple[Buffer[S], T]]:
        """One to `most` items of one kind, each with its outlet; an empty list when all streams have ended.

        Waits for the first item as long as it takes, and then at most `patience` seconds for more.
        """
        group: list[tuple[Buffer[S], T]] = []
        deadline = 0.0
        while True:
            heard = self.bell.num_rings  # before looking: what changes meanwhile rings again
            with self._lock:
                if not group:
                    self._part_from_ended()
                    deadline = time.monotonic() + patience
                self._collect(group, most, kind)
                more_may_come = any(not lane.inbox.closed for lane in self._lanes)
                over = self._closed and not self._lanes
            remaining = deadline - time.monotonic()
            if len(group) == most or (group and (remaining <= 0 or not more_may_come)) or (not group and over):
                return group
            self.bell.wait_beyond(heard, patience=remaining if group else None)

    def _part_from_ended(self) -> None:
        ended = [lane for lane in self._lanes if lane.inbox.ended]
        for lane in ended:
            lane.outlet.close(lane.inbox.failure)
            self._lanes.remove(lane)

    def _collect(self, group: list[tuple[Buffer[S], T]], most: int, kind: Callable[[T], Hashable]) -> None:
        def fits(item: T) -> bool:
            return not group or kind(item) == kind(group[0][1])

        passed = 0
        while len(group) < most and passed < len(self._lanes):
            lane = self._lanes[0]
            self._lanes.rotate(-1)
            promised = sum(outlet is lane.outlet for outlet, _ in group)
            item = lane.inbox.take(fits=fits) if lane.outlet.room > promised else None
            if item is None:
                passed += 1
            else:
                passed = 0
                group.append((lane.outlet, item))


class Threads:
    """Starts threads, learns how each ended, and joins them. The only place that starts one.

    Whatever a thread raises ends up in `failures`, in the order it happened, and in its `at_end`, which is to close
    the buffers around it: nobody then waits on a dead neighbour.
    """

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        # A SimpleQueue, because a signal handler must be able to put while the same thread gets.
        self._news: queue.SimpleQueue[threading.Thread | int] = queue.SimpleQueue()
        self._running: set[threading.Thread] = set()

    @property
    def running(self) -> list[str]:
        """The names of the threads that have not been joined yet."""
        return [thread.name for thread in tuple(self._running)]

    def start(self, name: str, work: Callable[[], None], *, at_end: Callable[[Failure | None], None]) -> None:
        """Runs `work` in a thread, then `at_end` with its failure, or with None when it returned or raised Closed."""

        def live() -> None:
            failure = None
            try:
                work()
            except Closed:
                pass
            except BaseException as error:
                failure = Failure(error, name)
            self._end(failure, at_end)
            self._news.put(thread)

        # Daemon: a thread that hangs in a driver must not keep the process alive after its second Ctrl-C.
        thread = threading.Thread(target=live, name=name, daemon=True)
        self._running.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # the machine has no thread left
            self._running.discard(thread)
            self._end(Failure(error, name), at_end)

    def _end(self, failure: Failure | None, at_end: Callable[[Failure | None], None]) -> None:
        if failure:
            self.failures.append(failure)
        try:
            at_end(failure)
        except BaseException as error:
            self.failures.append(Failure(error, threading.current_thread().name))

    def tell(self, number: int) -> None:
        """Makes `wait` return this number, of a signal; may be called from its handler."""
        self._news.put(number)

    def wait(self, *, patience: float | None = None) -> int | None:
        """Waits until every thread has ended and joins them; None then, or when `patience` seconds are over.

        Returns early with the number that `tell` was given. Called by one of these threads itself, it does not wait.
        """
        deadline = None if patience is None else time.monotonic() + patience
        while self._running and threading.current_thread() not in self._running:
            try:
                news = self._news.get(timeout=None if deadline is None else max(deadline - time.monotonic(), 0))
            except queue.Empty:
                return None
            if not isinstance(news, threading.Thread):
                return news
            news.join()
            self._running.discard(news)
        return None
