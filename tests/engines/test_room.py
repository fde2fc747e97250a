"""What holds for every engine: any number of pictures of any size, each with its own objects, the best first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg import plugins, rooms
from streamseg.sinks.jsonl import Jsonl
from streamseg.types import Engine, Frame, Result, StreamInfo
from tests import fakes
from tests.contract import entry
from tests.engines.conftest import assert_same, noise
from tests.engines.onnx_files import NAMES as NAMES_OF_OBJECTS
from tests.engines.onnx_files import two_objects, write_file, write_yaml
from tests.tiny_model import TINY, write_tiny_model

NAMES = rooms.names("engines")

CROWDED = TINY.model_copy(
    update={
        "input_sizes": ((128, 96),),
        "num_proposals": 200,
        "rpn_nms_threshold": 0.99,
        "detection_nms_threshold": 0.99,
        "max_detections": 20,
    }
)
"""A model that finds more than it may return."""


@dataclass(frozen=True)
class Prepared:
    """What engines run on: the folder of a small model, an ONNX file, and records of the frames that they are asked
    about."""

    model: str
    onnx: str
    records: str


OPTIONS: Mapping[str, Mapping[str, str]] = {
    "auto": {"model": "model"},
    "keras": {"model": "model"},
    "onnx": {"model": "onnx"},
    "openvino": {"model": "model"},
    "replay": {"path": "records"},
}
"""Engine -> its options, each with the field of Prepared that it is given."""


def frames(count: int) -> list[Frame]:
    """Pictures of noise in which there is something to see, every third of another size."""
    return [noise(*((256, 128) if index % 3 == 1 else (128, 96)), seed=index) for index in range(count)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """A tiny model whose export is cached in a folder of this test's, an ONNX file, and records of nine frames."""
    folder = tmp_path_factory.mktemp("engines")
    with Jsonl(folder / "records.jsonl") as sink:
        sink.start(StreamInfo("street", 128, 96, Fraction(1, 10), Fraction(10)))
        for frame in frames(9):
            found = fakes.instances(0.9, 0.6, 0.05, class_ids=[1, 2, 1], left=frame.index)
            sink.write(frame.picture, Result(frame, found))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield Prepared(str(write_tiny_model(folder / "tiny", CROWDED)), str(write_moved(folder)), str(sink.path))


def write_moved(folder: Path) -> Path:
    """An ONNX file whose boxes move with the brightness of a picture; one of its two objects is a weak find."""
    outputs = two_objects("mask_rcnn")
    path = write_file(folder / "moved.onnx", {**outputs, "scores": np.float32([0.9, 0.1])}, moved="boxes")
    write_yaml(path, kind="mask_rcnn", class_names=NAMES_OF_OBJECTS)
    return path


@pytest.fixture(scope="module", params=NAMES)
def engine(request: pytest.FixtureRequest, prepared: Prepared) -> Engine:
    name = request.param
    what = "its options, each with the field of Prepared that it is given"
    given = entry(OPTIONS, name, room="engines", called="OPTIONS", what=what)
    options: dict[str, Any] = {option: getattr(prepared, field) for option, field in given.items()}
    if "precision" in plugins.option_names("engines", name):
        options["precision"] = "f32"  # so that batches can be compared
    made: Engine = plugins.build("engines", name, options)
    return made


def test_it_says_what_it_knows_and_how_much_it_takes_at_once(engine: Engine) -> None:
    assert isinstance(engine, Engine)
    assert isinstance(engine.class_names, tuple) and engine.class_names[0] == "background"
    assert len(engine.class_names) == len(set(engine.class_names)) > 1
    assert 0 <= engine.min_score <= 1 and engine.batch_size >= 1


def test_the_size_of_its_input_depends_on_nothing_but_the_shape_of_the_frame(engine: Engine) -> None:
    for frame in frames(2):
        width, height = engine.input_size(frame)
        assert width > 0 and height > 0
        assert engine.input_size(noise(frame.width, frame.height, seed=7)) == (width, height)


def test_no_picture_is_no_result(engine: Engine) -> None:
    assert engine.predict([]) == []


def test_any_number_of_pictures_gives_as_many_results_in_their_order(engine: Engine) -> None:
    given = frames(min(9, engine.batch_size + 1))
    singles = [engine.predict([frame])[0] for frame in given]
    assert len({found.boxes.tobytes() for found in singles}) == len(given)
    together = engine.predict(given)
    assert len(together) == len(given)
    for found, expected in zip(together, singles, strict=True):
        assert_same(found, expected)


def test_objects_are_the_best_first_and_weak_ones_are_among_them(engine: Engine) -> None:
    results = engine.predict(frames(3))
    scores = np.concatenate([found.scores for found in results])
    assert all(len(found) and (np.diff(found.scores) <= 0).all() for found in results)
    assert 0.05 <= scores.min() < 0.5 and scores.max() <= 1
    assert max(map(len, results)) <= CROWDED.max_detections


def test_boxes_are_in_pixels_of_the_frame_and_masks_are_shares(engine: Engine) -> None:
    small, _, _ = frames(3)
    large = replace(small, picture=small.picture.reformat(1280, 960))
    one, ten = engine.predict([small, large])
    assert 0 < one.boxes[:, 2:].max() <= 128 * 1.5
    assert ten.boxes[:, 2:].max() > 4 * one.boxes[:, 2:].max()
    for found in (one, ten):
        assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()
        assert found.masks.min() >= 0 and found.masks.max() <= 1 and found.masks.max() > 0.5


def test_results_know_the_engine_s_classes_and_no_tracks(engine: Engine) -> None:
    for found in engine.predict(frames(2)):
        assert found.class_names == engine.class_names
        assert (found.track_ids == -1).all()


def test_the_frame_is_not_changed(engine: Engine) -> None:
    given, untouched = frames(2), frames(2)
    engine.predict(given)
    for one, other in zip(given, untouched, strict=True):
        np.testing.assert_array_equal(one.picture.to_ndarray(), other.picture.to_ndarray())
