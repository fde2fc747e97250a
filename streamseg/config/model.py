"""Every knob of a model, typed, with its unit and its effect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from streamseg.config.knobs import Knobs, Positive, Share, refuse_set
from streamseg.words import is_plain

MAX_LOG_SCALE = math.log(1000.0 / 16)
"""Largest log of a size delta where boxes are in pixels: keeps exp() finite (Detectron's bound)."""

LEAST_SAY = 1e-6
"""Weight of a box of score 0 where boxes vote."""

MASK_REACH = 1.1
"""Sides of the box in which the mask that a box is fitted to is drawn, in sides of the detection's."""

MASK_END = 0.4
"""Value at which that mask ends."""

FITTED_SCORE = 0.3
"""Score of its class from which a detection's box is fitted. Nearly half of a crowd's detections are weaker: fitting
them too takes a twelfth of the engine's time there and adds about .001 of box AP."""

OF_TORCHVISION = (
    "block_stride",
    "head_norms",
    "whole_anchors",
    "rpn_layers",
    "proposals_by_level",
    "smallest_proposal",
    "roi_sampling",
    "roi_aligned",
    "box_convolutions",
    "box_layers",
    "all_classes",
    "smallest_detection",
    "clip_to",
)
"""What torchvision, detectron2 and their versions do differently from each other, or from the lite family."""

UNREAD: Mapping[str, tuple[str, ...]] = {
    "lite": ("mean_pixel", "min_side", "rpn_stride", "block_stride", "proposals_by_level", "clip_to"),
    "matterport": ("nms_rounds", "box_voting", "box_fitting", *OF_TORCHVISION),
    "torchvision": ("min_side", "rpn_stride", "nms_rounds", "box_voting", "box_fitting"),
}
"""Family → the knobs that nothing in it reads."""


class ModelConfig(Knobs):
    """What a Mask R-CNN is made of, and how it looks at a picture.

    The fields' defaults are the lite family's; `ModelConfig.matterport()` has those of matterport/Mask_RCNN,
    `ModelConfig.torchvision()` those of torchvision's.
    """

    family: Literal["lite", "matterport", "torchvision"] = Field(
        "lite",
        description="`lite`: boxes in pixels, sampled mid-cell; `matterport`: the original's normalised boxes, anchors "
        "on cell corners, crop-and-resize and heads with batch norms; `torchvision`: a ResNet in the rooms of the lite "
        "family, anchors on cell corners, as torchvision and detectron2 have it",
    )

    class_names: tuple[str, ...] = Field(
        ("background", "person"), description="name of every class id, background first"
    )
    backbone: Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "resnet50", "resnet101"] = (
        Field("efficientnet_lite0", description="the feature extractor; a ResNet belongs to the other two families")
    )
    block_stride: Literal[1, 3] = Field(
        1, description="which convolution of a ResNet's block has the stride: the 1×1 before or the 3×3"
    )
    mean_pixel: tuple[float, float, float] = Field(
        (123.7, 116.8, 103.9), description="mean R, G, B in grey levels, taken off the input of a ResNet"
    )
    input_sizes: tuple[tuple[Positive, Positive], ...] = Field(
        ((576, 320), (704, 512), (608, 608), (512, 704), (320, 576)),
        description="(width, height) of the network inputs in pixels; a picture takes the one nearest to its shape",
    )
    min_side: Positive = Field(
        800,
        description="pixels to which `evaluate` enlarges the shorter side of a picture, unless the longer one would "
        "pass the square input's (matterport family)",
    )
    min_score: Share = Field(0.5, description="score of a firm detection: best F1 on the validation set")

    fpn_channels: Positive = Field(64, description="channels of every pyramid level")
    head_norms: bool = Field(
        False, description="batch norms in the pyramid and in the heads' convolutions, not in the backbone alone"
    )
    smooth_levels: tuple[Positive, ...] = Field((3, 4, 5), description="levels with a 3×3 convolution after the sum")
    rpn_levels: tuple[Positive, ...] = Field(
        (3, 4, 5, 6), description="pyramid levels that propose; level l has stride 2^l"
    )
    roi_levels: tuple[Positive, ...] = Field((2, 3, 4, 5), description="pyramid levels that the heads pool from")

    anchor_sizes: tuple[tuple[float, ...], ...] = Field(
        ((12, 20), (32, 50), (76, 112), (170, 290)), description="square root of the anchors' areas in pixels, a level"
    )
    anchor_ratios: tuple[float, ...] = Field((0.35, 0.65, 1.2), description="width over height of the anchors")
    rpn_stride: Positive = Field(1, description="cells from one anchor's place to the next (matterport family)")
    whole_anchors: bool = Field(
        False,
        description="anchors of whole pixels, spaced by the input's size divided by the map's: 61 pixels where 800 "
        "have 13 cells of stride 64",
    )
    rpn_channels: Positive = Field(64, description="channels of the proposal network's 3×3 convolution")
    rpn_layers: Positive = Field(1, description="3×3 convolutions of the proposal network")
    rpn_delta_std: tuple[float, float, float, float] = Field(
        (0.1, 0.1, 0.2, 0.2), description="unit of the proposal network's deltas (x, y, log w, log h)"
    )
    rpn_nms_threshold: Share = Field(0.7, description="a proposal goes when its IoU with a better one is greater")
    proposals_before_nms: Positive = Field(600, description="best anchors that enter NMS, a picture")
    proposals_by_level: bool = Field(
        False, description="that many of each level, and only proposals of one level suppress each other"
    )
    smallest_proposal: float = Field(1.0, ge=0, description="pixels of the shortest side that a proposal may have")
    num_proposals: Positive = Field(150, description="proposals that reach the box head, a picture")
    nms_rounds: Positive = Field(
        16,
        description="rounds of the parallel NMS of the lite family, exact while no chain of overlaps is longer; the "
        "others' is always exact",
    )

    roi_sampling: Literal["one", "two", "adaptive"] = Field(
        "one",
        description="samples that a cell of a pooled box is the mean of, each way: `adaptive` takes as many as it "
        "spans cells of the level; a training takes `one` or `two`",
    )
    roi_aligned: bool = Field(
        True, description="pooled boxes lie on the maps to the half cell; else half a cell off, and one cell at least"
    )
    box_pool: Positive = Field(7, description="side of the grid pooled for the box head")
    box_convolutions: int = Field(0, ge=0, description="3×3 convolutions of the box head before its layers")
    box_layers: Literal[1, 2] = Field(2, description="dense layers of the box head")
    box_channels: Positive = Field(256, description="width of the box head's layers")
    mask_pool: Positive = Field(14, description="side of the grid pooled for the mask head; masks have twice that")
    mask_channels: Positive = Field(64, description="channels of the mask head")
    mask_layers: Positive = Field(3, description="3×3 convolutions of the mask head")
    delta_std: tuple[float, float, float, float] = Field(
        (0.1, 0.1, 0.2, 0.2), description="unit of the box head's deltas (x, y, log w, log h)"
    )

    detection_min_score: Share = Field(0.05, description="weakest detection the engine returns")
    all_classes: bool = Field(
        False, description="every class of a proposal may become a detection, not its best one alone"
    )
    smallest_detection: float = Field(0.5, ge=0, description="pixels of the shortest side that a detection may have")
    clip_to: Literal["input", "picture"] = Field(
        "input", description="what boxes are cut to: the network's input, or the part of it that is picture"
    )
    detection_nms_threshold: Share = Field(
        0.5, description="a detection goes when its IoU with a better one of its class is greater"
    )
    box_voting: Share = Field(
        1.0,
        description="IoU with a detection from which the boxes of other proposals in its class have a say in its own: "
        "it becomes their mean, weighted by score; 1: none has",
    )
    box_fitting: Share = Field(
        0.0,
        description="how much of the way a likely detection's box goes to where its mask ends, drawn in a larger box; "
        "then the mask is drawn anew; 0: it stays",
    )
    mask_scoring: Share = Field(
        0.0,
        description="power of the certainty of a detection's mask (the mean of what is at least 0.5 in it) by which "
        "its score is multiplied; 0: its class alone makes the score",
    )
    max_detections: Positive = Field(100, description="most detections a picture")

    @classmethod
    def matterport(cls, **knobs: Any) -> ModelConfig:
        """The configuration of matterport/Mask_RCNN as its `Config` class has it, with `knobs` instead of some."""
        original: dict[str, Any] = {
            "family": "matterport",
            "backbone": "resnet101",
            "input_sizes": ((1024, 1024),),
            "min_score": 0.7,
            "fpn_channels": 256,
            "smooth_levels": (2, 3, 4, 5),
            "rpn_levels": (2, 3, 4, 5, 6),
            "anchor_sizes": ((32,), (64,), (128,), (256,), (512,)),
            "anchor_ratios": (0.5, 1, 2),
            "rpn_channels": 512,
            "proposals_before_nms": 6000,
            "num_proposals": 1000,
            "box_channels": 1024,
            "mask_channels": 256,
            "mask_layers": 4,
            "detection_min_score": 0.7,
            "detection_nms_threshold": 0.3,
        }
        return cls.model_validate(original | knobs)

    @classmethod
    def torchvision(cls, **knobs: Any) -> ModelConfig:
        """The configuration of torchvision's `maskrcnn_resnet50_fpn`, with `knobs` instead of some."""
        original: dict[str, Any] = {
            "family": "torchvision",
            "backbone": "resnet50",
            "block_stride": 3,
            "mean_pixel": (123.675, 116.28, 103.53),
            "input_sizes": ((1344, 768), (1088, 800), (800, 800), (800, 1088), (768, 1344)),
            "fpn_channels": 256,
            "smooth_levels": (2, 3, 4, 5),
            "rpn_levels": (2, 3, 4, 5, 6),
            "anchor_sizes": ((32,), (64,), (128,), (256,), (512,)),
            "anchor_ratios": (2, 1, 0.5),
            "whole_anchors": True,
            "rpn_channels": 256,
            "rpn_delta_std": (1, 1, 1, 1),
            "proposals_before_nms": 1000,
            "proposals_by_level": True,
            "smallest_proposal": 1e-3,
            "num_proposals": 1000,
            "roi_sampling": "two",
            "roi_aligned": False,
            "box_channels": 1024,
            "mask_channels": 256,
            "mask_layers": 4,
            "all_classes": True,
            "smallest_detection": 1e-2,
            "clip_to": "picture",
        }
        return cls.model_validate(original | knobs)

    @classmethod
    def of_family(cls, family: str) -> ModelConfig:
        """The defaults of a family."""
        return {"matterport": cls.matterport, "torchvision": cls.torchvision}.get(family, cls)()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def padding(self) -> int | tuple[int, ...]:
        """Grey level, or R, G, B, of the bars beside a letterboxed picture, as the model was trained with."""
        if self.family == "torchvision":  # zeros once the mean is taken off
            return tuple(round(level) for level in self.mean_pixel)
        return 0 if self.family == "matterport" else 127

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of every pyramid level from 2 to 6, in pixels."""
        return (4, 8, 16, 32, 64)

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        if len(self.anchor_sizes) != len(self.rpn_levels):
            raise ValueError(
                f"anchor_sizes: expected one list for each of the {len(self.rpn_levels)} rpn_levels, "
                f"got {len(self.anchor_sizes)}"
            )
        if len({len(sizes) for sizes in self.anchor_sizes}) != 1:
            raise ValueError("anchor_sizes: expected the same number of sizes on every level")
        if self.num_classes < 2 or self.class_names[0] != "background":
            raise ValueError('class_names: expected "background" and at least one class')
        if unfit := [name for name in self.class_names if not name or not is_plain(name)]:
            raise ValueError(f"class_names: expected names that every file can hold, got {unfit[0]!r}")
        for width, height in self.input_sizes:
            if width % 32 or height % 32:
                raise ValueError(f"input_sizes: expected multiples of 32, got {width}x{height}")
        if self.backbone.startswith("efficientnet") != (self.family == "lite"):
            raise ValueError(f"backbone: {self.backbone} does not belong to the {self.family} family")
        levels = sorted(self.roi_levels)
        if not levels or levels != [*range(levels[0], levels[-1] + 1)]:
            raise ValueError(
                f"roi_levels: expected levels without a gap, such as [2, 3, 4, 5], got {[*self.roi_levels]}"
            )
        if self.family != "lite" and (self.smooth_levels, self.roi_levels) != ((2, 3, 4, 5),) * 2:
            raise ValueError(f"smooth_levels and roi_levels: expected [2, 3, 4, 5] in the {self.family} family")
        refuse_set(self, UNREAD[self.family], f"nothing in the {self.family} family reads it")
        return self
