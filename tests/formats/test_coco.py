"""COCO files hold what was found, exactly; pycocotools, supervision and a training read them."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision
from pycocotools.coco import COCO

from streamseg import outlines, plugins
from streamseg.datasets.coco import Coco as Dataset
from streamseg.formats.coco import COCO_IDS, EMPTY, Coco
from streamseg.labels import Label, LabelledFrame
from streamseg.sources.video_file import VideoFile
from streamseg.types import UsageError
from tests.clips import make_clip
from tests.formats import blobs, videos

NAMES = ("Straße 雨", "street")


def opened(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def content(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "coco.json").read_text(encoding="utf-8"))
    return read


def of_one_frame(folder: Path, *labels: Label, **options: Any) -> None:
    """A COCO file of one frame with these labels; options: the format's own."""
    format = Coco(**options)
    format.open(folder, videos.CLASS_NAMES)
    format.begin(replace(videos.video(), width=blobs.WIDTH, height=blobs.HEIGHT))
    format.write(LabelledFrame(0, 0.0, labels))
    format.end()
    format.close()


def test_pycocotools_finds_the_masks_as_they_were(tmp_path: Path) -> None:
    videos.write(Coco(), tmp_path, *NAMES)
    coco = opened(tmp_path / "coco.json")
    assert sorted(coco.imgs) == list(range(1, 17)) and sorted(coco.anns) == list(range(1, 31))
    for image_id, frame in enumerate([*videos.frames(), *videos.frames()], start=1):
        found = coco.loadAnns(coco.getAnnIds(imgIds=image_id, iscrowd=False))
        assert [each["segmentation"] for each in found] == [label.mask for label in frame.labels]
        assert [each["score"] for each in found] == [label.score for label in frame.labels]
        for each, label in zip(found, frame.labels, strict=True):
            inside = outlines.decoded(label.mask, width=videos.WIDTH, height=videos.HEIGHT)
            np.testing.assert_array_equal(coco.annToMask(each), inside)
            x1, y1, x2, y2 = label.box
            assert each["bbox"] == [x1, y1, x2 - x1, y2 - y1] and each["area"] == inside.sum()
            assert coco.cats[each["category_id"]]["name"] == label.class_name


def test_pictures_of_two_videos_with_equal_frame_numbers_stay_apart(tmp_path: Path) -> None:
    videos.write(Coco(), tmp_path, *NAMES)
    pictures = content(tmp_path)["images"]
    assert [(each["video"], each["frame_index"]) for each in pictures] == [
        (name, i) for name in NAMES for i in range(8)
    ]
    assert pictures[2] == {
        "id": 3,
        "file_name": "Straße 雨/frame_000002.jpg",
        "width": 64,
        "height": 48,
        "video": "Straße 雨",
        "frame_index": 2,
        "time": 0.2,
    }
    assert len({each["file_name"] for each in pictures}) == 16


def test_a_track_keeps_its_id_through_a_gap_and_shares_it_with_no_other_video(tmp_path: Path) -> None:
    videos.write(Coco(), tmp_path, *NAMES)
    tracks: dict[Any, set[int]] = {}
    for each in content(tmp_path)["annotations"]:
        tracks.setdefault(each.get("track_id"), set()).add(each["image_id"])
    assert set(tracks) == {1, 2, 3, 4, None}  # the dog has no track
    assert tracks[1] == {1, 2, 3, 4, 5, 6, 7} and tracks[2] == {1, 2, 3, 6, 7}
    assert tracks[3] == {9, 10, 11, 12, 13, 14, 15} and tracks[None] == {1, 4, 7, 9, 12, 15}


