"""Watch what GStreamer opens: a launch line that ends in an appsink, or an address; decoded in hardware if it can."""

from __future__ import annotations

import importlib.util
import re
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np

from streamseg.addresses import Address, filled
from streamseg.sources._live import Arrival, Live, Trouble
from streamseg.types import UsageError
from streamseg.words import without_credentials

SCHEMES = ("rtsp", "rtsps", "srt")
"""Of the addresses for which the launch line is known here."""

MISSING = (
    "GStreamer's Python bindings are not installed; `streamseg doctor` says how to add them, with GStreamer itself"
)

# GStreamer's formats whose planes stand in memory as FFmpeg's do.
_FORMATS = {
    "I420": "yuv420p",
    "NV12": "nv12",
    "NV21": "nv21",
    "Y42B": "yuv422p",
    "Y444": "yuv444p",
    "I420_10LE": "yuv420p10le",
    "P010_10LE": "p010le",
    "YUY2": "yuyv422",
    "UYVY": "uyvy422",
    "GRAY8": "gray",
    "RGB": "rgb24",
    "BGR": "bgr24",
    "RGBA": "rgba",
    "BGRA": "bgra",
    "RGBx": "rgb0",
    "BGRx": "bgr0",
}
# Seconds that one look for a picture takes at most, so that an interruption is heard.
_LOOK = 0.1
# A picture that nobody has fetched when this many wait is dropped: the newest count.
_MOST_WAITING = 4
_SECOND = 1_000_000_000
# What may stand in a value of a launch line as it is.
_PLAIN = re.compile(r"([^\w.-])")


@dataclass(frozen=True)
class Line:
    """A launch line.

    properties: what is set beside it, {element: {property: value}} · secrets: what no message may tell · address: that
    it was made for
    """

    text: str
    properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    hardware: bool = True
    address: Address | None = None


class Gst:
    """`Gst("rtspsrc location=… ! decodebin ! videoconvert ! appsink")` is a live source; so is `Gst("srt://host:9000")`.

    launch: any launch line that ends in an appsink, or an address of rtsp, rtsps or srt, for which it is made here;
    what stands in `${…}` is filled in · hardware: decoders in hardware, where GStreamer has some, before all others ·
    timeout: seconds without a picture before the pipeline is started anew, and twice as many for the first · attempts:
    to start it, in a row and in vain, before the stream fails; none for no limit · name: of the stream.
    """

    schemes = ("gst",)
    metavar = "LAUNCH"
    argument = "launch"
    live = True

    def __new__(  # type: ignore[misc]
        cls,
        launch: str,
        *,
        hardware: bool = True,
        timeout: float = 5.0,
        attempts: int | None = None,
        name: str | None = None,
    ) -> Live:
        if not 0.1 <= timeout <= 60:
            raise UsageError(f"timeout: expected 0.1 to 60 s, got {timeout:g}")
        line = line_of(launch, hardware=hardware)
        if not importlib.util.find_spec("gi"):
            raise UsageError(f"gst: {MISSING}")

        def connected(stopped: threading.Event) -> Generator[Arrival | None, None, None]:
            return _connect(line, stopped, timeout=timeout)

        called = str(line.address or f"gst:{line.text.split()[0]}")
        named = name or (line.address.host.strip("[]") if line.address else "gst")
        return Live(connected, name=named, called=called, attempts=attempts)


def line_of(text: str, *, hardware: bool = True) -> Line:
    """The launch line that the text is or, for an address, asks for; UsageError where it cannot be one."""
    if re.match(r"\$\{[^}]*\}$|[A-Za-z][A-Za-z0-9+.-]*://", text):
        address = Address.parse(text, schemes=SCHEMES)
        return preset(address, hardware=hardware)
    secrets: list[str] = []

    def escaped(value: str) -> str:
        secrets.append(value)
        return _PLAIN.sub(r"\\\1", value)

    line = filled(text, escaped)
    last = text.rpartition("!")[2].split()
    if not last or last[0] != "appsink":
        raise UsageError("gst: expected a launch line that ends in an appsink, such as `… ! videoconvert ! appsink`")
    return Line(line, secrets=tuple(value for value in secrets if len(value) > 3), hardware=hardware)


