"""Picks the engine that suits the model and the machine: Keras on a GPU, else OpenVINO; `onnx` for an ONNX file."""

from __future__ import annotations

import ctypes.util
from collections.abc import Callable, Sequence
from typing import Any

from streamseg.engines._precision import Precision
from streamseg.model_folder import InputSize
from streamseg.types import Engine, UsageError
from streamseg.zoo import is_onnx


def nvidia_driver() -> bool:
    """Whether an NVIDIA driver is installed and holds a device, asked of the driver itself (no TensorFlow needed)."""
    for name in (ctypes.util.find_library("cuda"), "libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name) if name else None
        except OSError:
            continue
        if driver is None:
            continue
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    return False


class Auto:
    """`Auto(model="people")` is a `Keras` engine where an NVIDIA GPU is, an `Openvino` engine elsewhere.

    `Auto(model="yolo.onnx")` is an `Onnx` engine.
    """

    def __new__(  # type: ignore[misc]
        cls,
        *,
        model: str = "people",
        class_names: Sequence[str] | None = None,
        batch_size: int | None = None,
        precision: Precision = "auto",
        input: InputSize = "normal",
    ) -> Engine:
        options: dict[str, Any] = {
            "model": model,
            "class_names": class_names,
            "batch_size": batch_size,
            "precision": precision,
        }
        if not is_onnx(model):
            options["input"] = input
        elif input != "normal":
            raise UsageError(f"input: {model} says itself how large its pictures are; an ONNX file has one size")
        return cls.chosen(**options)(**options)

    @staticmethod
    def chosen(*, model: str = "people", **options: Any) -> Callable[..., Engine]:
        """The class of the engine for these options, imported for it."""
        if is_onnx(model):
            from streamseg.engines.onnx import Onnx

            return Onnx
        if nvidia_driver():
            from streamseg.engines.keras import Keras

            return Keras
        from streamseg.engines.openvino import Openvino

        return Openvino
