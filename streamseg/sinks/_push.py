"""A stream's way to a server that may be absent, slow or frozen: whatever it does, nobody waits for it for long.

It leads through a process of its own (`_pusher`). PyAV keeps Python's lock while it connects, so that a server which
does not answer would stop every camera, and FFmpeg waits for one that froze later for ever. A process can be killed.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

PROGRAM = Path(__file__).with_name("_pusher.py")


class Push:
    """A file for FFmpeg to write NUT into, that comes out at a server as something else.

    url, format, options: of the muxer there · patience: seconds for which the server may keep us waiting; a
    TimeoutError then, and a ConnectionError with the reason where it refuses or leaves
    """

    def __init__(self, url: str, *, format: str, options: Mapping[str, str], patience: float) -> None:
        self._patience = patience
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True, bufsize=0,
        )  # fmt: skip
        assert self._child.stdin is not None and self._child.stdout is not None
        self._in, self._out = self._child.stdin, self._child.stdout
        os.set_blocking(self._in.fileno(), False)
        self.write(json.dumps({"url": url, "format": format, "options": dict(options)}).encode() + b"\n")

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        deadline = time.monotonic() + self._patience
        while rest:
            if not _is_ready(self._in, select.POLLOUT, deadline - time.monotonic()):
                raise TimeoutError(f"no answer within {self._patience:g} s")
            try:
                rest = rest[self._in.write(rest) or 0 :]
            except BrokenPipeError:
                raise ConnectionError(self._told(1.0).get("error", "the connection was ended")) from None
        return len(data)

    def wait_until_connected(self) -> None:
        """Until the server has accepted what was written so far."""
        told = self._told(self._patience)
        if "connected" not in told:
            raise (
                ConnectionError(told["error"])
                if "error" in told
                else TimeoutError(f"no answer within {self._patience:g} s")
            )

    def _told(self, patience: float) -> dict[str, Any]:
        """What the process says next; nothing when it says nothing."""
        if not _is_ready(self._out, select.POLLIN, patience):
            return {}
        return dict(json.loads(self._out.readline() or "{}"))

    def interrupt(self) -> None:
        """End whatever waits for the server; from any thread."""
        self._child.kill()

    def leave(self) -> None:
        """Let the server have what is on its way, if it takes it, and end the process."""
        with suppress(OSError):
            self._in.close()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(self._patience)
        self._child.kill()
        self._child.wait()
        self._out.close()


def _is_ready(pipe: IO[bytes], event: int, patience: float) -> bool:
    """Whether the pipe can be read or written, or has ended, within so many seconds."""
    poll = select.poll()  # `select` knows 1024 descriptors only
    poll.register(pipe, event)
    return bool(poll.poll(max(0.0, patience) * 1000))
