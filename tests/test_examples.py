"""Every example does what its first sentence says, by the command that stands below it, and is short."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from streamseg.records import to_record
from streamseg.types import Frame, Instances, Result
from tests.clips import make_clip
from tests.fakes import blank

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
RUN = re.compile(r"^.*?(PYTHONPATH=\S+ )?streamseg (run .*)$", re.M)
NUM_FRAMES = 20  # two seconds
BOX = (200, 80, 400, 400)  # of one person, in every frame of every clip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the files that the commands name, small, and a record of what a model would find in them."""
    (tmp_path / "samples").mkdir()
    make_clip(tmp_path / "samples/pedestrians.mp4", width=640, height=480, num_frames=NUM_FRAMES, rate=10)
    (tmp_path / "docs").mkdir()
    photo = np.zeros((480, 960, 3), np.uint8)
    photo[:, 480:] = 255
    assert cv2.imwrite(str(tmp_path / "docs/pedestrians.jpg"), photo)
    person = Instances(
        boxes=np.array([BOX], np.float32),
        masks=np.ones((1, 28, 28), np.float32),
        scores=np.array([0.9], np.float32),
        class_ids=np.array([1], np.int32),
        track_ids=np.array([-1], np.int32),
        class_names=("background", "person"),
    )
    picture = blank(640, 480)
    frames = [Frame(picture, index, index / 10, time.monotonic(), "any") for index in range(NUM_FRAMES)]
    records = [json.dumps(to_record(Result(frame, person))) for frame in frames]
    (tmp_path / "found.jsonl").write_text("\n".join(records))
    return tmp_path


def run(*arguments: str | Path, place: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "examples")}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120)


def output_of(name: str, place: Path) -> list[str]:
    """What the example prints when it is run by its own command, with the recorded finds."""
    done = example(name, place)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def example(name: str, place: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "examples" / f"{name}.py"
    command = re.search(rf"^    python examples/{name}\.py (.*)$", script.read_text(), re.M)
    assert command
    return run(script, *shlex.split(command[1]), "replay:path=found.jsonl", place=place)


def luma(path: Path) -> list[np.ndarray]:
    """The luma (height, width) of every picture."""
    with av.open(str(path)) as clip:
        return [frame.to_ndarray(format="gray") for frame in clip.decode(video=0)]


def test_there_are_five_and_each_is_short_and_opens_with_a_sentence_and_its_command() -> None:
    assert len(EXAMPLES) == 5
    for path in EXAMPLES:
        text = path.read_text()
        first, blank, command = text.splitlines()[:3]
        assert re.fullmatch(r'"""[A-Z].*\.', first) and not blank, path
        assert command.startswith(f"    python examples/{path.name} "), path
        assert sum(bool(line.strip()) for line in text.splitlines()) < 40, path


def test_the_results_loop_tells_of_every_second_and_of_all(place: Path) -> None:
    assert output_of("results_loop", place) == [
        "0 s: 1 people, the tallest 320 pixels high",
        "1 s: 1 people, the tallest 320 pixels high",
        "in all: 1 people",
    ]


def test_the_own_effect_draws_a_black_bar_at_the_height_of_the_eyes(place: Path) -> None:
    output_of("own_effect", place)
    pictures, before = luma(place / "eyes.mp4"), luma(place / "samples/pedestrians.mp4")
    assert len(pictures) == NUM_FRAMES
    # a twentieth of 320 rows below the top of the box, at row 96, and 19 rows high
    assert pictures[-1][100:110, 210:390].max() < 10 < 40 < before[-1][100:110, 210:390].min()
    assert abs(pictures[-1][130:390, 210:390].astype(int) - before[-1][130:390, 210:390]).max() < 10


def test_the_own_source_shows_the_photo_from_left_to_right(place: Path) -> None:
    lines = output_of("own_source", place)
    assert (len(lines), lines[0], lines[-1]) == (20, "0.0 s: 1 people", "1.9 s: 1 people")
    first, *_, last = luma(place / "pan.mp4")
    assert first.shape == last.shape == (480, 480)
    assert first[:, :130].max() < 10 and last[:, 320:].min() > 245  # left and right of where the person is drawn


def test_the_own_sink_writes_a_row_for_every_person_in_every_frame(place: Path) -> None:
    output_of("own_sink", place)
    header, *rows = csv.reader((place / "people.csv").read_text().splitlines())
    assert header == ["time", "track", "x1", "y1", "x2", "y2"]
    assert len(rows) > NUM_FRAMES / 2  # but for the first ones, until the tracker is sure
    assert rows[-1][2:] == [str(number) for number in BOX] and rows[-1][0] == "1.900"
    assert not list(place.glob("*.part*"))


def test_the_batch_does_all_files_of_the_folder_and_names_one_that_cannot_be_read(place: Path) -> None:
    (place / "samples/broken.mp4").write_bytes(b"no video")
    done = example("batch_folder", place)
    assert done.returncode == 1 and "broken.mp4" in done.stderr.splitlines()[-2]
    assert done.stdout.splitlines() == [f"pedestrians: {NUM_FRAMES} frames"]
    assert len(luma(place / "blurred/pedestrians_blur.mp4")) == NUM_FRAMES


@pytest.mark.parametrize("name", ["own_effect.py", "own_source.yaml"])
def test_the_command_line_takes_the_same_class(name: str, place: Path) -> None:
    path = ROOT / "examples" / name
    command = RUN.search(path.read_text())
    assert command and command[1] == "PYTHONPATH=examples "
    arguments = shlex.split(command[2].replace(f"examples/{name}", str(path)))
    done = run("-m", "streamseg", *arguments, "--engine", "replay:path=found.jsonl", place=place)
    assert done.returncode == 0, done.stderr
    assert len(list(place.glob("*.mp4"))) == 1
