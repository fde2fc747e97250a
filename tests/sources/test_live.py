"""A live source comes back from everything, says how it is, and waits no longer and no shorter than it should."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.sources import _live
from streamseg.sources._live import OUTCOMES, Arrival, Finite, Live, Timing, Trouble
from streamseg.types import Frame, InputError, LiveSource, SourceState, UsageError
from tests.fakes import picture

WHOLE, DAMAGED, NOTHING = "whole", "damaged", "nothing"
REFUSED = Trouble("refusal", "user or password is wrong (401)")
GONE = Trouble("loss", "connection refused")
SILENT = Trouble("silence", "nothing came for 5 s")

Step = str | float | Exception
"""What a connection does next: a picture a tenth of a second later, nothing new, so many seconds pass, or it fails."""


class Camera:
    """Each connection follows a script, the last one for ever; time passes by what stands in it, and by waiting."""

    def __init__(self, *scripts: Sequence[Step], seed: int = 0) -> None:
        self.scripts = list(scripts)
        self.now, self.num_connections, self.num_open = 1000.0, 0, 0
        self.waited: list[float] = []
        self.timing = Timing(clock=lambda: self.now, wait=self._wait, chance=random.Random(seed))

    def _wait(self, stopped: threading.Event, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds

    def connect(self, stopped: threading.Event) -> Generator[Arrival | None, None, None]:
        script = self.scripts[min(self.num_connections, len(self.scripts) - 1)]
        self.num_connections += 1
        self.num_open += 1
        try:
            for step in script:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float | int):
                    self.now += step
                elif step == NOTHING:
                    yield None
                else:
                    self.now += 0.1
                    yield Arrival(picture(), self.now, self.now, step == DAMAGED, Fraction(10))
        finally:
            self.num_open -= 1


@dataclass(frozen=True)
class Story:
    """What came of it: the frames, and (state, cause, seconds since the start) of every change."""

    frames: list[Frame]
    states: list[tuple[str, str, float]]
    source: Live


def played(camera: Camera, num_frames: int, *, attempts: int | None = None) -> Story:
    states: list[SourceState] = []
    source = Live(camera.connect, name="yard", called="rtsp://yard/1", attempts=attempts, timing=camera.timing)
    source.on_state = states.append
    began = camera.now
    with source:
        frames = list(islice(source, num_frames))
    assert camera.num_open == 0
    return Story(frames, [(each.name, each.cause, round(each.since - began, 3)) for each in states], source)


def test_a_healthy_camera_connects_and_is_live() -> None:
    story = played(Camera([WHOLE] * 5), 5)
    assert story.states == [("connecting", "", 0), ("live", "", 0.1)]
    assert [each.index for each in story.frames] == [0, 1, 2, 3, 4]
    assert [each.time for each in story.frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [each.captured_at for each in story.frames] == pytest.approx([1000.1, 1000.2, 1000.3, 1000.4, 1000.5])
    assert isinstance(story.source, LiveSource)
    info = story.source.info
    assert (info.live, info.width, info.height, info.average_rate) == (True, 16, 16, 10)
    assert {each.picture.time_base for each in story.frames} == {info.time_base}
    assert [each.picture.pts * info.time_base for each in story.frames] == [0, *(Fraction(n, 10) for n in (1, 2, 3, 4))]
    assert not story.source.warnings


@pytest.mark.parametrize(
    ("end", "state", "cause"),
    [
        ([], "lost", "the other end closed the connection"),
        ([GONE], "lost", "connection refused"),
        ([5.0, SILENT], "stalled", "nothing came for 5 s"),
        ([REFUSED], "refused", "user or password is wrong (401)"),
        ([Finite("a file of 10 s")], "lost", "the other end says that the stream is over"),
    ],
)
def test_whatever_ends_a_connection_it_comes_back(end: list[Step], state: str, cause: str) -> None:
    camera = Camera([WHOLE, WHOLE, *end], [WHOLE] * 3)
    story = played(camera, 5)
    assert [name for name, _, _ in story.states] == ["connecting", "live", state, "live"]
    assert story.states[2][1] == cause and story.states[3][1] == ""
    assert [each.index for each in story.frames] == [0, 1, 2, 3, 4]
    outage = sum(camera.waited) + sum(step for step in end if isinstance(step, float))
    assert story.frames[2].time - story.frames[1].time == pytest.approx(outage + 0.1)
    assert story.source.warnings == {"interruptions": 1}


def test_an_absent_camera_is_a_state_and_waits_grow_until_it_comes() -> None:
    camera = Camera(*[[GONE]] * 7, [WHOLE])
    story = played(camera, 1)
    assert [name for name, _, _ in story.states] == ["connecting", "lost", "live"]
    assert all(abs(got / want - 1) <= 0.2 for got, want in zip(camera.waited, (1, 2, 4, 8, 10, 10, 10), strict=True))
    assert len({got / want for got, want in zip(camera.waited, (1, 2, 4, 8, 10, 10, 10), strict=True)}) > 1


@given(seed=st.integers(), outages=st.lists(st.integers(1, 8), min_size=1, max_size=5))
def test_after_a_picture_waits_begin_anew(seed: int, outages: list[int]) -> None:
    scripts: list[list[Step]] = []
    for length in outages:  # a picture, its end, and then attempts in vain
        scripts += [[WHOLE], *[[GONE]] * (length - 1)]
    camera = Camera(*scripts, [WHOLE], seed=seed)
    played(camera, len(outages) + 1)
    wanted = [wait for length in outages for wait in [1, 2, 4, 8, 10, 10, 10, 10][:length]]
    assert len(camera.waited) == len(wanted)
    assert all(0.8 * want <= got <= 1.2 * want for got, want in zip(camera.waited, wanted, strict=True))


def test_a_camera_that_does_not_let_us_in_is_asked_every_minute_only() -> None:
    camera = Camera(*[[REFUSED]] * 4, [WHOLE])
    story = played(camera, 1)
    assert camera.waited == [60, 60, 60, 60]
    assert [(name, cause) for name, cause, _ in story.states][1:] == [("refused", REFUSED.cause), ("live", "")]


def test_a_new_cause_is_told_and_the_state_is_as_old_as_it_was() -> None:
    other = Trouble("loss", "no route to the host")
    story = played(Camera([GONE], [other], [GONE], [WHOLE]), 1)
    assert story.states[1:4] == [("lost", GONE.cause, 0), ("lost", other.cause, 0), ("lost", GONE.cause, 0)]


def test_five_seconds_of_damage_are_a_stall_and_ten_are_a_loss() -> None:
    camera = Camera([WHOLE, *[DAMAGED] * 200], [WHOLE])
    story = played(camera, 102)
    assert [(name, at) for name, _, at in story.states[:4]] == [
        ("connecting", 0.0),
        ("live", 0.1),
        ("stalled", 5.1),
        ("lost", 10.1),
    ]
    assert story.states[4][0] == "live"
    assert [each.damaged for each in story.frames] == [False, *[True] * 99, False] + [False] * (len(story.frames) - 101)
    assert story.source.warnings["pictures damaged on the way"] == 100


def test_a_first_keyframe_may_take_sixteen_seconds_but_not_for_ever() -> None:
    slow = Camera([16.0, NOTHING, WHOLE])
    assert [(name, at) for name, _, at in played(slow, 1).states][1:] == [("stalled", 16.0), ("live", 16.1)]
    never = Camera([*[1.0, NOTHING] * 100], [WHOLE])
    assert [(name, at) for name, _, at in played(never, 1).states][1:3] == [("stalled", 5.0), ("lost", 20.0)]


def test_a_reader_that_hangs_is_not_called_live_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg may take long to close what is half open, or to notice that nothing comes."""
    monkeypatch.setattr(_live, "STALLED_AFTER", 0.05)
    told = threading.Event()

    def connect(stopped: threading.Event) -> Generator[Arrival | None, None, None]:
        yield Arrival(picture(), time.monotonic())
        assert told.wait(10)
        raise GONE

    source = Live(connect, name="yard", called="rtsp://yard/1")
    states: list[SourceState] = []

    def on_state(state: SourceState) -> None:
        states.append(state)
        if state.name == "stalled":
            told.set()
        elif state.name == "lost":
            source.interrupt()

    source.on_state = on_state
    with source:
        assert len(list(source)) == 1
    assert [(each.name, each.cause) for each in states] == [
        ("connecting", ""),
        ("live", ""),
        ("stalled", "no whole picture for 0.05 s"),
        ("lost", GONE.cause),
    ]
    assert states[2].since - states[1].since >= 0.05
    assert "watch yard" not in {thread.name for thread in threading.enumerate()}


