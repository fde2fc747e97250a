"""Steps are as large as asked, clipped all together, and decay what is to decay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from streamseg.training.optimizers import Schedule, averages
from tests.tiny_model import tiny_experiment, tiny_stage, tiny_training_model


def test_the_average_follows_the_weights_by_its_momentum() -> None:
    model = tiny_training_model(tiny_experiment(Path("none.json"), ema=0.75, weight_decay=0))
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
    model = tiny_training_model(tiny_experiment(Path("none.json"), backbone_rate=0.5, frozen_stages=3, weight_decay=0))
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
    model = tiny_training_model(tiny_experiment(Path("none.json"), weight_decay=0.1))
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
        tiny_stage(learning_rate=0.25, schedule="constant", warmup_steps=2),
    )
    rate = Schedule(stages, [12, 8, 6])
    found = [float(keras.ops.convert_to_numpy(rate(step))) for step in range(26)]
    np.testing.assert_allclose(found[:4], [0.25, 0.5, 0.75, 1], atol=1e-6)
    np.testing.assert_allclose([found[4], found[8]], [1, 0.5], atol=1e-6)
    assert found[4:12] == sorted(found[4:12], reverse=True) and found[11] > 0
    np.testing.assert_allclose([found[12], found[16]], [0.5, 0.3], atol=1e-6)
    np.testing.assert_allclose(found[20:], [0.125, 0.25, 0.25, 0.25, 0.25, 0.25], atol=1e-6)


def sgd_model(**changes: Any) -> Any:
    options: dict[str, Any] = {"optimizer": "sgd", "backbone_rate": 1.0, "weight_decay": 0.0, **changes}
    stage = tiny_stage(learning_rate=0.1, schedule="constant")
    return tiny_training_model(tiny_experiment(Path("none.json"), stages=(stage,), **options))


def weights_of(model: Any) -> dict[str, np.ndarray]:
    return {v.path: np.array(keras.ops.convert_to_numpy(v), np.float64) for v in model.trainable_variables}


def test_sgd_takes_its_last_step_again_by_its_momentum() -> None:
    model = sgd_model(momentum=0.5, clip_norm=1e9)
    before = weights_of(model)
    for _ in range(2):
        model.optimizer.apply([keras.ops.ones_like(variable) for variable in model.trainable_variables])
    after = weights_of(model)
    for name in before:  # a step of 0.1, and one of 0.1 + 0.05
        np.testing.assert_allclose(after[name] - before[name], -0.25, atol=1e-5)


def test_gradients_are_clipped_all_together() -> None:
    model = sgd_model(clip_norm=5.0)
    variables = model.trainable_variables
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=variable.shape).astype(np.float32) for variable in variables]
    norm = np.sqrt(sum((gradient.astype(np.float64) ** 2).sum() for gradient in gradients))
    assert norm > 50
    before = weights_of(model)
    model.optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients])
    after = weights_of(model)
    for variable, gradient in zip(variables, gradients, strict=True):
        step = after[variable.path] - before[variable.path]
        np.testing.assert_allclose(step, -0.1 * gradient * 5 / norm, atol=1e-6)


@pytest.mark.parametrize("clip_norm", [1e9, 0.01])
def test_the_weight_decay_of_sgd_is_the_gradient_of_a_mean_of_squares(clip_norm: float) -> None:
    """Of every tensor that is no gamma or beta, biases too; it counts in the norm that is clipped."""
    model = sgd_model(weight_decay=0.5, clip_norm=clip_norm)
    for variable in model.trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    model.optimizer.apply([keras.ops.zeros_like(variable) for variable in model.trainable_variables])
    sizes = np.array([np.prod(variable.shape) for variable in model.trainable_variables], float)
    norm = np.sqrt((1 / sizes).sum())  # of gradients 2 · 0.5 · 1 / size
    for variable, size in zip(model.trainable_variables, sizes, strict=True):
        step = 1 - np.array(keras.ops.convert_to_numpy(variable), np.float64)
        np.testing.assert_allclose(step, 0.1 / size * min(1, clip_norm / norm), rtol=1e-2, atol=2e-7)
