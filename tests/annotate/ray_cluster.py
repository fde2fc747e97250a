"""A Ray cluster for tests: real heads and nodes of this machine, which end with the test, whatever happens to it.

Its token is its own, so that nobody else can use what listens here, and nothing is written into the home folder.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS_TO_START = 180.0

ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ADDRESS": "",
    "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", "")))),
}
"""Of the nodes, and of whoever connects to them."""


class RayCluster:
    """Nodes of this machine, each with CPUs of its own by Ray's reckoning; the first is the head.

    address: HOST:PORT · folder: of temporary files
    """

    def __init__(self, *cpus: int) -> None:
        self._cpus = cpus
        self._nodes: list[subprocess.Popen[bytes]] = []
        # a socket's path is short, so pytest's own folder will not do
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self.address = f"127.0.0.1:{free_port()}"

    def __enter__(self) -> Self:
        try:
            for number, cpus in enumerate(self._cpus):
                self.add(cpus, head=number == 0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for node in reversed(self._nodes):
            end(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, cpus: int, *, head: bool = False) -> subprocess.Popen[bytes]:
        """One node more, once it has joined."""
        where = ["--head", f"--port={self.address.rpartition(':')[2]}", "--include-dashboard=false"]
        options = [
            *(where if head else [f"--address={self.address}"]),
            *([f"--ray-client-server-port={free_port()}"] if head else []),
            "--node-ip-address=127.0.0.1",
            f"--num-cpus={cpus}",
            "--num-gpus=0",
            "--object-store-memory=100000000",
            "--include-log-monitor=false",
            "--disable-usage-stats",
            *(["--no-monitor"] if head else []),
            *([f"--temp-dir={self.folder}"] if head else []),
            "--block",
        ]
        log = self.folder / f"node-{len(self._nodes)}.log"
        with log.open("wb") as file:
            node = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *options],
                env={**os.environ, **ENVIRONMENT, "TMPDIR": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._nodes.append(node)
        waited = time.monotonic()
        while b"Ray runtime started" not in log.read_bytes():
            if node.poll() is not None or time.monotonic() - waited > SECONDS_TO_START:
                raise RuntimeError(f"a node of Ray did not start: {log.read_text(errors='replace')}")
            time.sleep(0.1)
        return node


def end(node: subprocess.Popen[bytes]) -> None:
    """End a node: what `ray start --block` has started ends with it."""
    if node.poll() is None:
        node.terminate()
        with suppress(subprocess.TimeoutExpired):
            node.wait(timeout=10)
    with suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def cluster(*cpus: int) -> Iterator[RayCluster]:
    """A cluster of nodes with so many CPUs each."""
    pytest.importorskip("ray")
    with RayCluster(*cpus) as made:
        yield made


def alive(pid: int) -> bool:
    with suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


def below(pid: int) -> dict[int, str]:
    """The processes that a process has started, at any remove, with their names."""
    found: dict[int, Any] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = path.read_text().partition(" (")[2].rpartition(") ")
            found[int(path.parent.name)] = (int(rest.split()[1]), name)
    children, new = {}, {pid}
    while new:
        new = {each for each, (parent, _) in found.items() if parent in new} - children.keys()
        children.update({each: found[each][1] for each in new})
    return children
