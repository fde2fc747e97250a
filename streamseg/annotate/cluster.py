"""Looking on the machines of a Ray cluster: an actor holds the engine, gets runs of chunks, sends back what it found.

    leader   a run: which video, from where to where ──►  worker   decodes, looks, records in a folder of its own
             writes the chunks, knows what is done   ◄──           the chunks' bytes

No picture is sent, and nobody but the leader writes into the job's folder or its index. A worker must see the videos:
in a folder that all machines share, or in a bucket. One that dies is started again by Ray and has its run again; of one
that does not answer somebody else has it, which does no harm, because the same run gives the same bytes.

There are actors and no tasks: a task waits for ever while actors hold every CPU.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

from streamseg.annotate import work
from streamseg.annotate.chunks import Run
from streamseg.annotate.leader import Lead, in_words
from streamseg.annotate.recordings import Ended
from streamseg.annotate.request import cluster_of
from streamseg.annotate.work import Looking, Outcome, Told
from streamseg.annotate.worker import seats
from streamseg.flow import signals
from streamseg.types import UsageError

log = logging.getLogger(__name__)

CHUNKS_AT_A_TIME = 3
"""That a worker gets: what its death costs at most, and what is in memory on its way."""

SILENCE = 20.0
"""Seconds without an answer after which somebody else has a worker's run, too."""

PATIENCE = 600.0
"""Seconds without an answer of any worker after which the job ends."""

SECONDS_TO_CONNECT = 10.0


def check(address: str, *, shard: tuple[int, int] | None) -> None:
    """UsageError where `--cluster` is said in a wrong way, or Ray is not installed."""
    if shard is not None:
        raise UsageError("--cluster and --shard exclude each other: a cluster shares the work out by itself")
    try:
        cluster_of(address)
    except ValueError as error:
        raise UsageError(f"--cluster: {error}") from error
    try:
        from ray import init  # noqa: F401 (a folder called ray can be imported, too)
    except ImportError as error:
        raise UsageError('--cluster: ray is not installed; pip install "streamseg[ray]" brings it') from error


def look_on_cluster(
    address: str,
    runs: Sequence[Run],
    looking: Looking,
    *,
    most: int | None = None,
    ended: Callable[[Ended], None],
    told: Told,
    silence: float = SILENCE,
    patience: float = PATIENCE,
) -> Outcome:
    """Look at these runs on the machines of the cluster and record them here.

    address: `auto` or HOST:PORT · most: workers, None for as many as there is room for · silence, patience: seconds
    without a sign of life of a worker and of all. UsageError where there is no such cluster, or none with a CPU.
    """
    if not runs:
        return Outcome()
    came: list[int] = []  # told, not struck by, in the middle of a chunk's writing
    with _connected(address) as ray, signals.told_to(came.append):
        places = seats(ray.nodes(), on_gpu=_runs_on_gpu(looking), most=most)
        if not places:
            raise UsageError(f"--cluster {address}: no machine of it has a CPU for a worker")
        pieces = work.shared_out(runs, len(places), most=CHUNKS_AT_A_TIME)
        lead = Lead(ray, looking, pieces, places, ended=ended, told=told, silence=silence, patience=patience)
        try:
            return lead.look(came)
        finally:
            lead.dismiss()


def _runs_on_gpu(looking: Looking) -> bool:
    """Whether the engine uses a GPU where there is one; OpenVINO looks with the CPU."""
    return looking.pins.get("engine") == "keras"


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected to the cluster; a connection that is there already is used and stays."""
    import ray

    if ray.is_initialized():
        yield ray
        return
    _check_answers(address)
    output = _WithoutRay(sys.stdout)
    with redirect_stdout(output):
        with signals.kept():  # Ray takes SIGTERM
            _connect(ray, address)
        try:
            yield ray
        finally:
            output.leaving = True
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
    except Exception as error:
        with suppress(Exception):
            ray.shutdown()
        none = address == "auto" and isinstance(error, ConnectionError)
        why = "no Ray runs here; `ray start --head` starts one" if none else in_words(error)
        raise UsageError(f"--cluster {address}: {why}") from error


class _WithoutRay:
    """An output to which Ray's threads print nothing: what they say of workers that ended goes to the log.

    leaving: what anybody prints, because then Ray prints what it has held back, in whatever thread
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.leaving = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if self.leaving or threading.current_thread().name.startswith("ray_"):
            if text.strip():
                log.debug("%s", text.strip())
            return len(text)
        written: int = self._stream.write(text)
        return written


def _check_answers(address: str) -> None:
    """UsageError where nobody listens: Ray itself would wait for a minute and end the process."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_CONNECT):
            pass
    except (OSError, OverflowError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"--cluster {address}: no Ray answers there ({why}); `ray start --head` starts one") from error
