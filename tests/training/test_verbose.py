"""`train -v` says what learns, on what and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from streamseg.cli import app
from tests.tiny_model import make_balls, tiny_experiment, tiny_stage


@pytest.mark.usefixtures("eager")
def test_training_verbosely_tells_the_backend_the_stage_and_the_layers_that_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stage = tiny_stage(epochs=1, layers="box_head/.*")
    experiment = tiny_experiment(make_balls(tmp_path / "data"), stages=(stage,))
    (tmp_path / "balls.yaml").write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    ran = CliRunner().invoke(app, ["train", "balls.yaml", "-v"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.stderr
    lines = [line for line in ran.stderr.splitlines() if line.startswith("streamseg: ")]
    assert any(line.startswith("streamseg: Keras on ") and line.endswith(" from nothing") for line in lines)
    (layers,) = [line for line in lines if line.startswith("streamseg: layers box_head/.*: ")]
    assert "box_head/logits" in layers and "mask_head" not in layers
    (epochs,) = [line for line in lines if line.startswith("streamseg: epochs 1 to 1: ")]
    assert f"crop={stage.crop} " in epochs and f"batch_size={stage.batch_size} " in epochs
