"""A training that cannot be is refused where it is described, with what would fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from streamseg.config import ExperimentConfig, ModelConfig, StageConfig, TrainingConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [({"crop": 100}, "multiple of 32, got 100"), ({"scale": [2, 1]}, "smallest, largest"), ({"epochs": 0}, "epochs")],
)
def test_a_stage_that_cannot_run_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StageConfig(**{"epochs": 1, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": []}, "stages: expected at least one"),
        ({"train": []}, "train\n.*at least 1 item"),
        ({"val": [{"a": {}, "b": {}}]}, "expected NAME or NAME: {option: value}, got the keys a, b"),
        ({"loss_weights": {"mask": 2.0}}, "loss_weights: expected rpn_class, rpn_box, class, box, mask, got mask"),
        ({"mask_samples": 40}, "at most the 31 positives of roi_samples, got 40"),
        ({"roi_samples": 200}, "at most max_objects . num_proposals = 160, got 200"),
    ],
)
def test_a_training_that_cannot_run_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        options = {"train": "a.json", "stages": [{"epochs": 1}], **change}
        model = ModelConfig(num_proposals=120)
        ExperimentConfig(name="x", model=model, training=TrainingConfig(**options))


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("a.json", {"coco": {"path": "a.json"}}),
        (Path("a.json"), {"coco": {"path": "a.json"}}),
        ({"coco": {"path": "a.json", "images": "b"}}, {"coco": {"path": "a.json", "images": "b"}}),
        ("shapes", {"shapes": {}}),
        (["a.json", {"shapes": {"count": 5}}], {"coco": {"path": "a.json"}, "shapes": {"count": 5}}),
    ],
)
def test_pictures_are_named_as_one_dataset_or_a_list_and_a_json_is_cocos(given: Any, options: dict[str, Any]) -> None:
    training = TrainingConfig(train=given, val=given, stages=[{"epochs": 1}])
    assert {each.name: each.options for each in training.train} == options
    assert training.val == training.train
    assert TrainingConfig(**training.model_dump(mode="json")) == training
    assert TrainingConfig(train=given, stages=[{"epochs": 1}]).val is None


@pytest.mark.parametrize(
    ("model", "training", "message"),
    [
        ({"mean_pixel": (1, 2, 3)}, {}, "mean_pixel: nothing in the lite family reads it"),
        ({"rpn_stride": 2}, {}, "rpn_stride: nothing in the lite family"),
        (
            {**ModelConfig.matterport().model_dump(), "nms_rounds": 3},
            {},
            "nms_rounds: nothing in the matterport family",
        ),
        ({}, {"train_norm": True}, "train_norm: nothing in the lite family reads it, got True"),
        ({}, {"momentum": 0.5}, "momentum: nothing reads it with adamw, got 0.5"),
        (
            ModelConfig.matterport().model_dump(),
            {"frozen_stages": 2},
            "frozen_stages: nothing in the matterport family",
        ),
    ],
)
def test_a_knob_that_nothing_would_read_is_refused(
    model: dict[str, object], training: dict[str, object], message: str
) -> None:
    stages = [{"epochs": 1}]
    experiment = {"name": "any", "model": model, "training": {"train": "a.json", "stages": stages, **training}}
    with pytest.raises(ValidationError, match=message):
        ExperimentConfig.model_validate(experiment)
