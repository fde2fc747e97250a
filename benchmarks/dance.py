"""How much of a dancer stays in colour: DAVIS `dance-twirl` through model, tracker and splash, against its true masks.

python benchmarks/dance.py --davis ../shared/data/davis
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from streamseg import masks
from streamseg.engines.auto import Auto
from streamseg.sources.image_folder import ImageFolder
from streamseg.trackers.mask_iou import MaskIou


def shares(davis: Path, name: str) -> list[float]:
    """For each frame, the share of the true object's pixels that lie in a drawn mask."""
    engine = Auto()
    tracker = MaskIou(min_score=engine.min_score)
    found = []
    truths = sorted((davis / "Annotations" / name).glob("*.png"))
    with ImageFolder(path=davis / "JPEGImages" / name) as source:
        for frame, path in zip(source, truths, strict=True):
            instances = tracker.update(frame, engine.predict([frame])[0])
            truth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            truth = (truth if truth.ndim == 2 else truth.max(axis=2)) > 0
            if truth.any():
                drawn = masks.union(instances, width=frame.width, height=frame.height) >= 128
                found.append(float(drawn[truth].mean()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, default=Path("../shared/data/davis"))
    parser.add_argument("--sequence", default="dance-twirl")
    given = parser.parse_args()
    found = shares(given.davis, given.sequence)
    print(
        f"{given.sequence}: {len(found)} frames with the object, {np.mean(found):.3f} of its pixels in colour, "
        f"{sum(share < 0.5 for share in found)} frames below half"
    )


if __name__ == "__main__":
    main()
