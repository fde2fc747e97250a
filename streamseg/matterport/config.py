"""The original's `Config`: subclass it, set what differs in upper case; it becomes streamseg's own configuration."""

from __future__ import annotations

import contextlib
import difflib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from pydantic import ValidationError

from streamseg.config import AugmentConfig, ModelConfig, StageConfig, TrainingConfig
from streamseg.molding import MODES, Mold
from streamseg.types import UsageError
from streamseg.words import nearest

OPTIONAL = ("IMAGE_MIN_DIM", "IMAGE_MAX_DIM", "IMAGE_MIN_SCALE", "DETECTION_MIN_CONFIDENCE")
"""Settings that may be None or False, for no such limit."""

LOSSES = {
    "rpn_class_loss": "rpn_class",
    "rpn_bbox_loss": "rpn_box",
    "mrcnn_class_loss": "class",
    "mrcnn_bbox_loss": "box",
    "mrcnn_mask_loss": "mask",
}
"""The original's names of the losses and ours."""

LARGE = 1024
"""The side of the input that a network names which takes any; here each picture's own counts."""

FIELDS = {
    "BACKBONE": "model.backbone",
    "TOP_DOWN_PYRAMID_SIZE": "model.fpn_channels",
    "FPN_CLASSIF_FC_LAYERS_SIZE": "model.box_channels",
    "NUM_CLASSES": "model.class_names",
    "RPN_ANCHOR_SCALES": "model.anchor_sizes",
    "RPN_ANCHOR_RATIOS": "model.anchor_ratios",
    "RPN_ANCHOR_STRIDE": "model.rpn_stride",
    "RPN_NMS_THRESHOLD": "model.rpn_nms_threshold",
    "PRE_NMS_LIMIT": "model.proposals_before_nms",
    "POST_NMS_ROIS_INFERENCE": "model.num_proposals",
    "IMAGE_MIN_DIM": "model.min_side",
    "IMAGE_MAX_DIM": "model.input_sizes",
    "MEAN_PIXEL": "model.mean_pixel",
    "POOL_SIZE": "model.box_pool",
    "MASK_POOL_SIZE": "model.mask_pool",
    "RPN_BBOX_STD_DEV": "model.rpn_delta_std",
    "BBOX_STD_DEV": "model.delta_std",
    "DETECTION_MAX_INSTANCES": "model.max_detections",
    "DETECTION_MIN_CONFIDENCE": "model.detection_min_score",
    "DETECTION_NMS_THRESHOLD": "model.detection_nms_threshold",
    "RPN_TRAIN_ANCHORS_PER_IMAGE": "training.rpn_samples",
    "POST_NMS_ROIS_TRAINING": "training.num_proposals",
    "MINI_MASK_SHAPE": "training.mini_mask",
    "TRAIN_ROIS_PER_IMAGE": "training.roi_samples",
    "ROI_POSITIVE_RATIO": "training.roi_positives",
    "MAX_GT_INSTANCES": "training.max_objects",
    "LEARNING_MOMENTUM": "training.momentum",
    "WEIGHT_DECAY": "training.weight_decay",
    "LOSS_WEIGHTS": "training.loss_weights",
    "TRAIN_BN": "training.train_norm",
    "GRADIENT_CLIP_NORM": "training.clip_norm",
    "IMAGES_PER_GPU": "training.stages.batch_size",
    "GPU_COUNT": "training.stages.batch_size",
}
"""Setting -> the field of streamseg's configuration that it becomes. The others belong to this API alone."""


