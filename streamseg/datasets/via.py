"""Pictures outlined in the VGG Image Annotator, its json of version 1 or 2."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.datasets._classes import chosen
from streamseg.datasets._picture_files import picture_size
from streamseg.types import InputError, Sample
from streamseg.words import nearest

NO_AREA = "regions without area left out"
NO_CLASS = "regions without a class left out"
NO_REGION = "classes that no region has"
EMPTY = "pictures without regions left out"

CORNERS = 72
"""Corners of the polygon that stands for a circle or an ellipse: its area is 0.13 % smaller."""


@dataclass(frozen=True)
class _Picture:
    path: Path
    width: int
    height: int
    polygons: list[np.ndarray]  # each (P, 2) x, y
    classes: list[str]


class Via:
    """The pictures of a VIA json (`path`) that have regions: polygons, rectangles, circles and ellipses.

    images: folder of the pictures, by default the json's · class_name: of all objects, unless `attribute` names the
    region attribute that holds each object's class · classes: take these only; those that no region has are counted in
    `warnings`, unless there is none at all, so that one list fits several files · close_polylines: a polyline outlines
    an object too · keep_empty: take pictures without regions as background. Raises InputError for what is missing.
    """

    warnings: Mapping[str, int]

    def __init__(
        self,
        *,
        path: Path,
        images: Path | None = None,
        class_name: str = "object",
        attribute: str | None = None,
        classes: tuple[str, ...] = (),
        close_polylines: bool = False,
        keep_empty: bool = False,
    ) -> None:
        self.path, self.images = Path(path), Path(images) if images is not None else Path(path).parent
        self.class_name, self.attribute, self.close_polylines = class_name, attribute, close_polylines
        self._found: Counter[str] = Counter()
        entries = _entries(self.path)
        if attribute is not None:
            self._look_for(attribute, entries)
        pictures = [self._picture(entry) for entry in entries]
        names = sorted({name for picture in pictures for name in picture.classes} or {class_name})
        lacking = sorted(set(classes) - set(names))
        if lacking and len(lacking) < len(set(classes)):
            hints = "".join(f" ({name}{nearest(name, names)})" for name in lacking)
            self._found[NO_REGION + hints] = len(lacking)
            names = sorted({*names, *lacking})
        self.class_names: tuple[str, ...] = ("background", *chosen(classes, names))
        self._pictures = [self._with_classes(picture) for picture in pictures]
        if not keep_empty:
            shown = [picture for picture in self._pictures if picture.classes]
            self._found[EMPTY] += len(self._pictures) - len(shown)
            self._pictures = shown
        if not self._pictures:
            raise InputError(f"{path}: no picture has a region that outlines an object")
        self.warnings = {warning: times for warning, times in self._found.items() if times}

    def _look_for(self, attribute: str, entries: list[dict[str, Any]]) -> None:
        regions = [region for entry in entries for region in self._regions(entry)]
        known = {key for region in regions for key in region["region_attributes"]}
        if attribute not in known:
            raise InputError(f"{self.path}: no region has the attribute {attribute!r}{nearest(attribute, known)}")

    def _regions(self, entry: dict[str, Any]) -> list[dict[str, Any]]:
        """The regions of a picture, a list in version 2, numbered in version 1; attributes that are empty are {}."""
        where, regions = f"{self.path}: {entry['filename']}", entry["regions"]
        if not isinstance(regions, list | dict):
            raise InputError(f"{where}: regions: expected a list or numbered regions, got {_short(regions)}")
        listed: list[dict[str, Any]] = []
        for number, region in enumerate(regions.values() if isinstance(regions, dict) else regions, start=1):
            if not isinstance(region, dict):
                raise InputError(f"{where}, region {number}: expected its attributes, got {_short(region)}")
            shape, attributes = region.get("shape_attributes", {}), region.get("region_attributes") or {}
            for name, value in (("shape_attributes", shape), ("region_attributes", attributes)):
                if not isinstance(value, dict):
                    raise InputError(
                        f"{where}, region {number}: {name}: expected names and values, got {_short(value)}"
                    )
            listed.append({**region, "region_attributes": attributes})
        return listed

    def _picture(self, entry: dict[str, Any]) -> _Picture:
        path = self.images / str(entry["filename"])
        if not path.is_file():
            raise InputError(f"{self.path}: picture {path} is missing")
        width, height = picture_size(path)
        polygons, classes = [], []
        for number, region in enumerate(self._regions(entry)):
            try:
                outline = _outline(region["shape_attributes"], close_polylines=self.close_polylines)
            except (KeyError, TypeError, ValueError) as error:
                said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
                raise InputError(f"{self.path}: {path.name}, region {number + 1}: {said}") from error
            outline = np.clip(outline, 0, (width, height))
            if np.prod(np.ptp(outline, axis=0) if len(outline) else 0) < 1:
                self._found[NO_AREA] += 1
            elif (name := self._class_of(region)) is None:
                self._found[NO_CLASS] += 1
            else:
                polygons.append(outline)
                classes.append(name)
        return _Picture(path, width, height, polygons, classes)

    def _class_of(self, region: dict[str, Any]) -> str | None:
        """The class of a region: text, the one choice of a list, or the one ticked box."""
        if self.attribute is None:
            return self.class_name
        value = region["region_attributes"].get(self.attribute)
        if isinstance(value, dict):
            ticked = [name for name, chosen in value.items() if chosen]
            value = ticked[0] if len(ticked) == 1 else None
        return str(value).strip() or None if value is not None else None

    def _with_classes(self, picture: _Picture) -> _Picture:
        """The picture with the objects of the chosen classes only."""
        kept = [i for i, name in enumerate(picture.classes) if name in self.class_names[1:]]
        polygons, classes = [picture.polygons[i] for i in kept], [picture.classes[i] for i in kept]
        return _Picture(picture.path, picture.width, picture.height, polygons, classes)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        picture = self._pictures[index]
        boxes = [[*polygon.min(axis=0), *polygon.max(axis=0)] for polygon in picture.polygons]
        return Sample(
            image_id=index,
            path=picture.path,
            width=picture.width,
            height=picture.height,
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            class_ids=np.array([self.class_names.index(name) for name in picture.classes], np.int32),
            masks=tuple([polygon.ravel().tolist()] for polygon in picture.polygons),
            crowd=np.zeros(len(boxes), bool),
        )


def _entries(path: Path) -> list[dict[str, Any]]:
    """What the json says of each picture; a project file keeps it one level deeper than an export."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error
    if isinstance(content, dict):
        content = content.get("_via_img_metadata", content)
        entries = list(content.values()) if isinstance(content, dict) else []
        if entries and all(isinstance(entry, dict) and {"filename", "regions"} <= entry.keys() for entry in entries):
            return sorted(entries, key=lambda entry: str(entry["filename"]))
    raise InputError(
        f"{path}: expected the annotator's json (pictures with `filename` and `regions`) or its project file"
    )


