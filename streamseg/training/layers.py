"""Which layers a stage trains: `heads`, from a stage of the backbone on, all, or those whose names match an expression.

A layer of the lite family is called by its place: `backbone/stem`, `backbone/stage3_block0/expand`,
`pyramid/lateral4`, `rpn/shared`, `box_head/logits`, `mask_head/conv0`. A layer of the Matterport family has the
original's name, and so has its batch norm: `res4a_branch2a` and `bn4a_branch2a`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import keras

from streamseg.config import nearest
from streamseg.types import UsageError

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
}
"""Family -> what a stage's `layers` may say -> the expression over the names of layers that it stands for."""

NORM_WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")


def named_weights(network: keras.Model) -> Iterator[tuple[str, Any]]:
    """Every weight of a network with the name of its layer; a weight of a batch norm with that of the norm."""
    original = network.config.family == "matterport"
    for layer in network._flatten_layers(include_self=False):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            if not original:
                yield variable.path.removeprefix(f"{network.name}/").rpartition("/")[0], variable
            elif variable.name in NORM_WEIGHTS:
                yield getattr(layer, "norm_name", layer.name), variable
            else:
                yield layer.name, variable


def matches(network: keras.Model, layers: str) -> list[Any]:
    """The weights of the layers that `layers` stands for. Raises UsageError when it is no expression or fits none."""
    expression = SETS[network.config.family].get(layers, layers)
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UsageError(f"layers: {layers!r} is neither a set of layers nor a regular expression ({error})") from None
    names = list(named_weights(network))
    found = [variable for name, variable in names if pattern.fullmatch(name)]
    if not found:
        known = [*SETS[network.config.family], *dict.fromkeys(name for name, _ in names)]
        close = nearest(layers, known)
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
        chosen = {variable.path for variable in matches(self.network, layers)}
        for variable in self.candidates:
            variable.trainable = variable.path in chosen
        paths = [variable.path for variable in self.network.trainable_variables]
        if not paths:
            raise UsageError(f"layers: all of {layers!r} is frozen (frozen_stages, train_depthwise)")
        return paths
