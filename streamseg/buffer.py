"""Hands frames from thread to thread: a full buffer makes its producer wait, and a dead neighbour wakes everyone.

No sentinel, no sleep, no polling but for signals. A buffer is closed once, with what went wrong or without; what it
holds can still be taken, then its consumer learns why no more will come. So an error travels the way the frames travel,
behind them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from itertools import takewhile
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
S = TypeVar("S")
Loss = Literal["nothing", "unanswered", "everything"]

LONGEST_WAIT = 0.5
"""Seconds for which the main thread waits for its threads at a time: a signal that comes as it begins to wait, or that
the system hands to another thread, does not wake it, and its handler runs only when something does."""


class Closed(Exception):
    """The buffer takes nothing more, or holds nothing more; a thread that lets it pass has ended in order."""


@dataclass(frozen=True)
class Failure:
    """What went wrong, and the name of the thread in which it did."""

    error: BaseException
    thread: str


class Bell:
    """Wakes the one thread that watches many lanes; counts its rings, so that none is missed."""

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
    """Hands items from one thread to the next, in order, at most `capacity` waiting; a full one makes `put` wait."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.closed = False
        self.failure: Failure | None = None
        self._items: deque[T] = deque()
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Adds the item, waiting for room. Raises Closed."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or len(self._items) < self.capacity)
            if self.closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def offer(self, item: T) -> int:
        """Adds the item without waiting, in place of the oldest if need be; how many had to go. Raises Closed."""
        with self._changed:
            if self.closed:
                raise Closed
            num_lost = max(0, len(self._items) + 1 - self.capacity)
            for _ in range(num_lost):
                self._items.popleft()
            self._items.append(item)
            self._changed.notify_all()
        return num_lost

    def clear(self) -> int:
        """Forgets what waits; how many that were."""
        with self._changed:
            num_lost = len(self._items)
            self._items.clear()
            self._changed.notify_all()
        return num_lost

    def __len__(self) -> int:
        return len(self._items)

    def get(self) -> T:
        """The oldest item, waited for. Once closed and empty, raises the failure's error, or Closed without one."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self.closed)
            if not self._items:
                raise self.failure.error if self.failure else Closed
            item = self._items.popleft()
            self._changed.notify_all()
        return item

    def __iter__(self) -> Iterator[T]:
        with suppress(Closed):
            while True:
                yield self.get()

    def close(self, failure: Failure | None = None, *, discard: bool = False) -> None:
        """Takes nothing more and wakes everyone; the first failure stays. `discard`: forgets what still waits."""
        with self._changed:
            if not self.closed or (discard and self._items):  # an end is no longer in order when items are lost
                self.closed, self.failure = True, self.failure or failure
            if discard:
                self._items.clear()
            self._changed.notify_all()


class Place(Enum):
    """How far an item of a lane has come."""

    WAITING = auto()
    WITH_THE_ENGINE = auto()
    READY = auto()


SLOW_ENGINE, SLOW_OUTPUT, STOPPED = "slow engine", "slow output", "stopped"
"""Why an item of a live lane never came out."""


@dataclass(eq=False)
class Slot(Generic[T, S]):
    """An item of a lane and what the engine says of it: None where it passed over it."""

    item: T
    lane: Lane[T, S]
    answer: S | None = None
    place: Place = Place.WAITING

    def fill(self, answer: S) -> None:
        """The engine's answer; Closed when the lane has been given up meanwhile."""
        self.lane.fill(self, answer)


