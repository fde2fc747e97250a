"""A name in a YAML file or on the command line becomes the component of that name, with its options checked.

A component of the package is a file in its room (`rooms.py`); a class outside is named `my_package.blur:FaceBlur`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import inspect
import traceback
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import pydantic

from streamseg import labels, rooms
from streamseg import types as nouns
from streamseg.rooms import ROOMS, Said, names
from streamseg.types import StreamsegError, UsageError
from streamseg.words import nearest

WANTS_A_LIST = ("tuple_type", "list_type", "set_type", "frozen_set_type", "sequence_str")
"""What pydantic calls the mistake of giving one text where several are taken."""


READY = ("engine", "dataset", "format")
"""Components whose attributes all hold from the beginning; a source knows of its pictures only once it was entered."""


def find(room: str, name: str) -> type:
    """The class of the component `name`; `package.module:Class` finds one outside streamseg.

    UsageError also where it lacks a method that every component of its room has.
    """
    noun = ROOMS[room]
    if ":" in name:
        return _complete(_outside_class(noun, name), noun, name)
    _check_known(room, name)
    module = importlib.import_module(f"streamseg.{room}.{name}")
    found = getattr(module, rooms.class_name(name), None)
    if not isinstance(found, type):
        raise UsageError(f"{noun} {name}: {module.__file__} has no class {rooms.class_name(name)!r}")
    return _complete(found, noun, name)


def said(room: str, name: str) -> Said:
    """What a source or a sink says of itself; one outside streamseg is imported for it."""
    if ":" not in name:
        _check_known(room, name)
        return rooms.said(room, name)
    found = find(room, name)
    values = {each.name: getattr(found, each.name) for each in dataclasses.fields(Said) if hasattr(found, each.name)}
    return _said_by(values, f"{ROOMS[room]} {name}")


def spelled(room: str, name: str, text: str) -> dict[str, Any]:
    """The options that the component makes of what a person wrote for it, such as `1280x720@30` after `test:`."""
    parse = getattr(find(room, name), "spelled", None)
    if parse is None:
        return {said(room, name).argument: text} if text else {}
    return dict(parse(text))


def check_claims(room: str, used: Iterable[str]) -> None:
    """Raise UsageError where one of these components serves an ending or a scheme that another one serves.

    What a class inherits it does not claim: it is a variant, and is asked for by its own name.
    """
    speaking = {name: rooms.said(room, name) for name in names(room)}
    for name in used:
        if ":" in name:
            own = vars(find(room, name))
            claims = {key: own[key] for key in ("endings", "schemes") if key in own}
            speaking[name] = _said_by(claims, f"{ROOMS[room]} {name}")
    rooms.all_served(room, speaking)


def build(room: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """The component `name` made with `options`; UsageError tells what, expected, got and the nearest right spelling."""
    checked = check(room, name, options)
    noun = ROOMS[room]
    try:
        made = find(room, name)(**checked)
    except UsageError as error:
        raise UsageError(_named(noun, name, str(error))) from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{noun} {name}: {error}") from error
    except Exception as error:
        if ":" not in name or isinstance(error, StreamsegError):
            raise
        raise UsageError(f"{noun} {name}: {_words(error)}") from error
    for attribute in _protocol(noun).__annotations__ if noun in READY else ():
        if not hasattr(made, attribute):
            raise UsageError(f"{noun} {name}: {type(made).__name__} is no {noun}, it has no {attribute!r}")
    return made


def check(room: str, name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The options as the component's constructor wants them; nothing is made.

    A path becomes a Path, a list a tuple, and one text where a list is wanted a list of one.
    """
    options = dict(options or {})
    noun = ROOMS[room]
    schema = _schema(find(room, name))
    while True:
        try:
            model = schema.model_validate(options)
            break
        except pydantic.ValidationError as error:
            problem = error.errors(include_url=False)[0]
        option = str(problem["loc"][0])
        if problem["type"] not in WANTS_A_LIST or not isinstance(options[option], str):
            raise UsageError(f"{noun} {name}: {_in_words(problem, schema)}")
        options[option] = [options[option]]
    given = {key for key, field in schema.model_fields.items() if (field.alias or key) in options}
    checked = {schema.model_fields[key].alias or key: getattr(model, key) for key in given}
    return checked | dict(model.model_extra or {})


def option_names(room: str, name: str) -> list[str]:
    """The options that the component takes, in the order of its constructor."""
    return [field.alias or key for key, field in _schema(find(room, name)).model_fields.items()]


def options_in_words(room: str, name: str) -> list[str]:
    """The options with their types and defaults, as `where: 'objects' | 'rest' = 'objects'`, one string an option."""
    component = find(room, name)
    hints = _hints(component)
    lines = []
    for parameter in _options_of(inspect.signature(component)):
        needed = parameter.default is inspect.Parameter.empty
        kind = _type_in_words(hints.get(parameter.name, parameter.annotation))
        lines.append(f"{parameter.name}: {kind}{' (needed)' if needed else f' = {parameter.default!r}'}")
    return lines


