"""Datumaro, Label Studio's SDK and TrackEval read the same objects, where a Python has them.

They need OpenCV 4, so such a Python is another one; `STREAMSEG_TESTS_READERS` names it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg import outlines
from streamseg.formats.coco import Coco
from streamseg.formats.cvat import Cvat
from streamseg.formats.labelstudio import Labelstudio
from streamseg.formats.mots import Mots
from streamseg.formats.voc import Voc
from streamseg.formats.youtube_vis import YoutubeVis
from streamseg.labels import Label
from tests.formats import videos

PYTHON = os.environ.get("STREAMSEG_TESTS_READERS", "")
SCRIPT = Path(__file__).with_name("other_readers.py")
NAMES = ("street", "Straße 雨")
SIZE = {"width": videos.WIDTH, "height": videos.HEIGHT}


def read(reader: str, *arguments: Path | str) -> list[list[Any]]:
    """What one of them finds; skipped where no Python has it."""
    if not PYTHON:
        pytest.skip("STREAMSEG_TESTS_READERS names no Python that has the readers of other tools")
    module = {"labelstudio": "label_studio_sdk"}.get(reader, reader)
    if subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True).returncode:
        pytest.skip(f"{PYTHON} has no {module}")
    command = [PYTHON, "-I", str(SCRIPT), reader, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found: list[list[Any]] = json.loads(ran.stdout)
    return found


def labels(*, tracked: bool) -> Iterator[tuple[int, Label]]:
    """The number of the frame and each label of a video."""
    return (
        (frame.index, label) for frame in videos.frames() for label in frame.labels if label.track > 0 or not tracked
    )


def pixels(label: Label) -> list[list[int]]:
    return [axis.tolist() for axis in outlines.decoded(label.mask, **SIZE).nonzero()]


def test_datumaro_reads_the_polygons_of_cvat(tmp_path: Path) -> None:
    videos.write(Cvat(tolerance=0), tmp_path, *NAMES)
    found = read("datumaro", "cvat", tmp_path)
    assert {each[0] for each in found} == set(NAMES)
    masks = {(index, label.track): label.mask for index, label in labels(tracked=True)}
    for name in NAMES:
        drawn = {
            (frame, track): (class_name, outlines.compressed([points], **SIZE))
            for video, _, frame, class_name, track, _, points in found
            if video == name
        }
        assert drawn == {key: ("person", masks[key]) for key in drawn}
        # between two of them CVAT moves the points on, and Datumaro has nothing
        assert {(0, 1), (6, 1), (0, 2), (2, 2), (5, 2), (6, 2)} <= drawn.keys()


def test_datumaro_reads_the_masks_of_coco(tmp_path: Path) -> None:
    videos.write(Coco(), tmp_path / "images", *NAMES)
    (tmp_path / "annotations").mkdir()  # beside images, where it looks for them
    (tmp_path / "images" / "coco.json").rename(tmp_path / "annotations" / "instances_default.json")
    found = read("datumaro", "coco_instances", tmp_path)
    wanted = [
        (f"{name}/frame_{index:06d}", label.class_name, pixels(label))
        for name in NAMES
        for index, label in labels(tracked=False)
    ]
    assert sorted((each[1], each[3], each[6]) for each in found) == sorted(wanted)  # its own order is another


def test_datumaro_reads_the_masks_of_voc(tmp_path: Path) -> None:
    videos.write(Voc(), tmp_path, *NAMES)
    found = read("datumaro", "voc_segmentation", tmp_path / "voc")
    drawn = {(each[1], each[3], json.dumps(each[6])) for each in found}
    for name in NAMES:
        for index, label in labels(tracked=False):
            if label.track == 1:  # nobody covers him
                assert (f"{name}/frame_{index:06d}", "person", json.dumps(pixels(label))) in drawn


def test_label_studio_decodes_the_brush_as_the_mask(tmp_path: Path) -> None:
    videos.write(Labelstudio(), tmp_path)
    found = read("labelstudio", tmp_path / "labelstudio.json")
    wanted = [
        [index, label.class_name, outlines.decoded(label.mask, **SIZE).astype(int).tolist()]
        for index, label in labels(tracked=False)
    ]
    assert found == wanted


@pytest.mark.parametrize("kind", ["mots", "youtube_vis"])
def test_trackeval_reads_every_mask_of_every_track(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "youtube_vis_train" if kind == "youtube_vis" else tmp_path
    videos.write(Mots() if kind == "mots" else YoutubeVis(), folder, *NAMES)
    (tmp_path / "youtube_vis_train").mkdir(exist_ok=True)
    found = read("trackeval", kind, tmp_path, json.dumps(dict.fromkeys(NAMES, 8)))
    assert len(found) == 16
    ids: dict[tuple[str, int], set[int]] = {}
    for video, frame, numbers, classes, masks in found:
        wanted = {label.track: label.mask for index, label in labels(tracked=True) if index == frame}
        assert len(masks) == len(wanted) and set(classes) <= {2 if kind == "mots" else 1}
        for number, mask, (track, expected) in zip(numbers, masks, wanted.items(), strict=True):
            ids.setdefault((video, track), set()).add(number)
            assert np.array_equal(outlines.decoded(mask, **SIZE), outlines.decoded(expected, **SIZE))
    assert set(ids) == {(name, track) for name in NAMES for track in (1, 2)}
    assert all(len(numbers) == 1 for numbers in ids.values()), "a track keeps its id"
