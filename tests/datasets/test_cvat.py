"""A file that CVAT exported is pictures with the objects that somebody corrected."""

from __future__ import annotations

from dataclasses import replace
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


def shape(x: int) -> str:
    return f'<polygon label="cat" points="{x},0;{x + 10},0;{x + 10},10"></polygon>'


def image(number: int, name: str, x: int, *, size: tuple[int, int] = (64, 48), **told: Any) -> str:
    extra = "".join(f' {key}="{value}"' for key, value in told.items())
    return f'<image id="{number}" name="{name}" width="{size[0]}" height="{size[1]}"{extra}>{shape(x)}</image>'


def export(folder: Path, body: str, *, pictures: dict[str, tuple[int, int]], meta: str = "") -> Path:
    """What CVAT exports: a file, and these pictures in `images/` beside it."""
    for name, (width, height) in pictures.items():
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / name), np.zeros((height, width, 3), np.uint8))
    path = folder / "annotations.xml"
    path.write_text(f"<annotations>{meta}{body}</annotations>")
    return path


def lefts(dataset: Cvat) -> dict[str, list[float]]:
    """Where the objects of each picture begin."""
    samples = [dataset[i] for i in range(len(dataset))]
    return {"/".join(sample.path.parts[-2:]): sample.boxes[:, 0].tolist() for sample in samples}


SPARSE = {f"frame_{number:06d}.jpg": (64, 48) for number in range(0, 35, 5)}


def test_the_frames_of_a_task_of_saved_pictures_are_those_pictures_in_order(tmp_path: Path) -> None:
    keys = "".join(
        f'<polygon frame="{n}" keyframe="1" outside="0" points="{n},0;{n + 10},0;{n + 10},10"></polygon>'
        for n in range(7)
    )
    meta = "<meta><job><size>7</size><labels><label><name>cat</name></label></labels></job></meta>"
    path = export(tmp_path, f'<track id="0" label="cat">{keys}</track>', pictures=SPARSE, meta=meta)
    dataset = Cvat(path=path)
    assert lefts(dataset) == {f"images/{name}": [n] for n, name in enumerate(SPARSE)} and not dataset.warnings
    stepped = "<meta><task><size>7</size><frame_filter>step=5</frame_filter></task></meta>"  # of the video
    keys = keys.replace('frame="', 'frame="x').replace("x6", "30").replace("x5", "25").replace("x", "")
    path = export(tmp_path, f'<track id="0" label="cat">{keys}</track>', pictures=SPARSE, meta=stepped)
    assert lefts(Cvat(path=path))["images/frame_000025.jpg"] == [5]


def test_pictures_that_are_listed_are_taken_once(tmp_path: Path) -> None:
    body = "".join(image(number, name, number) for number, name in enumerate(SPARSE))
    path = export(tmp_path, body, pictures=SPARSE)
    for keep_empty in (False, True):
        assert lefts(Cvat(path=path, keep_empty=keep_empty)) == {f"images/{name}": [n] for n, name in enumerate(SPARSE)}


def test_pictures_of_several_videos_in_one_file_are_told_apart(tmp_path: Path) -> None:
    names = [f"{video}/frame_00000{number}.jpg" for video in "ab" for number in range(2)]
    body = "".join(image(number, name, number) for number, name in enumerate(names))
    path = export(tmp_path, body, pictures=dict.fromkeys(names, (64, 48)))
    assert lefts(Cvat(path=path)) == {name: [n] for n, name in enumerate(names)}
    of_b = Cvat(path=path, images=tmp_path / "images" / "b")
    assert lefts(of_b) == {name: [n] for n, name in enumerate(names) if name[0] == "b"}
    assert dict(of_b.warnings) == {"frames with objects of which no picture is saved left out": 2}


def test_pictures_of_a_project_have_their_own_sizes_and_numbers_that_repeat(tmp_path: Path) -> None:
    sizes = {"p.jpg": (64, 48), "q.jpg": (100, 80)}
    body = image(0, "p.jpg", 1, size=sizes["p.jpg"], task_id=1) + image(0, "q.jpg", 2, size=sizes["q.jpg"], task_id=2)
    assert lefts(Cvat(path=export(tmp_path, body, pictures=sizes))) == {"images/p.jpg": [1], "images/q.jpg": [2]}
    tracks = "".join(f'<track id="0" label="cat" task_id="{task}"></track>' for task in (1, 2))
    with pytest.raises(InputError, match="tracks of the tasks 1 and 2; expected those of one, exported by itself"):
        Cvat(path=export(tmp_path, tracks, pictures=sizes))


def test_a_turned_box_is_the_box_around_it(tmp_path: Path) -> None:
    body = (
        '<image id="0" name="p.jpg" width="64" height="48">'
        '<box label="cat" xtl="10" ytl="20" xbr="50" ybr="26" rotation="90.00"></box></image>'
    )
    dataset = Cvat(path=export(tmp_path, body, pictures={"p.jpg": (64, 48)}))
    np.testing.assert_allclose(dataset[0].boxes, [[27, 3, 33, 43]], atol=1e-4)


@pytest.mark.parametrize("step", [1, 3])
def test_labels_made_smaller_come_back_on_their_pictures(tmp_path: Path, step: int) -> None:
    """Such are of a task of the saved pictures, which count from 0."""
    frames = list(videos.frames(pictures="street"))[::step]
    videos.save_pictures(tmp_path, frames)
    smaller = replace(videos.video(num_frames=8), original_size=(1920, 1440))
    path = written(tmp_path, frames, video=smaller, tolerance=0)
    shown = {int(each.get("frame") or -1) for each in ElementTree.parse(path).getroot().iter("polygon")}
    assert max(shown) == len(frames) - 1
    dataset = Cvat(path=path)
    for sample, frame in zip([dataset[i] for i in range(len(dataset))], frames, strict=False):
        assert sample.path.stem == f"frame_{frame.index:06d}"
        boxes = [label.box for label in frame.labels if label.track > 0]
        np.testing.assert_array_equal(sample.boxes, np.reshape(boxes, (-1, 4)))
