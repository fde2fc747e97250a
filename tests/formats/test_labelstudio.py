"""Label Studio shows what was labelled, in the right frames.

No version of its SDK goes with the OpenCV that we need, so the brush is read here as Label Studio describes it;
`test_other_readers.py` tries the SDK itself.
"""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamseg import outlines
from streamseg.formats.labelstudio import Labelstudio, brush
from streamseg.labels import Label, LabelledFrame
from streamseg.types import UsageError
from tests.formats import blobs, videos


def tasks(folder: Path, *names: str, **options: Any) -> list[Any]:
    videos.write(Labelstudio(**options), folder, *names)
    read: list[Any] = json.loads((folder / "labelstudio.json").read_text(encoding="utf-8"))
    return read


def regions(task: Any) -> list[Any]:
    (prediction,) = task["predictions"]
    found: list[Any] = prediction["result"]
    return found


class Bits:
    def __init__(self, values: list[int]) -> None:
        self.text = "".join(f"{value:08b}" for value in values)
        self.at = 0

    def __call__(self, count: int) -> int:
        self.at += count
        return int(self.text[self.at - count : self.at], 2)


def unbrushed(values: list[int], *, width: int, height: int) -> np.ndarray:
    """The opacity (H, W) of the picture, red, green, blue and opacity a pixel, that the bytes of a brush tell."""
    bits = Bits(values)
    count, size, sizes = bits(32), bits(5) + 1, [bits(4) + 1 for _ in range(4)]
    picture: list[int] = []
    while len(picture) < count:
        same, length = bits(1), bits(sizes[bits(2)]) + 1
        picture += [bits(size)] * length if same else [bits(size) for _ in range(length)]
    assert len(bits.text) - bits.at < 8
    return np.reshape(picture, (height, width, 4))[..., 3]


@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
@settings(max_examples=50)
def test_a_brush_is_read_back_as_the_mask(mask: np.ndarray) -> None:
    values = brush(outlines.picture_row_lengths(outlines.encoded(mask)).tolist())
    np.testing.assert_array_equal(unbrushed(values, width=mask.shape[1], height=mask.shape[0]), mask * 255)


def test_runs_longer_than_a_length_can_tell_are_told_in_several() -> None:
    """Of 65536 values at most: 16384 pixels, a row of this picture."""
    for lengths in ([16384, 16384], [16383, 32769], [16385, 1], [0, 49152]):
        values = unbrushed(brush(lengths), width=sum(lengths), height=1)[0]
        expected = np.repeat([0, 255], lengths)
        np.testing.assert_array_equal(values, expected)


def test_brush_tasks_hold_the_masks_of_their_frames(tmp_path: Path) -> None:
    read = tasks(tmp_path, "Straße 雨", "street")
    frames = [frame for name in ("Straße 雨", "street") for frame in videos.frames(pictures=name)]
    assert len(read) == len(frames)
    for task, frame in zip(read, frames, strict=True):
        assert frame.picture is not None
        assert task["data"]["image"] == "/data/local-files/?d=" + frame.picture.replace(" ", "%20")
        assert (task["data"]["frame_index"], task["data"]["time"]) == (frame.index, frame.time)
        names = [[label.class_name] for label in frame.labels]
        assert [region["value"]["brushlabels"] for region in regions(task)] == names
        assert [region.get("meta") for region in regions(task)] == [
            {"text": [f"track {label.track}"]} if label.track > 0 else None for label in frame.labels
        ]
        for region, label in zip(regions(task), frame.labels, strict=True):
            assert (region["original_width"], region["original_height"]) == (videos.WIDTH, videos.HEIGHT)
            opacity = unbrushed(region["value"]["rle"], width=videos.WIDTH, height=videos.HEIGHT)
            assert outlines.encoded(opacity) == label.mask and region["score"] == label.score


