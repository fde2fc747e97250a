"""The layers that `load_weights(exclude=…)` means: by the original's names, some of which stand for several."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

from streamseg.model.matterport_h5 import HEADS
from streamseg.types import UsageError
from streamseg.words import nearest

NESTED = {"rpn_model": ("rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred")}
"""The models inside of the original's, and their layers that have weights."""


def excluded(names: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """The layers, of those that are known, that a script excludes. Warns of a name that is of none: it says nothing."""
    if isinstance(names, str):
        raise UsageError(f"exclude: expected a list of layers, got {names!r}; write [{names!r}]")
    layers: dict[str, None] = {}
    known = {*known, *HEADS}
    for name in names:
        if name not in known and name not in NESTED:
            hint = nearest(name, {*known, *NESTED})
            hint = hint if "did you mean" in hint else ""
            warnings.warn(f"exclude: the network has no layer {name!r} with weights{hint}", stacklevel=3)
        layers.update(dict.fromkeys(each for each in NESTED.get(name, (name,)) if each in known))
    return tuple(layers)
