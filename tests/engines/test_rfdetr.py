"""An RF-DETR-Seg-Nano that its own package exported finds here what that package's own post-processing finds.

The package brings PyTorch, which nothing here needs. Whoever has both runs this:

    pip install "rfdetr[onnx]" && pytest -n 0 -m thorough tests/engines/test_rfdetr.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg import masks
from streamseg.engines._onnx_file import OnnxModel
from streamseg.engines._onnx_kinds import WEAKEST
from streamseg.engines.onnx import Onnx
from streamseg.types import Frame, Instances
from tests.engines.conftest import frame_of, noise
from tests.engines.onnx_files import write_yaml

# the export warns of everything that it traces
pytestmark = [pytest.mark.thorough, pytest.mark.filterwarnings("ignore")]

CLASSES = [f"number {column}" for column in range(91)]
"""A name for every column of the file, also those in which COCO has gaps: the package's own chooses among all."""

SMALL = 32
"""Pixels of a mask below which one more or less is much of it."""


@dataclass(frozen=True)
class Theirs:
    """What the package finds in a frame, the best first.

    boxes (K, 4) xyxy in pixels of the picture · scores (K,) · labels (K,) columns · masks (K, height, width) bool
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True)
class Exported:
    """The file and the package's own model that it is of, an `RFDETRSegNano`."""

    path: Path
    model: Any

    @property
    def cells(self) -> int:
        """A side of the masks in the file, each of which spans the input."""
        write_yaml(self.path, kind="detr", class_names=CLASSES)
        model, graph = OnnxModel.open(self.path)
        return int(graph.output(list(model.outputs).index("masks")).shape[-1])

    def ours(self, frames: list[Frame], **settings: Any) -> list[Instances]:
        write_yaml(self.path, kind="detr", class_names=CLASSES, **settings)
        return Onnx(model=str(self.path), batch_size=2).predict(frames)

    def theirs(self, frame: Frame) -> Theirs:
        """The model's answer to the pixels that the engine would show it; how a picture is scaled is not compared."""
        import torch

        context, side = self.model.model, self.model.model.resolution
        rgb = torch.tensor(np.array(frame.rgb(side, side))).permute(2, 0, 1) / 255  # (3, H, W)
        mean, std = (torch.tensor(each)[:, None, None] for each in (self.model.means, self.model.stds))
        with torch.inference_mode():
            answer = context.model.eval()(((rgb - mean) / std)[None])
            (found,) = context.postprocess(answer, torch.tensor([[frame.height, frame.width]]))
        arrays = {name: tensor.numpy() for name, tensor in found.items()}
        kept = self._kept(arrays["boxes"], arrays["scores"], frame)
        arrays = {name: array[kept] for name, array in arrays.items()}
        return Theirs(**{**arrays, "masks": arrays["masks"][:, 0]})

    def _kept(self, boxes: np.ndarray, scores: np.ndarray, frame: Frame) -> np.ndarray:
        """Which are more than a sliver inside the picture (half a pixel of the input), with a score that counts."""
        sides = (boxes[:, 2:] - boxes[:, :2]) * self.model.model.resolution / (frame.width, frame.height)
        kept: np.ndarray = (sides.min(axis=1) >= 0.5) & (scores >= WEAKEST)
        return kept


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Random weights, spread so that boxes are of all sizes and some scores count while others do not."""
    rfdetr = pytest.importorskip("rfdetr", reason='rfdetr is not here; pip install "rfdetr[onnx]" brings it')
    import torch

    torch.manual_seed(0)
    model = rfdetr.RFDETRSegNano(pretrain_weights=None, device="cpu")
    network = model.model.model
    with torch.no_grad():
        network.refpoint_embed.weight[:, :2].normal_()
        network.refpoint_embed.weight[:, 2:].uniform_(0, 3)  # of the logarithm: boxes up to 20 times as wide
        network.bbox_embed.layers[-1].weight.normal_(std=0.03)
        network.class_embed.weight.mul_(2)
        network.class_embed.bias.sub_(1)
    folder = tmp_path_factory.mktemp("rfdetr")
    return Exported(Path(model.export(output_dir=str(folder), verbose=False)), model)


@pytest.fixture(scope="module")
def frames(photos: Path) -> list[Frame]:
    """Noise, a photo, and noise three times as high as wide."""
    return [noise(640, 480, 0), frame_of(np.load(photos)[0]), noise(240, 720, 1)]


@pytest.fixture(scope="module")
def expected(exported: Exported, frames: list[Frame]) -> list[Theirs]:
    return [exported.theirs(frame) for frame in frames]


def test_scores_classes_and_boxes_are_those_of_the_package(
    exported: Exported, frames: list[Frame], expected: list[Theirs]
) -> None:
    for frame, found, theirs in zip(frames, exported.ours(frames), expected, strict=True):
        assert 20 < len(theirs.scores) < 100, "the lowest score that counts is not put to the test"
        widths = (theirs.boxes[:, 2] - theirs.boxes[:, 0]) / frame.width
        assert len(set(theirs.labels)) > 5 and widths.min() < 0.1 and widths.max() > 0.5
        assert len(found) == len(theirs.scores)
        twins(found, theirs)


@pytest.mark.parametrize(("times", "worst", "mean"), [(2, 0.98, 0.995), (None, 0.8, 0.97)])
def test_masks_are_those_of_the_package_within_their_boxes(
    times: int | None, worst: float, mean: float, exported: Exported, frames: list[Frame], expected: list[Theirs]
) -> None:
    """Twice as many cells as the file's own masks have follow their every bend; the usual number most of it.

    Masks of random weights bend at every cell, where those of a trained network are smooth. What of a mask is outside
    its box, which a trained network hardly has, is left to the package.
    """
    settings = {} if times is None else {"mask_size": times * exported.cells}
    for frame, found, theirs in zip(frames, exported.ours(frames, **settings), expected, strict=True):
        overlaps = ious(found, theirs, frame)
        assert len(overlaps) > 20 and min(overlaps) >= worst and np.mean(overlaps) >= mean


def twins(found: Instances, theirs: Theirs) -> list[int]:
    """The index of the package's own for each of ours: each once, score within 1e-4, box within 0.01 of a pixel."""
    left, chosen = set(range(len(theirs.scores))), []
    for i, name in enumerate(found.names):
        alike = [
            j
            for j in left
            if name == CLASSES[theirs.labels[j]]
            and abs(found.scores[i] - theirs.scores[j]) < 1e-4
            and np.abs(found.boxes[i] - theirs.boxes[j]).max() < 0.01
        ]
        assert alike, f"{name} of score {found.scores[i]} in {found.boxes[i]} is none of the package's"
        chosen.append(alike[0])
        left.remove(alike[0])
    return chosen


def ious(found: Instances, theirs: Theirs, frame: Frame) -> list[float]:
    """How much of each mask, pasted into the picture, is shared with the package's within its box."""
    overlaps = []
    for i, j in enumerate(twins(found, theirs)):
        rows, columns, soft = masks.paste(found.masks[i], found.boxes[i], width=frame.width, height=frame.height)
        ours, expected = soft >= 128, theirs.masks[j][rows, columns]
        if expected.sum() >= SMALL:
            overlaps.append(float((ours & expected).sum() / (ours | expected).sum()))
    return overlaps
