"""A service manager that asks to be told hears that the run is ready, that it lives, and nothing once it hangs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamseg.cli.systemd import Watchdog, notify


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What the manager listens at."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def heard(manager: socket.socket) -> str:
    return manager.recv(100).decode()


def test_it_hears_of_the_beginning_signs_of_life_and_the_end(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    with Watchdog(lambda: True):
        assert [heard(manager) for _ in range(4)] == ["READY=1"] + ["WATCHDOG=1"] * 3
    last = heard(manager)
    while last == "WATCHDOG=1":
        last = heard(manager)
    assert last == "STOPPING=1"


def test_a_run_that_hangs_gives_no_sign_of_life(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    with Watchdog(lambda: False):
        time.sleep(0.1)
    assert [heard(manager), heard(manager)] == ["READY=1", "STOPPING=1"]


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0streamseg-test-of-the-watchdog")
        monkeypatch.setenv("NOTIFY_SOCKET", "@streamseg-test-of-the-watchdog")
        notify("READY=1")
        assert heard(listening) == "READY=1"


def test_where_nobody_asked_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    with Watchdog(lambda: True) as watchdog:
        assert watchdog._threads.running == []


def test_an_interval_that_is_no_number_is_none(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "often")
    with Watchdog(lambda: True):
        assert heard(manager) == "READY=1"
    assert heard(manager) == "STOPPING=1"
