"""The tests' network does to a connection what it is told to, and nothing else."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.live.proxy import Proxy


@pytest.fixture
def pair() -> Iterator[tuple[Proxy, socket.socket, socket.socket]]:
    """A proxy, and the two ends of a connection through it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Proxy(listener.getsockname()[1]) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as near,
        listener.accept()[0] as far,
    ):
        far.settimeout(5)
        near.sendall(b"!")
        assert far.recv(1) == b"!"
        yield proxy, near, far


Pair = tuple[Proxy, socket.socket, socket.socket]


def test_bytes_come_through_in_both_directions(pair: Pair) -> None:
    _, near, far = pair
    near.sendall(b"there")
    assert far.recv(10) == b"there"
    far.sendall(b"back")
    assert near.recv(10) == b"back"


def test_a_delay_is_waited_for(pair: Pair) -> None:
    proxy, near, far = pair
    proxy.delay = 0.2
    began = time.monotonic()
    near.sendall(b"late")
    assert far.recv(10) == b"late"
    assert time.monotonic() - began >= 0.2


def test_what_is_frozen_comes_when_it_thaws(pair: Pair) -> None:
    proxy, near, far = pair
    proxy.frozen = True
    far.sendall(b"ice")
    near.settimeout(0.2)
    with pytest.raises(TimeoutError):
        near.recv(10)
    proxy.frozen = False
    near.settimeout(5)
    assert near.recv(10) == b"ice"


def test_a_cut_is_a_reset(pair: Pair) -> None:
    proxy, near, _ = pair
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        near.recv(10)


def test_an_end_in_order_is_no_error(pair: Pair) -> None:
    proxy, near, _ = pair
    proxy.cut(abort=False)
    assert near.recv(10) == b""


def test_a_share_of_what_comes_back_is_garbled(pair: Pair) -> None:
    proxy, near, far = pair
    proxy.garbled = 0.5
    far.sendall(bytes(1000))
    changed = sum(byte != 0 for byte in near.recv(2000))
    assert 400 < changed <= 500


def test_nobody_gets_in_while_it_refuses(pair: Pair) -> None:
    proxy, near, far = pair
    proxy.refusing = True
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=1)
    near.sendall(b"still")
    assert far.recv(10) == b"still", "who is in stays in"
    proxy.refusing = False
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=1):
        deadline = time.monotonic() + 5
        while proxy.num_connected < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
