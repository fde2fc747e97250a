"""What a job writes is, read back from any format, the same objects in the same frames at the same times.

Two videos with equal frame numbers, one of a varying rate, whose first time is not 0 and whose name is not ASCII; an
object with a hole and in two parts, one at the border, one with a gap. All outlines at tolerance 0.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from streamseg import outlines
from streamseg.formats import cvat
from streamseg.types import Frame, Instances
from tests.annotate.jobs import frames, run
from tests.clips import make_clip, numbered_picture
from tests.end_to_end.parts import Walker, ellipse
from tests.formats import test_labelme, test_labelstudio, test_mots, yolo_reader

WIDTH, HEIGHT, NUM_FRAMES = 64, 48, 18
STEADY, UNEVEN = "street", "Straße 雨"
GAP = range(5, 12)
PTS = [500 + 100 * n + 40 * (n % 2) for n in range(NUM_FRAMES)]
"""Milliseconds."""
FORMATS = (
    *("jsonl", "csv", "coco", "mots", "youtube_vis", "voc", "labelstudio"),
    *("cvat:tolerance=0", "labelme:tolerance=0", "yolo:tolerance=0"),
)

Masks = dict[tuple[str, int], list[np.ndarray]]
"""By video and frame the masks (HEIGHT, WIDTH) bool, those that begin farther to the left first."""


class Scene(Walker):
    """Somebody in two parts with a hole, somebody who leaves at the right border, somebody who is away for a while."""

    def _found(self, frame: Frame) -> Instances:
        parts = np.zeros((28, 28), np.float32)
        parts[:, :16], parts[6:22, 5:11], parts[10:18, 22:] = 1, 0, 1
        shares = [[0.1, 0.1, 0.4, 0.5], [0.8, 0.2, 1.0, 0.7], [0.5, 0.55, 0.7, 0.95]]
        found = Instances(
            boxes=np.array(shares, np.float32) * np.array([frame.width, frame.height] * 2, np.float32),
            masks=np.stack([parts, np.ones((28, 28), np.float32), ellipse()]),
            scores=np.array([0.95, 0.93, 0.9], np.float32),
            class_ids=np.ones(3, np.int32),
            track_ids=np.full(3, -1, np.int32),
            class_names=self.class_names,
        )
        return found[:2] if frame.index in GAP else found


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job in every format."""
    here = tmp_path_factory.mktemp("formats")
    still = numbered_picture(0, width=WIDTH, height=HEIGHT)
    made: dict[str, Any] = {"num_frames": NUM_FRAMES, "lossless": False, "pictures": lambda _: still}
    make_clip(here / f"{STEADY}.mp4", rate=10, **made)
    make_clip(here / f"{UNEVEN}.mkv", pts=PTS, time_base=Fraction(1, 1000), rate=10, **made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(here / "cache"))
        inputs = (here / f"{STEADY}.mp4", here / f"{UNEVEN}.mkv")
        run(*inputs, output=here / "labels", formats=FORMATS, engine=f"{__name__}:Scene")
    return here / "labels"


def ordered(masks: dict[tuple[str, int], list[np.ndarray]]) -> Masks:
    return {key: sorted(each, key=lambda mask: int(mask.any(axis=0).argmax())) for key, each in masks.items()}


def unrolled(run_lengths: Any) -> np.ndarray:
    return outlines.decoded(run_lengths, width=WIDTH, height=HEIGHT).astype(bool)


def wanted(folder: Path) -> Masks:
    """What our own records say, whose masks are the finds themselves."""
    return ordered(
        {
            (video, record["index"]): [unrolled(each["mask"]) for each in record["objects"]]
            for video in (STEADY, UNEVEN)
            for record in frames(folder, video)
        }
    )


def test_the_records_have_all_that_is_difficult(labels: Path) -> None:
    masks = wanted(labels)
    assert set(masks) == {(video, index) for video in (STEADY, UNEVEN) for index in range(NUM_FRAMES)}
    for video in (STEADY, UNEVEN):
        tracks = [[each["track"] for each in record["objects"]] for record in frames(labels, video)]
        assert [1, 2, 3] in tracks and [1, 2] in tracks and tracks[-1] == [1, 2, 3], "a gap, and the same one again"
        first, _, at_border = (masks[video, 0][i] for i in (0, 1, 2))
        assert [len(part.holes) for part in outlines.parts(outlines.encoded(first))] == [1, 0]
        assert at_border[:, -1].any()
    assert [record["time"] for record in frames(labels, UNEVEN)] == [(pts - PTS[0]) / 1000 for pts in PTS]
    assert [record["time"] for record in frames(labels, STEADY)] == [index / 10 for index in range(NUM_FRAMES)]


def empty() -> dict[tuple[str, int], list[np.ndarray]]:
    return {(video, index): [] for video in (STEADY, UNEVEN) for index in range(NUM_FRAMES)}


