"""The environment of a process that has Keras compute on JAX."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

FAST = "--xla_llvm_disable_expensive_passes=true"
"""What computes for a minute need be fast code, but not the fastest."""

QUICK = f"--xla_backend_optimization_level=0 {FAST}"
"""What tests compute takes XLA ten times as long to compile as to run: it need not become fast code."""


def on_jax(**changes: str) -> dict[str, str]:
    """This process's environment for JAX on the CPU, where a small graph is compiled quickly and runs slowly."""
    return {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK, **changes}


def draw_by_numpy() -> None:
    """In a process on JAX: what is drawn outside of a graph, such as weights to begin with, comes from numpy.

    JAX compiles a program for each shape of them, which takes ten seconds for the weights of a network.
    """
    import jax

    def drawn_by(theirs: Any, ours: Any) -> Any:
        def draw(key: Any, **options: Any) -> Any:
            if isinstance(key, jax.core.Tracer):
                return theirs(key, **options)
            return ours(np.random.default_rng(np.asarray(key).ravel()), **options).astype(np.float32)

        return draw

    for name, ours in {
        "normal": lambda rng, shape, dtype: rng.normal(size=shape),
        "truncated_normal": lambda rng, shape, dtype, lower, upper: rng.normal(size=shape).clip(lower, upper),
        "uniform": lambda rng, shape, dtype, minval, maxval: rng.uniform(minval, maxval, shape),
    }.items():
        setattr(jax.random, name, drawn_by(getattr(jax.random, name), ours))
