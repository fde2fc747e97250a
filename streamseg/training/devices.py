"""All GPUs of a machine in one training: every batch is split among them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def all_devices() -> Iterator[int]:
    """Within it, a model is made for all GPUs at once (without a GPU, for all devices that the CPU is split into).

    Yields their number. With one device nothing changes.
    """
    backend = keras.backend.backend()
    names = keras.distribution.list_devices() if backend in ("jax", "tensorflow") else []
    if len(names) < 2:
        yield 1
    elif backend == "jax":
        before = keras.distribution.distribution()
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names))
        try:
            yield len(names)
        finally:
            keras.distribution.set_distribution(before)
    else:
        import tensorflow as tf

        with tf.distribute.MirroredStrategy(names).scope():
            yield len(names)
