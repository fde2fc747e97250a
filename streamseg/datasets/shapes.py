"""Squares, circles and triangles on coloured ground, drawn as they are asked for: a training without any data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamseg.datasets._picture_files import sample_of
from streamseg.types import Sample, UsageError

MOST_HIDDEN = 0.5
"""A shape of which a later one would hide more is not drawn: what is left of it would look like something else."""

LEAST_CONTRAST = 60
"""Grey levels between a shape and the ground in at least one channel."""


class Shapes:
    """`count` pictures of width × height pixels with one to `most` shapes that may hide each other in part.

    Picture i of a seed is always the same, whatever the count.
    """

    class_names = ("background", "square", "circle", "triangle")

    def __init__(self, *, count: int = 500, width: int = 128, height: int = 128, most: int = 4, seed: int = 0) -> None:
        for name, value, least in (
            ("count", count, 1),
            ("width", width, 32),
            ("height", height, 32),
            ("most", most, 1),
        ):
            if value < least:
                raise UsageError(f"{name}: expected at least {least}, got {value}")
        self.count, self.width, self.height, self.most, self.seed = count, width, height, most, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(f"expected a picture from 0 to {self.count - 1}, got {index}")
        rng = np.random.default_rng((self.seed, index))
        ground = rng.integers(0, 256, 3)
        rgb = np.full((self.height, self.width, 3), ground, np.uint8)
        masks: list[np.ndarray] = []
        areas: list[int] = []
        class_ids: list[int] = []
        for _ in range(int(rng.integers(1, self.most + 1))):
            class_id = int(rng.integers(1, len(self.class_names)))
            shape = self._shape(class_id, rng)
            colour = _contrasting(ground, rng)
            left = [mask & ~shape for mask in masks]
            hidden = [1 - mask.sum() / area for mask, area in zip(left, areas, strict=True)]
            if any(share > MOST_HIDDEN for share in hidden):
                continue
            rgb[shape] = colour
            masks, areas, class_ids = [*left, shape], [*areas, int(shape.sum())], [*class_ids, class_id]
        return sample_of(
            Path(f"shapes-{self.seed}-{index}"),
            image_id=index,
            size=(self.width, self.height),
            masks=masks,
            class_ids=class_ids,
            rgb=rgb,
        )

    def _shape(self, class_id: int, rng: np.random.Generator) -> np.ndarray:
        """Where a shape of the class at a random place and size is: (H, W) bool, wholly inside the picture."""
        shorter = min(self.width, self.height)
        half = int(rng.integers(shorter // 12 + 1, shorter // 4 + 1))
        x = int(rng.integers(half, self.width - half))
        y = int(rng.integers(half, self.height - half))
        right, down = np.arange(self.width) - x, np.arange(self.height)[:, None] - y
        if self.class_names[class_id] == "square":
            return (abs(right) <= half) & (abs(down) <= half)
        if self.class_names[class_id] == "circle":
            return right**2 + down**2 <= (half + 0.5) ** 2
        inside: np.ndarray = (abs(down) <= half) & (2 * abs(right) <= down + half)
        return inside


def _contrasting(ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A colour (3,) that can be told from the ground."""
    while True:
        colour = rng.integers(0, 256, 3)
        if np.abs(colour - ground).max() >= LEAST_CONTRAST:
            return colour
