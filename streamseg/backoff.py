"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import chain, repeat

STEPS = (1.0, 2.0, 4.0, 8.0, 10.0)
"""Seconds before the first, second, … attempt; the last holds for all that follow."""

SPREAD = 0.2
"""Share by which each differs, so that many who lost the same peer do not come back all at once."""


def delays(draw: Callable[[], float] = random.random) -> Iterator[float]:
    """Seconds to wait before each further attempt, without end. draw: gives numbers from 0 to 1."""
    for step in chain(STEPS, repeat(STEPS[-1])):
        yield step * (1 + SPREAD * (2 * draw() - 1))
