"""Tells everybody who listens what is new: events and states at once, all streams once a second."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from starlette.concurrency import run_in_threadpool

from streamseg.server.hub import Hub

WAITING = 100  # pieces of news that wait for a slow listener; then the oldest makes room
SECONDS_BETWEEN = 1.0

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class News:
    """Something new, as the API says it; made into text once for all who hear it."""

    kind: Literal["event", "state", "streams"]
    text: str
    event_id: str = ""

    @classmethod
    def of(cls, kind: Literal["event", "state", "streams"], body: Any) -> News:
        """body: an event, a stream's name and state, or all streams."""
        event_id = str(body["id"]) if kind == "event" else ""
        return cls(kind, json.dumps(body, ensure_ascii=False), event_id)


class Ear:
    """One listener's queue: bounded, and of what is told every second only the newest."""

    def __init__(self) -> None:
        self.closed = False
        self.changed = asyncio.Event()
        self._news: deque[News] = deque(maxlen=WAITING)
        self._streams: News | None = None

    def put(self, news: News) -> None:
        if news.kind == "streams":
            self._streams = news
        else:
            self._news.append(news)
        self.changed.set()

    def close(self) -> None:
        """Nothing more will be heard."""
        self.closed = True
        self.changed.set()

    def take(self) -> News | None:
        """The next news; None without any. Never waits."""
        if self._news:
            return self._news.popleft()
        news, self._streams = self._streams, None
        return news

    async def __aiter__(self) -> AsyncIterator[News]:
        while not self.closed:
            await self.changed.wait()
            self.changed.clear()
            while news := self.take():
                yield news


class Audience:
    """All who listen, in the server's event loop; a `Watcher` of the hub, told in the pipeline's threads."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.opened = threading.Event()
        self._ears: set[Ear] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ears)

    @contextmanager
    def ear(self) -> Iterator[Ear]:
        """A new listener's queue, for as long as it listens."""
        ear = Ear()
        if self._closing.is_set():
            ear.close()
        self._ears.add(ear)
        try:
            yield ear
        finally:
            self._ears.discard(ear)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hears the hub, in the loop that runs."""
        self._loop = asyncio.get_running_loop()
        self._hub.watchers += (self,)
        self.opened.set()
        ticking = asyncio.create_task(self._tell_every_second())
        try:
            yield
        finally:
            self._hub.watchers = tuple(watcher for watcher in self._hub.watchers if watcher is not self)
            ticking.cancel()

    async def _tell_every_second(self) -> None:
        while True:
            if self._ears:
                try:
                    self._put(News.of("streams", await run_in_threadpool(self._hub.streams)))
                except Exception:  # those of the next second are told again
                    log.exception("the page was not told how the streams are")
            await asyncio.sleep(SECONDS_BETWEEN)

    async def unless_closed(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` gives; None when the server ends before."""
        working = asyncio.create_task(work)
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait({working, closing}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            closing.cancel()

    def on_picture(self, stream: str) -> None:
        pass

    def on_event(self, event: Mapping[str, Any]) -> None:
        if self._ears:
            self._call(self._put, News.of("event", event))

    def on_state(self, state: Mapping[str, Any]) -> None:
        if self._ears:
            self._call(self._put, News.of("state", state))

    def close(self) -> None:
        """Nobody will hear anything more; from any thread."""
        self._call(self._close)

    def _call(self, work: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile, and with it everybody's listening
            if self._loop:
                self._loop.call_soon_threadsafe(work, *args)

    def _put(self, news: News) -> None:
        for ear in self._ears:
            ear.put(news)

    def _close(self) -> None:
        self._closing.set()
        for ear in self._ears:
            ear.close()
