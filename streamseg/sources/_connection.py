"""One connection to something live through PyAV: its pictures as they come, and why it ended, in words."""

from __future__ import annotations

import math
import socket
import ssl
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av

from streamseg.sources._arrival import LONGEST_STEP
from streamseg.sources._decoding import stated_rate
from streamseg.sources._live import Arrival, Event, Finite, Trouble

# Formats whose timestamps FFmpeg makes up, 25 a second.
_WITHOUT_CLOCK = ("mpjpeg", "mjpeg")
# Formats of which FFmpeg calls packets incomplete that are whole: those beside a seam.
_WITH_SEAMS = ("hls", "mpegts")
# Of the usual distance of two pictures, what is a gap where one was lost. FFmpeg marks only pictures of which a part is
# missing, and draws those after a missing one from a wrong one without a word.
_GAP = 1.5
# Seconds until a device is asked for a picture again: a fifth of a picture's time.
_NAP = 0.005
# Seconds that a paced picture may come too late before its delay becomes the usual one.
_LATE = 0.5

CAUSES: tuple[tuple[type[Exception], Event, str], ...] = (
    (av.HTTPUnauthorizedError, "refusal", "user or password is wrong (401)"),
    (av.HTTPForbiddenError, "refusal", "this user may not see it (403)"),
    (av.HTTPNotFoundError, "refusal", "there is nothing at this path (404)"),
    (av.HTTPTooManyRequestsError, "refusal", "it was asked too often (429)"),
    (av.HTTPClientError, "loss", "the request was refused (4xx)"),
    (av.HTTPServerError, "loss", "the other end has an error of its own (5xx)"),
    (ConnectionRefusedError, "loss", "connection refused: nothing listens there"),
    (ConnectionError, "loss", "the connection was cut"),
    (av.ExitError, "loss", "no answer within {timeout:g} s"),
    (TimeoutError, "loss", "no answer within {timeout:g} s"),
    (av.InvalidDataError, "loss", "what comes from there is no video"),
    (av.DecoderNotFoundError, "loss", "the FFmpeg inside PyAV has no decoder for this video"),
    (PermissionError, "loss", "no permission to read it"),
    (FileNotFoundError, "loss", "it is not there"),
)
"""Errors by cause, the special ones first: the event that each is, and words without an address."""


@dataclass(frozen=True)
class Way:
    """How something live is opened.

    url: with credentials · timeout: seconds for opening, and without data · threads: of the decoder · explain: of an
    error that `CAUSES` says too little of, better words, or None · may_end: a file may stand there · may_lose: packets
    may get lost on the way · on_open: called with each container
    """

    url: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 5.0
    threads: int = 1
    explain: Callable[[Exception], str | None] = lambda error: None
    may_end: bool = False
    may_lose: bool = False
    on_open: Callable[[Any], None] | None = None


def connect(way: Way, stopped: threading.Event) -> Generator[Arrival | None, None, None]:
    """The pictures of one connection, as `_live.Connect` promises."""
    with opened(way) as container, closing(_pictures(way, container, stopped)) as pictures:
        pace = _Pace() if container.format.name == "hls" else None
        for arrival in pictures:
            if pace is not None and arrival is not None:
                arrival = pace.kept(arrival, stopped)
            yield arrival


@contextmanager
def opened(way: Way) -> Iterator[Any]:
    """The container, which has a video; `Trouble` or `Finite` where that cannot be."""
    # HLS waits for a segment longer than a camera for a picture
    patience = way.timeout * 1.5 if way.url.partition("?")[0].endswith(".m3u8") else way.timeout
    began = time.monotonic()
    try:
        container: Any = av.open(
            way.url,
            format=way.format,
            options=dict(way.options),
            timeout=(patience, patience),
            metadata_errors="replace",
        )
    except av.InvalidDataError as error:
        # of an RTSP server that says nothing FFmpeg reports invalid data, once our patience is over
        late = time.monotonic() - began >= patience
        raise _trouble(TimeoutError() if late else error, way) from None
    except _ERRORS as error:
        raise _trouble(error, way) from None
    with container:
        if way.on_open:
            way.on_open(container)
        if way.may_end:
            _check_endless(container)
        if not container.streams.video:
            raise Trouble("loss", "there is no video in what comes from there")
        yield container


def _pictures(way: Way, container: Any, stopped: threading.Event) -> Generator[Arrival | None, None, None]:
    stream = container.streams.best("video") or container.streams.video[0]
    if stream.codec_context is None:
        raise Trouble("loss", "the FFmpeg inside PyAV has no decoder for this video")
    # never frames: each thread of those would hold back a picture
    stream.thread_type = "SLICE" if way.threads > 1 else "NONE"
    stream.thread_count = way.threads
    has_clock = container.format.name not in _WITHOUT_CLOCK
    damage = Damage(trusts_marks=container.format.name not in _WITH_SEAMS, may_lose=way.may_lose)
    for packet in packets(way, container, stream, stopped):
        at = time.monotonic()
        pictures = damage.decoded(packet) if packet is not None else []
        for picture in pictures:
            yield Arrival(
                picture,
                at,
                pts=picture.time if has_clock else None,
                damaged=damage.is_in(picture),
                rate=stated_rate(stream),
                pixel_aspect=Fraction(stream.sample_aspect_ratio or 1),
            )
        if not pictures:
            yield None


