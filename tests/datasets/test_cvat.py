"""A file that CVAT exported is pictures with the objects that somebody corrected."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from streamseg import outlines
from streamseg.datasets.cvat import Cvat
from streamseg.types import InputError, UsageError
from tests.formats import videos
from tests.formats.test_cvat import written


def annotated(folder: Path, **options: Any) -> Path:
    """The file of a video of eight frames, as `annotate --format cvat` writes it, with its pictures."""
    frames = list(videos.frames(pictures="street"))
    videos.save_pictures(folder, frames)
    return written(folder, frames, **options)


def corrected(path: Path) -> None:
    """In CVAT, track 1 becomes a dog, its polygon in frame 2 a triangle, and track 2 is removed."""
    tree = ElementTree.parse(path)
    root = tree.getroot()
    for track in root.findall("track"):
        if track.get("id") == "2":
            root.remove(track)
            continue
        track.set("label", "dog")
        shapes = {shape.get("frame"): shape for shape in track}
        shape = shapes.get("2") or ElementTree.SubElement(track, "polygon", {**track[0].attrib, "frame": "2"})
        shape.set("points", "10.00,10.00;30.00,10.00;10.00,40.00")
        track[:] = sorted(track, key=lambda each: int(each.get("frame") or 0))
    tree.write(path)


def test_a_corrected_file_shows_the_corrected_objects(tmp_path: Path) -> None:
    path = annotated(tmp_path)
    corrected(path)
    dataset = Cvat(path=path)
    assert dataset.class_names == ("background", "person", "dog")
    samples = [dataset[i] for i in range(len(dataset))]
    assert [sample.path.name for sample in samples] == [f"frame_{index:06d}.jpg" for index in range(7)]
    assert all(sample.class_ids.tolist() == [2] for sample in samples)
    assert samples[2].masks == ([[10, 10, 30, 10, 10, 40]],)
    assert samples[2].boxes.tolist() == [[10, 10, 30, 40]]


@pytest.mark.parametrize("options", [{"tolerance": 0}, {"masks": "rle"}])
def test_the_objects_of_a_file_as_it_was_written_are_the_labels(tmp_path: Path, options: dict[str, Any]) -> None:
    dataset = Cvat(path=annotated(tmp_path, **options))
    for sample, frame in zip([dataset[i] for i in range(len(dataset))], videos.frames(), strict=False):
        labels = [label for label in frame.labels if label.track > 0 or "masks" in options]
        size = {"width": sample.width, "height": sample.height}
        assert [outlines.compressed(mask, **size) for mask in sample.masks] == [label.mask for label in labels]
        assert [dataset.class_names[number] for number in sample.class_ids] == [label.class_name for label in labels]
        np.testing.assert_array_equal(sample.boxes, np.reshape([label.box for label in labels], (-1, 4)))


def test_pictures_without_objects_are_background_where_asked_for(tmp_path: Path) -> None:
    path = annotated(tmp_path)
    assert [len(Cvat(path=path)), len(Cvat(path=path, keep_empty=True))] == [7, 8]
    assert len(Cvat(path=path, keep_empty=True)[7].boxes) == 0


def test_frames_between_those_looked_at_are_no_samples(tmp_path: Path) -> None:
    """Every second picture is saved; CVAT moves the objects on in between."""
    frames = list(videos.frames(pictures="street"))[::2]
    videos.save_pictures(tmp_path, frames)
    dataset = Cvat(path=written(tmp_path, frames, video=videos.video(num_frames=8)))
    assert [dataset[i].path.stem for i in range(len(dataset))] == [f"frame_{i:06d}" for i in (0, 2, 4, 6)]
    assert not dataset.warnings


def test_a_frame_whose_picture_is_missing_is_counted(tmp_path: Path) -> None:
    path = annotated(tmp_path, masks="rle")
    (tmp_path / "street" / "frame_000003.jpg").unlink()
    dataset = Cvat(path=path)
    assert len(dataset) == 6
    assert dict(dataset.warnings) == {"frames with objects of which no picture is saved left out": 1}


def test_only_some_classes_are_taken(tmp_path: Path) -> None:
    path = annotated(tmp_path, masks="rle")
    dataset = Cvat(path=path, classes=("dog",))
    assert dataset.class_names == ("background", "dog")
    assert [dataset[i].path.stem for i in range(len(dataset))] == [f"frame_{i:06d}" for i in (0, 3, 6)]
    with pytest.raises(UsageError, match="there is no class 'dgo' in it; did you mean 'dog'"):
        Cvat(path=path, classes=("dgo",))


def test_a_folder_of_files_is_all_of_them(tmp_path: Path) -> None:
    annotated(tmp_path)
    frames = list(videos.frames(pictures="yard"))
    videos.save_pictures(tmp_path, frames)
    written(tmp_path, frames, video=videos.video("yard"))
    dataset = Cvat(path=tmp_path)
    assert [dataset[i].path.parent.name for i in range(len(dataset))] == ["street"] * 7 + ["yard"] * 7
    assert [dataset[i].image_id for i in range(len(dataset))] == list(range(14))


def test_pictures_of_an_export_go_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "b.png"), np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "annotations.xml").write_text(
        "<annotations><image id='5' name='sub/b.png' width='30' height='20'>"
        "<box label='cat' xtl='1' ytl='2' xbr='3' ybr='5'/><box label='cat' xtl='1' ytl='2' xbr='1' ybr='5'/>"
        "</image></annotations>"
    )
    dataset = Cvat(path=tmp_path / "annotations.xml")
    sample = dataset[0]
    assert len(dataset) == 1 and sample.boxes.tolist() == [[1, 2, 3, 5]] and sample.masks == (None,)
    assert dict(dataset.warnings) == {"objects without area left out": 1}


def test_pictures_of_another_size_than_the_shapes_are_refused(tmp_path: Path) -> None:
    path = annotated(tmp_path)
    cv2.imwrite(str(tmp_path / "street" / "frame_000001.jpg"), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(InputError, match=r"pictures of 64x48 pixels, .*frame_000001\.jpg has 30x20"):
        Cvat(path=path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no CVAT file"):
        Cvat(path=tmp_path)
    path = written(tmp_path, list(videos.frames()))
    with pytest.raises(InputError, match=r"no folder of pictures found; looked for .*street and .*images"):
        Cvat(path=path)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="no picture shows an object"):
        Cvat(path=path)
