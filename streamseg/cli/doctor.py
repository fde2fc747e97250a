"""`streamseg doctor`: what this machine has and lacks, with the command that adds it; and what a camera sends."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamseg.sources._look import Look

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

_HELP = """Say what this machine has and what it lacks, or what a camera sends.

What is missing comes with the command that adds it. Of an address it says codec, size, rate, how far apart the
keyframes are, sound and transport, after a look of some seconds.

Exits with 1 when something is missing without which nothing runs, or when a camera shows nothing.

\b
Examples:
  streamseg doctor
  streamseg doctor 'rtsp://admin:${CAM_PASSWORD}@192.168.1.20/1'
"""

FAR_APART = 4.0
"""Seconds between keyframes from which on they are too far apart: for so long a reconnection shows nothing."""

_CLOSER = "set one every 1 to 2 s in the camera; until the next one, a reconnection shows nothing"


@dataclass(frozen=True)
class Finding:
    """One line: what was looked for, what was found, and how to get it when it is missing.

    needed: nothing runs without it; else it only adds something · hint: what else to do about it.
    """

    what: str
    found: str
    present: bool = True
    fix: str = ""
    needed: bool = False
    hint: str = ""


def doctor(
    addresses: Annotated[
        list[str] | None, typer.Argument(metavar="[ADDRESS]...", help="Of cameras, as of `streamseg run`.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="How long to look at a camera.")] = 5.0,
) -> None:
    findings = [finding for address in addresses or () for finding in camera(address, seconds=seconds)]
    if not addresses:
        findings = [*machine(), *gpu(), *engines(), *codecs(), *gstreamer(), *models()]
    for finding in findings:
        mark = "ok" if finding.present else "MISSING" if finding.needed else "-"
        typer.echo(f"{mark:8}{finding.what:14}{finding.found}")
        if finding.fix and not finding.present:
            typer.echo(f"{'':22}to add it: {finding.fix}")
        if finding.hint and not finding.present:
            typer.echo(f"{'':22}{finding.hint}")
    if any(finding.needed and not finding.present for finding in findings):
        raise typer.Exit(1)


doctor.__doc__ = _HELP


def camera(text: str, *, seconds: float) -> Iterator[Finding]:
    """What comes from an address."""
    from streamseg.sources._live import Finite, Trouble
    from streamseg.sources._look import look
    from streamseg.sources.rtsp import address_of, way_to

    address = address_of(_url_of(text))
    looks: dict[str, Look] = {}
    problems: dict[str, str] = {}
    for transport in ("tcp", "udp") if address.scheme.startswith("rtsp") else ("tcp",):
        try:
            wanted = {"seconds": 0, "num_keyframes": 1} if looks else {"seconds": seconds}
            seen = look(way_to(address, transport=transport), **wanted)
        except (Trouble, Finite) as error:
            problems[transport] = str(error)
            if isinstance(error, Finite) or error.event == "refusal":  # asking again might lock us out
                break
            continue
        if seen is None:
            problems[transport] = "no picture came"
        else:
            looks[transport] = seen
    yield Finding("camera", str(address))
    if looks:
        yield Finding("  transport", " and ".join(looks))
    for transport, why in problems.items():
        yield Finding(f"  {transport}", why, present=False, needed=not looks)
    if looks:
        yield from _seen(next(iter(looks.values())))


def _url_of(text: str) -> str:
    """The address in an INPUT, which may have a name; UsageError where it is none."""
    from streamseg.spelling import expand
    from streamseg.types import UsageError

    source = expand([text])[0].source
    if source is None or source.name != "rtsp":
        raise UsageError("doctor: expected the address of a camera, such as rtsp://HOST/PATH, or nothing")
    return str(source.options["url"])


def _seen(found: Look) -> Iterator[Finding]:
    """The findings of a look."""
    stated = f", said to be {found.stated_rate:g}" if abs(found.stated_rate - found.rate) > 0.05 * found.rate else ""
    yield Finding("  video", f"{found.codec}, {found.width}x{found.height} {found.pixel_format}")
    yield Finding("  rate", f"{found.rate:.3g} pictures a second{stated}; {found.bits_per_second / 1e6:.2g} Mbit/s")
    yield keyframes(found)
    yield Finding("  opened", f"after {found.opened_after:.2f} s; first picture after {found.first_after:.2f} s")
    if found.delayed:
        yield Finding("  B-frames", "pictures wait for later ones; turn them off in the camera", present=False)
    if found.num_damaged:
        yield Finding("  damaged", f"{found.num_damaged} of {found.num_pictures} pictures", present=False)
    yield Finding("  sound", "; ".join(found.sounds) or "none")


def keyframes(found: Look) -> Finding:
    """How far they are apart, and what to do where that is too far."""
    apart = found.keyframes_apart
    if not apart:
        return Finding("  keyframes", "fewer than two in the time of the look", present=False, hint=_CLOSER)
    longest = max(apart)
    text = f"{min(apart):.3g} to {longest:.3g} s apart" if longest > 1.1 * min(apart) else f"{longest:.3g} s apart"
    return Finding("  keyframes", text, present=longest < FAR_APART, hint=_CLOSER)


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
        from streamseg.engines._precision import Cpu

        cpu = Cpu.here()
        yield Finding("openvino", f"{_version('openvino')}; this CPU is quick at {cpu.words}")
        if not cpu.int8:
            yield Finding(
                "int8",
                "this CPU has no VNNI and no AMX; a model's networks in int8 are left aside",
                present=False,
            )
        if not cpu.bf16:
            yield Finding(
                "bf16", "this CPU lacks it; what is not in int8 runs in f32, at half the speed", present=False
            )
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
        yield Finding("gstreamer", "not here; gst:LAUNCH and SRT need it", present=False, fix=GSTREAMER)


def models() -> Iterator[Finding]:
    """The models, and the folder that keeps exports and downloads."""
    from streamseg import zoo

    names = zoo.names()
    yield Finding("models", ", ".join(names) or "none", present=bool(names), needed=True, fix="reinstall streamseg")
    runs = {name: _precision(name) for name in names}
    yield Finding("  run in", ", ".join(f"{name} {precision}" for name, precision in runs.items() if precision))
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


def _precision(model: str) -> str:
    """What the engine for CPUs would compute a model in; nothing where the model cannot be read."""
    from streamseg.engines.openvino import Openvino
    from streamseg.types import StreamsegError

    try:
        return Openvino(model=model).precision
    except StreamsegError:
        return ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