def test_polygons_are_in_per_cent_of_the_picture(tmp_path: Path) -> None:
    read = tasks(tmp_path, task="polygon", tolerance=0)
    for task, frame in zip(read, videos.frames(), strict=True):
        for region, label in zip(regions(task), frame.labels, strict=True):
            points = np.array(region["value"]["points"]) / 100 * (videos.WIDTH, videos.HEIGHT)
            back = outlines.compressed([points.ravel().tolist()], width=videos.WIDTH, height=videos.HEIGHT)
            assert back == label.mask and region["type"] == "polygonlabels"
    first = regions(read[0])[0]["value"]  # 12 of 64 columns, rows 4 to 24 of 48
    assert {tuple(point) for point in first["points"]} == {(x, y) for x in (0, 18.75) for y in (8.33333, 50)}


def test_a_video_is_one_task_with_boxes_that_end_where_the_object_does(tmp_path: Path) -> None:
    (task,) = tasks(tmp_path, task="video")
    assert task["data"] == {"video": "/data/local-files/?d=street.mp4", "fps": 10.0}
    walker, ring = regions(task)
    assert walker["value"]["labels"] == ["person"] and walker["type"] == "videorectangle"
    assert (walker["value"]["framesCount"], walker["value"]["duration"]) == (8, 0.8)
    assert [box["frame"] for box in walker["value"]["sequence"]] == [1, 2, 3, 4, 5, 6, 7]
    assert [box["enabled"] for box in walker["value"]["sequence"]] == [True] * 6 + [False]
    assert [(box["frame"], box["enabled"]) for box in ring["value"]["sequence"]] == [
        (1, True), (2, True), (3, False), (6, True), (7, False)
    ]  # fmt: skip
    for region in (walker, ring):
        for box in region["value"]["sequence"]:
            assert box["time"] == pytest.approx(box["frame"] / 10)
    third = walker["value"]["sequence"][2]
    assert [third[key] for key in ("x", "y", "width", "height")] == pytest.approx([3.125, 8.33333, 18.75, 41.66667])


def test_the_file_of_a_video_and_its_rate_stand_in_its_task(tmp_path: Path) -> None:
    format = Labelstudio(task="video", prefix="s3://bucket/")
    format.open(tmp_path, videos.CLASS_NAMES)
    format.begin(replace(videos.video("a #1"), path=Path("films/a #1.mp4"), rate=Fraction(30000, 1001)))
    format.end()
    format.close()
    (task,) = json.loads((tmp_path / "labelstudio.json").read_text())
    assert task["data"] == {"video": "s3://bucket/a%20%231.mp4", "fps": pytest.approx(29.97003)} and not regions(task)


def test_a_video_of_varying_rate_is_refused_and_the_next_is_written(tmp_path: Path) -> None:
    format = Labelstudio(task="video")
    format.open(tmp_path, videos.CLASS_NAMES)
    with pytest.raises(UsageError, match="phone: its frame rate varies.*a task for each frame.*task=brush"):
        format.begin(videos.video("phone", constant_rate=False))
    format.begin(videos.video("street"))
    format.end()
    format.close()
    assert len(json.loads((tmp_path / "labelstudio.json").read_text())) == 1


def test_frames_of_a_varying_rate_are_tasks_with_their_own_times(tmp_path: Path) -> None:
    format = Labelstudio()
    format.open(tmp_path, videos.CLASS_NAMES)
    format.begin(videos.video(constant_rate=False))
    for index, time in enumerate((0.04, 0.1, 0.5)):
        format.write(LabelledFrame(index, time, ()))
    format.end()
    format.close()
    read = json.loads((tmp_path / "labelstudio.json").read_text())
    assert [task["data"]["time"] for task in read] == [0.04, 0.1, 0.5]


