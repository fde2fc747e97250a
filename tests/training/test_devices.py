"""A batch that is split among devices gives the losses that it gives on one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from streamseg.config import StageConfig
from streamseg.training.fit import check_batches
from streamseg.types import UsageError
from tests.backends import on_jax
from tests.tiny_model import make_balls

ROOT = Path(__file__).resolve().parents[2]

TRAIN = """
import json, os, sys
from pathlib import Path
backend, num_devices, data, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
if backend == "jax":
    sys.modules["tensorflow"] = None
    os.environ["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={num_devices}"
else:
    import tensorflow as tf
    parts = [tf.config.LogicalDeviceConfiguration()] * num_devices
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
from streamseg.training.devices import all_devices
from streamseg.training.fit import train
from tests.backends import draw_by_numpy
from tests.tiny_model import tiny_experiment, tiny_stage
if backend == "jax":
    draw_by_numpy()
with all_devices() as count:
    assert count == num_devices, count
losses = []
train(
    tiny_experiment(data, stages=(tiny_stage(epochs=1, batch_size=4, learning_rate=3e-3),)),
    output=folder,
    progress=lambda state: losses.append(state["losses"]) if "losses" in state else None,
)
print(json.dumps(losses))
"""


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_training_on_two_devices_goes_as_on_one(backend: str, tmp_path: Path) -> None:
    """The random samples of the losses differ between TensorFlow's replicas, so that its losses are only alike."""
    data = make_balls(tmp_path / "balls", 8)
    environment = on_jax(KERAS_BACKEND=backend, CUDA_VISIBLE_DEVICES="")
    found = []
    for count in (1, 2):
        command = [sys.executable, "-c", TRAIN, backend, str(count), str(data), str(tmp_path / f"run{count}")]
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
        assert ran.returncode == 0, ran.stderr[-3000:]
        found.append(json.loads(ran.stdout.splitlines()[-1]))
        assert (tmp_path / f"run{count}" / "model.weights.h5").is_file()
    one, two = found
    assert len(one) == len(two) == 2
    for before, after in zip(one, two, strict=True):
        for name, value in before.items():
            assert after[name] == pytest.approx(value, rel=1e-4 if backend == "jax" else 0.05, abs=1e-6), name


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    check_batches([StageConfig(epochs=1, batch_size=6)], 3)
    with pytest.raises(UsageError, match="batch_size: expected a multiple of the 4 devices, got 6"):
        check_batches([StageConfig(epochs=1, batch_size=6)], 4)
