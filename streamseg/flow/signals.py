"""The signals that end a run: told to somebody, so that none strikes in the middle of something."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, what a system says, and a terminal that was closed; one that is ignored, as under `nohup`, stays so."""


@contextmanager
def kept() -> Iterator[dict[signal.Signals, Any]]:
    """Whatever is done inside about the signals that end a run, afterwards they do what they did before: this."""
    before = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere Python does not let us, nor would they come
        before = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield before
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


@contextmanager
def told_to(tell: Callable[[int], object]) -> Iterator[None]:
    """The number of each signal that ends a run goes to `tell`; nothing else happens. An ignored one stays ignored."""
    with kept() as before:
        for number, handler in before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, lambda told, _: tell(told))
        yield


@contextmanager
def unheard_by_children() -> Iterator[None]:
    """Processes that are started inside never hear what a terminal sends to all: who leads them tells them to end.

    One that still imports would else show where it was.
    """
    resource_tracker.ensure_running()  # started by the first process, it would let them hear again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
