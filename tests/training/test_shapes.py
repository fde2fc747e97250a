"""The training without data, in short: its loss falls, and it finds the shapes of pictures that it has not seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamseg.config import ExperimentConfig, config_file, read_config, with_settings
from streamseg.evaluation.evaluate import Method, evaluate
from streamseg.training.fit import train

SHORT = (
    "training.start_from=people_lite0",  # an embedded model, where the weights of ImageNet would have to be installed
    "training.start_without=rpn/(logits|deltas)|(box|mask)_head/(logits|deltas)",
    "training.train=[{shapes: {count: 160, width: 96, height: 96, most: 3, seed: 1}}]",
    "training.val=[{shapes: {count: 24, width: 96, height: 96, most: 3, seed: 2}}]",
    "model.input_sizes=[[96, 96]]",
    "training.stages.0.crop=96",
    "training.stages.0.epochs=6",
    "training.stages.0.learning_rate=0.002",
    "training.stages.0.warmup_steps=10",
    "training.ema=0.9",
)


@pytest.mark.thorough
def test_a_short_training_on_shapes_learns_to_find_them(tmp_path: Path) -> None:
    experiment = with_settings(read_config(config_file("shapes"), ExperimentConfig), SHORT)
    losses: dict[int, float] = {}
    folder = train(
        experiment,
        output=tmp_path / "shapes",
        progress=lambda state: losses.update({state["epoch"]: state["losses"]["loss"]}) if "losses" in state else None,
    )
    assert len(losses) == 6
    assert losses[6] < 0.5 * losses[1]
    assert experiment.training is not None and experiment.training.val is not None
    found = evaluate(str(folder), experiment.training.val, engine="keras", method=Method(metrics=("coco",)))
    assert found["images"] == 24
    assert found["box"]["AP50"] > 0.5 and found["mask"]["AP50"] > 0.5
