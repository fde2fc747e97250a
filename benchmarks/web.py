"""What ten viewers of the page cost the pipeline: frames a second with and without them, in turns of one run.

    python benchmarks/web.py

The pipeline is `people` on a moving 720p pattern, tracked, counted and drawn, as fast as it can, so that it needs all
cores and whatever the viewers cost comes out of its own time. A camera leaves it time of its own: there viewers cost it
nothing. The viewers are a process of the lowest rank, as they would be on other machines, and read all that they are
sent. They watch the whole time or not at all; turns with and without them alternate, since a machine may be busier at
one time than at another, and each turn is compared with the two beside it.

Exit code 1 if the viewers cost more than 5 % of the frames a second, at the median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time

from streamseg.counters.per_class import PerClass
from streamseg.effects.labels import Labels
from streamseg.effects.overlay import Overlay
from streamseg.engines.auto import Auto
from streamseg.flow.pipeline import Pipeline
from streamseg.flow.stream import Stream
from streamseg.server.hub import Hub
from streamseg.server.server import Server
from streamseg.sources.test_pattern import TestPattern
from streamseg.trackers.mask_iou import MaskIou

NAME = "street"
SECONDS_TO_SETTLE = 1.0  # after a change, before it is measured
LIMIT = 0.05


async def view(url: str, num: int, width: int) -> None:
    """`num` viewers that watch or do not, as lines on stdin say; prints how many pictures came since the last line."""
    from websockets.asyncio.client import connect

    num_pictures = 0

    async def read(socket: object) -> None:
        nonlocal num_pictures
        async for message in socket:  # type: ignore[attr-defined]
            num_pictures += isinstance(message, bytes)

    sockets = [await connect(url, max_size=None) for _ in range(num)]
    reading = [asyncio.create_task(read(socket)) for socket in sockets]
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(num_pictures, flush=True)
        num_pictures = 0
        for socket in sockets:
            await socket.send(json.dumps({"watch": [NAME] if line.strip() == "watch" else [], "width": width}))
    for task in reading:
        task.cancel()


class Viewers:
    """The process that views; `watch` says whether it looks, and returns how many pictures came before."""

    def __init__(self, url: str, num: int, width: int) -> None:
        command = [sys.executable, __file__, "--view", url, "--viewers", str(num), "--width", str(width)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.nice(19)
        )

    def watch(self, yes: bool) -> int:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("watch\n" if yes else "rest\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def measured(pipeline: Pipeline, seconds: float) -> tuple[float, float]:
    """Frames a second of the next seconds, and the CPU seconds of this process for each frame."""

    def now() -> tuple[float, float, int]:
        return time.monotonic(), time.process_time(), pipeline.summary().streams[NAME].written

    time.sleep(SECONDS_TO_SETTLE)
    began = now()
    time.sleep(seconds)
    took, cpu, num = (after - before for after, before in zip(now(), began, strict=True))
    return num / took, cpu / max(1, num)


def costs(values: list[float]) -> list[float]:
    """By what share each turn with viewers (every second one) lies under the mean of the two beside it."""
    return [1 - values[i] / statistics.mean((values[i - 1], values[i + 1])) for i in range(1, len(values) - 1, 2)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--turns", type=int, default=12, help="with viewers")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    parser.add_argument("--view", metavar="URL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.view:
        asyncio.run(view(given.view, given.viewers, given.width))
        return 0

    hub = Hub([NAME])
    stream = Stream(
        NAME,
        TestPattern(size="1280x720", fps=30, end=86_400, name=NAME),
        tracker=MaskIou(),
        counters=[PerClass()],
        effects=[Overlay(), Labels()],
    )
    pipeline = Pipeline(Auto(model="people"), [stream], listeners=[hub])
    hub.summary = pipeline.summary
    with Server(hub, "127.0.0.1:0") as server:
        pipeline.start()
        viewers = Viewers(server.url.replace("http", "ws") + "ws", given.viewers, given.width)
        viewers.watch(False)
        time.sleep(3.0)  # the model is compiled, every cache is full
        rates: list[float] = []
        seconds: list[float] = []
        pictures: list[int] = []
        for turn in range(2 * given.turns + 1):
            viewers.watch(turn % 2 == 1)
            rate, cpu = measured(pipeline, given.seconds)
            rates.append(rate)
            seconds.append(cpu)
            if turn % 2:
                pictures.append(viewers.watch(False))
        viewers.close()
        pipeline.remove(NAME)
        pipeline.close()
        pipeline.wait()

    cost = statistics.median(costs(rates))
    each = statistics.median(pictures) / given.viewers / (given.seconds + SECONDS_TO_SETTLE)
    print(f"{given.viewers} viewers, {given.width} pixels wide, {each:.1f} pictures a second each", end="")
    print(f"; load of the machine {os.getloadavg()[0]:.1f}")
    print(
        f"  frames a second without {statistics.median(rates[::2]):6.1f}   with {statistics.median(rates[1::2]):6.1f}"
    )
    print(f"  CPU ms a frame  without {1e3 * statistics.median(seconds[::2]):6.1f}", end="")
    print(f"   with {1e3 * statistics.median(seconds[1::2]):6.1f}")
    print(f"  cost at the median of {given.turns} turns: {cost:.1%}, at most {LIMIT:.0%} wanted: ", end="")
    print("yes" if cost <= LIMIT else "NO")
    return 0 if cost <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
