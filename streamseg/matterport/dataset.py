"""The original's `Dataset`, to be subclassed, and `Samples`, which makes one a dataset of streamseg."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamseg import outlines
from streamseg.datasets._picture_files import decoded
from streamseg.matterport.config import Config, mold_of
from streamseg.matterport.reading import read_masks, read_picture
from streamseg.matterport.utils import extract_bboxes
from streamseg.molding import pad_or_cut
from streamseg.types import InputError, Sample, UsageError
from streamseg.words import nearest

BACKGROUND = "BG"


class Dataset:
    """Pictures and their masks, listed once; a subclass lists them, and says in `load_mask` what is on each.

    add_class and add_image list, `prepare` closes the lists. Then: num_classes · class_ids · class_names, `BG` first ·
    num_images · image_ids · sources · class_from_source_map and image_from_source_map: `source.id` → number ·
    source_class_ids: source → class ids, background included. class_map means nothing here, as in the original.
    """

    def __init__(self, class_map: Any = None) -> None:
        self.image_info: list[dict[str, Any]] = []
        self.class_info: list[dict[str, Any]] = [{"source": "", "id": 0, "name": BACKGROUND}]
        self.source_class_ids: dict[str, list[int]] = {}
        self._image_ids = np.zeros(0, int)

    def add_class(self, source: str, class_id: int | str, class_name: str) -> None:
        """List a class by its source's name and its id there; listed again, it stays as it was."""
        if "." in source:
            raise UsageError(f"source: expected a name without a dot, got {source!r}")
        if not any(each["source"] == source and each["id"] == class_id for each in self.class_info):
            self.class_info.append({"source": source, "id": class_id, "name": class_name})

    def add_image(self, source: str, image_id: Any, path: str | Path | None, **kwargs: Any) -> None:
        """List a picture by its source's name and its id there; kwargs are kept beside them in `image_info`."""
        self.image_info.append({"id": image_id, "source": source, "path": path, **kwargs})

    def prepare(self, class_map: Any = None) -> None:
        """Give every class and every picture its number; needed before the dataset is used."""
        self.num_classes, self.num_images = len(self.class_info), len(self.image_info)
        self.class_ids, self._image_ids = np.arange(self.num_classes), np.arange(self.num_images)
        self.class_names = [each["name"].split(",")[0] for each in self.class_info]  # "cat, domestic": cat
        self.class_from_source_map = {_name(each): i for i, each in enumerate(self.class_info)}
        self.image_from_source_map = {_name(each): i for i, each in enumerate(self.image_info)}
        self.sources = list(dict.fromkeys(each["source"] for each in self.class_info))
        self.source_class_ids = {
            source: [i for i, each in enumerate(self.class_info) if i == 0 or each["source"] == source]
            for source in self.sources
        }

    @property
    def image_ids(self) -> np.ndarray:
        """The numbers of all pictures, (num_images,)."""
        return self._image_ids

    def map_source_class_id(self, source_class_id: str) -> int:
        """The class id of a source's class, named `source.id`: `map_source_class_id("coco.12")`."""
        try:
            return self.class_from_source_map[source_class_id]
        except KeyError:
            hint = nearest(source_class_id, self.class_from_source_map)
            raise UsageError(f"no class is called {source_class_id!r}{hint}") from None

    def get_source_class_id(self, class_id: int, source: str) -> Any:
        """The id that a class has in its source. Raises UsageError when it is of another source."""
        info = self.class_info[class_id]
        if info["source"] != source:
            raise UsageError(f"class {class_id} ({info['name']}): expected source {info['source']!r}, got {source!r}")
        return info["id"]

    def source_image_link(self, image_id: int) -> Any:
        """Where a picture is: its path, unless a subclass knows its address."""
        return self.image_info[image_id]["path"]

    def image_reference(self, image_id: int) -> str:
        """What a person needs to find a picture at its source; a subclass says it, here it is empty."""
        return ""

    def load_image(self, image_id: int) -> np.ndarray:
        """The picture (H, W, 3) uint8 RGB, as stored: an orientation tag turns nothing. Raises InputError."""
        path = self.image_info[image_id]["path"]
        if path is None:
            raise InputError(f"picture {image_id} has no path; a dataset that makes its pictures overrides load_image")
        bgr = decoded(Path(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if bgr is None:
            raise InputError(f"{path}: the picture is missing or damaged")
        rgb: np.ndarray = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        return rgb

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The masks (H, W, n) bool of a picture and their class ids (n,) int32; a subclass says it, here none.

        A class id below 0 marks a crowd of that class: neither object nor background.
        """
        return np.empty((0, 0, 0), bool), np.empty(0, np.int32)


def require_prepared(dataset: Dataset) -> None:
    """Raises UsageError for a dataset that is not."""
    if getattr(dataset, "num_images", None) != len(dataset.image_info):
        raise UsageError(f"{type(dataset).__name__}: call prepare() after the last add_class and add_image")


class Samples:
    """A prepared `Dataset` as streamseg's own (`streamseg.types.Dataset`): masks as run lengths, boxes around them.

    Objects without a pixel are left out. With a `Config` pictures and masks come as its network takes them, scaled and
    padded, an input smaller than IMAGE_SHAPE padded to it below and on the right; `crop` leaves them whole, for whoever
    cuts them. The pictures are those of `image_ids`, which a script may have narrowed. Raises UsageError for a dataset
    that is not prepared.
    """

    def __init__(self, dataset: Dataset, config: Config | None = None) -> None:
        require_prepared(dataset)
        self.dataset, self.config = dataset, config
        self.class_names: tuple[str, ...] = ("background", *dataset.class_names[1:])

    def __len__(self) -> int:
        return len(self.dataset.image_ids)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"expected a picture from 0 to {len(self) - 1}, got {index}")
        image_id = int(self.dataset.image_ids[index])
        rgb = read_picture(self.dataset, image_id)
        masks, class_ids = read_masks(self.dataset, image_id, rgb.shape)
        if self.config:
            rgb, masks = _molded(rgb, masks, self.config, name=f"{type(self.dataset).__name__}, picture {image_id}")
            seen = masks.any(axis=(0, 1))
            masks, class_ids = masks[..., seen], class_ids[seen]
        boxes = extract_bboxes(masks)
        return Sample(
            image_id=image_id,
            path=Path(str(self.dataset.image_info[image_id]["path"] or f"image-{image_id}")),
            width=rgb.shape[1],
            height=rgb.shape[0],
            boxes=boxes[:, [1, 0, 3, 2]].astype(np.float32),
            class_ids=np.abs(class_ids).astype(np.int32),
            masks=tuple(outlines.encoded_all(masks)),
            crowd=class_ids < 0,
            rgb=rgb,
            known_classes=known_classes(self.dataset, image_id),
        )


def _molded(rgb: np.ndarray, masks: np.ndarray, config: Config, *, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W, 3) and its masks (H, W, n) as the network that a `Config` describes takes them: see `Samples`.

    Raises UsageError, with the picture's name, when it does not become an input of IMAGE_SHAPE.
    """
    mode, (height, width) = config.IMAGE_RESIZE_MODE, (int(side) for side in config.IMAGE_SHAPE[:2])
    if mode == "none" and any(side % 64 for side in rgb.shape[:2]):
        raise UsageError(f"{name}: expected sides that are multiples of 64 with resize mode none, got {rgb.shape[:2]}")
    mold = replace(mold_of(config, rgb), crop=None)
    rgb, masks = mold.picture(rgb), mold.masks(masks)
    if mode == "crop":
        return rgb, masks
    below, right = height - rgb.shape[0], width - rgb.shape[1]
    if min(below, right) < 0:
        raise UsageError(
            f"{name}: expected an input of at most {height} × {width} pixels (IMAGE_MAX_DIM) in resize mode {mode}, "
            f"got {rgb.shape[0]} × {rgb.shape[1]}"
        )
    rest = (0, below), (0, right), (0, 0)
    return pad_or_cut(rgb, rest, None), pad_or_cut(masks, rest, None)


def known_classes(dataset: Dataset, image_id: int) -> np.ndarray:
    """Which classes (K,) bool the source of a picture knows, background included.

    Raises UsageError for a source without a class.
    """
    source = dataset.image_info[image_id]["source"]
    if source not in dataset.source_class_ids:
        there = ", ".join(map(repr, dataset.sources[1:])) or "none"
        raise UsageError(
            f"{type(dataset).__name__}, picture {image_id}: expected a source that add_class names too ({there}), "
            f"got {source!r}"
        )
    known = np.zeros(dataset.num_classes, bool)
    known[dataset.source_class_ids[source]] = True
    return known


def _name(info: dict[str, Any]) -> str:
    return f"{info['source']}.{info['id']}"
