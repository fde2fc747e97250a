"""Every knob of a model and its training as a table: what it is set to, whether that is the default, what it does."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamseg.config import Component, Knobs, ModelConfig, OnnxConfig, TrainingConfig

GROUPS: Mapping[str, str] = {
    "family": "The network and its input",
    "fpn_channels": "Pyramid",
    "anchor_sizes": "Anchors and proposals",
    "roi_sampling": "Heads",
    "detection_min_score": "Detections",
    "train": "Training: the pictures and the start",
    "frozen_stages": "Training: what learns, and how exactly it is computed",
    "optimizer": "Training: steps",
    "loss_weights": "Training: losses and targets",
    "taught_weight": "Training: how the pictures are read",
}
"""The knob that opens a group → the group's heading; the knobs after it belong to it, in the order of their classes."""

NAME, VALUE = 27, 26
"""Columns of the names with their marks, and of a value; the effects have the rest."""

EFFECT = NAME + VALUE + 2


@dataclass(frozen=True)
class Line:
    """One knob. default: what it would be by itself, where it is set to something else."""

    name: str
    value: str
    effect: str
    default: str | None = None

    def wrapped(self, width: int) -> Iterator[str]:
        """`* name  value  effect (default: …)`, on as many lines as it takes."""
        effect = self.effect + (f" (default: {self.default})" if self.default is not None else "")
        effects = textwrap.wrap(effect, width - EFFECT, break_on_hyphens=False)
        values = textwrap.wrap(self.value, VALUE, break_on_hyphens=False)
        above: list[str] = []
        if len(values) > 3 or any(len(word) > VALUE for word in self.value.split()):
            # a long value spans the line, and the effect stands below it
            above, values = textwrap.wrap(self.value, width - NAME, break_on_hyphens=False), []
        beside = itertools.zip_longest(values, effects, fillvalue="")
        rows = [*above, *(f"{value:{EFFECT - NAME}}{effect}" for value, effect in beside)]
        name = f"{'*' if self.default is not None else ' '} {self.name}"
        for row in rows:
            yield f"{name:{NAME}}{row}".rstrip()
            name = ""


def table(model: ModelConfig, training: TrainingConfig | None, *, width: int) -> str:
    """All knobs in groups, `width` columns wide."""
    blank = type(model).of_family(model.family)
    knobs = list(_knobs([model], blank))
    if training is not None:
        knobs += _knobs([training])
    lines = [f"A * marks what is set to something else than the default of the {model.family} family."]
    for knob in knobs:
        if knob.name in GROUPS:
            lines += ["", GROUPS[knob.name]]
        lines += knob.wrapped(width)
    if training is not None:
        count = len(training.stages)
        lines += ["", "Training: the stages" + (f"; 1 | 2 | … where the {count} differ" if count > 1 else "")]
        lines += [line for knob in _knobs(training.stages) for line in knob.wrapped(width)]
        lines += ["", "Training: augment, how the views differ from the picture"]
        augments = [stage.augment for stage in training.stages]
        lines += [line for knob in _knobs(augments) for line in knob.wrapped(width)]
    return "\n".join(lines)


def onnx_table(config: OnnxConfig, *, width: int) -> str:
    """All knobs of an ONNX file and of its picture, `width` columns wide."""
    usual = OnnxConfig(kind=config.kind)
    lines = [f"A * marks what is set to something else than is usual for the kind {config.kind}."]
    for heading, group, blank in (
        ("What the outputs mean", config, usual),
        ("The picture that goes in", config.picture, usual.picture),
    ):
        lines += ["", heading, *(line for knob in _knobs([group], blank) for line in knob.wrapped(width))]
    return "\n".join(lines)


def _knobs(groups: Sequence[Knobs], blank: Knobs | None = None) -> Iterator[Line]:
    """The fields of several groups of one kind, each with the value they share or all its values.

    blank: holds the defaults, where they are not those of the fields.
    """
    for name, field in type(groups[0]).model_fields.items():
        values = [getattr(group, name) for group in groups]
        if name in ("stages", "augment", "picture"):
            continue
        texts = [as_text(value) for value in values]
        default = None
        if not field.is_required() and name != "class_names":  # each model has its own
            default = as_text(getattr(blank, name) if blank else field.get_default(call_default_factory=True))
        changed = default is not None and any(text != default for text in texts)
        value = texts[0] if len(set(texts)) == 1 else " | ".join(texts)
        yield Line(name, value, field.description or "", default if changed else None)


def as_text(value: Any) -> str:
    """A value as one would write it in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Component):
        return as_text({value.name: value.options}) if value.options else value.name
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(as_text, value)) + "]"
    return str(value)
