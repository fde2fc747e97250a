"""Weights files as PyTorch, safetensors and detectron2 write them, written without any of them; and hostile ones."""

from __future__ import annotations

import collections
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = {"f4": ("FloatStorage", "F32"), "f2": ("HalfStorage", "F16"), "i8": ("LongStorage", "I64")}


class Named:
    """Pickled as the global `module.name`."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Pickled as a call of a global."""

    def __init__(self, function: Named, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


class _Storage:
    def __init__(self, kind: str, key: str, count: int) -> None:
        self.id = ("storage", Named("torch", kind), key, "cpu", count, None)


class _Pickler(pickle._Pickler):
    """Writes what PyTorch would write, without PyTorch."""

    def persistent_id(self, value: Any) -> Any:
        return value.id if isinstance(value, _Storage) else None

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, Named):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(b"R")
        else:
            super().save(value, save_persistent_id)


def pickled(value: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, 2).dump(value)
    return file.getvalue()


def tensor(kind: str, key: str, count: int, *, offset: Any = 0, size: Any = (2, 3), stride: Any = (3, 1)) -> Call:
    rebuild = Named("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, _Storage(kind, key, count), offset, size, stride, False, collections.OrderedDict())


def whole(key: str, value: np.ndarray) -> Call:
    """A tensor that is all of its storage."""
    kind = KINDS[value.dtype.str[1:]][0]
    stride = tuple(step // value.itemsize for step in value.strides)
    return tensor(kind, key, value.size, size=value.shape, stride=stride)


def state_dict(tensors: Any, storages: Mapping[str, np.ndarray]) -> bytes:
    """The layout before 1.6."""
    parts = [MAGIC, 1001, {"little_endian": True}, tensors, sorted(storages)]
    body = b"".join(pickled(part) for part in parts)
    return body + b"".join(struct.pack("<q", storages[key].size) + storages[key].tobytes() for key in sorted(storages))


def zipped(tensors: Any, storages: Mapping[str, np.ndarray], *, packed: bool = False) -> bytes:
    """The layout since 1.6."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("model/data.pkl", pickled(tensors))
        archive.writestr("model/byteorder", "little")
        for key, values in storages.items():
            archive.writestr(f"model/data/{key}", values.tobytes())
    return file.getvalue()


def safetensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, value in tensors.items():
        start, end = end, end + value.nbytes
        dtype = KINDS[value.dtype.str[1:]][1]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(value.tobytes() for value in tensors.values())


def write(path: Path, tensors: Mapping[str, np.ndarray], *, older: bool = False) -> Path:
    """Tensors in the layout that the file's ending says; a `.pth` as before 1.6 where asked."""
    if path.suffix == ".safetensors":
        content = safetensors(tensors)
    elif path.suffix == ".pkl":
        content = pickle.dumps({"model": dict(tensors), "__author__": "somebody"}, protocol=2)
    else:
        keys = {name: str(i) for i, name in enumerate(tensors)}
        described = collections.OrderedDict((name, whole(keys[name], value)) for name, value in tensors.items())
        lay_out = state_dict if older else zipped
        content = lay_out(described, {keys[name]: value for name, value in tensors.items()})
    path.write_bytes(content)
    return path
