"""VOC's pictures of masks hold every pixel, and its texts the boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np
import pytest
import supervision
from PIL import Image

from streamseg import outlines
from streamseg.formats.voc import EMPTY, MOST, TOO_MANY, Voc, colours
from streamseg.labels import Label, LabelledFrame
from streamseg.types import UsageError
from tests.formats import videos

NAMES = ("Straße 雨", "street")


def written(folder: Path, *labels: Label) -> dict[str, int]:
    format = Voc()
    format.open(folder, videos.CLASS_NAMES)
    format.begin(videos.video())
    format.write(LabelledFrame(0, 0.0, labels, "street/frame_000000.jpg"))
    format.end()
    return dict(format.close())


def numbers(folder: Path, kind: str, name: str = "street/frame_000000") -> np.ndarray:
    """A picture of masks, (H, W) uint8."""
    with Image.open(folder / f"voc/Segmentation{kind}/{name}.png") as picture:
        assert picture.mode == "P"
        return np.array(picture)


def test_each_object_is_its_pixels_and_the_surer_one_has_those_of_both(tmp_path: Path) -> None:
    unsure = videos.label(videos.rectangle(0, 0, 20, 20), score=0.6)
    sure = videos.label(videos.rectangle(10, 10, 40, 48), score=0.9, class_name="dog")
    under = videos.label(videos.rectangle(12, 12, 16, 16), score=0.3)
    for order in ([sure, unsure, under], [unsure, sure, under]):
        assert written(tmp_path, *order) == {}
        objects = numbers(tmp_path, "Object")
        np.testing.assert_array_equal(objects == order.index(sure) + 1, videos.rectangle(10, 10, 40, 48))
        assert (objects == order.index(unsure) + 1).sum() == 300 and (objects == 3).sum() == 0
        np.testing.assert_array_equal(
            numbers(tmp_path, "Class")[objects > 0], np.where(objects == order.index(sure) + 1, 2, 1)[objects > 0]
        )


def test_holes_parts_and_borders_stay_as_they_are(tmp_path: Path) -> None:
    videos.write(Voc(), tmp_path, *NAMES)
    listed = (tmp_path / "voc/ImageSets/Segmentation/default.txt").read_text(encoding="utf-8").splitlines()
    assert listed == [f"{name}/frame_{i:06d}" for name in NAMES for i in range(8)]
    for frame in videos.frames(8, pictures=NAMES[0]):
        objects = numbers(tmp_path, "Object", f"{NAMES[0]}/frame_{frame.index:06d}")
        for number, label in enumerate(frame.labels, start=1):
            inside = outlines.decoded(label.mask, width=videos.WIDTH, height=videos.HEIGHT)
            np.testing.assert_array_equal(objects == number, inside)
        assert objects.max() == len(frame.labels)


def test_supervision_reads_the_boxes_and_classes(tmp_path: Path) -> None:
    videos.write(Voc(), tmp_path, *NAMES)
    for name in NAMES:
        texts = str(tmp_path / "voc/Annotations" / name)
        dataset = supervision.DetectionDataset.from_pascal_voc(str(tmp_path / name), texts)
        assert len(dataset) == 8
        for frame in videos.frames(pictures=name):
            found = dataset.annotations[str(tmp_path / str(frame.picture))]
            assert [dataset.classes[i] for i in found.class_id] == [label.class_name for label in frame.labels]
            assert found.xyxy.tolist() == [list(label.box) for label in frame.labels]


def test_the_text_of_a_frame_names_its_picture_and_size(tmp_path: Path) -> None:
    videos.write(Voc(), tmp_path)
    root = xml.parse(tmp_path / "voc/Annotations/street/frame_000003.xml").getroot()
    assert [root.findtext(tag) for tag in ("folder", "filename", "segmented")] == ["street", "frame_000003.jpg", "1"]
    assert [root.findtext(f"size/{tag}") for tag in ("width", "height", "depth")] == ["64", "48", "3"]
    assert [each.text for each in root.findall("object/name")] == ["person", "dog"]
    assert [each.text for each in root.findall("object[1]/bndbox/*")] == ["4", "5", "15", "24"]  # 3 to 15, 4 to 24


def test_the_colours_are_those_of_voc(tmp_path: Path) -> None:
    """Of its development kit: aeroplane dark red, bicycle green, bird olive, …, tvmonitor, and cream for the void."""
    expected = {0: [0, 0, 0], 1: [128, 0, 0], 2: [0, 128, 0], 3: [128, 128, 0], 20: [0, 64, 128], 255: [224, 224, 192]}
    assert {number: colours(256)[number].tolist() for number in expected} == expected
    videos.write(Voc(), tmp_path)
    lines = (tmp_path / "voc/labelmap.txt").read_text().splitlines()
    assert lines[1:] == ["background:0,0,0::", "person:128,0,0::", "dog:0,128,0::"]


def test_what_bytes_cannot_tell_apart_is_left_out_and_counted(tmp_path: Path) -> None:
    empty = Label(1, "person", 0.9, (0.0, 0.0, 1.0, 1.0), outlines.encoded(np.zeros((48, 64))))
    dots = [videos.label(videos.rectangle(i % 64, i // 64, i % 64 + 1, i // 64 + 1)) for i in range(MOST + 3)]
    assert written(tmp_path, empty, *dots) == {EMPTY: 1, TOO_MANY: 3}
    objects = numbers(tmp_path, "Object")
    assert objects.ravel()[:MOST].tolist() == list(range(1, MOST + 1)) and objects.ravel()[MOST:].max() == 0


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected at most 254 classes, got 255"):
        Voc().open(tmp_path, [str(i) for i in range(255)])
    format = Voc()
    format.open(tmp_path, videos.CLASS_NAMES)
    for name in ("a\x01b", "b\udcf6se"):
        with pytest.raises(UsageError, match="characters that XML cannot hold"):
            format.begin(replace(videos.video(), name=name))
    format.begin(videos.video())
    with pytest.raises(UsageError, match="frame 0 has no saved picture"):
        format.write(next(videos.frames()))
    format.discard()


@pytest.mark.parametrize("name", ["a:b", "#1"])
def test_a_class_that_its_map_cannot_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="voc: expected names of classes without a colon and not with # first"):
        Voc().open(tmp_path, ["person", name])
