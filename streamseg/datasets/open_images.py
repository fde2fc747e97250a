"""Open Images with its segmentations: a CSV of objects, their masks as pictures, and the pictures."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamseg import outlines
from streamseg.datasets._classes import BACKGROUND, chosen
from streamseg.datasets._picture_files import picture_size, read_mask
from streamseg.datasets._split import Part, part_of
from streamseg.types import InputError, Sample, UsageError
from streamseg.words import nearest

COLUMNS = ("MaskPath", "ImageID", "LabelName", "BoxXMin", "BoxXMax", "BoxYMin", "BoxYMax")
NO_OBJECT = "classes that no object has"
NO_PICTURE = "pictures missing, left out"
NO_MASK = "masks missing, their objects known by the box only"
BAD_MASK = "masks damaged or empty, their objects known by the box only"
RESIZED = "masks of another size than their picture, resized"


@dataclass(frozen=True)
class _Object:
    class_id: int
    box: tuple[float, float, float, float]  # x1, y1, x2, y2 as shares of the picture
    mask: Path | None


class OpenImages:
    """The pictures that an Open Images segmentation CSV (`segmentations`) lists.

    masks: the folder of the masks, one folder for each first character of their names (`0` or `train-masks-0`), or all
    in one · images: the folder of `ID.jpg`, likewise · descriptions: the CSV of MIDs and names; without it classes are
    called by their MID · classes: take these only, by MID or name, those too that are described and no object has, so
    that one list fits all parts · limit: draw pictures with `seed` until each class
    is shown by so many · part, split, seed: as in nuclei. `image_ids` are the pictures' own ids, a sample's is its
    position.

    Raises InputError for a file that is missing or of another form, UsageError for an unknown class. What is missing or
    of another size among the pictures and masks is counted in `warnings`.
    """

    def __init__(
        self,
        *,
        segmentations: Path,
        masks: Path,
        images: Path,
        descriptions: Path | None = None,
        classes: tuple[str, ...] = (),
        limit: int | None = None,
        part: Part = "all",
        split: float = 0.8,
        seed: int = 0,
    ) -> None:
        if limit is not None and limit < 1:
            raise UsageError(f"limit: expected at least 1 picture a class, got {limit}")
        self.path, self._seed = Path(segmentations), seed
        self._found: Counter[str] = Counter()
        self._noted: dict[str, set[Path]] = {BAD_MASK: set(), RESIZED: set()}
        names = _descriptions(Path(descriptions)) if descriptions is not None else {}
        rows = list(_rows(self.path, COLUMNS))
        present = {row["LabelName"] for row in rows}
        labels = _labels(classes, present, names)
        if lacking := sorted(set(labels.values()) - {name for mid, name in labels.items() if mid in present}):
            self._found[f"{NO_OBJECT} ({', '.join(lacking)})"] = len(lacking)
        kept = chosen((), sorted(set(labels.values())))
        self.class_names: tuple[str, ...] = (BACKGROUND, *kept)
        class_ids = {mid: kept.index(name) + 1 for mid, name in labels.items()}
        rows = [row for row in rows if row["LabelName"] in class_ids]
        self._pictures = self._present(sorted({row["ImageID"] for row in rows}), Path(images))
        self._objects = self._objects_of(rows, class_ids, _Folders(Path(masks)))
        ids = list(self._pictures) if limit is None else self._limited(limit)
        self.image_ids: tuple[str, ...] = tuple(part_of(ids, part, split=split, seed=seed))

    def _present(self, ids: list[str], folder: Path) -> dict[str, Path]:
        """Where each picture is; those that are missing are counted."""
        folders = _Folders(folder)
        paths = {each: folders.find(f"{each}.jpg") or folders.find(f"{each}.png") for each in ids}
        present = {image_id: path for image_id, path in paths.items() if path is not None}
        self._found[NO_PICTURE] = len(ids) - len(present)
        if not present:
            raise InputError(f"{folder}: none of the {len(ids)} pictures that {self.path.name} lists is there")
        return present

    def _objects_of(
        self, rows: list[dict[str, str]], class_ids: Mapping[str, int], masks: _Folders
    ) -> dict[str, list[_Object]]:
        """The objects of every picture that is there; masks that are missing are counted."""
        objects: dict[str, list[_Object]] = {image_id: [] for image_id in self._pictures}
        for row in rows:
            if row["ImageID"] in objects:
                mask = masks.find(row["MaskPath"])
                self._found[NO_MASK] += mask is None
                objects[row["ImageID"]].append(_Object(class_ids[row["LabelName"]], _box(row, self.path), mask))
        return objects

    def _limited(self, limit: int) -> list[str]:
        """Pictures in random order, each that shows a class of which fewer than `limit` are taken."""
        ids = list(self._pictures)
        num_shown: Counter[int] = Counter()
        taken = []
        for i in np.random.default_rng(self._seed).permutation(len(ids)):
            shown = {each.class_id for each in self._objects[ids[i]]}
            if any(num_shown[class_id] < limit for class_id in shown):
                taken.append(ids[i])
                num_shown.update(shown)
        return sorted(taken)

    @property
    def warnings(self) -> Mapping[str, int]:
        counts = {**self._found, **{kind: len(paths) for kind, paths in self._noted.items()}}
        return {warning: times for warning, times in counts.items() if times}

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        image_id = self.image_ids[index]
        path, objects = self._pictures[image_id], self._objects[image_id]
        width, height = picture_size(path)
        boxes = np.array([each.box for each in objects], np.float32) * np.array([width, height] * 2, np.float32)
        masks: list[Any] = []
        for box, each in zip(boxes, objects, strict=True):
            mask = self._mask(each.mask, width=width, height=height)
            masks.append(outlines.encoded(mask) if mask is not None else None)
            if mask is not None:
                box[:] = outlines.boxes(masks[-1:])[0]
        return Sample(
            image_id=index,
            path=path,
            width=width,
            height=height,
            boxes=boxes,
            class_ids=np.array([each.class_id for each in objects], np.int32),
            masks=tuple(masks),
            crowd=np.zeros(len(objects), bool),
        )

    def _mask(self, path: Path | None, *, width: int, height: int) -> np.ndarray | None:
        """The mask at the size of its picture (height, width) bool, or None where there is none to be read."""
        if path is None:
            return None
        try:
            mask = read_mask(path)
        except InputError:
            mask = np.zeros((height, width), bool)
        if mask.shape != (height, width):
            self._noted[RESIZED].add(path)
            mask = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
        if not mask.any():
            self._noted[BAD_MASK].add(path)
            return None
        return mask


class _Folders:
    """A folder whose files lie in it, or in folders named by or after the first character of the files' names."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        self._all = [folder, *sorted(each for each in folder.iterdir() if each.is_dir())]

    def find(self, name: str) -> Path | None:
        first = name[:1].lower()
        for folder in self._all:
            if folder is self._all[0] or folder.name.lower() == first or folder.name.lower().endswith(f"-{first}"):
                path = folder / name
                if path.is_file():
                    return path
        return None