def _short(value: Any) -> str:
    """A value of the json as it stands there, the beginning of a long one."""
    return json.dumps(value)[:60]


def _outline(shape: dict[str, Any], *, close_polylines: bool) -> np.ndarray:
    """The outline of a region as (P, 2) x, y; no points where it has no inside."""
    kind = shape["name"]
    if kind == "polygon" or (kind == "polyline" and close_polylines):
        xs, ys = shape["all_points_x"], shape["all_points_y"]
        if len(xs) != len(ys):
            raise ValueError(f"expected as many all_points_y as all_points_x, {len(xs)}, got {len(ys)}")
        outline = np.array([xs, ys], np.float64).T
        outline = outline if len(xs) > 2 else np.zeros((0, 2))
    elif kind == "rect":
        x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
        outline = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    elif kind in ("circle", "ellipse"):
        rx, ry = (float(shape[key]) for key in (("r", "r") if kind == "circle" else ("rx", "ry")))
        turn = float(shape.get("theta", 0))  # radians, clockwise as y points down
        angles = np.arange(CORNERS) * 2 * math.pi / CORNERS
        upright = np.stack([rx * np.cos(angles), ry * np.sin(angles)], axis=1)
        turned = upright @ [[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]
        outline = turned + (float(shape["cx"]), float(shape["cy"]))
    elif kind in ("polyline", "line", "point"):
        outline = np.zeros((0, 2))
    else:
        raise ValueError(f"expected a polygon, rect, circle, ellipse, polyline or point, got {kind!r}")
    if not np.isfinite(outline).all():
        raise ValueError("expected finite coordinates")
    return outline
