"""Tensors out of the files of PyTorch, detectron2 and safetensors: nothing in a file is ever executed."""

from __future__ import annotations

import collections
import io
import json
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from streamseg.types import ModelError
from streamseg.zoo import TORCH_ENDINGS

Tensors = dict[str, np.ndarray]
"""The tensors of a file by name; bfloat16 as float32."""

MAGIC = 0x1950A86A20F9469CFC6C
"""With which PyTorch's older layout begins."""

MOST_NAMES = 1 << 26
"""Bytes of names and shapes beside the tensors: hundreds of times more than any model has."""

NESTED = ("model", "state_dict")
"""Where a training puts a model's tensors beside its own state."""

STORAGES: Mapping[str, str] = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "DoubleStorage": "<f8",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
SAFETENSORS: Mapping[str, str] = {
    "F32": "<f4",
    "F16": "<f2",
    "F64": "<f8",
    "BF16": "bfloat16",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "|u1",
    "BOOL": "|b1",
}


def is_torch_file(path: Path) -> bool:
    """Whether a file is called as those are that `read_torch_file` reads."""
    return path.suffix in TORCH_ENDINGS


def read_torch_file(path: Path) -> Tensors:
    """The tensors of a file by name: of PyTorch (a zip, or the layout before 1.6), safetensors, or pickled arrays.

    Raises ModelError when it is none of these, is damaged, or asks for anything but tensors.
    """
    if path.suffix == ".safetensors":
        return _guarded(path, "a readable safetensors file", _read_safetensors)
    if path.suffix == ".pkl":
        return _guarded(path, "readable weights of detectron2", _read_pickled_arrays)
    return read_state_dict(path)


def read_state_dict(path: Path) -> Tensors:
    """The tensors of a PyTorch state dict, by name: a zip, or the older layout (before 1.6).

    Raises ModelError when the file is not one or asks for anything but tensors.
    """

    def read(file: BinaryIO) -> Tensors:
        zipped = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        return _read_zip(file) if zipped else _read_legacy(file)

    return _guarded(path, "a readable PyTorch state dict", read)


def _guarded(path: Path, what: str, read: Callable[[BinaryIO], Tensors]) -> Tensors:
    """What `read` makes of a file; whatever it raises becomes a ModelError."""
    try:
        with path.open("rb") as file:
            tensors = read(file)
        if not tensors:
            raise ValueError("there is no tensor in it")
        return tensors
    except _Asks as error:
        raise ModelError(f"{path}: it asks for {error}, which weights have no need of; nothing was executed") from None
    except Exception as error:  # a damaged pickle may raise anything
        raise ModelError(f"{path}: not {what} ({error})") from error


# --- pickles ----------------------------------------------------------------------------------------------------------


class _Asks(Exception):
    """A pickle asks for something that is not in its reader's table."""


