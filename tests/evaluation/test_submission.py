"""A submission decodes to the very masks that were written, and a wrong one is refused by its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from streamseg.evaluation.objects import Comparison, Objects
from streamseg.evaluation.submission import mask_of, read_submission, write_submission
from streamseg.types import InputError, OutputError, UsageError
from tests.evaluation.test_bowl import label_map, of_masks


def seen(name: str, found: Objects, *, width: int, height: int) -> Comparison:
    return Comparison(name, width, height, found[np.zeros(len(found), bool)], found)


def test_runs_as_text_are_a_mask() -> None:
    """A 3×4 picture: pixels 1 to 3 are its first column; 5, 6, 7 run from the second into the third."""
    mask = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(coco_mask.decode(mask_of("3 1 5 3", 3, 4)), mask)


def test_the_file_decodes_to_the_masks_of_the_label_map(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    sizes = {"first": (50, 70), "zweite\udce4": (64, 48), "empty": (8, 8)}  # one is no UTF-8
    pictures = []
    for name, (height, width) in sizes.items():
        count = 0 if name == "empty" else 20
        rows, columns = np.indices((height, width))
        discs = [
            (rows - rng.integers(height)) ** 2 + (columns - rng.integers(width)) ** 2 < rng.integers(9, 80)
            for _ in range(count)
        ]
        pictures.append(seen(name, of_masks(discs, rng.permutation(count) / 20), width=width, height=height))
    path = tmp_path / "found.csv"
    written = write_submission(path, pictures, min_score=0.5)
    back = read_submission(path, sizes)
    assert list(back) == list(sizes) and back["empty"] == []
    assert written == sum(map(len, back.values())) > 10 and not list(tmp_path.glob("*.part*"))
    for picture in pictures:
        labels = label_map(picture.found[picture.found.scores >= 0.5], width=picture.width, height=picture.height)
        decoded = [coco_mask.decode(mask) for mask in back[picture.name]]
        expected = {(labels == label).tobytes() for label in set(labels[labels > 0].tolist())}
        assert {mask.astype(bool).tobytes() for mask in map(np.ascontiguousarray, decoded)} == expected
        assert sum(decoded, np.zeros_like(labels)).max(initial=0) <= 1


def test_the_file_looks_as_the_bowl_wants_it(tmp_path: Path) -> None:
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1] = mask[0, 3] = True
    pictures = [
        seen("a", of_masks([mask], [0.9]), width=4, height=4),
        seen("b", of_masks([mask], [0.4]), width=4, height=4),
    ]
    assert write_submission(tmp_path / "a.csv", pictures, min_score=0.5) == 1
    assert (tmp_path / "a.csv").read_text() == "ImageId,EncodedPixels\na,6 2 13 1\nb,\n"


def test_a_byte_order_mark_before_the_header_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "marked.csv"
    path.write_text("\ufeffImageId,EncodedPixels\na,1 2\n", encoding="utf-8")
    assert list(read_submission(path, {"a": (2, 2)})) == ["a"]


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    one = seen("a", of_masks([], []), width=4, height=4)
    with pytest.raises(UsageError, match="expected pictures with names of their own, got 'a' twice"):
        write_submission(tmp_path / "a.csv", [one, one], min_score=0.5)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="a.csv: cannot be written"):
        write_submission(tmp_path / "taken" / "a.csv", [], min_score=0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Id,Pixels\n", "line 1: expected ImageId,EncodedPixels, got Id,Pixels"),
        ("", "line 1: expected ImageId,EncodedPixels, got "),
        ("ImageId,EncodedPixels\nb,1 2\n", "line 2: expected a picture's name and its runs, got 'b,1 2'"),
        (
            "ImageId,EncodedPixels\na,1 2\na,1 2 3\n",
            "line 3: expected pairs of a first pixel and a length, got '1 2 3'",
        ),
        ("ImageId,EncodedPixels\na,1 -2\n", "line 2: expected pairs"),
        ("ImageId,EncodedPixels\na,0 2\n", "line 2: expected runs within 4x3 pixels, got 0 2"),
        ("ImageId,EncodedPixels\na,12 2\n", "line 2: expected runs within 4x3 pixels, got 12 2"),
        ("ImageId,EncodedPixels\na,1 99999999999999999999\n", "line 2: expected runs within 4x3 pixels"),
    ],
)
def test_a_wrong_file_is_refused_by_its_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_submission(path, {"a": (3, 4)})
    assert f"a.csv, {said}" in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.csv: cannot be read"):
        read_submission(tmp_path / "none.csv", {})


def test_a_large_mask_comes_back_whatever_its_runs(tmp_path: Path) -> None:
    striped = np.zeros((400, 400), bool)
    striped[::2] = True
    write_submission(tmp_path / "a.csv", [seen("a", of_masks([striped], [0.9]), width=400, height=400)], min_score=0.5)
    assert max(map(len, (tmp_path / "a.csv").read_text().splitlines())) > 2**17
    (mask,) = read_submission(tmp_path / "a.csv", {"a": (400, 400)})["a"]
    np.testing.assert_array_equal(coco_mask.decode(mask), striped)
