"""Shapes of a network's tensors: what is expected in symbols, whether a given one fits, and both in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Shape: TypeAlias = tuple[int | None, ...] | None
"""Of a tensor; None for a length that is not known before it runs, or for all of it."""

Dimensions: TypeAlias = tuple[int | str, ...]
"""What is expected: a number is exact, a letter stands for the same number wherever it occurs, `4+K+P` is a sum."""


def fits(shape: Shape, dimensions: Dimensions, known: dict[str, int]) -> bool:
    """Whether a shape is as expected. Letters that it gives a number join `known` if all of it fits.

    What is not known yet fits.
    """
    if shape is None:
        return True
    if len(shape) != len(dimensions):
        return False
    new = dict(known)
    for length, dimension in zip(shape, dimensions, strict=True):
        if length is None:
            continue
        expected = _length(dimension, new)
        if expected is None and str(dimension).isalpha():
            new[str(dimension)] = length
        elif expected not in (None, length):
            return False
    known |= new
    return True


def expected_in_words(dimensions: Dimensions, known: Mapping[str, int]) -> str:
    """`(1, 4+K+P = 116, Q)`: what is expected, with the numbers that are known."""
    said = []
    for each in dimensions:
        length = _length(each, known)
        said.append(str(each) if length is None or isinstance(each, int) else f"{each} = {length}")
    return _listed(said)


def in_words(shape: Shape) -> str:
    """`(1, ?, 4)`, with a question mark for what is not known."""
    return "any shape" if shape is None else _listed(["?" if each is None else str(each) for each in shape])


def _length(dimension: int | str, known: Mapping[str, int]) -> int | None:
    """The number that a dimension stands for; None where a part of it is not known."""
    parts = [int(part) if part.isdigit() else known.get(part) for part in str(dimension).split("+")]
    numbers = [part for part in parts if part is not None]
    return sum(numbers) if len(numbers) == len(parts) else None


def _listed(lengths: list[str]) -> str:
    return f"({', '.join(lengths)}{',' * (len(lengths) == 1)})"
