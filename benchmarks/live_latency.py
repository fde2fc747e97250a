"""How much later than a plain reader a pipeline shows a camera's picture, the engine's own time left out.

    python -m benchmarks.live_latency [--seconds 20] [--look 0.02] [--transport tcp]

A camera of the tests on loopback, 720p at 30 pictures a second, is read at the same time by a bare PyAV loop and by a
pipeline with an engine that sleeps, tracker, overlay and labels. Each picture bears its number, and the camera knows
when it sent it. Exit code 1 when the median of what the pipeline adds is 1.5 frame times or more.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import av
import numpy as np

from streamseg.effects.labels import Labels
from streamseg.effects.overlay import Overlay
from streamseg.flow.pipeline import Pipeline
from streamseg.flow.stream import Stream
from streamseg.sources.rtsp import Rtsp
from streamseg.trackers.mask_iou import MaskIou
from streamseg.types import Frame, Instances, Result, StreamInfo
from tests.end_to_end.live_parts import Scene, TruthEngine
from tests.live.feeds import made_feed, number_of
from tests.live.rtsp_server import RtspServer

WIDTH, HEIGHT, RATE = 1280, 720, 30
MOST_FRAME_TIMES = 1.5
SECONDS_TO_BEGIN = 2.0  # left out: connections, first calls


@dataclass
class Delays:
    """Seconds from sent to shown of each picture, by when it was shown."""

    server: RtspServer
    seconds: list[float] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def note(self, picture: av.VideoFrame, *, minus: float = 0.0) -> None:
        now = time.monotonic()
        sent = self.server.sent_at(number_of(picture), before=now)
        if now - self.began > SECONDS_TO_BEGIN:
            self.seconds.append(now - sent - minus)

    def percentiles(self) -> tuple[float, float, float]:
        """Median, 95th percentile and the worst, in ms."""
        median, slow, worst = 1000 * np.percentile(self.seconds, [50, 95, 100])
        return float(median), float(slow), float(worst)


class Stopwatch(TruthEngine):
    """Knows how long each frame was with it."""

    def __init__(self, *, seconds: float) -> None:
        super().__init__({"camera": Scene(width=WIDTH, height=HEIGHT)}, seconds=seconds)
        self.took: dict[int, float] = {}

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        began = time.monotonic()
        frames[0].rgb(512, 288)
        found = super().predict(frames)
        self.took[frames[0].index] = time.monotonic() - began
        return found


class Screen:
    """The sink: notes how late each picture is that the engine looked at."""

    path = None
    notes: Sequence[str] = ()

    def __init__(self, delays: Delays, engine: Stopwatch) -> None:
        self.delays, self.engine = delays, engine
        self.num_carried = 0

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def start(self, info: StreamInfo) -> None:
        pass

    def write(self, picture: av.VideoFrame, result: Result) -> None:
        took = self.engine.took.pop(result.frame.index, None)
        if took is None:
            self.num_carried += 1
        else:
            self.delays.note(result.frame.picture, minus=took)


def read_plainly(url: str, transport: str, *, delays: Delays, stop: threading.Event) -> None:
    """What one writes without streamseg: PyAV with all that makes it quick."""
    options = {"rtsp_transport": transport, "flags": "low_delay", "analyzeduration": "0", "probesize": "32"}
    with av.open(url, options=options, timeout=(5, 5)) as container:
        container.streams.video[0].thread_type = "SLICE"
        for picture in container.decode(video=0):
            delays.note(picture)
            if stop.is_set():
                return


def measured(seconds: float, look: float, *, transport: str) -> tuple[Delays, Delays, int]:
    """Of the plain reader and of the pipeline; and how many pictures the engine passed over."""
    with RtspServer({"camera": made_feed(width=WIDTH, height=HEIGHT, rate=RATE, seconds=4)}) as server:
        plain, piped = Delays(server), Delays(server)
        engine = Stopwatch(seconds=look)
        screen = Screen(piped, engine)
        stop = threading.Event()
        reader = threading.Thread(
            target=read_plainly, args=(server.url(), transport), kwargs={"delays": plain, "stop": stop}
        )
        camera = Rtsp(server.url(), transport=transport, name="camera")
        stream = Stream("camera", camera, tracker=MaskIou(), effects=[Overlay(), Labels()], sinks=[screen])
        pipeline = Pipeline(engine, [stream], max_age=0.5)
        reader.start()
        pipeline.start()
        time.sleep(SECONDS_TO_BEGIN + seconds)
        pipeline.remove("camera")
        pipeline.close()
        pipeline.wait()
        stop.set()
        reader.join()
    return plain, piped, screen.num_carried


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--look", type=float, default=0.02, help="seconds of the engine for a picture")
    parser.add_argument("--transport", choices=("tcp", "udp"), default="tcp")
    asked = parser.parse_args()
    plain, piped, num_carried = measured(asked.seconds, asked.look, transport=asked.transport)
    print(f"{WIDTH}x{HEIGHT} at {RATE}, {asked.transport}: ms from sent to shown    median    95 %   worst  pictures")
    for name, delays in (("plain PyAV", plain), ("pipeline less the engine", piped)):
        median, slow, worst = delays.percentiles()
        print(f"{name:<44} {median:>13.1f} {slow:>7.1f} {worst:>7.1f} {len(delays.seconds):>9}")
    added = (piped.percentiles()[0] - plain.percentiles()[0]) / 1000 * RATE
    print(f"added at the median: {added:.2f} frame times; the engine passed over {num_carried} pictures")
    return int(added >= MOST_FRAME_TIMES)


if __name__ == "__main__":
    sys.exit(main())
