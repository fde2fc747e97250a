"""Tells the service manager that a run is ready and alive, where it asks (`Type=notify`, `WatchdogSec=`)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from streamseg.buffer import Failure, Threads

MICROSECONDS = 1e6


def notify(text: str) -> None:
    """Send `READY=1`, `WATCHDOG=1` or `STOPPING=1` to the service manager; nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    place = "\0" + address[1:] if address[0] == "@" else address  # the abstract namespace
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), place)


class Watchdog:
    """While it is entered, a sign of life twice in each interval of the manager's, as long as `alive()` is true.

    Without an interval (`WATCHDOG_USEC`) it does nothing.
    """

    def __init__(self, alive: Callable[[], bool]) -> None:
        self._alive = alive
        self._over = threading.Event()
        self._threads = Threads()

    def __enter__(self) -> Self:
        notify("READY=1")
        told = os.environ.get("WATCHDOG_USEC", "")
        if interval := (int(told) if told.isdecimal() else 0) / MICROSECONDS:
            self._threads.start("watchdog", lambda: self._watch(interval / 2), at_end=_nothing)
        return self

    def __exit__(self, *exc: object) -> None:
        notify("STOPPING=1")
        self._over.set()
        self._threads.wait()

    def _watch(self, seconds: float) -> None:
        while not self._over.is_set():
            if self._alive():
                notify("WATCHDOG=1")
            self._over.wait(seconds)


def _nothing(failure: Failure | None) -> None:
    """The manager notices by itself when the signs of life stop."""
