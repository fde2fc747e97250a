"""Hand-over between threads: order, room, drops, and that every wait ends when a neighbour dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from streamseg.buffer import Bell, Buffer, Closed, Failure, Junction, Threads


def failure(message: str = "lost") -> Failure:
    return Failure(OSError(message), "reader")


class Waiting:
    """Calls something in a thread of its own; `outcome` is what came of it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.result: object = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            self.result = call()
        except BaseException as error:
            self.error = error

    @property
    def still(self) -> bool:
        self._thread.join(0.05)
        return self._thread.is_alive()

    def outcome(self) -> object:
        self._thread.join(5)
        assert not self._thread.is_alive(), "it still waits"
        return self.error or self.result


def test_items_come_out_in_the_order_they_went_in() -> None:
    buffer: Buffer[int] = Buffer(3)
    for item in (1, 2, 3):
        assert buffer.put(item) is False
    assert [buffer.get(), buffer.get(), buffer.get()] == [1, 2, 3]


def test_put_waits_while_the_buffer_is_full_until_one_is_taken() -> None:
    buffer: Buffer[int] = Buffer(1)
    buffer.put(1)
    second = Waiting(lambda: buffer.put(2))
    assert second.still
    assert buffer.get() == 1
    assert second.outcome() is False
    assert buffer.get() == 2


def test_get_waits_for_an_item() -> None:
    buffer: Buffer[str] = Buffer(1)
    waiting = Waiting(buffer.get)
    assert waiting.still
    buffer.put("frame")
    assert waiting.outcome() == "frame"


def test_a_dropping_buffer_keeps_the_newest_and_counts_the_rest() -> None:
    buffer: Buffer[int] = Buffer(2, drop_oldest=True)
    assert [buffer.put(item) for item in range(5)] == [False, False, True, True, True]
    assert buffer.num_dropped == 3
    assert [buffer.get(), buffer.get()] == [3, 4]


def test_a_closed_buffer_gives_what_it_holds_and_then_ends() -> None:
    buffer: Buffer[int] = Buffer(2)
    buffer.put(1)
    buffer.put(2)
    buffer.close()
    assert not buffer.ended
    assert list(buffer) == [1, 2]
    assert buffer.ended
    with pytest.raises(Closed):
        buffer.get()


def test_a_buffer_closed_with_an_error_gives_what_it_holds_and_then_raises_it() -> None:
    buffer: Buffer[int] = Buffer(2)
    buffer.put(1)
    buffer.close(failure("camera gone"))
    items = iter(buffer)
    assert next(items) == 1
    with pytest.raises(OSError, match="camera gone"):
        next(items)


def test_closing_wakes_whoever_waits_to_put_and_whoever_waits_to_get() -> None:
    full: Buffer[int] = Buffer(1)
    full.put(1)
    empty: Buffer[int] = Buffer(1)
    putting, getting = Waiting(lambda: full.put(2)), Waiting(empty.get)
    assert putting.still and getting.still
    full.close(failure())
    empty.close(failure("lost"))
    assert isinstance(putting.outcome(), Closed)
    assert str(getting.outcome()) == "lost"


@pytest.mark.parametrize("drop_oldest", [False, True])
def test_nothing_can_be_put_into_a_closed_buffer(drop_oldest: bool) -> None:
    buffer: Buffer[int] = Buffer(1, drop_oldest=drop_oldest)
    buffer.close()
    with pytest.raises(Closed):
        buffer.put(1)


def test_the_first_close_decides_with_which_error() -> None:
    buffer: Buffer[int] = Buffer(1)
    buffer.close()
    buffer.close(failure())
    assert buffer.failure is None
    with pytest.raises(Closed):
        buffer.get()


def test_discarding_forgets_what_waits_and_is_then_no_orderly_end() -> None:
    buffer: Buffer[int] = Buffer(1)
    buffer.put(1)
    buffer.close()
    buffer.close(failure("stopped"), discard=True)
    with pytest.raises(OSError, match="stopped"):
        buffer.get()


