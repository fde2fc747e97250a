"""A training learns, is saved after every epoch, goes on exactly where it was killed, and stops at the first NaN."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from streamseg.config import ExperimentConfig
from streamseg.engines._model_folder import ModelFolder
from streamseg.model.losses import TrainedMaskRCNN
from streamseg.model.mask_rcnn import load_network
from streamseg.training.fit import Schedule, averages, make_network, make_optimizer, save_average, start_weights, train
from streamseg.types import InputError, ModelError, UsageError
from tests.tiny_model import TINY, make_balls, tiny_experiment, tiny_stage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_balls(tmp_path_factory.mktemp("balls") / "data", 6)


def tensors(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def two_stages(balls: Path) -> ExperimentConfig:
    """Six epochs of three steps, and three of two steps at another size; the last part of the backbone learns too."""
    stages = (
        tiny_stage(epochs=6, learning_rate=3e-3, final_learning_rate=1e-3),
        tiny_stage(epochs=3, crop=64, batch_size=3, learning_rate=1e-3, warmup_steps=1),
    )
    return tiny_experiment(balls, stages=stages, frozen_stages=6, train_depthwise=True)


@pytest.fixture(scope="module")
def learnt(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, float]], Path]:
    """Losses and folder of a training of two stages; beside it, `killed`: what a kill in the eighth epoch leaves."""
    folder = tmp_path_factory.mktemp("runs") / "balls"
    epochs: dict[int, dict[str, float]] = {}

    def watch(state: dict[str, Any]) -> None:
        if "losses" in state:
            epochs[state["epoch"]] = state["losses"]
            if (state["epoch"], state["step"]) == (8, 2):
                shutil.copytree(folder, folder.with_name("killed"))

    train(two_stages(balls), output=folder, command="streamseg train balls.yaml", progress=watch)
    return [epochs[number] for number in sorted(epochs)], folder


def test_the_losses_fall(learnt: tuple[list[dict[str, float]], Path]) -> None:
    losses, _ = learnt
    assert len(losses) == 9
    assert set(losses[0]) == {"loss", "rpn_class", "rpn_box", "class", "box", "mask"}
    assert losses[5]["loss"] < 0.85 * losses[0]["loss"]
    assert all(losses[5][name] < losses[0][name] for name in ("class", "rpn_class", "mask"))


def test_a_training_leaves_a_model_a_checkpoint_and_a_log(learnt: tuple[list[dict[str, float]], Path]) -> None:
    _, folder = learnt
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.h5", "logs", "model.weights.h5", "model.yaml"]
    assert any((folder / "logs").iterdir())
    opened = ModelFolder.open(folder)
    assert opened.config == TINY
    load_network(opened.config, opened.weights)
    assert "command: streamseg train balls.yaml" in (folder / "model.yaml").read_text()
    assert {value.dtype.name for value in tensors(folder / "model.weights.h5").values()} == {"float16"}


def test_the_model_is_the_average_of_the_weights(learnt: tuple[list[dict[str, float]], Path]) -> None:
    _, folder = learnt
    state, model = tensors(folder / "checkpoint.h5"), tensors(folder / "model.weights.h5")
    assert {name.removeprefix("network/") for name in state if name.startswith("network/")} == model.keys()
    last = {name: state[f"network/{name}"] for name in model}
    moved = max(abs(model[name] - last[name]).max() for name in model)
    far = [name for name in model if not np.allclose(model[name], last[name], atol=0.1, rtol=0.1)]
    assert moved > 1e-4 and not far
    frozen = [name for name in model if name.startswith("backbone/stem")]
    assert frozen and all(np.allclose(model[name], last[name], rtol=1e-3, atol=1e-6) for name in frozen)


def test_a_resumed_training_ends_where_an_unbroken_one_does(
    learnt: tuple[list[dict[str, float]], Path], balls: Path
) -> None:
    """Killed within the eighth epoch: seven are kept, two done again, and the weights are the same."""
    losses, folder = learnt
    killed = folder.with_name("killed")
    again: dict[int, dict[str, float]] = {}
    train(
        two_stages(balls),
        output=killed,
        resume=True,
        progress=lambda state: again.update({state["epoch"]: state["losses"]}) if "losses" in state else None,
    )
    assert sorted(again) == [8, 9]
    for name, value in again[9].items():
        assert value == pytest.approx(losses[-1][name], rel=1e-4, abs=1e-6)
    one, other = tensors(folder / "checkpoint.h5"), tensors(killed / "checkpoint.h5")
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(other[name], one[name], atol=1e-6, err_msg=name)


def test_a_stage_begins_with_the_weights_that_the_one_before_ended_with() -> None:
    """The average is for the model that is saved, not for the training."""
    model = trained_model(tiny_experiment(Path("none.json")))
    before = keras.ops.convert_to_numpy(model.network.rpn.shared.kernel)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.network.rpn.shared.kernel), before)


def test_a_training_stops_at_the_first_nan_and_names_the_batch(balls: Path, tmp_path: Path) -> None:
    stage = tiny_stage(epochs=9, learning_rate=1e30)
    with pytest.raises(ModelError, match=r"became NaN or infinite in epoch 1, batch [23] \([1-6].png, [1-6].png\)"):
        train(tiny_experiment(balls, stages=(stage,), weight_decay=0), output=tmp_path / "nan")


def test_a_folder_that_holds_a_training_or_a_model_is_not_written_over(
    learnt: tuple[list[dict[str, float]], Path], balls: Path, tmp_path: Path
) -> None:
    _, folder = learnt
    before = tensors(folder / "model.weights.h5")
    with pytest.raises(UsageError, match="already holds a training; continue it with --resume"):
        train(tiny_experiment(balls), output=folder)
    assert tensors(folder / "model.weights.h5").keys() == before.keys()
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.weights.h5").write_bytes(b"precious")
    with pytest.raises(UsageError, match="already holds"):
        train(tiny_experiment(balls), output=model)
    assert [path.name for path in model.iterdir()] == ["model.weights.h5"]


def test_what_cannot_be_resumed_or_trained_says_why(balls: Path, tmp_path: Path) -> None:
    experiment = tiny_experiment(balls)
    with pytest.raises(UsageError, match="holds no checkpoint to resume from"):
        train(experiment, output=tmp_path / "a", resume=True)
    with pytest.raises(UsageError, match="no `training` section"):
        train(ExperimentConfig(name="x"), output=tmp_path / "a")
    other = experiment.model_copy(update={"model": TINY.model_copy(update={"class_names": ("background", "cat")})})
    with pytest.raises(UsageError, match="it has the class 'ball', which the model lacks; there is cat"):
        train(other, output=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    broken = make_balls(tmp_path / "broken", 2)
    (broken.parent / "images" / "2.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="2.png: the picture is missing or damaged"):
        train(tiny_experiment(broken), output=tmp_path / "b")


@pytest.mark.parametrize("damage", ["truncated", "other"])
def test_a_damaged_checkpoint_is_named(
    learnt: tuple[list[dict[str, float]], Path], balls: Path, tmp_path: Path, damage: str
) -> None:
    content = (learnt[1] / "checkpoint.h5").read_bytes()
    (tmp_path / "checkpoint.h5").write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    experiment = tiny_experiment(balls)
    if damage == "other":
        experiment = experiment.model_copy(update={"model": TINY.model_copy(update={"fpn_channels": 8})})
    with pytest.raises(ModelError, match="checkpoint.h5: not a checkpoint of this training"):
        train(experiment, output=tmp_path, resume=True)


def test_a_training_starts_from_another_models_weights(learnt: tuple[list[dict[str, float]], Path]) -> None:
    _, folder = learnt
    network = make_network(tiny_experiment(Path("none.json")))
    start_weights(network, str(folder))
    kernel = tensors(folder / "model.weights.h5")["rpn/shared/kernel"]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(network.rpn.shared.kernel), kernel.astype(np.float32))


def trained_model(experiment: ExperimentConfig) -> TrainedMaskRCNN:
    training = experiment.training
    assert training is not None
    model = TrainedMaskRCNN(make_network(experiment), training, name="training")
    model.build()
    optimizer = make_optimizer(training, Schedule(training.stages, [4] * len(training.stages)))
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer)
    return model


def test_the_average_before_the_first_step_is_the_weights(tmp_path: Path) -> None:
    model = trained_model(tiny_experiment(Path("none.json")))
    save_average(model, tmp_path / "model.weights.h5")
    kernel = keras.ops.convert_to_numpy(model.network.rpn.shared.kernel)
    saved = tensors(tmp_path / "model.weights.h5")["rpn/shared/kernel"]
    np.testing.assert_array_equal(saved, kernel.astype(np.float16))


def test_the_average_follows_the_weights_by_its_momentum() -> None:
    model = trained_model(tiny_experiment(Path("none.json"), ema=0.75, weight_decay=0))
    optimizer = model.optimizer
    bias = model.network.rpn.logits.bias
    expected, mean = [], None
    for _ in range(3):
        optimizer.apply([keras.ops.ones_like(variable) for variable in model.trainable_variables])
        value = keras.ops.convert_to_numpy(bias)
        mean = value if mean is None else 0.75 * mean + 0.25 * value
        expected.append(mean)
    found = keras.ops.convert_to_numpy(averages(optimizer)[bias.path])
    np.testing.assert_allclose(found, expected[-1], rtol=1e-5)


def test_the_backbone_learns_at_its_own_rate_and_frozen_parts_not_at_all() -> None:
    model = trained_model(tiny_experiment(Path("none.json"), backbone_rate=0.5, frozen_stages=3, weight_decay=0))
    names = {variable.path for variable in model.trainable_variables}
    assert not any("/stem/" in name or "stage0" in name or "stage1" in name for name in names)
    assert not any(name.endswith(("gamma", "beta", "moving_mean")) or "/filter/" in name for name in names)
    before = {variable.path: np.array(keras.ops.convert_to_numpy(variable)) for variable in model.trainable_variables}
    model.optimizer.apply([keras.ops.ones_like(variable) for variable in model.trainable_variables])
    steps = {v.path: np.abs(keras.ops.convert_to_numpy(v) - before[v.path]).mean() for v in model.trainable_variables}
    inside = [step for name, step in steps.items() if "/backbone/" in name]
    outside = [step for name, step in steps.items() if "/backbone/" not in name]
    np.testing.assert_allclose(inside, 0.5 * np.mean(outside), rtol=1e-2)
    np.testing.assert_allclose(outside, np.mean(outside), rtol=1e-2)


def test_biases_do_not_decay() -> None:
    model = trained_model(tiny_experiment(Path("none.json"), weight_decay=0.1))
    for variable in model.trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    model.optimizer.apply([keras.ops.zeros_like(variable) for variable in model.trainable_variables])
    rate = 1e-3
    for variable in model.trainable_variables:
        expected = 1.0 if variable.name == "bias" else 1 - 0.1 * rate
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), expected, atol=1e-6, err_msg=variable.path)


def test_the_learning_rate_warms_up_falls_like_a_cosine_and_begins_anew_with_a_stage() -> None:
    stages = (
        tiny_stage(learning_rate=1.0, final_learning_rate=0.0, warmup_steps=4),
        tiny_stage(learning_rate=0.5, final_learning_rate=0.1, warmup_steps=0),
    )
    rate = Schedule(stages, [12, 8])
    found = [float(keras.ops.convert_to_numpy(rate(step))) for step in range(20)]
    np.testing.assert_allclose(found[:4], [0.25, 0.5, 0.75, 1], atol=1e-6)
    np.testing.assert_allclose([found[4], found[8]], [1, 0.5], atol=1e-6)
    assert found[4:12] == sorted(found[4:12], reverse=True) and found[11] > 0
    np.testing.assert_allclose([found[12], found[16]], [0.5, 0.3], atol=1e-6)


ALONE = """
import sys
sys.modules["tensorflow"] = None  # a machine with JAX alone
from pathlib import Path
import keras
from streamseg.training.fit import train
from tests.tiny_model import tiny_experiment, tiny_stage
assert keras.backend.backend() == "jax"
losses = []
train(
    tiny_experiment(Path(sys.argv[1]), stages=(tiny_stage(epochs=int(sys.argv[3]), learning_rate=3e-3),)),
    output=Path(sys.argv[2]),
    progress=lambda state: losses.append(state["losses"]) if "losses" in state else None,
)
print(losses[-1], flush=True)
assert all(losses[-1][name] < losses[0][name] for name in ("rpn_class", "class", "mask")), losses
"""


def test_jax_alone_trains_a_model_that_tensorflow_loads(balls: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ALONE, str(balls), str(tmp_path / "run"), "3"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert load_network(TINY, tmp_path / "run" / "model.weights.h5").built
