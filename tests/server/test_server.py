"""The real server, over real sockets."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import httpx2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from streamseg.server.hub import Hub
from streamseg.server.pictures import Pictures
from streamseg.server.server import Server, parse_address
from streamseg.types import UsageError
from tests import fakes
from tests.server.fake import crossing, result

PATIENCE = 10.0
EIGHT = [f"camera {number}" for number in range(8)]


@pytest.fixture
def server(hub: Hub, page: Path) -> Iterator[Server]:
    with Server(hub, "127.0.0.1:0", page=page) as server:
        yield server


@contextmanager
def watching(server: Server, *names: str, width: int = 160) -> Iterator[ClientConnection]:
    """A viewer of some streams."""
    with connect(server.url.replace("http", "ws") + "ws", close_timeout=1) as viewer:
        viewer.send(json.dumps({"watch": list(names), "width": width}))
        yield viewer


def picture_in(message: bytes) -> tuple[str, float, bytes]:
    """Name, unix seconds of capture and JPEG of a binary message."""
    (length,) = struct.unpack(">H", message[:2])
    name, (captured_at,) = message[2 : 2 + length].decode(), struct.unpack(">d", message[2 + length : 10 + length])
    return name, captured_at, message[10 + length :]


class Pump:
    """Shows noise, which no codec makes small, in some streams until it is left."""

    def __init__(self, hub: Hub, *names: str, seconds_between: float = 0.02, side: int = 160) -> None:
        self.hub, self.names, self.seconds_between = hub, names, seconds_between
        self.num_shown = 0
        noise = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
        self._picture = av.VideoFrame.from_ndarray(noise, "rgb24").reformat(format="yuv420p")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show)

    def __enter__(self) -> Pump:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _show(self) -> None:
        while not self._stop.wait(self.seconds_between):
            for name in self.names:
                frame = fakes.frame(self.num_shown, stream=name)
                self.hub.on_result(replace(result(frame), picture=self._picture))
            self.num_shown += 1


def test_it_answers_before_there_is_a_picture_and_not_after_its_end(server: Server) -> None:
    assert httpx2.get(f"{server.url}livez").status_code == 200
    server.__exit__()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{server.url}livez")
    server.__enter__()  # on the same port, for the fixture to leave
    assert httpx2.get(f"{server.url}livez").status_code == 200


def test_a_port_in_use_is_one_clear_sentence(server: Server, hub: Hub) -> None:
    with pytest.raises(UsageError, match=f"web address 127.0.0.1:{server.port}: the port is in use"):
        Server(hub, f"127.0.0.1:{server.port}").__enter__()


@pytest.mark.parametrize(
    "text", ["8080", "localhost", "127.0.0.1:", ":8080", "::1:8080", "127.0.0.1:99999", "http://a:1", "a b:1"]
)
def test_an_address_that_is_none_is_refused(hub: Hub, text: str) -> None:
    with pytest.raises(UsageError, match="expected HOST:PORT"):
        Server(hub, text)


def test_a_host_that_nobody_knows_is_named(hub: Hub) -> None:
    with pytest.raises(UsageError, match="web address no-such-host.invalid:0: no such host"):
        Server(hub, "no-such-host.invalid:0").__enter__()


def test_addresses_are_read_as_they_are_written() -> None:
    given = ("127.0.0.1:8080", "[::1]:0", "0.0.0.0:80", "camera-box.lan:8000")
    assert [parse_address(text) for text in given] == [
        ("127.0.0.1", 8080),
        ("::1", 0),
        ("0.0.0.0", 80),
        ("camera-box.lan", 8000),
    ]


def test_ipv6_is_served(hub: Hub, page: Path) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with Server(hub, "[::1]:0", page=page) as server:
        assert server.url == f"http://[::1]:{server.port}/"
        assert httpx2.get(f"{server.url}api/streams").status_code == 200


def test_off_loopback_a_token_is_made_and_needed(hub: Hub, page: Path) -> None:
    with Server(hub, "0.0.0.0:0", page=page) as server:
        assert server.token_is_new and server.token and len(server.token) >= 32
        assert server.url == f"http://127.0.0.1:{server.port}/"
        assert httpx2.get(f"{server.url}api/streams").status_code == 401
        right = {"Authorization": f"Bearer {server.token}"}
        assert httpx2.get(f"{server.url}api/streams", headers=right).status_code == 200
        wrong = {"Authorization": "Bearer guessed-by-someone"}
        assert httpx2.get(f"{server.url}api/streams", headers=wrong).status_code == 401
        assert httpx2.get(f"{server.url}api/streams", headers=wrong).status_code == 429


def test_a_given_token_is_needed_on_loopback_too(hub: Hub, page: Path) -> None:
    with Server(hub, "127.0.0.1:0", token="given-by-me", page=page) as server:
        assert (server.token, server.token_is_new) == ("given-by-me", False)
        assert httpx2.get(f"{server.url}api/streams").status_code == 401


@pytest.mark.parametrize(
    "path", ["/page/../../../setup.cfg", "/page/..%2f..%2f..%2fsetup.cfg", "/../../etc/passwd", "//etc/passwd"]
)
def test_a_path_that_no_client_has_tidied_leads_nowhere(server: Server, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404")


def test_two_headers_of_a_host_are_no_way_in(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"GET /api/streams HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert b" 200 " not in answer.splitlines()[0]


def pictures_of(viewer: ClientConnection) -> Iterator[tuple[str, float, bytes]]:
    """The pictures that come, between other news."""
    until = time.monotonic() + 3 * PATIENCE
    while time.monotonic() < until:
        message = viewer.recv(timeout=PATIENCE)
        if isinstance(message, bytes):
            yield picture_in(message)


def encoder(hub: Hub) -> Pictures:
    """The part of the hub's server that encodes."""
    (pictures,) = [watcher for watcher in hub.watchers if isinstance(watcher, Pictures)]
    return pictures


