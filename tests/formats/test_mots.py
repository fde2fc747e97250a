"""A line is one object of one frame, and no two of a frame share a pixel; read as the format's description has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from streamseg import outlines
from streamseg.formats.mots import Mots
from streamseg.labels import LabelledFrame
from tests.formats import videos

Line = tuple[int, int, int, np.ndarray]
"""Frame, number, class, mask (H, W) bool."""


def read(path: Path) -> list[Line]:
    lines = []
    for text in path.read_text().splitlines():
        frame, number, class_id, height, width, counts = text.split(" ")
        size = {"width": int(width), "height": int(height)}
        mask = outlines.decoded({"size": [int(height), int(width)], "counts": counts}, **size).astype(bool)
        lines.append((int(frame), int(number), int(class_id), mask))
    return lines


def lines_of(folder: Path, *frames: LabelledFrame, left_out: dict[str, int] | None = None) -> list[Line]:
    format = Mots()
    format.open(folder, (*videos.CLASS_NAMES, "car"))
    format.begin(videos.video())
    for frame in frames:
        format.write(frame)
    format.end()
    assert format.close() == (left_out or {})
    return read(folder / "street.txt")


def test_people_are_written_from_frame_1_with_masks_byte_for_byte(tmp_path: Path) -> None:
    left_out = videos.write(Mots(), tmp_path, "Straße 雨", "street")
    assert left_out == {"objects without a track": 6}  # a dog in three frames of both videos
    expected = [
        f"{frame.index + 1} {2000 + label.track} 2 48 64 {label.mask['counts']}"
        for frame in videos.frames()
        for label in frame.labels
        if label.track > 0
    ]
    for name in ("Straße 雨", "street"):
        assert (tmp_path / f"{name}.txt").read_text().splitlines() == expected


def test_shared_pixels_go_to_the_better_object(tmp_path: Path) -> None:
    worse = videos.label(videos.rectangle(0, 0, 20, 20), track=1, score=0.5)
    better = videos.label(videos.rectangle(10, 10, 30, 30), track=2, score=0.9)
    (_, first, _, left), (_, second, _, right) = lines_of(tmp_path, LabelledFrame(0, 0.0, (worse, better)))
    assert (first, second) == (2001, 2002)
    np.testing.assert_array_equal(right, videos.rectangle(10, 10, 30, 30))
    np.testing.assert_array_equal(left, videos.rectangle(0, 0, 20, 20) & ~right)


def test_of_three_that_overlap_every_pixel_has_one_owner(tmp_path: Path) -> None:
    labels = tuple(
        videos.label(videos.rectangle(5 * n, 5 * n, 5 * n + 20, 5 * n + 20), track=n + 1, score=score)
        for n, score in enumerate((0.7, 0.9, 0.7))
    )
    masks = [mask for *_, mask in lines_of(tmp_path, LabelledFrame(0, 0.0, labels))]
    assert np.sum(masks, axis=0).max() == 1
    whole = np.any([outlines.decoded(label.mask, width=64, height=48) for label in labels], axis=0)
    np.testing.assert_array_equal(np.any(masks, axis=0), whole)


def test_an_object_that_better_ones_cover_is_counted(tmp_path: Path) -> None:
    label = videos.label(videos.rectangle(0, 0, 20, 20), score=0.9)
    hidden = replace(label, track=2, score=0.5)
    lines = lines_of(tmp_path, LabelledFrame(0, 0.0, (hidden, label)), left_out={"objects that better ones cover": 1})
    assert [number for _, number, _, _ in lines] == [2002]


def test_other_classes_are_left_out_and_counted_and_cover_nothing(tmp_path: Path) -> None:
    person = videos.label(videos.rectangle(0, 0, 20, 20), score=0.5)
    dog = replace(person, track=2, class_name="dog", score=0.9)
    car = videos.label(videos.rectangle(30, 30, 40, 40), track=3, class_name="car")
    reason = "objects of classes that MOTS does not know"
    lines = lines_of(tmp_path, LabelledFrame(7, 0.7, (dog, person, car)), left_out={reason: 1})
    assert [line[:3] for line in lines] == [(8, 2001, 2), (8, 1001, 1)]
    assert lines[0][3].sum() == 400


def test_a_class_has_999_tracks(tmp_path: Path) -> None:
    label = videos.label(videos.rectangle(0, 0, 2, 2))
    frames = [LabelledFrame(n, n / 10, (replace(label, track=n + 1),)) for n in range(1001)]
    frames.append(LabelledFrame(1001, 100.1, (replace(label, track=5),)))
    lines = lines_of(tmp_path, *frames, left_out={"objects of tracks beyond 999 of a class": 2})
    assert [number for _, number, _, _ in lines] == [*range(2001, 3000), 2005]
