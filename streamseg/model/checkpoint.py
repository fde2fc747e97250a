"""Weights to and from files: every tensor accounted for, nothing in a file is ever executed."""

from __future__ import annotations

import collections
import math
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from streamseg.model.tensors import refused
from streamseg.types import ModelError

if TYPE_CHECKING:
    from streamseg.model.efficientnet_lite import EfficientNetLite


def weights_by_name(model: Any) -> dict[str, Any]:
    """The weights of a Keras model by their path, without the model's own name; seeds and counters are left out."""
    prefix = f"{model.name}/"
    return {variable.path.removeprefix(prefix): variable for variable in model.weights}


def save_weights(model: Any, path: Path, *, half: bool = False) -> None:
    """Write a model's weights as HDF5, one dataset a tensor; `half` stores float16."""
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    with h5py.File(part, "w", locking=False) as file:
        for name, variable in weights_by_name(model).items():
            value = np.asarray(variable)
            file.create_dataset(name, data=value.astype("float16") if half else value)
    part.replace(path)


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file of `save_weights`, by name. Raises ModelError."""
    found: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r", locking=False) as file:
            file.visititems(
                lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{path}: not a readable weights file ({error})") from error
    return found


def load_weights(model: Any, path: Path, *, without: Sequence[Any] = ()) -> None:
    """Fill a model from a file of `save_weights`; the variables `without` keep their values, whatever the file holds.

    Raises ModelError naming the tensors that are missing, of another shape, or not the model's; then nothing was
    loaded.
    """
    wanted, found = weights_by_name(model), read_weights(path)
    kept = {variable.path for variable in without}
    left_out = {name for name, variable in wanted.items() if variable.path in kept}
    wanted = {name: variable for name, variable in wanted.items() if name not in left_out}
    found = {name: value for name, value in found.items() if name not in left_out}
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} does not belong to this model" for name in found if name not in wanted]
    for name, variable in wanted.items():
        value = np.asarray(found.get(name, 0.0))
        if name in found and value.shape != tuple(variable.shape):
            problems.append(f"{name}: expected shape {tuple(variable.shape)}, got {value.shape}")
        elif value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            problems.append(f"{name} holds values that are not numbers")
    if problems:
        raise refused(path, "weights of this model", problems)
    for name, variable in wanted.items():
        variable.assign(found[name].astype("float32"))


class _StateDictReader(pickle._Unpickler):
    """Reads a PyTorch state dict: three known names become plain tuples, any other name is refused.

    The unpickler that is written in Python: one damaged byte can make the one in C take all memory.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *rest: (storage, offset, size, stride)
        if module == "torch" and name in ("FloatStorage", "LongStorage"):
            return name
        raise ModelError(f"the weights file asks for {module}.{name}, which a state dict has no need of")

    def persistent_load(self, pid: Any) -> Any:
        return pid


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch state dict in its older file layout (before 1.6), by name.

    Raises ModelError when the file is not one or asks for anything but tensors.
    """
    types: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
    try:
        with path.open("rb") as file:
            magic, _, _, tensors, keys = (_StateDictReader(file).load() for _ in range(5))
            if magic != 0x1950A86A20F9469CFC6C:
                raise ModelError(f"{path}: not a PyTorch state dict")
            kinds: dict[str, np.dtype[Any]] = {storage[2]: types[storage[1]] for storage, *_ in tensors.values()}
            storages = {}
            for key in keys:
                count = int(np.frombuffer(file.read(8), "<i8")[0])
                size = count * kinds[key].itemsize
                if not 0 <= size <= path.stat().st_size:
                    raise ValueError(f"storage {key} is said to have {count} values")
                storages[key] = np.frombuffer(file.read(size), kinds[key], count)
        return {
            name: _view(storages[storage[2]], offset, size, stride)
            for name, (storage, offset, size, stride) in tensors.items()
        }
    except ModelError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise ModelError(f"{path}: not a readable PyTorch state dict ({error})") from error


def _view(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> np.ndarray:
    """The tensor that lies in a storage from `offset` on. Raises ValueError when it does not lie in it wholly."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or max(last, math.prod(size) - 1) >= len(storage):
        raise ValueError(f"a tensor of shape {tuple(size)} does not fit its {len(storage)} values")
    return np.lib.stride_tricks.as_strided(storage[offset:], size, [s * storage.itemsize for s in stride]).copy()


def efficientnet_lite_weights(tensors: dict[str, np.ndarray], num_blocks: int) -> Iterable[list[np.ndarray]]:
    """The tensors of an ImageNet EfficientNet-Lite, convolution by convolution in the order of the network.

    Each is [kernel (k, k, in, out), gamma, beta, mean, variance]; a depthwise kernel is (k, k, channels, 1).
    """

    def convolution(kernel: str, norm: str) -> list[np.ndarray]:
        weights = tensors[f"{kernel}.weight"]  # (out, in, k, k), depthwise (channels, 1, k, k)
        axes = (2, 3, 0, 1) if "depthwise" in kernel else (2, 3, 1, 0)
        names = ("weight", "bias", "running_mean", "running_var")
        return [weights.transpose(axes), *(tensors[f"{norm}.{name}"] for name in names)]

    yield convolution("_conv_stem", "_bn0")
    for i in range(num_blocks):
        if f"_blocks.{i}._expand_conv.weight" in tensors:
            yield convolution(f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
        yield convolution(f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
        yield convolution(f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")


def load_imagenet(backbone: EfficientNetLite, path: Path) -> None:
    """Fill the lite backbone from the ImageNet state dict at `path`. Raises ModelError when a tensor does not fit."""
    tensors = read_state_dict(path)
    try:
        sources = list(efficientnet_lite_weights(tensors, sum(len(blocks) for blocks in backbone.stages)))
    except KeyError as error:
        raise ModelError(f"{path}: tensor {error} of {backbone.kind} is missing") from error
    except ValueError as error:
        raise ModelError(f"{path}: not the tensors of {backbone.kind} ({error})") from error
    if len(sources) != len(backbone.convolutions):
        raise ModelError(f"{path}: expected {len(backbone.convolutions)} convolutions, found {len(sources)}")
    for convolution, values in zip(backbone.convolutions, sources, strict=True):
        variables = [convolution.kernel, convolution.gamma, convolution.beta, convolution.mean, convolution.variance]
        for variable, value in zip(variables, values, strict=True):
            if tuple(variable.shape) != value.shape:
                raise ModelError(f"{path}: {variable.path}: expected shape {tuple(variable.shape)}, got {value.shape}")
            variable.assign(value)
