"""Looking: runs of chunks go through one engine and are recorded, in this process or in several.

A process of its own has an engine of its own. It gets one run after the other and tells what it has finished; only the
process that leads writes the index. It ends with the one that leads, however that ends.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from streamseg import plugins
from streamseg.annotate.chunks import Picked, Run
from streamseg.annotate.recordings import Ended, Job, Recorder
from streamseg.annotate.selection import Selection
from streamseg.buffer import LONGEST_WAIT
from streamseg.config import Component
from streamseg.engines._tiled import Tiled, Tiles
from streamseg.flow import signals
from streamseg.flow.pipeline import Pipeline
from streamseg.flow.report import said
from streamseg.flow.stream import Stream
from streamseg.types import Engine, ModelError, StreamsegError

FILES_AT_A_TIME = 2
"""Videos that one engine looks at in turn, so that it need not wait while one is opened."""

SECONDS_TO_END = 5.0
"""For a process that is told to end."""

PACKAGES = {"openvino": ("openvino",), "keras": ("keras", "tensorflow"), "onnx": ("openvino",)}
"""Packages that decide what an engine finds, beside those that read the pictures."""

_PR_SET_PDEATHSIG = 1

Told = Callable[[str, int], None]
"""Hears the name of a video and how many frames of it were looked at since it heard of it last."""


@dataclass(frozen=True)
class Looking:
    """How runs are looked at.

    store: the folder of each video's chunks · jobs: what each chunk says of its video · addresses: of videos in buckets
    """

    engine: Component
    tiles: str | None
    selection: Selection
    pins: Mapping[str, Any]
    store: Mapping[str, Path]
    jobs: Mapping[str, Job]
    addresses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How looking ended.

    errors: of each run that was not done · exit_code: 130 or 143 where it was stopped · notes: for its user
    """

    errors: tuple[tuple[Run, BaseException], ...] = ()
    exit_code: int = 0
    notes: tuple[str, ...] = ()


def build(component: Component, *, tiles: str | None, threads: int | None = None) -> Engine:
    """The engine, which looks at tiles too if there are any; `threads` for one that takes them, None for its own."""
    name, options = component.name, dict(component.options)
    if name == "auto":
        chosen: Any = plugins.find("engines", "auto")
        name = chosen.chosen(**options).__name__.lower()
    if threads is not None and "threads" in plugins.option_names("engines", name):
        options.setdefault("threads", threads)
    engine: Engine = plugins.build("engines", name, options)
    return engine if tiles is None else Tiled(engine, Tiles.parse(tiles))


def pins_of(whole: Engine, component: Component, selection: Selection, *, tiles: str | None) -> dict[str, Any]:
    """All that decides what is found, and the model's own words for it."""
    engine = whole.engine if isinstance(whole, Tiled) else whole
    folder: Any = getattr(engine, "folder", None) or getattr(engine, "file", None)
    name = type(engine).__module__.rpartition(".")[2]
    options = {key: value for key, value in component.options.items() if key not in ("threads", "batch_size")}
    return {
        "frames": str(selection),
        "tiles": tiles or "none",
        "engine": name,
        "options": {key: str(value) for key, value in sorted(options.items())},
        "model": "" if folder is None else str(folder.name),
        "model hash": "" if folder is None else _hash_of(folder),
        "precision": str(getattr(engine, "precision", "")),
        "versions": {package: _version(package) for package in ("streamseg", "av", "numpy", *PACKAGES.get(name, ()))},
        "classes": list(engine.class_names),
        "min_score": engine.min_score,
    }


def unmet(wanted: Mapping[str, Any], got: Mapping[str, Any]) -> str:
    """The first thing in which two pins differ, in words; "" where they are equal."""
    for key in wanted:
        if wanted[key] == got.get(key):
            continue
        if isinstance(wanted[key], Mapping) and isinstance(got.get(key), Mapping):
            keys = [*wanted[key], *got[key]]
            inner = next(each for each in keys if wanted[key].get(each) != got[key].get(each))
            return f"{inner}: expected {wanted[key].get(inner, 'none')}, got {got[key].get(inner, 'none')}"
        return f"{key}: expected {wanted[key]}, got {got.get(key)}"
    return ""


def check_pins(engine: Engine, looking: Looking, *, who: str) -> None:
    """ModelError where this engine does not find what the job's others find; who: it is, for the message"""
    got = pins_of(engine, looking.engine, looking.selection, tiles=looking.tiles)
    if difference := unmet(looking.pins, got):
        raise ModelError(f"{who} cannot do what the job began with: {difference}")


def look(
    engine: Engine, runs: Sequence[Run], looking: Looking, *, ended: Callable[[Ended], None], told: Told
) -> Outcome:
    """Look at these runs and record them, in this process."""
    if not runs:
        return Outcome()
    streams, names = [], {}
    for run in runs:
        name = run.video if run.video not in names else f"{run.video}, from chunk {run.first}"
        names[name] = run
        source = Picked(run, looking.selection)
        sink = Recorder(looking.store[run.video], run, source, job=looking.jobs[run.video], ended=ended)
        streams.append(Stream(name, source, sinks=[sink]))
    seen: dict[str, int] = {}

    def progress(name: str, done: int, expected: int | None) -> None:
        told(names[name].video, done - seen.get(name, 0))
        seen[name] = done

    pipeline = Pipeline(engine, streams, parallel=FILES_AT_A_TIME, min_score=0.0, progress=progress)
    summary = pipeline.run()
    failed = [(names[name], stream.exception) for name, stream in summary.streams.items() if stream.exception]
    unstarted = [
        (names[name], StreamsegError(stream.error or "not started"))
        for name, stream in summary.streams.items()
        if stream.error and not stream.exception
    ]
    return Outcome((*failed, *unstarted), summary.exit_code if summary.exit_code >= 128 else 0)