class Config:
    """The settings of the original with its defaults; `model_config` and `training_config` say what each becomes here.

    BATCH_SIZE, IMAGE_SHAPE and IMAGE_META_SIZE follow from the others when it is made. Raises UsageError for settings
    that contradict each other or that a network of this family cannot have.
    """

    NAME: str | None = None
    """Name of the experiment; in the names of its log folder and weights files."""
    GPU_COUNT: int = 1
    """GPUs that share the pictures of a training step; where there are fewer, these share them all."""
    IMAGES_PER_GPU: int = 2
    """Pictures a training step and GPU. `detect` computes as many at a time, and takes any number of them."""
    STEPS_PER_EPOCH: int = 1000
    """Training steps an epoch, however many pictures there are."""
    VALIDATION_STEPS: int = 50
    """Steps of the validation after every epoch; more of them say its losses more exactly."""

    BACKBONE: str = "resnet101"
    """The feature extractor, `resnet50` or `resnet101`."""
    COMPUTE_BACKBONE_SHAPE: None = None
    """Always None: the sizes of the levels follow from BACKBONE_STRIDES."""
    BACKBONE_STRIDES: Sequence[int] = [4, 8, 16, 32, 64]
    """Pixels of the input a cell of each pyramid level; always these."""
    FPN_CLASSIF_FC_LAYERS_SIZE: int = 1024
    """Channels of the box head's two layers."""
    TOP_DOWN_PYRAMID_SIZE: int = 256
    """Channels of every pyramid level."""
    NUM_CLASSES: int = 1
    """Classes, background included."""

    RPN_ANCHOR_SCALES: Sequence[float] = (32, 64, 128, 256, 512)
    """Square root of the anchors' areas in pixels of the input, one a level."""
    RPN_ANCHOR_RATIOS: Sequence[float] = [0.5, 1, 2]
    """Width over height of the anchors."""
    RPN_ANCHOR_STRIDE: int = 1
    """Cells of a level from one anchor's place to the next; 2 halves the anchors each way."""
    RPN_NMS_THRESHOLD: float = 0.7
    """A proposal goes when its IoU with a better one is greater; higher keeps more."""
    RPN_TRAIN_ANCHORS_PER_IMAGE: int = 256
    """Anchors in the losses of the proposal network, a picture; at most half of them positive."""
    PRE_NMS_LIMIT: int = 6000
    """Best anchors that enter the suppression, a picture."""
    POST_NMS_ROIS_TRAINING: int = 2000
    """Most proposals that the heads' samples are drawn from, a picture of a training."""
    POST_NMS_ROIS_INFERENCE: int = 1000
    """Most proposals that reach the box head when it detects, a picture."""

    USE_MINI_MASK: bool = True
    """Keep true masks inside their boxes at MINI_MASK_SHAPE while training; always true here."""
    MINI_MASK_SHAPE: Sequence[int] = (56, 56)
    """Height and width in cells of such a mask, a square; larger draws large objects more finely."""
    IMAGE_RESIZE_MODE: str = "square"
    """`square`, `pad64`, `crop` (training only) or `none`: `streamseg.molding.Mold.fit` says what each does."""
    IMAGE_MIN_DIM: int = 800
    """Pixels to which a picture's shorter side is enlarged, 0 for none; in `crop` the side of the input."""
    IMAGE_MAX_DIM: int | None = 1024
    """Side of the input in pixels, a multiple of 64; trained `pad64` and `none` inputs are at most as large. These need
    none to detect: 0, None or False."""
    IMAGE_MIN_SCALE: float = 0
    """Least enlargement of a picture, in all modes but `none`; `square` still ends at IMAGE_MAX_DIM."""
    IMAGE_CHANNEL_COUNT: int = 3
    """Channels of a picture; always 3, RGB."""
    MEAN_PIXEL: Any = np.array([123.7, 116.8, 103.9])
    """Mean R, G, B in grey levels, or one for all three, taken off every picture."""

    TRAIN_ROIS_PER_IMAGE: int = 200
    """Proposals in the losses of the heads, a picture."""
    ROI_POSITIVE_RATIO: float = 0.33
    """Share of these that are positive, at most; where positives are few, there are the fewer negatives."""
    POOL_SIZE: int = 7
    """Side in cells of the grid pooled for the box head."""
    MASK_POOL_SIZE: int = 14
    """Side in cells of the grid pooled for the mask head."""
    MASK_SHAPE: Sequence[int] = [28, 28]
    """Height and width in cells of a predicted mask, always twice MASK_POOL_SIZE."""
    MAX_GT_INSTANCES: int = 100
    """Most true objects a picture of a training; a random choice if there are more."""
    RPN_BBOX_STD_DEV: Any = np.array([0.1, 0.1, 0.2, 0.2])
    """Unit of the proposal network's deltas y, x, log height, log width."""
    BBOX_STD_DEV: Any = np.array([0.1, 0.1, 0.2, 0.2])
    """Unit of the box head's deltas y, x, log height, log width."""

    DETECTION_MAX_INSTANCES: int = 100
    """Most detections a picture."""
    DETECTION_MIN_CONFIDENCE: float = 0.7
    """Score, 0 to 1, below which a detection is dropped."""
    DETECTION_NMS_THRESHOLD: float = 0.3
    """A detection goes when its IoU with a better one of its class is greater."""

    LEARNING_RATE: float = 0.001
    """For scripts, which pass it to `train`; nothing else reads it."""
    LEARNING_MOMENTUM: float = 0.9
    """Share of its last step that the optimizer takes again."""
    WEIGHT_DECAY: float = 0.0001
    """Weight of the loss Σ w² / size over every tensor but gammas and betas."""
    LOSS_WEIGHTS: Mapping[str, float] = dict.fromkeys(LOSSES, 1.0)
    """Weight of each loss in their sum, 1 of those that are not named."""
    USE_RPN_ROIS: bool = True
    """The heads learn on the network's own proposals; always true here."""
    TRAIN_BN: bool | None = False
    """False: batch norms keep their moving statistics; None or True: a training uses each batch's."""
    GRADIENT_CLIP_NORM: float = 5.0
    """Largest norm of all gradients of a step together; longer ones are scaled down to it."""

    def __init__(self) -> None:
        self.BATCH_SIZE = self.IMAGES_PER_GPU * self.GPU_COUNT  # pictures a training step
        side = self.IMAGE_MIN_DIM if self.IMAGE_RESIZE_MODE == "crop" else self.IMAGE_MAX_DIM
        side = int(side or 0)
        self.IMAGE_SHAPE = np.array([side, side, self.IMAGE_CHANNEL_COUNT])  # height, width, channels of the input
        self.IMAGE_META_SIZE = 12 + self.NUM_CLASSES  # numbers that `compose_image_meta` makes
        self._warn_of_misspellings()

    def to_dict(self) -> dict[str, Any]:
        """Every setting by its name, a script's own too, in alphabetical order."""
        values = {name: getattr(self, name) for name in sorted(dir(self)) if name[0] != "_"}
        return {name: value for name, value in values.items() if not callable(value)}

    def display(self) -> None:
        """Print every setting."""
        print("\nConfigurations:")
        for name, value in self.to_dict().items():
            print(f"{name:30} {value}")
        print("\n")

    def _warn_of_misspellings(self) -> None:
        """A setting of a subclass that nothing reads, but is spelt almost like one that is read."""
        known = {name for name in vars(Config) if name.isupper()} | {"BATCH_SIZE", "IMAGE_SHAPE", "IMAGE_META_SIZE"}
        for name in sorted({name for name in dir(self) if name.isupper() and name[0] != "_"} - known):
            if close := difflib.get_close_matches(name, known, n=1, cutoff=0.92):
                warnings.warn(f"{type(self).__name__}.{name}: did you mean {close[0]}?", stacklevel=3)


