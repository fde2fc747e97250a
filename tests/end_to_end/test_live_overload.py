"""An engine far too slow for its camera: what is shown is never old, and shows everyone where he is."""

from __future__ import annotations

import os

import numpy as np
import pytest

from streamseg.flow.pipeline import Pipeline
from streamseg.flow.stream import Stream
from streamseg.masks import box_iou
from streamseg.trackers.mask_iou import MaskIou
from tests.end_to_end.live_parts import Notebook, Scene, SceneCamera, Shown, TruthEngine

pytestmark = pytest.mark.real_time

SECONDS = float(os.environ.get("STREAMSEG_OVERLOAD_SECONDS", 10))
"""How long the camera goes on: 10 minutes show more, and take them; `-o faulthandler_timeout=1800` then."""

RATE = 25.0
LOOK = 4 / RATE
"""Seconds of the engine for one frame."""


@pytest.fixture(scope="module", params=[(0.5, SECONDS), (LOOK / 2, 3.0)], ids=["patient", "less-patient-than-a-look"])
def run(request: pytest.FixtureRequest) -> Run:
    max_age, seconds = request.param
    made = Run(max_age=max_age, seconds=seconds)
    for _ in range(3):  # a machine that has other things to do gives pictures and looks too late itself
        if made.camera.late < 0.05:
            break
        made = Run(max_age=max_age, seconds=seconds)
    return made


class Run:
    """Three persons before a camera for some seconds, with an engine four times slower than it."""

    def __init__(self, *, max_age: float, seconds: float) -> None:
        self.max_age, self.seconds = max_age, seconds
        self.scene, self.notebook = Scene(), Notebook()
        self.camera = SceneCamera(self.scene, rate=RATE, seconds=seconds)
        engine = TruthEngine({"camera": self.scene}, seconds=LOOK)
        stream = Stream("camera", self.camera, tracker=MaskIou(), sinks=[self.notebook])
        self.summary = Pipeline(engine, [stream], max_age=max_age).run().streams["camera"]
        self.num_looks = len(engine.looks)

    def overlap(self, shown: Shown) -> float:
        """Of the person who fits the worst with where he truly is; 0 where one is missing."""
        if len(shown.boxes) != self.scene.num_objects:
            return 0.0
        return float(box_iou(self.scene.boxes(shown.time), shown.boxes).max(axis=1).min())


def test_the_engine_sees_a_quarter_of_the_frames(run: Run) -> None:
    assert 0 < run.num_looks <= run.summary.seconds / LOOK


def test_every_frame_is_shown_or_its_drop_is_counted(run: Run) -> None:
    assert run.summary.error is None
    assert run.summary.read == run.seconds * RATE
    assert run.summary.read == run.summary.written + sum(run.summary.dropped.values())
    assert len(run.notebook.shown) == run.summary.written


def test_what_is_shown_is_never_older_than_the_limit_and_a_look(run: Run) -> None:
    assert max(shown.age for shown in run.notebook.shown) < run.max_age + LOOK + run.camera.late


def test_every_frame_that_is_young_enough_is_shown(run: Run) -> None:
    assert set(run.summary.dropped) <= {"too old"}
    if run.max_age > 2 * LOOK + 2 * run.camera.late:  # a frame waits for a look, and for the one before it
        assert not run.summary.dropped
    assert run.notebook.shown


@pytest.fixture
def punctual(run: Run) -> Run:
    """The run of a machine that had the time to be a camera: on one that stands still everybody is lost."""
    if run.camera.late > 0.2:
        pytest.skip(f"this machine gave a picture out {run.camera.late:.1f} s too late")
    return run


def test_everyone_is_where_he_is_on_every_frame_that_is_shown(punctual: Run) -> None:
    known = [shown for shown in punctual.notebook.shown if shown.time > 1]
    assert min(punctual.overlap(shown) for shown in known) >= 0.7
    assert np.mean([punctual.overlap(shown) for shown in known]) > 0.9


def test_nobody_changes_his_number(punctual: Run) -> None:
    known = [sorted(shown.track_ids) for shown in punctual.notebook.shown if shown.time > 1]
    assert len(set(known[0])) == 3 and all(numbers == known[0] for numbers in known)
