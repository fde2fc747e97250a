"""The command line as the tests call it: in this process, in a new one, or in a forked child that may be killed."""

from __future__ import annotations

import functools
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import av
import numpy as np
from typer.testing import CliRunner

from streamseg.cli import app
from tests.clips import plane_view
from tests.end_to_end.parts import MODULE

ROOT = Path(__file__).resolve().parents[2]
WALKER = ("--engine", f"{MODULE}:Walker")
NOBODY = 65534


def run(*arguments: str | Path, engine: tuple[str, ...] = WALKER, code: int | None = 0) -> Any:
    """`streamseg run …` in this process; `.stdout`, `.stderr` and `.exit_code` tell how it went."""
    ran = CliRunner().invoke(app, ["run", *map(str, arguments), *engine], catch_exceptions=False)
    assert code is None or ran.exit_code == code, ran.stdout + ran.stderr
    return ran


def process(*arguments: str | Path, folder: Path, **options: Any) -> subprocess.Popen[str]:
    """`python -m streamseg run …` in a process of its own, as a person starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "streamseg", "run", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code (negative: the signal that killed it) and what it said."""

    code: int | None
    stdout: str
    stderr: str


class Child:
    """`streamseg run …` in a process of its own, forked from one that has imported everything: it starts in no time.

    command: another one than `run` · uid: who it runs as · file_bytes: the largest file it may write
    """

    def __init__(
        self,
        *arguments: str | Path,
        folder: Path,
        command: str = "run",
        uid: int | None = None,
        file_bytes: int | None = None,
    ) -> None:
        self._said = (folder / "stdout", folder / "stderr")
        self.process = _forking().Process(
            target=_live, args=([command, *map(str, arguments)], folder, self._said, uid, file_bytes), daemon=True
        )
        self.process.start()

    def wait_until(self, true: Callable[[], bool], *, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert self.process.is_alive() and time.monotonic() < deadline, self._said[1].read_text()
            time.sleep(0.002)

    def end(self, *, seconds: float = 60) -> Ended:
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            raise AssertionError("the child hangs: " + self._said[1].read_text())
        stdout, stderr = (path.read_text() for path in self._said)
        for path in self._said:
            path.unlink()
        return Ended(self.process.exitcode, stdout, stderr)


@functools.cache
def _forking() -> Any:
    """What forks the children, with everything imported."""
    context = multiprocessing.get_context("forkserver")
    # all that a run imports late: nobody may not be allowed to read the libraries
    late = ("annotate.job", "job", "cli.progress", "engines.auto", "sinks.gif", "sinks.image_folder")
    context.set_forkserver_preload([MODULE, "pooch", "scipy.optimize", *(f"streamseg.{name}" for name in late)])
    here = Path.cwd()
    os.chdir(ROOT)  # where it finds them
    try:
        forkserver.ensure_running()
    finally:
        os.chdir(here)
    return context


def _live(arguments: list[str], folder: Path, said: tuple[Path, Path], uid: int | None, file_bytes: int | None) -> None:
    os.chdir(folder)
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), number)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    if uid is not None and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    from streamseg.cli import main

    sys.argv = ["streamseg", *arguments]
    main()


# What is in a file


def pictures(path: Path | str) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def num_pictures(path: Path | str) -> int:
    """How many pictures a player gets out of the file before it ends or breaks off; 0 if it cannot be opened."""
    number, last = 0, None
    try:
        with av.open(str(path)) as container:
            for picture in container.decode(video=0):
                assert picture.pts is not None and (last is None or picture.pts > last)
                number, last = number + 1, picture.pts
    except av.FFmpegError:
        pass
    return number


def planes(picture: av.VideoFrame) -> list[np.ndarray]:
    """Copies of the planes."""
    return [plane_view(picture, number).copy() for number in range(len(picture.planes))]


def packets(path: Path | str, kind: str) -> list[tuple[Fraction, bytes]]:
    """(time in seconds, bytes) of every packet of the first track of a kind."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size and p.pts is not None]


def times(path: Path | str) -> list[Fraction]:
    """When each picture is shown, in seconds; read from the packets, nothing is decoded."""
    return sorted(time for time, _ in packets(path, "video"))


def outputs(folder: Path) -> list[str]:
    """The names of the files in a folder, part files apart from all others not among them."""
    return sorted(path.name for path in folder.rglob("*") if ".part" not in path.suffixes)