class Lane(Generic[T, S]):
    """The items of one stream on their way past the engine, at most `capacity`, out in the order in which they came in.

    Of a file the engine takes one after the other, and a full lane makes `put` wait. A live source does not wait: the
    engine takes the newest item, those before it are passed over and come out without an answer; a full lane drops its
    oldest and counts it in `dropped` by its cause. `capacity` and `live` may be set until the first `put`.
    """

    def __init__(self, capacity: int, *, live: bool = False, bell: Bell | None = None) -> None:
        self.capacity = capacity
        self.live = live
        self.num_put = 0
        self.dropped: Counter[str] = Counter()
        self.closed = False
        self.failure: Failure | None = None
        self._slots: deque[Slot[T, S]] = deque()
        self._changed = threading.Condition()
        self._bell = bell

    def put(self, item: T, *, look: bool = True) -> None:
        """Adds the item; waits for room unless `live`. Raises Closed. look: False: it is not for the engine."""
        with self._changed:
            if not self.live:
                self._changed.wait_for(lambda: self.closed or len(self._slots) < self.capacity)
            if self.closed:
                raise Closed
            if len(self._slots) >= self.capacity:
                self._drop()
            self._slots.append(Slot(item, self, place=Place.WAITING if look else Place.READY))
            self.num_put += 1
            self._changed.notify_all()
        self._ring()

    def take(self, *, fits: Callable[[T], bool]) -> Slot[T, S] | None:
        """For the engine: the item whose turn it is, if there is one and it fits; never waits."""
        with self._changed:
            waiting = [slot for slot in self._slots if slot.place is Place.WAITING]
            if not waiting:
                return None
            slot = waiting[-1] if self.live else waiting[0]
            if not fits(slot.item):
                return None
            for older in waiting[: -1 if self.live else 0]:
                older.place = Place.READY
            slot.place = Place.WITH_THE_ENGINE
            self._changed.notify_all()
            return slot

    def fill(self, slot: Slot[T, S], answer: S) -> None:
        """The engine's answer for an item that it took. Raises Closed when the item was given up meanwhile."""
        with self._changed:
            if slot not in self._slots:
                raise Closed
            slot.answer, slot.place = answer, Place.READY
            self._changed.notify_all()

    def get(self) -> tuple[T, S | None]:
        """The oldest item and its answer, waited for. Once closed and empty, as in a buffer."""
        with self._changed:
            self._changed.wait_for(lambda: self._slots[0].place is Place.READY if self._slots else self.closed)
            if not self._slots:
                raise self.failure.error if self.failure else Closed
            slot = self._slots.popleft()
            self._changed.notify_all()
        return slot.item, slot.answer

    def __iter__(self) -> Iterator[tuple[T, S | None]]:
        with suppress(Closed):
            while True:
                yield self.get()

    @property
    def num_waiting(self) -> int:
        """Items that the engine may still take."""
        with self._changed:
            return sum(slot.place is Place.WAITING for slot in self._slots)

    def close(self, failure: Failure | None = None, *, lose: Loss = "nothing") -> None:
        """Takes nothing more and wakes everyone; the first failure stays.

        lose: what will not come out any more: all from the first `unanswered` item on, or `everything`
        """
        with self._changed:
            kept: list[Slot[T, S]] = list(self._slots)
            if lose == "unanswered":
                kept = list(takewhile(lambda slot: slot.place is Place.READY, kept))
            elif lose == "everything":
                kept = []
            if not self.closed or len(kept) < len(self._slots):  # an end is no longer in order when items are lost
                self.closed, self.failure = True, self.failure or failure
            if self.live:
                self.dropped += Counter({STOPPED: len(self._slots) - len(kept)})
            self._slots = deque(kept)
            self._changed.notify_all()
        self._ring()

    def _drop(self) -> None:
        """Makes room: the oldest goes that the engine has not, one that it has passed over before one it looked at."""
        free = [slot for slot in self._slots if slot.place is not Place.WITH_THE_ENGINE]
        cause = SLOW_OUTPUT if self._slots[0].place is Place.READY else SLOW_ENGINE
        if free:
            self._slots.remove(next((slot for slot in free if slot.answer is None), free[0]))
            self.dropped[cause] += 1

    def _ring(self) -> None:
        if self._bell:
            self._bell.ring()


class Junction(Generic[T, S]):
    """Where the lanes of several streams meet at one thread: their items in turn, in groups of one kind.

    Its lanes must have been made with `bell`.
    """

    def __init__(self) -> None:
        self.bell = Bell()
        self._lanes: list[Lane[T, S]] = []  # the one to be served next comes first
        self._lock = threading.RLock()
        self._closed = False
        self._failure: Failure | None = None

    def add(self, lane: Lane[T, S]) -> None:
        """A stream joins, at any time."""
        with self._lock:
            self._lanes.append(lane)
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
                    lane.close(failure, lose="unanswered")
                self._lanes.clear()
        self.bell.ring()

    def take(self, *, most: int, patience: float, kind: Callable[[T], Hashable]) -> list[Slot[T, S]]:
        """One to `most` items of one kind; an empty list when all streams have ended.

        Waits for the first item as long as it takes, and then at most `patience` seconds for more, unless items of
        another kind wait too. Of a live stream there is one item at most.
        """
        group: list[Slot[T, S]] = []
        deadline = 0.0
        while True:
            heard = self.bell.num_rings  # before looking: what changes meanwhile rings again
            with self._lock:
                if not group:
                    self._part_from_ended()
                    deadline = time.monotonic() + patience
                self._collect(group, most, kind)
                may_grow = self._may_grow(group)
                over = self._closed and not self._lanes
            remaining = deadline - time.monotonic()
            if len(group) == most or (group and (remaining <= 0 or not may_grow)) or (not group and over):
                return group
            self.bell.wait_beyond(heard, patience=remaining if group else None)

    def _part_from_ended(self) -> None:
        for lane in [lane for lane in self._lanes if lane.closed and not lane.num_waiting]:
            self._lanes.remove(lane)

    def _collect(self, group: list[Slot[T, S]], most: int, kind: Callable[[T], Hashable]) -> None:
        def fits(item: T) -> bool:
            return not group or kind(item) == kind(group[0].item)

        while len(group) < most and (slot := self._next(group, fits)):
            group.append(slot)

    def _next(self, group: Sequence[Slot[T, S]], fits: Callable[[T], bool]) -> Slot[T, S] | None:
        """From the stream that was served longest ago of those that have something.

        One that has nothing now keeps its place: sent to the end, it would miss a whole turn for coming a moment late.
        """
        for lane in self._not_in(group):
            if slot := lane.take(fits=fits):
                self._lanes.remove(lane)
                self._lanes.append(lane)
                return slot
        return None

    def _may_grow(self, group: Sequence[Slot[T, S]]) -> bool:
        """Whether waiting may add to the group; where another kind waits already, the engine is not kept from it."""
        rest = self._not_in(group)
        return any(not lane.closed for lane in rest) and not any(lane.num_waiting for lane in rest)

    def _not_in(self, group: Sequence[Slot[T, S]]) -> list[Lane[T, S]]:
        """The lanes that may add to the group: a live one only once, or the fastest camera would get the most looks."""
        return [lane for lane in self._lanes if not (lane.live and any(slot.lane is lane for slot in group))]


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
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            try:
                news = self._news.get(timeout=LONGEST_WAIT if left is None else min(left, LONGEST_WAIT))
            except queue.Empty:
                if left is not None and left <= LONGEST_WAIT:
                    return None
                continue
            if not isinstance(news, threading.Thread):
                return news
            news.join()
            self._running.discard(news)
        return None
