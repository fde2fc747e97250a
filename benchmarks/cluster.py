"""Looking on a Ray cluster: how much sooner are two workers done than one, where nothing but the CPU counts?

    python -m benchmarks.cluster [--videos 4] [--seconds 60] [--work 20]

Starts a head and another node on this machine, with a CPU each, and annotates the same videos with one worker and with
two. The engine is a fake that computes for `--work` milliseconds a picture on one core and finds what depends on the
picture's number alone. Prints the seconds of looking, without the start of the workers. Exit code 1 where two workers
are less than 1.5 times as fast as one, or find something else.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamseg.types import Frame, Instances
from tests.annotate import ray_cluster
from tests.annotate.jobs import chunks
from tests.clips import make_clip
from tests.end_to_end.parts import Walker

AT_LEAST = 1.5
RATE = 25


class Computing(Walker):
    """Computes on one core for each picture. work: blocks of 64 kB that are hashed"""

    def __init__(self, *, work: int) -> None:
        super().__init__()
        self._num_blocks = work
        self._block = bytes(1 << 16)

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        for _ in range(self._num_blocks * len(frames)):
            hashlib.sha256(self._block)
        return super().predict(frames)


def blocks_of(milliseconds: float) -> int:
    """How many blocks this machine hashes in that time."""
    began, number, block = time.process_time(), 0, bytes(1 << 16)
    while time.process_time() - began < 0.5:
        hashlib.sha256(block)
        number += 1
    return max(1, round(number * milliseconds / 500))


def annotated(address: str, videos: Sequence[Path], folder: Path, *, workers: int, work: int) -> tuple[float, Any]:
    """Seconds from the first picture that was looked at to the last, and the chunks."""
    from streamseg.annotate.job import annotate
    from streamseg.annotate.request import AnnotateRequest

    heard: list[float] = []

    def progress(what: str, name: str, done: int, expected: int | None) -> None:
        if what == "looking" and done:
            heard.append(time.monotonic())

    summary = annotate(
        AnnotateRequest(
            inputs=[str(path) for path in videos],
            formats=("csv:masks=false",),
            output=str(folder),
            engine=f"benchmarks.cluster:Computing:work={work}",
            cluster=address,
            parallel=workers,
            chunk_seconds=4.0,
        ),
        progress=progress,
    )
    if summary.exit_code:
        raise SystemExit(f"the annotation failed: {summary.error}")
    return heard[-1] - heard[0], [chunk.read_bytes() for path in videos for chunk in chunks(folder, path.stem)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each video")
    parser.add_argument("--work", type=float, default=20.0, help="milliseconds of computing a picture")
    asked = parser.parse_args()
    os.environ.update(ray_cluster.ENVIRONMENT)
    with tempfile.TemporaryDirectory() as name, ray_cluster.cluster(1, 1) as pair:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        videos = [
            make_clip(folder / f"{n}.mp4", num_frames=round(asked.seconds * RATE), gop=RATE, lossless=False)
            for n in range(asked.videos)
        ]
        work = blocks_of(asked.work)
        seconds, found = {}, {}
        for workers in (1, 2):
            seconds[workers], found[workers] = annotated(
                pair.address, videos, folder / str(workers), workers=workers, work=work
            )
            print(f"{workers} worker{'s' if workers > 1 else ''}: {seconds[workers]:.1f} s", flush=True)
    faster = seconds[1] / seconds[2]
    print(f"{faster:.2f} times as fast; the same chunks: {'yes' if found[1] == found[2] else 'no'}")
    raise SystemExit(0 if faster >= AT_LEAST and found[1] == found[2] else 1)


if __name__ == "__main__":
    main()
