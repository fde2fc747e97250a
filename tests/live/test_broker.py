"""The tests' broker takes messages, keeps them over a power cut, and knows its users."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.live.broker import Broker
from tests.live.needs import program


def publish(broker: Broker, *more: str) -> int:
    command = [
        program("mosquitto_pub"),
        "-p",
        str(broker.port),
        "-t",
        "hall/counts",
        "-m",
        "42",
        "-r",
        "-q",
        "1",
        *more,
    ]
    return subprocess.run(command, capture_output=True, timeout=20).returncode


def retained(broker: Broker) -> str:
    command = [program("mosquitto_sub"), "-p", str(broker.port), "-t", "hall/#", "-C", "1", "-W", "10"]
    return subprocess.run(command, capture_output=True, timeout=20, text=True).stdout.strip()


def test_what_is_retained_is_there_after_a_restart(broker: Broker) -> None:
    assert publish(broker) == 0
    assert retained(broker) == "42"
    broker.child.stop()
    assert publish(broker) != 0
    broker.child.start()
    assert retained(broker) == "42"


def test_only_who_knows_the_password_may_publish(tmp_path: Path) -> None:
    with Broker(tmp_path, user="eve", password="secret") as broker:
        assert publish(broker, "-u", "eve", "-P", "secret") == 0
        assert publish(broker, "-u", "eve", "-P", "wrong") != 0
        assert publish(broker) != 0
