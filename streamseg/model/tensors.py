"""Whether what a weights file holds fits a network, and how a file that does not is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamseg.types import ModelError


def misfit(name: str, value: np.ndarray | None, shape: tuple[int, ...]) -> str | None:
    """What keeps the tensor `name` of a file, None if it has none, from being one of this shape; None: nothing."""
    if value is None:
        return f"{name} is missing"
    if value.shape != shape:
        return f"{name}: expected shape {shape}, got {value.shape}"
    if value.dtype.kind != "f" or not np.isfinite(value).all():
        return f"{name} holds values that are not numbers"
    return None


def refused(path: Path, what: str, problems: Sequence[str]) -> ModelError:
    """The error of a file whose tensors are not `what` was wanted, with the first five problems."""
    more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
    return ModelError(f"{path}: these are not {what}: {'; '.join(problems[:5])}{more}")
