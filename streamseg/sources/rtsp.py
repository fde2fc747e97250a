"""Watch a camera or a server by its address: RTSP, RTMP, and over HTTP motion JPEG, HLS and whatever else is live."""

from __future__ import annotations

import errno
import os
import ssl
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal

import av

from streamseg.addresses import Address
from streamseg.sources._connection import Way, connect, why_unreachable
from streamseg.sources._live import Arrival, Live
from streamseg.types import UsageError

_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "http": 80, "https": 443}
_ENCRYPTED = ("rtsps", "rtmps", "https")


class Rtsp:
    """`Rtsp("rtsp://admin:${CAM_PASSWORD}@camera/1")` is a live source that comes back by itself.

    url: what stands in `${…}` comes from the environment or, `${file:/PATH}`, from a file · transport: of RTSP; over
    udp pictures come a little sooner and damaged, where packets are lost · timeout: seconds for opening, and without
    data before the connection is given up · attempts: to connect, in a row and in vain, before the stream fails; none
    for no limit · verify: whether an encrypted connection must show a certificate that is trusted · certificates: a
    PEM file with those to trust, such as the camera's own, instead of the machine's · threads: of the decoder, default
    half the cores and at most 4 · name: of the stream, default the host's.

    A file at an http address is no live stream: download it, and give the file.
    """

    schemes = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https")
    metavar = "//HOST/PATH"
    argument = "url"
    live = True

    def __new__(  # type: ignore[misc]
        cls,
        url: str,
        *,
        transport: Literal["tcp", "udp", "udp_multicast", "http"] = "tcp",
        timeout: float = 5.0,
        attempts: int | None = None,
        verify: bool = True,
        certificates: Path | None = None,
        threads: int | None = None,
        name: str | None = None,
    ) -> Live:
        address = address_of(url)
        way = way_to(
            address,
            transport=transport,
            timeout=timeout,
            verify=verify,
            certificates=certificates,
            threads=threads,
        )

        def connected(stopped: threading.Event) -> Generator[Arrival | None, None, None]:
            return connect(way, stopped)

        return Live(connected, name=name or address.host.strip("[]"), called=str(address), attempts=attempts)

    @staticmethod
    def spelled(text: str) -> dict[str, Any]:
        """The options of an address, checked, and kept as it was written: a variable's value stands nowhere else."""
        address_of(text)
        return {"url": text}


def address_of(url: str) -> Address:
    """The address of a camera or a server; UsageError says what is wrong with it."""
    address = Address.parse(url, schemes=Rtsp.schemes)
    if address.scheme.startswith("rtmp") and address.path.count("/") < 2:
        raise UsageError(f"{address}: expected {address.scheme}://HOST/APPLICATION/STREAM")
    return address


def way_to(
    address: Address,
    *,
    transport: str = "tcp",
    timeout: float = 5.0,
    verify: bool = True,
    certificates: Path | None = None,
    threads: int | None = None,
) -> Way:
    """How PyAV opens the address; UsageError names an option that cannot be."""
    if not 0.1 <= timeout <= 60:
        raise UsageError(f"timeout: expected 0.1 to 60 s, got {timeout:g}")
    if threads is not None and threads < 1:
        raise UsageError(f"threads: expected 1 or more, got {threads}")
    options = {"flags": "low_delay"}
    if address.scheme.startswith("rtsp"):
        options |= {"rtsp_transport": transport, "allowed_media_types": "video"}
        # what comes is known from its description; a look at the first seconds would only make them old
        options |= {"analyzeduration": "0", "probesize": "32"}
    else:
        options |= {"analyzeduration": "1000000"}
    context = _trusting(certificates) if verify and address.scheme in _ENCRYPTED else None
    if context is not None:
        options |= {"tls_verify": "1", "ca_file": _file_of(certificates)}

    def explain(error: Exception) -> str | None:
        if isinstance(error, av.HTTPUnauthorizedError):
            return "it asks for a user and a password (401)" if address.user is None else None
        if getattr(error, "errno", None) != errno.EIO:
            return None
        port = address.port or _PORTS[address.scheme]
        return why_unreachable(address.host, port, verify=context, timeout=timeout)

    return Way(
        address.url,
        options=options,
        timeout=timeout,
        threads=threads or max(1, min(4, (os.cpu_count() or 1) // 2)),
        explain=explain,
        may_end=address.scheme.startswith("http"),
        may_lose=address.scheme.startswith("rtsp") and transport.startswith("udp"),
    )


def _trusting(certificates: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=certificates)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if isinstance(error, FileNotFoundError) else "expected certificates in PEM form"
        raise UsageError(f"certificates: {certificates}: {why}") from None


def _file_of(certificates: Path | None) -> str:
    """The file of trusted certificates, because GnuTLS in PyAV knows none by itself."""
    found = certificates or ssl.get_default_verify_paths().cafile
    if found is None:
        raise UsageError("certificates: this machine has no file of trusted ones; name one, or say verify=false")
    return str(found)
