"""Every knob of a training, typed, with its unit and its effect: the data, the views, the stages, the losses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from streamseg.config.knobs import Knobs, Positive, Share, refuse_set
from streamseg.config.model import ModelConfig
from streamseg.config.pipeline import Component


def _several(value: Any) -> Any:
    """One dataset or a list of them as a list; the path of a COCO json stands for `coco: {path: …}`."""
    given = value if isinstance(value, list | tuple) else [value]
    paths = [str(each) if isinstance(each, Path) else each for each in given]
    return [{"coco": {"path": each}} if isinstance(each, str) and each.endswith(".json") else each for each in paths]


Datasets = Annotated[tuple[Component, ...], BeforeValidator(_several), Field(min_length=1)]
"""Datasets by their names and options: `shapes`, `{coco: {path: a.json}}`, `a.json`, or a list of such."""


class AugmentConfig(Knobs):
    """How the views of a stage differ from the picture; boxes and masks move along. The scale is the stage's own."""

    flip_left_right: bool = Field(True, description="mirror half of the views left and right")
    flip_up_down: bool = Field(False, description="mirror half of the views up and down")
    quarter_turns: bool = Field(False, description="turn each view by none to three quarters of a circle")
    angle: float = Field(0.0, ge=0, le=180, description="turn by up to so many degrees, either way")
    aspect: float = Field(
        0.1, ge=0, le=1, description="log of the most that the width is stretched and the height shrunk, or reversed"
    )
    colour: Share = Field(
        1.0, description="change of brightness, contrast, saturation and white balance; 1: by up to 20 to 50 %"
    )
    channel_shift: float = Field(0.0, ge=0, description="grey levels added to or taken off each channel, at most")
    paste: Share = Field(
        0.0, description="share of the views onto which objects of another picture are pasted, by their masks"
    )


class StageConfig(Knobs):
    """One stretch of a training: a size of crop and a schedule."""

    epochs: Positive = Field(description="passes over the training pictures")
    crop: Positive = Field(384, description="side of the square training crops in pixels, a multiple of 32")
    batch_size: Positive = Field(8, description="pictures a step")
    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="the learning rate after the warm-up: half a cosine down, or the same to the end"
    )
    final_learning_rate: float = Field(1e-5, ge=0, description="where the cosine ends")
    warmup_steps: int = Field(300, ge=0, description="steps of linear warm-up at the start")
    scale: tuple[float, float] = Field(
        (0.6, 1.8), description="range of the random scale; 1 fits the picture to the crop"
    )
    augment: AugmentConfig = Field(AugmentConfig(), description="how the views differ from the picture")
    balance: Literal["none", "class", "size"] = Field(
        "none",
        description="`class`, `size`: an epoch takes a picture as often as the commonest class, or size of picture, "
        "outnumbers its own (its rarest class)",
    )
    layers: str = Field(
        "all",
        description="what learns: `heads`, `5+`, `4+`, `3+` (from that stage of the backbone on), `all`, or a regular "
        "expression over the names of layers; frozen stages never do",
    )
    teach_masks: bool = Field(
        False, description="before this stage, the model draws masks inside the true boxes of objects that have none"
    )

    @model_validator(mode="after")
    def _fits(self) -> StageConfig:
        if self.crop % 32:
            raise ValueError(f"crop: expected a multiple of 32, got {self.crop}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale: expected [smallest, largest], both above 0, got {list(self.scale)}")
        return self


