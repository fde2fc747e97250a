"""Weights to and from files: every tensor accounted for, nothing in a file is ever executed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from streamseg.model.tensors import refused
from streamseg.model.torch_files import read_state_dict
from streamseg.types import ModelError, OutputError

if TYPE_CHECKING:
    from streamseg.model.efficientnet_lite import EfficientNetLite


UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError)
"""What h5py raises for a file that is damaged or was made to mislead."""


def weights_by_name(model: Any) -> dict[str, Any]:
    """The weights of a Keras model by their path, without the model's own name; seeds and counters are left out."""
    prefix = f"{model.name}/"
    return {variable.path.removeprefix(prefix): variable for variable in model.weights}


def save_weights(model: Any, path: Path, *, half: bool = False) -> None:
    """Write a model's weights as HDF5, one dataset a tensor; `half` stores float16."""
    with written_whole(path) as file:
        for name, variable in weights_by_name(model).items():
            value = np.asarray(variable)
            file.create_dataset(name, data=value.astype("float16") if half else value)


@contextmanager
def written_whole(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to write, which has its name once it is whole. Raises OutputError where it cannot be written."""
    part = path.with_name(f"{path.name}.part")
    try:
        with h5py.File(part, "w", locking=False) as file:
            yield file
        part.replace(path)
    except (OSError, RuntimeError) as error:  # HDF5 says some of the former as the latter
        why = str(error).strip().splitlines()
        raise OutputError(f"{path}: cannot be written ({why[0] if why else type(error).__name__})") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file of `save_weights`, by name. Raises ModelError."""
    found: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r", locking=False) as file:
            file.visititems(
                lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
    except UNREADABLE as error:
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