def preset(address: Address, *, hardware: bool = True) -> Line:
    """The launch line of an address: RTSP over TCP without a delay of its own, or SRT; the video alone, decoded."""
    rest = "decodebin ! videoconvert ! appsink"
    if address.scheme == "srt":
        own: dict[str, Any] = {"uri": address.url}
        return Line(f"srtsrc name=camera ! {rest}", {"camera": own}, address.secrets, hardware, address)
    place = Address(address.scheme, address.host, address.port, address.path).url
    own = {"location": place, "user-id": address.user, "user-pw": address.password}
    own = {key: value for key, value in own.items() if value is not None}
    text = f"rtspsrc name=camera protocols=tcp latency=0 ! application/x-rtp,media=video ! {rest}"
    return Line(text, {"camera": own}, address.secrets, hardware, address)


def _connect(line: Line, stopped: threading.Event, *, timeout: float) -> Generator[Arrival | None, None, None]:
    """The pictures of one run of the pipeline, as `_live.Connect` promises."""
    with _playing(line) as (pipeline, sink):
        bus, since, patience = pipeline.get_bus(), time.monotonic(), 2 * timeout
        while not stopped.is_set():
            sample = sink.try_pull_sample(int(_LOOK * _SECOND))
            if sample is not None:
                _let_go(bus)
                yield _arrival(sample)
                since, patience = time.monotonic(), timeout
                continue
            if _is_over(bus, line):
                return
            if time.monotonic() - since >= patience:
                raise Trouble("silence", f"nothing came for {patience:g} s")
            yield None


@contextmanager
def _playing(line: Line) -> Iterator[tuple[Any, Any]]:
    """The pipeline under way and its appsink; stopped at the end."""
    gst = _gstreamer()
    if line.hardware:
        _prefer_hardware()
    try:
        pipeline = gst.parse_launch(line.text)
    except _glib().Error as error:
        raise UsageError(f"gst: {_clean(error.message, line)}") from None
    elements = pipeline.children if isinstance(pipeline, gst.Bin) else [pipeline]
    sinks = [element for element in elements if element.get_factory().get_name() == "appsink"]
    if not sinks:
        raise UsageError("gst: expected a launch line that ends in an appsink")
    for name, properties in line.properties.items():
        for key, value in properties.items():
            pipeline.get_by_name(name).set_property(key, value)
    sink = sinks[-1]
    sink.set_properties(max_buffers=_MOST_WAITING, drop=True, sync=False)
    if sink.get_property("caps") is None:
        sink.set_property("caps", gst.Caps.from_string(f"video/x-raw,format={{{','.join(_FORMATS)}}}"))
    if isinstance(pipeline, gst.Bin):
        pipeline.connect("deep-element-added", _mend)
    try:
        pipeline.set_state(gst.State.PLAYING)
        yield pipeline, sink
    finally:
        pipeline.set_state(gst.State.NULL)


def _mend(pipeline: Any, parent: Any, element: Any) -> None:
    """After a loss on the way, pictures are left out until the next keyframe, where an element can do that."""
    for name in ("wait-for-keyframe", "request-keyframe"):
        if element.find_property(name):
            element.set_property(name, True)


def _let_go(bus: Any) -> None:
    """Forget what the pipeline says beside its end: nobody reads it, and it would pile up."""
    while (message := bus.peek()) is not None and not message.type & _ends():
        bus.pop()


@cache
def _ends() -> Any:
    """The messages that say that a stream is over."""
    kinds = _gstreamer().MessageType
    return kinds.ERROR | kinds.EOS


