"""YOLO's segmentation data: beside each picture a text with a row of points an object, and data.yaml with the lists."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from streamseg.formats._classes import check_classes
from streamseg.formats._part_folder import PartFolder
from streamseg.formats._part_text import PartText
from streamseg.formats._pixel_rings import pixel_ring, points
from streamseg.labels import Label, LabelledFrame, LabelledVideo
from streamseg.types import UsageError

DOUBLED = "objects that are in the same frame twice"
EMPTY = "objects without a pixel"

_ONE_VIDEO = "# val is train again: there is no other video for it\n"
_NUDGE = 0.01
"""Pixels by which objects with equal boxes are set apart; five millionths of the picture at 4K, still six decimals."""


class Yolo:
    """`STEM/frame_000041.txt` beside `frame_000041.jpg`, and `data.yaml` with the lists `train.txt` and `val.txt`.

    tolerance: how far an outline may stray, in pixels of a large object, less of a small one; 0: nowhere, None: as far
    as the object stays the same to 93 % when small and 98 % when large · val: the share of the videos, each whole,
    that is kept for measuring; where there is but one, it is measured on what it was trained on
    """

    wants_pictures = True
    tracks_only = False

    def __init__(self, *, tolerance: float | None = None, val: float = 0.2) -> None:
        if tolerance is not None and not 0 <= tolerance < np.inf:
            raise UsageError(f"tolerance: expected pixels from 0 up, got {tolerance}")
        if not 0 <= val < 1:
            raise UsageError(f"val: expected a share of the videos from 0 to below 1, got {val}")
        self.tolerance = tolerance
        self.val = val
        self._left_out = {DOUBLED: 0, EMPTY: 0}
        self._num_pictures: list[int] = []
        self._lists: dict[str, PartText] = {}

    def open(self, folder: Path, class_names: Sequence[str]) -> None:
        if "images" in folder.resolve().parts:
            raise UsageError(
                f"{folder}: YOLO's readers look for the labels of pictures below a folder 'images' beside that folder; "
                "choose an output that is not in one"
            )
        self._folder, self._class_names = folder, list(class_names)
        self._files = PartFolder(folder, folder / "yolo.part")
        self._pictures = PartText(folder / "yolo.pictures.txt")

    def begin(self, video: LabelledVideo) -> None:
        _check_name(video.name)
        self._num_pictures.append(0)

    def write(self, frame: LabelledFrame) -> None:
        if frame.picture is None:
            raise UsageError(f"yolo: frame {frame.index} has no saved picture, which its labels stand beside")
        check_classes(frame, self._class_names)
        name = os.path.splitext(frame.picture)[0] + ".txt"
        self._files.write(name, "".join(f"{row}\n" for row in self._rows(frame)).encode("ascii"))
        self._pictures.write(f"./{frame.picture}\n")
        self._num_pictures[-1] += 1

    def _rows(self, frame: LabelledFrame) -> list[str]:
        """A row an object: its class and its points, all between 0 and 1; no two with the same class and box.

        Readers drop the second of those, so an object with another one's box is moved within its pixels.
        """
        rows: list[str] = []
        found: dict[tuple[object, ...], list[bytes]] = {}
        for label in frame.labels:
            ring = pixel_ring(label.mask, tolerance=self.tolerance)
            if ring is None:
                self._left_out[EMPTY] += 1
                continue
            number = self._class_names.index(label.class_name)
            alike = found.setdefault((number, *ring.min(axis=0), *ring.max(axis=0)), [])
            if ring.tobytes() in alike or len(alike) > 2:
                self._left_out[DOUBLED] += 1
                continue
            rows.append(_row(number, points(ring, nudge=len(alike) * _NUDGE), label))
            alike.append(ring.tobytes())
        return rows

    def end(self) -> None:
        pass

    def close(self) -> Mapping[str, int]:
        self._pictures.close()
        self._lists = {name: PartText(self._folder / f"{name}.txt") for name in self._split()}
        with open(self._pictures.part, encoding="utf-8", newline="\n") as pictures:
            for is_val, number in zip(self._for_val(), self._num_pictures, strict=True):
                for _ in range(number):
                    self._lists["val" if is_val else "train"].write(next(pictures))
        self._files.finish()
        for each in self._lists.values():
            each.finish()
        self._describe()
        self._pictures.discard()
        return {reason: number for reason, number in self._left_out.items() if number}

    def _describe(self) -> None:
        """Write data.yaml, the last of all files. Without `path` its readers begin at its own folder."""
        split = self._split()
        content = {
            "train": "train.txt",
            "val": f"{split[-1]}.txt",
            "names": dict(enumerate(self._class_names)),
        }
        file = PartText(self._folder / "data.yaml")
        file.write("" if len(split) > 1 else _ONE_VIDEO)
        file.write(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
        file.finish()

    def _split(self) -> list[str]:
        return ["train", "val"] if any(self._for_val()) else ["train"]

    def _for_val(self) -> list[bool]:
        """Of every video whether it is for measuring: as many as asked for, spread over all, the last among them."""
        count = len(self._num_pictures)
        wanted = min(max(round(self.val * count), 1), count - 1) if self.val and count > 1 else 0
        return [(i + 1) * wanted // count > i * wanted // count for i in range(count)]

    def discard(self) -> None:
        self._files.discard()
        for each in (self._pictures, *self._lists.values()):
            each.discard()


def _check_name(name: str) -> None:
    """UsageError for a video whose pictures YOLO's readers would not find: a list has one a line, in UTF-8."""
    try:
        name.encode("utf-8")
        found = name != "images" and not name.endswith(".") and name.splitlines() == [name]
    except UnicodeEncodeError:
        found = False
    if not found:
        raise UsageError(f"{name!r}: YOLO's readers do not find the labels of a video of this name; rename it")


def _row(number: int, ring: np.ndarray, label: Label) -> str:
    height, width = label.mask["size"]
    return " ".join([str(number), *(f"{value:.6f}" for value in (ring / (width, height)).ravel())])
