"""Programs that a test needs and pip cannot install: without one it is skipped, or fails where all must be there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from functools import lru_cache
from typing import NoReturn

import pytest

ALL_THERE = "STREAMSEG_TESTS_SKIP_NO_PROGRAM"
"""Set by `.ci/run` once it has installed them: then one that is missing is a failure."""

GST_RTSP_SERVER = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
SYSTEM_PYTHON = "/usr/bin/python3"


def program(*names: str) -> str:
    """The path of the first of these programs that is installed."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    return found or _missing(f"{' or '.join(names)} is not installed")


def mosquitto() -> str:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin") or program("mosquitto")


def chromium() -> str:
    return program("chromium", "chromium-browser", "google-chrome")


def gstreamer() -> None:
    """GStreamer inside this Python, for what streamseg itself does with it."""
    if not importlib.util.find_spec("gi"):
        _missing("PyGObject is not installed in this Python")


def gst_python() -> str:
    """A Python that has gst-rtsp-server: the system's, whose bindings the distribution brings."""
    return SYSTEM_PYTHON if _has_gst_rtsp_server() else _missing("gst-rtsp-server's bindings are not installed")


@lru_cache
def _has_gst_rtsp_server() -> bool:
    try:
        return not subprocess.run([SYSTEM_PYTHON, "-c", GST_RTSP_SERVER], capture_output=True, timeout=60).returncode
    except OSError:
        return False


def _missing(what: str) -> NoReturn:
    if os.environ.get(ALL_THERE):
        pytest.fail(f"{what}, and {ALL_THERE} says that nothing is missing here")
    pytest.skip(what)
