"""Who leads the workers of a cluster: hands runs out, keeps what comes back, and does without those that are lost.

A worker that dies is started again by Ray and has its run again; of one that does not answer somebody else has it. The
same run gives the same bytes, so whoever is first has done it.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from streamseg.annotate import recordings
from streamseg.annotate.chunks import Run
from streamseg.annotate.manifest import Identity
from streamseg.annotate.recordings import Ended
from streamseg.annotate.work import Looking, Outcome, Told
from streamseg.annotate.worker import Looked, Seat, Worker
from streamseg.flow.report import said
from streamseg.types import InputError, ModelError

log = logging.getLogger(__name__)

RETRIES = 1
"""Of a run by a worker that died of it, by Ray itself, as soon as the worker is there again."""

LOSSES = 2
"""Times that a run comes back undone: once it is given to another worker, then its video is named."""

SECONDS_BETWEEN_QUESTIONS = 1.0

SECONDS_TO_LEAVE = 3.0

SECONDS_TO_COME_BACK = 3.0
"""Before a worker that could not be reached is asked again whether it is there."""


@dataclass
class _Hired:
    """A worker as the leader knows it, and the answers that are waited for.

    placed: it is there · heard: when it last answered · asked: when it was last asked for anything · lent: its run was
    given to another one, too
    """

    actor: Any
    seat: Seat
    placing: Any = None
    looking: Any = None
    asking: Any = None
    run: Run | None = None
    placed: bool = False
    heard: float = field(default_factory=time.monotonic)
    asked: float = -SECONDS_TO_COME_BACK
    lent: bool = False

    @property
    def waited_for(self) -> list[Any]:
        return [each for each in (self.placing, self.looking, self.asking) if each is not None]

    @property
    def is_free(self) -> bool:
        return self.placed and self.looking is None


class Lead:
    """Hands runs out and takes what comes back, until all of them are done or nobody is left to do them."""

    def __init__(
        self,
        ray: Any,
        looking: Looking,
        runs: Sequence[Run],
        places: Sequence[Seat],
        *,
        ended: Callable[[Ended], None],
        told: Told,
        silence: float,
        patience: float,
    ) -> None:
        self._ray, self._looking, self._ended, self._told = ray, looking, ended, told
        self._silence, self._patience = silence, patience
        self._waiting = deque(runs)
        self._open = {_key(run): run for run in runs}
        self._frames = dict.fromkeys(self._open, 0)
        self._losses = dict.fromkeys(self._open, 0)
        self._errors: list[tuple[Run, BaseException]] = []
        self._refused: list[str] = []
        sent = replace(looking, store={})
        self._workers = [self._hire(seat, sent) for seat in places]

    def look(self, signals: Sequence[int]) -> Outcome:
        """signals: those that came meanwhile"""
        while self._open and not signals:
            if not self._workers or self._is_silent():
                why = ModelError(self._why_nobody())
                self._errors += [(run, why) for run in self._open.values()]
                break
            self._hand_out()
            waited_for = {ref: worker for worker in self._workers for ref in worker.waited_for}
            if not waited_for:
                time.sleep(SECONDS_BETWEEN_QUESTIONS)
                continue
            ready, _ = self._ray.wait(list(waited_for), num_returns=1, timeout=SECONDS_BETWEEN_QUESTIONS)
            for ref in ready:
                self._take(waited_for[ref], ref)
        return Outcome(tuple(self._errors), 128 + signals[0] if signals else 0, tuple(self._refused))

    def dismiss(self) -> None:
        """End every worker, whatever it is at; it leaves nothing behind."""
        with suppress(Exception):
            leaving = [worker.actor.leave.remote() for worker in self._workers if worker.placed]
            self._ray.wait(leaving, num_returns=len(leaving), timeout=SECONDS_TO_LEAVE)
        for worker in self._workers:
            with suppress(Exception):
                self._ray.kill(worker.actor)

    def _hire(self, seat: Seat, looking: Looking) -> _Hired:
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        made = self._ray.remote(Worker).options(
            num_cpus=seat.cpus,
            num_gpus=seat.gpus,
            # a second thread answers while the first one looks
            max_concurrency=2,
            max_restarts=-1,
            max_task_retries=RETRIES,
            # started again on another machine where its own is gone
            scheduling_strategy=strategy(seat.node, soft=True),
        )
        return _Hired(made.remote(looking, here=os.getcwd(), threads=seat.cpus, name=secrets.token_hex(8)), seat)

    def _hand_out(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if not worker.placed and worker.placing is None and now - worker.asked >= SECONDS_TO_COME_BACK:
                worker.asked = now
                worker.placing = worker.actor.place.remote()
            if worker.run is not None and not worker.lent and now - worker.heard > self._silence:
                log.info("the worker on %s does not answer; another one gets what it was at", worker.seat.host)
                worker.lent = True
                self._waiting.append(worker.run)
            if worker.is_free and (run := self._next()) is not None:
                worker.run, worker.lent, worker.heard = run, False, now
                worker.looking = worker.actor.look.remote(run)
            if worker.looking is not None and worker.asking is None and now - worker.asked > SECONDS_BETWEEN_QUESTIONS:
                worker.asked = now
                worker.asking = worker.actor.frames.options(max_task_retries=0).remote()

    def _next(self) -> Run | None:
        while self._waiting:
            if _key(run := self._waiting.popleft()) in self._open:
                return run
        return None

    def _take(self, worker: _Hired, ref: Any) -> None:
        """What a worker has answered, or what Ray says of it."""
        failure: BaseException | None = None
        answer: Any = None
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            failure = error
        else:
            worker.heard = time.monotonic()
        if ref == worker.placing:
            worker.placing, worker.placed = None, failure is None
            if failure is not None and not self._may_come_back(failure):
                self._refuse(worker, in_words(failure))
        elif ref == worker.asking:
            worker.asking = None
            if failure is None and worker.run is not None:
                self._tell(worker.run, answer)
        elif ref == worker.looking:
            run, worker.run, worker.looking = worker.run, None, None
            assert run is not None
            if failure is None:
                self._keep(worker, run, answer)
            elif isinstance(failure, self._ray.exceptions.RayActorError):
                worker.placed = False
                self._lose(worker, run, "died")
            else:
                self._give_up(run, ModelError(in_words(failure)))

    def _may_come_back(self, failure: BaseException) -> bool:
        """Whether a worker is only out of reach for now: its process or its machine has ended, Ray starts it again."""
        return isinstance(failure, self._ray.exceptions.ActorUnavailableError)

    def _lose(self, worker: _Hired, run: Run, why: str) -> None:
        """A run has come back undone: somebody else gets it, unless it may be what the worker died of."""
        if _key(run) not in self._open:
            return
        log.info("the worker on %s did not finish a part of %s: it %s", worker.seat.host, run.video, why)
        self._losses[_key(run)] += 1
        if self._losses[_key(run)] < LOSSES:
            self._waiting.appendleft(run)
        else:
            part = f"chunks {run.first} to {run.last - 1}"
            error = ModelError(f"no worker could look at its {part}: the last one, on {worker.seat.host}, {why}")
            self._give_up(run, error)

    def _keep(self, worker: _Hired, run: Run, looked: Looked) -> None:
        if _key(run) not in self._open:
            return  # somebody else was faster
        for each, data in looked.chunks:
            recordings.keep(self._looking.store[run.video], each, data)
            self._ended(each)
        if looked.missed:
            self._lose(worker, run, f"said: {looked.missed}")
        elif looked.unfit and self._is_as_begun(run):
            self._waiting.appendleft(run)
            self._refuse(worker, looked.unfit)
        elif looked.unfit or looked.errors:
            self._give_up(run, *(looked.errors or (InputError(looked.unfit),)))
        else:
            self._tell(run, sum(each.num_frames for each, _ in looked.chunks))
            del self._open[_key(run)]

    def _give_up(self, run: Run, *errors: BaseException) -> None:
        """A run failed; not, while another worker is at it."""
        if _key(run) not in self._open or any(worker.run and _key(worker.run) == _key(run) for worker in self._workers):
            return
        del self._open[_key(run)]
        self._errors += [(run, error) for error in errors]

    def _refuse(self, worker: _Hired, why: str) -> None:
        self._workers.remove(worker)
        text = f"the worker on {worker.seat.host} was left out: {why}"
        log.warning("%s", text)
        self._refused.append(text)
        with suppress(Exception):
            self._ray.kill(worker.actor)

    def _is_as_begun(self, run: Run) -> bool:
        """Whether the leader sees the video that the job began with, so that it is the worker that does not."""
        try:
            return bool(Identity.of(run.path).to_json() == self._looking.jobs[run.video]["identity"])
        except InputError:
            return False

    def _tell(self, run: Run, frames: int) -> None:
        """So many frames of a run are done; fewer than before where another worker has begun it anew."""
        before, self._frames[_key(run)] = self._frames[_key(run)], frames
        if frames != before:
            self._told(run.video, frames - before)

    def _is_silent(self) -> bool:
        return time.monotonic() - max(worker.heard for worker in self._workers) > self._patience

    def _why_nobody(self) -> str:
        if not self._workers:
            return "no worker is left: " + "; ".join(dict.fromkeys(self._refused))
        if not any(worker.placed for worker in self._workers):
            free = self._ray.available_resources()
            wanted = min(worker.seat.cpus for worker in self._workers)
            return (
                f"no machine of the cluster has had room for a worker in {self._patience:g} s: it takes {wanted} CPUs "
                f"of one machine, and {free.get('CPU', 0):g} of all are free; end what holds them, or wait for it"
            )
        return f"no worker of the cluster has answered for {self._patience:g} s"


def _key(run: Run) -> tuple[str, int, int]:
    return run.video, run.first, run.last


def in_words(error: BaseException) -> str:
    """What Ray's exception is about, in one line: the cause in the worker where there is one."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return said(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines and "Traceback" in str(error) else (lines or [type(error).__name__])[0]
