"""The weights of torchvision's and detectron2's Mask R-CNN, turned into ours, every tensor accounted for.

What their networks do otherwise is worked into the weights, so that ours says on RGB 0…255 what theirs say:

- torchvision divides pixels by a deviation: so is the first kernel; detectron2 takes B, G, R: its input channels are
  reversed;
- their norms add another epsilon to the variance than ours: gamma is scaled by what lies between;
- an anchor has one logit there, against a background of 0 here;
- detectron2's background is its last class, and has no deltas and no mask: zeros here.

What differs otherwise is a knob of `ModelConfig`, which `config_of` reads off a file.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.config import ModelConfig
from streamseg.model.checkpoint import weights_by_name
from streamseg.model.layers import EPSILON
from streamseg.model.matterport_h5 import LoadReport
from streamseg.model.tensors import misfit, refused
from streamseg.model.torch_files import read_torch_file
from streamseg.types import ModelError, UsageError
from streamseg.zoo import COCO_CLASSES, COCO_IDS

DEVIATION = (58.395, 57.12, 57.375)
"""Of R, G, B in grey levels, by which torchvision divides: 0.229, 0.224 and 0.225 of 255."""

BRANCHES = {"1": 0, "2a": 1, "2b": 2, "2c": 3}
"""A block's convolutions as we call them → their numbers there; 0 is the shortcut."""

IGNORED = re.compile(
    r".*\.num_batches_tracked|pixel_mean|pixel_std|proposal_generator\.anchor_generator\.cell_anchors\.\d+"
)
"""What a file may hold beside the weights."""

SHORT = {
    "kernel": (0, "weight"),
    "bias": (0, "bias"),
    "gamma": (1, "weight"),
    "beta": (1, "bias"),
    "moving_mean": (1, "running_mean"),
    "moving_variance": (1, "running_var"),
}
"""A tensor of ours → whether the layer's or its norm's, and what it is called there."""

Names = tuple[str, str]
"""What a layer and its norm are called in a file."""


@dataclass(frozen=True)
class Layout:
    """Which of the two a file is of, and what in it decides how it is read.

    older: torchvision's names of before 0.13 · normed: there are norms behind the backbone, too
    """

    detectron: bool
    older: bool
    normed: bool

    @classmethod
    def of(cls, tensors: Mapping[str, Any]) -> Layout:
        older = "backbone.fpn.layer_blocks.0.weight" in tensors or any(".mask_fcn1." in name for name in tensors)
        norms = ("backbone.fpn.layer_blocks.0.1.weight", "backbone.fpn_output2.norm.weight")
        return cls(any(name.startswith("backbone.bottom_up.") for name in tensors), older, bool({*norms} & {*tensors}))

    @property
    def epsilon(self) -> float:
        """What its norms add to the variance: torchvision sets it to 0 for the weights of its first model."""
        return 1e-5 if self.detectron or self.normed else 0.0

    def names(self, layer: str, config: ModelConfig) -> Names:
        """What a layer of ours, by its path, is called in such a file."""
        if self.detectron:
            return _in_detectron(layer)
        newer, older = _in_torchvision(layer, config)
        return older if self.older else newer


