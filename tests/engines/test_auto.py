"""Auto takes the engine that suits the machine, and loads nothing to find out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamseg.engines.auto import Auto, nvidia_driver
from streamseg.engines.openvino import Openvino
from streamseg.types import UsageError

ROOT = Path(__file__).resolve().parents[2]
no_gpu = pytest.mark.skipif(nvidia_driver(), reason="this machine has an NVIDIA GPU")


@no_gpu
def test_without_a_gpu_it_is_openvino_with_the_same_options(tiny: Path) -> None:
    engine = Auto(model=str(tiny), batch_size=3, precision="f32")
    assert isinstance(engine, Openvino)
    assert (engine.batch_size, engine.precision, engine.class_names) == (3, "f32", ("background", "ball"))


def test_looking_for_a_gpu_loads_no_tensorflow() -> None:
    code = (
        "import sys; from streamseg.engines.auto import nvidia_driver; nvidia_driver(); "
        "print(sorted({'tensorflow', 'keras', 'jax', 'torch', 'openvino'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]", ran.stderr


def test_a_wrong_model_is_refused() -> None:
    with pytest.raises(UsageError, match="no model is called 'peeple'"):
        Auto(model="peeple")
