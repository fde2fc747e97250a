"""Looking on a Ray cluster finds what looking here finds, whichever machine dies of it or cannot do it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from streamseg.annotate import cluster, work
from streamseg.annotate.chunks import Chunk, Cut, Run
from streamseg.annotate.job import annotate
from streamseg.annotate.report import AnnotationSummary
from streamseg.annotate.request import AnnotateRequest
from streamseg.annotate.worker import Seat, Worker, seats
from streamseg.types import Frame, Instances, UsageError
from tests.annotate import ray_cluster
from tests.annotate.jobs import chunks, clip, labels, planned, request, run
from tests.annotate.ray_cluster import RayCluster
from tests.end_to_end.parts import Walker

SECONDS = 120.0
"""To wait for what takes seconds."""


# --- without a cluster


def node(name: str, *, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "NodeManagerHostname": f"host {name}", "Alive": alive, "Resources": resources}


def test_a_worker_has_a_few_cores_and_those_of_different_machines_come_first() -> None:
    nodes = [node("a", CPU=9.0), node("b", CPU=3.0), node("c"), node("d", alive=False, CPU=4.0)]
    every = [Seat("a", "host a", 4), Seat("b", "host b", 3), Seat("a", "host a", 4)]
    assert seats(nodes, on_gpu=False) == every
    assert seats(nodes, on_gpu=False, most=2) == every[:2]


def test_a_worker_has_a_gpu_where_the_engine_uses_it() -> None:
    nodes = [node("a", CPU=16.0, GPU=2.0), node("b", CPU=2.0), node("c", CPU=2.0, GPU=4.0)]
    on_gpu = [Seat("a", "host a", 4, 1), Seat("b", "host b", 2), Seat("c", "host c", 1, 1)]
    assert seats(nodes, on_gpu=True) == [*on_gpu, on_gpu[0], on_gpu[2]]
    assert [seat.gpus for seat in seats(nodes, on_gpu=False)] == [0] * 6


def test_workers_never_take_more_of_a_machine_than_it_has() -> None:
    for cpus in range(1, 20):
        for gpus in range(5):
            for on_gpu in (True, False):
                taken = seats([node("a", CPU=float(cpus), GPU=float(gpus))], on_gpu=on_gpu)
                assert 1 <= sum(seat.cpus for seat in taken) <= cpus
                assert sum(seat.gpus for seat in taken) <= gpus and all(seat.cpus for seat in taken)


def test_a_worker_gets_a_few_chunks_at_a_time() -> None:
    cut = Cut(tuple(Chunk(n, float(n), None) for n in range(10)), 10, 10, 1, True)  # type: ignore[arg-type]
    pieces = work.shared_out([Run("long", Path("a"), cut, 0, 10)], 1, most=3)
    assert [(run.first, run.last) for run in pieces] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert len(work.shared_out([Run("long", Path("a"), cut, 0, 10)], 3, most=3)) == 9


@pytest.mark.parametrize("address", ["", "here", "host:", "host:port", ":6379", "ray://host:10001", "a b:1"])
def test_an_address_of_another_form_is_refused(address: str, here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    with pytest.raises(UsageError, match="--cluster: expected auto or HOST:PORT, got"):
        run("a.mp4", cluster=address)


def test_a_missing_ray_is_named_with_the_extra_that_brings_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip(here / "a.mp4", num_frames=5)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError) as error:
        run("a.mp4", cluster="auto")
    assert str(error.value) == '--cluster: ray is not installed; pip install "streamseg[ray]" brings it'
    assert not Path("labels").exists()


def test_a_cluster_shares_out_by_itself(here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    with pytest.raises(UsageError, match="--cluster and --shard exclude each other"):
        run("a.mp4", cluster="auto", shard=(1, 2))


def test_a_worker_sends_what_would_have_been_recorded_here(here: Path) -> None:
    clip(here / "a.mp4")
    run("a.mp4")
    looking, (whole,) = planned(here, here / "a.mp4")
    worker = Worker(looking, here=str(here), threads=1, name="one")
    looked = worker.look(whole)
    assert [data for _, data in looked.chunks] == [path.read_bytes() for path in chunks("labels", "a")]
    assert (worker.frames(), looked.errors, looked.unfit) == (35, (), "")


def test_a_worker_that_sees_another_video_does_not_look_at_it(here: Path) -> None:
    clip(here / "a.mp4")
    run("a.mp4")
    looking, (whole,) = planned(here, here / "a.mp4")
    clip(here / "a.mp4", num_frames=20)
    looked = Worker(looking, here=str(here), threads=1, name="one").look(whole)
    assert looked.unfit == f"{here}/a.mp4: another file there than where the job was begun" and not looked.chunks
    (here / "a.mp4").unlink()
    looked = Worker(looking, here=str(here), threads=1, name="one").look(whole)
    assert looked.unfit == f"{here}/a.mp4: cannot be read: no such file or directory"


# --- on one


@pytest.fixture(scope="module")
def pair() -> Iterator[RayCluster]:
    """A head and another node, with a CPU each: two workers."""
    with ray_cluster.cluster(1, 1) as made:
        yield made


@pytest.fixture(scope="module")
def leading() -> Iterator[ProcessPoolExecutor]:
    """A process that leads jobs, one after the other, so that Ray is in none of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ray_cluster.ENVIRONMENT.items():
            patch.setenv(name, value)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(os.getpid).result()  # with this environment
            yield pool


