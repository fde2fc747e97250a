"""Writes one row of `people.csv` for every person in every frame, with a sink of its own.

    python examples/own_sink.py samples/pedestrians.mp4

`--set` names the same sink on the command line, as in `main` below.
"""

import csv
import sys
from pathlib import Path

import streamseg


class Csv:
    """Rows of time in seconds, number and box in pixels; NAME.part.csv until the run is complete."""

    def __init__(self, path: Path) -> None:
        self.final, self.path, self.notes = path, path.with_suffix(".part.csv"), []

    def __enter__(self):
        self.file = self.path.open("w", newline="")
        self.rows = csv.writer(self.file)
        return self

    def start(self, info) -> None:
        self.rows.writerow(["time", "track", "x1", "y1", "x2", "y2"])

    def write(self, picture, result: streamseg.Result) -> None:
        people = result.instances.of("person")
        people = people[people.track_ids >= 0]  # not yet those that may be none
        for track, box in zip(people.track_ids, people.boxes, strict=True):
            self.rows.writerow([f"{result.frame.time:.3f}", track, *box.round().astype(int)])

    def __exit__(self, exc_type, exc, traceback) -> None:
        self.file.close()
        if exc_type is None:
            self.path = self.path.rename(self.final)


def main(video: str, engine: str | None = None) -> None:
    for _ in streamseg.run(video, settings=["sinks=[{own_sink:Csv: {path: people.csv}}]"], engine=engine):
        pass  # the sink has had every result that comes by here


if __name__ == "__main__":
    main(*sys.argv[1:])
