"""A few made-up cameras for the web server, without a pipeline: streams that move, count and cross a line.

    python -m tests.server.fake --port 8080 --streams 4 [--token SECRET-OF-MINE]

What it shows is for looking at the page; every fourth stream begins by being lost now and then.
"""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from streamseg.flow.report import StreamSummary, Summary
from streamseg.server.hub import Hub
from streamseg.server.server import Server
from streamseg.sources.test_pattern import TestPattern
from streamseg.types import Frame, Instances, OutputStatus, Result, SourceState, StreamInfo

CLASS_NAMES = ("background", "person", "dog")
SIZES = ("640x360", "1280x720", "480x640", "768x576")
NAMES = ("front", "back", "yard", "till", "gate", "lift", "stairs", "roof")


def frames(name: str, *, size: str = "640x360", fps: float = 15.0) -> Iterator[Frame]:
    """Pictures without end, as fast as they are asked for: ten seconds again and again, with time going on."""
    index = itertools.count()
    while True:
        with TestPattern(size=size, fps=fps, name=name) as source:
            for frame in source:
                number = next(index)
                yield replace(frame, index=number, time=number / fps, captured_at=time.monotonic())


def info(name: str, frame: Frame) -> StreamInfo:
    """What a sink would be told of a camera with such frames."""
    return StreamInfo(name, frame.width, frame.height, Fraction(1, 1000), Fraction(15), live=True)


def result(frame: Frame, *, num: int = 2, totals: dict[str, Any] | None = None, events: tuple[Any, ...] = ()) -> Result:
    """A frame with `num` tracks, the last of several a dog."""
    left = np.linspace(0, frame.width * 0.8, num)
    top, bottom = np.full(num, frame.height * 0.3), np.full(num, frame.height * 0.8)
    found = Instances(
        boxes=np.stack([left, top, left + frame.width * 0.1, bottom], axis=1),
        masks=np.ones((num, 28, 28)),
        scores=np.full(num, 0.9),
        class_ids=np.where(np.arange(num) < max(1, num - 1), 1, 2),
        track_ids=np.arange(num),
        class_names=CLASS_NAMES,
    )
    return Result(frame, found, counts=totals or {}, events=events, picture=frame.picture)


def crossing(name: str, number: int, *, direction: str = "in", track: int = 0) -> dict[str, Any]:
    """The event of a track that went over the line `gate`."""
    return {
        "id": f"{name}-{number}",
        "event": "line",
        "name": "gate",
        "direction": direction,
        "time": float(number),
        "at": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
        "stream": name,
        "track": track,
        "class": "person",
        "score": 0.93,
        "point": [120.0, 80.0],
    }


class Camera:
    """One made-up camera: `run` tells the hub of its pictures until `stop` is set."""

    def __init__(self, hub: Hub, name: str, *, size: str, fps: float, fails: bool = False) -> None:
        self.hub, self.name, self.size, self.fps, self.fails = hub, name, size, fps, fails
        self.num_read = self.num_dropped = 0
        self.counts = {"in": 0, "out": 0}

    def run(self, stop: threading.Event) -> None:
        first = True
        for frame in frames(self.name, size=self.size, fps=self.fps):
            if first:
                self.hub.on_state(self.name, SourceState("live"))
                self.hub.on_open(self.name, info(self.name, frame))
                first = False
            if self.fails and frame.index % 450 == 449:
                self.hub.on_state(self.name, SourceState("lost", "the camera closed the connection"))
                stop.wait(8)
                self.hub.on_state(self.name, SourceState("connecting"))
                stop.wait(2)
                self.hub.on_state(self.name, SourceState("live"))
            self.show(frame)
            if stop.wait(1 / self.fps):
                return

    def show(self, frame: Frame) -> None:
        """One picture more; every fortieth brings somebody over the line."""
        self.num_read += 1
        if frame.index % 100 == 99:
            self.num_dropped += 1
            return
        events: tuple[Any, ...] = ()
        if frame.index % 40 == 20:
            direction = "in" if frame.index % 80 == 20 else "out"
            self.counts[direction] += 1
            events = (crossing(self.name, frame.index, direction=direction),)
        num = 1 + frame.index // 60 % 5
        inside = max(0, num - 2)
        totals = {
            "objects": {"person": frame.index // 30, "dog": frame.index // 200},
            "lines": {"gate": {"person": dict(self.counts)}},
            "zones": {"shop": {"person": {"now": inside, "entered": inside + 4, "left": 4}}},
        }
        self.hub.on_result(result(frame, num=num, totals=totals, events=events))

    def summary(self) -> StreamSummary:
        return StreamSummary(
            read=self.num_read,
            written=self.num_read - self.num_dropped,
            dropped={"slow engine": self.num_dropped} if self.num_dropped else {},
            stages={"engine": self.num_read * 0.02},
            sinks=(
                OutputStatus(f"{self.name}.mp4"),
                OutputStatus("rtsp://10.0.0.9/out", "retrying", "connection refused", dropped=12, waiting=3),
            ),
        )


def cameras(hub: Hub, num: int) -> list[Camera]:
    """`num` cameras of different sizes and rates, and the hub told where their numbers are."""
    made = [
        Camera(hub, name, size=SIZES[i % 4], fps=10 + i % 3 * 5, fails=i % 4 == 3) for i, name in enumerate(NAMES[:num])
    ]
    hub.summary = lambda: Summary({camera.name: camera.summary() for camera in made}, 1.0, None, 0)
    for camera in made:
        hub.on_state(camera.name, SourceState("connecting"))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--streams", type=int, default=4, help="at most eight")
    parser.add_argument("--token")
    given = parser.parse_args()
    hub = Hub()
    stop = threading.Event()
    with Server(hub, f"{given.host}:{given.port}", token=given.token) as server:
        print(f"{server.url}" + (f"  token: {server.token}" if server.token else ""), flush=True)
        threads = [threading.Thread(target=camera.run, args=(stop,)) for camera in cameras(hub, given.streams)]
        for thread in threads:
            thread.start()
        try:
            stop.wait()
        except KeyboardInterrupt:
            stop.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