def test_take_never_waits_and_leaves_what_does_not_fit() -> None:
    buffer: Buffer[int] = Buffer(2)
    assert buffer.take(fits=lambda item: True) is None
    buffer.put(7)
    assert buffer.take(fits=lambda item: item > 7) is None
    assert buffer.take(fits=lambda item: item == 7) == 7
    assert buffer.room == 2


def test_the_bell_rings_at_every_change_and_no_ring_is_missed() -> None:
    bell = Bell()
    buffer: Buffer[int] = Buffer(1, bell=bell)
    buffer.put(1)
    buffer.get()
    buffer.close()
    assert bell.num_rings == 3
    bell.wait_beyond(2)  # returns at once: the third has been
    waiting = Waiting(lambda: bell.wait_beyond(3))
    assert waiting.still
    bell.ring()
    waiting.outcome()


def test_a_thousand_items_of_two_producers_all_arrive_in_each_ones_order() -> None:
    buffer: Buffer[tuple[str, int]] = Buffer(3)

    def produce(name: str) -> None:
        for number in range(500):
            buffer.put((name, number))

    producers = [Waiting(lambda: produce("a")), Waiting(lambda: produce("b"))]
    items = [buffer.get() for _ in range(1000)]
    for producer in producers:
        producer.outcome()
    assert [number for name, number in items if name == "a"] == list(range(500))
    assert [number for name, number in items if name == "b"] == list(range(500))


# The junction


def lanes(junction: Junction[str, str], *contents: str, capacity: int = 10) -> list[tuple[Buffer[str], Buffer[str]]]:
    """A lane for each string, its letters waiting in the inbox."""
    made = []
    for letters in contents:
        inbox: Buffer[str] = Buffer(max(len(letters), 1), bell=junction.bell)
        outlet: Buffer[str] = Buffer(capacity, bell=junction.bell)
        for letter in letters:
            inbox.put(letter)
        junction.add(inbox, outlet)
        made.append((inbox, outlet))
    return made


def taken(junction: Junction[str, str], *, most: int = 10, patience: float = 0.0, kind: Callable = str.isupper) -> str:
    return "".join(item for _, item in junction.take(most=most, patience=patience, kind=kind))


def test_a_junction_takes_from_its_streams_in_turn() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "abc", "x", "mn")
    assert taken(junction) == "axmbnc"


def test_the_turn_goes_on_where_it_stopped() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "abc", "xyz")
    assert [taken(junction, most=1) for _ in range(4)] == ["a", "x", "b", "y"]


def test_a_group_is_of_one_kind_and_its_stream_keeps_its_order() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "aBc", "xYz")
    assert [taken(junction) for _ in range(3)] == ["ax", "BY", "cz"]


def test_a_group_is_never_larger_than_asked_for() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "abcde")
    assert [taken(junction, most=2) for _ in range(3)] == ["ab", "cd", "e"]


def test_nothing_is_taken_from_a_stream_whose_outlet_has_no_room() -> None:
    junction: Junction[str, str] = Junction()
    ((_, outlet),) = lanes(junction, "abc", capacity=1)
    lanes(junction, "xyz")
    outlet.put("done")
    assert taken(junction) == "xyz"
    waiting = Waiting(lambda: taken(junction))
    assert waiting.still
    outlet.get()
    assert waiting.outcome() == "a"


def test_a_group_waits_for_more_only_as_long_as_it_may() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "a", "")
    began = time.monotonic()
    assert taken(junction, patience=0.05) == "a"
    assert 0.04 < time.monotonic() - began < 2


def test_a_latecomer_joins_the_group_within_its_patience() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "a")
    ((inbox, _),) = lanes(junction, "")
    waiting = Waiting(lambda: taken(junction, most=2, patience=5))
    assert waiting.still
    inbox.put("x")
    assert waiting.outcome() == "ax"


def test_a_group_does_not_wait_when_nobody_is_left_who_could_add_to_it() -> None:
    junction: Junction[str, str] = Junction()
    ((inbox, _),) = lanes(junction, "a")
    inbox.close()
    assert Waiting(lambda: taken(junction, patience=60)).outcome() == "a"


