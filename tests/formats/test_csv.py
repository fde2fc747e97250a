"""A spreadsheet has a row for every object, with its mask."""

from __future__ import annotations

import csv
from pathlib import Path

from streamseg import outlines
from streamseg.formats.csv import Csv
from tests.formats import videos


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_object_is_a_row_with_its_numbers_and_its_mask(tmp_path: Path) -> None:
    videos.write(Csv(), tmp_path, "street")
    expected = [(frame, label) for frame in videos.frames() for label in frame.labels]
    read = rows(tmp_path / "street.csv")
    assert len(read) == len(expected) == 15
    for row, (frame, label) in zip(read, expected, strict=True):
        assert (int(row["frame"]), float(row["time"])) == (frame.index, frame.time)
        assert (row["track"] or "-1", row["class"], float(row["score"])) == (
            str(label.track),
            label.class_name,
            label.score,
        )
        assert tuple(float(row[side]) for side in ("x1", "y1", "x2", "y2")) == label.box
        mask = {"size": [int(row["height"]), int(row["width"])], "counts": row["counts"]}
        assert (outlines.decoded(mask, width=64, height=48) == outlines.decoded(label.mask, width=64, height=48)).all()


def test_the_masks_may_be_left_out(tmp_path: Path) -> None:
    videos.write(Csv(masks=False), tmp_path, "street")
    assert list(rows(tmp_path / "street.csv")[0]) == [
        "frame",
        "time",
        "track",
        "class",
        "score",
        "x1",
        "y1",
        "x2",
        "y2",
    ]
