"""Training and validation pictures of a dataset that has only one folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np

from streamseg.types import UsageError

Part = Literal["all", "train", "val"]
Item = TypeVar("Item")


def part_of(items: Sequence[Item], part: Part, *, split: float, seed: int) -> list[Item]:
    """The items of one part, in their order; the same split and seed never put an item in both `train` and `val`.

    split: the share of `train`. Raises UsageError when the part would be empty.
    """
    if part == "all":
        return list(items)
    if not 0 < split < 1:
        raise UsageError(f"split: expected a share between 0 and 1, got {split:g}")
    num_train = round(split * len(items))
    order = np.random.default_rng(seed).permutation(len(items))
    chosen = sorted(order[:num_train] if part == "train" else order[num_train:])
    if not chosen:
        raise UsageError(f"split: {split:g} of {len(items)} pictures leaves none for {part}")
    return [items[i] for i in chosen]
