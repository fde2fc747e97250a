"""What CVAT draws of a file is what was labelled, and a file that somebody corrected comes back as it is.

No library that reads CVAT's files goes with the OpenCV that we need, so `drawn` is a reader of our own, made from
CVAT's description of its format and of how it moves polygons between keyframes.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from streamseg import outlines
from streamseg.formats import cvat
from streamseg.formats.cvat import Cvat
from streamseg.labels import Label, LabelledFrame, LabelledVideo
from streamseg.types import InputError, UsageError
from tests.formats import blobs, videos

Drawn = dict[int, dict[tuple[str, str], np.ndarray]]
"""Frame -> (track, class) -> mask (H, W) bool."""


def written(folder: Path, labelled: list[LabelledFrame], *, video: LabelledVideo | None = None, **options: Any) -> Path:
    format = Cvat(**options)
    format.open(folder, videos.CLASS_NAMES)
    video = video or videos.video(num_frames=len(labelled))
    format.begin(video)
    for frame in labelled:
        format.write(frame)
    format.end()
    format.close()
    return folder / f"{video.name}.xml"


def points_of(shape: ElementTree.Element) -> np.ndarray:
    return np.array([[float(v) for v in pair.split(",")] for pair in shape.attrib["points"].split(";")])


def shares(points: np.ndarray) -> list[float]:
    around = [0.0]
    for one, other in zip(points, [*points[1:], points[0]], strict=True):
        around.append(around[-1] + float(np.linalg.norm(other - one)))
    return [length / around[-1] for length in around]


def moved(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    """Each point of the first on its way to the one of the last that is nearest in its share of the way around."""
    there = shares(last)
    nearest = [min(range(len(there)), key=lambda j: (abs(here - there[j]), j)) for here in shares(first)][:-1]
    return first + (last[[j % len(last) for j in nearest]] - first) * share


def mask_of(points: np.ndarray) -> np.ndarray:
    return outlines.decoded([points.ravel().tolist()], width=videos.WIDTH, height=videos.HEIGHT).astype(bool)


def drawn(path: Path, num_frames: int) -> Drawn:
    """What CVAT shows in each frame of a video of so many."""
    shown: Drawn = {index: {} for index in range(num_frames)}
    for track in ElementTree.parse(path).getroot().iter("track"):
        shapes = list(track)
        indices = [int(shape.attrib["frame"]) for shape in shapes]
        assert indices == sorted(set(indices)) and indices[-1] < num_frames
        assert all(shape.attrib["keyframe"] == "1" for shape in shapes)
        for shape, following in zip(shapes, [*shapes[1:], None], strict=True):
            begin = int(shape.attrib["frame"])
            end = num_frames if following is None else int(following.attrib["frame"])
            if shape.attrib["outside"] == "1":
                continue
            for index in range(begin, end):
                points = points_of(shape)
                if following is not None:
                    points = moved(points, points_of(following), (index - begin) / (end - begin))
                shown[index][track.attrib["id"], track.attrib["label"]] = mask_of(points)
    return shown


def expected(frames: list[LabelledFrame]) -> Drawn:
    size = {"width": videos.WIDTH, "height": videos.HEIGHT}
    return {
        frame.index: {
            (str(label.track), label.class_name): outlines.decoded(label.mask, **size).astype(bool)
            for label in frame.labels
            if label.track > 0
        }
        for frame in frames
    }


def check_same(shown: Drawn, labelled: Drawn) -> None:
    assert {index: set(masks) for index, masks in shown.items()} == {i: set(m) for i, m in labelled.items()}
    for index, masks in labelled.items():
        for key, mask in masks.items():
            np.testing.assert_array_equal(shown[index][key], mask)


def still(*indices: int, num_frames: int, step: int = 1) -> list[LabelledFrame]:
    """One object that stands still in the frames `indices`."""
    label = videos.label(videos.ring_and_dot())
    return [
        LabelledFrame(index, index / 10, (label,) if index in indices else ()) for index in range(0, num_frames, step)
    ]


def test_cvat_draws_in_every_frame_what_was_labelled_there(tmp_path: Path) -> None:
    """With a gap, a hole, two parts and the border; a small object's polygon is exact by itself."""
    frames = list(videos.frames())
    check_same(drawn(written(tmp_path, frames, tolerance=0), len(frames)), expected(frames))


