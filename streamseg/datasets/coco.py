"""Pictures with their objects in COCO's json format."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.types import InputError, Sample


class Coco:
    """A COCO detection dataset: `path` is its json, `images` the folder of its pictures (default: `images` beside it).

    An empty segmentation means that the mask is unknown. Class ids are 1… in the order of COCO's category ids.
    Raises InputError when the file is not COCO json or a picture is missing.
    """

    def __init__(self, *, path: Path, images: Path | None = None) -> None:
        self.path = Path(path)
        try:
            content = json.loads(self.path.read_text())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON ({error})") from error
        missing = (
            [key for key in ("images", "annotations", "categories") if key not in content]
            if isinstance(content, dict)
            else ["images"]
        )
        if missing:
            raise InputError(
                f"{path}: expected a COCO file with images, annotations and categories; {missing[0]} is missing"
            )
        self.images = self._folder(images)
        try:
            self._index(content)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{path}: not as COCO files are: {said}") from error
        if not self._pictures:
            raise InputError(f"{path}: no pictures are listed")
        if not (self.images / self._pictures[0]["file_name"]).is_file():
            raise InputError(f"{path}: picture {self.images / self._pictures[0]['file_name']} is missing")

    def _index(self, content: dict[str, Any]) -> None:
        """Sort pictures, categories and annotations, and look whether all that is needed is there."""
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self.class_names: tuple[str, ...] = ("background", *(category["name"] for category in categories))
        self.category_ids = [0, *(category["id"] for category in categories)]
        self._pictures = sorted(content["images"], key=lambda picture: picture["id"])
        self._objects: dict[int, list[dict[str, Any]]] = {picture["id"]: [] for picture in self._pictures}
        for picture in self._pictures:
            _ = picture["file_name"], picture["width"], picture["height"]
        for annotation in content["annotations"]:
            name = f"{self.path}: annotation {annotation.get('id')}"
            if annotation["image_id"] not in self._objects:
                raise InputError(f"{name} is of picture {annotation['image_id']}, which is not listed")
            if annotation["category_id"] not in self.category_ids[1:]:
                raise InputError(f"{name} is of category {annotation['category_id']}, which is not listed")
            box = np.array(annotation["bbox"], object)
            if box.shape != (4,) or not all(isinstance(x, int | float) and math.isfinite(x) for x in box):
                raise InputError(f"{name}: bbox: expected [x, y, width, height], got {annotation['bbox']}")
            self._objects[annotation["image_id"]].append(annotation)

    def _folder(self, images: Path | None) -> Path:
        if images is not None:
            return Path(images)
        candidates = [self.path.parent / "images", self.path.parent.parent / self.path.stem.removeprefix("instances_")]
        for folder in candidates:
            if folder.is_dir():
                return folder
        raise InputError(f"{self.path}: no folder of pictures found; looked for {' and '.join(map(str, candidates))}")

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        picture = self._pictures[index]
        objects = [a for a in self._objects[picture["id"]] if a["bbox"][2] > 0.5 and a["bbox"][3] > 0.5]
        boxes = np.array([a["bbox"] for a in objects], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return Sample(
            image_id=picture["id"],
            path=self.images / picture["file_name"],
            width=picture["width"],
            height=picture["height"],
            boxes=boxes,
            class_ids=np.array([self.category_ids.index(a["category_id"]) for a in objects], np.int32),
            masks=tuple(a.get("segmentation") or None for a in objects),
            crowd=np.array([bool(a.get("iscrowd", 0)) for a in objects], bool),
            areas=np.array([a.get("area", np.nan) for a in objects], np.float64),
        )