def test_pictures_of_eight_streams_come_over_one_connection(page: Path) -> None:
    hub = Hub(EIGHT)
    with (
        Server(hub, "127.0.0.1:0", page=page) as server,
        Pump(hub, *EIGHT),
        watching(server, *EIGHT, "unknown") as viewer,
    ):
        seen = dict.fromkeys(EIGHT, 0)
        for name, captured_at, jpeg in pictures_of(viewer):
            assert jpeg[:2] == b"\xff\xd8" and abs(time.time() - captured_at) < PATIENCE
            seen[name] += 1
            if min(seen.values()) == 3:
                break
        assert len(httpx2.get(f"{server.url}api/streams").json()) == 8


def test_a_stream_that_joins_later_is_watched_then(hub: Hub, server: Server) -> None:
    with watching(server, "yard") as viewer:
        next_json(viewer, "streams")
        with Pump(hub, "yard"):
            assert next(pictures_of(viewer))[0] == "yard"


def test_ten_viewers_cost_one_encoding(hub: Hub, server: Server) -> None:
    with ExitStack() as leaving:
        viewers = [leaving.enter_context(watching(server, "street")) for _ in range(10)]
        leaving.enter_context(Pump(hub, "street"))
        for viewer in viewers:
            pictures = pictures_of(viewer)
            assert all(next(pictures) for _ in range(5))
        assert encoder(hub).num_encoded < 25


def next_json(viewer: ClientConnection, kind: str) -> Any:
    while True:
        message = viewer.recv(timeout=PATIENCE)
        if isinstance(message, str) and kind in (news := json.loads(message)):
            return news[kind]


def test_events_and_states_come_at_once_and_streams_every_second(hub: Hub, server: Server) -> None:
    with watching(server) as viewer:
        assert next_json(viewer, "streams")[0]["name"] == "street"
        hub.on_result(result(fakes.frame(), events=(crossing("street", 1),)))
        assert next_json(viewer, "event")["id"] == "street-1"
        hub.on_end("street", "the cable was cut")
        assert next_json(viewer, "state")["cause"] == "the cable was cut"
        assert next_json(viewer, "streams")[0]["state"] == "failed"


