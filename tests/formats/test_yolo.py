"""YOLO's readers find every object, in its pixels, whatever they do with the points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import supervision
import yaml
from PIL import Image

from streamseg import outlines
from streamseg.formats.yolo import DOUBLED, EMPTY, Yolo
from streamseg.labels import Label, LabelledFrame
from streamseg.types import UsageError
from tests.formats import blobs, videos
from tests.formats.yolo_reader import Found, read

NAMES = ("Straße 雨", "street")


def inside(label: Label) -> np.ndarray:
    height, width = label.mask["size"]
    return outlines.decoded(label.mask, width=width, height=height).astype(bool)


def of_one_frame(folder: Path, *masks: np.ndarray, tolerance: float | None = None) -> list[Found]:
    """What is read of a frame with these masks (H, W) of people."""
    left_out = written(Yolo(tolerance=tolerance), folder, *map(videos.label, masks))
    assert left_out == {}
    (found,) = read(folder / "data.yaml")["train"].values()
    return found


def written(format: Yolo, folder: Path, *labels: Label) -> dict[str, int]:
    """One frame, as large as the masks, of a video `street`; what was left out."""
    height, width = labels[0].mask["size"]
    (folder / "street").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(folder / "street/frame_000000.jpg")
    format.open(folder, videos.CLASS_NAMES)
    format.begin(replace(videos.video(), width=width, height=height))
    format.write(LabelledFrame(0, 0.0, labels, "street/frame_000000.jpg"))
    format.end()
    return dict(format.close())


@pytest.mark.parametrize("rounded", [False, True], ids=["truncated", "rounded"])
def test_objects_come_back_exactly_at_tolerance_0(tmp_path: Path, rounded: bool) -> None:
    """But for the cut between the two parts of the one, a line of a pixel from one to the other."""
    videos.write(Yolo(tolerance=0), tmp_path, *NAMES)
    parts = read(tmp_path / "data.yaml")
    for part, name in zip(("train", "val"), NAMES, strict=True):
        assert len(parts[part]) == 8
        for frame in videos.frames(pictures=name):
            found = parts[part][tmp_path / str(frame.picture)]
            assert [each.class_name for each in found] == [label.class_name for label in frame.labels]
            for each, label in zip(found, frame.labels, strict=True):
                mask = each.mask(videos.WIDTH, videos.HEIGHT, rounded=rounded)
                assert not (inside(label) & ~mask).any()
                assert (mask & ~inside(label)).sum() == (4 if label.track == 2 else 0)


@pytest.mark.parametrize(("side", "least"), blobs.SIZES)
@pytest.mark.parametrize("centre", blobs.EVERYWHERE.values(), ids=blobs.EVERYWHERE)
def test_outlines_stay_near_the_object(side: int, least: float, centre: tuple[int, int], tmp_path: Path) -> None:
    shape = blobs.blob(side, centre=centre)
    (found,) = of_one_frame(tmp_path, shape)
    for rounded in (False, True):
        assert blobs.overlap(found.mask(blobs.WIDTH, blobs.HEIGHT, rounded=rounded), shape) >= least
    # a thousand points, most of them between pixels, cost a little more where they are truncated
    assert blobs.overlap(found.mask(blobs.WIDTH, blobs.HEIGHT, num_points=1000), shape) >= least - 0.01


def test_supervision_reads_the_same_objects(tmp_path: Path) -> None:
    videos.write(Yolo(tolerance=0), tmp_path)
    folder = str(tmp_path / "street")
    dataset = supervision.DetectionDataset.from_yolo(folder, folder, str(tmp_path / "data.yaml"))
    assert dataset.classes == list(videos.CLASS_NAMES) and len(dataset) == 8
    for frame in videos.frames(pictures="street"):
        found = dataset.annotations[str(tmp_path / str(frame.picture))]
        assert len(found) == len(frame.labels)
        for number, label in enumerate(frame.labels):
            assert dataset.classes[found.class_id[number]] == label.class_name
            assert (found.mask[number] ^ inside(label)).sum() == (4 if label.track == 2 else 0)


def test_an_object_that_fills_the_picture_stays_within_it(tmp_path: Path) -> None:
    (found,) = of_one_frame(tmp_path, np.ones((48, 64), bool))
    assert found.mask(64, 48).all() and found.mask(64, 48, rounded=True).all()


@pytest.mark.parametrize("size", [(1, 1), (5, 1), (1, 5), (2, 2)])
def test_the_smallest_objects_have_three_points_and_are_still_their_pixels(
    size: tuple[int, int], tmp_path: Path
) -> None:
    x, y = 64 - size[0], 48 - size[1]
    shape = videos.rectangle(x, y, 64, 48)
    (found,) = of_one_frame(tmp_path, shape)
    for rounded in (False, True):
        np.testing.assert_array_equal(found.mask(64, 48, rounded=rounded), shape)


def test_two_objects_with_one_box_are_both_read_and_the_same_object_only_once(tmp_path: Path) -> None:
    whole = videos.rectangle(10, 10, 30, 30)
    frame = whole & ~videos.rectangle(15, 15, 25, 25)
    found = of_one_frame(tmp_path, whole, frame, tolerance=0)
    assert [each.mask(64, 48, rounded=True).sum() for each in found] == [400, 300]
    doubled = [videos.label(whole), videos.label(whole, track=7), videos.label(whole, class_name="dog")]
    assert written(Yolo(), tmp_path, *doubled) == {DOUBLED: 1}
    (read_back,) = read(tmp_path / "data.yaml")["train"].values()
    assert [each.class_name for each in read_back] == ["person", "dog"]


def test_an_object_without_a_pixel_is_left_out_and_counted(tmp_path: Path) -> None:
    empty = Label(1, "person", 0.9, (0.0, 0.0, 1.0, 1.0), outlines.encoded(np.zeros((48, 64))))
    assert written(Yolo(), tmp_path, empty) == {EMPTY: 1}
    assert list(read(tmp_path / "data.yaml")["train"].values()) == [[]]


@pytest.mark.parametrize(
    ("num_videos", "val", "expected"),
    [(10, 0.2, [4, 9]), (2, 0.2, [1]), (3, 0.2, [2]), (5, 0.9, [1, 2, 3, 4]), (4, 0, []), (1, 0.2, [])],
)
def test_a_video_is_either_for_training_or_for_measuring(
    num_videos: int, val: float, expected: list[int], tmp_path: Path
) -> None:
    """Where none is left for measuring, readers still ask for one: it is the training again, and data.yaml says so."""
    names = [f"video {i}" for i in range(num_videos)]
    videos.write(Yolo(val=val), tmp_path, *names, num_frames=2)
    parts = {part: {each.parent.name for each in found} for part, found in read(tmp_path / "data.yaml").items()}
    for_val = {names[i] for i in expected}
    assert parts == {"train": set(names) - for_val, "val": for_val or set(names)}
    assert ((tmp_path / "data.yaml").read_text()[0] == "#") is not bool(expected)
    assert "path" not in yaml.safe_load((tmp_path / "data.yaml").read_text())


def test_an_output_below_a_folder_called_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="YOLO's readers look for the labels of pictures below a folder 'images'"):
        Yolo().open(tmp_path / "images" / "out", ["person"])


@pytest.mark.parametrize("name", ["images", "clip.", "a\u2028b", "b\udcf6se"])
def test_a_video_whose_labels_would_not_be_found_is_refused_and_the_others_are_written(
    name: str, tmp_path: Path
) -> None:
    format = Yolo()
    format.open(tmp_path, videos.CLASS_NAMES)
    with pytest.raises(UsageError, match="rename it"):
        format.begin(videos.video(name))
    frames = list(videos.frames(pictures="clip [id].v2"))
    videos.save_pictures(tmp_path, frames)
    format.begin(videos.video("clip [id].v2"))
    for frame in frames:
        format.write(frame)
    format.end()
    format.close()
    assert len(read(tmp_path / "data.yaml")["train"]) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tolerance": -1}, "tolerance: expected pixels from 0 up"), ({"val": 1}, "val: expected a share .* got 1")],
)
def test_a_wrong_option_says_what_would_be_right(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Yolo(**options)


def test_a_frame_without_its_picture_is_refused(tmp_path: Path) -> None:
    format = Yolo()
    format.open(tmp_path, videos.CLASS_NAMES)
    format.begin(videos.video())
    with pytest.raises(UsageError, match="frame 0 has no saved picture"):
        format.write(next(videos.frames()))
    format.discard()
