"""Feature pyramid: every level sees the whole picture (Lin et al., 2017)."""

from __future__ import annotations

from typing import Any

import keras

from streamseg.model.layers import Convolution, upsample

Tensor = Any


class FeaturePyramid(keras.layers.Layer):
    """[C2, C3, C4, C5] → {2: P2, …, 6: P6}, each (B, h, w, channels); P6 is every second cell of P5.

    Only `smooth_levels` get the 3×3 convolution after the sum: on P2 it would cost more than all others together.
    original: its layers are called as in matterport/Mask_RCNN.
    """

    def __init__(self, channels: int, *, smooth_levels: tuple[int, ...], original: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels, self.smooth_levels, self.original = channels, smooth_levels, original

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        lateral_name, smooth_name = ("fpn_c{0}p{0}", "fpn_p{0}") if self.original else ("lateral{0}", "smooth{0}")
        self.lateral = [
            Convolution(self.channels, 1, kernel_initializer="glorot_uniform", name=lateral_name.format(i))
            for i in (2, 3, 4, 5)
        ]
        self.smooth = [
            Convolution(self.channels, 3, kernel_initializer="glorot_uniform", name=smooth_name.format(i))
            for i in self.smooth_levels
        ]
        for lateral, shape in zip(self.lateral, input_shape, strict=True):
            lateral.build(shape)
        for smooth in self.smooth:
            smooth.build((None, None, None, self.channels))

    def call(self, features: list[Tensor]) -> dict[int, Tensor]:
        smooth = dict(zip(self.smooth_levels, self.smooth, strict=True))
        level: Tensor = None
        levels: dict[int, Tensor] = {}
        for i in (5, 4, 3, 2):
            lateral = self.lateral[i - 2](features[i - 2])
            level = lateral if level is None else lateral + upsample(level)
            levels[i] = smooth[i](level) if i in smooth else level
        levels[6] = levels[5][:, ::2, ::2]
        return levels