def _rows(path: Path, columns: Iterable[str]) -> Iterator[dict[str, str]]:
    """The rows of a CSV, every value as text. Raises InputError when a column is missing."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            given = reader.fieldnames or []
            for column in columns:
                if column not in given:
                    raise InputError(f"{path}: the column {column} is missing{nearest(column, given)}")
            for row in reader:
                if any(row[column] is None for column in columns):
                    raise InputError(f"{path}:{reader.line_num}: expected {len(given)} values in the row")
                yield row
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: no CSV ({error})") from error


def _descriptions(path: Path) -> dict[str, str]:
    """The name of every MID; the newer files open with a row of column names, the older do not."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: no CSV ({error})") from error
    names = {row[0]: row[1] for row in rows if len(row) == 2 and row[0].startswith("/")}
    if not names:
        raise InputError(f"{path}: expected rows of a MID and a name, such as /m/01g317,Person")
    return names


def _labels(classes: tuple[str, ...], present: set[str], names: Mapping[str, str]) -> dict[str, str]:
    """The MIDs to take with their names: those that are present, or the chosen ones of all that are known.

    Raises UsageError for a class that is neither, and where no object has any of them.
    """
    shown = {mid: names.get(mid, mid) for mid in sorted(present)}
    if not classes:
        return shown
    known = {**names, **shown}
    for given in classes:
        if given not in known and given not in known.values():
            close = nearest(given, sorted(set(known.values())))
            hint = close if "did you mean" in close else nearest(given, sorted(shown.values()))
            raise UsageError(f"classes: no object has the class {given!r}{hint}")
    labels = {mid: name for mid, name in known.items() if mid in classes or name in classes}
    if not labels.keys() & present:
        raise UsageError(
            f"classes: no object has the class {' or '.join(map(repr, classes))}{nearest('', sorted(shown.values()))}"
        )
    return labels


def _box(row: Mapping[str, str], path: Path) -> tuple[float, float, float, float]:
    try:
        x1, y1, x2, y2 = (float(row[column]) for column in ("BoxXMin", "BoxYMin", "BoxXMax", "BoxYMax"))
    except ValueError:
        x1 = y1 = x2 = y2 = float("nan")
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise InputError(f"{path}: {row['MaskPath']}: expected a box as shares from 0 to 1, got {_corners(row)}")
    return x1, y1, x2, y2


def _corners(row: Mapping[str, str]) -> str:
    return ", ".join(row[column] for column in ("BoxXMin", "BoxYMin", "BoxXMax", "BoxYMax"))
