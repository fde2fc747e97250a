"""What components there are and what each says of itself, read from its file without importing it.

A room (`effects`, `sinks`, …) is a package with one component a file; the file's name is the component's name and the
class carries it in CamelCase. What a source, a sink or a publisher serves stands in its class as plain values, the
fields of `Said`; the command line, its help and the checks of outputs follow from that, and nothing is registered
anywhere.

Nothing heavy is imported here, because `--help` asks too.
"""

from __future__ import annotations

import ast
import functools
import pkgutil
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

ROOMS: Mapping[str, str] = {
    "effects": "effect",
    "sources": "source",
    "sinks": "sink",
    "publishers": "publisher",
    "counters": "counter",
    "trackers": "tracker",
    "engines": "engine",
    "datasets": "dataset",
    "formats": "format",
}
"""Room -> what one component of it is called."""

SPEAKING = ("sources", "sinks", "publishers")
"""The rooms whose components say something of themselves."""

DEFAULT_ENDING = ".mp4"
"""Of an output that nobody named; who reads it also reads the files whose ending nobody claims."""

PICTURES = "pictures"
"""The `folder` of a source that plays a folder of pictures, and of a sink that writes one."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a source, a sink or a publisher says of itself: each field is an attribute of its class, or left out.

    endings: of the files that it reads or writes, `(".csv",)` · schemes: `("images",)` for `images:FOLDER` and for
    `images://…` · metavar: what stands after a scheme, for the help · argument: the option that takes it; a class
    with a static `spelled(text)` returns the options itself · folder: what it keeps in a folder of its own
    ("pictures"), nothing for a file or an address · wants_pictures: a sink shows what was drawn · remote: it talks to
    somebody else · live: its pictures come when they come, and do not wait
    """

    endings: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ()
    metavar: str = ""
    argument: str = "path"
    folder: str = ""
    wants_pictures: bool = True
    remote: bool = False
    live: bool = False

    @property
    def on_disk(self) -> bool:
        """Whether its `path` is a file or a folder that is there, or will be; so it is where nothing is said."""
        return bool(self.endings or self.folder or not self.schemes)

    @property
    def spellings(self) -> list[str]:
        """How a person asks for it: `.mp4`, `images:FOLDER`."""
        return [*self.endings, *(f"{scheme}:{self.metavar}" for scheme in self.schemes)]

    @property
    def claims(self) -> list[str]:
        """What no other component of its room may serve: `.mp4`, `images:`."""
        return [*self.endings, *(f"{scheme}:" for scheme in self.schemes)]


SHAPES = {"endings": r"\.[a-z0-9]+", "schemes": r"[a-z][a-z0-9]+"}
"""Of each text in a field, where that matters."""


KINDS: Mapping[type, str] = {tuple: "a tuple of texts", bool: "True or False", str: "a text"}
"""The kinds of values that a component says, in words."""


def names(room: str) -> list[str]:
    """The names of a room's components, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules([str(_folder(room))]) if module.name[0] != "_")


def class_name(name: str) -> str:
    """What the class of a component is called: `VideoFile` in video_file.py."""
    return "".join(word.capitalize() for word in name.split("_"))


def summary(room: str, name: str) -> str:
    """The first sentence of the component's module docstring."""
    text = ast.get_docstring(_parsed(_file(room, name))) or ""
    return " ".join(text.split("\n\n")[0].split())


@functools.cache
def said(room: str, name: str) -> Said:
    """What the component `name` of a room says of itself.

    UsageError with the file and the line for a value that is not written out as it is, or of another kind.
    """
    file = _file(room, name)
    for statement in _parsed(file).body:
        if isinstance(statement, ast.ClassDef) and statement.name == class_name(name):
            return Said(**_values(statement, file)) if room in SPEAKING else Said()
    _refuse(f"{file}: expected a class {class_name(name)}")


@functools.cache
def served(room: str) -> Mapping[str, str]:
    """Every `.ending`, `scheme:` and, of sources, `pictures` -> the component that serves it.

    UsageError names both where two claim the same.
    """
    return all_served(room, {name: said(room, name) for name in names(room)})


def all_served(room: str, speaking: Mapping[str, Said]) -> dict[str, str]:
    """The same of what these components say."""
    owners: dict[str, str] = {}
    for name, what in speaking.items():
        folder = [what.folder] if what.folder and room == "sources" else []
        for claim in [*what.claims, *folder]:
            if claim in owners:
                both = " and ".join(dict.fromkeys((owners[claim], name)))
                _refuse(f"{room}: {claim!r} is claimed twice, by {both}; one of them has to give it up")
            owners[claim] = name
    return owners


def spellings(room: str, of: Container[str] | None = None) -> list[str]:
    """How a person asks for the components `of` a room (None: all): `.mp4`, `images:FOLDER`; the default's first."""
    default = served(room).get(DEFAULT_ENDING)
    ordered = sorted(names(room), key=lambda name: name != default)
    return [text for name in ordered if of is None or name in of for text in said(room, name).spellings]


def addresses(room: str) -> list[str]:
    """Those of the spellings that are no ending: `images:FOLDER`."""
    return [text for text in spellings(room) if text[0] != "."]


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a class as fields of `Said`; ValueError for one of another kind than its field."""
    for each in fields(Said):
        if each.name in values:
            _check(each.name, values[each.name], kind=type(each.default))
    return dict(values)


def _check(name: str, value: Any, *, kind: type) -> None:
    texts: Iterable[Any] = value if isinstance(value, tuple) else ()
    if not isinstance(value, kind) or not all(isinstance(text, str) for text in texts):
        expected = KINDS[kind]
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    for text in texts:
        if name in SHAPES and not re.fullmatch(SHAPES[name], text):
            example = {"endings": ".csv", "schemes": "images"}[name]
            raise ValueError(f"{name}: expected one such as {example!r}, in small letters, got {text!r}")


def _values(found: ast.ClassDef, file: Path) -> dict[str, Any]:
    """The values that are written out in a class body under a name of `Said`."""
    known = {each.name for each in fields(Said)}
    values: dict[str, Any] = {}
    for statement in found.body:
        for name in set(_assigned(statement)) & known:
            try:
                values |= checked({name: _literal(name, statement)})
            except ValueError as error:
                _refuse(f"{file}:{statement.lineno}: {error}")
    return values


def _assigned(statement: ast.stmt) -> list[str]:
    """The names that a statement gives a value."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign) and statement.value:
        targets = [statement.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _literal(name: str, statement: Any) -> Any:
    try:
        return ast.literal_eval(statement.value)
    except (ValueError, TypeError):
        text = ast.unparse(statement.value)
        raise ValueError(f"{name}: expected a value that is written out, such as ('.csv',), got {text}") from None


@functools.cache
def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        _refuse(f"{file}:{getattr(error, 'lineno', None) or 1}: no Python: {getattr(error, 'msg', error)}")


def _file(room: str, name: str) -> Path:
    return _folder(room) / f"{name}.py"


def _folder(room: str) -> Path:
    return Path(__file__).parent / room


def _refuse(message: str) -> NoReturn:
    from streamseg.types import UsageError  # loads PyAV, which the help does without

    raise UsageError(message)
