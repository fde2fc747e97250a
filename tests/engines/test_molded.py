"""Pictures shown as the original molds them, and boxes brought back into their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import av
import numpy as np
import pytest

from streamseg.config import ModelConfig
from streamseg.engines._molded import Molded, can_mold
from streamseg.evaluation.evaluate import evaluate
from streamseg.molding import Mold
from streamseg.types import Frame, Instances
from tests.tiny_model import make_balls

CONFIG = ModelConfig.matterport(class_names=("background", "ball"), input_sizes=((256, 128), (256, 256), (64, 64)))


class Scripted:
    """Finds one box (4,) of the molded picture, and keeps what it was shown."""

    class_names, min_score, batch_size = ("background", "ball"), 0.5, 4

    def __init__(self, box: Sequence[float], *, mask: np.ndarray | None = None) -> None:
        self.box, self.shown = box, list[np.ndarray]()
        self.mask = np.ones((28, 28), np.float32) if mask is None else mask

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return 256, 256

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        self.shown += [frame.picture.to_ndarray(format="rgb24") for frame in frames]
        found = Instances(
            boxes=np.float32([self.box]),
            masks=self.mask[None].copy(),
            scores=np.float32([0.9]),
            class_ids=np.int32([1]),
            track_ids=np.int32([-1]),
            class_names=self.class_names,
        )
        return [found for _ in frames]


def frame(width: int, height: int) -> Frame:
    pixels = np.random.default_rng(0).integers(1, 256, (height, width, 3), np.uint8)
    return Frame(av.VideoFrame.from_ndarray(pixels, format="rgb24"), 0, 0.0, 0.0, "noise")


def test_a_picture_is_shown_in_the_middle_of_a_black_square_as_the_original_scales_it() -> None:
    engine, picture = Scripted((10, 70, 30, 90)), frame(128, 64)
    (found,) = Molded(engine, CONFIG).predict([picture])
    expected = Mold.fit(64, 128, mode="square", min_side=800, max_side=256).picture(picture.rgb(128, 64))
    assert np.array_equal(engine.shown[0], expected) and expected.shape == (256, 256, 3)
    assert not expected[:64].any() and not expected[192:].any() and expected[64:192].any()
    assert found.boxes.tolist() == [[5, 3, 15, 13]]  # half as large, 64 rows up


def test_a_small_picture_is_enlarged_no_further_than_its_shorter_side_needs() -> None:
    engine = Scripted((78, 78, 178, 178))
    config = CONFIG.model_copy(update={"min_side": 100})
    (found,) = Molded(engine, config).predict([frame(50, 50)])
    assert np.flatnonzero(engine.shown[0].any(axis=(1, 2))).tolist() == list(range(78, 178))
    assert found.boxes.tolist() == [[0, 0, 50, 50]]


def test_a_box_over_the_edge_is_cut_to_the_picture() -> None:
    (found,) = Molded(Scripted((10, 5, 30, 104)), CONFIG).predict([frame(128, 64)])
    assert found.boxes.tolist() == [[5, 0, 15, 20]]


def test_a_mask_over_the_edge_is_cut_with_its_box() -> None:
    """It is the upper half of its box, which ends 20 rows below the picture: what is left of the box is full of it."""
    upper = np.float32(np.arange(28) < 14)[:, None] * np.ones(28, np.float32)
    (found,) = Molded(Scripted((10, 172, 30, 212), mask=upper), CONFIG).predict([frame(128, 64)])
    assert found.boxes.tolist() == [[5, 54, 15, 64]]
    assert found.masks.min() >= 0.5 and found.masks.dtype == np.float32
    (whole,) = Molded(Scripted((10, 132, 30, 172), mask=upper), CONFIG).predict([frame(128, 64)])
    np.testing.assert_array_equal(whole.masks[0], upper)


def test_only_the_matterport_family_with_a_square_input_is_shown_molded_pictures() -> None:
    assert can_mold(CONFIG) and not can_mold(ModelConfig(input_sizes=((64, 64),)))
    assert not can_mold(CONFIG.model_copy(update={"input_sizes": ((256, 128),)}))


@pytest.mark.parametrize("sizes", [(1, 1), (300, 7), (17, 200)])
def test_a_box_of_the_whole_picture_comes_back_as_the_whole_picture(sizes: tuple[int, int]) -> None:
    width, height = sizes
    top, left, bottom, right = Mold.fit(height, width, mode="square", min_side=800, max_side=256).window
    (found,) = Molded(Scripted((left, top, right, bottom)), CONFIG).predict([frame(width, height)])
    assert found.boxes.tolist() == [[0, 0, width, height]]


class Recording(Scripted):
    """An engine that plugins find by name and that runs a model of the matterport family."""

    folder = SimpleNamespace(config=CONFIG)
    sizes: ClassVar[list[tuple[int, ...]]] = []

    def __init__(self, *, model: str) -> None:
        super().__init__((32, 80, 96, 176))

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        self.sizes.extend((frame.width, frame.height) for frame in frames)
        return super().predict(frames)


def test_evaluate_molds_for_models_of_the_family(tmp_path: Path) -> None:
    figures = evaluate("any", make_balls(tmp_path / "balls", 2), engine="tests.engines.test_molded:Recording")
    assert Recording.sizes == [(256, 256)] * 2  # of pictures of 128×96
    assert figures["images"] == 2 and figures["box"]["AP50"] > 0.2
