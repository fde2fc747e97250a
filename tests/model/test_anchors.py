"""Anchors stand in the middle of the cells, as many as the proposal network has outputs."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.config import ModelConfig
from streamseg.model.anchors import make_anchors


@pytest.mark.parametrize(("width", "height"), ModelConfig().input_sizes)
def test_there_are_six_anchors_in_every_cell_of_every_level(width: int, height: int) -> None:
    cells = sum(-(-width // stride) * -(-height // stride) for stride in (8, 16, 32, 64))
    assert make_anchors(ModelConfig(), width, height).shape == (6 * cells, 4)


def test_anchors_are_centred_on_cells_in_reading_order() -> None:
    anchors = make_anchors(ModelConfig(), 64, 32).reshape(-1, 6, 4)  # 8×4, 4×2, 2×1 and 1×1 cells
    centres = (anchors[..., :2] + anchors[..., 2:]) / 2
    np.testing.assert_allclose(centres[0], np.tile([4, 4], (6, 1)), atol=1e-4)
    np.testing.assert_allclose(centres[1, 0], [12, 4], atol=1e-4)
    np.testing.assert_allclose(centres[8, 0], [4, 12], atol=1e-4)
    np.testing.assert_allclose(centres[-1, 0], [32, 32], atol=1e-4)


def test_an_anchor_has_its_size_and_its_ratio() -> None:
    config = ModelConfig(anchor_sizes=((20, 40),) * 4, anchor_ratios=(0.25, 1))
    first = make_anchors(config, 32, 32)[:4]
    shapes = first[:, 2:] - first[:, :2]
    np.testing.assert_allclose(shapes, [[10, 40], [20, 20], [20, 80], [40, 40]], atol=1e-4)
