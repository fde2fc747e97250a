"""A real MQTT broker on a free port, which can be killed, frozen and started again, and remembers what it holds."""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path
from typing import Self

from tests.live.children import Child, free_port
from tests.live.needs import mosquitto, program

SETTINGS = """
listener {port} 127.0.0.1
persistence true
persistence_location {folder}/
autosave_interval 1
allow_anonymous {anonymous}
"""


class Broker:
    """mosquitto; with a user it lets in nobody else. `child` can be killed, frozen and started again."""

    def __init__(self, folder: Path, *, user: str = "", password: str = "") -> None:
        self.port = free_port()
        settings = SETTINGS.format(port=self.port, folder=folder, anonymous=str(not user).lower())
        if user:
            passwords = folder / "passwords"
            subprocess.run([program("mosquitto_passwd"), "-b", "-c", passwords, user, password], check=True)
            settings += f"password_file {passwords}\n"
        (folder / "mosquitto.conf").write_text(settings + _as_this_user())
        command = [mosquitto(), "-c", str(folder / "mosquitto.conf")]
        self.child = Child(command, port=self.port, log=folder / "mosquitto.log")

    def __enter__(self) -> Self:
        self.child.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.child.kill()


def _as_this_user() -> str:
    """mosquitto started by root would become `mosquitto`, who may not write in a folder of the tests."""
    return f"user {getpass.getuser()}\n"
