"""A camera of the tests' own: an RTSP server in pure Python that fails in every way that cameras and networks fail."""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import random
import re
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from tests.live.background import Background, shut
from tests.live.feeds import Feed, feed_of_file, made_feed

CLOCK = 90_000  # ticks a second of every RTP clock of video
PAYLOAD_TYPE = 96
MOST_UNSENT = 4_000_000  # bytes that a client may leave unread before it misses pictures
NONCE = "0a1b2c3d4e5f"

Fault = Literal["silent", "frozen", "half-open", "garbage", "unauthorized", "missing", "ended", "killed"]
"""What is wrong with the server.

silent: it answers, and sends no pictures · frozen: it keeps all connections, reads nothing and says nothing ·
half-open: the same, and new connections are refused · garbage: bytes without sense instead of pictures and answers ·
unauthorized, missing: it hangs up, then says 401 or 404 · ended, killed: it hangs up, in order or by a reset, and
listens no more
"""
DEAF: frozenset[str] = frozenset({"half-open", "ended", "killed"})  # nothing listens
MUTE: frozenset[str] = frozenset({"silent", "frozen", "half-open"})  # nothing is sent
REFUSALS = {"unauthorized": "401 Unauthorized", "missing": "404 Not Found"}


@dataclass(eq=False)
class Mount:
    """What is shown under one path, to everyone the same; `sent` are the last pictures with when they were sent."""

    feed: Feed
    position: int = 0
    ticks: float = field(default_factory=lambda: random.randrange(2**30))
    sessions: set[Session] = field(default_factory=set)
    sent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=1000))


@dataclass(eq=False)
class Session:
    """One client: its connection, and the channel or the address to which its packets go."""

    writer: asyncio.StreamWriter
    channel: int = 0
    sockets: tuple[socket.socket, ...] = ()
    address: tuple[str, int] | None = None
    mount: Mount | None = None
    pushes_to: str = ""
    sequence: int = field(default_factory=lambda: random.randrange(2**16))
    source: int = field(default_factory=lambda: random.randrange(2**32))

    def leave(self) -> None:
        """No more pictures for this one."""
        if self.mount:
            self.mount.sessions.discard(self)
        for each in self.sockets:
            each.close()
        self.sockets = ()


