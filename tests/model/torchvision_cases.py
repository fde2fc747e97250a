"""Mask R-CNNs of torchvision's and detectron2's layouts with weights that a seed makes, and what they say of a picture.

The weights are random, but for the last layers, which were scaled so that the network finds something; the scales are
in the recorded file. `record_torchvision.py` recorded it.

Legend: A anchors, N proposals, D detections, K classes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "recorded"
CASES = ("v1", "v2", "detectron2")
CLASSES = {"v1": 91, "v2": 91, "detectron2": 6, "narrow": 4}
"""With the background; `narrow` is a small v2, of which nothing is recorded."""

WIDTHS = {"narrow": (8, 16)}
"""Channels of the pyramid and of the box head, where they are not the 256 and 1024 of the original."""

WIDTH, HEIGHT = 224, 160
"""Of the input, 7 × 5 cells of P5, whose P6 has 4 × 3: anchors every 56 and 53 pixels in torchvision, not 64."""

PICTURE = (211, 150)
"""Width and height of the picture in it; the rest is padding."""

MEAN = (123.675, 116.28, 103.53)
SAMPLES = 512

LAST = {
    "torchvision": {
        "rpn.head.cls_logits": 2.0,
        "rpn.head.bbox_pred": 0.3,
        "roi_heads.box_predictor.cls_score": 2.5,
        "roi_heads.box_predictor.bbox_pred": 0.8,
        "roi_heads.mask_predictor.mask_fcn_logits": 2.0,
    },
    "detectron2": {
        "proposal_generator.rpn_head.objectness_logits": 2.0,
        "proposal_generator.rpn_head.anchor_deltas": 0.3,
        "roi_heads.box_predictor.cls_score": 1.5,
        "roi_heads.box_predictor.bbox_pred": 0.8,
        "roi_heads.mask_head.predictor": 2.0,
    },
}
"""The last layers, in the order in which they are called, and how far what they say should spread."""

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def last_layers(case: str) -> dict[str, float]:
    return LAST["detectron2" if case == "detectron2" else "torchvision"]


def shapes(case: str) -> Shapes:
    """Every tensor of such a file with its shape, as the original names them; v1 in its names of before 0.13."""
    if case == "detectron2":
        yield from _detectron(CLASSES[case])
    else:
        yield from _torchvision(CLASSES[case], case != "v1", *WIDTHS.get(case, (256, 1024)))


def _norm(name: str, channels: int, *, counted: bool = False) -> Shapes:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)
    if counted:
        yield f"{name}.num_batches_tracked", ()


def _layer(name: str, *shape: int) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", (shape[0],)


def _blocks() -> Iterator[tuple[int, int, int, int, int]]:
    """Stage from 1, block, channels that come in, inside and that go out, of a ResNet-50."""
    before = 64
    for stage, (inner, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(count):
            yield stage, block, before, inner, 4 * inner
            before = 4 * inner


def _torchvision(num_classes: int, v2: bool, width: int, box: int) -> Shapes:
    body = "backbone.body."
    yield f"{body}conv1.weight", (64, 3, 7, 7)
    yield from _norm(f"{body}bn1", 64, counted=v2)
    for stage, block, before, inner, outputs in _blocks():
        place = f"{body}layer{stage}.{block}."
        for i, shape in enumerate(((inner, before, 1, 1), (inner, inner, 3, 3), (outputs, inner, 1, 1)), 1):
            yield f"{place}conv{i}.weight", shape
            yield from _norm(f"{place}bn{i}", shape[0], counted=v2)
        if block == 0:
            yield f"{place}downsample.0.weight", (outputs, before, 1, 1)
            yield from _norm(f"{place}downsample.1", outputs, counted=v2)
    for blocks, size in (("inner", 1), ("layer", 3)):
        for i, channels in enumerate((256, 512, 1024, 2048)):
            name, shape = f"backbone.fpn.{blocks}_blocks.{i}", (width, channels if size == 1 else width, size, size)
            if v2:
                yield f"{name}.0.weight", shape
                yield from _norm(f"{name}.1", width, counted=True)
            else:
                yield from _layer(name, *shape)
    for name in ("rpn.head.conv.0.0", "rpn.head.conv.1.0") if v2 else ("rpn.head.conv",):
        yield from _layer(name, width, width, 3, 3)
    yield from _layer("rpn.head.cls_logits", 3, width, 1, 1)
    yield from _layer("rpn.head.bbox_pred", 12, width, 1, 1)
    heads = "roi_heads."
    if v2:
        for i in range(4):
            yield f"{heads}box_head.{i}.0.weight", (width, width, 3, 3)
            yield from _norm(f"{heads}box_head.{i}.1", width, counted=True)
        yield from _layer(f"{heads}box_head.5", box, width * 49)
    else:
        yield from _layer(f"{heads}box_head.fc6", box, width * 49)
        yield from _layer(f"{heads}box_head.fc7", box, box)
    yield from _layer(f"{heads}box_predictor.cls_score", num_classes, box)
    yield from _layer(f"{heads}box_predictor.bbox_pred", 4 * num_classes, box)
    for i in range(4):
        if v2:
            yield f"{heads}mask_head.{i}.0.weight", (width, width, 3, 3)
            yield from _norm(f"{heads}mask_head.{i}.1", width, counted=True)
        else:
            yield from _layer(f"{heads}mask_head.mask_fcn{i + 1}", width, width, 3, 3)
    yield from _layer(f"{heads}mask_predictor.conv5_mask", width, width, 2, 2)
    yield from _layer(f"{heads}mask_predictor.mask_fcn_logits", num_classes, width, 1, 1)


def _detectron(num_classes: int) -> Shapes:
    for level, channels in zip((2, 3, 4, 5), (256, 512, 1024, 2048), strict=True):
        yield from _layer(f"backbone.fpn_lateral{level}", 256, channels, 1, 1)
        yield from _layer(f"backbone.fpn_output{level}", 256, 256, 3, 3)
    yield "backbone.bottom_up.stem.conv1.weight", (64, 3, 7, 7)
    yield from _norm("backbone.bottom_up.stem.conv1.norm", 64)
    for stage, block, before, inner, outputs in _blocks():
        place = f"backbone.bottom_up.res{stage + 1}.{block}."
        parts = {"shortcut": (outputs, before, 1, 1)} if block == 0 else {}
        parts |= {"conv1": (inner, before, 1, 1), "conv2": (inner, inner, 3, 3), "conv3": (outputs, inner, 1, 1)}
        for name, shape in parts.items():
            yield f"{place}{name}.weight", shape
            yield from _norm(f"{place}{name}.norm", shape[0])
    for i in range(5):
        yield f"proposal_generator.anchor_generator.cell_anchors.{i}", (3, 4)
    yield from _layer("proposal_generator.rpn_head.conv", 256, 256, 3, 3)
    yield from _layer("proposal_generator.rpn_head.objectness_logits", 3, 256, 1, 1)
    yield from _layer("proposal_generator.rpn_head.anchor_deltas", 12, 256, 1, 1)
    heads = "roi_heads."
    yield from _layer(f"{heads}box_head.fc1", 1024, 256 * 49)
    yield from _layer(f"{heads}box_head.fc2", 1024, 1024)
    yield from _layer(f"{heads}box_predictor.cls_score", num_classes, 1024)
    yield from _layer(f"{heads}box_predictor.bbox_pred", 4 * (num_classes - 1), 1024)
    for i in range(4):
        yield from _layer(f"{heads}mask_head.mask_fcn{i + 1}", 256, 256, 3, 3)
    yield from _layer(f"{heads}mask_head.deconv", 256, 256, 2, 2)
    yield from _layer(f"{heads}mask_head.predictor", num_classes - 1, 256, 1, 1)


class Dice:
    """Numbers of a seed that stay the same in every version of numpy, which promises that of the raw bits alone."""

    def __init__(self, seed: int) -> None:
        self.bits = np.random.PCG64(seed)

    def whole(self, count: int) -> np.ndarray:
        """Whole numbers (count,) uint32 below 2^32."""
        return np.atleast_1d(self.bits.random_raw((count + 1) // 2)).view(np.uint32)[:count]

    def between(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers of this shape, float32, spread evenly."""
        shares = (self.whole(int(np.prod(shape))) >> 8).astype(np.float32) * np.float32(2**-24)
        return (np.float32(low) + shares * np.float32(high - low)).reshape(shape)