def mold_of(config: Config, image: np.ndarray) -> Mold:
    """How a picture (H, W, 3) becomes an input of the network that a `Config` describes."""
    height, width = image.shape[:2]
    return Mold.fit(
        height,
        width,
        mode=config.IMAGE_RESIZE_MODE,
        min_side=config.IMAGE_MIN_DIM,
        max_side=config.IMAGE_MAX_DIM,
        min_scale=config.IMAGE_MIN_SCALE,
    )


def trains_norm(config: Config) -> bool:
    """Whether batch norms learn while training: not where TRAIN_BN is False or 0; None and True are alike."""
    return config.TRAIN_BN is None or bool(config.TRAIN_BN)


@contextlib.contextmanager
def _settings_named() -> Iterator[None]:
    """Within it, a value that a field refuses is a UsageError that names the setting it came from."""
    try:
        yield
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
    else:
        return
    field = str(problem["loc"][0]) if problem["loc"] else ""
    field = {"min_score": "detection_min_score"}.get(field, field)  # both are DETECTION_MIN_CONFIDENCE
    names = " * ".join(name for name, path in FIELDS.items() if path.rpartition(".")[2] == field) or field
    why = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    raise UsageError(f"{names}: expected {why}, got {problem['input']!r}" if field else why)


@_settings_named()
def model_config(config: Config, *, class_names: Sequence[str] = ()) -> ModelConfig:
    """The network that a `Config` describes.

    class_names: of all NUM_CLASSES classes, background first; none: `class 1`, `class 2` …
    Raises UsageError for a setting that a network of this family cannot have.
    """
    _check(config)
    names = tuple(class_names) or ("background", *(f"class {i}" for i in range(1, config.NUM_CLASSES)))
    if len(names) != config.NUM_CLASSES:
        raise UsageError(
            f"NUM_CLASSES: expected {len(names)}, one for each of the class names, got {config.NUM_CLASSES}"
        )
    height, width = (int(side) or LARGE for side in config.IMAGE_SHAPE[:2])
    return ModelConfig.matterport(
        class_names=("background", *names[1:]),
        backbone=config.BACKBONE,
        mean_pixel=tuple(np.broadcast_to(np.asarray(config.MEAN_PIXEL, float), 3).tolist()),
        input_sizes=((width, height),),
        min_side=max(1, int(config.IMAGE_MIN_DIM or 0)),
        min_score=float(config.DETECTION_MIN_CONFIDENCE or 0),
        fpn_channels=config.TOP_DOWN_PYRAMID_SIZE,
        anchor_sizes=tuple((float(scale),) for scale in config.RPN_ANCHOR_SCALES),
        anchor_ratios=tuple(map(float, config.RPN_ANCHOR_RATIOS)),
        rpn_stride=config.RPN_ANCHOR_STRIDE,
        rpn_delta_std=_by_x_first(config.RPN_BBOX_STD_DEV),
        rpn_nms_threshold=float(config.RPN_NMS_THRESHOLD),
        proposals_before_nms=config.PRE_NMS_LIMIT,
        num_proposals=config.POST_NMS_ROIS_INFERENCE,
        box_pool=config.POOL_SIZE,
        box_channels=config.FPN_CLASSIF_FC_LAYERS_SIZE,
        mask_pool=config.MASK_POOL_SIZE,
        delta_std=_by_x_first(config.BBOX_STD_DEV),
        detection_min_score=float(config.DETECTION_MIN_CONFIDENCE or 0),
        detection_nms_threshold=float(config.DETECTION_NMS_THRESHOLD),
        max_detections=config.DETECTION_MAX_INSTANCES,
    )


