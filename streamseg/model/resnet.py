"""ResNet-50 and ResNet-101, the backbones of the matterport and torchvision families (He et al., 2016)."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any, Literal

import keras
from keras import ops

from streamseg.model.layers import MATTERPORT_START as START
from streamseg.model.layers import Convolution

Tensor = Any

STAGES = {2: (64, 256), 3: (128, 512), 4: (256, 1024), 5: (512, 2048)}
"""Channels inside a block and at its end, a stage."""

NUM_BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
"""Blocks of the stages 2 to 5."""


class Bottleneck(keras.layers.Layer):
    """Features (B, h, w, in) → (B, h/s, w/s, out): 1×1, 3×3, 1×1, and the input added.

    stride_at: which convolution has the stride, the first 1×1 or the 3×3. `place` ("3b") is in the names of its layers:
    res3b_branch2a and bn3b_branch2a, the norm inside the convolution.
    """

    def __init__(
        self,
        inner: int,
        outputs: int,
        *,
        place: str,
        strides: int,
        project: bool,
        trains_norm: bool,
        stride_at: Literal[1, 3] = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.inner, self.outputs, self.place, self.stride_at = inner, outputs, place, stride_at
        self.strides, self.project, self.trains_norm = strides, project, trains_norm

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        def convolution(branch: str, filters: int, size: int, **options: Any) -> Convolution:
            name = f"{self.place}_branch{branch}"
            return Convolution(
                filters,
                size,
                norm=True,
                norm_name=f"bn{name}",
                trains_norm=self.trains_norm,
                kernel_initializer=START,
                name=f"res{name}",
                **options,
            )

        first, middle = (self.strides, 1) if self.stride_at == 1 else (1, self.strides)
        self.reduce = convolution("2a", self.inner, 1, strides=first, activation="relu")
        # with a stride, `same` would pad an even map on one side alone
        padding: Literal["same"] | int = "same" if middle == 1 else 1
        self.filter = convolution("2b", self.inner, 3, strides=middle, padding=padding, activation="relu")
        self.expand = convolution("2c", self.outputs, 1)
        self.shortcut = convolution("1", self.outputs, 1, strides=self.strides) if self.project else None
        self.reduce.build(input_shape)
        self.filter.build((None, None, None, self.inner))
        self.expand.build((None, None, None, self.inner))
        if self.shortcut is not None:
            self.shortcut.build(input_shape)

    @property
    def convolutions(self) -> list[Convolution]:
        parts = (self.reduce, self.filter, self.expand, self.shortcut)
        return [part for part in parts if part is not None]

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        y = self.reduce(x, training=training)
        y = self.filter(y, training=training)
        y = self.expand(y, training=training)
        return ops.relu(y + (x if self.shortcut is None else self.shortcut(x, training=training)))


class ResNet(keras.layers.Layer):
    """Pictures (B, H, W, 3), RGB less the mean → features [C2, C3, C4, C5] with strides 4 to 32.

    kind: `resnet50` or `resnet101` · trains_norm: batch norms follow the batch while training · stride_at: see
    `Bottleneck` · even_pool: the pool after the stem is padded by a cell on each side, not as TensorFlow pads.
    """

    def __init__(
        self,
        kind: str,
        *,
        trains_norm: bool = False,
        stride_at: Literal[1, 3] = 1,
        even_pool: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kind, self.trains_norm = kind, trains_norm
        self.stride_at, self.even_pool = stride_at, even_pool
        self.channels = [outputs for _, outputs in STAGES.values()]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.stem = Convolution(
            64,
            7,
            strides=2,
            padding=3,
            norm=True,
            norm_name="bn_conv1",
            trains_norm=self.trains_norm,
            activation="relu",
            kernel_initializer=START,
            name="conv1",
        )
        self.stem.build(input_shape)
        channels = 64
        self.stages: list[list[Bottleneck]] = []
        for (stage, (inner, outputs)), count in zip(STAGES.items(), NUM_BLOCKS[self.kind], strict=True):
            blocks = []
            for letter in string.ascii_lowercase[:count]:
                block = Bottleneck(
                    inner,
                    outputs,
                    place=f"{stage}{letter}",
                    strides=2 if letter == "a" and stage > 2 else 1,
                    project=letter == "a",
                    trains_norm=self.trains_norm,
                    stride_at=self.stride_at,
                    name=f"res{stage}{letter}",
                )
                block.build((None, None, None, channels))
                channels = outputs
                blocks.append(block)
            self.stages.append(blocks)

    @property
    def convolutions(self) -> list[Convolution]:
        """Every convolution, the stem first."""
        return [self.stem, *(part for blocks in self.stages for block in blocks for part in block.convolutions)]

    def pooled_stem(self, images: Tensor, training: bool = False) -> Tensor:
        """C1 (B, H/4, W/4, 64)."""
        x = self.stem(images, training=training)
        if self.even_pool:  # nothing is below 0 behind the activation, so zeros pad as nothing would
            return ops.max_pool(ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, strides=2, padding="valid")
        return ops.max_pool(x, 3, strides=2, padding="same")

    def call(self, images: Tensor, training: bool = False) -> list[Tensor]:
        return list(self.walk(images, training=training))[1:]

    def walk(self, images: Tensor, training: bool = False) -> Iterator[Tensor]:
        """C1 … C5, one after the other."""
        x = self.pooled_stem(images, training=training)
        yield x
        for blocks in self.stages:
            for block in blocks:
                x = block(x, training=training)
            yield x
