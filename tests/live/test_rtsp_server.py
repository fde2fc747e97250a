"""The tests' own camera speaks RTSP as FFmpeg understands it, and fails in each way that it is told to."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path

import av
import pytest

from tests.clips import make_clip
from tests.live.feeds import Codec, feed_of_file, made_feed, number_of
from tests.live.rtsp_server import RtspServer

QUICK = made_feed(rate=50, seconds=1, gop=0.2)  # 50 pictures, the first of ten a keyframe: little to wait for
LOW_DELAY = {"fflags": "discardcorrupt", "analyzeduration": "0", "probesize": "32"}


def opened(url: str, *, transport: str = "tcp", seconds: float = 2.0) -> av.container.InputContainer:
    return av.open(url, options={"rtsp_transport": transport, **LOW_DELAY}, timeout=(seconds, seconds))


def pictures(url: str, number: int, *, transport: str = "tcp") -> list[av.VideoFrame]:
    with opened(url, transport=transport) as container:
        return list(islice(container.decode(video=0), number))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_every_picture_arrives_in_order_at_its_own_rate(codec: Codec, transport: str) -> None:
    feed = made_feed(width=640, height=360, rate=50, seconds=1, codec=codec)
    assert max(map(len, feed.payloads)) > len(feed.units[0]), "its keyframe goes out in fragments"
    with RtspServer({"camera": feed}) as server:
        got = pictures(server.url(), 55, transport=transport)
    numbers = [number_of(picture) for picture in got]
    assert all((after - before) % 50 == 1 for before, after in pairwise(numbers[1:]))
    assert {(picture.width, picture.height) for picture in got} == {(640, 360)}
    # after a pause of the machine FFmpeg lets a picture have no time
    timed = [pair for pair in pairwise(got[2:]) if None not in (pair[0].pts, pair[1].pts)]
    spans = [(after.pts - before.pts) * after.time_base for before, after in timed]
    assert len(spans) > 30 and all(abs(span - 0.02) < 0.001 for span in spans)


def test_a_file_is_served_as_it_is(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", width=64, height=48, num_frames=20, rate=10)
    feed = feed_of_file(clip, num_frames=12)
    assert (len(feed.units), feed.rate, feed.width, feed.height) == (12, 10, 64, 48)


def test_two_mounts_and_three_clients_at_once() -> None:
    with RtspServer({"front": QUICK, "back": made_feed(width=96, height=64)}) as server:
        with (
            opened(server.url("front")) as one,
            opened(server.url("back")) as two,
            opened(server.url("front")) as three,
        ):
            widths = [next(container.decode(video=0)).width for container in (one, two, three)]
        assert widths == [160, 96, 160]
        with pytest.raises(av.error.HTTPNotFoundError):
            opened(server.url("side"))


@pytest.mark.parametrize("digest", [False, True])
def test_only_who_knows_the_password_gets_in(digest: bool) -> None:
    with RtspServer({"camera": QUICK}, user="eve", password="secret", digest=digest) as server:
        assert pictures(server.url(), 1)
        for login in ("", "eve:wrong"):
            with pytest.raises(av.error.HTTPUnauthorizedError):
                opened(server.url(login=login))


def test_a_killed_server_refuses_and_is_there_again_on_its_port(camera: RtspServer) -> None:
    with opened(camera.url()) as container:
        frames = container.decode(video=0)
        next(frames)
        camera.suffer("killed")
        assert _ends(frames)
    with pytest.raises(av.error.ConnectionRefusedError):
        opened(camera.url())
    camera.recover()
    assert pictures(camera.url(), 1)


def test_the_end_of_a_server_is_an_end_of_the_pictures(camera: RtspServer) -> None:
    with opened(camera.url()) as container:
        frames = container.decode(video=0)
        next(frames)
        camera.suffer("ended")
        assert sum(1 for _ in frames) < 50


@pytest.mark.parametrize("fault", ["silent", "frozen", "half-open"])
def test_a_server_that_says_nothing_ends_in_the_reader_s_patience_alone(camera: RtspServer, fault: str) -> None:
    with opened(camera.url(), seconds=0.3) as container:
        frames = container.decode(video=0)
        next(frames)
        camera.suffer(fault)  # type: ignore[arg-type]
        with pytest.raises(av.error.FFmpegError):
            list(frames)
    camera.recover()
    assert pictures(camera.url(), 1)


def test_a_frozen_server_lets_in_and_says_nothing_where_a_half_open_one_refuses(camera: RtspServer) -> None:
    address = ("127.0.0.1", camera.port)
    camera.suffer("frozen")
    with socket.create_connection(address, timeout=0.3) as client:
        client.sendall(b"OPTIONS rtsp://127.0.0.1/camera RTSP/1.0\r\nCSeq: 1\r\n\r\n")
        with pytest.raises(TimeoutError):
            client.recv(1)
    camera.suffer("half-open")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=0.3)


def test_garbage_is_no_picture(camera: RtspServer) -> None:
    with opened(camera.url(), seconds=0.5) as container:
        frames = container.decode(video=0)
        next(frames)
        camera.suffer("garbage")
        assert _ends(frames)
    with pytest.raises(av.error.FFmpegError):
        opened(camera.url(), seconds=0.5)


@pytest.mark.parametrize(
    ("fault", "error"), [("unauthorized", av.error.HTTPUnauthorizedError), ("missing", av.error.HTTPNotFoundError)]
)
def test_a_refusal_has_its_number(camera: RtspServer, fault: str, error: type[Exception]) -> None:
    camera.suffer(fault)  # type: ignore[arg-type]
    with pytest.raises(error):
        opened(camera.url())


def test_a_share_of_the_packets_is_lost_over_udp_only(camera: RtspServer) -> None:
    camera.loss = 0.5
    assert len({number_of(picture) for picture in pictures(camera.url(), 20)}) == 20
    numbers = [number_of(picture) for picture in pictures(camera.url(), 20, transport="udp")]
    assert any((after - before) % 50 != 1 for before, after in pairwise(numbers))


def test_another_size_comes_in_the_same_session(camera: RtspServer) -> None:
    with opened(camera.url()) as container:
        frames = container.decode(video=0)
        next(frames)
        camera.serve("camera", made_feed(width=96, height=64), hang_up=False)
        assert _soon(lambda: next(frames).width == 96)


def test_another_codec_comes_in_the_next_session(camera: RtspServer) -> None:
    with opened(camera.url()) as container:
        camera.serve("camera", made_feed(codec="hevc"))
        assert _ends(container.decode(video=0))
    with opened(camera.url()) as container:
        assert container.streams.video[0].codec_context.name == "hevc"


def test_a_clock_that_is_set_moves_the_timestamps(camera: RtspServer) -> None:
    with opened(camera.url()) as container:
        frames = container.decode(video=0)
        before = next(frames).time
        camera.jump(3600)
        assert _soon(lambda: 3599 < next(frames).time - before < 3605)


PUSH = """
import sys, av
clip, url = sys.argv[1:]
with av.open(clip) as source, av.open(url, "w", format="rtsp", options={"rtsp_transport": "tcp"}) as target:
    stream = target.add_stream_from_template(source.streams.video[0])
    for packet in source.demux(video=0):
        if packet.dts is not None:
            packet.stream = stream
            target.mux(packet)
