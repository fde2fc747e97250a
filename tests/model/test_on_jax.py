"""Where there is JAX and no TensorFlow, the model computes the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends import FAST, QUICK, on_jax

HERE = Path(__file__).resolve().parent
CODE = """
import sys
sys.modules["tensorflow"] = None
import pytest
from tests.backends import draw_by_numpy
draw_by_numpy()
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.thorough
@pytest.mark.longest
@pytest.mark.parametrize(
    ("names", "flags"),
    [
        # gradients of large networks compute long enough for fast code to pay
        pytest.param(("matterport_training", "matterport_losses"), FAST, id="training"),
        pytest.param(("matterport_parity", "boxes", "roi_align", "targets", "losses"), QUICK, id="model"),
    ],
)
def test_the_tests_of_the_model_pass_on_jax_alone(names: tuple[str, ...], flags: str) -> None:
    files = [str(HERE / f"test_{name}.py") for name in names]
    environment = on_jax(XLA_FLAGS=flags)
    options = ["-q", "-m", "", "-n", "0", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=1400"]
    command = [sys.executable, "-c", CODE, *options, *files]
    ran = subprocess.run(
        command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, timeout=1500, check=False
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert " failed" not in ran.stdout
    assert " passed" in ran.stdout or " skipped" in ran.stdout
