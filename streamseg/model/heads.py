"""The heads: what a proposal is, where exactly it is, and which of its pixels belong to it.

Legend: R boxes over all pictures, n cells a side, C channels, K classes.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from streamseg.model.layers import Convolution

Tensor = Any


class BoxHead(keras.layers.Layer):
    """Pooled features (R, n, n, C) → class logits (R, K) and deltas (R, K, 4)."""

    def __init__(self, channels: int, *, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels, self.num_classes = channels, num_classes

    def build(self, input_shape: tuple[Any, ...]) -> None:
        _, rows, columns, inputs = input_shape
        self.flat = rows * columns * inputs
        self.first = keras.layers.Dense(self.channels, activation="relu", name="first")
        self.second = keras.layers.Dense(self.channels, activation="relu", name="second")
        self.logits = keras.layers.Dense(
            self.num_classes, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01), name="logits"
        )
        self.deltas = keras.layers.Dense(
            4 * self.num_classes, kernel_initializer=keras.initializers.RandomNormal(stddev=0.001), name="deltas"
        )
        self.first.build((None, self.flat))
        for dense in (self.second, self.logits, self.deltas):
            dense.build((None, self.channels))

    def call(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        x = self.second(self.first(ops.reshape(pooled, (-1, self.flat))))
        deltas = ops.reshape(self.deltas(x), (-1, self.num_classes, 4))
        return ops.cast(self.logits(x), "float32"), ops.cast(deltas, "float32")


class MaskHead(keras.layers.Layer):
    """Pooled features (R, n, n, C) → mask logits (R, 2n, 2n, K)."""

    def __init__(self, channels: int, *, num_layers: int, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels, self.num_layers, self.num_classes = channels, num_layers, num_classes

    def build(self, input_shape: tuple[Any, ...]) -> None:
        self.convolutions = [
            Convolution(self.channels, 3, activation="relu", name=f"conv{i}") for i in range(self.num_layers)
        ]
        shape: tuple[int | None, ...] = input_shape
        for convolution in self.convolutions:
            convolution.build(shape)
            shape = (*shape[:-1], self.channels)
        self.up = keras.layers.Conv2DTranspose(self.channels, 2, strides=2, activation="relu", name="up")
        self.up.build(shape)
        self.logits = Convolution(
            self.num_classes, 1, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01), name="logits"
        )
        self.logits.build(shape)

    def call(self, pooled: Tensor) -> Tensor:
        x = pooled
        for convolution in self.convolutions:
            x = convolution(x)
        return ops.cast(self.logits(self.up(x)), "float32")
