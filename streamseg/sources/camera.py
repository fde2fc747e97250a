"""Watch a camera of this machine: one on USB, or whatever else is a video device."""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import av

from streamseg.sources._connection import Way, connect
from streamseg.sources._live import Arrival, Live
from streamseg.types import UsageError

_V4L2 = "v4l2"
_CAUSES = {
    errno.ENOENT: "no such device; is the camera plugged in?",
    errno.ENODEV: "the camera was unplugged",
    errno.ENXIO: "there is no camera behind this device",
    errno.EBUSY: "busy: another program has the camera",
    errno.EACCES: "no permission; a user needs to be in the group video",
    errno.ENOTTY: "this device is no camera",
    errno.EINVAL: "the camera cannot do what was asked of it; try another size, fps or pixel_format",
}


class Camera:
    """`Camera(0)` is `/dev/video0` as a live source; one that is absent or busy is waited for.

    device: its number, or the path of a device such as one in /dev/v4l/by-id, which stays the same · size: WIDTHxHEIGHT
    · fps · pixel_format: yuyv422, mjpeg, …; each of these three as the camera itself likes where it is not given ·
    timeout: seconds without a picture after which it is opened anew · attempts: to open it, in a row and in vain,
    before the stream fails; none for no limit · format: of the device in FFmpeg's words, such as lavfi, whose device
    is a filter graph · name: of the stream, default the device's.
    """

    schemes = ("camera",)
    metavar = "0"
    argument = "device"
    live = True

    def __new__(  # type: ignore[misc]
        cls,
        device: int | str = 0,
        *,
        size: str | None = None,
        fps: float | None = None,
        pixel_format: str | None = None,
        timeout: float = 5.0,
        attempts: int | None = None,
        format: str = _V4L2,
        name: str | None = None,
    ) -> Live:
        _check_format(format)
        path = _path_of(device) if format == _V4L2 else str(device)
        if not 0.1 <= timeout <= 60:
            raise UsageError(f"timeout: expected 0.1 to 60 s, got {timeout:g}")
        options = _options(size=size, fps=fps, pixel_format=pixel_format)
        on_open = (lambda container: _unblock(path)) if format == _V4L2 else None
        way = Way(path, format=format, options=options, timeout=timeout, explain=_in_words, on_open=on_open)

        def connected(stopped: threading.Event) -> Generator[Arrival | None, None, None]:
            return connect(way, stopped)

        named = name or (Path(path).name if format == _V4L2 else format)
        return Live(connected, name=named, called=f"camera:{device}", attempts=attempts)

    @staticmethod
    def spelled(text: str) -> dict[str, Any]:
        """The options of `0` or `/dev/video0`; nothing stands for the first camera."""
        return {"device": int(text) if text.isdecimal() else text} if text else {}


def _path_of(device: int | str) -> str:
    """The device file; UsageError for what can never be one. One that is absent may still come."""
    text = str(device)
    if re.fullmatch(r"\d{1,3}", text):
        return f"/dev/video{int(text)}"
    if not text.startswith("/"):
        raise UsageError(f"camera:{text}: expected a number such as 0, or a path such as /dev/video0")
    try:
        kind = os.stat(text).st_mode
    except OSError:
        return text
    if not stat.S_ISCHR(kind):
        raise UsageError(f"camera:{text}: expected a video device, got a {'folder' if stat.S_ISDIR(kind) else 'file'}")
    return text


def _check_format(name: str) -> None:
    try:
        av.format.ContainerFormat(name, "r")
    except ValueError:
        raise UsageError(f"format: the FFmpeg inside PyAV reads no {name!r}; it is v4l2 for cameras") from None


def _options(*, size: str | None, fps: float | None, pixel_format: str | None) -> dict[str, str]:
    if size is not None and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", size):
        raise UsageError(f"size: expected WIDTHxHEIGHT such as 1280x720, got {size!r}")
    if fps is not None and not 0 < fps <= 1000:
        raise UsageError(f"fps: expected more than 0 and at most 1000 pictures a second, got {fps:g}")
    if pixel_format is not None and not re.fullmatch(r"\w+", pixel_format):
        raise UsageError(f"pixel_format: expected a name such as yuyv422 or mjpeg, got {pixel_format!r}")
    asked = {"video_size": size, "framerate": None if fps is None else f"{fps:g}", "input_format": pixel_format}
    # the device says what comes; looking at the first pictures would only make them old
    return {"analyzeduration": "0", "probesize": "32"} | {key: text for key, text in asked.items() if text is not None}


def _in_words(error: Exception) -> str | None:
    return _CAUSES.get(getattr(error, "errno", None) or 0)


def _unblock(path: str) -> None:
    """Lets a read of the device return while there is no picture: FFmpeg would wait for one for ever, deaf to us."""
    own = Path("/proc/self/fd")
    device = os.path.realpath(path)
    for each in own.iterdir() if own.is_dir() else ():
        if each.is_symlink() and os.path.realpath(each) == device:
            os.set_blocking(int(each.name), False)
