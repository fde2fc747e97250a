"""Reads YOLO segmentation data by the rules that are public of its readers, and complains where they would drop."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image


@dataclass(frozen=True)
class Found:
    """One object of a picture: its class, and its ring (P, 2) float32 relative to the picture."""

    class_name: str
    ring: np.ndarray

    def mask(self, width: int, height: int, *, rounded: bool = False, num_points: int = 0) -> np.ndarray:
        """The ring filled with its border, (H, W) bool; its points truncated to pixels, or rounded.

        num_points: resampled before to as many points, evenly between its own
        """
        ring = self.ring
        if num_points:
            closed = np.concatenate([ring, ring[:1]])
            places = np.linspace(0, len(ring), max(num_points, len(closed)))
            ring = np.stack([np.interp(places, np.arange(len(closed)), closed[:, i]) for i in (0, 1)], axis=1)
        points = ring * (width, height)
        filled = np.zeros((height, width), np.uint8)
        cv2.fillPoly(filled, [(np.round(points) if rounded else np.trunc(points)).astype(np.int32)], 1)
        return filled.astype(bool)


def read(data: Path) -> dict[str, dict[Path, list[Found]]]:
    """`train` and `val` of a data.yaml: each picture with its objects.

    AssertionError where a reader would refuse the data, or drop a picture or an object.
    """
    content = yaml.safe_load(data.read_text(encoding="utf-8"))
    root = Path(content.get("path", data.parent))
    assert root.is_absolute(), f"path: {root} would be looked for in the folder of all data sets"
    return {
        part: {picture: _objects(picture, content["names"]) for picture in _listed((root / content[part]).resolve())}
        for part in ("train", "val")
    }


def _listed(pictures: Path) -> list[Path]:
    """The lines of a list; those that begin with ./ begin at the list, and every ./ in them is replaced by that."""
    lines = pictures.read_text(encoding="utf-8").strip().splitlines()
    start = str(pictures.parent) + os.sep
    listed = [Path(line.replace("./", start) if line.startswith("./") else line) for line in lines]
    for picture in listed:
        with Image.open(picture) as opened:
            assert min(opened.size) > 9
    return listed


def _objects(picture: Path, names: dict[int, str]) -> list[Found]:
    below = f"{os.sep}labels{os.sep}".join(str(picture).rsplit(f"{os.sep}images{os.sep}", 1))
    text = Path(below.rsplit(".", 1)[0] + ".txt").read_text(encoding="utf-8")
    found, boxes = [], []
    for row in text.strip().splitlines():
        number, *values = row.split()
        ring = np.array(values, np.float32).reshape(-1, 2)
        assert len(ring) >= 3, f"{picture}: too few points to be no box"
        assert ring.min() >= 0 and ring.max() <= 1, f"{picture} would be dropped"
        boxes.append((number, *ring.min(axis=0), *ring.max(axis=0)))
        found.append(Found(names[int(number)], ring))
    assert len(boxes) == len(set(boxes)), f"{picture}: an object would be dropped as a double"
    return found
