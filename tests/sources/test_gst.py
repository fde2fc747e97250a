"""GStreamer's pictures arrive as they are, whatever line opens them; what it lacks or refuses is named."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice, pairwise
from statistics import median
from typing import Any

import numpy as np
import pytest

from streamseg import plugins
from streamseg.addresses import Address
from streamseg.sources import gst
from streamseg.sources._live import Live
from streamseg.sources.gst import Gst, line_of, preset
from streamseg.spelling import expand
from streamseg.types import Frame, InputError, UsageError
from tests.live import needs
from tests.live.feeds import made_feed, number_of
from tests.live.rtsp_server import RtspServer


def made(launch: str, **options: Any) -> Live:
    """The source, where GStreamer is; else the test is skipped."""
    needs.gstreamer()
    return Gst(launch, **options)


def pattern(caps: str = "format=I420,width=64,height=48,framerate=25/1", *, options: str = "") -> str:
    return f"videotestsrc is-live=true {options} ! video/x-raw,{caps} ! appsink"


def watched(source: Live, number: int) -> list[Frame]:
    with source:
        return list(islice(source, number))


def test_pictures_come_at_the_pace_of_the_line() -> None:
    source = made(pattern(), name="lab")
    frames = watched(source, 12)
    assert [each.index for each in frames] == list(range(12))
    assert all(earlier.time < later.time for earlier, later in pairwise(frames))
    steps = [later.time - earlier.time for earlier, later in pairwise(frames)]
    assert median(steps) == pytest.approx(1 / 25, abs=0.02)
    assert (source.info.name, source.info.average_rate, source.state.name) == ("lab", 25, "live")


@pytest.mark.parametrize("name", gst._FORMATS)
@pytest.mark.parametrize("width", [64, 66])
def test_every_format_keeps_its_colours(name: str, width: int) -> None:
    # foreground-color in ARGB: red 200, green 80, blue 40
    line = pattern(f"format={name},width={width},height=48", options="pattern=solid-color foreground-color=0xffc85028")
    (frame,) = watched(made(line), 1)
    assert (frame.picture.format.name, frame.width, frame.height) == (gst._FORMATS[name], width, 48)
    rgb = frame.rgb(width, 48).astype(int)
    wanted = [200, 80, 40] if name != "GRAY8" else [rgb[0, 0, 0]] * 3
    assert np.abs(rgb - wanted).max() <= 4


def test_colour_tags_come_along() -> None:
    (frame,) = watched(made(pattern("format=I420,width=64,height=48,colorimetry=bt709")), 1)
    picture = frame.picture
    assert (picture.colorspace, picture.color_primaries, picture.color_trc, picture.color_range) == (1, 1, 1, 1)


def test_pixels_that_are_not_square_are_told() -> None:
    source = made(pattern("format=I420,width=64,height=48,pixel-aspect-ratio=4/3"))
    (frame,) = watched(source, 1)
    assert frame.pixel_aspect == pytest.approx(4 / 3) and source.info.pixel_aspect.denominator == 3


def test_the_end_of_a_line_is_a_loss_from_which_it_comes_back() -> None:
    source = made(pattern(options="num-buffers=3"))
    states = []
    source.on_state = lambda state: states.append((state.name, state.cause))
    frames = watched(source, 5)
    ended = ("lost", "the other end closed the connection")
    assert states == [("connecting", ""), ("live", ""), ended, ("live", "")]
    assert [each.index for each in frames] == [0, 1, 2, 3, 4]


def test_a_line_that_gives_nothing_is_started_anew() -> None:
    source = made("videotestsrc is-live=true ! valve drop=true ! appsink", timeout=0.2, attempts=1)
    with pytest.raises(InputError, match="given up after 1 attempt: nothing came for 0.4 s$"):
        watched(source, 1)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nosuchelement ! appsink", 'gst: no element "nosuchelement"'),
        ("videotestsrc colour=red ! appsink", 'gst: no property "colour" in element "videotestsrc"'),
        ("videotestsrc ! audioconvert ! appsink", "gst: could not link"),
    ],
)
def test_a_line_that_gstreamer_does_not_understand_is_wrong_use(line: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        watched(made(line), 1)
    assert words in str(error.value)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_an_address_of_a_camera_is_enough(codec: Any) -> None:
    feed = made_feed(rate=50, seconds=1, gop=0.2, codec=codec)
    with RtspServer({"camera": feed}, user="admin", password="p@ss/w:rd", digest=True) as server:
        frames = watched(made(server.url(login="admin:p@ss/w:rd")), 20)
    numbers = [number_of(each.picture) for each in frames[-10:]]
    # one after the other; a reader that comes late misses those before the newest
    assert all(1 <= (later - earlier) % 50 <= 10 for earlier, later in pairwise(numbers))
    assert frames[0].stream == "127.0.0.1"


@pytest.mark.parametrize(
    ("path", "login", "state", "cause"),
    [
        ("camera", "admin:sesame", "refused", "user or password is wrong (401)"),
        ("none", "admin:other", "refused", "there is nothing at this path (404)"),
    ],
)
def test_what_a_camera_refuses_is_named_without_the_password(path: str, login: str, state: str, cause: str) -> None:
    with RtspServer({"camera": made_feed()}, user="admin", password="other") as server:
        source = made(server.url(path, login=login), attempts=1)
        with pytest.raises(InputError) as error:
            watched(source, 1)
        assert (source.state.name, source.state.cause) == (state, cause)
        assert str(error.value) == f"rtsp://127.0.0.1:{server.port}/{path}: given up after 1 attempt: {cause}"


SENDER = """
import gi, sys, time
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
line = "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=25/1 ! x264enc tune=zerolatency "
line += "key-int-max=5 ! mpegtsmux ! srtsink uri=srt://127.0.0.1:%s?mode=caller wait-for-connection=false"
Gst.parse_launch(line % sys.argv[1]).set_state(Gst.State.PLAYING)
time.sleep(60)
"""


def test_srt_comes_through_gstreamer() -> None:
    needs.gstreamer()
    from gi.repository import Gst as library

    library.init(None)
    if not library.ElementFactory.find("srtsrc"):
        pytest.skip("this GStreamer has no srtsrc")
    port = free_udp_port()
    sender = subprocess.Popen([sys.executable, "-c", SENDER, str(port)])
    try:
        (frame,) = watched(made(f"srt://127.0.0.1:{port}?mode=listener", timeout=10), 1)
    finally:
        sender.kill()
        sender.wait()
    assert (frame.width, frame.height) == (64, 48)


def free_udp_port() -> int:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def test_what_stands_for_a_variable_is_one_value_whatever_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXT", 'sesame ! "fakesink')
    line = line_of("filesrc location=${TEXT} ! appsink")
    assert line.secrets == ('sesame ! "fakesink',) and 'location=sesame\\ \\!\\ \\"fakesink !' in line.text
    needs.gstreamer()
    from gi.repository import Gst as library

    library.init(None)
    source = next(each for each in library.parse_launch(line.text).children if each.find_property("location"))
    assert source.get_property("location") == 'sesame ! "fakesink'
    with pytest.raises(InputError) as error:
        watched(made("filesrc location=${TEXT} ! decodebin ! appsink", attempts=1), 1)
    assert "given up" in str(error.value) and "sesame" not in str(error.value)


def test_a_line_is_made_for_an_address_and_holds_no_password() -> None:
    address = Address.parse("rtsp://admin:sesame@camera:8554/1?x=y", schemes=gst.SCHEMES)
    line = preset(address)
    assert "sesame" not in line.text and line.text.endswith("! decodebin ! videoconvert ! appsink")
    camera = {"location": "rtsp://camera:8554/1?x=y", "user-id": "admin", "user-pw": "sesame"}
    assert line.properties == {"camera": camera}
    (given,) = expand(["gst:videotestsrc ! appsink"])
    assert given.source and given.source.options == {"launch": "videotestsrc ! appsink"} and given.name == "gst"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"launch": "videotestsrc ! fakesink"}, "expected a launch line that ends in an appsink"),
        ({"launch": ""}, "expected a launch line that ends in an appsink"),
        ({"launch": "srt://:1"}, "srt://: expected a host, got none"),
        ({"launch": "gopher://host/1"}, "expected rtsp://HOST[:PORT]/PATH or rtsps:"),
        ({"launch": "videotestsrc ! appsink", "timeout": 0}, "timeout: expected 0.1 to 60 s, got 0"),
    ],
)
def test_a_line_that_cannot_be_fails_at_construction_without_gstreamer(options: dict, words: str) -> None:
    with pytest.raises(UsageError) as error:
        plugins.build("sources", "gst", options)
    assert words in str(error.value)


def test_a_machine_without_gstreamer_says_what_to_install() -> None:
    """In a Python that finds no gi, whether it is installed here or not."""
    code = (
        "import sys; sys.modules['gi'] = None\n"
        "import importlib.util; importlib.util.find_spec = lambda name: None\n"
        "from streamseg.sources.gst import Gst\n"
        "Gst('videotestsrc ! appsink')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "gst: GStreamer's Python bindings are not installed; `streamseg doctor` says how to add them" in ran.stderr


def test_nothing_of_gstreamer_is_loaded_before_a_stream_begins() -> None:
    code = "import streamseg.sources.gst as gst, sys; gst.line_of('x ! appsink'); print('gi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
