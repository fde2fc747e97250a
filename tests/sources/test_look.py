"""A look at a camera finds what its settings are."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamseg.sources._live import Trouble
from streamseg.sources._look import look
from streamseg.sources.rtsp import address_of, way_to
from tests.live.feeds import made_feed
from tests.live.rtsp_server import RtspServer
from tests.sources.http_camera import HttpCamera


def test_rate_size_codec_and_keyframes_are_found() -> None:
    feed = made_feed(width=160, height=96, rate=50, seconds=1, gop=0.2)
    with RtspServer({"camera": feed}) as server:
        seen = look(way_to(address_of(server.url())), seconds=0.5)
    assert seen is not None
    assert (seen.codec.split()[0], seen.width, seen.height, seen.pixel_format) == ("h264", 160, 96, "yuv420p")
    assert seen.rate == pytest.approx(50, rel=0.02) and seen.stated_rate == 50
    assert len(seen.keyframes_apart) >= 1 and list(seen.keyframes_apart) == pytest.approx(
        [0.2] * len(seen.keyframes_apart)
    )
    assert 10 <= seen.num_pictures <= 80 and seen.num_damaged == 0 and not seen.delayed
    assert 0 < seen.opened_after <= seen.first_after < 10
    assert seen.bits_per_second > 1000 and list(seen.sounds) == []


def test_it_looks_longer_where_keyframes_are_far_apart() -> None:
    with RtspServer({"camera": made_feed(rate=50, seconds=1, gop=0.5)}) as server:
        seen = look(way_to(address_of(server.url())), seconds=0.1, most=5)
    assert seen is not None and seen.keyframes_apart[0] == pytest.approx(0.5)


def test_sound_is_heard_of(tmp_path: Path) -> None:
    with HttpCamera(tmp_path, audio="aac") as camera:
        seen = look(way_to(address_of(camera.url("/live.m3u8"))), seconds=0.1)
    assert seen is not None and list(seen.sounds) == ["aac, 48 kHz, mono"]


def test_an_absent_camera_is_told_by_its_cause() -> None:
    with pytest.raises(Trouble, match="connection refused"):
        look(way_to(address_of("rtsp://127.0.0.1:1/1")))
