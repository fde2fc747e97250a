"""A network that fails: a TCP proxy between a client and a server, which delays, freezes, cuts and garbles."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress

from tests.live.background import Background, shut

CHUNK = 65536


class Proxy(Background):
    """Hands on what comes to `port` to `target`, a port of loopback, and back.

    delay: seconds that every byte is under way · garbled: the share of bytes that change on the way back · `frozen`:
    nothing comes through in either direction while it is true; connections stay · `refusing`: nobody gets in
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0
        self.garbled = 0.0
        self.frozen = False
        self.num_connected = 0
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._chance = random.Random(1)

    @property
    def refusing(self) -> bool:
        return self._refusing

    @refusing.setter
    def refusing(self, refusing: bool) -> None:
        if refusing != self._refusing:
            self._refusing = refusing
            self._do(self._shut() if refusing else self._open())

    def cut(self, *, abort: bool = True) -> None:
        """Ends every connection: by a reset, or in order."""
        self._do(self._cut(abort))

    async def _open(self) -> None:
        self._listener = await asyncio.start_server(self._meet, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        if self._listener.sockets:
            await shut(self._listener)

    async def _close(self) -> None:
        await self._shut()
        await self._cut(abort=True)

    async def _cut(self, abort: bool) -> None:
        for writer in self._writers:
            if abort:
                with suppress(OSError):  # it has just gone
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                writer.transport.abort()
            else:
                writer.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connected += 1
        ours = {writer}
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            ours.add(far_writer)
            self._writers.add(far_writer)
            there = self._hand_on(reader, far_writer, garbles=False)
            back = self._hand_on(far_reader, writer, garbles=True)
            await asyncio.wait(
                {asyncio.ensure_future(there), asyncio.ensure_future(back)}, return_when="FIRST_COMPLETED"
            )
        except OSError:
            pass  # nobody is there, which the client learns by the end of its connection
        finally:
            self._writers -= ours
            for each in ours:
                each.close()

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, garbles: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await asyncio.sleep(self.delay)
                while self.frozen:
                    await asyncio.sleep(0.02)
                writer.write(self._garble(data) if garbles and self.garbled else data)
                await writer.drain()

    def _garble(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for index in self._chance.sample(range(len(data)), round(self.garbled * len(data))):
            changed[index] = self._chance.randrange(256)
        return bytes(changed)