def test_a_track_is_outside_in_the_first_frame_without_it_and_never_beyond_the_last(tmp_path: Path) -> None:
    frames = list(videos.frames())
    tracks = list(ElementTree.parse(written(tmp_path, frames[:-1])).getroot().iter("track"))
    outside = [[shape.get("frame") for shape in track if shape.get("outside") == "1"] for track in tracks]
    assert outside == [[], ["3"]]


def test_where_only_a_part_of_the_video_was_looked_at_a_track_ends_with_it(tmp_path: Path) -> None:
    frames = still(0, 4, num_frames=5, step=2)
    for num_frames, last in ((5, None), (6, None), (7, "6"), (100, "6"), (None, None)):
        path = written(tmp_path, frames, video=videos.video(num_frames=num_frames))
        (track,) = ElementTree.parse(path).getroot().iter("track")
        assert [shape.get("frame") for shape in track if shape.get("outside") == "1"] == [
            "2",
            *([last] if last else []),
        ]


def test_frames_that_moving_the_points_makes_again_are_left_out(tmp_path: Path) -> None:
    frames = still(*range(20), num_frames=21)
    (track,) = ElementTree.parse(written(tmp_path, frames)).getroot().iter("track")
    assert [shape.attrib["frame"] for shape in track] == ["0", "19", "20"]
    check_same(drawn(tmp_path / "street.xml", 21), expected(frames))


def test_an_even_walk_is_written_at_its_turns(tmp_path: Path) -> None:
    """To the right until frame 10, back until 20."""
    at = [min(index, 20 - index) for index in range(21)]
    labels = [videos.label(videos.rectangle(x, 4, x + 12, 24)) for x in at]
    frames = [LabelledFrame(index, index / 10, (label,)) for index, label in enumerate(labels)]
    (track,) = ElementTree.parse(written(tmp_path, frames)).getroot().iter("track")
    assert [shape.attrib["frame"] for shape in track] == ["0", "10", "20"]
    check_same(drawn(tmp_path / "street.xml", 21), expected(frames))


def test_a_polygon_that_is_another_in_between_is_written(tmp_path: Path) -> None:
    low, high = (videos.label(videos.rectangle(10, 10, 20, y)) for y in (20, 30))
    frames = [LabelledFrame(index, index / 10, (high if index == 5 else low,)) for index in range(10)]
    check_same(drawn(written(tmp_path, frames), 10), expected(frames))


def test_a_tolerance_lets_moved_points_stray_as_far(tmp_path: Path) -> None:
    """A wobble of 2 pixels is gone at 12, which an object of 30 pixels has 5.8 of."""
    frames = [
        LabelledFrame(i, i / 10, (videos.label(videos.rectangle(10 + i % 2 * 2, 5, 25 + i % 2 * 2, 35)),))
        for i in range(10)
    ]
    counts = []
    for tolerance in (0, 12):
        (track,) = ElementTree.parse(written(tmp_path, frames, tolerance=tolerance)).getroot().iter("track")
        counts.append(len(track))
    assert counts == [10, 2]


def test_labels_and_size_stand_at_the_top_and_names_are_escaped(tmp_path: Path) -> None:
    video = replace(videos.video('a <&" ü 雨'), num_frames=8)
    format = Cvat()
    format.open(tmp_path, ["a<b", 'c"d'])
    format.begin(video)
    format.write(LabelledFrame(0, 0.0, (replace(videos.label(videos.rectangle(1, 1, 5, 5)), class_name='c"d'),)))
    format.end()
    format.close()
    root = ElementTree.parse(tmp_path / 'a <&" ü 雨.xml').getroot()
    assert root.findtext("version") == "1.1" and root.findtext("meta/task/name") == 'a <&" ü 雨'
    assert [each.text for each in root.findall("meta/task/labels/label/name")] == ["a<b", 'c"d']
    assert [root.findtext(f"meta/task/original_size/{side}") for side in ("width", "height")] == ["64", "48"]
    assert [root.findtext(f"meta/task/{key}") for key in ("size", "start_frame", "stop_frame")] == ["8", "0", "7"]
    assert [track.get("label") for track in root.iter("track")] == ['c"d']