def look_in_processes(
    count: int, runs: Sequence[Run], looking: Looking, *, ended: Callable[[Ended], None], told: Told
) -> Outcome:
    """The same in so many processes, which share the cores.

    In the main thread, Ctrl-C, SIGTERM and SIGHUP end it: what is finished is told, the exit code says which it was.
    A second one waits for nobody.
    """
    waiting = list(reversed(shared_out(runs, count)))
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    context = multiprocessing.get_context("spawn")
    workers: dict[Any, tuple[Any, Run | None]] = {}
    errors: list[tuple[Run, BaseException]] = []
    unfit: list[BaseException] = []
    code = 0
    with ExitStack() as leaving:
        heard = leaving.enter_context(_signals())
        leaving.callback(lambda: _end([process for process, _ in workers.values()]))
        for _ in range(min(count, len(waiting))):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, looking, threads), daemon=True)
            with signals.unheard_by_children():
                process.start()
            there.close()
            workers[here] = (process, None)
        while workers:
            for connection in wait([heard, *workers], LONGEST_WAIT):
                if connection is heard:
                    number = heard.recv_bytes()[0]
                    for process, _ in workers.values():
                        process.kill() if code else process.terminate()
                    code = code or 128 + number
                    continue
                assert isinstance(connection, Connection)
                process, run = workers[connection]
                try:
                    what, *news = connection.recv()
                except (EOFError, OSError):
                    process.join()
                    del workers[connection]
                    if run is not None and not code:
                        errors.append(
                            (run, ModelError(f"a process that looked ended with exit code {process.exitcode}"))
                        )
                    continue
                if what == "ended":
                    ended(news[0])
                elif what == "told":
                    told(*news)
                elif what == "unfit":
                    unfit += news
                elif what == "free":
                    failed, stopped = news
                    errors += failed
                    code = code or stopped
                    run = waiting.pop() if waiting and not code else None
                    workers[connection] = (process, run)
                    with suppress(OSError):
                        connection.send(run)
    why = unfit[0] if unfit else ModelError("no process was left to look at it")
    errors += [(run, why) for run in waiting if not code]
    left_out = () if waiting else tuple(f"a process was left out: {said(error)}" for error in unfit)
    return Outcome(tuple(errors), code, left_out)


@contextmanager
def _signals() -> Iterator[Connection]:
    """Where the signals that end a run can be read from now on, a byte each."""
    heard, told = multiprocessing.Pipe(duplex=False)
    with heard, told, signals.told_to(lambda number: told.send_bytes(bytes([number]))):
        yield heard


def _end(processes: Sequence[Any]) -> None:
    """End these processes; one that does not end by itself is killed."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(SECONDS_TO_END)
        process.kill()
        process.join()


def shared_out(runs: Sequence[Run], count: int, *, most: int | None = None) -> list[Run]:
    """The runs, the longest of them in pieces until there are enough for every process to be busy to the end.

    most: chunks of a piece, None for any number
    """
    pieces = list(runs) if most is None else [piece for run in runs for piece in run.pieces(most)]
    while len(pieces) < 3 * count:
        longest = max(pieces, key=lambda run: run.last - run.first, default=None)
        if longest is None or longest.last - longest.first < 2:
            break
        place = pieces.index(longest)
        pieces[place : place + 1] = longest.halves()
    return pieces


def _work(connection: Connection, looking: Looking, threads: int) -> None:
    """The whole work of a process."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    leader = multiprocessing.parent_process()
    if leader is None or os.getppid() != leader.pid:  # it ended before that was heard of
        return
    try:
        engine = build(looking.engine, tiles=looking.tiles, threads=threads)
        check_pins(engine, looking, who="a process")
    except Exception as error:
        connection.send(("unfit", portable(error)))
        return
    failed: list[tuple[Run, BaseException]] = []
    code = 0
    with suppress(EOFError, BrokenPipeError):  # the one that leads has gone
        while True:
            connection.send(("free", [(run, portable(error)) for run, error in failed], code))
            run = connection.recv()
            if run is None:
                return
            outcome = look(
                engine,
                [run],
                replace(looking),
                ended=lambda chunk: connection.send(("ended", chunk)),
                told=lambda video, frames: connection.send(("told", video, frames)),
            )
            failed, code = list(outcome.errors), outcome.exit_code


def portable(error: BaseException) -> BaseException:
    """The error as one that another process can read."""
    return error if type(error) in (ModelError,) or _travels(error) else StreamsegError(said(error))


def _travels(error: BaseException) -> bool:
    import pickle

    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _hash_of(folder: Any) -> str:
    """Of the weights and what the model is made of."""
    digest = hashlib.sha256(folder.config.model_dump_json().encode())
    with open(folder.weights, "rb") as weights:
        while block := weights.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
