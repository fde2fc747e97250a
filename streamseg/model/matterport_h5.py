"""The weight files of matterport/Mask_RCNN: HDF5 as Keras 2 wrote it, by layer name, every tensor accounted for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from streamseg.config import ModelConfig
from streamseg.model.checkpoint import UNREADABLE, written_whole
from streamseg.model.tensors import misfit, refused
from streamseg.types import ModelError, UsageError
from streamseg.words import nearest

Tensors = dict[str, dict[str, np.ndarray]]
"""The tensors of a file by layer and by their own name, such as `conv1` → `kernel`."""

HEADS = ("mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask")
"""The layers whose shape follows from the number of classes: what to exclude when that changes."""

IGNORED = ("anchors",)
"""Layers of a training that hold no weights of the network: a copy of its anchors, of any size."""

LAYERS = "layer_names"
"""The attribute in which Keras 2 lists the layers of a file."""

MOST_CLASSES = 100_000
"""More than any data set has; a few bytes can tell of a tensor that no memory holds the names for."""

BLOCK = ("res2a", "bn2a", "res2b", "bn2b", "res2c", "res1", "bn2c", "bn1")
"""The layers of a residual block, in the order of the original's graph."""

NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def _alone(*names: str) -> dict[str, list[str]]:
    return {name: [name] for name in names}


HEAD_GROUPS = {
    **_alone("fpn_c5p5", "fpn_c4p4", "fpn_c3p3", "fpn_c2p2", "fpn_p5", "fpn_p2", "fpn_p3", "fpn_p4"),
    "rpn_model": ["rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred"],
    **_alone("mrcnn_mask_conv1", "mrcnn_mask_bn1", "mrcnn_mask_conv2", "mrcnn_mask_bn2"),
    **_alone("mrcnn_class_conv1", "mrcnn_class_bn1", "mrcnn_mask_conv3", "mrcnn_mask_bn3"),
    **_alone("mrcnn_class_conv2", "mrcnn_class_bn2", "mrcnn_mask_conv4", "mrcnn_mask_bn4"),
    **_alone("mrcnn_bbox_fc", "mrcnn_mask_deconv", "mrcnn_class_logits", "mrcnn_mask"),
}
"""Group -> its layers, of all that comes after the backbone, in the order in which the original writes them."""


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor, each as `layer/name`.

    loaded: now in the network · skipped: in the file but excluded, or not the network's · missing: the network's, not
    in the file, so it keeps its start values
    """

    loaded: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    missing: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return f"{len(self.loaded)} tensors loaded, {len(self.skipped)} skipped, {len(self.missing)} missing"


def is_matterport(path: Path) -> bool:
    """Whether a file holds weights in the layout of Keras 2; False for one that cannot be read."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return bool(_listed(file, LAYERS)) or "model_weights" in file
    except UNREADABLE:
        return False


def read_tensors(path: Path) -> Tensors:
    """All tensors of a file of `save_weights` or `model.save`. Raises ModelError for any other or damaged file."""
    return _read(path, lambda dataset: dataset[()])


