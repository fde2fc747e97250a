"""Clothes of DeepFashion2: one json a picture, thirteen categories, in a folder here or in a bucket."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streamseg import outlines, zoo
from streamseg.datasets._classes import chosen
from streamseg.datasets._picture_files import picture_size
from streamseg.datasets._storage import Storage, open_storage, write_whole
from streamseg.types import InputError, Sample, UsageError

CATEGORIES = (
    "short sleeve top",
    "long sleeve top",
    "short sleeve outwear",
    "long sleeve outwear",
    "vest",
    "sling",
    "shorts",
    "trousers",
    "skirt",
    "short sleeve dress",
    "long sleeve dress",
    "vest dress",
    "sling dress",
)
"""The categories with the ids 1 to 13."""

NO_PICTURE = "pictures missing, left out"
NO_AREA = "items without area left out"
NO_MASK = "items without a polygon, known by their box only"

AT_ONCE = 1000
"""Annotations read in one go: a bucket answers many requests at a time."""

_INDEX_VERSION = 1
"""Part of a cached index's name: raised when what it holds changes."""


class Deepfashion2:
    """The pictures `image/000001.jpg` of a folder with their items in `annos/000001.json`.

    folder: on this machine, or `s3://bucket/folder` (needs the extra `s3`), whose pictures are fetched into the cache
    folder as they are taken · endpoint: the URL of an S3 service that is not Amazon's · classes: take these only, and
    only pictures that show one · limit: the first so many pictures; of the others nothing is read.

    All annotations are read once into an index in the cache folder, which holds until one of them changes. Raises
    InputError for an annotation of another form.
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        endpoint: str | None = None,
        classes: tuple[str, ...] = (),
        limit: int | None = None,
    ) -> None:
        if limit is not None and limit < 1:
            raise UsageError(f"limit: expected at least 1 picture, got {limit}")
        kept = chosen(classes, CATEGORIES)
        self.class_names: tuple[str, ...] = ("background", *kept)
        self.folder = str(folder)
        self._storage = open_storage(folder, endpoint=endpoint)
        annotations, pictures = self._storage.versions("annos"), self._storage.versions("image")
        annotations = {name: version for name, version in annotations.items() if name.endswith(".json")}
        if not annotations:
            raise InputError(f"{folder}/annos: expected a json for every picture, found none")
        names = list(annotations)[:limit]
        present = [name for name in names if _picture_of(name) in pictures]
        if not present:
            raise InputError(f"{folder}/image: none of the {len(names)} annotated pictures is there")
        index = _index(self._storage, {name: annotations[name] for name in present}, where=self.folder)
        self._found = Counter({NO_PICTURE: len(names) - len(present)})
        self._pictures: list[tuple[str, list[dict[str, Any]]]] = []
        for name in present:
            items = [item for item in index[name] if CATEGORIES[item["category"] - 1] in kept]
            self._found[NO_AREA] += sum(not _has_area(item) for item in items)
            items = [item for item in items if _has_area(item)]
            self._found[NO_MASK] += sum(not item["polygons"] for item in items)
            if items or not classes:
                self._pictures.append((name, items))
        if not self._pictures:
            raise InputError(f"{folder}: no picture shows {' or '.join(classes)}")

    @property
    def warnings(self) -> Mapping[str, int]:
        return {warning: times for warning, times in self._found.items() if times}

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        name, items = self._pictures[index]
        path = self._storage.local(f"image/{_picture_of(name)}")
        width, height = picture_size(path)
        return Sample(
            image_id=index,
            path=path,
            width=width,
            height=height,
            boxes=np.array([item["box"] for item in items], np.float32).reshape(-1, 4),
            class_ids=np.array([self.class_names.index(CATEGORIES[item["category"] - 1]) for item in items], np.int32),
            masks=tuple(item["polygons"] or None for item in items),
            crowd=np.zeros(len(items), bool),
        )


def _picture_of(name: str) -> str:
    return f"{name.removesuffix('.json')}.jpg"


def _has_area(item: Mapping[str, Any]) -> bool:
    x1, y1, x2, y2 = item["box"]
    return bool(x2 - x1 > 0.5 and y2 - y1 > 0.5)


def _index(storage: Storage, versions: Mapping[str, str], *, where: str) -> dict[str, list[dict[str, Any]]]:
    """The items of every annotation by its file's name, from the cache where it holds them as they are now."""
    content = "\n".join([f"{_INDEX_VERSION} {where}", *(f"{name} {version}" for name, version in versions.items())])
    key = hashlib.sha256(content.encode()).hexdigest()[:24]
    path = zoo.cache_folder() / "datasets" / f"deepfashion2-{key}.json.gz"
    try:
        return dict(json.loads(gzip.decompress(path.read_bytes())))
    except FileNotFoundError:
        pass
    except (OSError, EOFError, ValueError, zlib.error):
        path.unlink()  # cut short or damaged: it is made again
    names = list(versions)
    index: dict[str, list[dict[str, Any]]] = {}
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        for name, text in zip(some, storage.read([f"annos/{name}" for name in some]), strict=True):
            index[name] = _items(text, where=f"{where}/annos/{name}")
    write_whole(path, gzip.compress(json.dumps(index).encode(), compresslevel=5))
    return index


def _items(text: bytes, *, where: str) -> list[dict[str, Any]]:
    """What an annotation says of its items: [{"category": 1 to 13, "box": xyxy, "polygons": COCO's}, …]."""
    try:
        content = json.loads(text)
        items = [content[key] for key in sorted(content) if key.startswith("item") and key[4:].isdigit()]
        return [
            {
                "category": _category(item["category_id"]),
                "box": _numbers(item["bounding_box"], 4),
                "polygons": [_numbers(each) for each in item["segmentation"] if len(each) >= outlines.SHORTEST],
            }
            for item in items
        ]
    except KeyError as error:
        raise InputError(f"{where}: {error} is missing in an item") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: not as DeepFashion2's annotations are: {error}") from error


def _category(number: Any) -> int:
    if not isinstance(number, int) or not 1 <= number <= len(CATEGORIES):
        raise ValueError(f"category_id: expected 1 to {len(CATEGORIES)}, got {number!r}")
    return number


def _numbers(values: Any, count: int | None = None) -> list[float]:
    """Finite numbers in pairs, `count` of them or any."""
    if not outlines.is_polygon(values) or count not in (None, len(values)):
        raise ValueError(f"expected {count or 'pairs of'} numbers, got {str(values)[:60]}")
    return list(values)