def weights(case: str, *, scaled: bool = True) -> dict[str, np.ndarray]:
    """The tensors of a case, float32 but for counters; not `scaled`: before the last layers were."""
    dice = Dice(13)
    tensors = {}
    for name, shape in shapes(case):
        part = name.rpartition(".")[2]
        if part == "num_batches_tracked":
            tensors[name] = np.array(7, np.int64)
        elif part == "running_var":
            tensors[name] = dice.between(0.75, 1.25, shape)
        elif len(shape) == 1 and part == "weight":  # of a norm
            last = ".bn3." in name or ".conv3.norm." in name
            tensors[name] = dice.between(0.8, 1.2, shape) * np.float32(0.3 if last else 1.0)
        elif len(shape) == 1:
            tensors[name] = dice.between(-0.2, 0.2, shape)
        else:
            most = np.sqrt(6 / np.prod(shape[1:]))
            tensors[name] = dice.between(-most, most, shape)
    if case == "detectron2":  # its pixels are not divided by a deviation
        tensors["backbone.bottom_up.stem.conv1.weight"] *= np.float32(1 / 57)
    if scaled and case in CASES:
        for layer in last_layers(case):
            tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"] * recorded(case)[f"{layer}.scale"]
            tensors[f"{layer}.bias"] = recorded(case)[f"{layer}.bias"]
    return tensors


def picture() -> np.ndarray:
    """A picture (height, width, 3) uint8 RGB of coarse and fine noise."""
    dice, (width, height) = Dice(31), PICTURE
    coarse = np.repeat(np.repeat(dice.between(40, 216, (10, 14, 3)), 16, 0), 16, 1)[:height, :width]
    return np.clip(coarse + dice.between(-40, 40, coarse.shape), 0, 255).astype(np.uint8)


def network_input() -> np.ndarray:
    """The picture in the input (1, HEIGHT, WIDTH, 3) float32, the mean beside it."""
    image = np.tile(np.array(MEAN, np.float32), (1, HEIGHT, WIDTH, 1))
    image[0, : PICTURE[1], : PICTURE[0]] = picture()
    return image


def some_of(name: str, values: np.ndarray) -> np.ndarray:
    """SAMPLES of an array's values, or fewer, always at the same places of an array of this name and size."""
    numbers = Dice(sum(ord(letter) << i for i, letter in enumerate(name))).whole(SAMPLES)
    return values.ravel()[np.unique(numbers % values.size)]


@functools.cache
def recorded(case: str) -> dict[str, np.ndarray]:
    """What the original said, an array a stage: see `record_torchvision.py`."""
    with np.load(FOLDER / f"{case}.npz") as file:
        return dict(file)