class RtspServer(Background):
    """Serves feeds by name, in a loop at their own rate, by TCP and UDP, to any number of clients; and is pushed to.

    user, password: without a user everyone may come in; `digest` asks for them by digest, else in the plain · loss: the
    share of packets that UDP loses · `num_asked`: requests so far by their method · `pushed`: bytes of pictures that
    clients have pushed, by the name that they pushed to
    """

    def __init__(self, mounts: Mapping[str, Feed], *, user: str = "", password: str = "", digest: bool = False) -> None:
        self.mounts = {name: Mount(feed) for name, feed in mounts.items()}
        self.user, self.password, self.digest = user, password, digest
        self.loss = 0.0
        self.fault: Fault | None = None
        self.num_asked: Counter[str] = Counter()
        self.pushed: Counter[str] = Counter()
        self.port = 0
        self._listener: asyncio.Server | None = None
        self._connections: dict[asyncio.StreamWriter, Session] = {}
        self._chance = random.Random(1)

    def url(self, name: str = "camera", *, login: str | None = None) -> str:
        """The address of a mount with user and password, or with another `login`, "" for none."""
        own = f"{self.user}:{self.password}" if self.user else ""
        login = own if login is None else login
        return f"rtsp://{login}{'@' if login else ''}127.0.0.1:{self.port}/{name}"

    # What a test does to it

    def suffer(self, fault: Fault) -> None:
        """From now on the server has this fault, also towards who is connected."""
        self._do(self._suffer(fault))

    def recover(self) -> None:
        """All is well again, on the same port; who was left hanging is hung up on."""
        self._do(self._recover())

    def serve(self, name: str, feed: Feed, *, hang_up: bool = True) -> None:
        """Shows something else under this name; unless `hang_up`, whoever looks gets it in the same session."""
        self._do(self._serve(name, feed, hang_up))

    def jump(self, seconds: float, *, name: str = "camera") -> None:
        """The camera's clock is set: the timestamps of its packets step, forwards or backwards."""
        self._do(self._jump(self.mounts[name], seconds))

    def sent_at(self, number: int, *, before: float, name: str = "camera") -> float:
        """`time.monotonic()` at which the picture of this number was last sent before the given time."""
        moments = [sent for shown, sent in tuple(self.mounts[name].sent) if shown == number and sent <= before]
        return moments[-1]

    @property
    def num_playing(self) -> int:
        return sum(len(mount.sessions) for mount in self.mounts.values())

    # In the thread of the loop

    async def _open(self) -> None:
        await self._listen()
        self._pumps = [asyncio.create_task(self._pump(mount)) for mount in self.mounts.values()]

    async def _close(self) -> None:
        await self._deafen()
        self._hang_up(abort=True)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._meet, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _deafen(self) -> None:
        listener, self._listener = self._listener, None
        if listener:
            await shut(listener)

    async def _suffer(self, fault: Fault) -> None:
        self.fault = fault
        if fault in DEAF:
            await self._deafen()
        if fault in ("frozen", "half-open"):
            for writer in self._connections:
                writer.transport.pause_reading()  # type: ignore[attr-defined]
        if fault in ("killed", "ended", *REFUSALS):
            self._hang_up(abort=fault == "killed")

    async def _recover(self) -> None:
        left_hanging = self.fault in ("frozen", "half-open", "garbage")
        self.fault = None
        if left_hanging:
            self._hang_up(abort=True)
        if self._listener is None:
            await self._listen()

    def _hang_up(self, *, abort: bool) -> None:
        for writer, session in list(self._connections.items()):
            session.leave()
            if abort:  # a reset, as of a process that was killed with bytes unread
                with suppress(OSError):  # it has just gone
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                writer.transport.abort()
            else:
                writer.close()
        self._connections.clear()

    async def _serve(self, name: str, feed: Feed, hang_up: bool) -> None:
        mount = self.mounts[name]
        other_codec = feed.codec != mount.feed.codec  # which no session can go on with
        mount.feed, mount.position = feed, 0
        if hang_up or other_codec:
            self._hang_up(abort=False)

    async def _jump(self, mount: Mount, seconds: float) -> None:
        mount.ticks += seconds * CLOCK

    # Pictures

    async def _pump(self, mount: Mount) -> None:
        due = time.monotonic()
        while True:
            feed = mount.feed
            number = mount.position % len(feed.units)
            mount.sent.append((number, time.monotonic()))
            for session in list(mount.sessions):
                self._send(session, feed.payloads[number], ticks=round(mount.ticks))
            mount.position += 1
            mount.ticks += CLOCK / feed.rate
            due = max(due + 1 / float(feed.rate), time.monotonic() - 1)
            await asyncio.sleep(due - time.monotonic())

    def _send(self, session: Session, payloads: list[bytes], *, ticks: int) -> None:
        if self.fault in MUTE or session.writer.transport.get_write_buffer_size() > MOST_UNSENT:
            return
        for number, payload in enumerate(payloads, start=1):
            mark = number == len(payloads)
            header = struct.pack(
                ">BBHII", 0x80, mark << 7 | PAYLOAD_TYPE, session.sequence, ticks % 2**32, session.source
            )
            session.sequence = (session.sequence + 1) % 2**16
            self._send_packet(session, header + payload)

    def _send_packet(self, session: Session, packet: bytes) -> None:
        if self.fault == "garbage":
            packet = self._chance.randbytes(len(packet))
        if session.address is None:
            frame = struct.pack(">cBH", b"$", session.channel, len(packet))
            if self.fault == "garbage":
                frame = self._chance.randbytes(4)
            session.writer.write(frame + packet)
        elif self._chance.random() >= self.loss:
            with suppress(OSError):
                session.sockets[0].sendto(packet, session.address)

    # Requests

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = self._connections[writer] = Session(writer)
        try:
            await self._talk(reader, session)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # that client has gone, or what it says makes no sense
        finally:
            session.leave()
            self._connections.pop(writer, None)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, session: Session) -> None:
        while True:
            first = await reader.readexactly(1)
            if first == b"$":  # what a client pushes, or its reports on how it receives
                _, length = struct.unpack(">BH", await reader.readexactly(3))
                await reader.readexactly(length)
                if session.pushes_to:
                    self.pushed[session.pushes_to] += length
                continue
            request = Request.read((first + await reader.readuntil(b"\r\n\r\n")).decode())
            await reader.readexactly(int(request.headers.get("content-length", 0)))
            while self.fault in ("frozen", "half-open"):
                await asyncio.sleep(0.05)
            if self.fault == "garbage":
                session.writer.write(self._chance.randbytes(2000))
                continue
            self._answer(session, request)

    def _answer(self, session: Session, request: Request) -> None:
        self.num_asked[request.method] += 1
        status, body = "200 OK", ""
        headers: dict[str, str] = {}
        mount = self.mounts.get(request.mount)
        if refusal := self._refusal(request, mount):
            status, headers = refusal
        elif request.method == "OPTIONS":
            headers = {"Public": "OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, RECORD, TEARDOWN, GET_PARAMETER"}
        elif request.method == "DESCRIBE":
            assert mount
            body = _described(mount.feed)
            headers = {"Content-Type": "application/sdp", "Content-Base": request.url.rstrip("/") + "/"}
        elif request.method == "SETUP":
            headers = {"Transport": _set_up(session, request.headers["transport"])}
        elif request.method == "PLAY":
            assert mount
            session.mount = mount
            mount.sessions.add(session)
        elif request.method == "RECORD":
            session.pushes_to = request.mount
        if request.method == "TEARDOWN":
            session.leave()
        common = {"CSeq": request.headers.get("cseq", "0"), "Session": f"{session.source:08X};timeout=60"}
        if body:
            headers["Content-Length"] = str(len(body))
        lines = [f"RTSP/1.0 {status}", *(f"{key}: {value}" for key, value in {**common, **headers}.items())]
        session.writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    def _refusal(self, request: Request, mount: Mount | None) -> tuple[str, dict[str, str]] | None:
        if request.method == "OPTIONS":
            return None
        if self.fault == "unauthorized" or not self._may_enter(request):
            return REFUSALS["unauthorized"], {"WWW-Authenticate": self._challenge}
        if self.fault == "missing" or (mount is None and request.method in ("DESCRIBE", "PLAY")):
            return REFUSALS["missing"], {}
        return None

    @property
    def _challenge(self) -> str:
        return f'Digest realm="camera", nonce="{NONCE}"' if self.digest else 'Basic realm="camera"'

    def _may_enter(self, request: Request) -> bool:
        if not self.user:
            return True
        given = request.headers.get("authorization", "")
        login = f"{self.user}:{self.password}"
        if not self.digest:
            return given == "Basic " + base64.b64encode(login.encode()).decode()
        fields = dict(re.findall(r'(\w+)="([^"]*)"', given))
        who = _md5(f"{self.user}:camera:{self.password}")
        what = _md5(f"{request.method}:{fields.get('uri', '')}")
        return fields.get("response") == _md5(f"{who}:{NONCE}:{what}")


