"""A worker on a machine of a cluster: where it goes, what it does there, and what it sends back."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamseg import buckets
from streamseg.annotate import recordings, work
from streamseg.annotate.chunks import Run
from streamseg.annotate.manifest import Identity
from streamseg.annotate.recordings import Ended
from streamseg.annotate.work import Looking
from streamseg.flow.report import said
from streamseg.types import Engine, InputError, OutputError

CORES = 4
"""That a worker without a GPU has, where its machine has so many: more of them in one engine bring less and less."""

KEPT_SECONDS = 3600.0
"""For which a worker keeps a video of a bucket, should the disk be full: somebody else may be at it."""


@dataclass(frozen=True)
class Seat:
    """Where a worker goes: the machine by Ray's id and by its name, and what it takes of it."""

    node: str
    host: str
    cpus: int
    gpus: int = 0


@dataclass(frozen=True)
class Looked:
    """What came of a run: its chunks as they are to lie on disk, and what went wrong.

    unfit: why this worker cannot do it · missed: why it could not do it this time
    """

    chunks: tuple[tuple[Ended, bytes], ...] = ()
    errors: tuple[BaseException, ...] = ()
    unfit: str = ""
    missed: str = ""


def seats(nodes: Sequence[Mapping[str, Any]], *, on_gpu: bool, most: int | None = None) -> list[Seat]:
    """A seat for each GPU where the engine uses them, else for each few cores; those of different machines first.

    nodes: as `ray.nodes()` tells them
    """
    ranked: list[tuple[int, Seat]] = []
    for node in nodes:
        resources = node.get("Resources", {})
        cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        if not node.get("Alive") or cpus < 1:
            continue
        count = min(gpus, cpus) if on_gpu and gpus else max(1, cpus // CORES)
        each = cpus // count if not (on_gpu and gpus) else min(CORES, cpus // count)
        seat = Seat(node["NodeID"], node.get("NodeManagerHostname", ""), each, 1 if on_gpu and gpus else 0)
        ranked += [(number, seat) for number in range(count)]
    ranked.sort(key=lambda pair: pair[0])
    return [seat for _, seat in ranked[:most]]


class Worker:
    """Looks at runs, one after the other, as a Ray actor of which another thread asks how far it is.

    here: the folder in which the leader is, so that relative paths mean the same · threads: of the engine · name: that
    nobody else has; started again, a worker has the same one, and removes what it had not come to remove
    """

    def __init__(self, looking: Looking, *, here: str, threads: int, name: str) -> None:
        with suppress(OSError):  # with nothing but addresses and absolute paths there need not be such a folder
            os.chdir(here)
        self._looking, self._threads = looking, threads
        self._engine: Engine | None = None
        self._frames = 0
        self._folder = Path(tempfile.gettempdir()) / f"streamseg-{name}"
        self.leave()

    def leave(self) -> None:
        """Remove what of an unfinished run lies on this machine."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def place(self) -> str:
        """Where it is, as soon as it is there."""
        return platform.node()

    def frames(self) -> int:
        """Frames of the present run that were looked at."""
        return self._frames

    def look(self, run: Run) -> Looked:
        """All of a run, or why not; what it has not done, another worker may be able to."""
        self._frames = 0
        try:
            engine = self._ready()
        except Exception as error:
            return Looked(unfit=said(error))
        try:
            at_hand = self._at_hand(run)
        except Exception as error:
            return Looked(missed=said(error)) if run.video in self._looking.addresses else Looked(unfit=said(error))
        chunks: list[tuple[Ended, bytes]] = []
        looking = replace(self._looking, store={run.video: self._folder})
        try:
            outcome = work.look(
                engine,
                [at_hand],
                looking,
                ended=lambda each: chunks.append((each, recordings.file_of(self._folder, each.number).read_bytes())),
                told=self._count,
            )
        finally:
            self.leave()
        errors = [error for _, error in outcome.errors]
        unfit = next((said(error) for error in errors if isinstance(error, OutputError)), "")
        return Looked(tuple(chunks), tuple(map(work.portable, errors)), unfit)

    def _ready(self) -> Engine:
        """The engine; ModelError where it would not find what the job's other workers find."""
        if self._engine is None:
            looking = self._looking
            engine = work.build(looking.engine, tiles=looking.tiles, threads=self._threads)
            work.check_pins(engine, looking, who="it")
            self._engine = engine
        return self._engine

    def _at_hand(self, run: Run) -> Run:
        """The run with its video on this machine; InputError where that is not the one that the leader has."""
        address = self._looking.addresses.get(run.video)
        path = run.path if address is None else buckets.fetched(address, needed_since=time.time() - KEPT_SECONDS)
        if Identity.of(path).to_json() != self._looking.jobs[run.video]["identity"]:
            raise InputError(f"{address or path}: another file there than where the job was begun")
        return replace(run, path=path)

    def _count(self, video: str, frames: int) -> None:
        self._frames += frames