def test_a_stalled_camera_that_goes_on_is_live_again_in_the_same_connection() -> None:
    camera = Camera([WHOLE, 6.0, NOTHING, WHOLE])
    assert [name for name, _, _ in played(camera, 2).states] == ["connecting", "live", "stalled", "live"]
    assert camera.num_connections == 1


def test_a_limit_of_attempts_counts_those_in_a_row_without_a_picture() -> None:
    camera = Camera([GONE], [GONE], [WHOLE], [GONE], [GONE], [REFUSED])
    with pytest.raises(InputError) as error:
        played(camera, 5, attempts=3)
    assert str(error.value) == "rtsp://yard/1: given up after 3 attempts: user or password is wrong (401)"
    assert camera.num_connections == 6
    with pytest.raises(UsageError, match="attempts: expected 1 or more, or none for no limit, got 0"):
        played(camera, 1, attempts=0)


def test_what_has_an_end_is_no_camera() -> None:
    camera = Camera([Finite("a file of 10 s, and no live stream")])
    with pytest.raises(InputError, match="^rtsp://yard/1: a file of 10 s, and no live stream$"):
        played(camera, 1)
    assert camera.num_open == 0


def test_a_mistake_of_ours_is_no_state() -> None:
    with pytest.raises(ZeroDivisionError):
        played(Camera([WHOLE, ZeroDivisionError()]), 2)


