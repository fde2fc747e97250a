"""Every knob of a model, a training and a pipeline: typed, with its unit and its effect, read from YAML."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from streamseg.types import UsageError
from streamseg.words import nearest

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]

MAX_LOG_SCALE = math.log(1000.0 / 16)
"""Largest log of a size delta in the lite family: keeps exp() finite (Detectron's bound)."""


class Knobs(BaseModel):
    """A group of settings: unknown keys are refused, values cannot change later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Component(Knobs):
    """One component by its name and its options; in YAML `splash`, or `splash: {classes: [person]}`."""

    name: str = Field(description="file name in its room, or `my_package.blur:FaceBlur`")
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of its constructor")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and not set(value) <= {"name", "options"}:
            if len(value) != 1:
                raise ValueError(f"expected NAME or NAME: {{option: value}}, got the keys {', '.join(map(str, value))}")
            ((name, options),) = value.items()
            if not isinstance(name, str) or not isinstance(options, dict | None):
                raise ValueError(f"expected NAME: {{option: value}}, got {name}: {options!r}")
            return {"name": name, "options": options or {}}
        return value


def _several(value: Any) -> Any:
    """One dataset or a list of them as a list; the path of a COCO json stands for `coco: {path: …}`."""
    given = value if isinstance(value, list | tuple) else [value]
    paths = [str(each) if isinstance(each, Path) else each for each in given]
    return [{"coco": {"path": each}} if isinstance(each, str) and each.endswith(".json") else each for each in paths]


Datasets = Annotated[tuple[Component, ...], BeforeValidator(_several), Field(min_length=1)]
"""Datasets by their names and options: `shapes`, `{coco: {path: a.json}}`, `a.json`, or a list of such."""


def refuse_set(knobs: Knobs, names: Iterable[str], why: str) -> None:
    """Raise ValueError for one of the fields `names` that is set to something else than its default."""
    for name in names:
        value = getattr(knobs, name)
        if value != type(knobs).model_fields[name].default:
            raise ValueError(f"{name}: {why}, got {value}")


class ModelConfig(Knobs):
    """What a Mask R-CNN is made of, and how it looks at a picture.

    The fields' defaults are the lite family's; `ModelConfig.matterport()` has those of matterport/Mask_RCNN.
    """

    family: Literal["lite", "matterport"] = Field(
        "lite",
        description="`lite`: boxes in pixels, sampled mid-cell; `matterport`: the original's normalised boxes, anchors "
        "on cell corners, crop-and-resize and heads with batch norms",
    )

    class_names: tuple[str, ...] = Field(
        ("background", "person"), description="name of every class id, background first"
    )
    backbone: Literal["efficientnet_lite0", "resnet50", "resnet101"] = Field(
        "efficientnet_lite0", description="the feature extractor; a ResNet belongs to the matterport family"
    )
    mean_pixel: tuple[float, float, float] = Field(
        (123.7, 116.8, 103.9), description="mean R, G, B in grey levels, taken off the input (matterport family)"
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
    rpn_channels: Positive = Field(64, description="channels of the proposal network's 3×3 convolution")
    rpn_delta_std: tuple[float, float, float, float] = Field(
        (0.1, 0.1, 0.2, 0.2), description="unit of the proposal network's deltas (x, y, log w, log h)"
    )
    rpn_nms_threshold: Share = Field(0.7, description="a proposal goes when its IoU with a better one is greater")
    proposals_before_nms: Positive = Field(600, description="best anchors that enter NMS, a picture")
    num_proposals: Positive = Field(150, description="proposals that reach the box head, a picture")
    nms_rounds: Positive = Field(
        16,
        description="rounds of the parallel NMS of the lite family, exact while no chain of overlaps is longer; the "
        "matterport family's is always exact",
    )

    box_pool: Positive = Field(7, description="side of the grid pooled for the box head")
    box_channels: Positive = Field(256, description="width of the box head's two layers")
    mask_pool: Positive = Field(14, description="side of the grid pooled for the mask head; masks have twice that")
    mask_channels: Positive = Field(64, description="channels of the mask head")
    mask_layers: Positive = Field(3, description="3×3 convolutions of the mask head")
    delta_std: tuple[float, float, float, float] = Field(
        (0.1, 0.1, 0.2, 0.2), description="unit of the box head's deltas (x, y, log w, log h)"
    )

    detection_min_score: Share = Field(0.05, description="weakest detection the engine returns")
    detection_nms_threshold: Share = Field(
        0.5, description="a detection goes when its IoU with a better one of its class is greater"
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

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def padding(self) -> int:
        """Grey level of the bars beside a letterboxed picture, as the model was trained with."""
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
        for width, height in self.input_sizes:
            if width % 32 or height % 32:
                raise ValueError(f"input_sizes: expected multiples of 32, got {width}x{height}")
        if (self.backbone == "efficientnet_lite0") != (self.family == "lite"):
            raise ValueError(f"backbone: {self.backbone} does not belong to the {self.family} family")
        if self.family == "matterport" and (self.smooth_levels, self.roi_levels) != ((2, 3, 4, 5),) * 2:
            raise ValueError("smooth_levels and roi_levels: expected [2, 3, 4, 5] in the matterport family")
        other = {"lite": ("mean_pixel", "min_side", "rpn_stride"), "matterport": ("nms_rounds",)}[self.family]
        refuse_set(self, other, f"nothing in the {self.family} family reads it")
        return self


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
        description="stem and first stages of the backbone that keep their weights (lite family; in the other, the "
        "`layers` of a stage say it all)",
    )
    train_depthwise: bool = Field(
        False, description="train the backbone's depthwise kernels; dear on a CPU, worth little (lite family)"
    )
    train_norm: bool = Field(
        False, description="batch norms follow the statistics of each batch, or keep theirs (matterport family)"
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
            other = {"lite": ("train_norm",), "matterport": ("frozen_stages", "train_depthwise")}[family]
            refuse_set(self.training, other, f"nothing in the {family} family reads it")
            candidates = self.training.max_objects + (self.training.num_proposals or self.model.num_proposals)
            if self.training.roi_samples > candidates:
                raise ValueError(
                    f"training.roi_samples: expected at most max_objects + num_proposals = {candidates}, "
                    f"got {self.training.roi_samples}"
                )
        return self


# --- pipelines ------------------------------------------------------------------------------------------------------


class StreamConfig(Knobs):
    """What happens to the frames of one stream on their way."""

    source: Component | None = Field(None, description="where the frames come from; INPUTs take its place")
    tracker: Component | None = Field(Component(name="mask_iou"), description="who is who; null: nobody is followed")
    counters: tuple[Component, ...] = Field((Component(name="per_class"),), description="what is counted")
    effects: tuple[Component, ...] = Field((), description="what is drawn, in this order")
    sinks: tuple[Component, ...] = Field((), description="where it goes; {stem} and {folder} are the input's own")


class PipelineConfig(StreamConfig):
    """One engine and the streams that share it: one in the flat form, several under `streams`."""

    engine: Component = Field(Component(name="auto"), description="what finds the objects")
    streams: dict[str, StreamConfig] = Field(default_factory=dict, description="NAME: {source, tracker, …}")
    classes: tuple[str, ...] = Field((), description="every other class is removed before the tracker; none: keep all")
    min_score: Share | None = Field(None, description="score of a firm detection; null: the model's own")
    parallel: Positive = Field(2, description="files open at a time; live streams run all at once")
    batch_wait: float = Field(0.01, ge=0, description="seconds to wait for a fuller batch")

    @model_validator(mode="after")
    def _one_form(self) -> PipelineConfig:
        both = sorted(self.model_fields_set & set(StreamConfig.model_fields))
        if self.streams and both:
            raise ValueError(f"expected one stream in the flat form or `streams`, got both: streams and {both[0]}")
        return self

    def components(self) -> Iterator[tuple[tuple[str | int, ...], str, Component]]:
        """Every component as (its place, its room, itself), the engine last: it costs most to make."""
        named: list[tuple[tuple[str, ...], StreamConfig]] = [(("streams", name), s) for name, s in self.streams.items()]
        for place, stream in named or [((), self)]:
            if stream.source:
                yield (*place, "source"), "sources", stream.source
            if stream.tracker:
                yield (*place, "tracker"), "trackers", stream.tracker
            for room in ("counters", "effects", "sinks"):
                for position, component in enumerate(getattr(stream, room)):
                    yield (*place, room, position), room, component
        yield ("engine",), "engines", self.engine


def with_setting(config: Any, path: Sequence[str], value: Any) -> Any:
    """`config` with the knob at `path` set: `["effects", "0", "classes"]`; a component's name is skipped."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(config, Component):
        return Component(name=config.name, options=with_setting(config.options, path, value))
    if isinstance(config, Knobs):
        known = type(config).model_fields
        if key not in known:
            raise UsageError(f"no setting is called {key!r}{nearest(key, known)}")
        given = {name: getattr(config, name) for name in config.model_fields_set}
        changed = with_setting(getattr(config, key), rest, value)
        return _validated(type(config), given | {key: changed})
    if isinstance(config, list | tuple):
        if not (key.isdigit() and int(key) < len(config)):
            raise UsageError(f"expected a position from 0 to {len(config) - 1}, got {key!r}")
        changed = with_setting(config[int(key)], rest, value)
        return [*config[: int(key)], changed, *config[int(key) + 1 :]]
    if isinstance(config, dict):
        return {**config, key: with_setting(config.get(key, {}) if rest else None, rest, value)}
    raise UsageError(f"{key!r} leads nowhere: there is no component or group of settings to look into")


def with_settings(config: Any, texts: Iterable[str]) -> Any:
    """`config` with every `PATH=VALUE` of the texts set; VALUE is YAML."""
    for text in texts:
        path, value = setting(text)
        try:
            config = with_setting(config, path, value)
        except UsageError as error:
            raise UsageError(f"--set {text}: {error}") from None
    return config


def setting(text: str) -> tuple[list[str], Any]:
    """The path and the value of `engine.batch_size=8`."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise UsageError(f"--set {text}: expected PATH=VALUE, such as engine.batch_size=8")
    try:
        return path.strip().split("."), yaml_value(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text}: {value!r} is no YAML value: {getattr(error, 'problem', error)}") from None


# --- YAML -----------------------------------------------------------------------------------------------------------

Schema = TypeVar("Schema", bound=BaseModel)


def yaml_value(text: str) -> Any:
    """A value as it may stand in a YAML file of ours; yaml.YAMLError for a text that is none."""
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file; a tag, a doubled key or a file that is none is a UsageError with the line."""
    return YamlFile.read(path).data


def read_config(path: Path | str, schema: type[Schema]) -> Schema:
    """The YAML file as a `schema`; a wrong key or value is a UsageError with the line and the nearest spelling."""
    return YamlFile.read(path).as_a(schema)


def config_file(name_or_path: str) -> Path:
    """The YAML file at a path, or the one of that name among `configs/`."""
    path = Path(name_or_path).expanduser()
    if path.exists() or path.suffix in (".yaml", ".yml"):
        return path
    ready = {each.stem: each for each in ready_files("configs")}
    if name_or_path not in ready:
        hint = nearest(name_or_path, ready)
        raise UsageError(f"no configuration is called {name_or_path!r}{hint} (or a YAML file)")
    return ready[name_or_path]


def ready_files(package: str) -> list[Path]:
    """The YAML files that ship in `streamseg.configs` or `streamseg.pipelines`."""
    folder = Path(str(importlib.import_module(f"streamseg.{package}").__file__)).parent
    return sorted(folder.glob("*.yaml"))


@dataclass(frozen=True)
class YamlFile:
    """A YAML mapping that still knows in which line everything stood."""

    path: Path
    data: dict[str, Any]
    root: yaml.Node | None

    @classmethod
    def read(cls, path: Path | str) -> YamlFile:
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise UsageError(f"{path}: cannot be read: {reason}") from error
        loader = None
        try:
            loader = _Loader(text)
            root = loader.get_single_node()
            data = loader.construct_document(root) if root else {}
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise UsageError(f"{path}:{mark.line + 1 if mark else 1}: {error.problem or error.context}") from None
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise UsageError(f"{path}: no YAML: {' '.join(str(error).split()) or type(error).__name__}") from None
        finally:
            if loader:
                loader.dispose()
        if not isinstance(data, dict):
            raise UsageError(f"{path}:1: expected `key: value` lines, got {type(data).__name__}")
        return cls(path, data, root)

    def where(self, place: Sequence[str | int]) -> str:
        """`file.yaml:7`, the line in which the key or entry at `place` stands, or else the nearest above it."""
        node, line = self.root, 0
        for step in place:
            if isinstance(node, yaml.MappingNode):
                pair = next((pair for pair in node.value if pair[0].value == str(step)), None)
                if pair is None:
                    continue  # a name that the validation added, such as a component's "options"
                line, node = pair[0].start_mark.line, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line
        return f"{self.path}:{line + 1}"

    def as_a(self, schema: type[Schema]) -> Schema:
        return _validated(schema, self.data, file=self)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which builds plain data only and names every other tag; it refuses a doubled key too.

    A text that begins with `~/` is a path in the home folder.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return os.path.expanduser(loader.construct_scalar(node))


def _unknown_tag(loader: _Loader, node: yaml.Node) -> Any:
    raise yaml.constructor.ConstructorError(
        None, None, f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')} is not allowed here", node.start_mark
    )


_Loader.add_constructor("tag:yaml.org,2002:str", _text)
_Loader.add_constructor(None, _unknown_tag)  # type: ignore[type-var]


def _validated(schema: type[Schema], data: Any, *, file: YamlFile | None = None) -> Schema:
    """`data` as a `schema`; the UsageError names the line of `file` and the first thing that is wrong."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
    place, kind = problem["loc"], problem["type"]
    line = f"{file.where(place)}: " if file else ""
    key = ".".join(map(str, place))
    if kind == "extra_forbidden":
        known = _keys_at(schema, place[:-1])
        raise UsageError(f"{line}no setting is called {key!r}{nearest(str(place[-1]), known)}")
    if kind == "missing":
        raise UsageError(f"{line}the setting {key!r} is missing")
    if kind == "value_error":
        raise UsageError(line + problem["msg"].removeprefix("Value error, "))
    in_yaml = {"tuple_type": "a list", "model_type": "NAME or NAME: {option: value}", "dict_type": "`key: value` lines"}
    expected = in_yaml.get(kind, problem["msg"].removeprefix("Input should be "))
    raise UsageError(f"{line}{key}: expected {expected}, got {problem['input']!r}")


def _keys_at(schema: Any, place: Sequence[str | int]) -> list[str]:
    """The settings of the group at `place` below `schema`, for the nearest spelling."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        if not place:
            return list(schema.model_fields)
        field = schema.model_fields.get(str(place[0]))
        return _keys_at(field.annotation, place[1:]) if field else []
    groups = [each for each in get_args(schema) if each not in (type(None), str, ...)]
    rest = place[1:] if get_origin(schema) in (dict, tuple, list) else place
    return next((keys for group in groups if (keys := _keys_at(group, rest))), [])
