"""The options of a command as the fields of a dataclass declare them, for typer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any

import typer
from typer.core import TyperCommand

from streamseg.request import Option

Command = Callable[..., None]


def taking(declared: type) -> Callable[[Command], Command]:
    """A command that takes the options of this dataclass before its own, and gets what was asked as one of it.

    The command's first parameter is the dataclass, the others, by keyword, are its own options.
    """
    options = {each.name: each for each in fields(declared) if "option" in each.metadata}

    def changed(command: Command) -> Command:
        @functools.wraps(command)
        def called(**values: Any) -> None:
            asked = {name: values.pop(name) for name in options}
            given = {name: value for name, value in asked.items() if value not in (None, [])}
            command(declared(**{key: _settled(value) for key, value in given.items()}), **values)

        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        parameters = [*map(_parameter, options.values()), *own]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        return called

    return changed


def filling_in(words: Callable[[], Mapping[str, str]]) -> type[TyperCommand]:
    """A command with words in braces in its help, which are looked up when somebody asks for the help."""

    class Filled(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            having_help: list[Any] = [each for each in (self, *self.params) if getattr(each, "help", None)]
            for word, meaning in words().items():
                for each in having_help:
                    each.help = each.help.replace(f"{{{word}}}", meaning)
            super().format_help(ctx, formatter)

    return Filled


def _settled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _parameter(declared: Field[Any]) -> inspect.Parameter:
    """The field as a parameter that typer understands."""
    option: Option = declared.metadata["option"]
    kind = list[str] if option.several else option.kind
    how: dict[str, Any] = {"metavar": option.metavar, "help": option.help, "show_default": False}
    how |= {"min": option.least, "max": option.most, "parser": option.read and _reader(option.read)}
    make: Any = typer.Option if option.flags else typer.Argument
    default = make(False if option.kind is bool else None, *option.flags, **how)
    return inspect.Parameter(declared.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _reader(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same with its ValueError as wrong use of the command line."""

    @functools.wraps(read)
    def reader(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return reader