def config_of(
    path: Path, *, class_names: Sequence[str] | None = None, stated: Mapping[str, Any] | None = None
) -> ModelConfig:
    """The configuration of a weights file, as far as it can be read off it: version, classes, backbone, channels.

    class_names: without the background; by default COCO's where their number fits, else `class 1`, `class 2` … ·
    stated: fields that are known otherwise. Raises ModelError when the file is no Mask R-CNN of torchvision or
    detectron2, UsageError when the number of names is not that of its classes, pydantic's ValidationError for a wrong
    stated field.
    """
    tensors = read_torch_file(path)
    layout = Layout.of(tensors)

    def shape(layer: str, config: ModelConfig) -> tuple[int, ...]:
        name = f"{layout.names(layer, config)[0]}.weight"
        if name not in tensors or tensors[name].ndim < 2:
            raise ModelError(f"{path}: these are not weights of a Mask R-CNN: {name} is missing")
        return tensors[name].shape

    def count(layers: Sequence[str], config: ModelConfig) -> int:
        return sum(f"{layout.names(layer, config)[0]}.weight" in tensors for layer in layers)

    blank = ModelConfig.torchvision()
    tenth = [f"{layer}{i}" for layer in ("box_head/conv", "mask_head/conv") for i in range(10)]
    convolutions = count(tenth[:10], blank)
    config = blank.model_copy(update={"box_convolutions": convolutions})
    num_classes = shape("box_head/logits", config)[0]
    knobs: dict[str, Any] = {
        "class_names": ("background", *_names(path, num_classes - 1, class_names, layout)),
        "backbone": "resnet101" if count(["backbone/res4g/res4g_branch2a"], config) else "resnet50",
        "fpn_channels": shape("pyramid/smooth2", config)[0],
        "head_norms": layout.normed,
        "rpn_channels": shape("rpn/shared", config)[0],
        "rpn_layers": 1 + count([f"rpn/shared{i}" for i in range(2, 10)], config),
        "box_convolutions": convolutions,
        "box_layers": 1 + count(["box_head/second"], config),
        "box_channels": shape("box_head/first", config)[0],
        "mask_channels": shape("mask_head/conv0", config)[0],
        "mask_layers": count(tenth[10:], config),
    }
    if layout.detectron:
        knobs |= {"block_stride": 1, "whole_anchors": False, "roi_sampling": "adaptive", "roi_aligned": True}
        _deviation(tensors, path)
        if "pixel_mean" in tensors:
            knobs["mean_pixel"] = tuple(map(float, _of_colours("pixel_mean", tensors, path)))
    config = ModelConfig.torchvision(**knobs | dict(stated or {}))
    ratios, expected = shape("rpn/logits", config)[0], len(config.anchor_ratios) * len(config.anchor_sizes[0])
    if ratios != expected:
        raise ModelError(
            f"{path}: expected {expected} anchors in a place, found {ratios}; a file "
            f"{path.with_suffix('.yaml').name} beside it can list them under model.anchor_ratios and model.anchor_sizes"
        )
    return config


