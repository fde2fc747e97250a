"""The Data Science Bowl's submission file: the masks of each picture as run lengths in a CSV."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamseg import outlines
from streamseg.evaluation.bowl import apart
from streamseg.evaluation.objects import Comparison
from streamseg.types import InputError, OutputError, UsageError

HEADER = ("ImageId", "EncodedPixels")

csv.field_size_limit(2**31 - 1)  # a large mask has more runs than its usual 131,072 characters


def check_submission(path: Path, names: Sequence[str]) -> None:
    """Raise what `write_submission` would of pictures of these names; the file's folder is there afterwards."""
    if doubled := sorted(name for name, times in Counter(names).items() if times > 1):
        raise UsageError(f"{path}: expected pictures with names of their own, got {doubled[0]!r} twice")
    part = _part(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.open("w").close()
        part.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


def _part(path: Path) -> Path:
    return path.with_name(f"{path.stem}.part{path.suffix}")


def write_submission(path: Path, pictures: Sequence[Comparison], *, min_score: float) -> int:
    """Write the found objects from `min_score` up, one row each, and return how many there are.

    No pixel stands in two rows: the better score has it. A picture in which nothing was found has one row without runs.
    Raises UsageError when two pictures have one name, OutputError when the file cannot be written.
    """
    check_submission(path, [picture.name for picture in pictures])
    part = _part(path)
    count = 0
    try:
        # a name that is no UTF-8 stands there in its own bytes
        with open(part, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(HEADER)
            for picture in pictures:
                found = picture.found[picture.found.scores >= min_score]
                masks = apart(found, width=picture.width, height=picture.height).masks
                rows.writerows([picture.name, " ".join(map(str, outlines.runs(mask)))] for mask in masks)
                if not masks:
                    rows.writerow([picture.name, ""])
                count += len(masks)
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    return count


def read_submission(path: Path, sizes: Mapping[str, tuple[int, int]]) -> dict[str, list[dict[str, Any]]]:
    """The masks of each picture in the file, in its order, as COCO run lengths.

    sizes: (height, width) of each picture by name. Raises InputError naming the line that is wrong.
    """
    masks: dict[str, list[dict[str, Any]]] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.reader(file)
            if (header := next(rows, [])) != list(HEADER):
                raise InputError(f"{path}, line 1: expected {','.join(HEADER)}, got {','.join(header)}")
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                if len(row) != 2 or row[0] not in sizes:
                    raise InputError(f"{where}: expected a picture's name and its runs, got {','.join(row)[:60]!r}")
                found = masks.setdefault(row[0], [])
                if row[1]:
                    found.append(mask_of(row[1], *sizes[row[0]], where=where))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return masks


def mask_of(text: str, height: int, width: int, *, where: str = "runs") -> dict[str, Any]:
    """The mask of runs written as text, as COCO run lengths. Raises InputError, opened with `where`."""
    numbers = text.split()
    if len(numbers) % 2 or not all(number.isdecimal() for number in numbers):
        raise InputError(f"{where}: expected pairs of a first pixel and a length, got {text[:60]!r}")
    try:
        return outlines.from_runs([int(number) for number in numbers], width=width, height=height)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
