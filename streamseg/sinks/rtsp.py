"""Sends the drawn pictures to a media server or a recorder, over RTSP or RTMP, as a camera would."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

import av

from streamseg.addresses import Address
from streamseg.sinks._codecs import Quality
from streamseg.sinks._live_video import LiveEncoding, LiveVideo
from streamseg.sinks._part_file import reason
from streamseg.sinks._push import Push
from streamseg.types import OutputError, Result, StreamInfo, UsageError


@dataclass(frozen=True)
class Protocol:
    """How FFmpeg speaks one of them.

    format: its name of the muxer · in_band: whether the codec's parameters stand before every keyframe, where who comes
    later finds them
    """

    format: str
    in_band: bool
    options: Mapping[str, str]


# over UDP most of a picture is lost, even to a server on the same machine
_RTSP: dict[str, Any] = {"format": "rtsp", "in_band": True, "options": {"rtsp_transport": "tcp"}}
_RTMP: dict[str, Any] = {
    "format": "flv", "in_band": False, "options": {"flvflags": "no_duration_filesize", "flush_packets": "1"},
}  # fmt: skip
PROTOCOLS = {
    "rtsp": Protocol(**_RTSP),
    "rtsps": Protocol(**_RTSP),
    "rtmp": Protocol(**_RTMP),
    "rtmps": Protocol(**_RTMP),
}


class Rtsp:
    """A stream to rtsp://, rtsps://, rtmp:// or rtmps://, as H.264 with a keyframe every second, without sound.

    address   where to: rtsp://USER:PASSWORD@HOST:PORT/PATH, rtmp://HOST/APP/KEY; `${VARIABLES}` are filled in
    codec     h264 or nvenc, over RTSP h265 too
    quality   the encoder's CRF (lower is better and larger), or "lossless"; None: as good as it looks
    preset    the encoder's own word for its speed; None: a fast one
    timeout   seconds for which the server may keep us waiting

    A file is sent as fast as it plays. A server that is absent, leaves or no longer answers is an OutputError, after
    which the sink may be entered again. `interrupt()`, from any thread, ends what waits for the server.
    """

    schemes = ("rtsp", "rtsps", "rtmp", "rtmps")
    metavar = "//HOST/PATH"
    argument = "address"
    remote = True

    def __init__(
        self,
        address: str,
        *,
        codec: str | None = None,
        quality: Quality = None,
        preset: str | int | None = None,
        timeout: float = 5.0,
    ) -> None:
        if not timeout > 0:
            raise UsageError(f"timeout: expected more than 0 seconds, got {timeout:g}")
        self.timeout = timeout
        self._address = Address.parse(address, schemes=self.schemes)
        self._protocol = PROTOCOLS[self._address.scheme]
        self._encoding = LiveEncoding(codec, quality=quality, preset=preset, container=self._protocol.format)
        self.notes: list[str] = []
        self._info: StreamInfo | None = None
        self._push: Push | None = None
        self._output: av.container.OutputContainer | None = None
        self._video: LiveVideo | None = None
        self._interrupted = threading.Event()

    @property
    def address(self) -> str:
        """Where it sends to, without user and password; nor the key of an RTMP stream, which is one."""
        text = str(self._address)
        if self._protocol.format != "flv":
            return text
        *public, key = text.rstrip("/").split("/")
        return "/".join([*public, "…"]) if key and len(public) > 3 else text

    def __enter__(self) -> Self:
        self._interrupted.clear()
        return self

    def start(self, info: StreamInfo) -> None:
        self._info = info

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        assert self._info is not None, "start(info) comes before the first write"
        at = result.frame.time
        first = self._video is None
        if first:
            self._began = time.monotonic() - at
            with self._errors("cannot be reached"):
                self._open(picture, self._info, at)
        if not self._info.live:
            self._interrupted.wait(self._began + at - time.monotonic())
        assert self._video is not None and self._output is not None and self._push is not None
        with self._errors("cannot be reached" if first else "the connection broke"):
            for packet in self._video.packets(picture, at):
                self._output.mux(packet)
            if first:
                self._push.wait_until_connected()

    def _open(self, picture: av.VideoFrame, info: StreamInfo, at: float) -> None:
        protocol = self._protocol
        self._push = Push(self._address.url, format=protocol.format, options=protocol.options, patience=self.timeout)
        self._output = av.open(self._push, "w", format="nut", container_options={"flush_packets": "1"})
        self._video = LiveVideo(
            self._output, picture, info, encoding=self._encoding, time=at, notes=self.notes, in_band=protocol.in_band
        )

    def interrupt(self) -> None:
        """End what waits for the server; from any thread."""
        self._interrupted.set()
        push = self._push
        if push is not None:
            push.interrupt()

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: object) -> None:
        output, video, push = self._output, self._video, self._push
        self._output = self._video = self._push = None
        if push is None:
            return
        if exc_type is not None:  # whatever it is, nothing here is to wait for the server
            push.interrupt()
        with suppress(av.FFmpegError, OSError):
            if output is not None and video is not None:
                _end(output, video)
        push.leave()

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """What FFmpeg says, as an OutputError without credentials."""
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            why = self._address.without_secrets(reason(error))
            raise OutputError(f"{self.address}: {what}: {why}") from None


def _end(output: av.container.OutputContainer, video: LiveVideo) -> None:
    """Send what is left and take leave."""
    try:
        for packet in video.rest():
            output.mux(packet)
    finally:
        output.close()
