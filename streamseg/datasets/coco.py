"""Pictures with their objects in COCO's json format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from streamseg import outlines
from streamseg.datasets._classes import BACKGROUND, chosen
from streamseg.formats.coco import load, segmentation_of
from streamseg.types import InputError, Sample

NO_AREA = "objects without area left out"


class Coco:
    """A COCO detection dataset: `path` is its json, `images` the folder of its pictures.

    images: by default `images` beside the json, or in COCO's own layout `val2017` beside `annotations`, where minival
    and valminusminival are of val, or as CVAT lays them out (`images/default` beside `annotations`) or
    `streamseg annotate` does (beside the json) · classes: take these only, and only pictures that show one, unless
    `keep_empty` · crowd_is_object: take a crowd as one object, because CVAT marks every mask so that is no polygon.
    An empty segmentation means that the mask is unknown. Class ids are 1… in the order of COCO's category ids, which
    may be any numbers, 0 too; categories of one name are one class. `class_ids`: category id -> class id.
    Raises InputError when the file is not COCO json or a picture is missing; compressed run lengths are looked at when
    their sample is taken.
    """

    warnings: Mapping[str, int]
    _pictures: list[dict[str, Any]]

    def __init__(
        self,
        *,
        path: Path,
        images: Path | None = None,
        classes: tuple[str, ...] = (),
        keep_empty: bool = False,
        crowd_is_object: bool = False,
    ) -> None:
        self.path = Path(path)
        self.crowd_is_object = crowd_is_object
        content = load(self.path)
        self.images = Path(images) if images is not None else self._folder(content["images"])
        found: Counter[str] = Counter()
        try:
            self._index(content, classes, found)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{path}: not as COCO files are: {said}") from error
        if not self._pictures:
            raise InputError(f"{path}: no pictures are listed")
        if classes and not keep_empty:
            self._pictures = [picture for picture in self._pictures if self._objects[picture["id"]]]
            if not self._pictures:
                raise InputError(f"{path}: no picture shows {' or '.join(classes)}")
        missing = [p["file_name"] for p in self._pictures if not (self.images / p["file_name"]).is_file()]
        if missing:
            more = f", and {len(missing) - 1} more are" if len(missing) > 1 else " is"
            raise InputError(f"{path}: picture {self.images / missing[0]}{more} missing")
        self.warnings = dict(found)

    def _index(self, content: dict[str, Any], classes: tuple[str, ...], found: Counter[str]) -> None:
        """Sort pictures, categories and annotations, and look whether all that is needed is there."""
        names = self._names(content)
        kept = chosen(classes, list(dict.fromkeys(names.values())))
        self.class_names: tuple[str, ...] = (BACKGROUND, *kept)
        self.class_ids: dict[int, int] = {
            number: kept.index(name) + 1 for number, name in names.items() if name in kept
        }
        self._pictures = sorted(content["images"], key=lambda picture: picture["id"])
        sizes = {picture["id"]: (picture["height"], picture["width"]) for picture in self._pictures}
        self._objects: dict[int, list[dict[str, Any]]] = {picture["id"]: [] for picture in self._pictures}
        for picture, following in pairwise(self._pictures):
            if picture["id"] == following["id"]:
                raise InputError(
                    f"{self.path}: picture {picture['id']}: expected an id of its own for each, "
                    f"got it for {picture['file_name']} and {following['file_name']}"
                )
        for picture in self._pictures:
            _ = picture["file_name"] + ""
            if not (type(picture["width"]) is type(picture["height"]) is int):
                raise InputError(f"{self.path}: picture {picture['id']}: expected width and height in pixels")
        for annotation in content["annotations"]:
            name = f"{self.path}: annotation {annotation.get('id')}"
            if annotation["image_id"] not in self._objects:
                raise InputError(f"{name} is of picture {annotation['image_id']}, which is not listed")
            if annotation["category_id"] not in names:
                there = ", ".join(f"{number} ({each})" for number, each in names.items()) or "none"
                wrong = annotation["category_id"]
                raise InputError(f"{name} is of category {wrong!r}, which is not listed; there is {there}")
            if annotation["category_id"] not in self.class_ids:
                continue
            box = np.array(annotation["bbox"], object)
            if box.shape != (4,) or not all(isinstance(x, int | float) and math.isfinite(x) for x in box):
                raise InputError(f"{name}: bbox: expected [x, y, width, height], got {annotation['bbox']}")
            if min(box[2:]) <= 0.5:
                found[NO_AREA] += 1
                continue
            if not isinstance(annotation.get("area"), int | float | None):
                raise InputError(f"{name}: area: expected a number of pixels, got {annotation['area']!r}")
            size = sizes[annotation["image_id"]]
            try:
                segmentation = segmentation_of(annotation, size, found=found)
            except ValueError as error:
                raise InputError(f"{name}: segmentation: {error}") from error
            self._objects[annotation["image_id"]].append({**annotation, "segmentation": segmentation})

    def _names(self, content: dict[str, Any]) -> dict[int, str]:
        """The name of every category by its id, in the order of the ids."""
        names: dict[int, str] = {}
        for category in sorted(content["categories"], key=lambda category: category["id"]):
            name = names.setdefault(category["id"], category["name"])
            if not isinstance(name, str):
                raise InputError(f"{self.path}: category {category['id']}: name: expected a text, got {name!r}")
            if name != category["name"]:
                raise InputError(
                    f"{self.path}: category {category['id']}: expected one name, got {name!r} and {category['name']!r}"
                )
        # some exports list what is no object as a category too, mostly as number 0
        used = {annotation["category_id"] for annotation in content["annotations"]}
        return {number: name for number, name in names.items() if name != BACKGROUND or number in used}

    def _folder(self, pictures: Any) -> Path:
        """Where the pictures lie that are listed."""
        part = self.path.stem.removeprefix("instances_").replace("valminusminival", "val").replace("minival", "val")
        beside, above = self.path.parent, self.path.parent.parent
        candidates = [beside / "images", above / part, above / "images" / part]
        for folder in candidates:
            if folder.is_dir():
                return folder
        listed = pictures[0] if isinstance(pictures, list) and pictures else None
        first = listed.get("file_name") if isinstance(listed, dict) else None
        if isinstance(first, str) and (beside / first).is_file():
            return beside
        raise InputError(f"{self.path}: no folder of pictures found; looked for {' and '.join(map(str, candidates))}")

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        picture = self._pictures[index]
        objects = self._objects[picture["id"]]
        boxes = np.array([a["bbox"] for a in objects], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        for each in objects:
            if isinstance(each["segmentation"], dict) and isinstance(each["segmentation"]["counts"], str):
                try:
                    outlines.lengths(each["segmentation"])
                except ValueError as error:
                    raise InputError(f"{self.path}: annotation {each.get('id')}: segmentation: {error}") from error
        return Sample(
            image_id=picture["id"],
            path=self.images / picture["file_name"],
            width=picture["width"],
            height=picture["height"],
            boxes=boxes,
            class_ids=np.array([self.class_ids[a["category_id"]] for a in objects], np.int32),
            masks=tuple(a["segmentation"] for a in objects),
            crowd=np.array([bool(a.get("iscrowd", 0)) and not self.crowd_is_object for a in objects], bool),
            areas=np.array([a.get("area", np.nan) for a in objects], np.float64),
        )