@_settings_named()
def training_config(
    config: Config,
    *,
    datasets: Mapping[str, Any],
    learning_rate: float,
    epochs: int,
    layers: str = "all",
    augment: AugmentConfig | None = None,
) -> TrainingConfig:
    """The training that a `Config` describes: one stage at a constant learning rate, as a call of `train` is.

    datasets: `train` and perhaps `val`, as `TrainingConfig` takes them · epochs of this stage · layers: `heads`, `3+`,
    `4+`, `5+`, `all` or a regular expression. Raises UsageError for a setting that has no counterpart here.
    """
    _check(config)
    _expect("USE_RPN_ROIS", config.USE_RPN_ROIS, True, "the heads learn on the proposals of the network")
    _expect(
        "USE_MINI_MASK", config.USE_MINI_MASK, True, "true masks are kept inside their boxes; enlarge MINI_MASK_SHAPE"
    )
    for name in config.LOSS_WEIGHTS:
        if name not in LOSSES:
            raise UsageError(f"LOSS_WEIGHTS: expected {', '.join(LOSSES)}, got {name!r}{nearest(name, LOSSES)}")
    if len(set(config.MINI_MASK_SHAPE)) != 1:
        raise UsageError(f"MINI_MASK_SHAPE: expected a square, got {tuple(config.MINI_MASK_SHAPE)}")
    positives = config.TRAIN_ROIS_PER_IMAGE * config.ROI_POSITIVE_RATIO
    if not 1 <= positives <= config.TRAIN_ROIS_PER_IMAGE:
        raise UsageError(
            "TRAIN_ROIS_PER_IMAGE * ROI_POSITIVE_RATIO: expected 1 positive to all of them, got "
            f"{config.TRAIN_ROIS_PER_IMAGE} * {config.ROI_POSITIVE_RATIO:g} = {positives:g}"
        )
    side = int(config.IMAGE_SHAPE[0])
    if not side:
        raise UsageError(
            f"IMAGE_MAX_DIM: expected the side of the largest input to train on, got {config.IMAGE_MAX_DIM}; "
            f"{config.IMAGE_RESIZE_MODE} needs none only to detect"
        )
    stage = StageConfig(
        epochs=epochs,
        crop=side,
        batch_size=config.BATCH_SIZE,
        learning_rate=learning_rate,
        schedule="constant",
        warmup_steps=0,
        scale=(1.0, 1.0),
        augment=augment or UNCHANGED,
        layers=layers,
    )
    return TrainingConfig(
        **datasets,
        start_from="nothing",
        stages=(stage,),
        frozen_stages=0,
        train_norm=trains_norm(config),
        precision="float32",
        backbone_rate=1.0,
        optimizer="sgd",
        momentum=config.LEARNING_MOMENTUM,
        weight_decay=config.WEIGHT_DECAY,
        clip_norm=config.GRADIENT_CLIP_NORM,
        ema=0.0,
        loss_weights={ours: float(config.LOSS_WEIGHTS.get(name, 1.0)) for name, ours in LOSSES.items()},
        rpn_samples=config.RPN_TRAIN_ANCHORS_PER_IMAGE,
        num_proposals=config.POST_NMS_ROIS_TRAINING,
        roi_samples=config.TRAIN_ROIS_PER_IMAGE,
        roi_positives=config.ROI_POSITIVE_RATIO,
        mask_samples=int(positives),
        max_objects=config.MAX_GT_INSTANCES,
        mini_mask=config.MINI_MASK_SHAPE[0],
    )


