"""The recorded numbers of the original, where they lie beside this checkout."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

PARITY = Path(__file__).resolve().parents[3] / "shared" / "parity"


class Recorded:
    """One recorded case: its arrays by name, and what its json files say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arrays(self, name: str) -> Any:
        return np.load(self.folder / f"{name}.npz")

    def facts(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text())


def unpacked(bits: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Bit-packed masks as bool of `shape`."""
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)


@pytest.fixture(scope="session")
def parity() -> Path:
    """The folder of recorded numbers; a test that needs it is skipped where it is absent."""
    if not PARITY.is_dir():
        pytest.skip("the recorded numbers are not beside this checkout")
    return PARITY


@pytest.fixture(scope="session")
def shapes128(parity: Path) -> Recorded:
    """Single operators, recorded one by one."""
    return Recorded(parity / "cases" / "shapes128")


@pytest.fixture(scope="session")
def compare(parity: Path) -> ModuleType:
    """The recorded numbers' own comparison, with their tolerances."""
    spec = importlib.util.spec_from_file_location("parity_compare", parity / "compare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