class TrainingConfig(Knobs):
    """How a model is trained: data, targets, losses, schedule."""

    train: Datasets = Field(description="the training pictures: one dataset or several, joined by the names of classes")
    val: Datasets | None = Field(None, description="the pictures that evaluate the result, as `train`")
    start_from: str = Field(
        "imagenet",
        description="`imagenet`, `nothing`, `last` (the newest run of this name), a model's name, its folder, or a "
        "weights file",
    )
    start_without: str | None = Field(
        None, description="regular expression over the names of layers that start anew, not from `start_from`"
    )
    stages: tuple[StageConfig, ...] = Field(description="stretches of the training, one after the other")
    frozen_stages: int = Field(
        3,
        ge=0,
        le=8,
        description="stem and first stages of the backbone that keep their weights (lite family; in the others, the "
        "`layers` of a stage say it all)",
    )
    train_depthwise: bool = Field(
        False, description="train the backbone's depthwise kernels; dear on a CPU, worth little (lite family)"
    )
    train_norm: bool = Field(
        False, description="batch norms follow the statistics of each batch, or keep theirs (ResNet families)"
    )
    precision: Literal["float32", "mixed_bfloat16"] = Field(
        "mixed_bfloat16", description="what the layers compute in; weights are always float32"
    )
    backbone_rate: float = Field(0.5, ge=0, description="learning rate of the backbone relative to the rest")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="what makes steps of the gradients")
    momentum: float = Field(0.9, ge=0, lt=1, description="share of its last step that sgd takes again")
    weight_decay: float = Field(
        0.02, ge=0, description="AdamW's decay; with sgd, weight of a loss Σ w² / size over all but batch norms"
    )
    clip_norm: float = Field(5.0, gt=0, description="largest global norm of a step's gradients")
    ema: float = Field(0.998, ge=0, lt=1, description="momentum of the average of the weights, which is what is saved")
    loss_weights: dict[str, float] = Field(
        {"rpn_class": 1.0, "rpn_box": 1.0, "class": 1.0, "box": 1.0, "mask": 1.0}, description="weight of each loss"
    )
    box_loss: Literal["smooth_l1", "giou"] = Field(
        "smooth_l1",
        description="what the box head's boxes cost: the distance of their deltas, or how little they overlap the true "
        "ones (generalised IoU), which weighs all sizes alike",
    )
    mask_dice: float = Field(
        0.0, ge=0, description="weight of a mask's Dice loss beside its cross-entropy: the overlap, not the single cell"
    )
    rpn_samples: Positive = Field(256, description="anchors in the proposal loss, a picture")
    rpn_positive_iou: Share = Field(0.7, description="an anchor is positive from this IoU; each object's best always")
    rpn_negative_iou: Share = Field(0.3, description="an anchor is negative below this IoU")
    num_proposals: Positive | None = Field(
        None, description="proposals that the heads' samples are drawn from, a picture; null: the model's own number"
    )
    roi_samples: Positive = Field(96, description="proposals in the head losses, a picture")
    roi_positives: Share = Field(0.33, description="most of them that are positive")
    mask_samples: Positive = Field(8, description="positives in the mask loss, a picture on average")
    max_objects: Positive = Field(40, description="most true objects a picture; a random choice if more")
    mini_mask: Positive = Field(56, description="side of the true masks, each stored inside its box")
    taught_weight: Share = Field(0.5, description="weight of a mask that the model taught itself beside a true one")
    masked_share: float = Field(1.0, ge=1, description="how much more often a picture with true masks is drawn")
    cache_gb: float = Field(
        4.0, ge=0, description="gigabytes of pictures kept in memory; the rest is read whenever it is seen"
    )
    workers: Positive = Field(1, description="threads that prepare batches")
    seed: int = Field(0, ge=0, description="seed of everything random")

    @model_validator(mode="after")
    def _fits(self) -> TrainingConfig:
        if not self.stages:
            raise ValueError("stages: expected at least one")
        losses = tuple(type(self).model_fields["loss_weights"].default)
        if set(self.loss_weights) != set(losses):
            raise ValueError(f"loss_weights: expected {', '.join(losses)}, got {', '.join(self.loss_weights)}")
        if self.optimizer != "sgd":
            refuse_set(self, ("momentum",), f"nothing reads it with {self.optimizer}")
        positives = int(self.roi_samples * self.roi_positives)
        if self.mask_samples > positives:
            raise ValueError(
                f"mask_samples: expected at most the {positives} positives of roi_samples, got {self.mask_samples}"
            )
        return self


class ExperimentConfig(Knobs):
    """One file of `configs/`: a model and how it is trained."""

    name: str = Field(description="name of the model; `train` writes runs/NAME")
    model: ModelConfig = ModelConfig()
    training: TrainingConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> ExperimentConfig:
        if self.training:
            family = self.model.family
            other = ("train_norm",) if family == "lite" else ("frozen_stages", "train_depthwise")
            refuse_set(self.training, other, f"nothing in the {family} family reads it")
            if self.model.roi_sampling == "adaptive":  # a loop of unknown length has no gradient on JAX
                raise ValueError("model.roi_sampling: expected one or two to train with, got adaptive")
            if family == "torchvision" and self.training.start_from == "imagenet":
                raise ValueError(
                    "training.start_from: expected a Mask R-CNN of torchvision or detectron2 in that family, "
                    "such as maskrcnn_resnet50_fpn_v2, got imagenet"
                )
            candidates = self.training.max_objects + (self.training.num_proposals or self.model.num_proposals)
            if self.training.roi_samples > candidates:
                raise ValueError(
                    f"training.roi_samples: expected at most max_objects + num_proposals = {candidates}, "
                    f"got {self.training.roi_samples}"
                )
        return self
