"""Passes a stream on from its standard input to a server: the program of a process of its own, started by `_push`.

First comes a line of JSON: `url`, `format` and `options` of FFmpeg's muxer; then the stream as NUT. On its standard
output stands "connected" once the server has accepted the stream, and what went wrong if something does. It ends with
its input. Credentials come in by the input because everyone can read the arguments of a process.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av

AT_ONCE = {"probesize": "32", "analyzeduration": "0", "fpsprobesize": "0"}

ORPHANED_AFTER = 60
"""Seconds of waiting for the server after which nobody can be left who started this: whoever does, waits for less."""


def main() -> None:
    source = open(0, "rb", buffering=0)  # noqa: SIM115 (a buffer would wait until it is full)
    try:
        _pass_on(source, json.loads(_line(source)))
    except (av.FFmpegError, OSError) as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        print(json.dumps({"error": text[0].lower() + text[1:]}), flush=True)
    os._exit(0)  # at once: what FFmpeg would still send to a server that is gone never arrives


def _pass_on(source: Any, settings: dict[str, Any]) -> None:
    with av.open(source, format="nut", options=AT_ONCE) as given:
        video = given.streams.video[0]
        output = av.open(settings["url"], "w", format=settings["format"], container_options=settings["options"])
        target = output.add_stream_from_template(video)
        with _not_for_ever():
            output.start_encoding()
        print(json.dumps({"connected": True}), flush=True)
        for packet in given.demux(video):
            if packet.size:
                # NUT has no decoding times, and FFmpeg guesses them late; here no picture waits for another
                packet.stream, packet.dts = target, packet.pts
                with _not_for_ever():
                    output.mux(packet)
        with _not_for_ever():
            output.close()


@contextmanager
def _not_for_ever() -> Iterator[None]:
    """The kernel ends the process when this takes too long; Python itself may not be able to."""
    signal.alarm(ORPHANED_AFTER)
    yield
    signal.alarm(0)


def _line(source: Any) -> bytes:
    """What stands before the first line break, and nothing more of it read."""
    read = bytearray()
    while not read.endswith(b"\n"):
        read += source.read(1) or b"\n"
    return bytes(read)


if __name__ == "__main__":
    main()
