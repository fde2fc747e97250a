"""LabelMe's own files: NAME.json beside each picture, with a polygon for each part of an object."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from streamseg.formats._classes import check_classes
from streamseg.formats._part_folder import PartFolder
from streamseg.formats._pixel_rings import pixel_rings, points
from streamseg.labels import EMPTY, Label, LabelledFrame, LabelledVideo
from streamseg.types import UsageError

VERSION = "5.5.0"
"""Of LabelMe, whose fields these are."""


class Labelme:
    """The parts of an object share a `group_id`, its number in the frame; holes are cut into them.

    tolerance: as in yolo
    """

    wants_pictures = True
    tracks_only = False

    def __init__(self, *, tolerance: float | None = None) -> None:
        if tolerance is not None and not 0 <= tolerance < np.inf:
            raise UsageError(f"tolerance: expected pixels from 0 up, got {tolerance}")
        self.tolerance = tolerance
        self._num_empty = 0

    def open(self, folder: Path, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._files = PartFolder(folder, folder / "labelme.part")

    def begin(self, video: LabelledVideo) -> None:
        self._video = video

    def write(self, frame: LabelledFrame) -> None:
        if frame.picture is None:
            raise UsageError(f"labelme: frame {frame.index} has no saved picture, which its labels stand beside")
        check_classes(frame, self._class_names)
        shapes = [shape for number, label in enumerate(frame.labels, 1) for shape in self._shapes(label, number)]
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": PurePosixPath(frame.picture).name,
            "imageData": None,
            "imageHeight": self._video.height,
            "imageWidth": self._video.width,
        }
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        self._files.write(f"{os.path.splitext(frame.picture)[0]}.json", text.encode("utf-8", "backslashreplace"))

    def _shapes(self, label: Label, number: int) -> list[dict[str, Any]]:
        rings = pixel_rings(label.mask, tolerance=self.tolerance)
        self._num_empty += not rings
        track = f"track {label.track}, " if label.track >= 0 else ""
        return [
            {
                "label": label.class_name,
                "points": points(ring).round(2).tolist(),
                "group_id": number,
                "description": f"{track}score {label.score:.2f}",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for ring in rings
        ]

    def end(self) -> None:
        pass

    def close(self) -> Mapping[str, int]:
        self._files.finish()
        return {EMPTY: self._num_empty} if self._num_empty else {}

    def discard(self) -> None:
        self._files.discard()
