"""A camera is watched by its address, and comes back from whatever happens to it, without a word of its password."""

from __future__ import annotations

import datetime
import ipaddress
import logging
import ssl
import threading
import time
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

import pytest

from streamseg import plugins
from streamseg.sources import rtsp
from streamseg.sources._connection import connect
from streamseg.sources._live import Live, Timing
from streamseg.sources.rtsp import Rtsp
from streamseg.types import Frame, InputError, SourceState, UsageError
from tests.live.feeds import made_feed, number_of
from tests.live.rtsp_server import Fault, RtspServer
from tests.sources.http_camera import HttpCamera

LOGIN = "admin:p@ss/w:rd"
QUICK = made_feed(rate=50, seconds=1, gop=0.2)  # 50 pictures, each tenth a keyframe


class Watcher:
    """Reads a source in a thread, as the flow does; `frames` and `states` are what it gave so far."""

    def __init__(self, source: Live) -> None:
        self.source, self.frames, self.states = source, list[Frame](), list[SourceState]()
        source.on_state = self.states.append
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        with self.source as source:
            self.frames.extend(source)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.source.interrupt()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline, self.states
            time.sleep(0.005)

    def until_state(self, name: str) -> SourceState:
        self.until(lambda: self.source.state.name == name)
        return self.source.state


def quick(url: str, *, timeout: float = 0.4, transport: str = "tcp") -> Live:
    """The source of an address, with waits of a sixtieth."""
    way = rtsp.way_to(rtsp.address_of(url), timeout=timeout, transport=transport)
    timing = Timing(wait=lambda stopped, seconds: stopped.wait(seconds / 60))
    return Live(lambda stopped: connect(way, stopped), name="yard", called="the camera", timing=timing)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_pictures_of_a_camera_come_in_order_and_at_its_pace(transport: str) -> None:
    with RtspServer({"camera": QUICK}) as server, Rtsp(server.url(), transport=transport, name="yard") as source:
        frames = list(islice(source, 60))
    numbers = [number_of(each.picture) for each in frames]
    assert all((later - earlier) % 50 == 1 for earlier, later in pairwise(numbers))
    assert [each.index for each in frames] == list(range(60))
    steps = [later.time - earlier.time for earlier, later in pairwise(frames)]
    assert min(steps) > 0 and median(steps) == pytest.approx(1 / 50, abs=0.003)
    assert not any(each.damaged for each in frames)
    assert (source.info.name, source.info.width, source.info.average_rate) == ("yard", QUICK.width, 50)


@pytest.mark.parametrize("digest", [False, True])
def test_a_password_with_signs_in_it_opens_the_door(digest: bool) -> None:
    locked = RtspServer({"camera": QUICK}, user="admin", password="p@ss/w:rd", digest=digest)
    with locked as server, Rtsp(server.url(login=LOGIN)) as source:
        assert next(iter(source)).stream == "127.0.0.1"


@pytest.mark.parametrize(
    ("fault", "state", "cause"),
    [
        ("silent", "stalled", "nothing came for 0.4 s"),
        ("frozen", "stalled", "nothing came for 0.4 s"),
        ("half-open", "stalled", "nothing came for 0.4 s"),
        ("ended", "lost", "the other end closed the connection"),
        ("killed", "lost", "the connection was cut"),
        ("unauthorized", "refused", "it asks for a user and a password (401)"),
        ("missing", "refused", "there is nothing at this path (404)"),
    ],
)
def test_every_fault_is_noticed_named_and_survived(fault: Fault, state: str, cause: str) -> None:
    with RtspServer({"camera": QUICK}) as server, Watcher(quick(server.url())) as watcher:
        watcher.until_state("live")
        server.suffer(fault)
        found = watcher.until_state(state)
        before = len(watcher.frames)
        server.recover()
        watcher.until_state("live")
        watcher.until(lambda: len(watcher.frames) > before + 5)
    assert found.cause == cause or fault == "killed"  # a reset may look like an end
    assert [each.index for each in watcher.frames] == list(range(len(watcher.frames)))
    assert all(earlier.time < later.time for earlier, later in pairwise(watcher.frames))
    assert not any(each.damaged for each in watcher.frames)