@pytest.mark.parametrize(
    ("task", "kind", "media"),
    [("brush", "BrushLabels", "Image"), ("polygon", "PolygonLabels", "Image"), ("video", "VideoRectangle", "Video")],
)
def test_the_set_up_has_the_names_that_the_regions_use(tmp_path: Path, task: Any, kind: str, media: str) -> None:
    read = tasks(tmp_path, task=task)
    view = ElementTree.parse(tmp_path / "labelstudio_setup.txt").getroot()
    region = regions(read[0])[0]
    control, shown = view.find(kind), view.find(media)
    assert control is not None and shown is not None
    assert control.get("name") == region["from_name"] and control.get("toName") == region["to_name"]
    assert shown.get("name") == region["to_name"]
    assert (shown.get("value") or "").removeprefix("$") in read[0]["data"]
    assert [label.get("value") for label in view.iter("Label")] == list(videos.CLASS_NAMES)
    if task == "video":
        assert shown.get("framerate") == "$fps"


def test_an_object_without_a_pixel_is_counted(tmp_path: Path) -> None:
    empty = Label(1, "person", 0.9, (0, 0, 1, 1), outlines.encoded(np.zeros((videos.HEIGHT, videos.WIDTH))))
    for task in ("brush", "polygon"):
        format = Labelstudio(task=task)  # type: ignore[arg-type]
        format.open(tmp_path, videos.CLASS_NAMES)
        format.begin(videos.video())
        format.write(LabelledFrame(0, 0.0, (empty, videos.label(videos.rectangle(1, 1, 5, 5)))))
        format.end()
        assert format.close() == {"objects without a pixel": 1}
        (read,) = json.loads((tmp_path / "labelstudio.json").read_text())
        assert len(regions(read)) == 1


def test_a_job_without_a_frame_is_no_task(tmp_path: Path) -> None:
    format = Labelstudio()
    format.open(tmp_path, videos.CLASS_NAMES)
    format.close()
    assert json.loads((tmp_path / "labelstudio.json").read_text()) == []


def test_only_tasks_of_frames_need_pictures() -> None:
    wants = {task: Labelstudio(task=task) for task in ("brush", "polygon", "video")}  # type: ignore[arg-type]
    assert [each.wants_pictures for each in wants.values()] == [True, True, False]
    assert [each.tracks_only for each in wants.values()] == [False, False, True]


@pytest.mark.parametrize(("side", "least"), blobs.SIZES)
@pytest.mark.parametrize("centre", blobs.EVERYWHERE.values(), ids=blobs.EVERYWHERE)
def test_polygons_stay_near_the_object(side: int, least: float, centre: tuple[int, int], tmp_path: Path) -> None:
    mask = blobs.blob(side, centre=centre)
    size = {"width": blobs.WIDTH, "height": blobs.HEIGHT}
    format = Labelstudio(task="polygon")
    format.open(tmp_path, videos.CLASS_NAMES)
    format.begin(replace(videos.video(), **size))
    format.write(LabelledFrame(0, 0.0, (videos.label(mask),)))
    format.end()
    format.close()
    (region,) = regions(json.loads((tmp_path / "labelstudio.json").read_text(encoding="utf-8"))[0])
    points = np.array(region["value"]["points"]) * (blobs.WIDTH, blobs.HEIGHT) / 100
    assert blobs.overlap(outlines.decoded([points.ravel().tolist()], **size).astype(bool), mask) >= least


def test_two_videos_of_one_file_name_have_addresses_of_their_own(tmp_path: Path) -> None:
    format = Labelstudio(task="video")
    format.open(tmp_path, videos.CLASS_NAMES)
    for name, path in (("a", "x/a.mp4"), ("a-2", "y/a.mp4")):
        format.begin(replace(videos.video(name), path=Path(path)))
        format.end()
    with pytest.raises(UsageError, match="b: Label Studio finds a video by its file, and none is known; --video FILE"):
        format.begin(replace(videos.video("b"), path=None))
    format.close()
    read = json.loads((tmp_path / "labelstudio.json").read_text())
    assert [task["data"]["video"] for task in read] == ["/data/local-files/?d=a.mp4", "/data/local-files/?d=a-2.mp4"]
