"""Encodes what the cameras see as JPEG, once for all who watch and only while somebody does."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import cv2
from av.video.reformatter import Interpolation, VideoReformatter

from streamseg.buffer import Bell, Failure, Threads
from streamseg.scaling import matrix_of
from streamseg.server.hub import Hub
from streamseg.types import Result

WIDTHS = (160, 320, 480, 640, 960, 1280, 1920)
"""Pictures are encoded in these widths alone, so that many viewers share few of them; never wider than the stream."""

QUALITY = 80
SECONDS_BETWEEN = 0.038  # of one stream in one width: at most about 25 a second
SECONDS_STILL_NEW = 0.1  # for which a picture is given to others who ask, though a newer frame is there
NICENESS = 10  # on a busy machine the pipeline comes first

log = logging.getLogger(__name__)

Key = tuple[str, int]
"""A stream's name and a width."""


@dataclass(frozen=True)
class Picture:
    """One encoded picture. number: of its kind, from 1 · captured_at: unix seconds."""

    number: int
    captured_at: float
    jpeg: bytes


Taker = Callable[[Picture], None]


@dataclass
class _Kind:
    """What is known of one stream in one width: who waits, and the last picture, of which frame and made when."""

    takers: list[Taker] = field(default_factory=list)
    picture: Picture | None = None
    frame: tuple[int, float] | None = None  # its index and when it was captured: the frame itself need not stay
    made_at: float = float("-inf")


class Pictures:
    """The thread that encodes; a context manager, and a `Watcher` of the hub.

    Who wants a picture asks for the next one (`ask`) and is given it in this thread. Whoever does not ask again, since
    it has not sent the last one yet, costs nothing.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._bell = Bell()
        self._lock = threading.Lock()
        self._kinds: dict[Key, _Kind] = {}
        self._closed = False
        self._threads = Threads()
        self._reformatter = VideoReformatter()
        self.num_encoded = 0

    def __enter__(self) -> Self:
        self._hub.watchers += (self,)
        self._threads.start("web pictures", self._work, at_end=self._end)
        return self

    def __exit__(self, *exc: object) -> None:
        self._hub.watchers = tuple(watcher for watcher in self._hub.watchers if watcher is not self)
        self._closed = True
        self._bell.ring()
        self._threads.wait(patience=1.0)

    def on_picture(self, stream: str) -> None:
        with self._lock:
            wanted = any(kind.takers for (name, _), kind in self._kinds.items() if name == stream)
        if wanted:
            self._bell.ring()

    def on_event(self, event: Mapping[str, Any]) -> None:
        self._bell.ring()  # its thumbnail is to be made

    def on_state(self, state: Mapping[str, Any]) -> None:
        pass

    def ask(self, stream: str, width: int, *, after: int, taker: Taker) -> Picture | None:
        """The stream's picture in a width of `WIDTHS`, if there is one with a number above `after`.

        Without one, `taker` is called with the next, once, in the thread that encodes; `forget` takes that back.
        """
        with self._lock:
            kind = self._kinds.setdefault((stream, width), _Kind())
            new = kind.picture and kind.picture.number > after
            if new and (time.monotonic() - kind.made_at < SECONDS_STILL_NEW or _is_of(kind, self._hub.newest(stream))):
                return kind.picture
            kind.takers.append(taker)
        self._bell.ring()
        return None

    def forget(self, stream: str, width: int, taker: Taker) -> None:
        """The taker is not called any more."""
        with self._lock, suppress(KeyError, ValueError):
            self._kinds[stream, width].takers.remove(taker)

    def _work(self) -> None:
        with suppress(OSError, AttributeError):  # not every system knows threads of lower rank
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while True:
            heard = self._bell.num_rings  # before looking: what changes meanwhile rings again
            if self._closed:
                return
            self._hub.make_waiting_thumbnails()
            patience = self._encode_what_is_due()
            self._bell.wait_beyond(heard, patience=patience)

    def _encode_what_is_due(self) -> float | None:
        """Encodes every picture that somebody waits for; seconds until the next that came too early, if one did."""
        with self._lock:
            wanted = [(key, kind) for key, kind in self._kinds.items() if kind.takers]
        patience = None
        for (stream, width), kind in wanted:
            result = self._hub.newest(stream)
            if result is None or _is_of(kind, result):
                continue
            early = kind.made_at + SECONDS_BETWEEN - time.monotonic()
            if early > 0:
                patience = early if patience is None else min(patience, early)
                continue
            kind.made_at = time.monotonic()
            kind.frame = (result.frame.index, result.frame.captured_at)
            try:
                jpeg = encoded(result, width, reformatter=self._reformatter)
            except Exception:  # the next picture may be a better one, and others wait for theirs
                log.exception("stream %s: a picture could not be encoded", stream)
            else:
                self._hand_out(kind, result, jpeg)
        return patience

    def _hand_out(self, kind: _Kind, result: Result, jpeg: bytes) -> None:
        captured_at = time.time() - (time.monotonic() - result.frame.captured_at)
        picture = Picture(kind.picture.number + 1 if kind.picture else 1, captured_at, jpeg)
        with self._lock:
            kind.picture = picture
            takers, kind.takers = kind.takers, []
            self.num_encoded += 1
        for taker in takers:
            taker(picture)

    def _end(self, failure: Failure | None) -> None:
        self._closed = True
        if failure:
            log.error("the page shows no pictures any more", exc_info=failure.error)


def _is_of(kind: _Kind, result: Result | None) -> bool:
    return result is not None and kind.frame == (result.frame.index, result.frame.captured_at)


def width_for(asked: int) -> int:
    """The smallest of `WIDTHS` that is not less than what was asked for; the largest for more."""
    return next((width for width in WIDTHS if width >= asked), WIDTHS[-1])


def encoded(result: Result, width: int, *, reformatter: VideoReformatter) -> bytes:
    """What was drawn as a JPEG of square pixels, `width` pixels wide at most."""
    picture = result.picture
    if picture is None:  # never the frame itself: what an effect blurs stays blurred
        raise ValueError("there is no picture")
    shown = picture.width * result.frame.pixel_aspect
    width = max(1, min(width, round(shown)))
    height = max(1, round(width * picture.height / shown))
    # OpenCV knows no matrix but BT.601's, so the colours are turned to its BGR here
    bgr = reformatter.reformat(
        picture,
        width,
        height,
        "bgr24",
        src_colorspace=matrix_of(picture),
        interpolation=Interpolation.BILINEAR,
        threads=1,  # more would be no less work
    )
    done, coded = cv2.imencode(".jpg", bgr.to_ndarray(), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise RuntimeError(f"OpenCV encodes no picture of {width}x{height}")
    return coded.tobytes()
