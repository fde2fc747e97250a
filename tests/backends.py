"""The environment of a process that has Keras compute on JAX."""

from __future__ import annotations

import os

QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""What tests compute takes XLA ten times as long to compile as to run: it need not become fast code."""


def on_jax(**changes: str) -> dict[str, str]:
    """This process's environment for JAX on the CPU, where a small graph is compiled quickly and runs slowly."""
    return {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK, **changes}
