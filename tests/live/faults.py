"""What befalls the tests' camera, as data: how it begins, how it passes, and what the camera shows from then on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.live.feeds import Feed, made_feed
from tests.live.rtsp_server import RtspServer

FEEDS: dict[str, Feed] = {
    "usual": made_feed(rate=25, seconds=2),
    "another size": made_feed(width=128, height=80, rate=25, seconds=2),
    "another codec": made_feed(rate=25, seconds=2, codec="hevc"),
}
"""All with a keyframe every second."""


@dataclass(frozen=True)
class Fault:
    """What happens to the camera, and how it passes; `feed`: what it shows from then on."""

    name: str
    strike: Callable[[RtspServer], None]
    pass_by: Callable[[RtspServer], None]
    feed: str = ""


def _suffered(name: str) -> Fault:
    return Fault(name, lambda server: server.suffer(name), lambda server: server.recover())  # type: ignore[arg-type]


def _restarted(feed: str) -> Fault:
    def strike(server: RtspServer) -> None:
        server.serve("camera", FEEDS[feed])
        server.suffer("killed")

    return Fault(f"restarted on {feed}", strike, lambda server: server.recover(), feed=feed)


def _turned(feed: str) -> Fault:
    """Day and night: the size changes in the session."""

    def strike(server: RtspServer) -> None:
        server.serve("camera", FEEDS[feed], hang_up=False)

    return Fault(f"turned to {feed}", strike, lambda server: None, feed=feed)


def _jumped(seconds: float) -> Fault:
    return Fault(f"clock {seconds:+g} s", lambda server: server.jump(seconds), lambda server: None)


def _lost(share: float) -> Fault:
    def lose(share: float) -> Callable[[RtspServer], None]:
        return lambda server: setattr(server, "loss", share)

    return Fault(f"{share:.0%} lost over UDP", lose(share), lose(0.0))


KINDS: list[Fault] = [
    *map(_suffered, ("killed", "ended", "frozen", "half-open", "silent", "garbage", "unauthorized", "missing")),
    *map(_restarted, FEEDS),
    *map(_jumped, (3600.0, -3600.0, 20.0)),
    _lost(0.3),
]


def faults(number: int, chance: random.Random) -> Iterator[Fault]:
    """As many faults in random order, every kind as often as any other."""
    waiting: list[Fault] = []
    for _ in range(number):
        if not waiting:
            waiting = [*KINDS, *map(_turned, ("usual", "another size"))]
            chance.shuffle(waiting)
        yield waiting.pop()
