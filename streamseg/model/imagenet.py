"""A ResNet that already knows ImageNet: the Keras applications' weights, turned into those of our network.

Their files hold the same layers under other names, for a network that sees pictures differently. Both differences are
worked into the weights, so that our network says on RGB exactly what theirs says on BGR:

- they take B, G, R less the mean, ours R, G, B: the first kernel's input channels are reversed;
- their norms add 1.001e-5 to the variance, ours 1e-3: gamma is scaled by what lies between.

matterport/Mask_RCNN loaded its file as it was, channels reversed; a training made up for it. The strides are the same
in both: in the first 1×1 convolution of a stage. So is the pool after the stem, but for half a cell on even sizes.
"""

from __future__ import annotations

import itertools
import logging
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from streamseg import zoo
from streamseg.fetch import fetch
from streamseg.model.matterport_h5 import LoadReport, Tensors, read_shapes, read_tensors
from streamseg.model.tensors import misfit, refused
from streamseg.types import UsageError

ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications/resnet"

CHECKSUMS = {
    "resnet50": "md5:4d473c1dd8becc155b73f8504c6f6626",
    "resnet101": "md5:88cf7a10940856eca736dc7b7e228a21",
}

BRANCHES = {"branch1": 0, "branch2a": 1, "branch2b": 2, "branch2c": 3}
"""A block's convolutions as we call them → their numbers there."""

TOP = ("predictions", "fc1000")
"""The classifier, which a file may still hold."""

EPSILON = 1.001e-5
"""What the norms of the Keras applications add to the variance, since 2019."""

log = logging.getLogger("streamseg")


def resnet_weights(
    kind: str,
    *,
    address: str = ADDRESS,
    checksum: str | None = None,
    progress: bool = False,
    report: Callable[[str], None] = log.info,
) -> Path:
    """The file with the ImageNet weights of `resnet50` or `resnet101`, without top, fetched if it is not here yet.

    address: the folder on the web · checksum: of the file, by default what Keras promises · progress: a bar on
    stderr. Raises ModelError when it cannot be fetched, saying where to put it by hand.
    """
    if kind not in CHECKSUMS:
        raise UsageError(f"expected resnet50 or resnet101, got {kind!r}")
    name = f"{kind}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    target = zoo.downloaded() / name
    return fetch(
        f"{address}/{name}",
        target,
        checksum=checksum or CHECKSUMS[kind],
        by_hand=f"fetch the file elsewhere and put it at {target}",
        progress=progress,
        report=report,
    )


def is_imagenet(path: Path) -> bool:
    """Whether a file holds a ResNet of the Keras applications, in their names of today or of before 2019.

    A Mask R-CNN has layers of the same names as the older files; it has others, too.
    """
    layers = read_shapes(path)
    return "conv1_conv" in layers or ("conv1" in layers and "fpn_p2" not in layers)


def load_imagenet_resnet(backbone: Any, path: Path) -> LoadReport:
    """Fill a `ResNet` from such a file, in which nothing may be missing or too much but the top.

    Both generations of files are read: `conv2_block1_1_conv`, and before 2019 `res2a_branch2a` with norms that add
    1e-3, as ours do. Raises ModelError naming what does not fit; then nothing was loaded.
    """
    tensors = {layer: values for layer, values in read_tensors(path).items() if layer not in TOP}
    new = "conv1_conv" in tensors
    problems: list[str] = []
    loads: list[tuple[str, Any, np.ndarray]] = []
    for convolution in backbone.convolutions:
        names = _names_today(convolution.name) if new else (convolution.name, convolution.norm_name)
        for layer, variable, value in _pairs(convolution, names, tensors):
            name = layer if variable is None else f"{layer}/{variable.name}"
            if variable is None:
                problems.append(f"{layer} holds more tensors than it should")
            elif problem := misfit(name, value, tuple(variable.shape)):
                problems.append(problem)
            else:
                assert value is not None
                loads.append((name, variable, value))
        tensors = {layer: values for layer, values in tensors.items() if layer not in names}
    problems += [f"{layer} does not belong to a {backbone.kind}" for layer in tensors]
    if problems:
        raise refused(path, f"ImageNet weights of a {backbone.kind}", problems)
    for _, variable, value in loads:
        variable.assign(value.astype("float32"))
    stem = backbone.stem.kernel
    stem.assign(np.asarray(stem)[:, :, ::-1])
    for convolution in backbone.convolutions if new else ():
        variance = np.asarray(convolution.variance, np.float64)
        scale = np.sqrt((variance + convolution.epsilon) / (variance + EPSILON))
        convolution.gamma.assign((np.asarray(convolution.gamma) * scale).astype("float32"))
    return LoadReport(tuple(name for name, *_ in loads))


def _names_today(name: str) -> tuple[str, str]:
    """`res3b_branch2a` → `conv3_block2_1_conv` and its norm; `conv1` → `conv1_conv`."""
    if name == "conv1":
        return "conv1_conv", "conv1_bn"
    place, branch = name.removeprefix("res").split("_")
    block = f"conv{place[0]}_block{string.ascii_lowercase.index(place[1]) + 1}_{BRANCHES[branch]}"
    return f"{block}_conv", f"{block}_bn"


def _pairs(convolution: Any, names: tuple[str, str], tensors: Tensors) -> Iterator[tuple[str, Any, np.ndarray | None]]:
    """A convolution's layers, each with its variables and their values in the file, by their places in the layer.

    Before 2019 the tensors had names of their own (`conv1_W_1`, `running_std` for a variance): only the order holds.
    None stands where the file or the network has no more.
    """
    norm = (convolution.gamma, convolution.beta, convolution.mean, convolution.variance)
    for layer, variables in zip(names, ((convolution.kernel, convolution.bias), norm), strict=True):
        values = list(tensors.get(layer, {}).values())
        for variable, value in itertools.zip_longest(variables, values):
            yield layer, variable, value