def test_an_interruption_ends_a_wait_at_once_and_a_connection_with_its_next_sign() -> None:
    waiting = threading.Event()

    def connect(stopped: threading.Event) -> Generator[Arrival | None, None, None]:
        waiting.set()
        raise REFUSED
        yield

    source = Live(connect, name="yard", called="rtsp://yard/1")
    frames: list[Frame] = []

    def read() -> None:
        with source:
            frames.extend(source)

    reader = threading.Thread(target=read)
    reader.start()
    assert waiting.wait(10)
    source.interrupt()
    reader.join(10)  # the wait itself would take a minute
    assert not reader.is_alive() and frames == []

    camera = Camera([WHOLE] * 100)
    interrupted = Live(camera.connect, name="yard", called="rtsp://yard/1", timing=camera.timing)
    with interrupted:
        for frame in interrupted:
            if frame.index == 2:
                interrupted.interrupt()
    assert frame.index == 2 and interrupted.state.name == "live" and camera.num_open == 0


def test_what_is_interrupted_before_it_begins_does_not_begin() -> None:
    camera = Camera([WHOLE])
    source = Live(camera.connect, name="yard", called="rtsp://yard/1", timing=camera.timing)
    source.interrupt()
    with source:
        assert list(source) == [] and camera.num_connections == 0


def test_a_state_is_logged_when_it_changes_and_then_every_hour(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streamseg")
    played(Camera(*[[GONE]] * 750, [WHOLE]), 1)  # two hours and a little, at ten seconds an attempt
    lines = [record.message for record in caplog.records]
    assert lines == [
        "stream yard: connecting (rtsp://yard/1)",
        "stream yard: lost: connection refused",
        "stream yard: still lost after 1 h: connection refused",
        "stream yard: still lost after 2 h: connection refused",
        "stream yard: live (rtsp://yard/1)",
    ]


def test_a_size_that_changes_is_a_frame_of_that_size() -> None:
    def connect(stopped: threading.Event) -> Generator[Arrival | None, None, None]:
        yield Arrival(picture(), 1.0)
        yield Arrival(picture(width=32, height=24), 1.1)

    with Live(connect, name="yard", called="camera:0") as source:
        assert [(each.width, each.height) for each in islice(source, 2)] == [(16, 16), (32, 24)]
        assert source.info.average_rate == 25


def test_every_event_has_its_outcome_and_those_that_end_a_connection_their_wait() -> None:
    assert {event: outcome.state for event, outcome in OUTCOMES.items()} == {
        "picture": "live",
        "silence": "stalled",
        "loss": "lost",
        "refusal": "refused",
    }
    assert [event for event, outcome in OUTCOMES.items() if not outcome.waits] == ["picture"]
