"""A broker that is reached by TLS alone, with a certificate of its own making."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.broker import Broker
from tests.live.needs import program


def remember(broker: Broker, folder: Path) -> None:
    """The broker writes down who listens, so that not even a kill makes it forget them."""
    written = folder / "mosquitto.db"
    written.unlink(missing_ok=True)
    os.kill(broker.child.pid, signal.SIGUSR1)
    deadline = time.monotonic() + 30
    while not written.exists():
        assert time.monotonic() < deadline, "the broker does not write"
        time.sleep(0.005)


@contextmanager
def tls_broker(folder: Path) -> Iterator[Broker]:
    """For the name `localhost`; `ca.pem` in the folder is to be trusted."""
    command = [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.pem")]
    subprocess.run(command, check=True, capture_output=True)
    broker = Broker(folder)
    settings = folder / "mosquitto.conf"
    first, listener, rest = settings.read_text().split("\n", 2)
    tls = f"{listener}\ncertfile {folder}/ca.pem\nkeyfile {folder}/key.pem"
    settings.write_text(f"{first}\n{tls}\n{rest}")
    with broker:
        yield broker
