"""Knobs are read from YAML that builds plain data only, and what is wrong is said with its file and its line."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from streamseg.config.knobs import Place, Schema, validated
from streamseg.types import UsageError
from streamseg.words import nearest


def yaml_value(text: str) -> Any:
    """A value as it may stand in a YAML file of ours; yaml.YAMLError for a text that is none. `#0f0` is no comment."""
    if text.lstrip().startswith("#"):
        return text.strip()
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

    def where(self, place: Place) -> str:
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
        return validated(schema, self.data, where=self.where)


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
_Loader.add_constructor(None, _unknown_tag)