Lead = Callable[..., "Future[AnnotationSummary]"]


@pytest.fixture
def lead(leading: ProcessPoolExecutor, pair: RayCluster, here: Path) -> Lead:
    """Begin an annotation of `a.mp4` and `b.mp4` on the cluster, into `there`."""
    for name, num_frames in (("a.mp4", 125), ("b.mp4", 12)):
        clip(here / name, num_frames=num_frames)

    def begin(**options: Any) -> Future[AnnotationSummary]:
        told: dict[str, Any] = {"output": here / "there", "cluster": pair.address, **options}
        return leading.submit(_lead, str(here), request(here / "a.mp4", here / "b.mp4", **told))

    return begin


def _lead(here: str, asked: AnnotateRequest) -> AnnotationSummary:
    os.environ["XDG_CACHE_HOME"] = f"{here}/cache"
    os.chdir(here)
    return annotate(asked)


class Telling(Walker):
    """Walks slowly, and leaves a file with the number of its process for every frame that it looks at."""

    def __init__(self, *, path: str, seconds: float = 0.02) -> None:
        super().__init__(seconds=seconds)
        self.path = Path(path)

    def predict(self, frames: Any) -> list[Instances]:
        found = super().predict(frames)
        self.path.mkdir(exist_ok=True)
        with (self.path / str(os.getpid())).open("a") as file:
            file.writelines(self._line(frame) for frame in frames)
        return found

    def _line(self, frame: Frame) -> str:
        return f"{frame.stream} {frame.index}\n"


class Odd(Walker):
    """An engine that looks with another precision in the second process that has it, the first being the leader."""

    def __init__(self, *, path: str) -> None:
        super().__init__(seconds=0.01)
        self.precision = "f32"
        for number in range(8):
            with suppress(FileExistsError):
                Path(f"{path}-{number}").touch(exist_ok=False)
                self.precision = "bf16" if number == 1 else "f32"
                break


def telling(path: Path, **options: Any) -> str:
    extra = "".join(f",{key}={value}" for key, value in options.items())
    return f"{__name__}:Telling:path={path}{extra}"


def looked(path: Path) -> dict[int, list[str]]:
    """Which frames each process has looked at."""
    return {int(file.name): file.read_text().splitlines() for file in path.glob("*")}


def wait_for(condition: Callable[[], Any]) -> Any:
    """What it says, as soon as it says something."""
    began = time.monotonic()
    while not (answer := condition()):
        assert time.monotonic() - began < SECONDS
        time.sleep(0.02)
    return answer


@pytest.mark.thorough
def test_a_cluster_finds_the_same_and_every_worker_has_a_share(lead: Lead, here: Path) -> None:
    summary = lead(engine=telling(here / "frames")).result()
    assert (summary.exit_code, summary.notes) == (0, ())
    assert {name: video.looked_at for name, video in summary.videos.items()} == {"a": 125, "b": 12}
    run("a.mp4", "b.mp4")
    assert labels("there") == labels("labels") and set(labels("labels")) == {"a.jsonl", "b.jsonl"}
    shares = looked(here / "frames")
    assert len(shares) == 2 and sorted(sum(shares.values(), [])) == sorted(
        [*(f"a {n}" for n in range(125)), *(f"b {n}" for n in range(12))]
    )


