"""A server in a process of its own, which a test can kill, freeze and start again."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self


class Child:
    """A process that is there once `port` takes connections; leaving it kills that process, and no other."""

    def __init__(self, command: Sequence[str], *, port: int, log: Path) -> None:
        self.command, self.port, self.log = list(command), port, log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process, "it is not running"
        return self._process.pid

    def start(self, *, patience: float = 30) -> None:
        """Starts it, again if it was killed, on the same port."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + patience
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.command[0]} does not answer: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Ends it as a power cut does."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Asks it to end, and waits until it has."""
        if self._process:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def freeze(self) -> None:
        """It does nothing more; the system keeps its connections, and lets new ones wait."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
