"""A thread of its own for each sink of a live stream, so that what is slow or broken there costs the camera nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import av
from av.video.reformatter import VideoReformatter

from streamseg import backoff
from streamseg.buffer import Buffer, Closed, Failure, Threads
from streamseg.flow.report import said
from streamseg.types import OutputState, OutputStatus, Result, Sink, StreamInfo, StreamsegError, UsageError

SECONDS_TO_FINISH = 5.0
"""For what waits at the end of a stream; then a sink that can be interrupted is."""

log = logging.getLogger(__name__)

Item = tuple[av.VideoFrame, Result]


class Outbox:
    """Hands pictures on to one sink: `write` never waits, and its oldest picture goes where the sink is too slow.

    What goes wrong in the sink never reaches the stream. The sink is left with the error and, after a while, entered
    and started again, with the pictures of then. A picture of a new size begins anew where the sink can (`resized`),
    else it is scaled to the size of the first.

    capacity: pictures that may wait · delays: makes the seconds before each further attempt
    """

    def __init__(
        self,
        sink: Sink,
        info: StreamInfo,
        *,
        capacity: int,
        delays: Callable[[], Iterator[float]] = backoff.delays,
    ) -> None:
        self.sink = sink
        self.name = _called(sink)
        self.ended = threading.Event()
        self._info = info
        self._waiting: Buffer[Item] = Buffer(capacity)
        self._closing = threading.Event()
        self._error: BaseException | None = None
        self._delays = delays
        self._scaler = VideoReformatter()  # the picture's own would serve two sinks at once, and crash
        self._state: OutputState = "ok"
        self._cause = ""
        self._pausing = False  # between two attempts, when what comes would only be held in vain
        self._dropped = 0
        self._counting = threading.Lock()  # pictures are dropped by the stream's thread and by that of the sink

    @property
    def status(self) -> OutputStatus:
        """How the sink is doing; may be asked from any thread."""
        return OutputStatus(self.name, self._state, self._cause, self._dropped, len(self._waiting))

    def start(self, threads: Threads, *, stream: str) -> None:
        """Begins to work in one of these threads."""
        threads.start(f"{self.name} of {stream}", self._work, at_end=self._end)

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        """For the sink, when it comes to it."""
        if self._pausing:
            self._drop(1)
            return
        try:
            num_lost = self._waiting.offer((picture, result))
        except Closed:
            num_lost = 1
        self._drop(num_lost)

    def close(self, error: BaseException | None = None) -> None:
        """Takes nothing more; the sink gets what waits and is left, with the error if there is one."""
        self._error = error
        self._waiting.close()
        self._closing.set()

    def wait(self) -> None:
        """Until the sink has been left; one that takes too long is interrupted where it can be."""
        if not self.ended.wait(SECONDS_TO_FINISH):
            log.warning("%s: did not finish within %g s", self.name, SECONDS_TO_FINISH)
            getattr(self.sink, "interrupt", lambda: None)()

    def _work(self) -> None:
        delays = self._delays()
        while True:
            try:
                self._deliver()
                return
            except BaseException as error:
                if error is self._error:
                    return
                if self._state == "ok":  # it worked in between
                    delays = self._delays()
                self._judge(error)
            if self._state == "failed" or not self._pause(next(delays)):
                return

    def _pause(self, seconds: float) -> bool:
        """Until the next attempt, and whether there is to be one; what is shown then begins with then."""
        self._pausing = True
        self._drop(self._waiting.clear())
        ends = self._closing.wait(seconds)
        self._drop(self._waiting.clear())
        self._pausing = False
        return not ends

    def _drop(self, number: int) -> None:
        with self._counting:
            self._dropped += number

    def _judge(self, error: BaseException) -> None:
        """What the world does may pass; wrong use and mistakes do not."""
        if isinstance(error, StreamsegError | OSError) and not isinstance(error, UsageError):
            self._say("retrying", str(error).removeprefix(f"{self.name}: "))
        else:
            self._say("failed", said(error))
            log.debug("%s: given up", self.name, exc_info=error)

    def _deliver(self) -> None:
        with self.sink as sink:
            sink.start(self._info)
            for picture, result in self._waiting:
                try:
                    sink.write(self._fitted(picture), result)
                except BaseException:
                    self._drop(1)
                    raise
                self._say("ok")
            if self._error:
                raise self._error

    def _fitted(self, picture: av.VideoFrame) -> av.VideoFrame:
        """The picture in the size that the sink knows of, or the sink told of a new one."""
        if (picture.width, picture.height) == (self._info.width, self._info.height):
            return picture
        resized = getattr(self.sink, "resized", None)
        if resized is None:
            return self._scaler.reformat(picture, self._info.width, self._info.height)
        self._info = replace(self._info, width=picture.width, height=picture.height)
        resized(self._info)
        return picture

    def _say(self, state: OutputState, cause: str = "") -> None:
        if (state, cause) == (self._state, self._cause):
            return
        self._state, self._cause = state, cause
        (log.info if state == "ok" else log.warning)("%s: %s%s", self.name, state, cause and f", {cause}")

    def _end(self, failure: Failure | None) -> None:
        with suppress(Closed):
            self._waiting.close(failure)
        self._drop(self._waiting.clear())
        self.ended.set()


def _called(sink: Sink) -> str:
    """The sink by its address or its file; one that has neither by its kind."""
    path = getattr(sink, "path", None)
    return str(getattr(sink, "address", None) or (path and Path(path).name) or type(sink).__name__.lower())