@pytest.mark.thorough
def test_a_worker_that_is_killed_in_the_middle_has_its_run_done_again(lead: Lead, here: Path, pair: RayCluster) -> None:
    leading = lead(engine=telling(here / "frames"))
    wait_for(lambda: chunks(here / "there", "a"))
    pid, before = wait_for(partial(busy, here / "frames"))
    os.kill(pid, signal.SIGKILL)
    summary = leading.result()
    assert summary.exit_code == 0, summary.error
    assert {name: video.looked_at for name, video in summary.videos.items()} == {"a": 125, "b": 12}
    run("a.mp4", "b.mp4")
    assert labels("there") == labels("labels")
    shares = looked(here / "frames")
    assert len(shares) == 3 and shares[pid][: len(before)] == before
    again = [each for other, frames in shares.items() if other != pid for each in frames]
    assert set(shares[pid]) & set(again)
    assert list(pair.folder.glob("streamseg-*")) == []


def busy(path: Path) -> tuple[int, list[str]] | None:
    """A process in the middle of a run: with a run of another one behind it, and some frames of the present one."""
    for pid, frames in looked(path).items():
        if len(frames) > 30 and 5 < len(frames) % 30 < 20:
            return pid, frames
    return None


@pytest.mark.thorough
def test_a_worker_that_cannot_meet_the_pin_is_left_out_by_name_and_the_other_does_its_part(
    lead: Lead, here: Path
) -> None:
    summary = lead(engine=f"{__name__}:Odd:path={here / 'odd'}").result()
    assert summary.exit_code == 0, summary.error
    (told,) = summary.notes
    assert told.startswith("the worker on ")
    assert told.endswith(" was left out: it cannot do what the job began with: precision: expected f32, got bf16")
    run("a.mp4", "b.mp4")
    assert labels("there") == labels("labels")


@pytest.mark.thorough
def test_where_no_worker_can_meet_the_pin_each_video_says_so(lead: Lead, here: Path) -> None:
    summary = lead(engine="tests.annotate.test_bad_input:Differing").result()
    assert summary.exit_code == 1 and len(summary.notes) == 2
    for video in summary.videos.values():
        assert str(video.error).startswith("no worker is left: the worker on ")
        assert "precision: expected " in str(video.error)


@pytest.mark.thorough
def test_a_machine_that_is_lost_has_its_runs_done_by_the_others(lead: Lead, here: Path, pair: RayCluster) -> None:
    third = pair.add(1)
    leading = lead(engine=telling(here / "frames", seconds=0.05))
    wait_for(lambda: [pid for pid in looked(here / "frames") if pid in ray_cluster.below(third.pid)])
    os.killpg(third.pid, signal.SIGKILL)
    summary = leading.result()
    assert summary.exit_code == 0, summary.error
    run("a.mp4", "b.mp4")
    assert labels("there") == labels("labels")


@pytest.mark.thorough
def test_where_others_hold_every_cpu_the_job_does_not_wait_for_ever(
    leading: ProcessPoolExecutor, pair: RayCluster, here: Path
) -> None:
    clip(here / "a.mp4")
    outcome = leading.submit(_lead_beside_others, pair.address, *planned(here, here / "a.mp4")).result()
    ((_, error),) = {str(error): (run, error) for run, error in outcome.errors}.values()
    assert str(error).startswith("no machine of the cluster has had room for a worker in 2 s: it takes 1 CPUs of one")


def _lead_beside_others(address: str, looking: work.Looking, runs: list[Run]) -> work.Outcome:
    import ray

    ray.init(address, log_to_driver=False, logging_level="ERROR")
    try:
        holding = [ray.remote(Walker).options(num_cpus=1).remote() for _ in range(2)]
        ray.get([each.input_size.remote(Picture()) for each in holding])
        quiet: dict[str, Any] = {"ended": print, "told": print}
        return cluster.look_on_cluster(address, runs, looking, patience=2.0, **quiet)
    finally:
        ray.shutdown()


class Picture:
    """As large as it need be."""

    width = height = 8


@pytest.mark.thorough
def test_a_cluster_that_is_not_there_is_refused_at_once(lead: Lead, here: Path) -> None:
    address = f"127.0.0.1:{ray_cluster.free_port()}"
    with pytest.raises(UsageError, match=f"--cluster {address}: no Ray answers there"):
        lead(cluster=address).result()
