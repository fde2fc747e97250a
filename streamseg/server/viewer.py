"""Sends one browser all the pictures it watches over one WebSocket; a slow one skips pictures, never queues them."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamseg.server.audience import Ear
from streamseg.server.hub import Hub
from streamseg.server.pictures import Picture, Pictures, width_for

STALE = 0.5  # seconds after which a picture that could not be sent makes room for a newer one
GOING_AWAY, WRONG_MESSAGE = 1001, 1008  # codes of RFC 6455


class Watch(BaseModel):
    """What a browser says that it wants to see: streams by name, and how many pixels wide."""

    model_config = ConfigDict(extra="forbid", strict=True)

    watch: list[str] = Field(max_length=100)
    width: int = Field(default=640, ge=1, le=8192)


async def next_picture(pictures: Pictures, stream: str, width: int, *, after: int) -> Picture:
    """The stream's picture with a number above `after`, waited for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Picture] = loop.create_future()

    def arrived(picture: Picture) -> None:
        if not future.done():
            future.set_result(picture)

    def taker(picture: Picture) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(arrived, picture)

    if picture := pictures.ask(stream, width, after=after, taker=taker):
        return picture
    try:
        return await future
    finally:
        pictures.forget(stream, width, taker)


class Viewer:
    """One browser: a task for each stream that it watches fills that stream's place, one sender empties them."""

    def __init__(self, socket: WebSocket, hub: Hub, pictures: Pictures, ear: Ear) -> None:
        self._socket, self._hub, self._pictures, self._ear = socket, hub, pictures, ear
        self._places: dict[str, tuple[Picture, float]] = {}  # the picture to send, and since when it waits
        self._emptied: dict[str, asyncio.Event] = {}
        self._sent_at: dict[str, float] = {}
        self._watching: dict[str, anyio.CancelScope] = {}
        self._width = 0
        self._wanted = Watch(watch=[])

    async def serve(self) -> None:
        """Until the browser leaves, says something wrong, or the server ends."""
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._until_the_end_of, self._listen)
            self._tasks.start_soon(self._until_the_end_of, self._send)

    async def _until_the_end_of(self, work: Callable[[], Awaitable[None]]) -> None:
        with suppress(WebSocketDisconnect):
            await work()
        self._tasks.cancel_scope.cancel()

    async def _listen(self) -> None:
        while True:
            try:
                text = await self._socket.receive_text()
            except KeyError:  # bytes
                text = ""
            try:
                self._watch(Watch.model_validate_json(text))
            except ValidationError as error:
                reason = f'expected {{"watch": [NAME, …], "width": 640}}: {error.errors()[0]["msg"]}'
                await self._socket.close(WRONG_MESSAGE, reason.encode()[:120].decode(errors="ignore"))
                return

    def _watch(self, wanted: Watch) -> None:
        """Watches what is wanted now; a name that no stream has yet is looked for again every second."""
        self._wanted = wanted
        width = width_for(wanted.width)
        names = set(wanted.watch) & set(self._hub.names)
        for name in [name for name in self._watching if name not in names or width != self._width]:
            self._watching.pop(name).cancel()
            self._places.pop(name, None)
        self._width = width
        for name in names - self._watching.keys():
            scope = self._watching[name] = anyio.CancelScope()
            self._tasks.start_soon(self._fill, name, width, scope)

    async def _fill(self, name: str, width: int, scope: anyio.CancelScope) -> None:
        emptied = self._emptied[name] = asyncio.Event()
        number = 0
        with scope:
            while True:
                picture = await next_picture(self._pictures, name, width, after=number)
                number = picture.number
                self._places[name] = picture, time.monotonic()
                self._ear.changed.set()
                emptied.clear()
                await emptied.wait()

    async def _send(self) -> None:
        while not self._ear.closed:
            await self._ear.changed.wait()
            self._ear.changed.clear()
            while await self._sent_news() or await self._sent_picture():
                pass
        await self._socket.close(GOING_AWAY)

    async def _sent_news(self) -> bool:
        news = self._ear.take()
        if news is not None:
            if news.kind == "streams":
                self._watch(self._wanted)
            await self._socket.send_text(f'{{"{news.kind}": {news.text}, "time": {time.time():.3f}}}')
        return news is not None

    async def _sent_picture(self) -> bool:
        """Sends the stream's picture that waits and was sent least lately; False when none waits."""
        if not self._places:
            return False
        name = min(self._places, key=lambda name: self._sent_at.get(name, 0.0))
        picture, since = self._places.pop(name)
        self._emptied[name].set()
        if time.monotonic() - since < STALE:
            await self._socket.send_bytes(message(name, picture))
            self._sent_at[name] = time.monotonic()
        return True


def message(name: str, picture: Picture) -> bytes:
    """Length of the name (uint16), the name in UTF-8, unix seconds of capture (float64), the JPEG; big endian."""
    written = name.encode()
    return struct.pack(f">H{len(written)}sd", len(written), written, picture.captured_at) + picture.jpeg
