"""A few seconds' look at a live stream: what comes, how often, how far apart its keyframes are, and with what sound."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from streamseg.sources._connection import Damage, Way, opened, packets
from streamseg.sources._decoding import stated_rate


@dataclass(frozen=True)
class Look:
    """What was seen.

    opened_after, first_after: seconds until the connection stood, and until the first picture was there · codec: with
    its profile · rate: pictures a second, as counted; stated_rate: as the stream says, 0 where it says nothing ·
    keyframes_apart: seconds between keyframes, one after the other · delayed: pictures wait for later ones
    """

    opened_after: float
    first_after: float
    codec: str
    pixel_format: str
    width: int
    height: int
    rate: float
    stated_rate: float
    keyframes_apart: Sequence[float]
    bits_per_second: float
    num_pictures: int
    num_damaged: int
    delayed: bool
    sounds: Sequence[str]


def look(way: Way, *, seconds: float = 5.0, num_keyframes: int = 2, most: float = 20.0) -> Look | None:
    """What comes in so many seconds, or in up to `most` until so many keyframes came; None without a picture.

    `_live.Trouble` and `_live.Finite` as of every connection.
    """
    began = time.monotonic()
    # sound too, which a camera is not asked for otherwise
    options = {key: value for key, value in way.options.items() if key != "allowed_media_types"}
    with opened(replace(way, options=options)) as container:
        opened_after = time.monotonic() - began
        stream = container.streams.best("video") or container.streams.video[0]
        seen = _Seen(damage=Damage(trusts_marks=True, may_lose=way.may_lose))
        for packet in packets(way, container, stream, threading.Event()):
            if packet is not None:
                seen.take(packet)
            elapsed = time.monotonic() - began - opened_after
            if elapsed >= seconds and (len(seen.keyframes) >= num_keyframes or elapsed >= most):
                break
        if seen.first is None or seen.first_at is None:
            return None
        context = stream.codec_context
        profile = f" ({context.profile})" if context.profile else ""
        return Look(
            opened_after=opened_after,
            first_after=seen.first_at - began,
            codec=f"{context.name}{profile}",
            pixel_format=seen.first.format.name,
            width=seen.first.width,
            height=seen.first.height,
            rate=seen.rate,
            stated_rate=float(stated_rate(stream) or 0),
            keyframes_apart=[later - earlier for earlier, later in pairwise(seen.keyframes)],
            bits_per_second=8 * seen.num_bytes / max(seen.span, 1e-3),
            num_pictures=seen.num_pictures,
            num_damaged=seen.num_damaged,
            delayed=bool(context.has_b_frames),
            sounds=[_sound(each) for each in container.streams.audio],
        )


class _Seen:
    """What the packets so far showed."""

    def __init__(self, *, damage: Damage) -> None:
        self.first: Any = None
        self.first_at: float | None = None
        self.num_bytes = self.num_pictures = self.num_damaged = 0
        self._arrivals: list[tuple[float, bool]] = []
        self._clocked: list[tuple[float, bool]] = []
        self._damage = damage

    def take(self, packet: Any) -> None:
        at = time.monotonic()
        self.num_bytes += packet.size
        for picture in self._damage.decoded(packet):
            if self.first is None:
                self.first, self.first_at = picture, at
            self.num_pictures += 1
            self.num_damaged += self._damage.is_in(picture)
            self._arrivals.append((at, picture.key_frame))
            if picture.time is not None:
                self._clocked.append((picture.time, picture.key_frame))

    @property
    def _times(self) -> list[tuple[float, bool]]:
        """Seconds of the pictures, and which are keyframes: by the camera's clock if it has one, else by arrival."""
        clocked = self._clocked
        if len(clocked) == len(self._arrivals) - 1 > 1:  # RTSP tells no time of the first picture
            step = (clocked[-1][0] - clocked[0][0]) / (len(clocked) - 1)
            return [(clocked[0][0] - step, self._arrivals[0][1]), *clocked]
        return clocked if len(clocked) == len(self._arrivals) else self._arrivals

    @property
    def keyframes(self) -> list[float]:
        return [seconds for seconds, is_keyframe in self._times if is_keyframe]

    @property
    def span(self) -> float:
        seconds = [each for each, _ in self._times]
        return max(seconds) - min(seconds) if seconds else 0.0

    @property
    def rate(self) -> float:
        return (len(self._times) - 1) / self.span if self.span else 0.0


def _sound(stream: Any) -> str:
    context = stream.codec_context
    if context is None:
        return "unknown"
    channels = {1: "mono", 2: "stereo"}.get(context.channels, f"{context.channels} channels")
    return f"{context.name}, {context.sample_rate / 1000:g} kHz, {channels}"