def test_of_two_objects_of_one_track_in_a_frame_the_better_is_written(tmp_path: Path) -> None:
    worse, better = videos.label(videos.rectangle(1, 1, 9, 9), score=0.5), videos.label(videos.rectangle(20, 1, 30, 9))
    format = Cvat()
    format.open(tmp_path, videos.CLASS_NAMES)
    format.begin(videos.video(num_frames=1))
    format.write(LabelledFrame(0, 0.0, (worse, better, worse)))
    format.end()
    assert format.close() == {"more objects of one track in one frame": 2}
    np.testing.assert_array_equal(drawn(tmp_path / "street.xml", 1)[0]["1", "person"], videos.rectangle(20, 1, 30, 9))


def test_an_object_without_a_pixel_is_counted(tmp_path: Path) -> None:
    empty = Label(1, "person", 0.9, (0, 0, 1, 1), outlines.encoded(np.zeros((videos.HEIGHT, videos.WIDTH))))
    for options in ({}, {"masks": "rle"}):
        format = Cvat(**options)  # type: ignore[arg-type]
        format.open(tmp_path, videos.CLASS_NAMES)
        format.begin(videos.video(num_frames=1))
        format.write(LabelledFrame(0, 0.0, (empty,)))
        format.end()
        assert format.close() == {"objects without a pixel": 1}


def test_masks_are_exact_each_in_its_frame(tmp_path: Path) -> None:
    frames = list(videos.frames())
    root = ElementTree.parse(written(tmp_path, frames, masks="rle")).getroot()
    assert not list(root.iter("track"))
    images = list(root.iter("image"))
    assert [int(image.attrib["id"]) for image in images] == [frame.index for frame in frames]
    for image, frame in zip(images, frames, strict=True):
        masks = [rows_of(shape) for shape in image.iter("mask")]
        assert [shape.get("label") for shape in image] == [label.class_name for label in frame.labels]
        for mask, label in zip(masks, frame.labels, strict=True):
            assert outlines.encoded(mask) == label.mask


def rows_of(shape: ElementTree.Element) -> np.ndarray:
    """Lengths outside, inside, … along the rows of a box."""
    left, top, width, height = (int(shape.attrib[key]) for key in ("left", "top", "width", "height"))
    values: list[bool] = []
    for number, length in enumerate(shape.attrib["rle"].split(",")):
        values += [number % 2 == 1] * int(length)
    whole = np.zeros((videos.HEIGHT, videos.WIDTH), bool)
    whole[top : top + height, left : left + width] = np.reshape(values, (height, width))
    return whole


@pytest.mark.parametrize("options", [{"tolerance": 0}, {"masks": "rle"}])
def test_what_was_written_is_loaded(tmp_path: Path, options: dict[str, Any]) -> None:
    frames = list(videos.frames())
    loaded = cvat.load(written(tmp_path, frames, **options))
    assert loaded.class_names == videos.CLASS_NAMES and loaded.size == (videos.WIDTH, videos.HEIGHT)
    for frame in frames:
        labels = [label for label in frame.labels if label.track > 0 or "masks" in options]
        shapes = [shape for shape in loaded.shapes if shape.frame == frame.index]
        assert [shape.class_name for shape in shapes] == [label.class_name for label in labels]
        for shape, label in zip(shapes, labels, strict=True):
            size = {"width": videos.WIDTH, "height": videos.HEIGHT}
            assert outlines.compressed(shape.segmentation, **size) == label.mask
            assert shape.box == pytest.approx(label.box)


def test_frames_between_two_shapes_are_loaded_as_cvat_draws_them(tmp_path: Path) -> None:
    at = [min(index, 20 - index) for index in range(21)]
    labels = [videos.label(videos.rectangle(x, 4, x + 12, 24)) for x in at]
    frames = [LabelledFrame(index, index / 10, (label,)) for index, label in enumerate(labels)]
    loaded = cvat.load(written(tmp_path, frames))
    assert [shape.box for shape in loaded.shapes] == [label.box for label in labels]
    assert [shape.frame for shape in loaded.shapes if shape.keyframe] == [0, 10, 20]


