"""People of known masks in 4K pictures: how many more are found when the engine looks at tiles too, and what it costs.

    python -m benchmarks.tiles --data people/val.json [--pictures 8] [--seeds 1 2 3] [--tiles 1x1 2x2 3x3]

People of the data set, cut out along their true masks, stand in a picture of another photo, blurred: 24 to 384 pixels
high, many more small ones than large. Prints AP50 of the masks for all people from 32 pixels of height up and for those
of 64 to 128, seconds a picture and the number of looks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from streamseg import outlines, plugins
from streamseg.engines._tiled import Tiled, Tiles
from streamseg.masks import rle
from streamseg.types import Frame, Instances

WIDTH, HEIGHT = 3840, 2160
HEIGHTS = (24.0, 384.0)
PEOPLE = 40
"""In a picture."""

SHARP = 100
"""Pixels of height from which a person of the data set is cut out: a smaller one would only be blur when enlarged."""

BANDS = {"from 32 px": (32.0, 1e5), "64 to 128 px": (64.0, 128.0)}


@dataclass(frozen=True)
class Scene:
    """A picture (HEIGHT, WIDTH, 3) uint8 RGB and its people: run lengths in the picture, and heights in pixels."""

    picture: np.ndarray
    masks: list[dict[str, Any]]
    heights: list[float]


@dataclass(frozen=True)
class Person:
    """One cut out. rgb (h, w, 3) uint8 · mask (h, w) uint8, 0 or 1"""

    rgb: np.ndarray
    mask: np.ndarray


class Photos:
    """The people of a COCO json, and its photos for what is behind them."""

    def __init__(self, path: Path) -> None:
        listed = json.loads(path.read_text())
        photos = {each["id"]: each for each in listed["images"]}
        self.backgrounds = [path.parent / "images" / each["file_name"] for each in listed["images"]]
        self.people: list[Person] = []
        for each in listed["annotations"]:
            if each["segmentation"] and not each["iscrowd"] and each["bbox"][3] >= SHARP:
                photo = photos[each["image_id"]]
                rgb = cv2.imread(str(path.parent / "images" / photo["file_name"]))[:, :, ::-1]
                mask = outlines.decoded(each["segmentation"], width=photo["width"], height=photo["height"])
                x, y, w, h = (round(value) for value in each["bbox"])
                self.people.append(Person(rgb[y : y + h, x : x + w], mask[y : y + h, x : x + w].astype(np.uint8)))

    def scene(self, rng: np.random.Generator) -> Scene:
        """People here and there, none before another."""
        behind = cv2.imread(str(self.backgrounds[int(rng.integers(len(self.backgrounds)))]))[:, :, ::-1]
        behind = cv2.GaussianBlur(cv2.resize(behind, (WIDTH // 8, HEIGHT // 8)), (0, 0), 6)
        picture = cv2.resize(behind, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        taken = np.zeros((HEIGHT, WIDTH), bool)
        masks, heights = [], []
        while len(masks) < PEOPLE:
            person = self.people[int(rng.integers(len(self.people)))]
            height = float(np.exp(rng.uniform(*np.log(HEIGHTS))))
            scale = height / person.mask.shape[0]
            width, height = max(4, round(person.mask.shape[1] * scale)), round(height)
            x, y = int(rng.integers(0, WIDTH - width)), int(rng.integers(0, HEIGHT - height))
            place = (slice(y, y + height), slice(x, x + width))
            if taken[place].any():
                continue
            taken[place] = True
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            share = cv2.resize(person.mask.astype(np.float32), (width, height), interpolation=how)
            rgb = cv2.resize(person.rgb, (width, height), interpolation=how)
            mixed = share[..., None] * rgb + (1 - share[..., None]) * picture[place]
            picture[place] = np.rint(mixed).astype(np.uint8)
            masks.append(outlines.encoded_patch(share >= 0.5, left=x, top=y, width=WIDTH, height=HEIGHT))
            heights.append(float(height))
        return Scene(picture, masks, heights)


def frame_of(rgb: np.ndarray, index: int) -> Frame:
    picture = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
    picture.pts, picture.time_base = index, Fraction(1, 10)
    return Frame(picture, index, index / 10, 0.0, "scene")


def precision(scenes: Sequence[Scene], found: Sequence[Instances], *, lowest: float, highest: float) -> float:
    """AP50 of the masks of people of these heights; an area is a height squared here."""
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    answers = []
    for i, (scene, instances) in enumerate(zip(scenes, found, strict=True), start=1):
        truth["images"].append({"id": i, "width": WIDTH, "height": HEIGHT})
        for mask, height in zip(scene.masks, scene.heights, strict=True):
            number = len(truth["annotations"]) + 1
            about = {"id": number, "image_id": i, "category_id": 1, "iscrowd": 0, "area": height**2}
            truth["annotations"].append({**about, "segmentation": mask, "bbox": [0, 0, 1, 1]})
        for mask, box, score in zip(instances.masks, instances.boxes, instances.scores, strict=True):
            coded = rle(mask, box, width=WIDTH, height=HEIGHT)
            answers.append({"image_id": i, "category_id": 1, "score": float(score), "segmentation": coded})
    with contextlib.redirect_stdout(open(os.devnull, "w")):  # noqa: SIM115
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        given = coco.loadRes(answers)
        boxes = [box for instances in found for box in instances.boxes]
        for answer, box in zip(given.dataset["annotations"], boxes, strict=True):
            answer["area"] = float(box[3] - box[1]) ** 2
        evaluation = COCOeval(coco, given, "segm")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[lowest**2, highest**2]], ["all"]
        evaluation.params.maxDets = [1000]
        evaluation.evaluate()
        evaluation.accumulate()
    values = evaluation.eval["precision"]
    return float(values[values > -1].mean())


def measured(photos: Photos, engine: Any, tiles: str, *, num_pictures: int, seed: int) -> Iterator[str]:
    rng = np.random.default_rng(seed)
    scenes = [photos.scene(rng) for _ in range(num_pictures)]
    layout = Tiles.parse(tiles)
    tiled = Tiled(engine, layout)
    began = time.process_time()
    found = [tiled.predict([frame_of(scene.picture, i)])[0] for i, scene in enumerate(scenes)]
    seconds = (time.process_time() - began) / num_pictures
    yield f"{seed:>4}  {tiles:<10}{1 + len(layout.of(WIDTH, HEIGHT)):>6}{seconds:>10.2f}"
    for lowest, highest in BANDS.values():
        yield f"{precision(scenes, found, lowest=lowest, highest=highest):>14.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tiles", nargs="+", default=["1x1", "2x2", "3x3"])
    asked = parser.parse_args()
    photos, engine = Photos(asked.data), plugins.build("engines", "auto")
    print("seed  tiles      looks  CPU s each" + "".join(f"{name:>14}" for name in BANDS))
    for seed in asked.seeds:
        for tiles in asked.tiles:
            print("".join(measured(photos, engine, tiles, num_pictures=asked.pictures, seed=seed)), flush=True)


if __name__ == "__main__":
    main()
