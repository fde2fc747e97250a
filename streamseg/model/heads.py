"""The heads: what a proposal is, where exactly it is, and which of its pixels belong to it.

Legend: R boxes over all pictures, n cells a side, C channels, K classes.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from streamseg.model.layers import MATTERPORT_START, XY_FROM_YX, Convolution, DoublingConvolution

Tensor = Any


class BoxHead(keras.layers.Layer):
    """Pooled features (R, n, n, C) → class logits (R, K) and deltas (R, K, 4).

    num_convolutions: of 3×3 with C channels, before num_layers dense ones, 1 or 2 · norm: they are normed; trains_norm
    as of `Convolution`.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_classes: int,
        num_convolutions: int = 0,
        num_layers: int = 2,
        norm: bool = False,
        trains_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels, self.num_classes = channels, num_classes
        self.num_convolutions, self.num_layers = num_convolutions, num_layers
        self.norm, self.trains_norm = norm, trains_norm

    def build(self, input_shape: tuple[Any, ...]) -> None:
        _, rows, columns, inputs = input_shape
        self.flat = rows * columns * inputs
        options: dict[str, Any] = {"norm": self.norm, "trains_norm": self.trains_norm, "use_bias": not self.norm}
        self.convolutions = [
            Convolution(inputs, 3, activation="relu", name=f"conv{i}", **options) for i in range(self.num_convolutions)
        ]
        for convolution in self.convolutions:
            convolution.build(input_shape)
        self.first = keras.layers.Dense(self.channels, activation="relu", name="first")
        self.second = None
        if self.num_layers == 2:
            self.second = keras.layers.Dense(self.channels, activation="relu", name="second")
        self.logits = keras.layers.Dense(
            self.num_classes, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01), name="logits"
        )
        self.deltas = keras.layers.Dense(
            4 * self.num_classes, kernel_initializer=keras.initializers.RandomNormal(stddev=0.001), name="deltas"
        )
        self.first.build((None, self.flat))
        for dense in (self.second, self.logits, self.deltas):
            if dense is not None:
                dense.build((None, self.channels))

    def call(self, pooled: Tensor, training: bool = False) -> tuple[Tensor, Tensor]:
        for convolution in self.convolutions:
            pooled = convolution(pooled, training=training)
        x = self.first(ops.reshape(pooled, (-1, self.flat)))
        if self.second is not None:
            x = self.second(x)
        deltas = ops.reshape(self.deltas(x), (-1, self.num_classes, 4))
        return ops.cast(self.logits(x), "float32"), ops.cast(deltas, "float32")


class MatterportBoxHead(keras.layers.Layer):
    """Pooled features (R, n, n, C) → class logits (R, K) and deltas (R, K, 4), two normed layers before them.

    The deltas come as dx, dy, log dw, log dh; its weights hold them as the original's dy, dx, log dh, log dw.
    """

    def __init__(self, channels: int, *, num_classes: int, trains_norm: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels, self.num_classes, self.trains_norm = channels, num_classes, trains_norm

    def build(self, input_shape: tuple[Any, ...]) -> None:
        def layer(i: int, size: int) -> Convolution:
            return Convolution(
                self.channels,
                size,
                padding=0,
                norm=True,
                norm_name=f"mrcnn_class_bn{i}",
                trains_norm=self.trains_norm,
                activation="relu",
                kernel_initializer=MATTERPORT_START,
                name=f"mrcnn_class_conv{i}",
            )

        self.first, self.second = layer(1, input_shape[1]), layer(2, 1)
        self.logits = keras.layers.Dense(self.num_classes, name="mrcnn_class_logits")
        self.deltas = keras.layers.Dense(4 * self.num_classes, name="mrcnn_bbox_fc")
        self.first.build(input_shape)
        self.second.build((None, 1, 1, self.channels))
        self.logits.build((None, self.channels))
        self.deltas.build((None, self.channels))

    def shared(self, pooled: Tensor, training: bool = False) -> Tensor:
        """The vector (R, F) that class and box are read from."""
        x = self.second(self.first(pooled, training=training), training=training)
        return ops.reshape(x, (-1, self.channels))

    def call(self, pooled: Tensor, training: bool = False) -> tuple[Tensor, Tensor]:
        x = self.shared(pooled, training=training)
        deltas = ops.take(ops.reshape(self.deltas(x), (-1, self.num_classes, 4)), np.array(XY_FROM_YX), axis=-1)
        return ops.cast(self.logits(x), "float32"), ops.cast(deltas, "float32")


class MaskHead(keras.layers.Layer):
    """Pooled features (R, n, n, C) → mask logits (R, 2n, 2n, K).

    norm: each convolution is normed · original: the layers are called, and begin, as in matterport/Mask_RCNN.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_layers: int,
        num_classes: int,
        norm: bool = False,
        trains_norm: bool = False,
        original: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels, self.num_layers, self.num_classes = channels, num_layers, num_classes
        self.norm, self.trains_norm, self.original = norm, trains_norm, original

    def build(self, input_shape: tuple[Any, ...]) -> None:
        self.convolutions = [
            Convolution(
                self.channels,
                3,
                norm=self.norm,
                norm_name=f"mrcnn_mask_bn{i + 1}" if self.original else None,
                trains_norm=self.trains_norm,
                activation="relu",
                use_bias=self.original or not self.norm,
                kernel_initializer=MATTERPORT_START if self.original else "he_normal",
                name=f"mrcnn_mask_conv{i + 1}" if self.original else f"conv{i}",
            )
            for i in range(self.num_layers)
        ]
        shape: tuple[int | None, ...] = input_shape
        for convolution in self.convolutions:
            convolution.build(shape)
            shape = (*shape[:-1], self.channels)
        self.up = DoublingConvolution(
            self.channels, activation="relu", name="mrcnn_mask_deconv" if self.original else "up"
        )
        self.up.build(shape)
        self.logits = Convolution(
            self.num_classes,
            1,
            kernel_initializer=MATTERPORT_START if self.original else keras.initializers.RandomNormal(stddev=0.01),
            name="mrcnn_mask" if self.original else "logits",
        )
        self.logits.build(shape)

    def call(self, pooled: Tensor, training: bool = False) -> Tensor:
        x = pooled
        for convolution in self.convolutions:
            x = convolution(x, training=training)
        return ops.cast(self.logits(self.up(x)), "float32")