def test_an_ended_inbox_closes_its_outlet_with_its_failure_but_not_before_its_last_item_is_through() -> None:
    junction: Junction[str, str] = Junction()
    ((inbox, outlet),) = lanes(junction, "a")
    lost = failure()
    inbox.close(lost)
    assert taken(junction) == "a"
    assert not outlet.closed
    junction.close()
    assert taken(junction) == ""
    assert outlet.failure is lost


def test_a_junction_ends_when_no_stream_is_left_and_none_will_join() -> None:
    junction: Junction[str, str] = Junction()
    waiting = Waiting(lambda: taken(junction))
    assert waiting.still
    junction.close()
    assert waiting.outcome() == ""


def test_a_junction_closed_with_a_failure_ends_every_stream_and_those_that_join_later() -> None:
    junction: Junction[str, str] = Junction()
    first = lanes(junction, "a")[0]
    junction.close(failure("engine broke"))
    later = lanes(junction, "b")[0]
    for inbox, outlet in (first, later):
        with pytest.raises(Closed):
            inbox.put("c")
        with pytest.raises(OSError, match="engine broke"):
            outlet.get()


# Threads


def void(_: object) -> None:
    """A thread's work returns nothing."""


@pytest.fixture
def threads() -> Iterator[Threads]:
    group = Threads()
    yield group
    assert group.running == []


def test_the_first_failure_is_kept_with_its_threads_name_and_every_end_is_told(threads: Threads) -> None:
    ends: dict[str, Failure | None] = {}
    first_broke = threading.Event()

    def fail(message: str) -> None:
        if message == "second":
            first_broke.wait(5)
        raise ValueError(message)

    def first_ends(end: Failure | None) -> None:
        ends.update(a=end)
        first_broke.set()

    threads.start("b", lambda: fail("second"), at_end=lambda end: ends.update(b=end))
    threads.start("a", lambda: fail("first"), at_end=first_ends)
    threads.start("c", lambda: None, at_end=lambda end: ends.update(c=end))
    assert threads.wait() is None
    assert [(kept.thread, str(kept.error)) for kept in threads.failures] == [("a", "first"), ("b", "second")]
    assert ends["c"] is None and ends["a"] is threads.failures[0]


def test_a_thread_that_meets_a_closed_buffer_has_ended_in_order(threads: Threads) -> None:
    buffer: Buffer[int] = Buffer(1)
    buffer.close()
    ends: list[Failure | None] = []
    threads.start("reader", lambda: void(buffer.put(1)), at_end=ends.append)
    threads.wait()
    assert ends == [None] and threads.failures == []


def test_a_thread_may_start_the_next_one(threads: Threads) -> None:
    ran: list[str] = []

    def start_next(_: Failure | None) -> None:
        threads.start("second", lambda: ran.append("second"), at_end=lambda end: None)

    threads.start("first", lambda: ran.append("first"), at_end=start_next)
    threads.wait()
    assert ran == ["first", "second"]


def test_waiting_is_woken_by_what_is_told_and_goes_on_afterwards(threads: Threads) -> None:
    release = threading.Event()
    threads.start("slow", lambda: void(release.wait(5)), at_end=lambda end: None)
    threads.tell(15)
    assert threads.wait() == 15
    assert threads.wait(patience=0.01) is None
    assert threads.running == ["slow"]
    release.set()
    assert threads.wait() is None


def test_waiting_for_a_group_from_inside_it_does_not_hang(threads: Threads) -> None:
    threads.start("self", lambda: void(threads.wait()), at_end=lambda end: None)
    threads.wait()


def test_an_error_at_the_end_of_a_thread_is_a_failure_too(threads: Threads) -> None:
    def fail(_: Failure | None) -> None:
        raise ValueError("at the end")

    threads.start("a", lambda: None, at_end=fail)
    threads.wait()
    assert str(threads.failures[0].error) == "at the end"
