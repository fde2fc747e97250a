"""What several tests share: where the real data lie, when they lie there."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
from collections.abc import Generator, Iterator
from functools import partialmethod
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# three processes on two cores, each with threads for all of them that wait busily, take a twentieth longer
for _library in ("OPENBLAS", "OMP"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# examples are few and small: one that takes long says that the machine stood still
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# a suite started in the background of a shell inherits an ignored Ctrl-C, and would hand it on to what it tests
signal.signal(signal.SIGINT, signal.default_int_handler)

_STDERR = pytest.StashKey[int]()
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where tests of one marker are asked for, files without it are not imported: that takes longer than some tests."""
    marker = config.getoption("markexpr")
    if not marker.isidentifier() or collection_path.suffix != ".py":
        return None
    return True if f"mark.{marker}" not in collection_path.read_text() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that at the end no process is left alone with it."""
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)


def pytest_collection_finish() -> None:
    """The six thousand tests and what they import stay to the end: whoever collects garbage need not walk through."""
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STDERR] = os.dup(2)  # what is written to 2 itself is caught during a test


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_STDERR])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """pytest stops watching for a hang where a test fails, and what is then cleaned up may hang, too."""
    seconds = float(item.config.getini("faulthandler_timeout"))
    faulthandler.dump_traceback_later(seconds, exit=True, file=item.config.stash[_STDERR])
    return (yield)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; a test that needs it is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED_DATA


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings compute operation by operation: making the graph of a step takes longer than a few steps without."""
    import keras

    monkeypatch.setattr(keras.Model, "compile", partialmethod(keras.Model.compile, run_eagerly=True))


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command that a test calls sends the log to stderr; the next test finds it where it was."""
    log = logging.getLogger("streamseg")
    before = log.level, log.handlers, log.propagate
    yield
    log.setLevel(before[0])
    log.handlers, log.propagate = before[1:]
