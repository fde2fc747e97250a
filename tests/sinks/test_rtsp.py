"""Pushing to a media server: what it receives, and what becomes of a sink whose server is not well."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import pytest

from streamseg import rooms
from streamseg.sinks.rtsp import Rtsp
from streamseg.types import OutputError, StreamInfo, UsageError
from tests.clips import numbered_picture
from tests.sinks.media_server import MediaServer, free_port
from tests.sinks.test_segments import CAMERA, put, result

SCHEMES = ["rtsp", "rtmp"]


def send(sink: Rtsp, start: int, number: int = 20, **size: int) -> None:
    """Pictures, ten for each second; before two seconds of them FFmpeg shows none to its user."""
    put(sink, *(result(index, index / 10, **size) for index in range(start, start + number)))


def send_until_error(sink: Rtsp, start: int = 0) -> str:
    """What the sink says when its server no longer takes pictures; large ones, to fill what buffers there are."""
    with pytest.raises(OutputError) as error:
        for index in range(start, start + 5000):
            each = result(index, index / 10)
            noise = numbered_picture(0, width=64, height=48)
            memoryview(noise.planes[0])[:] = os.urandom(noise.planes[0].buffer_size)
            sink.write(noise, each)
    return str(error.value)


def num_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_receives_every_picture_with_a_keyframe_every_second(scheme: str) -> None:
    with MediaServer(scheme) as server:
        with Rtsp(server.url) as sink:
            sink.start(CAMERA)
            send(sink, 0, 25)
        seen = [server.saw() for _ in range(25)]
        assert server.saw() == {}
    assert [index for index, each in enumerate(seen) if each["key"]] == [0, 10, 20]
    assert {(each["codec"], each["format"], each["width"], each["height"]) for each in seen} == {
        ("h264", "yuv420p", 64, 48)
    }
    sent = [result(index, 0.0).frame.picture.to_ndarray(format="gray").mean() for index in range(25)]
    assert [each["grey"] for each in seen] == pytest.approx(sent, abs=1.5)
    assert seen[-1]["time"] - seen[4]["time"] == pytest.approx(2.0, abs=0.002)


@pytest.fixture
def gst_record() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """gst-rtsp-server, the one that most media servers resemble, and where it takes a stream; skipped without it."""
    has_it = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if subprocess.run(["/usr/bin/python3", "-c", has_it], capture_output=True).returncode:
        pytest.skip("gst-rtsp-server's bindings are not installed")
    port = free_port()
    program = str(Path(__file__).with_name("gst_record.py"))
    with subprocess.Popen(["/usr/bin/python3", program, str(port)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "listening\n"
        yield child, f"rtsp://127.0.0.1:{port}/live/stream"
        child.kill()


def test_gst_rtsp_server_decodes_every_picture(gst_record: tuple[subprocess.Popen[str], str]) -> None:
    child, url = gst_record
    assert child.stdout is not None
    with Rtsp(url) as sink:
        sink.start(CAMERA)
        send(sink, 0, 30)
        assert [child.stdout.readline() for _ in range(29)] == ["picture\n"] * 29


def test_h265_goes_over_rtsp_alone() -> None:
    with MediaServer() as server:
        with Rtsp(server.url, codec="h265") as sink:
            sink.start(CAMERA)
            send(sink, 0, 12)
        assert [server.saw()["codec"] for _ in range(12)] == ["hevc"] * 12
    with pytest.raises(UsageError, match="codec h265: over RTMP goes h264"):
        Rtsp("rtmp://host/live/key", codec="h265")


def test_pictures_of_another_size_and_form_are_made_to_fit() -> None:
    with MediaServer() as server:
        with Rtsp(server.url) as sink:
            sink.start(CAMERA)
            sink.write(numbered_picture(0, width=33, height=25, pix_fmt="rgb24"), result(0, 0.0))
            sink.write(numbered_picture(1, width=64, height=48, pix_fmt="yuv422p"), result(1, 0.1))
        seen = [server.saw() for _ in range(2)]
    assert [(each["width"], each["height"], each["format"]) for each in seen] == [(34, 26, "yuv420p")] * 2


def test_a_file_is_sent_as_fast_as_it_plays() -> None:
    with MediaServer() as server, Rtsp(server.url) as sink:
        sink.start(StreamInfo("clip", 64, 48, Fraction(1, 10), Fraction(10)))
        began = time.monotonic()
        send(sink, 3, 6)
        assert time.monotonic() - began >= 0.5


# What goes wrong


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_absent_server_is_an_error_at_once_and_the_sink_goes_on_once_it_is_there(scheme: str) -> None:
    server = MediaServer(scheme)
    sink = Rtsp(server.url)
    for _ in range(2):
        with pytest.raises(OutputError, match=rf"^{scheme}://.*: cannot be reached: connection refused$"), sink:
            sink.start(CAMERA)
            send(sink, 0, 1)
    with server, sink:
        sink.start(CAMERA)
        send(sink, 7)
        assert server.saw()["key"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_killed_server_is_an_error_and_the_sink_goes_on_once_it_is_back(scheme: str) -> None:
    with MediaServer(scheme) as server:
        sink = Rtsp(server.url)
        before = num_descriptors()
        with pytest.raises(OutputError), sink:
            sink.start(CAMERA)
            send(sink, 0)
            assert server.saw()["key"]
            server.kill()
            message = send_until_error(sink)
            assert ": the connection broke: " in message
            raise OutputError(message)
        assert num_descriptors() <= before
        server.begin()
        with sink:
            sink.start(CAMERA)
            send(sink, 100)
            assert server.saw()["key"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_frozen_server_does_not_hold_the_sink_for_ever(scheme: str) -> None:
    with MediaServer(scheme) as server, pytest.raises(OutputError, match="broke"), Rtsp(server.url, timeout=1) as sink:
        sink.start(CAMERA)
        send(sink, 0)
        assert server.saw()["key"]
        server.freeze()
        raise OutputError(send_until_error(sink))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_interrupt_ends_the_wait_for_a_frozen_server_at_once(scheme: str) -> None:
    with MediaServer(scheme) as server:
        sink = Rtsp(server.url)
        with pytest.raises(OutputError, match="the connection broke"), sink:
            sink.start(CAMERA)
            send(sink, 0)
            assert server.saw()["key"]
            server.freeze()
            timer = threading.Timer(0.5, sink.interrupt)
            timer.start()
            began = time.monotonic()
            raise OutputError(send_until_error(sink))
        timer.join()
        assert time.monotonic() - began < 2.9  # sooner than the kernel gives up


def says_nothing(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    while connection.recv(1 << 16):
        pass


def says_nonsense(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(b"nothing that anybody understands\r\n\r\n" * 200)
    says_nothing(connection)


def hangs_up(connection: socket.socket) -> None:
    connection.recv(1 << 16)


def refuses(connection: socket.socket) -> None:
    while connection.recv(1 << 16):
        connection.sendall(b'RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n')


@contextmanager
def peer(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that behaves like that, to everyone who comes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with closing(connection), suppress(OSError):
                    behave(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=10)


@pytest.mark.parametrize("behave", [says_nothing, says_nonsense, hangs_up])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_whoever_is_no_media_server_is_an_error_soon(scheme: str, behave: Callable[[socket.socket], None]) -> None:
    before = num_descriptors(), threading.active_count()
    with peer(behave) as port:
        sink = Rtsp(f"{scheme}://user:top-secret@127.0.0.1:{port}/live/stream", timeout=0.5)
        for _ in range(2):
            with pytest.raises(OutputError, match="cannot be reached") as error, sink:
                sink.start(CAMERA)
                send(sink, 0, 1)
            assert "top-secret" not in f"{error.value!r} {error.value.__cause__!r} {error.value.__context__}"
    assert (num_descriptors(), threading.active_count()) <= before


def test_while_a_server_is_silent_everything_else_goes_on() -> None:
    """PyAV keeps Python's lock while it connects: in this process, that would stop every camera."""
    ticks, done = [], threading.Event()

    def tick() -> None:
        while not done.wait(0.01):
            ticks.append(time.monotonic())

    ticking = threading.Thread(target=tick)
    ticking.start()
    with peer(says_nothing) as port:
        sink = Rtsp(f"rtmp://127.0.0.1:{port}/live/stream", timeout=0.5)
        with pytest.raises(OutputError, match=r"no answer within 0\.5 s"), sink:
            sink.start(CAMERA)
            send(sink, 0, 1)
    done.set()
    ticking.join()
    assert len(ticks) >= 10


def test_a_wrong_password_is_said_without_it() -> None:
    with peer(refuses) as port:
        sink = Rtsp(f"rtsp://user:top-secret@127.0.0.1:{port}/live")
        with pytest.raises(OutputError) as error, sink:
            sink.start(CAMERA)
            send(sink, 0, 1)
    assert "401" in str(error.value) and "top-secret" not in str(error.value)


def test_neither_password_nor_stream_key_are_shown() -> None:
    assert Rtsp("rtsp://user:secret@host:8554/hall/one").address == "rtsp://host:8554/hall/one"
    assert Rtsp("rtmp://host/live/the-key").address == "rtmp://host/live/…"
    assert Rtsp("rtmp://host/live/the-key/").address == "rtmp://host/live/…"
    with pytest.raises(UsageError) as error:
        Rtsp("rtsp://user:secret@host:port/one")
    assert "secret" not in str(error.value)


def test_it_is_asked_for_by_its_addresses() -> None:
    said = rooms.said("sinks", "rtsp")
    assert said.remote and not said.on_disk
    assert {f"{scheme}:" for scheme in ("rtsp", "rtsps", "rtmp", "rtmps")} <= rooms.served("sinks").keys()
