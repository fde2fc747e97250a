"""Which layers a stage trains: `heads`, from a stage of the backbone on, all, or those whose names match an expression.

A layer of the lite family is called by its place: `backbone/stem`, `backbone/stage3_block0/expand`,
`pyramid/lateral4`, `rpn/shared`, `box_head/logits`, `mask_head/conv0`; one of the torchvision family too, with
`backbone/res4a/res4a_branch2a` in its backbone. A layer of the Matterport family has the original's name, and so has
its batch norm: `res4a_branch2a` and `bn4a_branch2a`.
"""

from __future__ import annotations

import re
from typing import Any

import keras

from streamseg.model import matterport_h5
from streamseg.model.checkpoint import weights_by_name
from streamseg.types import UsageError
from streamseg.words import nearest

LITE_HEADS = r"(pyramid|rpn|box_head|mask_head)/.*"
MATTERPORT_HEADS = r"(mrcnn_.*)|(rpn_.*)|(fpn_.*)"
SETS = {
    "lite": {
        "heads": LITE_HEADS,
        # C5, C4 and C3 are the outputs of the stages 6, 4 and 2
        "5+": rf"{LITE_HEADS}|backbone/stage[56]_.*",
        "4+": rf"{LITE_HEADS}|backbone/stage[3456]_.*",
        "3+": rf"{LITE_HEADS}|backbone/stage[23456]_.*",
        "all": ".*",
    },
    "matterport": {
        "heads": MATTERPORT_HEADS,
        "5+": rf"(res5.*)|(bn5.*)|{MATTERPORT_HEADS}",
        "4+": rf"(res4.*)|(bn4.*)|(res5.*)|(bn5.*)|{MATTERPORT_HEADS}",
        "3+": rf"(res3.*)|(bn3.*)|(res4.*)|(bn4.*)|(res5.*)|(bn5.*)|{MATTERPORT_HEADS}",
        "all": ".*",
    },
    "torchvision": {
        "heads": LITE_HEADS,
        "5+": rf"{LITE_HEADS}|backbone/res5.*",
        "4+": rf"{LITE_HEADS}|backbone/res[45].*",
        "3+": rf"{LITE_HEADS}|backbone/res[345].*",
        "all": ".*",
    },
}
"""Family -> what a stage's `layers` may say -> the expression over the names of layers that it stands for."""


def weights_by_layer(network: keras.Model) -> dict[str, list[Any]]:
    """All weights of a network by the name of their layer, in the network's order."""
    if network.config.family == "matterport":
        return {layer: list(tensors.values()) for layer, tensors in matterport_h5.named_weights(network).items()}
    weights: dict[str, list[Any]] = {}
    for path, variable in weights_by_name(network).items():
        weights.setdefault(path.rpartition("/")[0], []).append(variable)
    return weights


def matching(network: keras.Model, layers: str) -> dict[str, list[Any]]:
    """The weights, by layer, that `layers` stands for. Raises UsageError when it is no expression or fits none."""
    expression = SETS[network.config.family].get(layers, layers)
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UsageError(f"layers: {layers!r} is neither a set of layers nor a regular expression ({error})") from None
    weights = weights_by_layer(network)
    found = {name: variables for name, variables in weights.items() if pattern.fullmatch(name)}
    if not found:
        close = nearest(layers, [*SETS[network.config.family], *weights])
        hint = close if "did you mean" in close else f"; the sets are {', '.join(SETS[network.config.family])}"
        raise UsageError(f"layers: no layer is called {layers!r}{hint}")
    return found


class Selection:
    """Switches the weights of a network on and off for training; what was off at first stays off."""

    def __init__(self, network: keras.Model) -> None:
        self.network = network
        self.candidates = list(network.trainable_variables)

    def choose(self, layers: str) -> list[str]:
        """Let only `layers` learn from now on. Returns the paths of the weights that learn, in the network's order."""
        chosen = {variable.path for each in matching(self.network, layers).values() for variable in each}
        for variable in self.candidates:
            variable.trainable = variable.path in chosen
        paths = [variable.path for variable in self.network.trainable_variables]
        if not paths:
            raise UsageError(f"layers: all of {layers!r} is frozen (frozen_stages, train_depthwise)")
        return paths