def _of_colours(name: str, tensors: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    """The values for R, G, B that a file of detectron2 has for B, G, R, (3,). Raises ModelError."""
    values = tensors[name].ravel()[::-1]
    if len(values) != 3 or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise ModelError(f"{path}: {name}: expected three numbers, got {str(values.tolist())[:60]}")
    return values


def _deviation(tensors: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    """By what a network of detectron2 divides R, G, B, (3,). Raises ModelError."""
    if "pixel_std" not in tensors:
        return np.ones(3)
    values = _of_colours("pixel_std", tensors, path)
    if values.min() <= 0:
        raise ModelError(f"{path}: pixel_std: expected three numbers above 0, got {values.tolist()}")
    return values


def _names(path: Path, count: int, given: Sequence[str] | None, layout: Layout) -> Sequence[str]:
    if given:
        if len(given) != count:
            raise UsageError(
                f"--class-names: {path.name} knows {count} classes beside the background, got {len(given)} names"
            )
        return given
    if layout.detectron and count == len(COCO_CLASSES):
        return COCO_CLASSES
    if not layout.detectron and count == len(COCO_IDS):
        return COCO_IDS
    return [f"class {i}" for i in range(1, count + 1)]


def load_torchvision(network: Any, path: Path, *, without: Sequence[Any] = ()) -> LoadReport:
    """Fill a network of the torchvision family from a file of `torch_files`; nothing may be missing or too much.

    without: variables that keep their values, whatever the file holds of their layers.
    Raises ModelError naming the tensors, as the file calls them, that do not fit; then nothing was loaded.
    """
    config = network.config
    if config.family != "torchvision":
        raise ModelError(
            f"{path}: these are weights of the torchvision family, the model is of the {config.family} one"
        )
    tensors = read_torch_file(path)
    layout = Layout.of(tensors)
    kept = {variable.path for variable in without}
    problems: list[str] = []
    loads: dict[str, np.ndarray] = {}
    skipped: list[str] = []
    known: set[str] = set()
    for ours, (name, variable) in _sources(network, layout).items():
        known.add(name)
        if variable.path in kept:
            skipped += [name] if name in tensors else []
            continue
        layer = ours.rpartition("/")[0]
        expected = _shape_there(layer, tuple(variable.shape), layout)
        if problem := misfit(name, tensors.get(name), expected):
            problems.append(problem)
        else:
            loads[ours] = _as_ours(
                layer, ours.rpartition("/")[2], tensors[name].astype(np.float32, copy=False), layout, config
            )
    problems += [
        f"{name} does not belong to this model" for name in tensors if name not in known and not IGNORED.fullmatch(name)
    ]
    if not problems:
        loads |= _with_our_epsilon(loads, layout.epsilon)
        deviation = _deviation(tensors, path) if layout.detectron else np.array(DEVIATION)
        stem = "backbone/conv1/kernel"
        if stem in loads:
            loads[stem] = (loads[stem] / deviation[:, None]).astype(np.float32)
        problems += [f"{ours}: no numbers come of it" for ours, value in loads.items() if not np.isfinite(value).all()]
    if problems:
        raise refused(path, "weights of this model", problems)
    variables = weights_by_name(network)
    for ours, value in loads.items():
        variables[ours].assign(value)
    missing = tuple(ours for ours, variable in variables.items() if variable.path in kept)
    return LoadReport(tuple(loads), tuple(skipped), missing)


def _sources(network: Any, layout: Layout) -> dict[str, tuple[str, Any]]:
    """A tensor of ours by its path → what it is called in the file, and the variable; unused biases are left out."""
    found = {}
    for ours, variable in weights_by_name(network).items():
        layer, _, short = ours.rpartition("/")
        of_norm, there = SHORT[short]
        if (short, layer.partition("/")[0]) == ("bias", "backbone"):
            continue
        found[ours] = (f"{layout.names(layer, network.config)[of_norm]}.{there}", variable)
    return found


def _in_torchvision(layer: str, config: ModelConfig) -> tuple[Names, Names]:
    """What torchvision calls a layer and its norm since 0.13, and before."""
    room, _, place = layer.partition("/")
    head, number = re.sub(r"\d+$", "", place), int(re.search(r"\d*$", place)[0] or 0)  # type: ignore[index]
    if room == "backbone":
        if place == "conv1":
            return _same("backbone.body.conv1", "backbone.body.bn1")
        stage, block, branch = _block(place)
        prefix = f"backbone.body.layer{stage - 1}.{block}."
        if not branch:
            return _same(f"{prefix}downsample.0", f"{prefix}downsample.1")
        return _same(f"{prefix}conv{branch}", f"{prefix}bn{branch}")
    if room == "pyramid":
        prefix = f"backbone.fpn.{'inner' if head == 'lateral' else 'layer'}_blocks.{number - 2}"
        return (f"{prefix}.0", f"{prefix}.1"), (prefix, "")
    if room == "rpn":
        if head == "shared":
            return (f"rpn.head.conv.{max(number, 1) - 1}.0", ""), ("rpn.head.conv" if number < 2 else "", "")
        return _same({"logits": "rpn.head.cls_logits", "deltas": "rpn.head.bbox_pred"}[place])
    if head == "conv":
        prefix = f"roi_heads.{room}.{number}"
        return (f"{prefix}.0", f"{prefix}.1"), (f"roi_heads.{room}.mask_fcn{number + 1}", "")
    behind = config.box_convolutions + 1  # the convolutions, and what makes vectors of maps
    return _same(
        "roi_heads."
        + {
            "box_head/first": f"box_head.{behind}" if config.box_convolutions else "box_head.fc6",
            "box_head/second": f"box_head.{behind + 2}" if config.box_convolutions else "box_head.fc7",
            "box_head/logits": "box_predictor.cls_score",
            "box_head/deltas": "box_predictor.bbox_pred",
            "mask_head/up": "mask_predictor.conv5_mask",
            "mask_head/logits": "mask_predictor.mask_fcn_logits",
        }[layer]
    )


def _same(name: str, norm: str = "") -> tuple[Names, Names]:
    return (name, norm), (name, norm)


def _in_detectron(layer: str) -> Names:
    """What detectron2 calls a layer and its norm."""
    room, _, place = layer.partition("/")
    head, number = re.sub(r"\d+$", "", place), int(re.search(r"\d*$", place)[0] or 0)  # type: ignore[index]
    if room == "backbone":
        if place == "conv1":
            name = "backbone.bottom_up.stem.conv1"
        else:
            stage, block, branch = _block(place)
            name = f"backbone.bottom_up.res{stage}.{block}.{f'conv{branch}' if branch else 'shortcut'}"
    elif room == "pyramid":
        name = f"backbone.fpn_{'lateral' if head == 'lateral' else 'output'}{number}"
    elif head == "conv":
        name = f"roi_heads.{room}.{'conv' if room == 'box_head' else 'mask_fcn'}{number + 1}"
    elif head == "shared":
        name = f"proposal_generator.rpn_head.conv{f'.conv{number - 1}' if number else ''}"
    else:
        name = {
            "rpn/logits": "proposal_generator.rpn_head.objectness_logits",
            "rpn/deltas": "proposal_generator.rpn_head.anchor_deltas",
            "box_head/first": "roi_heads.box_head.fc1",
            "box_head/second": "roi_heads.box_head.fc2",
            "box_head/logits": "roi_heads.box_predictor.cls_score",
            "box_head/deltas": "roi_heads.box_predictor.bbox_pred",
            "mask_head/up": "roi_heads.mask_head.deconv",
            "mask_head/logits": "roi_heads.mask_head.predictor",
        }[layer]
    return name, f"{name}.norm"


def _block(place: str) -> tuple[int, int, int]:
    """Stage, block and convolution of `res3b/res3b_branch2a`: 3, 1, 1."""
    found = re.fullmatch(r"res(\d)([a-z])/res\d[a-z]_branch(1|2[abc])", place)
    assert found is not None
    return int(found[1]), string.ascii_lowercase.index(found[2]), BRANCHES[found[3]]


def _outputs_there(layer: str, count: int, layout: Layout) -> int:
    """How many outputs of a layer the file has, where ours has `count`."""
    if layer == "rpn/logits":
        return count // 2
    if layout.detectron and layer in WITHOUT_BACKGROUND:
        return count - WITHOUT_BACKGROUND[layer]
    return count


WITHOUT_BACKGROUND = {"box_head/deltas": 4, "mask_head/logits": 1}
"""Layers in which detectron2 has no background → its outputs in ours."""


def _shape_there(layer: str, shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """The shape in the file of a tensor that has this shape in ours: PyTorch has outputs first, and cells last."""
    if layer == "mask_head/up" and len(shape) == 4:  # it goes the other way round: (k, k, out, in)
        return shape[3], shape[2], *shape[:2]
    return _outputs_there(layer, shape[-1], layout), *((shape[-2], *shape[:-2]) if len(shape) > 1 else ())


def _as_ours(layer: str, short: str, value: np.ndarray, layout: Layout, config: ModelConfig) -> np.ndarray:
    """A tensor of the file, outputs first, as ours."""
    if layer == "rpn/logits":
        both = np.zeros((2 * len(value), *value.shape[1:]), np.float32)
        both[1::2] = value
        value = both
    if layout.detectron and layer in WITHOUT_BACKGROUND:
        value = np.concatenate([np.zeros((WITHOUT_BACKGROUND[layer], *value.shape[1:]), np.float32), value])
    if layout.detectron and layer == "box_head/logits":
        value = np.roll(value, 1, axis=0)
    if short != "kernel":
        return value
    if layer == "box_head/first":  # maps are made vectors channel by channel there
        side = config.box_pool
        value = value.reshape(len(value), -1, side, side).transpose(0, 2, 3, 1).reshape(len(value), -1)
    if layer == "backbone/conv1" and layout.detectron:
        value = value[:, ::-1]
    return np.ascontiguousarray(value.T if value.ndim == 2 else value.transpose(2, 3, 1, 0))


def _with_our_epsilon(loads: Mapping[str, np.ndarray], epsilon: float) -> Iterator[tuple[str, np.ndarray]]:
    """The gammas of all norms for our epsilon, where theirs is another."""
    for ours, value in loads.items():
        layer, _, short = ours.rpartition("/")
        if short == "gamma":
            variance = loads[f"{layer}/moving_variance"].astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                yield ours, (value * np.sqrt((variance + EPSILON) / (variance + epsilon))).astype(np.float32)