def packets(way: Way, container: Any, stream: Any, stopped: threading.Event) -> Iterator[Any]:
    """The packets of the video, and None while there is none, until the other end closes; `Trouble` for other ends."""
    waiting_since = time.monotonic()
    while not stopped.is_set():
        try:
            for packet in container.demux():  # of all streams, so that sound which goes on alone is no silence to us
                if time.monotonic() - waiting_since >= container.read_timeout:
                    # the read has timed out, and what FFmpeg's parser had held back came of it; so would the next one
                    raise TimeoutError
                if packet.size:
                    yield packet if packet.stream_index == stream.index else None
                waiting_since = time.monotonic()
            return
        except av.BlockingIOError:  # a device that has no picture yet
            if time.monotonic() - waiting_since >= way.timeout:
                raise _silence(way.timeout) from None
            yield None
            stopped.wait(_NAP)
        except (av.ExitError, TimeoutError):
            raise _silence(container.read_timeout) from None
        except _ERRORS as error:
            raise _trouble(error, way) from None


def _silence(seconds: float) -> Trouble:
    return Trouble("silence", f"nothing came for {seconds:g} s")


def _check_endless(container: Any) -> None:
    """Raise `Finite` for a file, of which the size is known, or a playlist that is complete."""
    seconds = (container.duration or 0) / av.time_base
    if container.format.name == "hls":
        if seconds:
            raise Finite(f"expected a live stream, got a complete playlist of {seconds:.0f} s")
    elif container.size > 0 or seconds:
        raise Finite("expected a live stream, got a file; download it, and give the file")


# Our own errors from another thread of PyAV, and what it makes of broken text, are ValueErrors.
_ERRORS = (av.FFmpegError, OSError, ValueError)


def _trouble(error: Exception, way: Way) -> Trouble:
    """The error by its cause; its own text, which holds the whole address, is not used."""
    explained = way.explain(error)
    for kind, event, words in CAUSES:
        if isinstance(error, kind):
            return Trouble(event, explained or words.format(timeout=way.timeout))
    return Trouble("loss", explained or (getattr(error, "strerror", None) or "it cannot be read").lower())


class _Pace:
    """Lets pictures go at their own distances where they come by the segment, several seconds at once."""

    def __init__(self) -> None:
        self._begin = self._pts = -math.inf

    def kept(self, arrival: Arrival, stopped: threading.Event) -> Arrival:
        """The picture at its time."""
        if arrival.pts is None:
            return arrival
        early = self._begin + arrival.pts - time.monotonic()
        if early < -_LATE or not 0 < arrival.pts - self._pts <= LONGEST_STEP:
            self._begin = time.monotonic() - arrival.pts
        elif early > 0:
            stopped.wait(early)
        self._pts = arrival.pts
        return replace(arrival, at=time.monotonic())


class Damage:
    """Knows which pictures are not what the camera saw: damaged themselves, or made from such a one since a keyframe.

    trusts_marks: whether packets are marked that are incomplete, and none else · may_lose: packets get lost on the way
    """

    def __init__(self, *, trusts_marks: bool, may_lose: bool) -> None:
        self._trusts_marks, self._may_lose = trusts_marks, may_lose
        self._spoilt = self._incomplete = False
        self._pts: float | None = None
        self._steps: deque[float] = deque(maxlen=9)

    def decoded(self, packet: Any) -> list[av.VideoFrame]:
        """The pictures of the packet."""
        self._incomplete = packet.is_corrupt and self._trusts_marks
        try:
            pictures: list[av.VideoFrame] = packet.decode()
        except av.FFmpegError:
            self._incomplete, pictures = True, []
        self._spoilt |= self._incomplete
        return pictures

    def is_in(self, picture: av.VideoFrame) -> bool:
        """Whether this picture, the next one that was decoded, is not to be trusted."""
        missing = self._is_missing_before(picture.time) and self._may_lose
        inherited = (self._spoilt or missing) and not picture.key_frame
        self._spoilt = inherited or self._incomplete or picture.is_corrupt
        return self._spoilt

    def _is_missing_before(self, pts: float | None) -> bool:
        """Whether the distance to the picture before is that of two; a camera that changes its rate looks so once."""
        last, self._pts = self._pts, pts
        if pts is None or last is None or not 0 < pts - last <= LONGEST_STEP:
            return False
        usual = statistics.median(self._steps) if self._steps else pts - last
        self._steps.append(pts - last)
        return pts - last > _GAP * usual


def why_unreachable(host: str, port: int, *, verify: ssl.SSLContext | None, timeout: float) -> str | None:
    """What FFmpeg's "Input/output error" at an address was: an unknown name, or a certificate; None for neither."""
    try:
        with socket.create_connection((host.strip("[]"), port), timeout=timeout) as plain:
            if verify is not None:
                verify.wrap_socket(plain, server_hostname=host.strip("[]")).close()
    except socket.gaierror:
        return f"no host is called {host}"
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not trusted: {error.verify_message}"
    except OSError:
        return None
    return None
