"""Who leads workers waits for none that is lost, and does not go on with what they die of; the workers are fakes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from streamseg.annotate.chunks import Chunk, Cut, Run
from streamseg.annotate.leader import Lead
from streamseg.annotate.manifest import Identity
from streamseg.annotate.recordings import Ended
from streamseg.annotate.selection import Selection
from streamseg.annotate.work import Looking, Outcome
from streamseg.annotate.worker import Looked, Seat
from streamseg.config import Component

NEVER = object()
"""The answer of a worker that is no longer there."""


class ActorDied(Exception):
    """As Ray's RayError and RayActorError."""


class Unavailable(ActorDied):
    """As Ray's ActorUnavailableError."""


class FakeRay:
    """What the leader uses of Ray. looks: what each worker answers to a run, by its host; killed: those that were"""

    def __init__(self, **looks: Callable[[Run], Any]) -> None:
        self.looks, self.killed = looks, list[str]()
        self.exceptions = SimpleNamespace(
            RayError=ActorDied, RayActorError=ActorDied, ActorUnavailableError=Unavailable
        )
        strategies = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
        self.util = SimpleNamespace(scheduling_strategies=strategies)

    def remote(self, _: type) -> Any:
        return self

    def options(self, *, scheduling_strategy: str, **_: Any) -> Any:
        look = self.looks[scheduling_strategy]
        actor = SimpleNamespace(
            host=scheduling_strategy,
            place=Called(lambda: "here"),
            look=Called(look),
            frames=Called(lambda: NEVER if look(RUNS[0]) is NEVER else 1),
        )
        return SimpleNamespace(remote=lambda *_, **__: actor)

    def wait(self, answers: Sequence[Answer], *, num_returns: int, timeout: float) -> Any:
        ready = [answer for answer in answers if answer.value is not NEVER][:num_returns]
        if not ready:
            time.sleep(0.01)
        return ready, []

    def get(self, answer: Answer) -> Any:
        if isinstance(answer.value, Exception):
            raise answer.value
        return answer.value

    def kill(self, actor: Any) -> None:
        self.killed.append(actor.host)

    def available_resources(self) -> dict[str, float]:
        return {"CPU": 0.0}


class Answer:
    """What an actor will say, or an error that it raises."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Called:
    """A method of an actor."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def options(self, **_: Any) -> Called:
        return self

    def remote(self, *arguments: Any) -> Answer:
        return Answer(self._function(*arguments))


CUT = Cut(tuple(Chunk(n, float(n), None) for n in range(4)), 4, 4, Fraction(1), True)
RUNS = [Run("a", Path("a.mp4"), CUT, n, n + 1) for n in range(4)]


def found(run: Run) -> Looked:
    """One frame in a chunk of these bytes."""
    return Looked(((Ended("a", run.first, 1, run.first + 1, 5), b"found"),))


def led(
    ray: FakeRay,
    folder: Path,
    *,
    identity: dict[str, Any] | None = None,
    signals: Sequence[int] = (),
    silence: float = 60.0,
    patience: float = 60.0,
) -> tuple[Outcome, list[int]]:
    """How it went, and which chunks have ended. identity: of the video when the job began"""
    ended: list[int] = []
    jobs = {"a": {"identity": identity or {}}}
    lead = Lead(
        ray,
        Looking(Component(name="none"), None, Selection(), {}, {"a": folder}, jobs),
        RUNS,
        [Seat(host, host, 1) for host in ray.looks],
        ended=lambda each: ended.append(each.number),
        told=lambda *_: None,
        silence=silence,
        patience=patience,
    )
    return lead.look(signals), sorted(ended)


def test_what_a_worker_sends_is_kept(tmp_path: Path) -> None:
    assert led(FakeRay(one=found), tmp_path / "a") == (Outcome(), [0, 1, 2, 3])
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == [f"00000{n}.jsonl.gz" for n in range(4)]
    assert (tmp_path / "a" / "000000.jsonl.gz").read_bytes() == b"found"


def test_what_a_silent_worker_was_at_is_done_by_another_one(tmp_path: Path) -> None:
    ray = FakeRay(silent=lambda run: NEVER, other=found)
    assert led(ray, tmp_path / "a", silence=0.05) == (Outcome(), [0, 1, 2, 3])


def test_where_all_workers_are_silent_the_job_says_so(tmp_path: Path) -> None:
    outcome, ended = led(FakeRay(silent=lambda run: NEVER), tmp_path / "a", patience=0.1)
    assert {str(error) for _, error in outcome.errors} == {"no worker of the cluster has answered for 0.1 s"}
    assert len(outcome.errors) == 4 and ended == []


def test_a_run_that_workers_die_of_is_given_up_and_the_others_are_done(tmp_path: Path) -> None:
    def dies(run: Run) -> Any:
        return ActorDied("gone") if run.first == 2 else found(run)

    outcome, ended = led(FakeRay(one=dies, two=dies), tmp_path / "a")
    ((run, error),) = outcome.errors
    assert (run.first, ended) == (2, [0, 1, 3])
    assert str(error).startswith("no worker could look at its chunks 2 to 2: the last one, on ")
    assert str(error).endswith(" died")


def test_a_worker_that_could_not_be_reached_once_goes_on(tmp_path: Path) -> None:
    failing = [Unavailable("for now")]

    def look(run: Run) -> Any:
        return failing.pop() if run.first == 1 and failing else found(run)

    assert led(FakeRay(one=look), tmp_path / "a") == (Outcome(), [0, 1, 2, 3])


def test_what_could_not_be_fetched_once_is_tried_again(tmp_path: Path) -> None:
    failing = [Looked(missed="s3://films/a.mp4: cannot be fetched")]

    def look(run: Run) -> Any:
        return failing.pop() if run.first == 1 and failing else found(run)

    assert led(FakeRay(one=look), tmp_path / "a") == (Outcome(), [0, 1, 2, 3])


def test_a_worker_that_does_not_see_the_video_is_left_out_by_name(here: Path) -> None:
    (here / "a.mp4").write_bytes(b"-")
    ray = FakeRay(blind=lambda run: Looked(unfit="no such file"), other=found)
    outcome, ended = led(ray, here / "a", identity=Identity.of(Path("a.mp4")).to_json())
    assert outcome == Outcome(notes=("the worker on blind was left out: no such file",))
    assert (ended, ray.killed) == ([0, 1, 2, 3], ["blind"])


def test_where_the_leader_does_not_see_the_video_either_no_worker_is_left_out(here: Path) -> None:
    ray = FakeRay(blind=lambda run: Looked(unfit="no such file"))
    outcome, ended = led(ray, here / "a", identity={"size": 1})
    assert [str(error) for _, error in outcome.errors] == ["no such file"] * 4
    assert (outcome.notes, ended, ray.killed) == ((), [], [])


def test_a_signal_ends_the_handing_out(tmp_path: Path) -> None:
    assert led(FakeRay(one=found), tmp_path / "a", signals=[2]) == (Outcome(exit_code=130), [])
