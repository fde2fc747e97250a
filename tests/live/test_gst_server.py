"""What gst-rtsp-server serves here is what the tests' own camera serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import av
import pytest

from tests.live import test_rtsp_server
from tests.live.feeds import made_feed, number_of
from tests.live.gst_server import GstServer
from tests.live.test_rtsp_server import opened


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GstServer]:
    mounts = {"camera": made_feed(rate=50, seconds=1, gop=0.2), "new": made_feed(width=96, height=64, codec="hevc")}
    with GstServer(mounts, folder=tmp_path_factory.mktemp("gst"), user="eve", password="secret") as running:
        yield running


def pictures(url: str, number: int, *, transport: str = "tcp") -> list[av.VideoFrame]:
    """The first pictures; while the server still ends what the one before was given, it is busy (503)."""
    for _ in range(20):
        try:
            return test_rtsp_server.pictures(url, number, transport=transport)
        except av.error.HTTPServerError:
            time.sleep(0.2)
    return test_rtsp_server.pictures(url, number, transport=transport)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_pictures_come_in_order(server: GstServer, transport: str) -> None:
    numbers = [number_of(picture) for picture in pictures(server.url(), 55, transport=transport)]
    assert all((after - before) % 50 == 1 for before, after in pairwise(numbers[1:]))


def test_h265_comes_too(server: GstServer) -> None:
    assert pictures(server.url("new"), 3)[2].width == 96


def test_only_who_knows_the_password_gets_in(server: GstServer) -> None:
    with pytest.raises(av.error.HTTPUnauthorizedError):
        opened(server.url().replace("secret", "wrong"))


def test_it_is_killed_and_there_again(server: GstServer) -> None:
    server.child.kill()
    with pytest.raises(av.error.ConnectionRefusedError):
        opened(server.url())
    server.child.start()
    assert pictures(server.url(), 2)
