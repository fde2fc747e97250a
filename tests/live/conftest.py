"""The live tests' servers: each test gets its own, and leaves nothing running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import needs
from tests.live.broker import Broker
from tests.live.feeds import made_feed
from tests.live.gst_server import GstServer
from tests.live.rtsp_server import RtspServer


@pytest.fixture
def camera() -> Iterator[RtspServer]:
    """The tests' own camera: 50 small pictures a second in a loop of one second, every tenth a keyframe."""
    with RtspServer({"camera": made_feed(rate=50, seconds=1, gop=0.2)}) as server:
        yield server


@pytest.fixture
def gst_camera(tmp_path: Path) -> Iterator[GstServer]:
    """The same from gst-rtsp-server; skipped without it."""
    with GstServer({"camera": made_feed(rate=50, seconds=1, gop=0.2)}, folder=tmp_path) as server:
        yield server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """mosquitto; skipped without it."""
    with Broker(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium to be run with `--headless`; skipped without one."""
    return needs.chromium()
