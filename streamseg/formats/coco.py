"""COCO instances: one coco.json with every picture, every object's mask and its track; and such files back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from streamseg import outlines
from streamseg.formats._classes import check_classes
from streamseg.formats._part_text import PartText
from streamseg.labels import EMPTY, Label, LabelledFrame, LabelledVideo
from streamseg.types import InputError, UsageError
from streamseg.words import nearest
from streamseg.zoo import COCO_CLASSES

SEGMENTATIONS = ("rle", "polygons")
CATEGORIES = ("model", "coco")

UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""Numbers between 1 and 90 that stand for classes which COCO has planned and never shown."""

COCO_IDS = dict(zip(COCO_CLASSES, (i for i in range(1, 91) if i not in UNUSED_IDS), strict=True))
"""COCO's classes -> their ids there."""

SHORT = "polygons of fewer than three points left out"
CROWD_SIZE = "crowd regions of another size than their picture, known by their box only"


class Coco:
    """All videos in one `coco.json`; a picture says its `video`, its `frame_index` from 0 and its `time` in seconds.

    segmentation: rle, the masks as they were found, or polygons along their borders · tolerance: of polygons, how far
    they may stray, in pixels of a large object, less of a small one; 0: nowhere, None: as far as the object stays the
    same to 93 % when small and 98 % when large · categories: numbered 1… in the model's order, or as in COCO itself

    An object has its `score` and, where it was followed, a `track_id`, which no object of another video shares.
    """

    wants_pictures = False
    tracks_only = False

    def __init__(
        self,
        *,
        segmentation: Literal["rle", "polygons"] = "rle",
        tolerance: float | None = None,
        categories: Literal["model", "coco"] = "model",
    ) -> None:
        _check_choice("segmentation", segmentation, SEGMENTATIONS)
        _check_choice("categories", categories, CATEGORIES)
        if tolerance is not None and not 0 <= tolerance < np.inf:
            raise UsageError(f"tolerance: expected pixels from 0 up, got {tolerance}")
        self.segmentation = segmentation
        self.tolerance = tolerance
        self.categories = categories
        self._num_pictures = self._num_objects = self._num_tracks = self._num_empty = 0
        self._track_ids: dict[int, int] = {}  # of this video

    def open(self, folder: Path, class_names: Sequence[str]) -> None:
        self._category_ids = self._numbered(class_names)
        categories = [{"id": number, "name": name} for name, number in self._category_ids.items()]
        # objects are many, pictures few: only those are copied in the end
        self._file = PartText(folder / "coco.json")
        self._pictures = PartText(folder / "coco.images.json")
        self._file.write(f'{{"info":{{"description":"made by streamseg"}},"categories":{_json(categories)},\n')
        self._file.write('"annotations":[')

    def _numbered(self, class_names: Sequence[str]) -> dict[str, int]:
        if self.categories == "model":
            return {name: number for number, name in enumerate(class_names, start=1)}
        for name in class_names:
            if name not in COCO_IDS:
                raise UsageError(f"categories=coco: COCO has no class {name!r}{nearest(name, list(COCO_IDS))}")
        return {name: COCO_IDS[name] for name in class_names}

    def begin(self, video: LabelledVideo) -> None:
        self._video = video
        self._track_ids = {}

    def write(self, frame: LabelledFrame) -> None:
        check_classes(frame, self._category_ids)
        self._num_pictures += 1
        picture = {
            "id": self._num_pictures,
            "file_name": frame.picture or f"{self._video.name}/frame_{frame.index:06d}.jpg",
            "width": self._video.width,
            "height": self._video.height,
            "video": self._video.name,
            "frame_index": frame.index,
            "time": round(frame.time, 6),
        }
        self._pictures.write(("," if self._num_pictures > 1 else "") + "\n" + _json(picture))
        for label, box, area in zip(frame.labels, *_measures(frame.labels), strict=True):
            if area:
                self._write(label, box, area)
            else:
                self._num_empty += 1

    def _write(self, label: Label, box: list[int], area: int) -> None:
        self._num_objects += 1
        annotation: dict[str, Any] = {
            "id": self._num_objects,
            "image_id": self._num_pictures,
            "category_id": self._category_ids[label.class_name],
            "bbox": box,
            "area": area,
            "iscrowd": 0,
            "score": label.score,
        }
        if label.track >= 0:
            annotation["track_id"] = self._track_id(label.track)
        annotation["segmentation"] = self._segmentation(label)
        self._file.write(("," if self._num_objects > 1 else "") + "\n" + _json(annotation))

    def _track_id(self, track: int) -> int:
        if track not in self._track_ids:
            self._num_tracks += 1
            self._track_ids[track] = self._num_tracks
        return self._track_ids[track]

    def _segmentation(self, label: Label) -> Any:
        if self.segmentation == "rle":
            return dict(label.mask)
        return outlines.polygons(label.mask, tolerance=self.tolerance)

    def end(self) -> None:
        pass

    def close(self) -> Mapping[str, int]:
        self._file.write('\n],\n"images":[')
        self._pictures.close()
        with open(self._pictures.part, encoding="utf-8", newline="\n") as lines:
            for line in lines:
                self._file.write(line)
        self._file.write("\n]}\n")
        self._file.finish()
        self._pictures.discard()
        return {EMPTY: self._num_empty} if self._num_empty else {}

    def discard(self) -> None:
        self._file.discard()
        self._pictures.discard()


def load(path: Path) -> dict[str, Any]:
    """A COCO file with its `images`, `annotations` and `categories`, each not yet looked at. Raises InputError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error
    needed = ("images", "annotations", "categories")
    missing = [key for key in needed if key not in content] if isinstance(content, dict) else ["images"]
    if missing:
        raise InputError(
            f"{path}: expected a COCO file with images, annotations and categories; {missing[0]} is missing"
        )
    return dict(content)


def segmentation_of(annotation: Mapping[str, Any], size: tuple[int, int], *, found: Counter[str]) -> Any:
    """The segmentation as polygons or run lengths of a picture of `size` (height, width), None where it is unknown.

    found: counts what is left out. Raises ValueError.
    """
    segmentation = annotation.get("segmentation") or None
    if isinstance(segmentation, list):
        for polygon in segmentation:
            if not outlines.is_polygon(polygon):
                raise ValueError(f"expected polygons [x, y, x, y, …], got {str(polygon)[:60]}")
        kept = [polygon for polygon in segmentation if len(polygon) >= outlines.SHORTEST]
        found.update([SHORT] * (len(segmentation) - len(kept)))
        return kept or None
    if segmentation is None:
        return None
    if (given := outlines.size_of(segmentation)) == size:
        if isinstance(segmentation["counts"], list):
            outlines.lengths(segmentation)
        return segmentation
    if annotation.get("iscrowd", 0):  # some of COCO's own are smaller than their picture
        found[CROWD_SIZE] += 1
        return None
    raise ValueError(f"expected run lengths of {size[1]}x{size[0]} pixels as its picture has, got size {list(given)}")


def _measures(labels: Sequence[Label]) -> tuple[list[list[int]], list[int]]:
    """The boxes [x, y, width, height] around N masks, and the pixels in each."""
    masks = [label.mask for label in labels]
    boxes = outlines.boxes(masks).astype(np.int64)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes.tolist(), outlines.areas(masks).astype(np.int64).tolist()


def _check_choice(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{name}: expected {' or '.join(known)}, got {value!r}{nearest(str(value), known)}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