def test_a_viewer_may_look_elsewhere_and_larger(hub: Hub, server: Server) -> None:
    with Pump(hub, "street", "yard", side=640), watching(server, "street") as viewer:
        while "yard" not in hub.names:
            time.sleep(0.01)
        small = next(pictures_of(viewer))
        viewer.send(json.dumps({"watch": ["yard"], "width": 640}))
        large = next(picture for picture in pictures_of(viewer) if picture[0] == "yard")
        assert len(large[2]) > 4 * len(small[2])


@pytest.mark.parametrize(
    "message", ["", "x", "[]", "{}", '{"watch": "street"}', '{"watch": [], "width": 0}', '{"watch": [], "more": 1}']
)
def test_a_message_that_makes_no_sense_ends_the_connection_with_a_reason(server: Server, message: str) -> None:
    with connect(server.url.replace("http", "ws") + "ws", close_timeout=1) as viewer:
        viewer.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                viewer.recv(timeout=PATIENCE)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason[:8]) == (1008, "expected")


def test_bytes_where_text_is_expected_end_the_connection_only(server: Server) -> None:
    with connect(server.url.replace("http", "ws") + "ws", close_timeout=1) as viewer:
        viewer.send(b"\x00\x01")
        with pytest.raises(ConnectionClosed):
            while True:
                viewer.recv(timeout=PATIENCE)
    assert httpx2.get(f"{server.url}livez").status_code == 200


@contextmanager
def never_reading(server: Server) -> Iterator[None]:
    """A viewer of the street whose pictures all stay where they are."""
    wanted = json.dumps({"watch": ["street"], "width": 640}).encode()
    hello = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", server.port))
        raw.sendall(f"{hello}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode())
        assert raw.recv(12) == b"HTTP/1.1 101"
        raw.sendall(bytes([0x81, 0x80 | len(wanted)]) + b"\0\0\0\0" + wanted)
        yield


def test_a_viewer_that_never_reads_costs_nothing_and_holds_up_nobody(hub: Hub, page: Path) -> None:
    with Server(hub, "127.0.0.1:0", page=page) as server, never_reading(server), Pump(hub, "street", side=640) as pump:
        encoded, until = 0, time.monotonic() + PATIENCE
        while not encoded or encoded != encoder(hub).num_encoded:  # until the sockets between them are full
            encoded, shown = encoder(hub).num_encoded, pump.num_shown
            while pump.num_shown < shown + 10:
                time.sleep(0.01)
            assert time.monotonic() < until
        with watching(server, "street") as viewer:
            pictures = pictures_of(viewer)
            assert all(next(pictures) for _ in range(5))


def test_mjpeg_is_a_row_of_pictures(hub: Hub, server: Server) -> None:
    with Pump(hub, "street"), httpx2.stream("GET", f"{server.url}stream/street.mjpg?width=160") as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=picture"
        got = b""
        for chunk in answer.iter_bytes():
            got += chunk
            if got.count(b"--picture\r\n") > 3:
                break
    first, second = got.split(b"--picture\r\n")[1:3]
    head, _, jpeg = first.partition(b"\r\n\r\n")
    assert head.startswith(b"Content-Type: image/jpeg\r\nContent-Length: ")
    assert len(jpeg.removesuffix(b"\r\n")) == int(head.rpartition(b" ")[2])
    assert jpeg.startswith(b"\xff\xd8") and second.startswith(b"Content-Type")


def told(lines: Iterator[str], kind: str) -> tuple[str | None, Any]:
    """Id and data of the next server-sent event of a kind."""
    for line in lines:
        if line == f"event: {kind}":
            name, _, text = next(lines).partition(": ")
            if name == "id":
                return text, json.loads(next(lines).removeprefix("data: "))
            return None, json.loads(text)
    raise AssertionError(f"the answer ended before {kind}")


def test_server_sent_events_go_on_where_they_broke_off(hub: Hub, server: Server) -> None:
    url = f"{server.url}api/events/stream"
    with httpx2.stream("GET", url, timeout=PATIENCE) as answer:
        lines = answer.iter_lines()
        assert told(lines, "streams")[1][0]["name"] == "street"
        hub.on_result(result(fakes.frame(1), events=(crossing("street", 1),)))
        assert told(lines, "event")[0] == "street-1"
        hub.on_end("street", None)
        assert told(lines, "state")[1]["state"] == "ended"
    hub.on_result(result(fakes.frame(2), events=(crossing("street", 2),)))
    with httpx2.stream("GET", url, timeout=PATIENCE, headers={"Last-Event-ID": "street-1"}) as answer:
        assert told(answer.iter_lines(), "event")[0] == "street-2"


def test_who_has_left_is_nobody_any_more(hub: Hub, server: Server) -> None:
    def num_viewers() -> int:
        (line,) = (
            line for line in httpx2.get(f"{server.url}metrics").text.splitlines() if "streamseg_viewers " in line[:18]
        )
        return int(float(line.split()[1]))

    with (
        Pump(hub, "street"),
        watching(server, "street") as viewer,
        httpx2.stream("GET", f"{server.url}api/events/stream") as news,
        httpx2.stream("GET", f"{server.url}stream/street.mjpg") as pictures,
    ):
        next(pictures_of(viewer))
        lines, parts = news.iter_lines(), pictures.iter_bytes()  # one that nobody holds any more closes its answer
        next(lines)
        next(parts)
        assert num_viewers() == 2  # who takes pictures alone hears no news
    until = time.monotonic() + PATIENCE
    while num_viewers() and time.monotonic() < until:
        time.sleep(0.02)
    assert num_viewers() == 0
    assert not any(kind.takers for kind in encoder(hub)._kinds.values())


def test_another_sites_page_gets_no_websocket(server: Server) -> None:
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(server.url.replace("http", "ws") + "ws", origin=Origin("http://evil.example")),
    ):
        pass


