"""LabelMe's files open beside their pictures, and fill to the same objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision
from PIL import Image, ImageDraw

from streamseg import outlines
from streamseg.formats.labelme import EMPTY, Labelme
from streamseg.labels import Label, LabelledFrame
from streamseg.types import UsageError
from tests.formats import blobs, videos


def shapes(folder: Path, frame: int) -> list[dict[str, Any]]:
    content = json.loads((folder / f"street/frame_{frame:06d}.json").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = content["shapes"]
    return found


def filled(shape: dict[str, Any], *, width: int = videos.WIDTH, height: int = videos.HEIGHT) -> np.ndarray:
    """What LabelMe makes of a polygon: Pillow's, with its border. (H, W) bool."""
    picture = Image.new("1", (width, height))
    ImageDraw.Draw(picture).polygon([tuple(point) for point in shape["points"]], outline=1, fill=1)
    return np.array(picture)


def inside(label: Label) -> np.ndarray:
    return outlines.decoded(label.mask, width=videos.WIDTH, height=videos.HEIGHT).astype(bool)


def test_the_parts_of_an_object_are_polygons_of_one_group_and_exact_at_tolerance_0(tmp_path: Path) -> None:
    videos.write(Labelme(tolerance=0), tmp_path)
    for frame in videos.frames():
        found = shapes(tmp_path, frame.index)
        assert {each["group_id"] for each in found} == set(range(1, len(frame.labels) + 1))
        for number, label in enumerate(frame.labels, start=1):
            own = [each for each in found if each["group_id"] == number]
            assert len(own) == (2 if label.track == 2 else 1)
            assert {each["label"] for each in own} == {label.class_name}
            np.testing.assert_array_equal(np.any([filled(each) for each in own], axis=0), inside(label))


def test_supervision_reads_the_same_objects(tmp_path: Path) -> None:
    videos.write(Labelme(tolerance=0), tmp_path, "Straße 雨")
    folder = str(tmp_path / "Straße 雨")
    dataset = supervision.DetectionDataset.from_labelme(folder, folder)
    assert len(dataset) == 8
    for frame in videos.frames(pictures="Straße 雨"):
        found = dataset.annotations[str(tmp_path / str(frame.picture))]
        assert [dataset.classes[i] for i in found.class_id] == [label.class_name for label in frame.labels]
        for label, mask in zip(frame.labels, found.mask if frame.labels else [], strict=True):
            np.testing.assert_array_equal(mask, inside(label))


@pytest.mark.parametrize(("side", "least"), blobs.SIZES)
def test_outlines_stay_near_the_object(side: int, least: float, tmp_path: Path) -> None:
    shape = blobs.blob(side)
    written(Labelme(), tmp_path, videos.label(shape))
    (found,) = shapes(tmp_path, 0)
    assert blobs.overlap(filled(found, width=blobs.WIDTH, height=blobs.HEIGHT), shape) >= least


def written(format: Labelme, folder: Path, *labels: Label) -> dict[str, int]:
    format.open(folder, videos.CLASS_NAMES)
    format.begin(videos.video())
    format.write(LabelledFrame(0, 0.0, labels, "street/frame_000000.jpg"))
    format.end()
    return dict(format.close())


def test_the_file_names_the_picture_beside_it_and_says_track_and_score(tmp_path: Path) -> None:
    videos.write(Labelme(), tmp_path)
    content = json.loads((tmp_path / "street/frame_000003.json").read_text())
    assert content["imagePath"] == "frame_000003.jpg" and content["imageData"] is None
    assert (content["imageWidth"], content["imageHeight"]) == (64, 48)
    assert [each["description"] for each in content["shapes"]] == ["track 1, score 0.90", "score 0.60"]


def test_an_object_without_a_pixel_is_left_out_and_counted(tmp_path: Path) -> None:
    empty = Label(1, "person", 0.9, (0.0, 0.0, 1.0, 1.0), outlines.encoded(np.zeros((48, 64))))
    assert written(Labelme(), tmp_path, empty) == {EMPTY: 1}


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tolerance: expected pixels from 0 up, got -1"):
        Labelme(tolerance=-1)
    format = Labelme()
    format.open(tmp_path, videos.CLASS_NAMES)
    format.begin(videos.video())
    with pytest.raises(UsageError, match="frame 0 has no saved picture"):
        format.write(next(videos.frames()))
    format.discard()