def test_the_time_of_a_picture_is_that_of_the_video(tmp_path: Path) -> None:
    """A clip of a variable rate whose first picture is not at 0: the second comes after 40 ms, the third after 300."""
    clip = make_clip(tmp_path / "clip.mp4", num_frames=4, pts=[500, 540, 800, 900], time_base=Fraction(1, 1000))
    format = Coco()
    format.open(tmp_path, videos.CLASS_NAMES)
    format.begin(videos.video("clip", num_frames=4, constant_rate=False))
    with VideoFile(clip) as source:
        for frame in source:
            format.write(LabelledFrame(frame.index, frame.time, (videos.label(videos.rectangle(0, 0, 4, 4)),)))
    format.end()
    format.close()
    assert [each["time"] for each in content(tmp_path)["images"]] == [0, 0.04, 0.3, 0.4]


def test_supervision_reads_the_same_masks_and_classes(tmp_path: Path) -> None:
    videos.write(Coco(), tmp_path, *NAMES)
    read = supervision.DetectionDataset.from_coco(str(tmp_path), str(tmp_path / "coco.json"))
    assert read.classes == list(videos.CLASS_NAMES) and len(read) == 16
    for name in NAMES:
        for frame in videos.frames(pictures=name):
            found = read.annotations[str(tmp_path / str(frame.picture))]
            assert [read.classes[i] for i in found.class_id] == [label.class_name for label in frame.labels]
            for label, mask in zip(frame.labels, found.mask if frame.labels else [], strict=True):
                np.testing.assert_array_equal(mask, outlines.decoded(label.mask, width=64, height=48))


def test_polygons_come_back_exactly_at_tolerance_0(tmp_path: Path) -> None:
    videos.write(Coco(segmentation="polygons", tolerance=0), tmp_path)
    coco = opened(tmp_path / "coco.json")
    in_two_parts = coco.anns[2]["segmentation"]
    assert [len(polygon) % 2 for polygon in in_two_parts] == [0, 0]
    masks = [label.mask for frame in videos.frames() for label in frame.labels]
    assert len(masks) == len(coco.anns) == 15
    for number, mask in enumerate(masks, start=1):
        inside = outlines.decoded(mask, width=videos.WIDTH, height=videos.HEIGHT)
        np.testing.assert_array_equal(coco.annToMask(coco.anns[number]), inside)


@pytest.mark.parametrize(("side", "least"), blobs.SIZES)
@pytest.mark.parametrize("centre", blobs.EVERYWHERE.values(), ids=blobs.EVERYWHERE)
def test_polygons_stay_near_the_object(side: int, least: float, centre: tuple[int, int], tmp_path: Path) -> None:
    inside = blobs.blob(side, centre=centre)
    of_one_frame(tmp_path, videos.label(inside), segmentation="polygons")
    coco = opened(tmp_path / "coco.json")
    assert blobs.overlap(coco.annToMask(coco.anns[1]).astype(bool), inside) >= least


def test_a_greater_tolerance_gives_fewer_points(tmp_path: Path) -> None:
    inside = blobs.blob(200)
    numbers = []
    for tolerance in (0, 1, 4):
        of_one_frame(tmp_path, videos.label(inside), segmentation="polygons", tolerance=tolerance)
        numbers.append(sum(map(len, content(tmp_path)["annotations"][0]["segmentation"])))
    assert numbers[0] > 4 * numbers[1] > 8 * numbers[2]


def test_categories_are_numbered_as_in_the_model_or_as_in_coco(tmp_path: Path) -> None:
    videos.write(Coco(), tmp_path)
    assert content(tmp_path)["categories"] == [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
    videos.write(Coco(categories="coco"), tmp_path)
    read = content(tmp_path)
    assert read["categories"] == [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    assert {each["category_id"] for each in read["annotations"]} == {1, 18}


def test_cocos_own_ids_are_those_of_its_files(shared_data: Path) -> None:
    listed = json.loads((shared_data / "coco-mini/annotations/instances_val2017.json").read_text())["categories"]
    assert {each["name"]: each["id"] for each in listed} == COCO_IDS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segmentation": "polygon"}, "segmentation: expected .*rle.*polygons.*, got 'polygon'; did you mean"),
        ({"categories": "voc"}, "categories: expected .*model.*coco"),
        ({"tolerance": -1}, "tolerance: expected pixels from 0 up, got -1"),
        ({"tolerance": float("nan")}, "tolerance: expected"),
    ],
)
def test_a_wrong_option_says_what_would_be_right(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Coco(**options)
    with pytest.raises(UsageError):
        plugins.build("formats", "coco", options)


def test_a_class_that_coco_does_not_have_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="COCO has no class 'persons'; did you mean 'person'"):
        Coco(categories="coco").open(tmp_path, ["persons"])
    assert not list(tmp_path.iterdir())


