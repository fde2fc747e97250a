"""The pictures of a training: its datasets joined into one, and the pixels of a sample."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np

from streamseg import plugins
from streamseg.config import Component
from streamseg.datasets._picture_files import decoded
from streamseg.types import Dataset, InputError, Sample, StreamsegError, UsageError
from streamseg.words import known_and_nearest


def read_rgb(sample: Sample) -> np.ndarray:
    """The picture of a sample as (H, W, 3) uint8. Raises InputError when it cannot be read or has another size."""
    if sample.rgb is not None:
        return sample.rgb
    annotated = (sample.height, sample.width)
    bgr = decoded(sample.path, cv2.IMREAD_COLOR)
    if bgr is not None and bgr.shape[:2] != annotated:
        # annotated as the file stores it, before its orientation tag turns it
        stored = decoded(sample.path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        bgr = stored if stored is not None and stored.shape[:2] == annotated else bgr
    if bgr is None:
        raise InputError(f"{sample.path}: the picture is missing or damaged")
    if bgr.shape[:2] != annotated:
        raise InputError(
            f"{sample.path}: expected {sample.width}x{sample.height} pixels as annotated, "
            f"got {bgr.shape[1]}x{bgr.shape[0]}"
        )
    rgb: np.ndarray = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return rgb


def open_datasets(components: Sequence[Component], class_names: Sequence[str]) -> Joined:
    """The datasets of a configuration as one, its class ids those of `class_names`, background first.

    Raises UsageError when a dataset has a class that is not among them, InputError when it cannot be read.
    """
    parts = [plugins.build("datasets", each.name, each.options) for each in components]
    for component, part in zip(components, parts, strict=True):
        for name in part.class_names[1:]:
            if name not in class_names:
                hint = known_and_nearest(name, class_names[1:])
                raise UsageError(
                    f"dataset {component.name}: it has the class {name!r}, which the model lacks{hint} "
                    "(the dataset's option `classes` takes some of its classes only)"
                )
    return Joined(parts, class_names=class_names)


class Joined:
    """Datasets one after the other, their classes joined by name; a class that none of them has never occurs.

    image_id is the dataset's own where there is one dataset, and the position where there are several, so that no two
    are the same. `warnings` are those of the parts, added up.
    """

    def __init__(self, parts: Sequence[Dataset], *, class_names: Sequence[str]) -> None:
        self.parts, self.class_names = tuple(parts), tuple(class_names)
        self._ids = [np.array([self.class_names.index(name) for name in part.class_names], np.int32) for part in parts]
        self._ends = np.cumsum([len(part) for part in parts])
        self._known = np.zeros((len(parts), len(self.class_names)), bool)
        for known, ids in zip(self._known, self._ids, strict=True):
            known[ids] = True

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Sample:
        number, place = self._place(index)
        sample = self.parts[number][place]
        image_id = index if len(self.parts) > 1 else sample.image_id
        class_ids = self._ids[number][sample.class_ids]
        return replace(sample, image_id=image_id, class_ids=class_ids, known_classes=self._known[number])

    @property
    def warnings(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for part in self.parts:
            for warning, times in getattr(part, "warnings", {}).items():
                found[warning] = found.get(warning, 0) + times
        return found

    def _place(self, index: int) -> tuple[int, int]:
        """The number of the dataset that holds a picture, and the picture's position in it."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected a picture from 0 to {len(self) - 1}, got {index}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        return number, index - (int(self._ends[number - 1]) if number else 0)


@contextlib.contextmanager
def damage_named(place: int) -> Iterator[None]:
    """Around a sample: whatever a dataset raises is an InputError that names the picture."""
    try:
        yield
    except (StreamsegError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"picture {place}: {type(error).__name__}: {error}") from error