@dataclass(frozen=True)
class Request:
    """What a client asks: the method, the address, and the headers with their names in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]

    @classmethod
    def read(cls, text: str) -> Self:
        first, *rest = text.strip().split("\r\n")
        method, url, _ = first.split(" ")
        fields = (line.partition(":") for line in rest)
        return cls(method, url, {key.strip().lower(): value.strip() for key, _, value in fields})

    @property
    def mount(self) -> str:
        """The name in the address, without the track below it."""
        return re.sub(r"^rtsps?://[^/]*/|/?(track1|streamid=\d+)?/?(\?.*)?$", "", self.url)


def _described(feed: Feed) -> str:
    """The session description of RFC 4566, with what the decoder must know before the first packet."""
    sets = [base64.b64encode(nal).decode() for nal in feed.parameter_sets]
    if feed.codec == "h264":
        name = "H264"
        parameters = f"packetization-mode=1;sprop-parameter-sets={','.join(sets)}"
    else:
        name = "H265"
        parameters = ";".join(f"sprop-{kind}={text}" for kind, text in zip(("vps", "sps", "pps"), sets, strict=True))
    lines = [
        *("v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=camera", "c=IN IP4 0.0.0.0", "t=0 0", "a=control:*"),
        f"m=video 0 RTP/AVP {PAYLOAD_TYPE}",
        f"a=rtpmap:{PAYLOAD_TYPE} {name}/{CLOCK}",
        f"a=fmtp:{PAYLOAD_TYPE} {parameters}",
        *(f"a=framerate:{float(feed.rate)}", "a=control:track1"),
    ]
    return "".join(f"{line}\r\n" for line in lines)


def _set_up(session: Session, wanted: str) -> str:
    """The transport that the client gets: the one that it asks for first."""
    if found := re.search(r"TCP.*interleaved=(\d+)-(\d+)", wanted):
        session.channel = int(found[1])
        return f"RTP/AVP/TCP;unicast;interleaved={found[1]}-{found[2]}"
    found = re.search(r"client_port=(\d+)-(\d+)", wanted)
    if found is None:
        raise ValueError(wanted)
    session.sockets = tuple(_pair_of_ports())
    session.address = ("127.0.0.1", int(found[1]))
    own = "-".join(str(each.getsockname()[1]) for each in session.sockets)
    return f"RTP/AVP;unicast;client_port={found[1]}-{found[2]};server_port={own}"


def _pair_of_ports() -> Iterator[socket.socket]:
    for _ in range(2):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        made.bind(("127.0.0.1", 0))
        yield made


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def main() -> None:
    """Serves until Ctrl-C: a clip made here, or a file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--rate", type=int, default=30)
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    width, height = map(int, asked.size.split("x"))
    feed = feed_of_file(asked.file) if asked.file else made_feed(width=width, height=height, rate=asked.rate)
    server = RtspServer({"camera": feed})
    server.port = asked.port
    with server, suppress(KeyboardInterrupt):
        print(server.url(), flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
