"""The same feeds from gst-rtsp-server, the one that most cameras' servers resemble, in a process of its own."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.live.children import Child, free_port
from tests.live.feeds import Feed
from tests.live.needs import gst_python

PROGRAM = Path(__file__).with_name("gst_program.py")


class GstServer:
    """Serves feeds by name, in a loop at their own rate.

    `child` can be killed, frozen and started again.
    """

    def __init__(self, mounts: Mapping[str, Feed], *, folder: Path, user: str = "", password: str = "") -> None:
        self.user, self.password = user, password
        described = {name: _written(feed, folder / f"{name}.units") for name, feed in mounts.items()}
        self.port = free_port()
        settings = {"port": self.port, "mounts": described, "user": user, "password": password}
        command = [gst_python(), str(PROGRAM), json.dumps(settings)]
        self.child = Child(command, port=self.port, log=folder / "gst_server.log")

    def __enter__(self) -> Self:
        self.child.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.child.kill()

    def url(self, name: str = "camera") -> str:
        login = f"{self.user}:{self.password}@" if self.user else ""
        return f"rtsp://{login}127.0.0.1:{self.port}/{name}"


def _written(feed: Feed, path: Path) -> dict[str, object]:
    """The feed in a file: its pictures as byte streams, each behind its length."""
    pictures = [feed.annex_b(index) for index in range(len(feed.units))]
    path.write_bytes(b"".join(struct.pack(">I", len(picture)) + picture for picture in pictures))
    return {"path": str(path), "codec": feed.codec, "rate": [feed.rate.numerator, feed.rate.denominator]}