TOP = "<annotations><meta><task><labels><label><name>person</name></label></labels></task></meta>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not valid XML"),
        ("<annotations><meta>", "not valid XML"),
        ("<html></html>", "expected <annotations> at the top, got <html>"),
        (f"{TOP}<track id='0' label='persn'></track></annotations>", "label 'persn' .*did you mean 'person'"),
        (f"{TOP}<track id='0'></track></annotations>", "'label' is missing"),
        (f"{TOP}<track label='person'><polygon points='1,2;3,4;5,6'/></track></annotations>", "'frame' is missing"),
        (
            f"{TOP}<track label='person'><polygon frame='7' points='1,2;3,4'/></track></annotations>",
            "frame 7: expected",
        ),
        (f"{TOP}<track label='person'><polygon frame='7' points='1,2;3,nan;1,1'/></track></annotations>", "frame 7"),
        (f"{TOP}<track label='person'><polygon frame='7' points='a'/></track></annotations>", "could not convert"),
        (
            f"{TOP}<image id='3' width='9' height='9'>"
            "<mask label='person' left='8' top='0' width='2' height='1' rle='2'/></image></annotations>",
            "frame 3: a mask that leaves the picture of 9x9",
        ),
        (
            f"{TOP}<image id='3' width='9' height='9'>"
            "<mask label='person' left='0' top='0' width='2' height='1' rle='3'/></image></annotations>",
            "frame 3: expected run lengths of 2x1 pixels, got 3",
        ),
    ],
)
def test_a_file_that_is_none_of_cvats_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "broken.xml").write_text(text)
    with pytest.raises(InputError, match=rf"broken\.xml: .*{said}"):
        cvat.load(tmp_path / "broken.xml")


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="nowhere.xml: cannot be read"):
        cvat.load(Path("nowhere.xml"))


def test_shapes_without_an_area_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(
        f"{TOP}<image id='3' name='b.png'><points label='person' points='1,2'/>"
        "<box label='person' xtl='1' ytl='2' xbr='3' ybr='5'/></image></annotations>"
    )
    loaded = cvat.load(tmp_path / "a.xml")
    assert loaded.left_out == {"shapes of the kind points": 1} and set(loaded.images) == {"b.png"}
    assert [(shape.name, shape.box, shape.segmentation) for shape in loaded.shapes] == [("b.png", (1, 2, 3, 5), None)]


@pytest.mark.parametrize("tolerance", [-1, float("nan")])
def test_a_tolerance_below_nothing_is_refused(tolerance: float) -> None:
    with pytest.raises(UsageError, match="tolerance: expected pixels from 0 up"):
        Cvat(tolerance=tolerance)


def test_a_video_of_unknown_length_has_no_last_frame_in_its_file(tmp_path: Path) -> None:
    video = LabelledVideo(
        "x", None, videos.WIDTH, videos.HEIGHT, None, Fraction(10), True, (videos.WIDTH, videos.HEIGHT)
    )
    root = ElementTree.parse(written(tmp_path, still(0, 1, num_frames=2), video=video)).getroot()
    assert root.find("meta/task/size") is None and len(list(root.iter("polygon"))) == 2


@pytest.mark.parametrize(("side", "least"), blobs.SIZES)
@pytest.mark.parametrize("centre", blobs.EVERYWHERE.values(), ids=blobs.EVERYWHERE)
def test_polygons_stay_near_the_object(side: int, least: float, centre: tuple[int, int], tmp_path: Path) -> None:
    mask = blobs.blob(side, centre=centre)
    size = {"width": blobs.WIDTH, "height": blobs.HEIGHT}
    path = written(tmp_path, [LabelledFrame(0, 0.0, (videos.label(mask),))], video=replace(videos.video(), **size))
    (shape,) = cvat.load(path).shapes
    assert blobs.overlap(outlines.decoded(shape.segmentation, **size).astype(bool), mask) >= least


def test_a_task_of_saved_pictures_counts_them_from_0(tmp_path: Path) -> None:
    """Its last frame is the last picture, whatever the video has behind it."""
    frames = still(0, 4, 8, num_frames=12, step=4)
    for options, ours in ((dict(frames="pictures"), ["0", "2"]), ({}, ["0", "8"]), (dict(frames="video"), ["0", "8"])):
        root = ElementTree.parse(written(tmp_path, frames, video=videos.video(num_frames=100), **options)).getroot()
        shown = [(each.get("frame"), each.get("outside")) for each in root.iter("polygon")]
        assert [frame for frame, outside in shown if outside == "0"] == ours
        assert [frame for frame, outside in shown if outside == "1"] == ([] if ours[1] == "2" else ["12"])
        assert [each.text for each in root.iter("size")] == ([] if ours[1] == "2" else ["100"])
    scaled = replace(videos.video(num_frames=100), original_size=(3840, 2880))
    assert cvat.load(written(tmp_path, frames, video=scaled)).of_pictures
    assert not cvat.load(written(tmp_path, frames, video=scaled, frames="video")).of_pictures
