"""A camera over HTTP for tests: motion JPEG, HLS, and what is at such addresses instead of a camera."""

from __future__ import annotations

import ssl
import threading
import time
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import av

from tests.clips import make_clip, numbered_picture

SIZE = {"width": 64, "height": 48}


def jpeg(index: int) -> bytes:
    """A numbered picture as a JPEG."""
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, "yuvj420p", Fraction(1, 10)
    picture = numbered_picture(index, **SIZE, pix_fmt="yuvj420p")
    picture.pts, picture.time_base = 0, Fraction(1, 10)
    return b"".join(bytes(packet) for packet in encoder.encode(picture))


class HttpCamera:
    """A server on a free port of loopback, while its `with` block lasts.

    `/mjpeg`: 20 pictures a second · `/live.m3u8`: segments of half a second · `/done.m3u8`: a playlist that is
    complete · `/clip.mp4`, `/still.jpg`, `/page`: files · `/secret/mjpeg`: for admin with the password p@ss/w:rd ·
    `/broken`: an error of its own · `num_asked`: how often somebody asked for anything
    """

    def __init__(self, folder: Path, *, certificate: ssl.SSLContext | None = None, audio: str | None = None) -> None:
        segment = make_clip(folder / "segment.ts", num_frames=10, rate=20, gop=10, audio=audio, **SIZE)
        clip = make_clip(folder / "clip.mp4", num_frames=5, **SIZE)
        self.files = {
            "/segment.ts": segment.read_bytes(),
            "/clip.mp4": clip.read_bytes(),
            "/still.jpg": jpeg(0),
            "/page": b"<html><body>Welcome to your camera</body></html>",
        }
        self.began = time.monotonic()
        self.num_asked = 0
        self.stopped = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Answer)
        self._server.camera = self
        self.scheme = "http" if certificate is None else "https"
        if certificate is not None:
            self._server.socket = certificate.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str, *, login: str = "") -> str:
        return f"{self.scheme}://{login}127.0.0.1:{self._server.server_port}{path}"

    def playlist(self, *, complete: bool) -> bytes:
        """Four segments, of which the first is a later one every half second."""
        first = 0 if complete else int((time.monotonic() - self.began) * 2)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        lines += ["#EXT-X-DISCONTINUITY\n#EXTINF:0.5,\n/segment.ts"] * 4 + ["#EXT-X-ENDLIST"] * complete
        return "\n".join(lines).encode() + b"\n"


class _Server(ThreadingHTTPServer):
    camera: HttpCamera

    def handle_error(self, request: object, address: object) -> None:
        pass  # a client that hangs up in the middle, or dislikes the certificate


class _Answer(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        camera = self.server.camera
        camera.num_asked += 1
        if self.path.endswith("/mjpeg") and self._may_enter():
            self._stream()
        elif self.path.startswith("/secret"):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
        elif self.path.endswith(".m3u8"):
            complete = self.path == "/done.m3u8"
            self._send(camera.playlist(complete=complete), kind="application/vnd.apple.mpegurl")
        elif self.path in camera.files:
            self._send(camera.files[self.path])
        else:
            self.send_error(500 if self.path == "/broken" else 404)

    def _may_enter(self) -> bool:
        # base64 of admin:p@ss/w:rd
        given = self.headers["Authorization"] == "Basic YWRtaW46cEBzcy93OnJk"
        return given or not self.path.startswith("/secret")

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        index = 0
        while not self.server.camera.stopped.wait(0.05):
            picture = jpeg(index)
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            self.wfile.write(head.encode() + picture + b"\r\n")
            index += 1

    def _send(self, body: bytes, *, kind: str = "application/octet-stream") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
