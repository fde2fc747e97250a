"""Masks of pedestrians and cars as the MOTS challenge has them, a file NAME.txt a video: a line an object and frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamseg import outlines
from streamseg.formats._classes import check_classes
from streamseg.formats._part_text import TextPerVideo
from streamseg.formats._spool import tracked
from streamseg.labels import Label, LabelledFrame, LabelledVideo

CLASS_IDS: Mapping[str, int] = {"car": 1, "person": 2, "pedestrian": 2}
"""The classes that MOTS knows, by the names that models give them."""

OTHERS = "objects of classes that MOTS does not know"
HIDDEN = "objects that better ones cover"
TOO_MANY = "objects of tracks beyond 999 of a class"

_PER_CLASS = 1000


class Mots:
    """What TrackEval reads as `MOTSChallenge`: frame from 1, class × 1000 + n, class, height, width, run lengths.

    No two objects of a frame share a pixel there: the better one has it.
    """

    wants_pictures = False
    tracks_only = True

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, int], int] = {}
        self._counts: Counter[int] = Counter()
        self._left_out: Counter[str] = Counter()

    def open(self, folder: Path, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._files = TextPerVideo(folder, ending=".txt")

    def begin(self, video: LabelledVideo) -> None:
        self._files.begin(video.name)
        self._numbers, self._counts = {}, Counter()

    def write(self, frame: LabelledFrame) -> None:
        check_classes(frame, self._class_names)
        labels = tracked(frame, self._left_out)
        known = [label for label in labels if label.class_name in CLASS_IDS]
        self._left_out[OTHERS] += len(labels) - len(known)
        numbered = [(number, label) for label in known if (number := self._number(label)) is not None]
        masks = _apart([label for _, label in numbered])
        for (number, label), mask in zip(numbered, masks, strict=True):
            if not outlines.areas([mask])[0]:
                self._left_out[HIDDEN] += 1
                continue
            height, width = mask["size"]
            class_id = CLASS_IDS[label.class_name]
            self._files.write(f"{frame.index + 1} {number} {class_id} {height} {width} {mask['counts']}\n")

    def _number(self, label: Label) -> int | None:
        """The number of a label's track, None where its class has none left."""
        class_id = CLASS_IDS[label.class_name]
        key = class_id, label.track
        if key not in self._numbers:
            if self._counts[class_id] == _PER_CLASS - 1:
                self._left_out[TOO_MANY] += 1
                return None
            self._counts[class_id] += 1
            self._numbers[key] = class_id * _PER_CLASS + self._counts[class_id]
        return self._numbers[key]

    def end(self) -> None:
        self._files.end()

    def close(self) -> Mapping[str, int]:
        self._files.finish()
        return {reason: count for reason, count in self._left_out.items() if count}

    def discard(self) -> None:
        self._files.discard()


def _apart(labels: Sequence[Label]) -> list[Mapping[str, Any]]:
    """The masks of labels, each without the pixels of better ones; one that shares none is copied as it is."""
    masks: list[Mapping[str, Any]] = [label.mask for label in labels]
    shared = outlines.overlaps(masks, masks) > 0
    # of two that are as good, the first
    order = sorted(range(len(labels)), key=lambda i: -labels[i].score)
    for place, i in enumerate(order):
        better = [labels[j].mask for j in order[:place] if shared[i, j]]
        if better:
            masks[i] = outlines.without(labels[i].mask, better)
    return masks
