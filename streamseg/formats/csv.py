"""A row an object, a file NAME.csv a video: for spreadsheets and data frames; a frame without objects has no row."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamseg.formats._classes import check_classes
from streamseg.formats._part_text import TextPerVideo
from streamseg.labels import LabelledFrame, LabelledVideo

COLUMNS = ("frame", "time", "track", "class", "score", "x1", "y1", "x2", "y2", "height", "width", "counts")
"""`track` is empty where there is none; the last three are the mask as COCO run lengths."""


class Csv:
    """masks: False leaves the masks out, which are most of the file."""

    wants_pictures = False
    tracks_only = False

    def __init__(self, *, masks: bool = True) -> None:
        self.masks = masks

    def open(self, folder: Path, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._files = TextPerVideo(folder, ending=".csv")

    def begin(self, video: LabelledVideo) -> None:
        self._files.begin(video.name)
        self._write([COLUMNS if self.masks else COLUMNS[:-3]])

    def write(self, frame: LabelledFrame) -> None:
        check_classes(frame, self._class_names)
        self._write([self._row(frame, number) for number in range(len(frame.labels))])

    def end(self) -> None:
        self._files.end()

    def close(self) -> Mapping[str, int]:
        self._files.finish()
        return {}

    def discard(self) -> None:
        self._files.discard()

    def _row(self, frame: LabelledFrame, number: int) -> list[Any]:
        label = frame.labels[number]
        track = label.track if label.track >= 0 else ""
        mask = [*label.mask["size"], label.mask["counts"]] if self.masks else []
        return [frame.index, round(frame.time, 6), track, label.class_name, label.score, *label.box, *mask]

    def _write(self, rows: Sequence[Sequence[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._files.write(text.getvalue())
