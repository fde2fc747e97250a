"""Knobs come from YAML, and what is wrong is said with its file, its line and the nearest spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamseg.config import (
    Component,
    ExperimentConfig,
    PipelineConfig,
    config_file,
    read_config,
    read_yaml,
    with_settings,
)
from streamseg.config.yaml_file import yaml_value
from streamseg.types import UsageError
from tests.config.files import file_of


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("parallel: 2\nefects: []\n", 2, "no setting is called 'efects'; did you mean 'effects'?"),
        ("streams:\n  a:\n    sorce: x\n", 3, "no setting is called 'streams.a.sorce'; did you mean 'source'?"),
        ("effects:\n  - splash\n  - {a: {}, b: {}}\n", 3, "expected NAME or NAME: {option: value}, got the keys a, b"),
        ("effects:\n  - splash: 3\n", 2, "expected NAME: {option: value}, got splash: 3"),
        ("\nparallel: none\n", 2, "parallel: expected a valid integer"),
        ("effects: splash\n", 1, "effects: expected a list, got 'splash'"),
        ("effects: []\nstreams: {a: {}}\n", 1, "got both: streams and effects"),
        ("engine: auto\n\nengine: auto\n", 3, "the key 'engine' stands twice"),
        ("engine: !!python/object/apply:os.getcwd []\n", 1, "the tag !!python/object/apply:os.getcwd is not allowed"),
        ("a: 1\nengine: !!python/name:os.system\n", 2, "the tag !!python/name:os.system is not allowed"),
        ("engine: !include other.yaml\n", 1, "the tag !include is not allowed"),
        ("effects: [\n", 2, "expected the node content"),
        ("- splash\n", 1, "expected `key: value` lines, got list"),
        ("splash\n", 1, "expected `key: value` lines, got str"),
    ],
)
def test_what_is_wrong_in_a_yaml_file_is_said_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = file_of(tmp_path, text)
    with pytest.raises(UsageError) as error:
        read_config(path, PipelineConfig)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert words in str(error.value)


def test_a_python_tag_runs_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with pytest.raises(UsageError):
        read_yaml(file_of(tmp_path, f"x: !!python/object/apply:pathlib.Path.touch [{made}]"))
    assert not made.exists()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: \x00"])
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "street.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="street.yaml"):
        read_yaml(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)


def test_every_configuration_that_ships_is_valid_and_opens_with_its_command() -> None:
    path = config_file("people")
    assert read_config(path, ExperimentConfig).name == "people"
    for each in path.parent.glob("*.yaml"):
        read_config(each, ExperimentConfig)
        assert f"streamseg train configs/{each.name}" in each.read_text().splitlines()[0]


def test_a_wrong_configuration_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no configuration is called 'poeple'; did you mean 'people'?"):
        config_file("poeple")


def test_a_text_that_begins_with_a_tilde_is_a_path_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    text = (
        "source: {video_file: {path: ~/a.mp4}}\nsinks: [{jsonl: {path: '~/a.jsonl'}}]\nengine: {keras: {model: ~/m}}\n"
    )
    config = with_settings(read_config(file_of(tmp_path, text), PipelineConfig), ["sinks.0.crops=no"])
    assert config.source == Component(name="video_file", options={"path": "/home/me/a.mp4"})
    assert config.sinks[0].options == {"path": "/home/me/a.jsonl", "crops": False}
    assert config.engine.options == {"model": "/home/me/m"}
    assert with_settings(config, ["sinks.0.path=~/b.jsonl"]).sinks[0].options["path"] == "/home/me/b.jsonl"
    assert config_file("~/mine.yaml") == Path("/home/me/mine.yaml")


def test_a_colour_on_the_command_line_is_no_comment() -> None:
    assert (yaml_value("#00ff00"), yaml_value("a #b"), yaml_value("3")) == ("#00ff00", "a", 3)
