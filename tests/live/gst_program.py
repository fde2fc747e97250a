"""Serves the files of `gst_server.py` by gst-rtsp-server until killed; run by the system's Python, without PyAV."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

NAMES = {"h264": ("h264", "rtph264pay"), "hevc": ("h265", "rtph265pay")}


class Feed(GstRtspServer.RTSPMediaFactory):
    """One shared mount, whose pictures go into an appsrc as it asks for them."""

    def __init__(self, described: dict[str, Any]) -> None:
        super().__init__()
        self.pictures = _pictures(described["path"])
        numerator, denominator = described["rate"]
        self.duration = Gst.SECOND * denominator // numerator
        name, payloader = NAMES[described["codec"]]
        # config-interval=0: with parameter sets before each picture, readers would see half of a keyframe as a picture
        self.set_launch(
            f"( appsrc name=feed is-live=true format=time block=true caps=video/x-{name},stream-format=byte-stream,"
            f"alignment=au,framerate={numerator}/{denominator} ! {name}parse "
            f"! {payloader} name=pay0 config-interval=0 )"
        )
        self.set_shared(True)
        self.connect("media-configure", self._configured)

    def _configured(self, _: object, media: GstRtspServer.RTSPMedia) -> None:
        feed = media.get_element().get_by_name_recurse_up("feed")
        feed.index = 0
        feed.connect("need-data", self._push)

    def _push(self, feed: Gst.Element, _: int) -> None:
        buffer = Gst.Buffer.new_wrapped(self.pictures[feed.index % len(self.pictures)])
        buffer.pts = buffer.dts = feed.index * self.duration
        buffer.duration = self.duration
        feed.index += 1
        feed.emit("push-buffer", buffer)


def _pictures(path: str) -> list[bytes]:
    data = Path(path).read_bytes()
    pictures, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        pictures.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return pictures


def _login(server: GstRtspServer.RTSPServer, user: str, password: str) -> None:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", user)
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)


def main() -> None:
    Gst.init(None)
    settings = json.loads(sys.argv[1])
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(settings["port"]))
    server.get_thread_pool().set_max_threads(8)
    if settings["user"]:
        _login(server, settings["user"], settings["password"])
    for name, described in settings["mounts"].items():
        feed = Feed(described)
        if settings["user"]:
            permissions = GstRtspServer.RTSPPermissions()
            for what in ("access", "construct"):
                permissions.add_permission_for_role(settings["user"], f"media.factory.{what}", True)
            feed.set_permissions(permissions)
        server.get_mount_points().add_factory(f"/{name}", feed)
    server.attach(None)
    GLib.MainLoop().run()


main()
