"""Keras finds what OpenVINO finds, on TensorFlow and on JAX, in batches and one by one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from streamseg.engines.keras import Keras
from streamseg.engines.openvino import Openvino
from streamseg.types import Engine, Instances, ModelError, UsageError
from tests.backends import on_jax
from tests.engines.conftest import FIND, assert_same, frames_of, noise

ROOT = Path(__file__).resolve().parents[2]

JAX_ALONE = """
import json, sys
sys.modules["tensorflow"] = None
"""
ANSWER = """
for line in sys.stdin:
    main("keras", *json.loads(line), batch_size=6, precision="f32")
    print("done", flush=True)
"""

Found = Callable[..., list[Instances]]


@pytest.fixture(scope="module")
def found_on_jax(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """What Keras finds on a machine with JAX alone: one process for all questions, as it takes long to start."""
    folder = tmp_path_factory.mktemp("jax")
    command = [sys.executable, "-c", JAX_ALONE + FIND + ANSWER]
    with (
        (folder / "said.txt").open("w+") as said,
        subprocess.Popen(
            command, cwd=ROOT, env=on_jax(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
        ) as child,
    ):
        assert child.stdin is not None and child.stdout is not None
        questions, answers = child.stdin, child.stdout

        def find(model: str, pictures: Path, names: tuple[str, ...]) -> list[Instances]:
            questions.write(json.dumps([model, str(pictures), str(folder / "answer.npz")]) + "\n")
            questions.flush()
            done = answers.readline()
            assert done == "done\n", (folder / "said.txt").read_text()[-3000:]
            arrays = np.load(folder / "answer.npz")
            found = []
            for i in range(len(np.load(pictures))):
                boxes, scores, masks = (arrays[f"{i}-{name}"] for name in ("boxes", "scores", "masks"))
                found.append(Instances(boxes, masks, scores, np.ones(len(boxes)), np.full(len(boxes), -1), names))
            return found

        yield find
        questions.close()


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Keras:
    return Keras(model=str(tiny), batch_size=3, precision="f32")


def test_it_is_an_engine(engine: Keras) -> None:
    assert isinstance(engine, Engine)
    assert engine.class_names == ("background", "ball") and engine.batch_size == 3
    assert engine.predict([]) == []


@pytest.mark.parametrize("fill", [False, True])
def test_a_batch_of_any_number_and_of_mixed_sizes_equals_singles(engine: Keras, fill: bool) -> None:
    sizes = [(128, 96), (64, 96), (256, 192), (128, 96), (128, 96)]
    frames = [noise(*size, seed) for seed, size in enumerate(sizes)]
    engine.fill = fill  # as on a GPU
    singles = [engine.predict([frame])[0] for frame in frames]
    assert all(len(found) for found in singles)
    for found, expected in zip(engine.predict(frames), singles, strict=True):
        assert len(found) == len(expected)
        assert_same(found, expected)
    engine.fill = False


@pytest.mark.thorough  # JAX compiles for half a minute
def test_three_engines_agree_on_noise(
    engine: Keras, tiny: Path, cache: Path, found_on_jax: Found, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures.npy"
    np.save(pictures, [noise(128, 96, seed).rgb(128, 96) for seed in range(10)])
    frames = frames_of(pictures)
    ours = engine.predict(frames)
    assert sum(map(len, ours)) > 20
    theirs = Openvino(model=str(tiny), precision="f32").predict(frames)
    jax = found_on_jax(str(tiny), pictures, engine.class_names)
    for found, openvino, other in zip(ours, theirs, jax, strict=True):
        assert_same(found, openvino)
        assert_same(found, other)


@pytest.mark.thorough  # JAX compiles for half a minute
def test_three_engines_agree_on_people(people: str, photos: Path, found_on_jax: Found) -> None:
    frames = frames_of(photos)
    assert len(frames) == 10
    ours = Keras(model=people, precision="f32").predict(frames)
    assert sum((found.scores > 0.5).sum() for found in ours) > 10
    theirs = Openvino(model=people, precision="f32").predict(frames)
    jax = found_on_jax(people, photos, ours[0].class_names)
    for found, openvino, other in zip(ours, theirs, jax, strict=True):
        assert_same(found, openvino)
        assert_same(found, other)


def test_bf16_computes_in_bf16_and_leaves_other_models_alone(tiny: Path) -> None:
    import keras

    half = Keras(model=str(tiny), precision="bf16")
    assert half.network.compute_dtype == "bfloat16" and half.network.variable_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"
    assert len(half.predict([noise(128, 96, 1)])[0])


def test_wrong_options_and_weights_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch_size: expected 1 or more, got -2"):
        Keras(model=str(tiny), batch_size=-2)
    (tmp_path / "model.yaml").write_text((tiny / "model.yaml").read_text())
    (tmp_path / "model.weights.h5").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="not a readable weights file"):
        Keras(model=str(tmp_path))