def read_shapes(path: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """The shapes of all tensors of such a file, none of them read. Raises ModelError."""
    return _read(path, lambda dataset: dataset.shape)


def _read(path: Path, take: Callable[[Any], Any]) -> dict[str, dict[str, Any]]:
    try:
        with h5py.File(path, "r", locking=False) as file:
            root = next((each for each in (file, file.get("model_weights")) if each and _listed(each, LAYERS)), None)
            if root is None:
                raise ModelError(f"{path}: expected weights as Keras 2 wrote them, found {_found(file)}")
            return _layers(root, path, take)
    except UNREADABLE as error:
        raise ModelError(f"{path}: not a readable weights file ({error})") from error


def _found(file: Any) -> str:
    """What a file that Keras 2 did not write holds instead, in words."""
    names = ", ".join(list(file)[:5]) or "nothing"
    if "layers" in file or "_layer_checkpoint_dependencies" in file:
        return f"no `layer_names`, but {names}: the layout of Keras 3's own `.weights.h5`"
    return f"no `layer_names`, but {names}"


def _layers(root: Any, path: Path, take: Callable[[Any], Any]) -> dict[str, dict[str, Any]]:
    layers: dict[str, dict[str, Any]] = {}
    for name in _listed(root, LAYERS):
        if name not in root:
            raise ModelError(f"{path}: layer {name} is listed, but not there")
        group = root[name]
        weights = _listed(group, "weight_names")
        for weight, layer in zip(weights, _owners(name, weights), strict=True):
            if weight not in group:
                raise ModelError(f"{path}: tensor {name}/{weight} is listed, but not there")
            tensors = layers.setdefault(layer, {})
            short = _without_number(weight).rpartition("/")[2]
            if short in tensors:
                raise ModelError(f"{path}: tensor {name}/{weight} stands there twice")
            tensors[short] = take(group[weight])
    return layers


def _owners(group: str, weights: Sequence[str]) -> list[str]:
    """The layer that each weight of a group belongs to: the group's, but where weights of several layers lie in it.

    Those carry their own names, as in `rpn_model`. The second network that a process built has others in its weights
    than in its groups: the group `conv1` holds `conv1_1/kernel:0`, and `rpn_model` holds `rpn_conv_shared_1/kernel:0`.
    """
    inner = [_without_number(weight).rpartition("/")[0].rpartition("/")[2] or group for weight in weights]
    if len(set(inner)) == 1:
        return [group] * len(weights)
    bare = [re.sub(r"_\d+$", "", layer) for layer in inner]
    return bare if len(set(bare)) == len(set(inner)) else inner


def _without_number(weight: str) -> str:
    """The name of a weight without what TensorFlow puts behind it: `conv1/kernel` for `conv1/kernel:0`."""
    return re.sub(r":\d+$", "", weight)


def _listed(group: Any, attribute: str) -> list[str]:
    """The names in an attribute, or in its parts `…0`, `…1` …, in which Keras writes a list too long for HDF5."""
    parts = [attribute] if attribute in group.attrs else []
    parts += list(itertools.takewhile(group.attrs.__contains__, (f"{attribute}{i}" for i in itertools.count())))
    return [_text(name) for part in parts for name in group.attrs[part]]


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def named_weights(network: Any) -> dict[str, dict[str, Any]]:
    """The variables of a network of the matterport family, by the original's layer and tensor names."""
    from streamseg.model.layers import Convolution

    found: dict[str, dict[str, Any]] = {}
    for layer in network._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, Convolution):
            found[layer.name] = {"kernel": layer.kernel, "bias": layer.bias}
            if layer.norm:
                found[layer.norm_name] = dict(
                    zip(NORM, (layer.gamma, layer.beta, layer.mean, layer.variance), strict=True)
                )
        elif not list(layer._layers) and layer.weights:
            found[layer.name] = {"kernel": layer.kernel, "bias": layer.bias}
    return found


def load_matterport(network: Any, path: Path, *, by_name: bool = False, exclude: Sequence[str] = ()) -> LoadReport:
    """Fill a network of the matterport family from a weights file.

    Without `by_name` every tensor of the network must be there, with its shape, and nothing else. With it, layers that
    are missing keep their values and foreign ones are skipped; a tensor of another shape is refused all the same.
    exclude: layers that are left alone; `HEADS` for another number of classes. It implies by_name, as in the original.
    Raises ModelError naming the tensors that do not fit (then nothing was loaded), UsageError for an excluded layer
    that the network does not have.
    """
    wanted = named_weights(network)
    unknown = [name for name in exclude if name not in wanted and name not in HEADS]
    if unknown:
        raise UsageError(f"exclude: the network has no layer {unknown[0]!r}{nearest(unknown[0], wanted)}")
    by_name = by_name or bool(exclude)
    tensors = {name: value for name, value in read_tensors(path).items() if name not in IGNORED}
    problems: list[str] = []
    loaded: list[tuple[str, Any, np.ndarray]] = []
    missing: list[str] = []
    for layer, variables in wanted.items():
        for short, variable in variables.items():
            name = f"{layer}/{short}"
            value = tensors.get(layer, {}).get(short)
            if layer in exclude or (value is None and by_name and layer not in tensors):
                missing.append(name)
            elif problem := misfit(name, value, tuple(variable.shape)):
                problems.append(problem)
            else:
                assert value is not None
                loaded.append((name, variable, value))
    foreign = [
        f"{layer}/{short}" for layer, names in tensors.items() for short in names if short not in wanted.get(layer, {})
    ]
    if not by_name:
        problems += [f"{name} does not belong to this model" for name in foreign]
    elif not loaded and not problems:
        problems.append("no layer of it has a name of this model's")
    if problems:
        raise refused(path, "weights of this model", problems)
    for _, variable, value in loaded:
        variable.assign(value.astype("float32"))
    excluded = [f"{layer}/{short}" for layer in exclude for short in tensors.get(layer, ())]
    return LoadReport(tuple(name for name, *_ in loaded), tuple(foreign + excluded), tuple(missing))


def save_matterport(network: Any, path: Path) -> None:
    """Write a network of the matterport family so that the original loads it too. Inverse of `load_matterport`."""
    layers = named_weights(network)
    groups = groups_of(layers)
    with written_whole(path) as file:
        file.attrs[LAYERS] = np.array(list(groups), "S")  # bytes of one length, as Keras 2 stores names
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.2.5"
        for name, members in groups.items():
            group = file.create_group(name)
            named = {f"{layer}/{short}:0": value for layer in members for short, value in layers[layer].items()}
            group.attrs["weight_names"] = np.array(list(named), "S")
            for weight, value in named.items():
                group.create_dataset(weight, data=np.asarray(value))


