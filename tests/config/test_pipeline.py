"""A pipeline names its components, with options or without, and what it does not name has a default."""

from __future__ import annotations

from pathlib import Path

from streamseg.config import Component, PipelineConfig, read_config
from tests.config.files import file_of


def test_a_component_is_a_name_or_a_name_with_options(tmp_path: Path) -> None:
    text = "effects:\n  - counts\n  - splash: {classes: [person]}\n  - my.blur:Faces: {strength: 2}\n"
    effects = read_config(file_of(tmp_path, text), PipelineConfig).effects
    assert effects == (
        Component(name="counts"),
        Component(name="splash", options={"classes": ["person"]}),
        Component(name="my.blur:Faces", options={"strength": 2}),
    )


def test_an_empty_pipeline_finds_follows_and_counts(tmp_path: Path) -> None:
    config = read_config(file_of(tmp_path, ""), PipelineConfig)
    assert config.engine.name == "auto"
    assert config.tracker == Component(name="mask_iou")
    assert config.counters == (Component(name="per_class"),)
    assert read_config(file_of(tmp_path, "tracker: null"), PipelineConfig).tracker is None