def test_it_stops_within_a_second_while_everybody_watches(hub: Hub, page: Path) -> None:
    server = Server(hub, "127.0.0.1:0", page=page)
    with Pump(hub, "street"), server:
        with (
            watching(server, "street") as viewer,
            httpx2.stream("GET", f"{server.url}api/events/stream") as news,
            httpx2.stream("GET", f"{server.url}stream/street.mjpg") as pictures,
        ):
            lines, parts = news.iter_lines(), pictures.iter_bytes()
            next(lines)
            next(parts)
            began = time.monotonic()
            server.__exit__()
            assert time.monotonic() - began < PATIENCE / 2
            assert server._threads.running == []
            list(lines)  # which has an end
            with pytest.raises(ConnectionClosed) as closed:
                list(pictures_of(viewer))
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
        assert hub.watchers == ()
        server.__enter__()


def test_a_viewer_that_never_reads_does_not_keep_it_from_stopping(
    hub: Hub, page: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Server(hub, "127.0.0.1:0", page=page) as server, never_reading(server), Pump(hub, "street", side=640):
        until = time.monotonic() + PATIENCE
        while encoder(hub).num_encoded < 2 and time.monotonic() < until:
            time.sleep(0.01)
        server.__exit__()
        assert server._threads.running == []
        server.__enter__()
    assert caplog.text == ""


def test_without_a_screen_no_browser_is_opened(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not server.show()


def test_a_viewer_that_sends_bytes_is_told_what_is_expected(server: Server) -> None:
    with connect(server.url.replace("http", "ws") + "ws", close_timeout=1) as viewer:
        viewer.send(b"\x00")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                viewer.recv(timeout=PATIENCE)
    assert closed.value.rcvd is not None and "expected" in closed.value.rcvd.reason


def test_who_asks_nothing_is_parted_from_and_leaves_room_for_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[Server.__module__], "SECONDS_TO_ASK", 0.3)
    monkeypatch.setattr(sys.modules[Server.__module__], "MOST_OPEN", 20)
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(40)]
    assert all(_ended(each) for each in idle), "those beyond the most at once, the others soon"
    assert httpx2.get(f"{server.url}livez").status_code == 200


def _ended(connection: socket.socket) -> bool:
    with connection:
        try:
            return connection.recv(1) == b""
        except ConnectionError:
            return True