def of_coco(folder: Path) -> Masks:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "coco.json"))
    masks = empty()
    for each in coco.anns.values():
        picture = coco.imgs[each["image_id"]]
        masks[picture["video"], picture["frame_index"]].append(coco.annToMask(each).astype(bool))
    return masks


def of_csv(folder: Path) -> Masks:
    masks = empty()
    for video in (STEADY, UNEVEN):
        with (folder / f"{video}.csv").open(encoding="utf-8", newline="") as rows:
            for row in csv.DictReader(rows):
                mask = {"size": [int(row["height"]), int(row["width"])], "counts": row["counts"]}
                masks[video, int(row["frame"])].append(unrolled(mask))
    return masks


def of_mots(folder: Path) -> Masks:
    masks = empty()
    for video in (STEADY, UNEVEN):
        for frame, _, _, mask in test_mots.read(folder / f"{video}.txt"):
            masks[video, frame - 1].append(mask)
    return masks


def of_youtube_vis(folder: Path) -> Masks:
    content, masks = json.loads((folder / "youtube_vis.json").read_text(encoding="utf-8")), empty()
    names = {video["id"]: video["name"] for video in content["videos"]}
    for each in content["annotations"]:
        for index, mask in enumerate(each["segmentations"]):
            if mask is not None:
                masks[names[each["video_id"]], index].append(unrolled(mask))
    return masks


def of_cvat(folder: Path) -> Masks:
    masks = empty()
    for video in (STEADY, UNEVEN):
        for shape in cvat.load(folder / f"{video}.xml").shapes:
            masks[video, shape.frame].append(unrolled(shape.segmentation))
    return masks


def of_voc(folder: Path) -> Masks:
    masks = empty()
    for video, index in masks:
        with Image.open(folder / f"voc/SegmentationObject/{video}/frame_{index:06d}.png") as picture:
            numbers = np.array(picture)
        masks[video, index] = [numbers == number for number in range(1, numbers.max() + 1)]
    return masks


def of_labelme(folder: Path) -> Masks:
    masks = empty()
    for video, index in masks:
        content = json.loads((folder / video / f"frame_{index:06d}.json").read_text(encoding="utf-8"))
        objects: dict[int, np.ndarray] = {}
        for shape in content["shapes"]:
            part = test_labelme.filled(shape, width=WIDTH, height=HEIGHT)
            objects[shape["group_id"]] = objects.get(shape["group_id"], np.zeros_like(part)) | part
        masks[video, index] = list(objects.values())
    return masks


def of_labelstudio(folder: Path) -> Masks:
    masks = empty()
    for task in json.loads((folder / "labelstudio.json").read_text(encoding="utf-8")):
        for region in test_labelstudio.regions(task):
            inside = test_labelstudio.unbrushed(region["value"]["rle"], width=WIDTH, height=HEIGHT) > 0
            masks[task["data"]["video"], task["data"]["frame_index"]].append(inside)
    return masks


def of_yolo(folder: Path) -> Masks:
    masks, parts = empty(), yolo_reader.read(folder / "data.yaml")
    for picture, found in [*parts["train"].items(), *parts["val"].items()]:
        index = int(picture.stem.removeprefix("frame_"))
        masks[picture.parent.name, index] = [each.mask(WIDTH, HEIGHT) for each in found]
    return masks


@pytest.mark.parametrize(
    "read", [of_coco, of_csv, of_mots, of_youtube_vis, of_cvat, of_voc, of_labelme, of_labelstudio, of_yolo]
)
def test_every_format_is_read_back_as_the_same_objects(read: Callable[[Path], Masks], labels: Path) -> None:
    found, expected = ordered(read(labels)), wanted(labels)
    assert found.keys() == expected.keys()
    for key, masks in expected.items():
        assert len(found[key]) == len(masks)
        for got, mask in zip(found[key], masks, strict=True):
            lacking, beyond = mask & ~got, got & ~mask
            assert not lacking.any()
            # YOLO's two parts hang together by a line of a pixel
            assert beyond.sum() <= (8 if read is of_yolo else 0)


def test_times_are_told_where_a_format_has_them(labels: Path) -> None:
    times = {(video, record["index"]): record["time"] for video in (STEADY, UNEVEN) for record in frames(labels, video)}
    coco = json.loads((labels / "coco.json").read_text(encoding="utf-8"))["images"]
    assert {(each["video"], each["frame_index"]): each["time"] for each in coco} == times
    tasks = [each["data"] for each in json.loads((labels / "labelstudio.json").read_text(encoding="utf-8"))]
    assert {(each["video"], each["frame_index"]): each["time"] for each in tasks} == times
    videos = json.loads((labels / "youtube_vis.json").read_text(encoding="utf-8"))["videos"]
    assert {
        (each["name"], index): time
        for each in videos
        for index, time in zip(each["frame_indices"], each["times"], strict=True)
    } == times
    for video in (STEADY, UNEVEN):
        with (labels / f"{video}.csv").open(encoding="utf-8", newline="") as rows:
            assert all(float(row["time"]) == times[video, int(row["frame"])] for row in csv.DictReader(rows))
