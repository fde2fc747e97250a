"""`--set PATH=VALUE`: one knob of a configuration, set from the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from streamseg.config.knobs import Knobs, validated
from streamseg.config.pipeline import Component
from streamseg.config.yaml_file import yaml_value
from streamseg.types import UsageError
from streamseg.words import nearest, without_credentials


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
        return validated(type(config), given | {key: changed})
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
            raise UsageError(f"--set {without_credentials(text)}: {without_credentials(str(error))}") from None
    return config


def setting(text: str) -> tuple[list[str], Any]:
    """The path and the value of `engine.batch_size=8`."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise UsageError(f"--set {without_credentials(text)}: expected PATH=VALUE, such as engine.batch_size=8")
    try:
        return path.strip().split("."), yaml_value(value)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", error)
        raise UsageError(f"--set {without_credentials(text)}: this is no YAML value: {problem}") from None