def groups_of(layers: Iterable[str]) -> dict[str, list[str]]:
    """The layers of each group that the original writes, in the order of its training graph.

    To it the proposal network is one layer, which its loader finds by that name only.
    """
    there = set(layers)
    heads = {name: [each for each in members if each in there] for name, members in HEAD_GROUPS.items()}
    backbone = there.difference(*heads.values())
    groups = {name: [name] for name in sorted(backbone, key=_place)} | heads
    return {name: members for name, members in groups.items() if members}


def _place(name: str) -> tuple[Any, ...]:
    """Where a layer of the backbone stands: stage, block, and within a block where the original's graph has it."""
    if found := re.fullmatch(r"(res|bn)(\d)([a-z])_branch(1|2[abc])", name):
        kind, stage, block, branch = found.groups()
        return int(stage), block, BLOCK.index(f"{kind}{branch}")
    return 0, "", int(name != "conv1")


def config_of(
    path: Path, *, class_names: Sequence[str] | None = None, stated: Mapping[str, Any] | None = None
) -> ModelConfig:
    """The configuration of a weights file, as far as it can be read off it: classes, backbone, channels, mask size.

    class_names: without the background; `class 1`, `class 2` … by default · stated: fields that are known otherwise.
    The input is 1024 pixels wide or high, unless the file holds the anchors of a square training input. Raises
    ModelError when the file is no Mask R-CNN of this family, UsageError when the number of names is not that of its
    classes, pydantic's ValidationError for a wrong stated field.
    """
    shapes = read_shapes(path)

    def shape(layer: str, short: str = "kernel") -> tuple[int, ...]:
        if short not in shapes.get(layer, {}):
            raise ModelError(f"{path}: these are not weights of a Mask R-CNN: {layer}/{short} is missing")
        found: tuple[int, ...] | None = shapes[layer][short]  # none of a dataset that holds nothing
        if found is None or len(found) != (1 if short == "bias" else 4):
            has = "no shape" if found is None else f"the shape {found}"
            raise ModelError(f"{path}: these are not weights of a Mask R-CNN: {layer}/{short} has {has}")
        return found

    num_classes = shape("mrcnn_class_logits", "bias")[0]
    if not 2 <= num_classes <= MOST_CLASSES:
        raise ModelError(f"{path}: expected 2 to {MOST_CLASSES:,} classes, found {num_classes}")
    names = tuple(class_names or (f"class {i}" for i in range(1, num_classes)))
    if len(names) != num_classes - 1:
        raise UsageError(
            f"--class-names: {path.name} knows {num_classes - 1} classes beside the background, got {len(names)} names"
        )
    ratios = shape("rpn_class_raw", "bias")[0] // 2
    knobs: dict[str, Any] = {
        "class_names": ("background", *names),
        "backbone": "resnet101" if "res4w_branch2a" in shapes else "resnet50",
        "fpn_channels": shape("fpn_p2", "bias")[0],
        "rpn_channels": shape("rpn_conv_shared", "bias")[0],
        "box_pool": shape("mrcnn_class_conv1")[0],
        "box_channels": shape("mrcnn_class_conv1")[-1],
        "mask_channels": shape("mrcnn_mask_conv1")[-1],
        "input_sizes": INPUT_SIZES,
        "detection_min_score": 0.05,
    }
    if side := _square_of(shapes.get("anchors", {})):
        knobs["input_sizes"] = ((side, side),)
    config = ModelConfig.matterport(**knobs | dict(stated or {}))
    if ratios != len(config.anchor_ratios):
        raise ModelError(
            f"{path}: expected {len(config.anchor_ratios)} anchor ratios {config.anchor_ratios}, found {ratios}; "
            f"a file {path.with_suffix('.yaml').name} beside it can list them under model.anchor_ratios"
        )
    return config


INPUT_SIZES = ((1024, 576), (1024, 768), (1024, 1024), (768, 1024), (576, 1024))
"""Inputs of a video's shape for networks that were trained on 1024² squares: the same scale, less padding."""


def _square_of(anchors: Mapping[str, tuple[int, ...]]) -> int | None:
    """Side of the square input that has this many anchors, three a cell at strides 4 to 64; None if there is none."""
    for shape in anchors.values():
        for side in range(64, 2049, 64):
            if len(shape) > 1 and shape[-2] == 3 * sum((side // stride) ** 2 for stride in (4, 8, 16, 32, 64)):
                return None if side == 1024 else side
    return None