def _check_known(room: str, name: str) -> None:
    known = names(room)
    if name not in known:
        raise UsageError(f"no {ROOMS[room]} is called {name!r}{nearest(name, known)}")


def _named(noun: str, name: str, message: str) -> str:
    """A component's own message, opened with its name where it does not say it."""
    return f"{noun} {name}: {message.removeprefix(f'{noun} ').removeprefix(f'{name}: ')}"


def _outside_class(noun: str, name: str) -> type:
    module_name, _, class_name = name.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise UsageError(f"{noun} {name}: expected package.module:Class, got {module_name!r} as its module")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"{noun} {name}: the module {module_name!r} cannot be imported: {error}; "
            "is it installed, or its folder on PYTHONPATH?"
        ) from error
    except Exception as error:
        raise UsageError(f"{noun} {name}: the module {module_name!r} cannot be imported: {_words(error)}") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise UsageError(f"{noun} {name}: {module_name} has no class {class_name!r}{nearest(class_name, classes)}")
    return found


def _words(error: Exception) -> str:
    """A mistake in a class outside, and where it is."""
    frames = [] if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)  # it says so itself
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def _complete(found: type, noun: str, name: str) -> type:
    """The class, if it has every method of its room's protocol."""
    protocol = _protocol(noun)
    methods = [key for key, value in vars(protocol).items() if getattr(value, "__module__", "") == protocol.__module__]
    picks_another = "__new__" in vars(found)  # its instances are of another class
    for method in methods:
        if not picks_another and not callable(getattr(found, method, None)):
            raise UsageError(f"{noun} {name}: {found.__name__} is no {noun}, it has no method {method!r}")
    return found


def _protocol(noun: str) -> Any:
    return labels.Format if noun == "format" else getattr(nouns, noun.capitalize())


def _said_by(values: Mapping[str, Any], who: str) -> Said:
    """What a class says of itself by these attributes; a property or a method of such a name is its own affair."""
    try:
        return Said(**rooms.checked({key: value for key, value in values.items() if not _is_code(value)}))
    except ValueError as error:
        raise UsageError(f"{who}: {error}") from None


def _is_code(value: Any) -> bool:
    return callable(value) or isinstance(value, property | functools.cached_property)


def _options_of(signature: inspect.Signature) -> list[inspect.Parameter]:
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [parameter for parameter in signature.parameters.values() if parameter.kind not in variadic]


@functools.cache
def _schema(component: type) -> type[pydantic.BaseModel]:
    """A pydantic model with one field for every parameter of the constructor; what else is given is refused."""
    signature = inspect.signature(component)
    hints = _hints(component)
    fields: dict[str, Any] = {}
    for position, parameter in enumerate(_options_of(signature)):
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        # Aliases, because an option may be called like a method of pydantic's (`copy`, `schema`).
        fields[f"option_{position}"] = (
            hints.get(parameter.name, Any),
            pydantic.Field(default, alias=parameter.name),
        )
    takes_more = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
    config = pydantic.ConfigDict(extra="allow" if takes_more else "forbid", arbitrary_types_allowed=True)
    return pydantic.create_model(component.__name__, __config__=config, **fields)


def _hints(component: type) -> dict[str, Any]:
    """The constructor's annotations as types; one that only a type checker can resolve counts as Any."""
    made_by = getattr(component, "__new__" if "__new__" in vars(component) else "__init__")
    try:
        return typing.get_type_hints(made_by, include_extras=True)
    except Exception:  # of a class outside, whatever stands there
        return {}


def _type_in_words(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(map(_type_in_words, typing.get_args(hint)))
    if isinstance(hint, type) and not typing.get_args(hint):
        return "None" if hint is type(None) else hint.__name__
    return str(hint).replace("typing.", "").replace("collections.abc.", "")


def _in_words(problem: Mapping[str, Any], schema: type[pydantic.BaseModel]) -> str:
    option = str(problem["loc"][0])
    known = [field.alias or key for key, field in schema.model_fields.items()]
    if problem["type"] == "extra_forbidden":
        return f"no option is called {option!r}{nearest(option, known)}"
    if problem["type"] == "missing":
        return f"the option {option!r} is missing"
    where = option + "".join(f"[{part}]" for part in problem["loc"][1:] if isinstance(part, int))
    expected = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("a valid ")
    if problem["type"] == "literal_error":
        choices = [part.strip("' ") for part in expected.replace(" or ", ", ").split(",")]
        expected = f"one of {expected}"
        if isinstance(problem["input"], str):
            close = difflib.get_close_matches(problem["input"], choices, n=1)
            expected += f" (did you mean {close[0]!r}?)" if close else ""
    return f"{where}: expected {expected}, got {problem['input']!r}"