def test_of_a_server_that_says_nothing_at_the_start_it_is_said_that_it_does_not_answer() -> None:
    with RtspServer({"camera": QUICK}) as server:
        server.suffer("frozen")
        with Watcher(quick(server.url())) as watcher:
            assert watcher.until_state("lost").cause == "no answer within 0.4 s"


def test_garbage_is_a_fault_like_others() -> None:
    with RtspServer({"camera": QUICK}) as server, Watcher(quick(server.url())) as watcher:
        watcher.until_state("live")
        server.suffer("garbage")
        watcher.until(lambda: watcher.source.state.name != "live")
        server.recover()
        watcher.until_state("live")


def test_what_a_parser_holds_back_until_a_silence_is_not_shown_as_new() -> None:
    with RtspServer({"camera": QUICK}) as server, Watcher(quick(server.url())) as watcher:
        watcher.until(lambda: len(watcher.frames) > 5)
        server.suffer("silent")
        watcher.until_state("stalled")
        last = watcher.frames[-1]
        assert last.captured_at - server.sent_at(number_of(last.picture), before=last.captured_at) < 0.3


def test_a_camera_that_was_not_there_is_taken_when_it_comes() -> None:
    with RtspServer({"camera": QUICK}) as server:
        server.suffer("ended")
        with Watcher(quick(server.url())) as watcher:
            assert watcher.until_state("lost").cause == "connection refused: nothing listens there"
            server.recover()
            watcher.until_state("live")
    assert [each.name for each in watcher.states] == ["connecting", "lost", "live"]


def test_another_size_and_codec_come_as_they_are() -> None:
    other = made_feed(width=96, height=64, rate=50, seconds=1, gop=0.2, codec="hevc")
    with RtspServer({"camera": QUICK}) as server, Watcher(quick(server.url())) as watcher:
        watcher.until_state("live")
        server.serve("camera", other)
        watcher.until(lambda: watcher.frames[-1].width == 96)
    assert watcher.frames[0].width == QUICK.width


def test_a_clock_that_jumps_does_not_move_the_time() -> None:
    with RtspServer({"camera": QUICK}) as server, Watcher(quick(server.url(), timeout=5)) as watcher:
        for seconds in (-3600, 86_400):
            watcher.until(lambda: watcher.source.state.name == "live" and len(watcher.frames) % 20 == 10)
            server.jump(seconds)
            goal = len(watcher.frames) + 20
            watcher.until(lambda goal=goal: len(watcher.frames) > goal)  # type: ignore[misc]
    first, last = watcher.frames[0], watcher.frames[-1]
    assert last.time == pytest.approx(last.captured_at - first.captured_at, abs=1.0)
    assert watcher.source.warnings == {}


def test_after_a_loss_on_the_way_pictures_are_damaged_until_the_next_keyframe() -> None:
    feed = made_feed(width=320, height=240, rate=50, seconds=2, gop=0.4)
    with RtspServer({"camera": feed}) as server:
        server.loss = 0.1
        with Watcher(quick(server.url(), transport="udp")) as watcher:
            watcher.until(lambda: len(watcher.frames) > 100)
    marked = [each.damaged for each in watcher.frames]
    assert any(marked) and not all(marked)
    for earlier, later in pairwise(watcher.frames):
        assert later.damaged or not earlier.damaged or later.picture.key_frame
    assert watcher.source.warnings["pictures damaged on the way"] >= sum(marked)


def test_the_password_is_in_no_error_and_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "streamseg")
    said = []
    with RtspServer({"camera": QUICK}, user="admin", password="other") as server:
        for path, login in (("camera", "admin:sesame"), ("none", "admin:sesame")):
            source = Rtsp(server.url(path, login=login), attempts=1)
            with pytest.raises(InputError) as error, source:
                list(source)
            said += [str(error.value), repr(source.state), str(error.value.__cause__)]
            assert error.value.__cause__ is None
    assert "user or password is wrong (401)" in said[0]
    assert not any("sesame" in text or "admin" in text for text in [*said, caplog.text])


