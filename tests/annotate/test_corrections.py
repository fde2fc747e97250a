"""What somebody corrects in the labels of a job is what a training on them learns from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from streamseg import outlines
from streamseg.cli import app
from streamseg.config import Component
from streamseg.datasets.coco import Coco
from streamseg.datasets.cvat import Cvat
from streamseg.training.data import open_datasets
from streamseg.training.loader import Batches, Pictures
from streamseg.types import Frame, Instances, Sample
from tests.annotate.jobs import frames, run
from tests.clips import make_clip
from tests.end_to_end.parts import CLASS_NAMES, Walker, ellipse
from tests.tiny_model import TINY, tiny_experiment, tiny_stage

WIDTH, HEIGHT, NUM_FRAMES = 128, 96, 8
TRIANGLE = [10.0, 10.0, 50.0, 10.0, 10.0, 60.0]
MOVED = 2
"""The frame in which the polygon of track 1 becomes that triangle."""


class Trio(Walker):
    """A person who walks, one who stands, and a dog that sits: tracks 1, 2 and 3."""

    def _found(self, frame: Frame) -> Instances:
        left = frame.index * 0.013
        shares = [[left, 0.2, left + 0.25, 0.7], [0.55, 0.1, 0.8, 0.6], [0.7, 0.75, 0.95, 1.0]]
        return Instances(
            boxes=np.array(shares, np.float32) * np.array([frame.width, frame.height] * 2, np.float32),
            masks=np.stack([ellipse()] * 3),
            scores=np.array([0.95, 0.93, 0.9], np.float32),
            class_ids=np.array([1, 1, 2], np.int32),
            track_ids=np.full(3, -1, np.int32),
            class_names=CLASS_NAMES,
        )


class WatchedCvat(Cvat):
    """The same, which keeps what was taken of it."""

    taken: ClassVar[dict[int, Sample]] = {}

    def __getitem__(self, index: int) -> Sample:
        self.taken[index] = super().__getitem__(index)
        return self.taken[index]


class WatchedCoco(Coco):
    taken: ClassVar[dict[int, Sample]] = {}

    def __getitem__(self, index: int) -> Sample:
        self.taken[index] = super().__getitem__(index)
        return self.taken[index]


def correct_cvat(path: Path) -> None:
    """As in CVAT: a polygon of track 1 is moved, track 2 deleted, track 3 is another class."""
    tree = ElementTree.parse(path)
    tracks = {track.attrib["id"]: track for track in tree.getroot().findall("track")}
    shapes = {shape.attrib["frame"]: shape for shape in tracks["1"]}
    assert shapes.keys() >= {str(MOVED - 1), str(MOVED), str(MOVED + 1)}, "others than that one would move too"
    shapes[str(MOVED)].set("points", "10.00,10.00;50.00,10.00;10.00,60.00")
    tree.getroot().remove(tracks["2"])
    assert tracks["3"].attrib["label"] == "dog"
    tracks["3"].set("label", "person")
    tree.write(path)


def correct_coco(path: Path) -> None:
    """The same in a COCO file."""
    content = json.loads(path.read_text())
    index = {picture["id"]: picture["frame_index"] for picture in content["images"]}
    content["annotations"] = [each for each in content["annotations"] if each["track_id"] != 2]
    for each in content["annotations"]:
        if each["track_id"] == 3:
            each["category_id"] = 1
        elif index[each["image_id"]] == MOVED:
            each |= {"segmentation": [TRIANGLE], "bbox": [10, 10, 40, 50], "area": 1000}
    path.write_text(json.dumps(content))


@pytest.mark.usefixtures("eager")
def test_a_training_learns_from_the_corrected_objects(here: Path) -> None:
    make_clip(here / "street.mp4", width=WIDTH, height=HEIGHT, num_frames=NUM_FRAMES, lossless=False)
    run("street.mp4", formats=("cvat:tolerance=0", "coco", "jsonl"), pictures=True, engine=f"{__name__}:Trio")
    correct_cvat(here / "labels" / "street.xml")
    correct_coco(here / "labels" / "coco.json")
    data = tuple(
        Component(name=f"{__name__}:{watched.__name__}", options={"path": f"labels/{name}"})
        for name, watched in (("street.xml", WatchedCvat), ("coco.json", WatchedCoco))
    )
    stage = tiny_stage(epochs=1, crop=64, batch_size=2 * NUM_FRAMES)
    experiment = tiny_experiment(here, stages=(stage,), train=data)
    model = TINY.model_copy(update={"class_names": CLASS_NAMES})
    experiment = experiment.model_copy(update={"name": "corrected", "model": model})
    (here / "corrected.yaml").write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    trained = CliRunner().invoke(app, ["train", "corrected.yaml", "-o", "run", "-q"], catch_exceptions=False)
    assert trained.exit_code == 0 and (here / "run" / "model.weights.h5").is_file()

    wanted = {record["index"]: expected(record) for record in frames("labels", "street")}
    assert len(wanted) == NUM_FRAMES
    for taken in (WatchedCvat.taken, WatchedCoco.taken):
        assert {index: objects_of(sample) for index, sample in taken.items()} == wanted
        assert taken[MOVED].boxes[0].tolist() == [10, 10, 50, 60]
        assert taken[MOVED].path.name == f"frame_{MOVED:06d}.jpg"

    training = experiment.training
    assert training is not None
    pictures = Pictures(open_datasets(data, CLASS_NAMES), side=training.mini_mask)
    batch, _ = Batches(pictures, training, stage)[0]  # the one of that training: its seed is the same
    assert set(np.unique(batch["class_ids"])) == {0, 1}, "people, and nothing where there is room for more objects"


def test_a_label_that_the_model_does_not_know_is_named_before_the_training(here: Path) -> None:
    make_clip(here / "street.mp4", num_frames=2, lossless=False)
    run("street.mp4", formats=("cvat",), pictures=True)
    path = here / "labels" / "street.xml"
    path.write_text(path.read_text().replace("dog", "hot dog"))
    data = (Component(name="cvat", options={"path": "labels/street.xml"}),)
    model = TINY.model_copy(update={"class_names": CLASS_NAMES})
    experiment = tiny_experiment(here, train=data).model_copy(update={"model": model})
    (here / "corrected.yaml").write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    ended = CliRunner().invoke(app, ["train", "corrected.yaml", "-o", "run", "-q"], catch_exceptions=False)
    assert ended.exit_code == 2 and not (here / "run" / "model.weights.h5").exists()
    assert ended.stderr == (
        "streamseg: dataset cvat: it has the class 'hot dog', which the model lacks; there is dog, person; did you "
        "mean 'dog'? (the dataset's option `classes` takes some of its classes only)\n"
    )


def objects_of(sample: Sample) -> list[tuple[str, dict[str, Any]]]:
    """Class and mask of each object."""
    masks = [outlines.compressed(mask, width=sample.width, height=sample.height) for mask in sample.masks]
    return [(CLASS_NAMES[number], mask) for number, mask in zip(sample.class_ids, masks, strict=True)]


def expected(record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a frame as they were corrected, of the labels as they were before."""
    masks = {each["track"]: each["mask"] for each in record["objects"]}
    if record["index"] == MOVED:
        masks[1] = outlines.compressed([TRIANGLE], width=WIDTH, height=HEIGHT)
    return [("person", masks[1]), ("person", masks[3])]
