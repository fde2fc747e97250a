"""Networks of the Matterport family, filled with the weights of the recorded cases."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from streamseg.config import ModelConfig
from tests.matterport.conftest import Recorded, compare, parity, shapes128

__all__ = ["compare", "matterport_weights", "parity", "recorded_model", "shapes128"]


def recorded_model(settings: dict[str, Any], *, size: tuple[int, int]) -> ModelConfig:
    """The model that a case's settings describe, for an input of size (width, height)."""
    return ModelConfig.matterport(
        class_names=("background", *(f"class {i}" for i in range(1, settings["NUM_CLASSES"]))),
        backbone=settings["BACKBONE"],
        input_sizes=(size,),
        anchor_sizes=tuple((scale,) for scale in settings["RPN_ANCHOR_SCALES"]),
        detection_min_score=settings["DETECTION_MIN_CONFIDENCE"],
        max_detections=settings["DETECTION_MAX_INSTANCES"],
        num_proposals=settings["POST_NMS_ROIS_INFERENCE"],
    )


def compiled(model: keras.Model, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of tensors as a graph of the backend; the weights of `model` are taken as they are at each call."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    import jax

    variables = model.variables

    def stateless(values: list[Any], *inputs: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*inputs)

    graph = jax.jit(stateless)
    return lambda *inputs: graph([variable.value for variable in variables], *inputs)


def compiled_on_jax(model: keras.Model, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of tensors, on JAX as a graph: there each operation by itself is compiled first.

    On TensorFlow, to make a graph takes longer than some calls without.
    """
    return compiled(model, function) if keras.backend.backend() == "jax" else function


@pytest.fixture
def matterport_weights(parity: Path, tmp_path: Path) -> Any:
    """The weights file of a recorded case by its name; it is deleted after the test."""
    spec = importlib.util.spec_from_file_location("make_weights", parity / "make_weights.py")
    assert spec is not None and spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    made = []

    def make(case: str) -> Path:
        path = tmp_path / f"{case}.h5"
        wrong = maker.write(Recorded(parity).facts(f"weights_table_{case}"), path)
        assert not wrong
        made.append(path)
        return path

    yield make
    for path in made:
        path.unlink()


def yx(boxes: Any) -> np.ndarray:
    """Boxes or deltas (…, 4), x before y, with y before x, and the other way round."""
    return np.asarray(boxes)[..., [1, 0, 3, 2]]
