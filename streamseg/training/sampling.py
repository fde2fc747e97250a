"""How often an epoch takes each picture: once, or more often where its class or its size is rare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamseg.types import Sample

Balance = Literal["none", "class", "size"]


@dataclass(frozen=True)
class Facts:
    """What the choice of pictures needs to know of one: its size, the classes in it, whether any mask is known."""

    width: int
    height: int
    class_ids: frozenset[int]
    masked: bool

    @classmethod
    def of(cls, sample: Sample) -> Facts:
        real = ~sample.crowd
        masked = any(mask is not None for mask, counts in zip(sample.masks, real, strict=True) if counts)
        return cls(sample.width, sample.height, frozenset(int(i) for i in sample.class_ids[real]), masked)


def repeats(facts: Sequence[Facts], balance: Balance) -> np.ndarray:
    """How often an epoch takes each picture: (N,) int, at least 1.

    `size`: as often as pictures of the commonest size outnumber those of its own. `class`: as often as pictures with
    the commonest class outnumber those with the rarest class in it. Rounded to whole times.
    """
    if balance == "none":
        return np.ones(len(facts), int)
    keys: list[frozenset[object]]
    if balance == "size":
        keys = [frozenset({(each.width, each.height)}) for each in facts]
    else:
        keys = [frozenset(each.class_ids) for each in facts]
    counts = Counter(key for some in keys for key in some)
    most = max(counts.values(), default=1)
    return np.array([max((round(most / counts[key]) for key in some), default=1) for some in keys], int)


def draw(times: np.ndarray, weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The positions (count,) of the pictures of an epoch, in random order.

    times (N,): how often it takes each, all of them before any is taken again. Where weights (N,) differ, pictures are
    drawn with these chances instead, and may come again before others came.
    """
    if (weights == weights[0]).all():
        places = np.repeat(np.arange(len(times)), times)
        return places[np.resize(rng.permutation(len(places)), count)]
    shares = weights * times
    return rng.choice(len(times), count, p=shares / shares.sum())