def test_motion_jpeg_is_timed_by_its_arrival(tmp_path: Path) -> None:
    with HttpCamera(tmp_path) as camera, Rtsp(camera.url("/secret/mjpeg", login=f"{LOGIN}@")) as source:
        frames = list(islice(source, 20))
    assert frames[-1].time == pytest.approx(frames[-1].captured_at - frames[0].captured_at, abs=1e-6)
    assert (frames[0].width, frames[0].height) == (64, 48)


def test_hls_comes_by_the_segment_and_is_shown_picture_by_picture(tmp_path: Path) -> None:
    with HttpCamera(tmp_path) as camera, Rtsp(camera.url("/live.m3u8")) as source:
        frames = list(islice(source, 31))
    assert frames[30].captured_at - frames[0].captured_at == pytest.approx(1.5, abs=0.45)
    assert frames[30].time == pytest.approx(1.5, abs=0.3)
    assert not any(each.damaged for each in frames)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/clip.mp4", "expected a live stream, got a file; download it, and give the file"),
        ("/still.jpg", "expected a live stream, got a file; download it, and give the file"),
        ("/done.m3u8", "expected a live stream, got a complete playlist of 2 s"),
        ("/page", "given up after 1 attempt: what comes from there is no video"),
        ("/none", "given up after 1 attempt: there is nothing at this path (404)"),
        ("/secret/mjpeg", "given up after 1 attempt: it asks for a user and a password (401)"),
        ("/broken", "given up after 1 attempt: the other end has an error of its own (5xx)"),
    ],
)
def test_what_is_no_live_stream_is_named(tmp_path: Path, path: str, words: str) -> None:
    with HttpCamera(tmp_path) as camera:
        with pytest.raises(InputError) as error, Rtsp(camera.url(path), attempts=1) as source:
            list(source)
        assert str(error.value) == f"{camera.url(path)}: {words}"


def test_an_unknown_host_is_named_as_one() -> None:
    expected = pytest.raises(InputError, match="no host is called camera.invalid$")
    with expected, Rtsp("rtsp://camera.invalid/1", attempts=1) as source:
        list(source)


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that nobody else has signed, in a file, and a server's side of it."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "camera")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = made.add_extension(names, critical=False).sign(key, hashes.SHA256())
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    kind, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, secret)
    return certificate, context


def test_a_certificate_must_be_one_that_is_trusted(tmp_path: Path) -> None:
    certificate, context = self_signed(tmp_path)
    with HttpCamera(tmp_path, certificate=context) as camera:
        url = camera.url("/mjpeg")
        expected = pytest.raises(InputError, match="its certificate is not trusted: self-signed certificate$")
        with expected, Rtsp(url, attempts=1) as source:
            list(source)
        for trusting in (Rtsp(url, certificates=certificate), Rtsp(url, verify=False)):
            with trusting as source:
                assert next(iter(source)).width == 64


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "rtsp://camera:70000/1"}, "source rtsp: rtsp://camera: expected a port from 1 to 65535, got 70000"),
        ({"url": "rtsp:///1"}, "source rtsp: rtsp://: expected a host, got none"),
        ({"url": "rtmp://camera/live"}, "source rtsp: rtmp://camera/live: expected rtmp://HOST/APPLICATION/STREAM"),
        ({"url": "gopher://camera/1"}, "got gopher://…"),
        ({"url": "rtsp://camera/1", "transport": "tpc"}, "transport: expected one of 'tcp', 'udp'"),
        ({"url": "rtsp://camera/1", "timeout": 0}, "timeout: expected 0.1 to 60 s, got 0"),
        ({"url": "rtsp://camera/1", "threads": 0}, "threads: expected 1 or more, got 0"),
        ({"url": "rtsp://camera/1", "attempts": 0}, "attempts: expected 1 or more, or none for no limit, got 0"),
        (
            {"url": "https://camera/1", "certificates": "/none.pem"},
            "certificates: /none.pem: No such file or directory",
        ),
        ({"url": "https://camera/1", "certificates": "/dev/null"}, "/dev/null: expected certificates in PEM form"),
    ],
)
def test_a_wrong_option_fails_at_construction(options: dict, words: str) -> None:
    with pytest.raises(UsageError) as error:
        plugins.build("sources", "rtsp", options)
    assert words in str(error.value)
