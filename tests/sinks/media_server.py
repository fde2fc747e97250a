"""A media server that takes a pushed stream and says what it sees of it; it can be killed, frozen and started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

TAKE = """
import json, sys
import av
url, options = sys.argv[1], json.loads(sys.argv[2])
print(json.dumps({"listening": True}), flush=True)
with av.open(url, options=options) as container:
    stream = container.streams.video[0]
    stream.thread_type = "SLICE"
    for packet in container.demux(stream):
        for picture in packet.decode():
            print(json.dumps({"width": picture.width, "height": picture.height, "key": picture.key_frame,
                              "format": picture.format.name, "codec": stream.codec_context.name,
                              "time": picture.time, "grey": picture.to_ndarray(format="gray").mean()}), flush=True)
"""
AT_ONCE = {"analyzeduration": "0", "probesize": "1000", "fpsprobesize": "0"}
OPTIONS = {
    "rtsp": {"rtsp_flags": "listen", "listen_timeout": "30", **AT_ONCE},
    "rtmp": {"listen": "1", **AT_ONCE},
}


class MediaServer:
    """FFmpeg's own server, which takes one stream at a time."""

    def __init__(self, scheme: str = "rtsp", *, login: str = "") -> None:
        self.port = free_port()
        self.scheme = scheme
        self.url = f"{scheme}://{login}127.0.0.1:{self.port}/live/stream"
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def begin(self) -> None:
        """Listen, in a process of its own."""
        url = f"{self.scheme}://127.0.0.1:{self.port}/live/stream"
        command = [sys.executable, "-c", TAKE, url, json.dumps(OPTIONS[self.scheme])]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.saw() == {"listening": True}
        while not _listens(self.port):
            pass

    def saw(self) -> dict[str, Any]:
        """The next picture; nothing at the end."""
        assert self._child is not None and self._child.stdout is not None
        return dict(json.loads(self._child.stdout.readline() or "{}"))

    def kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate(timeout=20)

    def freeze(self) -> None:
        assert self._child is not None
        os.kill(self._child.pid, signal.SIGSTOP)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    """Whether somebody listens there; asked without connecting, because the server takes the first who comes."""
    wanted = f"0100007F:{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(parts[1] == wanted and parts[3] == "0A" for parts in map(str.split, lines[1:]))
