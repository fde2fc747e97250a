"""Minutes or days of two cameras with every output that there is and a fault now and then: does anything grow?

    python -m benchmarks.soak [--minutes 30] [--every 60] [--look 0.05] [-- more options of streamseg run]

Runs `streamseg run` as a person would, on two cameras of the tests. Every so often one of them or the broker fails in
one of the ways that they have; what must come back by itself is waited for. Prints what the process holds as a table.
Exit code 1 when it grows, when a camera is not watched again in time, or when the run does not end in order. An engine
slower than the cameras (`--look 0.5`) makes it a soak of overload.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from urllib.request import urlopen

from streamseg import rooms
from streamseg.types import Frame, Instances
from tests.end_to_end.parts import Walker
from tests.live.broker import Broker
from tests.live.children import free_port
from tests.live.faults import KINDS
from tests.live.feeds import made_feed
from tests.live.rtsp_server import RtspServer

ROOT = Path(__file__).resolve().parents[1]
MOST_GROWTH = 20.0  # MB, of the last quarter over the second
SECONDS_TO_RETURN = {"unauthorized": 65.0, "missing": 65.0}
SECONDS_TO_RETURN_USUALLY = 10 * 1.2 + 10 + 5  # the longest back-off, a silence that is noticed late, and five

OUTPUTS = {
    "video_file": "recordings/{stem}.mkv",
    "jsonl": "recordings/{stem}.jsonl",
    "hls": "hls:hls/{stem}",
    "rtsp": "rtsp://127.0.0.1:{port}/{{stem}}",
}
"""Of each sink that a camera may have, how it is asked for."""

TARGETS = {
    "jsonl": "events.jsonl",
    "csv": "events.csv",
    "sqlite": "events.sqlite",
    "mqtt": "mqtt://127.0.0.1:{broker}/soak",
}
"""The same of each publisher."""


class Slow(Walker):
    """A person who walks and a dog that sits, seen by an engine that takes its time."""

    def __init__(self, *, seconds: float = 0.05) -> None:
        super().__init__()
        self.seconds = seconds

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        time.sleep(self.seconds)
        return super().predict(frames)


@dataclass(frozen=True)
class Held:
    """What a process and those that it started hold together."""

    megabytes: float
    threads: int
    descriptors: int
    processes: int

    @classmethod
    def by(cls, pid: int) -> Held:
        while True:
            with suppress(FileNotFoundError, ProcessLookupError):  # one of them has just gone: look again
                pids = [pid, *_descendants(pid)]
                pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in pids)
                threads = sum(len(os.listdir(f"/proc/{each}/task")) for each in pids)
                descriptors = sum(len(os.listdir(f"/proc/{each}/fd")) for each in pids)
                return cls(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, threads, descriptors, len(pids))


def _descendants(pid: int) -> Iterator[int]:
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


class Soak:
    """The cameras, the server that takes pictures, the broker if there is one, and the run that is watched."""

    def __init__(
        self, folder: Path, cameras: dict[str, RtspServer], *, target: RtspServer, broker: Broker | None
    ) -> None:
        self.folder, self.cameras, self.target, self.broker = folder, cameras, target, broker
        self.web = free_port() if (ROOT / "streamseg" / "server").is_dir() else None
        self.samples: list[Held] = []
        self.faults: list[str] = []

    def command(self, look: float, more: Sequence[str]) -> list[str]:
        """`streamseg run` with all outputs that this version has."""
        ports = {"port": self.target.port, "broker": self.broker.port if self.broker else 0}
        has = {room: rooms.names(room) for room in ("sinks", "publishers") if room in rooms.ROOMS}
        outputs = [spelled.format(**ports, stem="{stem}") for name, spelled in OUTPUTS.items() if name in has["sinks"]]
        targets = [spelled.format(**ports) for name, spelled in TARGETS.items() if name in has.get("publishers", ())]
        if not self.broker:
            targets = [target for target in targets if not target.startswith("mqtt")]
        return [
            *(sys.executable, "-m", "streamseg", "run"),
            *(f"{name}={camera.url('camera')}" for name, camera in self.cameras.items()),
            *("--engine", f"benchmarks.soak:Slow:seconds={look}", "--effect", "overlay", "--effect", "labels"),
            *(word for output in outputs for word in ("-o", output)),
            *(word for target in targets for word in ("--publish", target)),
            *(("--web", f"127.0.0.1:{self.web}") if self.web else ()),
            *("--line", "gate=0.5,0,0.5,1", "--zone", "hall=0.2,0.2,0.8,0.2,0.8,0.8,0.2,0.8"),
            *("--segment", "1m", "--keep", "5m", "--state", "state.json", *more),
        ]

    def run(self, process: subprocess.Popen[bytes], *, minutes: float, every: float, chance: random.Random) -> None:
        began = time.monotonic()
        self._wait_until_watched(60, after="the start")
        print("  minute       MB  threads  descriptors  processes  fault before", flush=True)
        fault = ""
        while (now := time.monotonic()) - began < 60 * minutes:
            self._look_at_the_page()
            time.sleep(every)  # what had to be tried again has been by then
            if process.poll() is not None:
                raise SystemExit(f"after {fault}: the run ended by itself with {process.returncode}")
            self.samples.append(Held.by(process.pid))
            held = "{:9.1f} {:8} {:12} {:10}".format(*astuple(self.samples[-1]))
            print(f"{(now - began) / 60:8.1f} {held}  {fault}", flush=True)
            fault = self._fault(chance)

    def _fault(self, chance: random.Random) -> str:
        """One thing fails for some seconds, and is back in time."""
        seconds = chance.uniform(1, 10)
        if chance.random() < 0.3:
            return self._fault_of_a_peer(chance.choice(("killed", "frozen")), seconds, chance)
        name, camera = chance.choice(list(self.cameras.items()))
        fault = chance.choice(KINDS)
        fault.strike(camera)
        time.sleep(seconds)
        fault.pass_by(camera)
        patience = SECONDS_TO_RETURN.get(fault.name, SECONDS_TO_RETURN_USUALLY)
        took = self._wait_until_watched(patience, after=f"{name} {fault.name}")
        return f"{name} {fault.name} for {seconds:.0f} s, watched again after {took:.1f} s"

    def _fault_of_a_peer(self, how: str, seconds: float, chance: random.Random) -> str:
        """The broker, or the server that takes pictures, is away."""
        if self.broker and chance.random() < 0.5:
            name, child = "broker", self.broker.child
            strike, recover = (child.kill, child.start) if how == "killed" else (child.freeze, child.thaw)
        else:
            name, recover = "media server", self.target.recover
            strike = partial(self.target.suffer, "killed" if how == "killed" else "frozen")
        strike()
        time.sleep(seconds)
        recover()
        return f"{name} {how} for {seconds:.0f} s"

    def _wait_until_watched(self, patience: float, *, after: str) -> float:
        """Seconds until somebody plays every camera."""
        began = time.monotonic()
        while not all(camera.num_playing for camera in self.cameras.values()):
            if time.monotonic() - began > patience:
                raise SystemExit(
                    f"a camera is not watched {patience:.0f} s after it is well: see {self.folder / 'log'}"
                )
            time.sleep(0.1)
        return time.monotonic() - began

    def _look_at_the_page(self) -> None:
        """Somebody comes, looks for a moment at the pictures and the figures, and goes."""
        if self.web is None:
            return
        address = f"http://127.0.0.1:{self.web}"
        for path in ("/", "/api/streams", "/api/events", "/metrics"):
            with urlopen(address + path, timeout=10) as answer:
                answer.read()
        for name in self.cameras:
            with suppress(TimeoutError), urlopen(f"{address}/stream/{name}.mjpg", timeout=5) as pictures:
                pictures.read(100_000)

    def growth(self) -> dict[str, float]:
        """Of the last quarter over the second: memory at its most, the rest at the median."""
        quarter = max(1, len(self.samples) // 4)
        second, last = self.samples[quarter : 2 * quarter] or self.samples, self.samples[-quarter:]

        def grown(of: Callable[[Sequence[float]], float], name: str) -> float:
            return of([getattr(each, name) for each in last]) - of([getattr(each, name) for each in second])

        return {
            "MB": grown(max, "megabytes"),
            "threads": grown(median, "threads"),
            "descriptors": grown(median, "descriptors"),
        }


def _broker(folder: Path, held: ExitStack) -> Broker | None:
    if not shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"):
        print("without mqtt: mosquitto is not installed")
        return None
    folder.mkdir(exist_ok=True)
    return held.enter_context(Broker(folder))


def ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ends in order when it is asked to."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout=30) == 128 + signal.SIGTERM
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, default=60, help="seconds between two faults")
    parser.add_argument("--look", type=float, default=0.05, help="seconds of the engine for a picture")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the outputs go; default: one that is removed at the end")
    parser.add_argument("more", nargs="*", help="options of streamseg run, behind --")
    asked = parser.parse_args()
    with ExitStack() as held:
        folder = asked.folder or Path(held.enter_context(tempfile.TemporaryDirectory()))
        front = RtspServer(
            {"camera": made_feed(width=640, height=360, rate=15, seconds=4)}, user="eve", password="secret"
        )
        back = RtspServer({"camera": made_feed(width=320, height=240, rate=10, seconds=4)})
        cameras = {"front": held.enter_context(front), "back": held.enter_context(back)}
        folder.mkdir(parents=True, exist_ok=True)
        target = held.enter_context(RtspServer({}))
        soak = Soak(folder, cameras, target=target, broker=_broker(folder / "broker", held))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                soak.command(asked.look, asked.more),
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"},
                stdout=log,
                stderr=log,
            )
        try:
            soak.run(process, minutes=asked.minutes, every=asked.every, chance=random.Random(asked.seed))
        finally:
            in_order = ended(process)
            print((folder / "log").read_text()[-1500:] if not in_order else "ended in order")
    growth = soak.growth()
    print("last quarter over the second:", ", ".join(f"{name} {number:+.1f}" for name, number in growth.items()))
    flat = growth["MB"] <= MOST_GROWTH and growth["threads"] <= 2 and growth["descriptors"] <= 2
    return int(not (flat and in_order))


if __name__ == "__main__":
    sys.exit(main())
