"""How well people are followed: `vtest.avi` through model and tracker, against MOT15's truth, by motmetrics.

    python benchmarks/tracking.py --videos ../shared/data/videos
    python benchmarks/tracking.py --precision f32 --stride 2

Only people whom the truth says are to be judged (its seventh column is 1) count; a box fits with an IoU of 0.5. A false
track is one of which no frame fits anybody of the truth; its time runs from its first frame to its last. One walker on
the far path (frames 81 to 175) is in the film and not in the truth: his track is told apart, and is no false one.

Exit code 1 unless IDF1 is .75 and MOTA .70 at least, with at most 12 switches, no false track over 3 s, and people in
view off by .8 at most on average.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import motmetrics
import numpy as np

from streamseg.engines.openvino import Openvino
from streamseg.masks import box_iou
from streamseg.sources.video_file import VideoFile
from streamseg.trackers.mask_iou import MaskIou
from streamseg.types import Instances

FITS = 0.5
NOT_IN_THE_TRUTH = (81, 175, np.array([0, 40, 300, 145]))
"""First and last frame and the region, xyxy, of the walker whom the truth leaves out."""

People = tuple[np.ndarray, np.ndarray]
"""Identities (K,) and boxes (K, 4) xyxy of the people in one frame."""


@dataclass(frozen=True)
class Figures:
    """What a run is worth; `missing` are seconds of the track of who is not in the truth."""

    mota: float
    idf1: float
    switches: int
    tracks: int
    in_view_error: float
    longest_false: float
    missing: float

    def good(self) -> bool:
        close = self.mota >= 0.70 and self.idf1 >= 0.75 and self.switches <= 12
        return close and self.longest_false <= 3 and self.in_view_error <= 0.8


def truth_of(path: Path) -> dict[int, People]:
    """People by frame index, from 0; the file counts frames and pixels from 1."""
    rows = np.loadtxt(path, delimiter=",")
    rows = rows[rows[:, 6] == 1]
    corners = rows[:, 2:4] - 1
    boxes = np.hstack([corners, corners + rows[:, 4:6]])
    return {int(f) - 1: (rows[rows[:, 0] == f, 1].astype(int), boxes[rows[:, 0] == f]) for f in np.unique(rows[:, 0])}


def followed(video: Path, *, precision: str, stride: int) -> Iterator[tuple[int, float, Instances]]:
    """Index and time of every frame with its confirmed objects."""
    engine = Openvino(precision=precision)  # type: ignore[arg-type]
    tracker = MaskIou(min_score=engine.min_score)
    with VideoFile(path=video) as source:
        for frame in source:
            if frame.index % stride == 0:
                found = tracker.update(frame, engine.predict([frame])[0])
                yield frame.index, frame.time, found[found.track_ids >= 0]


def measured(run: list[tuple[int, float, Instances]], truth: dict[int, People]) -> Figures:
    nobody = (np.zeros(0, int), np.zeros((0, 4)))
    pairs = motmetrics.MOTAccumulator(auto_id=True)
    errors, times, fitting = [], dict[int, list[float]](), set[int]()
    elsewhere = dict[int, int]()
    for index, time, found in run:
        identities, boxes = truth.get(index, nobody)
        overlap = box_iou(boxes, found.boxes)
        ids = found.track_ids.tolist()
        pairs.update(identities.tolist(), ids, np.where(overlap >= FITS, 1 - overlap, np.nan))
        errors.append(abs(len(identities) - len(found)))
        fitting |= set(found.track_ids[(overlap >= FITS).any(axis=0)].tolist())
        for track, box in zip(ids, found.boxes, strict=True):
            times.setdefault(track, []).append(time)
            elsewhere[track] = elsewhere.get(track, 0) + _is_left_out(index, box)
    lasted = {track: seen[-1] - seen[0] for track, seen in times.items() if track not in fitting}
    left_out = {track for track in lasted if elsewhere[track] > len(times[track]) / 2}
    table = motmetrics.metrics.create().compute(pairs, metrics=["mota", "idf1", "num_switches"])
    return Figures(
        mota=float(table["mota"].iloc[0]),
        idf1=float(table["idf1"].iloc[0]),
        switches=int(table["num_switches"].iloc[0]),
        tracks=len(times),
        in_view_error=float(np.mean(errors)),
        longest_false=max((lasted[track] for track in lasted.keys() - left_out), default=0.0),
        missing=max((lasted[track] for track in left_out), default=0.0),
    )


def _is_left_out(index: int, box: np.ndarray) -> bool:
    first, last, region = NOT_IN_THE_TRUTH
    inside = bool((box[:2] >= region[:2]).all() and (box[2:] <= region[2:]).all())
    return first - 5 <= index <= last + 5 and inside


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/videos"), help="vtest.avi and its truth")
    parser.add_argument("--precision", choices=["auto", "int8", "bf16", "f32"], default="auto", help="of the engine")
    parser.add_argument("--stride", type=int, default=1, help="look at every Nth frame")
    given = parser.parse_args()
    run = list(followed(given.videos / "vtest.avi", precision=given.precision, stride=given.stride))
    figures = measured(run, truth_of(given.videos / "vtest.gt.txt"))
    print("MOTA   IDF1   switches  tracks  in view ±  longest false  (not in the truth)")
    print(
        f"{figures.mota:.3f}  {figures.idf1:.3f}  {figures.switches:8}  {figures.tracks:6}"
        f"  {figures.in_view_error:9.2f}  {figures.longest_false:11.1f} s  ({figures.missing:.1f} s)"
    )
    return 0 if figures.good() else 1


if __name__ == "__main__":
    sys.exit(main())
