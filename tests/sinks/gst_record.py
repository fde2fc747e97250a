"""Takes a stream at rtsp://127.0.0.1:PORT/live/stream by gst-rtsp-server, and prints a line for every picture.

Run by the system's Python, which has its bindings.
"""

from __future__ import annotations

import sys
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[1])
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
    end = "fakesink name=end signal-handoffs=true sync=false"
    factory.set_launch(f"( rtph264depay name=depay0 ! h264parse ! avdec_h264 ! {end} )")
    factory.connect("media-configure", _configured)
    server.get_mount_points().add_factory("/live/stream", factory)
    server.attach(None)
    print("listening", flush=True)
    GLib.MainLoop().run()


def _configured(_: Any, media: Any) -> None:
    end = media.get_element().get_by_name_recurse_up("end")
    end.connect("handoff", lambda *_: print("picture", flush=True))


main()
