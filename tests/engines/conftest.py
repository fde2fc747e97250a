"""Models and pictures that the tests of the engines share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from streamseg import zoo
from streamseg.spelling import sample_path
from streamseg.types import Frame, Instances
from tests.conftest import SHARED_DATA
from tests.tiny_model import write_tiny_model

FIND = """
import sys
from pathlib import Path
import numpy as np
from streamseg import plugins
from tests.engines.conftest import frames_of

def main(engine, model, pictures, answer, **options):
    found = plugins.build("engines", engine, {"model": model, **options}).predict(frames_of(Path(pictures)))
    arrays = {f"{i}-{name}": getattr(one, name) for i, one in enumerate(found) for name in ("boxes", "scores", "masks")}
    np.savez(answer, **arrays)
"""
"""A program that lets an engine find things in another process; `main(…)` and what else is asked go after it."""


def frame_of(rgb: np.ndarray, index: int = 0, *, pixel_aspect: float = 1.0) -> Frame:
    """A frame of an RGB picture (H, W, 3) uint8, its colours kept as they are."""
    picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    picture.pts, picture.time_base = index, Fraction(1, 10)
    return Frame(picture, index, index / 10, 0.0, "street", pixel_aspect)


def frames_of(path: Path) -> list[Frame]:
    """The frames of pictures (N, H, W, 3) uint8 in a .npy file."""
    return [frame_of(rgb, i) for i, rgb in enumerate(np.load(path))]


def noise(width: int, height: int, seed: int) -> Frame:
    """A picture of coarse coloured noise, in which a model of random weights sees things."""
    cells = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return frame_of(np.repeat(np.repeat(cells, 8, 0), 8, 1), seed)


def assert_same(found: Instances, expected: Instances) -> None:
    """Every detection has its twin: score within 1e-3, box within half a pixel, mask within 0.02 a cell."""
    for some, others in ((found, expected), (expected, found)):
        for i in np.flatnonzero(some.scores > 0.052):  # one at 0.05 may fall on either side
            near = np.abs(others.boxes - some.boxes[i]).max(1) < 0.5
            near &= (np.abs(others.scores - some.scores[i]) < 1e-3) & (others.class_ids == some.class_ids[i])
            near &= np.abs(others.masks - some.masks[i]).mean((1, 2)) < 0.02
            assert near.any(), f"{some.boxes[i]} of score {some.scores[i]} has no twin"


def assert_equal(found: Instances, expected: Instances) -> None:
    for name in ("boxes", "scores", "masks", "class_ids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.fixture(scope="session")
def people() -> str:
    """The name of the embedded model."""
    if not (zoo.EMBEDDED / "people" / zoo.WEIGHTS).is_file():
        pytest.skip("the model people is not embedded in this checkout")
    return "people"


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of the sample, a second apart, as .npy."""
    with av.open(str(sample_path())) as clip:
        pictures = [p.to_ndarray(format="rgb24") for i, p in enumerate(clip.decode(video=0)) if i % 10 == 5]
    path = tmp_path_factory.mktemp("street") / "street.npy"
    np.save(path, np.array(pictures[:10]))
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model of random weights, with inputs of 128×96 and 96×128."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cache(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this test run, in place of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_folder))
    return cache_folder


@pytest.fixture
def environment() -> Callable[..., dict[str, str]]:
    """This process's environment with some changes."""
    return lambda **changes: {**os.environ, **changes}


@pytest.fixture(scope="session")
def photos(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photos of people that no model was trained on, of 480×360 pixels, as .npy; `street` where there are none."""
    folder = SHARED_DATA / "people"
    if not folder.is_dir():
        return street
    listed = json.loads((folder / "val.json").read_text())["images"]
    names = [each["file_name"] for each in listed if (each["width"], each["height"]) == (480, 360)][:10]
    pictures = [cv2.imread(str(folder / "images" / name))[:, :, ::-1] for name in names]
    path = tmp_path_factory.mktemp("photos") / "photos.npy"
    np.save(path, pictures)
    return path
