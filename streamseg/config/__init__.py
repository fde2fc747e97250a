"""Every knob of a model, a training and a pipeline: typed, with its unit and its effect, read from YAML.

    from streamseg.config import PipelineConfig, read_config, with_settings

    config = read_config("pipelines/splash.yaml", PipelineConfig)
    config = with_settings(config, ["engine.batch_size=8"])    # `--set` on the command line

Everybody outside this room imports from here.
"""

from __future__ import annotations

from streamseg.config.knobs import Knobs
from streamseg.config.model import FITTED_SCORE, LEAST_SAY, MASK_END, MASK_REACH, MAX_LOG_SCALE, ModelConfig
from streamseg.config.onnx import OnnxConfig, OnnxFile, PictureConfig, is_class
from streamseg.config.pipeline import Component, PipelineConfig, StreamConfig, WebConfig
from streamseg.config.settings import setting, with_setting, with_settings
from streamseg.config.training import AugmentConfig, ExperimentConfig, StageConfig, TrainingConfig
from streamseg.config.yaml_file import YamlFile, config_file, read_config, read_yaml, ready_files, yaml_value

__all__ = [
    "FITTED_SCORE",
    "LEAST_SAY",
    "MASK_END",
    "MASK_REACH",
    "MAX_LOG_SCALE",
    "AugmentConfig",
    "Component",
    "ExperimentConfig",
    "Knobs",
    "ModelConfig",
    "OnnxConfig",
    "OnnxFile",
    "PictureConfig",
    "PipelineConfig",
    "StageConfig",
    "StreamConfig",
    "TrainingConfig",
    "WebConfig",
    "is_class",
    "YamlFile",
    "config_file",
    "read_config",
    "read_yaml",
    "ready_files",
    "setting",
    "with_setting",
    "with_settings",
    "yaml_value",
]