UNCHANGED = AugmentConfig(flip_left_right=False, aspect=0.0, colour=0.0)
"""No augmentation: what `train` does unless it is told otherwise."""


def _check(config: Config) -> None:
    """Raises UsageError for what no network of this family can have."""
    _check_numbers(config)
    if config.NUM_CLASSES < 2:
        raise UsageError(f"NUM_CLASSES: expected the background and at least one class, got {config.NUM_CLASSES}")
    if config.BACKBONE not in ("resnet50", "resnet101"):
        raise UsageError(f"BACKBONE: expected resnet50 or resnet101, got {config.BACKBONE!r}")
    if config.IMAGE_RESIZE_MODE not in MODES:
        raise UsageError(f"IMAGE_RESIZE_MODE: expected {', '.join(MODES)}, got {config.IMAGE_RESIZE_MODE!r}")
    setting, side = "IMAGE_MIN_DIM" if config.IMAGE_RESIZE_MODE == "crop" else "IMAGE_MAX_DIM", config.IMAGE_SHAPE[0]
    if side % 64 or (not side and config.IMAGE_RESIZE_MODE in ("square", "crop")):
        raise UsageError(f"{setting}: expected a multiple of 64, got {side}")
    if np.shape(config.MEAN_PIXEL) not in ((), (1,), (3,)):
        raise UsageError(f"MEAN_PIXEL: expected R, G, B or one number, got {config.MEAN_PIXEL}")
    _check_scales(list(config.RPN_ANCHOR_SCALES))
    _expect("BACKBONE_STRIDES", list(config.BACKBONE_STRIDES), [4, 8, 16, 32, 64], "that is how a ResNet shrinks")
    _expect("COMPUTE_BACKBONE_SHAPE", config.COMPUTE_BACKBONE_SHAPE, None, "the backbones here know their shapes")
    _expect("IMAGE_CHANNEL_COUNT", config.IMAGE_CHANNEL_COUNT, 3, "pictures are RGB")
    masks = [2 * config.MASK_POOL_SIZE] * 2
    _expect("MASK_SHAPE", list(config.MASK_SHAPE), masks, "the mask head doubles MASK_POOL_SIZE")


def _check_numbers(config: Config) -> None:
    """Raises UsageError for a setting that is not the number, or the numbers, that it is by default."""
    for name, usual in vars(Config).items():
        value = getattr(config, name)
        if not name.isupper() or (name in OPTIONAL and not value):
            continue
        if isinstance(usual, int | float) and not isinstance(usual, bool):
            if not isinstance(value, Real) or not math.isfinite(value):
                raise UsageError(f"{name}: expected a number, got {value!r}")
        elif name in FIELDS and isinstance(usual, Sequence | np.ndarray) and not isinstance(usual, str):
            try:
                numbers = np.asarray(value, float)
            except (TypeError, ValueError):
                numbers = np.full(1, math.nan)
            if not np.isfinite(numbers).all() or (numbers.ndim != 1 and name != "MEAN_PIXEL"):
                raise UsageError(f"{name}: expected numbers such as {np.asarray(usual).tolist()}, got {value!r}")


def _check_scales(scales: list[float]) -> None:
    lacking = 5 - len(scales)
    if lacking < 0:
        hint = f"leave out {-lacking}"
    else:
        longer = [*scales, *(max(scales, default=16) * 2 ** (i + 1) for i in range(lacking))]
        hint = f"append {lacking}, such as {tuple(longer)}"
    if lacking:
        raise UsageError(f"RPN_ANCHOR_SCALES: expected 5, one a level of BACKBONE_STRIDES, got {len(scales)}; {hint}")


def _expect(name: str, value: Any, expected: Any, why: str) -> None:
    if value != expected:
        raise UsageError(f"{name}: expected {expected}, got {value}: {why}")


def _by_x_first(std: Sequence[float]) -> tuple[float, ...]:
    """The unit of deltas (y, x, log h, log w) as (x, y, log w, log h)."""
    y, x, height, width = (float(value) for value in std)
    return x, y, width, height
