"""A broker that is reached by TLS alone, with a certificate of its own making."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.broker import Broker
from tests.live.needs import program


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
