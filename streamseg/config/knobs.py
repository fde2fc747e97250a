"""What every group of knobs is made of: how a knob is declared and described, and how a wrong one is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamseg.types import UsageError
from streamseg.words import nearest

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]

Schema = TypeVar("Schema", bound=BaseModel)

Place: TypeAlias = Sequence[str | int]
"""Keys and list positions from the outermost group down to a knob."""


class Knobs(BaseModel):
    """A group of settings: unknown keys are refused, values cannot change later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def refuse_set(knobs: Knobs, names: Iterable[str], why: str) -> None:
    """Raise ValueError for one of the fields `names` that is set to something else than its default."""
    for name in names:
        value = getattr(knobs, name)
        if value != type(knobs).model_fields[name].default:
            raise ValueError(f"{name}: {why}, got {value}")


def validated(schema: type[Schema], data: Any, *, where: Callable[[Place], str] | None = None) -> Schema:
    """`data` as a `schema`; the UsageError says the first thing that is wrong, and `where` it stands in a file."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
    place, kind = problem["loc"], problem["type"]
    line = f"{where(place)}: " if where else ""
    key = ".".join(map(str, place))
    if kind == "extra_forbidden":
        known = _keys_at(schema, place[:-1])
        raise UsageError(f"{line}no setting is called {key!r}{nearest(str(place[-1]), known)}")
    if kind == "missing":
        raise UsageError(f"{line}the setting {key!r} is missing")
    if kind == "value_error":
        raise UsageError(line + problem["msg"].removeprefix("Value error, "))
    in_yaml = {"tuple_type": "a list", "model_type": "NAME or NAME: {option: value}", "dict_type": "`key: value` lines"}
    expected = in_yaml.get(kind, problem["msg"].removeprefix("Input should be "))
    raise UsageError(f"{line}{key}: expected {expected}, got {problem['input']!r}")


def _keys_at(schema: Any, place: Place) -> list[str]:
    """The settings of the group at `place` below `schema`, for the nearest spelling."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        if not place:
            return list(schema.model_fields)
        field = schema.model_fields.get(str(place[0]))
        return _keys_at(field.annotation, place[1:]) if field else []
    groups = [each for each in get_args(schema) if each not in (type(None), str, ...)]
    rest = place[1:] if get_origin(schema) in (dict, tuple, list) else place
    return next((keys for group in groups if (keys := _keys_at(group, rest))), [])