def test_an_object_without_a_pixel_is_left_out_and_counted(tmp_path: Path) -> None:
    empty = Label(1, "person", 0.9, (0.0, 0.0, 1.0, 1.0), outlines.encoded(np.zeros((48, 64))))
    format = Coco()
    format.open(tmp_path, videos.CLASS_NAMES)
    format.begin(videos.video())
    format.write(LabelledFrame(0, 0.0, (empty, videos.label(videos.rectangle(0, 0, 2, 2)))))
    format.end()
    assert format.close() == {EMPTY: 1}
    assert [each["id"] for each in content(tmp_path)["annotations"]] == [1]


def test_a_video_name_that_is_no_utf_8_stays_a_name(tmp_path: Path) -> None:
    videos.write(Coco(), tmp_path, "b\udcf6se")
    assert content(tmp_path)["images"][0]["video"] == "b\udcf6se"


def test_a_training_takes_the_file_as_it_is_and_as_it_was_corrected(tmp_path: Path) -> None:
    videos.write(Coco(), tmp_path, *NAMES)
    dataset = Dataset(path=tmp_path / "coco.json")
    assert len(dataset) == 16 and dataset.class_names == ("background", "person", "dog")
    sample = dataset[8]
    assert sample.path == tmp_path / "street/frame_000000.jpg" and not sample.crowd.any()
    assert list(sample.masks) == [label.mask for label in next(videos.frames()).labels]
    read = content(tmp_path)
    read["annotations"][0] |= {"segmentation": [[1, 1, 9, 1, 9, 5, 1, 5]], "bbox": [1, 1, 8, 4], "area": 32}
    del read["annotations"][1]
    (tmp_path / "corrected.json").write_text(json.dumps(read))
    corrected = Dataset(path=tmp_path / "corrected.json")[0]
    assert corrected.boxes.tolist() == [[1, 1, 9, 5], [40, 2, 60, 12]] and corrected.masks[0] == [
        [1, 1, 9, 1, 9, 5, 1, 5]
    ]


def test_a_correction_out_of_cvat_is_read_where_it_lies_with_its_masks_as_objects(tmp_path: Path) -> None:
    """CVAT lays pictures out below `images/default`, writes masks as listed run lengths and calls each a crowd."""
    videos.write(Coco(), tmp_path)
    (tmp_path / "cvat/annotations").mkdir(parents=True)
    (tmp_path / "cvat/images").mkdir()
    (tmp_path / "street").rename(tmp_path / "cvat/images/default")
    read = content(tmp_path)
    for picture in read["images"]:
        picture["file_name"] = picture["file_name"].removeprefix("street/")
    for each in read["annotations"]:
        each["segmentation"]["counts"] = outlines.lengths(each["segmentation"]).tolist()
        each["iscrowd"] = 1
    path = tmp_path / "cvat/annotations/instances_default.json"
    path.write_text(json.dumps(read))
    assert Dataset(path=path)[0].crowd.tolist() == [True] * 3
    objects = Dataset(path=path, crowd_is_object=True)[0]
    assert objects.crowd.tolist() == [False] * 3 and objects.path == tmp_path / "cvat/images/default/frame_000000.jpg"
