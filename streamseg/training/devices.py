"""All GPUs of a machine in one training: every batch is split among them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


def device_names() -> list[str]:
    """All GPUs of this machine; without one, the devices that its CPU is split into. None on another backend."""
    return list(keras.distribution.list_devices()) if keras.backend.backend() in ("jax", "tensorflow") else []


@contextlib.contextmanager
def all_devices(most: int | None = None) -> Iterator[int]:
    """Within it, a model is made for all of `device_names` at once, or for the first `most` of them.

    Yields their number. With one device nothing changes.
    """
    names = device_names()[:most]
    if len(names) < 2:
        yield 1
    elif keras.backend.backend() == "jax":
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
