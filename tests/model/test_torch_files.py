"""Weights files of PyTorch, safetensors and detectron2 are read without any of them, and nothing in one is executed."""

from __future__ import annotations

import collections
import contextlib
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamseg.model.torch_files import is_torch_file, read_torch_file
from streamseg.types import ModelError
from tests.torch_files import Call, Named, pickled, state_dict, tensor, whole, write, zipped

ENDINGS = (".pth", ".safetensors", ".pkl")
SIX = np.arange(6, dtype="<f4").reshape(2, 3)
TENSORS = {
    "backbone.weight": SIX,
    "backbone.bias": np.array([0.5, -2.0], "<f2"),
    "backbone.num_batches_tracked": np.array(7, "<i8"),
}
RUNS = [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("torch", "load")]


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("ending", ENDINGS)
def test_tensors_come_out_as_they_were_written(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"model{ending}", TENSORS)
    assert is_torch_file(path)
    assert_equal(read_torch_file(path), TENSORS)


def test_the_layout_of_before_2020_is_read_too(tmp_path: Path) -> None:
    assert_equal(read_torch_file(write(tmp_path / "model.pth", TENSORS, older=True)), TENSORS)


@pytest.mark.parametrize("lay_out", [zipped, state_dict])
def test_the_model_of_a_checkpoint_is_found_beside_the_state_of_its_optimizer(tmp_path: Path, lay_out: Any) -> None:
    momentum = {"state": {0: {"step": 3, "momentum": tensor("DoubleStorage", "1", 2, size=(2,), stride=(1,))}}}
    top = {"epoch": 12, "optimizer": momentum, "model": {"weight": whole("0", SIX)}}
    (tmp_path / "model.pth").write_bytes(lay_out(top, {"0": SIX, "1": np.zeros(2)}))
    assert_equal(read_torch_file(tmp_path / "model.pth"), {"weight": SIX})


def test_turned_and_shared_tensors_of_a_zip_are_taken_out_of_their_storage(tmp_path: Path) -> None:
    tensors = {
        "turned": tensor("FloatStorage", "0", 6, size=(3, 2), stride=(1, 3)),
        "tail": tensor("FloatStorage", "0", 6, offset=4, size=(2,), stride=(1,)),
        "kept": Call(Named("torch._utils", "_rebuild_parameter"), whole("0", SIX), True, collections.OrderedDict()),
    }
    (tmp_path / "model.pt").write_bytes(zipped(tensors, {"0": SIX}))
    found = read_torch_file(tmp_path / "model.pt")
    assert_equal(found, {"turned": SIX.T, "tail": np.array([4, 5], "<f4"), "kept": SIX})


def test_bfloat16_is_the_first_half_of_float32(tmp_path: Path) -> None:
    halves = np.array([0x3F80, 0xC000, 0x3E80], "<u2")  # 1, -2 and a quarter
    described = {"weight": tensor("BFloat16Storage", "0", 3, size=(3,), stride=(1,))}
    (tmp_path / "model.pth").write_bytes(zipped(described, {"0": halves}))
    header = json.dumps({"weight": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + halves.tobytes())
    for name in ("model.pth", "model.safetensors"):
        np.testing.assert_array_equal(read_torch_file(tmp_path / name)["weight"], [1.0, -2.0, 0.25])


@pytest.mark.parametrize(("module", "name"), RUNS)
@pytest.mark.parametrize("kind", ["zip", "older", "pkl"])
def test_a_pickle_that_wants_to_run_something_is_refused_by_its_name(
    tmp_path: Path, kind: str, module: str, name: str
) -> None:
    mark = tmp_path / "mark"
    attack = {"weight": Call(Named(module, name), f"touch {mark}")}
    contents = {"zip": zipped(attack, {}), "older": state_dict(attack, {}), "pkl": pickled({"model": attack})}
    path = tmp_path / ("model.pkl" if kind == "pkl" else "model.pth")
    path.write_bytes(contents[kind])
    with pytest.raises(ModelError, match=f"{path.name}: it asks for {module}.{name}.*nothing was executed"):
        read_torch_file(path)
    assert not mark.exists()


def test_an_object_whose_state_would_run_something_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (mark,)

    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": {"weight": Hostile()}}))
    with pytest.raises(ModelError, match="it asks for pathlib"):
        read_torch_file(tmp_path / "model.pkl")
    assert not mark.exists()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"model{ending}", TENSORS)
    content = path.read_bytes()
    for end in range(0, len(content) - 1, 13):
        path.write_bytes(content[:end])
        with pytest.raises(ModelError, match=f"model{ending}: (not|it asks for) "):
            read_torch_file(path)


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, ending: str, share: float, byte: int) -> None:
    path = write(tmp_path / f"model{ending}", TENSORS)
    damaged = bytearray(path.read_bytes())
    damaged[int(share * len(damaged))] = byte
    path.write_bytes(damaged)
    with contextlib.suppress(ModelError):
        read_torch_file(path)


def test_a_zip_whose_parts_are_packed_is_refused_before_it_can_swell(tmp_path: Path) -> None:
    zeros = np.zeros(1 << 20, "<f4")
    (tmp_path / "bomb.pth").write_bytes(zipped({"weight": whole("0", zeros)}, {"0": zeros}, packed=True))
    with pytest.raises(ModelError, match="is packed or too long"):
        read_torch_file(tmp_path / "bomb.pth")


@pytest.mark.parametrize(
    "facts",
    [
        {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]},
        {"dtype": "F32", "shape": [-2, -3], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [-24, 0]},
        {"dtype": "F4", "shape": [2, 3], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [2, 3]},
    ],
)
def test_a_safetensor_that_does_not_fit_its_bytes_is_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    header = json.dumps({"weight": facts}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + SIX.tobytes())
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        read_torch_file(tmp_path / "model.safetensors")


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    objects = np.array([{}, None], object)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": {"weight": objects}}))
    with pytest.raises(ModelError, match="not readable weights of detectron2"):
        read_torch_file(tmp_path / "model.pkl")


def test_a_file_without_tensors_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(zipped({"epoch": 3}, {}))
    with pytest.raises(ModelError, match="there is no tensor in it"):
        read_torch_file(tmp_path / "model.pth")
