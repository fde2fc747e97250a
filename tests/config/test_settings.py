"""`--set` reaches every option, and a wrong one is answered with what it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamseg.config import PipelineConfig, read_config, with_settings
from streamseg.types import UsageError
from tests.config.files import file_of


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("engine.batch_size=8", lambda config: config.engine.options == {"model": "people", "batch_size": 8}),
        ("effects.0.classes=[dog]", lambda config: config.effects[0].options == {"classes": ["dog"]}),
        ("effects.1=splash", lambda config: config.effects[1].name == "splash"),
        ("tracker=null", lambda config: config.tracker is None),
        ("tracker.max_missed=3", lambda config: config.tracker.options == {"max_missed": 3}),
        ("parallel=4", lambda config: config.parallel == 4),
    ],
)
def test_set_reaches_every_option(tmp_path: Path, setting: str, found: Any) -> None:
    text = "engine: {auto: {model: people}}\neffects: [splash, counts]\n"
    config = read_config(file_of(tmp_path, text), PipelineConfig)
    assert found(with_settings(config, [setting]))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("enjin.batch_size=8", "no setting is called 'enjin'; did you mean 'engine'?"),
        ("effects.2.classes=[dog]", "expected a position from 0 to 1, got '2'"),
        ("parallel=many", "parallel: expected a valid integer"),
        ("parallel", "expected PATH=VALUE"),
        ("parallel.more=1", "'more' leads nowhere"),
        ("effects=[", "is no YAML value"),
        ("effects=!!python/name:os.system", "is no YAML value"),
    ],
)
def test_a_wrong_set_is_answered_with_what_it_should_be(tmp_path: Path, setting: str, words: str) -> None:
    config = read_config(file_of(tmp_path, "effects: [splash, counts]\n"), PipelineConfig)
    with pytest.raises(UsageError) as error:
        with_settings(config, [setting])
    assert f"--set {setting}: " in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize("setting", ["source.adress=rtsp://admin:ses@me@cam/1", "rtsp://admin:ses@me@cam/1"])
def test_a_wrong_set_shows_no_password(tmp_path: Path, setting: str) -> None:
    with pytest.raises(UsageError) as error:
        with_settings(read_config(file_of(tmp_path, "engine: auto"), PipelineConfig), [setting])
    assert "ses" not in str(error.value) and "cam/1" in str(error.value)
