"""Lets in who may look: the token off loopback, known host names, and no changes from another site's page."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamseg.types import UsageError

SHORTEST_TOKEN = 8
SECONDS_OF_A_LOGIN = 30 * 24 * 3600
LONGEST_DELAY = 60.0
MOST_ADDRESSES = 1_000  # whose wrong tries are remembered

OPEN_PATHS = ("/livez", "/login")
OPEN_FOLDER = "/page/"
"""What needs no token: whether the process lives, the way in, and what the pages are made of."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with `no-referrer` browsers say `Origin: null` even of our own login
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def read_token(text: str) -> str:
    """The token that `TEXT`, `${ENVIRONMENT_VARIABLE}` or `file:PATH` stands for; UsageError where there is none.

    No message holds what the token is.
    """
    if variable := re.fullmatch(r"\$\{(\w+)\}", text):
        token = os.environ.get(variable[1], "")
        where = f"the environment variable {variable[1]}"
    elif text.startswith("file:"):
        where = f"the file {text.removeprefix('file:')}"
        try:
            token = Path(text.removeprefix("file:")).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            raise UsageError(f"web token: {where} cannot be read: {getattr(error, 'strerror', error)}") from None
    else:
        token, where = text, "what was given"
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"web token: expected at least {SHORTEST_TOKEN} ASCII characters without spaces, {where} is not that"
        )
    return token


class Tries:
    """Counts wrong tokens by address: after each one the next try has to wait, twice as long each time.

    An IPv6 address stands for its network of 64 bits, which one person has to himself.
    """

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, and when the next may come

    def seconds_to_wait(self, address: str) -> float:
        """How long a try of this address comes too early."""
        _, free_at = self._wrong.get(_network(address), (0, 0.0))
        return max(0.0, free_at - time.monotonic())

    def wrong(self, address: str) -> None:
        """One wrong try more."""
        network = _network(address)
        num, _ = self._wrong.pop(network, (0, 0.0))
        self._wrong[network] = num + 1, time.monotonic() + min(2.0 ** min(num, 60), LONGEST_DELAY)
        if len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)

    def right(self, address: str) -> None:
        """All is forgotten."""
        self._wrong.pop(_network(address), None)


def _network(address: str) -> str:
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address):
        return str(known.ipv4_mapped or ipaddress.ip_network((known, 64), strict=False))
    return address


class Gate:
    """Decides who may look; `token` None: everybody on this machine.

    A login is a cookie signed with a key of this process, so that it ends with it, and guessing at cookies is no way to
    guess the token.

    hosts: the names under which the server may be asked for; any_address: also every IP address, which no foreign page
    can turn into a name of its own · cookie: the cookie's name
    """

    def __init__(self, token: str | None, *, hosts: Iterable[str], any_address: bool, cookie: str) -> None:
        self.token = token
        self.hosts = frozenset(host.lower() for host in hosts)
        self.any_address = any_address
        self.cookie = cookie
        self.tries = Tries()
        self._key = secrets.token_bytes(32)

    def knows_host(self, host: str) -> bool:
        """Whether the `Host` header names this server."""
        named = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?", host.lower())
        if named is None:
            return False
        name = named[1] or named[2]
        return name in self.hosts or (self.any_address and _is_address(name))

    def is_token(self, given: str) -> bool:
        """Compared in a time that tells nothing of where the two differ."""
        wanted, got = (hashlib.sha256((text or "").encode()).digest() for text in (self.token, given))
        return hmac.compare_digest(wanted, got) and self.token is not None

    def new_cookie(self) -> str:
        """The value of a login's cookie: when it ends, signed."""
        until = str(int(time.time()) + SECONDS_OF_A_LOGIN)
        return f"{until}.{self._signature(until)}"

    def is_cookie(self, value: str) -> bool:
        """Whether it is a login of this process that has not ended."""
        until, _, signature = value.partition(".")
        genuine = hmac.compare_digest(signature.encode(), self._signature(until).encode())
        return genuine and int(until) > time.time()

    def _signature(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), "sha256").hexdigest()


class Guard:
    """The ASGI middleware in front of everything: host, origin, token, and the headers of every answer."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        asked = HTTPConnection(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(asked)
        if answer is not None:
            await answer(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _refusal(self, asked: HTTPConnection) -> Response | None:
        host = asked.headers.get("host", "")
        if not self._gate.knows_host(host):
            return _refused(
                403, "the server is not known under this host name; `--set web.hosts=[NAME]` makes it known"
            )
        changes = asked.scope["type"] == "websocket" or asked.scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and not _same_origin(asked.headers, host):
            return _refused(403, "a page of another site may not do this")
        return self._unknown(asked)

    def _unknown(self, asked: HTTPConnection) -> Response | None:
        """What someone is answered who has neither cookie nor token; None for who has."""
        path, gate = asked.scope["path"], self._gate
        if gate.token is None or path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
            return None
        if gate.is_cookie(asked.cookies.get(gate.cookie, "")):
            return None
        kind, _, given = asked.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return checked(gate, given.strip(), address_of(asked))
        if asked.scope["type"] == "http" and "text/html" in asked.headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        return _refused(401, "a token is needed: log in at /login, or send `Authorization: Bearer TOKEN`")


def checked(gate: Gate, given: str, address: str) -> Response | None:
    """None for the right token; else the refusal, and the address has to wait before its next try."""
    wait = gate.tries.seconds_to_wait(address)
    if wait > 0:
        answer = _refused(429, "too many wrong tokens; try again later")
        answer.headers["Retry-After"] = str(int(wait) + 1)
        return answer
    if not gate.is_token(given):
        gate.tries.wrong(address)
        return _refused(401, "this is not the token")
    gate.tries.right(address)
    return None


def address_of(asked: HTTPConnection) -> str:
    """Who asks; behind a proxy that is the proxy."""
    return asked.client.host if asked.client else ""


def _same_origin(headers: Headers, host: str) -> bool:
    """Whether a page of this server asks, or no page at all: browsers say with every change where it comes from."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _refused(status: int, detail: str) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"detail": detail}, status, headers)


def own_names(host: str) -> set[str]:
    """The names under which a server bound to `host` is asked for: on loopback no other, else the machine's too."""
    names = {"localhost", "127.0.0.1", "::1", host}
    return names if is_loopback(host) else names | {socket.gethostname(), f"{socket.gethostname()}.local"}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether the address is this machine's own, which nobody else can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
