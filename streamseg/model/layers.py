"""The convolutions that every part of the model is made of."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

Tensor = Any

NORM_MOMENTUM = 0.99
"""How much of a norm's statistics stays with each batch it follows."""

EPSILON = 1e-3
"""What a norm adds to the variance."""

MATTERPORT_START = "glorot_uniform"
"""How the kernels of the Matterport family begin, as all of the original's do. While the norms stand still, larger ones
make every block of a ResNet louder than the last, until there are no numbers for it."""

XY_FROM_YX = (1, 0, 3, 2)
"""Where x, y, w, h stand in matterport/Mask_RCNN's y, x, h, w."""

_to_be_filled = ContextVar("_to_be_filled", default=False)


@contextlib.contextmanager
def to_be_filled() -> Iterator[None]:
    """Kernels made within are zeros, for weights that a file brings: to draw them takes JAX seconds."""
    token = _to_be_filled.set(True)
    try:
        yield
    finally:
        _to_be_filled.reset(token)


def filled_with(value: float) -> Callable[..., np.ndarray]:
    """An initializer by numpy: for each shape of Keras' own, JAX compiles a program."""
    return lambda shape, dtype=None: np.full(shape, value, "float32")


class Convolution(keras.layers.Layer):
    """A convolution, its batch norm with fixed statistics, and an activation: (B, h, w, in) → (B, h/s, w/s, filters).

    The norm is folded into the kernel as the graph is built, so it costs nothing at run time; gamma and beta can still
    be trained. With `trains_norm` it follows the statistics of the batch while training, as batch norms usually do.
    `depthwise` gives each channel its own kernel. `padding`: `same` as TensorFlow pads, or a number of cells on each
    side. `norm_name`: what its norm is called where layers are chosen by name; its own name by default.
    `trained_on_cpu` trades a dearer forward pass of strided depthwise convolutions for a gradient that oneDNN computes
    ten times faster.
    """

    def __init__(
        self,
        filters: int | None,
        kernel_size: int,
        *,
        strides: int = 1,
        padding: Literal["same"] | int = "same",
        depthwise: bool = False,
        norm: bool = False,
        norm_name: str | None = None,
        trains_norm: bool = False,
        activation: str | None = None,
        use_bias: bool = True,
        bias_start: float = 0.0,
        epsilon: float = EPSILON,
        kernel_initializer: Any = "he_normal",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.depthwise = depthwise
        self.padding = padding
        self.norm = norm
        self.norm_name = norm_name or self.name
        self.trains_norm = trains_norm
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.bias_start = bias_start
        self.epsilon = epsilon
        self.trained_on_cpu = False
        self.kernel_initializer = kernel_initializer

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[-1]
        assert channels is not None
        outputs = channels if self.depthwise else self.filters
        last = 1 if self.depthwise else outputs
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels, last),
            initializer=filled_with(0.0) if _to_be_filled.get() else self.kernel_initializer,
        )
        zeros, ones = filled_with(0.0), filled_with(1.0)
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(outputs,), initializer=filled_with(self.bias_start))
        if self.norm:
            self.gamma = self.add_weight(name="gamma", shape=(outputs,), initializer=ones)
            self.beta = self.add_weight(name="beta", shape=(outputs,), initializer=zeros)
            self.mean = self.add_weight(name="moving_mean", shape=(outputs,), initializer=zeros, trainable=False)
            self.variance = self.add_weight(name="moving_variance", shape=(outputs,), initializer=ones, trainable=False)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        kernel = ops.convert_to_tensor(self.kernel)
        bias = ops.convert_to_tensor(self.bias) if self.use_bias else None
        follows_batch = self.norm and self.trains_norm and training
        if self.norm and not follows_batch:
            scale = self.gamma * ops.rsqrt(self.variance + self.epsilon)
            kernel = kernel * (ops.reshape(scale, (-1, 1)) if self.depthwise else scale)
            bias = self.beta + ((0.0 if bias is None else bias) - self.mean) * scale
        x = self._convolve(x, ops.cast(kernel, x.dtype))
        if bias is not None:
            x = x + ops.cast(bias, x.dtype)
        return self.activation(self._normalise(x) if follows_batch else x)

    def _convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        padding: str = "same"
        if isinstance(self.padding, int):
            side = (self.padding, self.padding)
            x, padding = ops.pad(x, ((0, 0), side, side, (0, 0))) if self.padding else x, "valid"
        if self.depthwise and self.strides == 2 and self.trained_on_cpu:
            # the same numbers: on an even size, `same` padding at stride 2 takes every second cell from the second on
            return ops.depthwise_conv(x, kernel, strides=1, padding="same")[:, 1::2, 1::2]
        if padding == "valid" and tuple(x.shape[1:3]) == (self.kernel_size,) * 2 and not self.depthwise:
            # one output cell: a plain matrix product, which is faster
            flat = ops.matmul(ops.reshape(x, (-1, math.prod(x.shape[1:]))), ops.reshape(kernel, (-1, kernel.shape[-1])))
            return flat[:, None, None]
        convolve = ops.depthwise_conv if self.depthwise else ops.conv
        return convolve(x, kernel, strides=self.strides, padding=padding)

    def _normalise(self, x: Tensor) -> Tensor:
        """Normed by the batch's own statistics, which move the fixed ones."""
        x32 = ops.cast(x, "float32")
        mean, variance = ops.moments(x32, axes=(0, 1, 2))
        for fixed, value in ((self.mean, mean), (self.variance, variance)):
            fixed.assign(NORM_MOMENTUM * fixed + (1 - NORM_MOMENTUM) * value)
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return ops.cast((x32 - mean) * scale + self.beta, x.dtype)


class DoublingConvolution(keras.layers.Conv2DTranspose):
    """A transposed convolution that makes 2×2 cells of each: (R, h, w, in) → (R, 2h, 2w, filters).

    On JAX it is a matrix product for each of the four, with the same numbers: the gradient of a transposed convolution
    takes a CPU twenty times as long there, and with it the whole step three times.
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(filters, 2, strides=2, **kwargs)

    def call(self, inputs: Tensor) -> Tensor:
        if keras.backend.backend() != "jax":
            return super().call(inputs)
        quarters = ops.einsum("rhwi,abfi->rhawbf", inputs, self.kernel)
        height, width = inputs.shape[1:3]
        return self.activation(ops.reshape(quarters, (-1, 2 * height, 2 * width, self.filters)) + self.bias)


def upsample(x: Tensor) -> Tensor:
    """Each cell repeated 2×2: (B, h, w, C) → (B, 2h, 2w, C)."""
    return ops.image.resize(x, (2 * x.shape[1], 2 * x.shape[2]), interpolation="nearest", data_format="channels_last")
