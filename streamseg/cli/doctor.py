"""`streamseg doctor`: what this machine has, what it lacks, and the command that adds it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

GSTREAMER = (
    "apt-get install -y --no-install-recommends python3-gi python3-gst-1.0 gir1.2-gst-plugins-base-1.0 "
    "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-tools gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav "
    "gstreamer1.0-rtsp gstreamer1.0-nice libgirepository1.0-dev libcairo2-dev pkg-config gobject-introspection "
    '&& pip install "streamseg[gstreamer]"'
)
ENCODERS = {
    "h264": ("libx264", "h264_nvenc"),
    "h265": ("libx265", "hevc_nvenc"),
    "av1": ("libsvtav1", "av1_nvenc"),
    "vp9": ("libvpx-vp9",),
}
UNDER_THE_GPL = ("libx264", "libx265")

_HELP = """Say what this machine has and what it lacks.

What is missing comes with the command that adds it.

Exits with 1 when something is missing without which nothing runs.

\b
Example:
  streamseg doctor
"""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked for, what was found, and how to get it when it is missing.

    needed: nothing runs without it; else it only adds something.
    """

    what: str
    found: str
    present: bool = True
    fix: str = ""
    needed: bool = False


def doctor() -> None:
    findings = [*machine(), *gpu(), *engines(), *codecs(), *gstreamer(), *models()]
    for finding in findings:
        mark = "ok" if finding.present else "MISSING" if finding.needed else "-"
        typer.echo(f"{mark:8}{finding.what:14}{finding.found}")
        if finding.fix and not finding.present:
            typer.echo(f"{'':22}to add it: {finding.fix}")
    if any(finding.needed and not finding.present for finding in findings):
        raise typer.Exit(1)


doctor.__doc__ = _HELP


def machine() -> Iterator[Finding]:
    """Python, cores and memory."""
    from streamseg import __version__

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("streamseg", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    memory = ""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory"
    yield Finding("machine", f"{cores} cores{memory}")


def gpu() -> Iterator[Finding]:
    """An NVIDIA driver, and TensorFlow's libraries for it. TensorFlow itself is not imported."""
    from streamseg.engines.auto import nvidia_driver

    if not nvidia_driver():
        yield Finding("GPU", "no NVIDIA GPU with a driver; models run on the CPU", present=False)
        return
    kernel = Path("/proc/driver/nvidia/version")
    words = kernel.read_text().split() if kernel.is_file() else []
    yield Finding(
        "GPU", f"NVIDIA, driver {next((word for word in words if word[0].isdigit() and '.' in word), 'loaded')}"
    )
    if _version("nvidia-cudnn-cu12") or _version("nvidia-cudnn-cu13"):
        yield Finding("CUDA", "TensorFlow's CUDA libraries are installed")
    else:
        yield Finding("CUDA", "TensorFlow has no CUDA libraries", present=False, fix='pip install "streamseg[gpu]"')


def engines() -> Iterator[Finding]:
    """OpenVINO with the precisions of this CPU, and Keras' backends."""
    if _version("openvino"):
        import openvino

        core = openvino.Core()
        abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precisions = [name.lower() for name in ("FP32", "BF16", "FP16", "INT8") if name in abilities]
        devices = ", ".join(core.available_devices)
        yield Finding("openvino", f"{_version('openvino')} on {devices}; this CPU computes in {', '.join(precisions)}")
        if "BF16" not in abilities:
            yield Finding("bf16", "this CPU lacks it; the models run in fp32, at about half the speed", present=False)
    else:
        yield Finding("openvino", "the engine for CPUs", present=False, fix="pip install openvino", needed=True)
    backends = [f"{name} {version}" for name in ("tensorflow", "jax", "torch") if (version := _version(name))]
    if _version("keras") and backends:
        yield Finding("keras", f"{_version('keras')} on {', '.join(backends)}")
    else:
        yield Finding(
            "keras",
            "no backend for training and export",
            present=False,
            fix="pip install keras tensorflow",
            needed=True,
        )


def codecs() -> Iterator[Finding]:
    """The encoders inside PyAV, and which parts of its FFmpeg are under the GPL."""
    import av

    here = av.codecs_available
    yield Finding("video", f"PyAV {av.__version__} with FFmpeg {av.ffmpeg_version_info}")
    for codec, encoders in ENCODERS.items():
        found = [encoder for encoder in encoders if encoder in here]
        usable = [f"{name} (needs an NVIDIA GPU)" if "nvenc" in name else name for name in found]
        yield Finding(
            f"  {codec}", ", ".join(usable) or "no encoder", present=bool(found), fix="pip install --force-reinstall av"
        )
    parts = [name for name in UNDER_THE_GPL if name in here]
    if parts:
        yield Finding(
            "  licence", f"{' and '.join(parts)} inside PyAV are under the GPL; streamseg ships none of it (NOTICE)"
        )


def gstreamer() -> Iterator[Finding]:
    """GStreamer with its Python bindings, for what needs it."""
    try:
        import gi

        gi.require_version("Gst", "1.0")
        from gi.repository import Gst

        yield Finding("gstreamer", Gst.version_string())
    except (ImportError, ValueError):
        yield Finding("gstreamer", "not here; nothing in this version needs it", present=False, fix=GSTREAMER)


def models() -> Iterator[Finding]:
    """The models, and the folder that keeps exports and downloads."""
    from streamseg import zoo

    names = zoo.names()
    yield Finding("models", ", ".join(names) or "none", present=bool(names), needed=True, fix="reinstall streamseg")
    folder = zoo.cache_folder()
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    writable = os.access(existing, os.W_OK)
    yield Finding(
        "cache",
        f"{folder}, {num_bytes / 1e6:.0f} MB" if writable else f"{folder} cannot be written; every start exports anew",
        present=writable,
        fix="set XDG_CACHE_HOME to a folder of yours",
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
