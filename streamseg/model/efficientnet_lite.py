"""EfficientNet-Lite 0 to 2: backbones that are real time on a CPU (Liu, 2020; no squeeze-and-excite, ReLU6).

Legend: B pictures, h, w cells, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import keras

from streamseg.model.layers import Convolution

Tensor = Any

WIDTH_AND_DEPTH = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
"""By what the channels and the repeats of Lite0 are multiplied; the stem, and how often the first and the last stage
are repeated, stay."""

STAGES = (
    # kernel, stride, expansion, output channels, repeats; of Lite0
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
PYRAMID_STAGES = (1, 2, 4, 6)
"""The stages whose outputs have strides 4, 8, 16 and 32: C2 to C5."""


def stages_of(kind: str) -> tuple[tuple[int, int, int, int, int], ...]:
    """The stages of a kind of EfficientNet-Lite, as in `STAGES`."""
    width, depth = WIDTH_AND_DEPTH[kind]
    ends = (0, len(STAGES) - 1)
    return tuple(
        (kernel, stride, expansion, _rounded(channels * width), repeats if i in ends else math.ceil(repeats * depth))
        for i, (kernel, stride, expansion, channels, repeats) in enumerate(STAGES)
    )


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, but never a tenth too few."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class InvertedResidual(keras.layers.Layer):
    """Expand by a 1×1, filter each channel, project back: (B, h, w, in) → (B, h/s, w/s, channels)."""

    def __init__(self, kernel_size: int, strides: int, expansion: int, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_size, self.strides, self.expansion, self.channels = kernel_size, strides, expansion, channels

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        inputs = input_shape[-1]
        assert inputs is not None
        self.shortcut = self.strides == 1 and inputs == self.channels
        self.expand = None
        if self.expansion != 1:
            self.expand = Convolution(
                inputs * self.expansion, 1, norm=True, activation="relu6", use_bias=False, name="expand"
            )
        self.filter = Convolution(
            None,
            self.kernel_size,
            strides=self.strides,
            depthwise=True,
            norm=True,
            activation="relu6",
            use_bias=False,
            name="filter",
        )
        self.project = Convolution(self.channels, 1, norm=True, use_bias=False, name="project")
        shape = input_shape
        for part in self.parts:
            part.build(shape)
            shape = (*shape[:-1], part.filters or shape[-1])

    @property
    def parts(self) -> list[Convolution]:
        """Its convolutions in order."""
        return [part for part in (self.expand, self.filter, self.project) if part is not None]

    def call(self, x: Tensor) -> Tensor:
        y = x
        for part in self.parts:
            y = part(y)
        return x + y if self.shortcut else y


class EfficientNetLite(keras.layers.Layer):
    """Pictures (B, H, W, 3) of RGB 0…255 → features [C2, C3, C4, C5] with strides 4 to 32.

    kind: one of `WIDTH_AND_DEPTH` · frozen_stages: keeps the stem (1) and that many further stages less one from being
    trained · train_depthwise: False: the depthwise kernels keep their values too; on a CPU their gradients cost more
    than all others
    """

    def __init__(
        self,
        kind: str = "efficientnet_lite0",
        *,
        frozen_stages: int = 0,
        train_depthwise: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kind = kind
        self.frozen_stages, self.train_depthwise = frozen_stages, train_depthwise

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.stem = Convolution(32, 3, strides=2, norm=True, activation="relu6", use_bias=False, name="stem")
        self.stem.build(input_shape)
        self.stem.trainable = self.frozen_stages < 1
        channels = 32
        self.stages: list[list[InvertedResidual]] = []
        for s, (kernel_size, strides, expansion, outputs, repeats) in enumerate(stages_of(self.kind)):
            blocks = []
            for r in range(repeats):
                block = InvertedResidual(
                    kernel_size, strides if r == 0 else 1, expansion, outputs, name=f"stage{s}_block{r}"
                )
                block.build((None, None, None, channels))
                block.trainable = self.frozen_stages < s + 2
                channels = outputs
                blocks.append(block)
            self.stages.append(blocks)
        # a norm trained on batches of a few pictures would only get worse
        for convolution in self.convolutions:
            convolution.gamma.trainable = convolution.beta.trainable = False
            if convolution.depthwise and not self.train_depthwise:
                convolution.kernel.trainable = False

    @property
    def channels(self) -> list[int]:
        """Channels of C2 … C5; known once built."""
        return [self.stages[s][-1].channels for s in PYRAMID_STAGES]

    @property
    def convolutions(self) -> list[Convolution]:
        """Every convolution in order, the stem first."""
        return [self.stem] + [part for blocks in self.stages for block in blocks for part in block.parts]

    def call(self, images: Tensor, training: bool = False) -> list[Tensor]:
        x = self.stem((images - 127.0) * (1 / 128.0))
        features = []
        for s, blocks in enumerate(self.stages):
            for block in blocks:
                x = block(x)
            if s in PYRAMID_STAGES:
                features.append(x)
        return features
