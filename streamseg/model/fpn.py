"""Feature pyramid: every level sees the whole picture (Lin et al., 2017)."""

from __future__ import annotations

from typing import Any

import keras

from streamseg.model.layers import Convolution, upsample

Tensor = Any


class FeaturePyramid(keras.layers.Layer):
    """[C2, C3, C4, C5] → {2: P2, …, 6: P6}, each (B, h, w, channels); P6 is every second cell of P5.

    Only `smooth_levels` get the 3×3 convolution after the sum: on P2 it would cost more than all others together.
    original: its layers are called as in matterport/Mask_RCNN · norm: each convolution is normed; trains_norm as there.
    """

    def __init__(
        self,
        channels: int,
        *,
        smooth_levels: tuple[int, ...],
        original: bool = False,
        norm: bool = False,
        trains_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels, self.smooth_levels, self.original = channels, smooth_levels, original
        self.norm, self.trains_norm = norm, trains_norm

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        lateral_name, smooth_name = ("fpn_c{0}p{0}", "fpn_p{0}") if self.original else ("lateral{0}", "smooth{0}")
        options: dict[str, Any] = {"kernel_initializer": "glorot_uniform"}
        if self.norm:
            options |= {"norm": True, "trains_norm": self.trains_norm, "use_bias": False}
        self.lateral = [Convolution(self.channels, 1, name=lateral_name.format(i), **options) for i in (2, 3, 4, 5)]
        self.smooth = [Convolution(self.channels, 3, name=smooth_name.format(i), **options) for i in self.smooth_levels]
        for lateral, shape in zip(self.lateral, input_shape, strict=True):
            lateral.build(shape)
        for smooth in self.smooth:
            smooth.build((None, None, None, self.channels))

    def call(self, features: list[Tensor], training: bool = False) -> dict[int, Tensor]:
        smooth = dict(zip(self.smooth_levels, self.smooth, strict=True))
        level: Tensor = None
        levels: dict[int, Tensor] = {}
        for i in (5, 4, 3, 2):
            lateral = self.lateral[i - 2](features[i - 2], training=training)
            level = lateral if level is None else lateral + upsample(level)
            levels[i] = smooth[i](level, training=training) if i in smooth else level
        levels[6] = levels[5][:, ::2, ::2]
        return levels