class _Tensor(NamedTuple):
    """A tensor as a pickle describes it: where in which storage it lies."""

    storage: tuple[Any, ...]
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Array:
    """A numpy array as a pickle describes it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.kind, self.fortran, self.raw = state

    def value(self) -> np.ndarray:
        """Raises ValueError when shape, kind and content do not fit."""
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else bytes(self.raw)
        dtype = self.kind.dtype()
        if len(raw) != math.prod(self.shape) * dtype.itemsize:
            raise ValueError(f"an array of shape {tuple(self.shape)} does not fit its {len(raw)} bytes")
        return np.frombuffer(raw, dtype).reshape(self.shape, order="F" if self.fortran else "C")


class _Kind:
    """A numpy dtype as a pickle describes it: `f4`, and its byte order."""

    order = "<"

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        if not re.fullmatch(r"[fiu][1248]|b1", self.code) or self.order not in ("<", ">", "|", "="):
            raise ValueError(f"an array of the kind {self.code!r}")
        return np.dtype(self.order + self.code)


def _from_buffer(raw: Any, kind: _Kind, shape: tuple[int, ...], order: str, *_: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", raw))
    return array


def _as_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes in {encoding!r}")
    return text.encode("latin1")


_OF_TORCH: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, stride, *_: _Tensor(
        storage, offset, size, stride
    ),
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    **{("torch", name): name for name in STORAGES},
}
_OF_NUMPY: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _as_bytes,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _Array() for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}
"""What a pickle may ask for, and what it gets: names of its own world become descriptions, which do nothing."""


class _Reader(pickle._Unpickler):
    """Reads a pickle with nothing but a table of names; any other name is refused.

    The unpickler that is written in Python: one damaged byte can make the one in C take all memory.
    """

    def __init__(self, file: BinaryIO, table: Mapping[tuple[str, str], Any]) -> None:
        super().__init__(file, encoding="latin1")  # as Python 2 wrote bytes
        self.table = table
        self.kinds: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.table[module, name]
        except KeyError:
            raise _Asks(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        self.kinds[pid[2]] = pid[1]
        return pid


def _tensors_in(top: Any, kind: type) -> dict[str, Any]:
    """The tensors of a state dict, or of one that lies in a checkpoint of a training."""
    for key in NESTED:
        if isinstance(top, dict) and isinstance(top.get(key), dict):
            top = top[key]
    if not isinstance(top, dict):
        raise ValueError("it holds no tensors by name")
    return {str(name): value for name, value in top.items() if isinstance(value, kind)}


def _read_legacy(file: BinaryIO) -> Tensors:
    size_of_file = file.seek(0, 2)
    file.seek(0)
    magic, _, _ = (_Reader(file, _OF_TORCH).load() for _ in range(3))
    if magic != MAGIC:
        raise ValueError("it does not begin as one")
    reader = _Reader(file, _OF_TORCH)
    tensors = _tensors_in(reader.load(), _Tensor)
    storages: dict[str, np.ndarray] = {}
    for key in _Reader(file, _OF_TORCH).load():
        kind = STORAGES[reader.kinds[key]]
        count = int(np.frombuffer(file.read(8), "<i8")[0])
        size = count * _item_size(kind)
        if not 0 <= size <= size_of_file:
            raise ValueError(f"storage {key} is said to have {count} values")
        raw = file.read(size)
        if len(raw) < size:
            raise ValueError(f"it ends within storage {key}")
        storages[key] = _values(raw, kind)
    return {name: _view(storages[tensor.storage[2]], tensor, name) for name, tensor in tensors.items()}


def _read_zip(file: BinaryIO) -> Tensors:
    with zipfile.ZipFile(file) as zipped:
        root = next((name for name in zipped.namelist() if name.endswith("/data.pkl")), "/data.pkl")[: -len("data.pkl")]

        def content(name: str, most: int | None = None) -> bytes:
            info = zipped.getinfo(root + name)
            if info.compress_type != zipfile.ZIP_STORED or (most is not None and info.file_size > most):
                raise ValueError(f"{name} is packed or too long")
            return zipped.read(info)

        if root + "byteorder" in zipped.namelist() and content("byteorder", 16) != b"little":
            raise ValueError("it was written on a machine with another byte order")
        reader = _Reader(io.BytesIO(content("data.pkl", MOST_NAMES)), _OF_TORCH)
        tensors = _tensors_in(reader.load(), _Tensor)
        storages: dict[str, np.ndarray] = {}
        for tensor in tensors.values():
            _, kind, key, *_ = tensor.storage
            if key not in storages:
                storages[key] = _values(content(f"data/{key}"), STORAGES[kind])
    return {name: _view(storages[tensor.storage[2]], tensor, name) for name, tensor in tensors.items()}


def _read_pickled_arrays(file: BinaryIO) -> Tensors:
    arrays = _tensors_in(_Reader(file, _OF_NUMPY).load(), _Array)
    return {name: array.value() for name, array in arrays.items()}


def _view(storage: np.ndarray, tensor: _Tensor, name: str) -> np.ndarray:
    """The tensor that lies in a storage from its offset on. Raises ValueError when it does not lie in it wholly."""
    _, offset, size, stride = tensor
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or max(last, math.prod(size) - 1) >= len(storage):
        raise ValueError(f"{name}: a tensor of shape {tuple(size)} does not fit its {len(storage)} values")
    values = np.lib.stride_tricks.as_strided(storage[offset:], size, [s * storage.itemsize for s in stride])
    return values if values.flags.c_contiguous else values.copy()


# --- safetensors ------------------------------------------------------------------------------------------------------


def _read_safetensors(file: BinaryIO) -> Tensors:
    size_of_file = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= min(MOST_NAMES, size_of_file - 8):
        raise ValueError(f"its header is said to have {length} bytes")
    header = json.loads(file.read(length))
    data = file.read()
    tensors = {}
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        kind, shape, (start, end) = SAFETENSORS[facts["dtype"]], facts["shape"], facts["data_offsets"]
        if min((start, *shape)) < 0 or end > len(data) or end - start != math.prod(shape) * _item_size(kind):
            raise ValueError(f"{name}: a tensor of shape {tuple(shape)} does not fit bytes {start} to {end}")
        tensors[name] = _values(data[start:end], kind).reshape(shape)
    return tensors


def _item_size(kind: str) -> int:
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


def _values(raw: bytes, kind: str) -> np.ndarray:
    """The values of bytes of one of the kinds; bfloat16 as float32, of which it is the first half."""
    if kind == "bfloat16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(raw, kind)