"""


def test_pictures_may_be_pushed_to_it(camera: RtspServer, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", codec="libx264", num_frames=20)
    # from another process: PyAV lets no other thread work while it opens, and this server is one
    subprocess.run([sys.executable, "-c", PUSH, clip, camera.url("shop")], check=True, timeout=30, capture_output=True)
    assert camera.pushed["shop"] > 1000


def test_when_a_picture_was_sent_is_known(camera: RtspServer) -> None:
    with opened(camera.url()) as container:
        for picture in islice(container.decode(video=0), 5):
            now = time.monotonic()
            sent = camera.sent_at(number_of(picture), before=now)
        assert now - sent < 1


def test_nothing_is_left_of_it() -> None:
    before = threading.active_count()
    with RtspServer({"camera": QUICK}) as server:
        container = opened(server.url())
        address = ("127.0.0.1", server.port)
    container.close()
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=0.3)


def _soon(true: Callable[[], bool], *, tries: int = 200) -> bool:
    return any(true() for _ in range(tries))


def _ends(frames: Iterator[av.VideoFrame]) -> bool:
    """Whether the pictures end, by an error or without."""
    deadline = time.monotonic() + 10
    try:
        for _ in frames:
            if time.monotonic() > deadline:
                return False
    except av.error.FFmpegError:
        pass
    return True