def _is_over(bus: Any, line: Line) -> bool:
    """Whether the stream has ended; `Trouble` where it failed."""
    gst = _gstreamer()
    message = bus.pop_filtered(_ends())
    if message is None or message.type == gst.MessageType.EOS:
        return message is not None
    error, details = message.parse_error()
    denied = error.matches(gst.ResourceError.quark(), gst.ResourceError.NOT_AUTHORIZED)
    absent = error.matches(gst.ResourceError.quark(), gst.ResourceError.NOT_FOUND)
    denied |= bool(re.search(r"\b(401|403)\b|Unauthorized", f"{error.message} {details}"))
    if denied:
        raise Trouble("refusal", "user or password is wrong (401)")
    if absent:
        raise Trouble("refusal", "there is nothing at this path (404)")
    raise Trouble("loss", _clean(error.message, line).rstrip("."))


def _clean(text: str, line: Line) -> str:
    for secret in line.secrets:
        text = text.replace(secret, "…")
    return without_credentials(text)


def _arrival(sample: Any) -> Arrival:
    gst, video = _gstreamer(), _gst_video()
    buffer, info = sample.get_buffer(), video.VideoInfo.new_from_caps(sample.get_caps())
    at = time.monotonic()
    return Arrival(
        _picture(buffer, info),
        at,
        pts=None if buffer.pts == gst.CLOCK_TIME_NONE else buffer.pts / _SECOND,
        damaged=buffer.has_flags(gst.BufferFlags.CORRUPTED),
        rate=Fraction(info.fps_n, info.fps_d) if info.fps_n and info.fps_d else None,
        pixel_aspect=Fraction(info.par_n or 1, info.par_d or 1),
    )


def _picture(buffer: Any, info: Any) -> av.VideoFrame:
    """The picture copied plane by plane, with its colour tags."""
    video = _gst_video()
    picture = av.VideoFrame(info.width, info.height, _FORMATS[info.finfo.name])
    meta = (
        video.buffer_get_video_meta(buffer) or info
    )  # which says where planes are, if they are not at their usual place
    memory = buffer.extract_dup(0, buffer.get_size())
    planes: tuple[Any, ...] = picture.planes  # buffers, which their types do not say
    for number, plane in enumerate(planes):
        stride, offset, height = meta.stride[number], meta.offset[number], plane.height
        width = min(stride, plane.line_size, len(memory) - offset - (height - 1) * stride)
        target = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
        target[:, :width] = np.ndarray((height, width), np.uint8, memory, offset, (stride, 1))
    colours = info.colorimetry
    picture.color_range = {video.VideoColorRange(1): 2, video.VideoColorRange(2): 1}.get(colours.range, 0)
    with suppress(ValueError):
        picture.colorspace = video.video_color_matrix_to_iso(colours.matrix) or 2
        picture.color_primaries = video.video_color_primaries_to_iso(colours.primaries) or 2
        picture.color_trc = video.video_transfer_function_to_iso(colours.transfer) or 2
    return picture


@cache
def _gstreamer() -> Any:
    """GStreamer, ready; UsageError where it is not installed."""
    try:
        import gi

        for name in ("Gst", "GstApp", "GstVideo"):
            gi.require_version(name, "1.0")
        from gi.repository import Gst as gst
        from gi.repository import GstApp  # noqa: F401  # gives an appsink its methods
    except (ImportError, ValueError) as error:
        raise UsageError(f"gst: {MISSING} ({error})") from None
    gst.init(None)
    return gst


@cache
def _glib() -> Any:
    _gstreamer()
    from gi.repository import GLib

    return GLib


@cache
def _gst_video() -> Any:
    _gstreamer()
    from gi.repository import GstVideo

    return GstVideo


@cache
def _prefer_hardware() -> None:
    """Decoders in hardware that GStreamer found on this machine are taken before those in software."""
    gst = _gstreamer()
    kind = gst.ELEMENT_FACTORY_TYPE_DECODER | gst.ELEMENT_FACTORY_TYPE_MEDIA_VIDEO
    for factory in gst.ElementFactory.list_get_elements(kind, gst.Rank.NONE):
        if "Hardware" in factory.get_metadata("klass"):
            factory.set_rank(gst.Rank.PRIMARY + 64)
