"""Serves the page beside a running pipeline: `with Server(hub, "127.0.0.1:8080") as server: print(server.url)`."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import secrets
import socket
import webbrowser
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamseg.buffer import Failure, Threads
from streamseg.server.access import Gate, is_loopback, own_names, read_token
from streamseg.server.api import PAGE, application
from streamseg.server.audience import Audience
from streamseg.server.hub import Hub
from streamseg.server.pictures import Pictures
from streamseg.types import OutputError, UsageError
from streamseg.words import without_credentials

log = logging.getLogger(__name__)

DEFAULT_ADDRESS = "127.0.0.1:8080"
SECONDS_TO_START = 10.0
SECONDS_TO_STOP = 3.0
MOST_CONNECTIONS = 256
MOST_OPEN = MOST_CONNECTIONS + 64  # who comes beyond the former is told that there are too many
SECONDS_TO_ASK = 10.0
UNSENT_BYTES = 128 * 1024  # that the system keeps for a slow viewer; more would show it the past


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[::1]:PORT`; port 0 is any that is free. Raises UsageError."""
    shape = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:/\[\]@]+)):(\d{1,5})", text)
    if shape is None or int(shape[3]) > 65535:
        got = without_credentials(text)
        raise UsageError(f"web address: expected HOST:PORT such as {DEFAULT_ADDRESS} or [::1]:8080, got {got!r}")
    return shape[1] or shape[2], int(shape[3])


class Connection(H11Protocol):
    """Somebody's connection, which ends where there are too many, and after a while in which nothing was asked.

    Each takes a descriptor, of which the cameras and recordings of the same process need some too.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_OPEN:
            transport.abort()
        else:
            self.loop.call_later(SECONDS_TO_ASK, self._leave_unless_asked)

    def _leave_unless_asked(self) -> None:
        if self in self.connections and self.cycle is None:  # a WebSocket's is no longer among them
            self.transport.abort()


class Server:
    """The web server of a hub, in threads of its own; a context manager that answers once it is entered.

    address: HOST:PORT; port 0 is any that is free · token: what has to be shown to look, as `read_token` spells it;
    None asks for none on loopback, and makes a new one elsewhere (`token_is_new`) · hosts: further names under which
    the server may be asked for, such as that of a proxy before it · page: the folder of the page

    Raises UsageError for a wrong address or token at once, and for a port in use on entering.
    """

    def __init__(
        self,
        hub: Hub,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        hosts: Iterable[str] = (),
        page: Path = PAGE,
    ) -> None:
        self.hub = hub
        self.address = address
        self.host, self.port = parse_address(address)
        self.token_is_new = token is None and not is_loopback(self.host)
        self.token = secrets.token_urlsafe(24) if self.token_is_new else None if token is None else read_token(token)
        self._hosts = own_names(self.host) | set(hosts)
        self._page = page
        self._threads = Threads()
        self._failure: Failure | None = None
        self._leaving = ExitStack()

    @property
    def url(self) -> str:
        """Where a browser of this machine finds the page."""
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        host = anywhere.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def __enter__(self) -> Self:
        bound = self._bound()
        self.port = bound.getsockname()[1]
        gate = Gate(
            self.token,
            hosts=self._hosts,
            any_address=not is_loopback(self.host),
            cookie=f"streamseg_{self.port}",  # browsers keep cookies by host, whatever the port
        )
        pictures = self._leaving.enter_context(Pictures(self.hub))
        self._audience = Audience(self.hub)
        app = application(self.hub, pictures, self._audience, gate, page=self._page)
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=Connection,
            ws="websockets-sansio",
            ws_max_size=64 * 1024,
            ws_per_message_deflate=False,  # JPEG is compressed already
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # who asks is whoever connects, not what he says he is
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = uvicorn.Server(config)
        _hear(logging.getLogger("uvicorn.error"))
        self._threads.start("web", lambda: asyncio.run(self._serve(bound)), at_end=self._end)
        answers = self._audience.opened.wait(SECONDS_TO_START)
        if self._failure or not answers:
            self.__exit__()
            cause = self._failure.error if self._failure else f"no answer within {SECONDS_TO_START:g} s"
            raise OutputError(f"the web server on {self.address} did not start: {cause}")
        return self

    def __exit__(self, *exc: object) -> None:
        self._audience.close()
        self._uvicorn.should_exit = True
        self._threads.wait(patience=SECONDS_TO_STOP)
        self._leaving.close()

    def show(self) -> bool:
        """Opens the page in the browser of this machine; False where there is no screen or no browser for it."""
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            return False  # a browser for the terminal would write into the log
        with suppress(webbrowser.Error):
            return webbrowser.open(self.url)
        return False

    async def _serve(self, bound: socket.socket) -> None:
        await self._uvicorn.serve(sockets=[bound])
        for connection in list(self._uvicorn.server_state.connections):
            connection.transport.abort()  # of a viewer that does not even read that this is the end
        await asyncio.sleep(0)

    def _end(self, failure: Failure | None) -> None:
        self._failure = failure
        if failure:
            log.error("the web server has ended", exc_info=failure.error)
        self._audience.opened.set()

    def _bound(self) -> socket.socket:
        """A socket that listens on the address. Raises UsageError."""
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except OSError as error:
            raise UsageError(f"web address {self.address}: no such host: {error.strerror}") from None
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            with suppress(OSError, AttributeError):
                bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
            bound.bind(place)
            bound.listen(256)
        except OSError as error:
            bound.close()
            raise UsageError(f"web address {self.address}: {_said(error)}") from None
        return bound


def _hear(theirs: logging.Logger) -> None:
    """What the library warns of comes out where our own log does; that it parts from a stuck viewer is no news."""
    theirs.parent = log
    theirs.setLevel(logging.WARNING)
    theirs.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Cancel %s running task")


def _said(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use by another program; name another one, or 0 for any that is free"
    if error.errno == errno.EACCES:
        return "this user may not open the port; name one of 1024 or more"
    return f"cannot be opened: {error.strerror}"
