"""Hand-over between threads: order, room, drops, and that every wait ends when a neighbour dies."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.buffer import Bell, Buffer, Closed, Failure, Junction, Lane, Slot, Threads
from streamseg.flow import signals


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
        buffer.put(item)
    assert [buffer.get(), buffer.get(), buffer.get()] == [1, 2, 3]


def test_put_waits_while_the_buffer_is_full_until_one_is_taken() -> None:
    buffer: Buffer[int] = Buffer(1)
    buffer.put(1)
    second = Waiting(lambda: buffer.put(2))
    assert second.still
    assert buffer.get() == 1
    second.outcome()
    assert buffer.get() == 2


def test_get_waits_for_an_item() -> None:
    buffer: Buffer[str] = Buffer(1)
    waiting = Waiting(buffer.get)
    assert waiting.still
    buffer.put("frame")
    assert waiting.outcome() == "frame"


def test_a_closed_buffer_gives_what_it_holds_and_then_ends() -> None:
    buffer: Buffer[int] = Buffer(2)
    buffer.put(1)
    buffer.put(2)
    buffer.close()
    assert list(buffer) == [1, 2]
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


def test_nothing_can_be_put_into_a_closed_buffer() -> None:
    buffer: Buffer[int] = Buffer(1)
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


def test_what_is_offered_never_waits_and_takes_the_place_of_the_oldest() -> None:
    buffer: Buffer[int] = Buffer(2)
    assert [buffer.offer(item) for item in range(4)] == [0, 0, 1, 1]
    assert len(buffer) == 2 and [buffer.get(), buffer.get()] == [2, 3]
    buffer.offer(4)
    assert buffer.clear() == 1 and len(buffer) == 0
    buffer.close()
    with pytest.raises(Closed):
        buffer.offer(5)


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


# Lanes


def answered(lane: Lane[int, str], answer: str = "seen") -> int:
    """Lets an engine take an item and answer at once; the item."""
    slot = lane.take(fits=lambda item: True)
    assert slot is not None
    slot.fill(answer)
    return slot.item


def lane_of(*items: int, live: bool = False, capacity: int = 10) -> Lane[int, str]:
    lane: Lane[int, str] = Lane(capacity, live=live)
    for item in items:
        lane.put(item)
    return lane


def test_a_files_items_are_looked_at_one_after_the_other_and_come_out_in_order() -> None:
    lane = lane_of(1, 2, 3)
    first, second = lane.take(fits=bool), lane.take(fits=bool)
    assert first and second and (first.item, second.item) == (1, 2)
    second.fill("b")
    getting = Waiting(lane.get)
    assert getting.still, "the second is answered, but not yet the first"
    first.fill("a")
    assert getting.outcome() == (1, "a") and lane.get() == (2, "b")


def test_a_cameras_newest_item_is_looked_at_and_those_before_it_are_passed_over() -> None:
    lane = lane_of(1, 2, 3, live=True)
    slot = lane.take(fits=bool)
    assert slot and slot.item == 3
    assert [lane.get(), lane.get()] == [(1, None), (2, None)]
    lane.put(4)
    assert Waiting(lane.get).still
    slot.fill("c")
    assert answered(lane) == 4


@pytest.mark.parametrize("live", [True, False])
def test_an_item_that_is_not_for_the_engine_comes_out_in_its_order_without_an_answer(live: bool) -> None:
    lane: Lane[int, str] = Lane(3, live=live)
    lane.put(0, look=False)
    lane.put(1)
    lane.put(2, look=False)
    slot = lane.take(fits=lambda _: True)
    assert slot is not None and slot.item == 1 and lane.take(fits=lambda _: True) is None
    slot.fill("seen")
    assert [lane.get() for _ in range(3)] == [(0, None), (1, "seen"), (2, None)]


def test_a_full_lane_of_a_file_makes_its_producer_wait() -> None:
    lane = lane_of(1, capacity=1)
    putting = Waiting(lambda: lane.put(2))
    answered(lane)
    assert putting.still, "an item is in the lane until the writer takes it"
    assert lane.get() == (1, "seen")
    putting.outcome()


def test_a_full_lane_of_a_camera_drops_by_cause_and_never_what_the_engine_holds() -> None:
    lane = lane_of(1, 2, live=True, capacity=3)
    slot = lane.take(fits=bool)  # 2; so 1 is ready
    for item in (3, 4, 5, 6):
        lane.put(item)
    assert lane.dropped == {"slow output": 1, "slow engine": 2}
    assert slot
    slot.fill("b")
    lane.close()
    assert answered(lane) == 6
    assert list(lane) == [(2, "b"), (5, None), (6, "seen")]


def test_a_slow_writer_loses_what_was_passed_over_before_what_was_looked_at() -> None:
    lane = lane_of(1, live=True, capacity=3)
    answered(lane)
    for item in (2, 3):
        lane.put(item)
    answered(lane)
    lane.put(4)
    lane.close()
    assert answered(lane) == 4
    assert list(lane) == [(1, "seen"), (3, "seen"), (4, "seen")] and lane.dropped == {"slow output": 1}


def test_taking_never_waits_and_leaves_what_does_not_fit() -> None:
    lane = lane_of(live=True)
    assert lane.take(fits=bool) is None
    lane.put(7)
    lane.put(8)
    assert lane.take(fits=lambda item: item == 7) is None
    assert lane.num_waiting == 2, "nothing is passed over for an item that is not taken"


def test_a_lane_that_is_closed_in_order_lets_everything_through() -> None:
    lane = lane_of(1, 2)
    lane.close()
    with pytest.raises(Closed):
        lane.put(3)
    assert [answered(lane), answered(lane)] == [1, 2]
    assert list(lane) == [(1, "seen"), (2, "seen")]


@pytest.mark.parametrize(("lose", "left"), [("nothing", [1, 2, 3]), ("unanswered", [1]), ("everything", [])])
def test_a_lane_closed_with_an_error_gives_what_it_is_to_keep_and_then_raises_it(lose: str, left: list[int]) -> None:
    lane = lane_of(1, 2, 3)
    answered(lane)
    slot = lane.take(fits=bool)
    lane.close(failure("engine gone"), lose=lose)  # type: ignore[arg-type]
    assert slot
    if lose == "nothing":
        slot.fill("seen")
        answered(lane)
    else:
        with pytest.raises(Closed):
            slot.fill("too late")
    items, got = iter(lane), []
    with pytest.raises(OSError, match="engine gone"):
        while True:
            got.append(next(items)[0])
    assert got == left


def test_closing_a_lane_wakes_whoever_waits_at_either_end() -> None:
    full, empty = lane_of(1, capacity=1), lane_of()
    putting, getting = Waiting(lambda: full.put(2)), Waiting(empty.get)
    assert putting.still and getting.still
    full.close(failure())
    empty.close(failure("lost"))
    assert isinstance(putting.outcome(), Closed)
    assert str(getting.outcome()) == "lost"


def test_a_lane_rings_when_the_engine_has_something_to_look_at_and_no_ring_is_missed() -> None:
    bell = Bell()
    lane: Lane[int, str] = Lane(1, bell=bell)
    lane.put(1)
    lane.close()
    assert bell.num_rings == 2
    bell.wait_beyond(1)  # returns at once: the second has been
    waiting = Waiting(lambda: bell.wait_beyond(2))
    assert waiting.still
    bell.ring()
    waiting.outcome()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["put", "take", "fill", "get"]), max_size=80), st.booleans(), st.integers(1, 6))
def test_whatever_happens_each_item_comes_out_once_with_its_own_answer_or_is_counted(
    steps: list[str], live: bool, capacity: int
) -> None:
    lane: Lane[int, int] = Lane(capacity, live=live)
    held: list[Slot[int, int]] = []
    out: list[tuple[int, int | None]] = []
    num_put = 0
    for step in steps:
        num_in = num_put - len(out) - lane.dropped.total()
        if step == "put" and (live or num_in < capacity):
            lane.put(num_put)
            num_put += 1
        elif step == "take" and (slot := lane.take(fits=lambda item: True)):
            held.append(slot)
        elif step == "fill" and held:
            slot = held.pop()
            slot.fill(slot.item)
        elif step == "get" and lane._slots and lane._slots[0].place.name == "READY":
            out.append(lane.get())
    lane.close()
    for slot in held:
        slot.fill(slot.item)
    while slot_ := lane.take(fits=lambda item: True):
        slot_.fill(slot_.item)
    out += list(lane)
    assert [item for item, _ in out] == sorted({item for item, _ in out})
    assert all(answer in (None, item) for item, answer in out)
    assert num_put == len(out) + lane.dropped.total()
    if not live:
        assert out == [(item, item) for item in range(num_put)]


# The junction


def lanes(junction: Junction[str, str], *contents: str) -> list[Lane[str, str]]:
    """A lane for each string, its letters waiting in it."""
    made = []
    for letters in contents:
        lane: Lane[str, str] = Lane(10, bell=junction.bell)
        for letter in letters:
            lane.put(letter)
        junction.add(lane)
        made.append(lane)
    return made


def taken(junction: Junction[str, str], *, most: int = 10, patience: float = 0.0, kind: Callable = str.isupper) -> str:
    return "".join(slot.item for slot in junction.take(most=most, patience=patience, kind=kind))


def test_a_junction_takes_from_its_streams_in_turn() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "abc", "x", "mn")
    assert taken(junction) == "axmbnc"


def test_the_turn_goes_on_where_it_stopped() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "abc", "xyz")
    assert [taken(junction, most=1) for _ in range(4)] == ["a", "x", "b", "y"]


def test_a_stream_that_comes_late_for_its_turn_is_the_next() -> None:
    junction: Junction[str, str] = Junction()
    late, *_ = lanes(junction, "", "xyz", "mn")
    assert taken(junction, most=1) == "x"
    late.put("a")
    assert [taken(junction, most=1) for _ in range(3)] == ["a", "m", "y"]


def test_a_group_does_not_wait_where_another_kind_waits_already() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "a", "X")
    assert Waiting(lambda: taken(junction, patience=60)).outcome() == "a"


def test_a_live_stream_is_in_a_group_once() -> None:
    junction: Junction[str, str] = Junction()
    camera, _ = lanes(junction, "", "xyz")
    camera.live = True
    camera.put("a")
    group = junction.take(most=10, patience=0, kind=str.isupper)
    camera.put("b")
    assert "".join(slot.item for slot in group) == "axyz"
    assert taken(junction) == "b"


def test_a_group_of_a_live_stream_alone_does_not_wait_for_its_next_item() -> None:
    junction: Junction[str, str] = Junction()
    (camera,) = lanes(junction, "")
    camera.live = True
    camera.put("a")
    assert Waiting(lambda: taken(junction, patience=60)).outcome() == "a"


def test_a_group_is_of_one_kind_and_its_stream_keeps_its_order() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "aBc", "xYz")
    assert [taken(junction) for _ in range(3)] == ["ax", "BY", "cz"]


def test_a_group_is_never_larger_than_asked_for() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "abcde")
    assert [taken(junction, most=2) for _ in range(3)] == ["ab", "cd", "e"]


def test_a_stream_whose_writer_is_slow_leaves_the_engine_to_the_others() -> None:
    junction: Junction[str, str] = Junction()
    stuck: Lane[str, str] = Lane(1, bell=junction.bell)
    stuck.put("a")
    junction.add(stuck)
    for slot in junction.take(most=1, patience=0, kind=str.isupper):
        slot.fill("seen")
    putting = Waiting(lambda: stuck.put("b"))
    lanes(junction, "xyz")
    assert taken(junction) == "xyz"
    assert stuck.get() == ("a", "seen")
    putting.outcome()
    assert taken(junction) == "b"


def test_a_group_waits_for_more_only_as_long_as_it_may() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "a", "")
    began = time.monotonic()
    assert taken(junction, patience=0.05) == "a"
    assert 0.04 < time.monotonic() - began < 2


def test_a_latecomer_joins_the_group_within_its_patience() -> None:
    junction: Junction[str, str] = Junction()
    lanes(junction, "a")
    (lane,) = lanes(junction, "")
    waiting = Waiting(lambda: taken(junction, most=2, patience=5))
    assert waiting.still
    lane.put("x")
    assert waiting.outcome() == "ax"


def test_a_group_does_not_wait_when_nobody_is_left_who_could_add_to_it() -> None:
    junction: Junction[str, str] = Junction()
    (lane,) = lanes(junction, "a")
    lane.close()
    assert Waiting(lambda: taken(junction, patience=60)).outcome() == "a"


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
    for lane in (first, later):
        with pytest.raises(Closed):
            lane.put("c")
        with pytest.raises(OSError, match="engine broke"):
            lane.get()


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


def test_a_signal_that_does_not_wake_the_main_thread_is_told_all_the_same(threads: Threads) -> None:
    done = threading.Event()

    def work() -> None:
        done.wait(0.1)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # as the system does now and then
        done.wait(20)

    with signals.told_to(threads.tell):
        threads.start("busy", work, at_end=lambda failure: None)
        assert threads.wait() == signal.SIGTERM
        assert threads.running == ["busy"]
        done.set()
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
