"""How long drawing takes: overlay and splash of people from their 28 × 28 masks, against the usual ways.

    python benchmarks/drawing.py --data ../shared/data/people/val.json

Every way starts from the same boxes and small masks and ends with a drawn picture of its own; bringing the masks to
the picture is in the time of all, the copy of the picture too. Ours draw on YUV 4:2:0 as video is decoded; the others
on RGB, and the two conversions that video would cost them are *not* in their time. One thread each.

Exit code 1 if overlay is not 10 times faster than supervision, or splash not 50 times faster than full-frame numpy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

from streamseg import outlines
from streamseg.canvas import PALETTE, Canvas
from streamseg.effects.overlay import Overlay
from streamseg.effects.splash import Splash
from streamseg.types import Frame, Instances, Result

SIZES = {"1080p": (1920, 1080), "4K": (3840, 2160)}
MASK_SIZE = 28
OPACITY = 0.45


def people(data: Path, *, num: int, width: int, height: int) -> Instances:
    """People of the data set, each somewhere in the picture and 5 to 30 % as high as it."""
    labels = json.loads(data.read_text())
    sizes = {image["id"]: {"width": image["width"], "height": image["height"]} for image in labels["images"]}
    random = np.random.default_rng(3)
    boxes: list[list[float]] = []
    masks: list[np.ndarray] = []
    for label in labels["annotations"]:
        x, y, w, h = label["bbox"]
        if label.get("iscrowd") or not label["segmentation"] or min(w, h) < MASK_SIZE or not 1.5 < h / w < 4:
            continue
        full = outlines.decoded(label["segmentation"], **sizes[label["image_id"]])
        crop = full[int(y) : int(np.ceil(y + h)), int(x) : int(np.ceil(x + w))]
        masks.append(cv2.resize(crop.astype(np.float32), (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_AREA))
        high = height * (0.05 + 0.25 * len(boxes) / max(1, num - 1))
        wide = high * w / h
        left, top = random.uniform(0, width - wide), random.uniform(0, height - high)
        boxes.append([left, top, left + wide, top + high])
        if len(boxes) == num:
            break
    return Instances(
        boxes=np.array(boxes, np.float32),
        masks=np.array(masks, np.float32),
        scores=np.full(num, 0.9, np.float32),
        class_ids=np.ones(num, np.int32),
        track_ids=np.arange(1, num + 1, dtype=np.int32),
        class_names=("background", "person"),
    )


def in_boxes(instances: Instances, width: int, height: int) -> list[tuple[slice, slice, np.ndarray]]:
    """What the other ways share: each mask resized into its rounded box, as (rows, columns, bool mask)."""
    placed = []
    for mask, box in zip(instances.masks, np.rint(instances.boxes).astype(int).tolist(), strict=True):
        x1, y1, x2, y2 = box
        large = cv2.resize(mask, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR) >= 0.5
        rows, columns = slice(max(0, y1), min(height, y2)), slice(max(0, x1), min(width, x2))
        placed.append((rows, columns, large[rows.start - y1 : rows.stop - y1, columns.start - x1 : columns.stop - x1]))
    return placed


def full_frame(instances: Instances, width: int, height: int) -> np.ndarray:
    """(N, height, width) bool: every mask as large as the picture."""
    masks = np.zeros((len(instances), height, width), bool)
    for mask, (rows, columns, patch) in zip(masks, in_boxes(instances, width, height), strict=True):
        mask[rows, columns] = patch
    return masks


def ours(effect: Overlay | Splash, picture: av.VideoFrame, instances: Instances) -> av.VideoFrame:
    canvas = Canvas(picture)
    effect.draw(canvas, Result(Frame(picture, 0, 0.0, 0.0, "benchmark"), instances))
    return canvas.picture


def overlay_supervision(pixels: np.ndarray, instances: Instances) -> np.ndarray:
    import supervision

    height, width = pixels.shape[:2]
    detections = supervision.Detections(
        xyxy=instances.boxes,
        mask=full_frame(instances, width, height),
        confidence=instances.scores,
        class_id=instances.class_ids,
        tracker_id=instances.track_ids,
    )
    annotator = supervision.MaskAnnotator(opacity=OPACITY, color_lookup=supervision.ColorLookup.TRACK)
    drawn: np.ndarray = annotator.annotate(pixels.copy(), detections)
    return drawn


def overlay_numpy(pixels: np.ndarray, instances: Instances) -> np.ndarray:
    drawn = pixels.copy()
    masks = full_frame(instances, *pixels.shape[1::-1])
    for mask, track_id in zip(masks, instances.track_ids.tolist(), strict=True):
        color = PALETTE[track_id % len(PALETTE)]
        for channel in range(3):
            before = drawn[:, :, channel]
            drawn[:, :, channel] = np.where(mask, before * (1 - OPACITY) + OPACITY * color[channel], before)
    return drawn


def overlay_opencv(pixels: np.ndarray, instances: Instances) -> np.ndarray:
    drawn = pixels.copy()
    placed = in_boxes(instances, *pixels.shape[1::-1])
    for (rows, columns, patch), track_id in zip(placed, instances.track_ids.tolist(), strict=True):
        part = drawn[rows, columns]
        color = np.array(PALETTE[track_id % len(PALETTE)], np.float64)
        table = np.rint(np.arange(256)[:, None] * (1 - OPACITY) + OPACITY * color).astype(np.uint8)
        cv2.copyTo(cv2.LUT(part, table[None]), patch.view(np.uint8), part)
    return drawn


def splash_numpy(pixels: np.ndarray, instances: Instances) -> np.ndarray:
    """As it is usually written: a grey picture, and one choice over the whole frame."""
    grey = np.dot(pixels, [0.2126, 0.7152, 0.0722])
    mask: np.ndarray = np.any(full_frame(instances, *pixels.shape[1::-1]), axis=0)
    return np.where(mask[..., None], pixels, grey[..., None]).astype(np.uint8)


def splash_opencv(pixels: np.ndarray, instances: Instances) -> np.ndarray:
    drawn = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    for rows, columns, patch in in_boxes(instances, *pixels.shape[1::-1]):
        cv2.copyTo(pixels[rows, columns], patch.view(np.uint8), drawn[rows, columns])
    return drawn


def milliseconds(ways: Mapping[str, Callable[[], object]], *, seconds: float) -> dict[str, float]:
    """The median time of each way.

    They take turns, so that a busy machine slows all of them, and each turn begins with two runs that do not count:
    the first after another way finds the other's pictures in the caches.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(next(iter(times.values()))) < 24:
        for name, way in ways.items():
            turn: list[float] = []
            while len(turn) < 4 or (sum(turn) < 30 and len(turn) < 14):
                start = time.perf_counter()
                way()
                turn.append((time.perf_counter() - start) * 1000)
            times[name] += turn[2:]
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared" / "data" / "people" / "val.json"
    parser.add_argument("--data", type=Path, default=default, help="people in COCO's json format, with masks")
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each of the four comparisons")
    given = parser.parse_args()
    cv2.setNumThreads(1)

    holds = True
    for size, (width, height) in SIZES.items():
        instances = people(given.data, num=given.instances, width=width, height=height)
        noise = np.random.default_rng(1).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        pixels = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
        overlay, splash = Overlay(opacity=OPACITY), Splash()
        comparisons: dict[tuple[str, str, int], dict[str, Callable[[], object]]] = {
            ("overlay", "supervision", 10): {
                "ours": partial(ours, overlay, picture, instances),
                "OpenCV in the boxes": partial(overlay_opencv, pixels, instances),
                "supervision": partial(overlay_supervision, pixels, instances),
                "full-frame numpy": partial(overlay_numpy, pixels, instances),
            },
            ("splash", "full-frame numpy", 50): {
                "ours": partial(ours, splash, picture, instances),
                "OpenCV in the boxes": partial(splash_opencv, pixels, instances),
                "full-frame numpy": partial(splash_numpy, pixels, instances),
            },
        }
        for (effect, rival, target), ways in comparisons.items():
            taken = milliseconds(ways, seconds=given.seconds)
            ratio = taken[rival] / taken["ours"]
            holds &= ratio >= target
            print(f"\n{effect}, {len(instances)} people, {size}")
            for name, value in taken.items():
                print(f"  {name:<20} {value:8.2f} ms   {value / taken['ours']:6.1f} x")
            print(f"  against {rival}: {ratio:.0f} times faster, {target} wanted: {'yes' if ratio >= target else 'NO'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
