"""Moves a window over a photo, as a source of its own, and writes `pan.mp4` with the people that come into view.

    python examples/own_source.py docs/pedestrians.jpg

The pipeline beside this file, `own_source.yaml`, names the source by its class.
"""

import sys
import time
from fractions import Fraction
from pathlib import Path

import av

import streamseg
from streamseg.types import Frame, StreamInfo


class Pan:
    """From the left edge of a photo to its right one. num_frames: at 10 a second · name: of the stream."""

    def __init__(self, path: str, *, num_frames: int = 20, name: str = "photo") -> None:
        self.path, self.num_frames, self.name, self.warnings = path, num_frames, name, {}

    def __enter__(self):
        with av.open(self.path) as photo:
            self.pixels = next(photo.decode(video=0)).to_ndarray(format="rgb24")  # (height, width, 3) uint8
        self.side = min(self.pixels.shape[:2]) // 2 * 2  # many codecs want even sides
        self.info = StreamInfo(
            self.name, self.side, self.side, Fraction(1, 10), Fraction(10), num_frames=self.num_frames
        )
        return self

    def __exit__(self, *exc: object) -> None: ...

    def __iter__(self):
        for index in range(self.num_frames):
            left = (self.pixels.shape[1] - self.side) * index // max(1, self.num_frames - 1)
            picture = av.VideoFrame.from_ndarray(self.pixels[: self.side, left : left + self.side].copy())
            picture.pts, picture.time_base = index, self.info.time_base
            yield Frame(picture, index, index / 10, time.monotonic(), self.name)


def main(photo: str, engine: str | None = None) -> None:
    pipeline = Path(__file__).with_suffix(".yaml")
    for result in streamseg.run([], pipeline=pipeline, settings=[f"source.path={photo}"], engine=engine):
        print(f"{result.frame.time:.1f} s: {len(result.instances)} people")


if __name__ == "__main__":
    main(*sys.argv[1:])
