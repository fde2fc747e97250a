"""A track is one annotation with its mask in every frame; read as the format's own description has it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from streamseg import outlines
from streamseg.formats.youtube_vis import YoutubeVis
from streamseg.labels import Label, LabelledFrame
from tests.formats import videos


def read(folder: Path) -> Any:
    return json.loads((folder / "youtube_vis.json").read_text(encoding="utf-8"))


def test_tracks_have_their_masks_frame_by_frame_and_null_where_they_are_not(tmp_path: Path) -> None:
    videos.write(YoutubeVis(), tmp_path, "Straße 雨", "street")
    content = read(tmp_path)
    assert [annotation["id"] for annotation in content["annotations"]] == [1, 2, 3, 4]
    assert [annotation["video_id"] for annotation in content["annotations"]] == [1, 1, 2, 2]
    frames = list(videos.frames())
    for annotation in content["annotations"]:
        labels = [
            next((label for label in frame.labels if label.track == (annotation["id"] - 1) % 2 + 1), None)
            for frame in frames
        ]
        back = [mask and outlines.compressed(mask, width=64, height=48) for mask in annotation["segmentations"]]
        assert back == [label and label.mask for label in labels]
        assert all(isinstance(mask["counts"], list) for mask in annotation["segmentations"] if mask)
        boxes = [label and label.box for label in labels]
        assert annotation["bboxes"] == [b and [b[0], b[1], b[2] - b[0], b[3] - b[1]] for b in boxes]
        assert (annotation["width"], annotation["height"], annotation["length"]) == (64, 48, 8)
        assert annotation["iscrowd"] == 0 and annotation["category_id"] == 1
    walker, ring, *_ = content["annotations"]
    assert walker["areas"] == [240] * 7 + [None]
    assert ring["areas"] == [352] * 3 + [None] * 2 + [352] * 2 + [None]  # 20×20 less 8×8, and 4×4
    assert (walker["score"], ring["score"]) == (0.9, 0.8)


def test_videos_tell_their_pictures_frames_and_times(tmp_path: Path) -> None:
    format = YoutubeVis()
    format.open(tmp_path, videos.CLASS_NAMES)
    for name in ("a", "b"):
        format.begin(videos.video(name))
        for index, time in ((3, 0.04), (9, 0.5)):
            format.write(LabelledFrame(index, time, (), "a/x.jpg" if name == "a" and index == 3 else None))
        format.end()
    format.close()
    content = read(tmp_path)
    assert [video["id"] for video in content["videos"]] == [1, 2]
    assert [video["file_names"] for video in content["videos"]] == [
        ["a/x.jpg", "a/frame_000009.jpg"],
        ["b/frame_000003.jpg", "b/frame_000009.jpg"],
    ]
    assert [video["length"] for video in content["videos"]] == [2, 2]
    assert all(video["frame_indices"] == [3, 9] and video["times"] == [0.04, 0.5] for video in content["videos"])
    assert content["annotations"] == []
    assert content["categories"] == [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]


def test_a_track_is_of_the_class_with_the_most_score(tmp_path: Path) -> None:
    label = videos.label(videos.rectangle(1, 1, 9, 9), score=0.5)
    dog = replace(label, class_name="dog", score=0.9)
    format = YoutubeVis()
    format.open(tmp_path, videos.CLASS_NAMES)
    format.begin(videos.video())
    for index, each in enumerate((label, dog, label, dog)):
        format.write(LabelledFrame(index, index / 10, (each,)))
    format.end()
    format.close()
    (annotation,) = read(tmp_path)["annotations"]
    assert annotation["category_id"] == 2 and annotation["score"] == 0.7


def test_a_job_without_a_video_is_empty_lists(tmp_path: Path) -> None:
    format = YoutubeVis()
    format.open(tmp_path, videos.CLASS_NAMES)
    assert format.close() == {}
    content = read(tmp_path)
    assert content["annotations"] == content["videos"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["youtube_vis.json"]


def test_a_video_without_a_frame_has_empty_lists(tmp_path: Path) -> None:
    format = YoutubeVis()
    format.open(tmp_path, videos.CLASS_NAMES)
    format.begin(videos.video())
    format.end()
    format.close()
    (video,) = read(tmp_path)["videos"]
    assert video["file_names"] == video["times"] == [] and video["length"] == 0


def test_a_mask_without_a_pixel_is_left_out_and_counted(tmp_path: Path) -> None:
    empty = Label(1, "person", 0.9, (0, 0, 1, 1), outlines.encoded(np.zeros((videos.HEIGHT, videos.WIDTH))))
    format = YoutubeVis()
    format.open(tmp_path, ["person"])
    format.begin(videos.video("street"))
    format.write(LabelledFrame(0, 0.0, (empty,)))
    format.end()
    assert format.close() == {"objects without a pixel": 1}
    assert read(tmp_path)["annotations"] == []
