"""An option of a run is declared once: it stands in the command, in its help and in Python by the same field."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from streamseg.cli import app
from streamseg.cli.options import filling_in, taking
from streamseg.request import Request, duration, names_of, quality_of, seconds, some_names


def request_of(*arguments: str, fails: bool = False) -> Any:
    """What a command that takes a Request gets from these arguments; or what it says of them."""
    heard: list[Request] = []
    own = typer.Typer(rich_markup_mode=None)

    @own.command(cls=filling_in(lambda: {"outputs": "A tape"}))
    @taking(Request)
    def command(asked: Request, *, loud: bool = typer.Option(False, "--loud")) -> None:
        heard.append(asked)

    said = CliRunner().invoke(own, list(arguments), catch_exceptions=False)
    assert (said.exit_code == 2) == fails, said.output
    return " ".join(said.output.split()) if fails or not heard else heard[0]


def test_every_field_is_an_option_of_the_command_and_in_its_help() -> None:
    said = CliRunner().invoke(app, ["run", "--help"]).stdout
    options = {each.name: each.metadata.get("option") for each in fields(Request)}
    assert [name for name, option in options.items() if option is None] == ["writes"]
    for name, option in options.items():
        for flag in option.flags if option else ():
            assert f"{flag} " in said.replace(",", " ").replace("\n", " "), name
    assert "{outputs}" not in said and "{inputs}" not in said and "{engines}" not in said
    assert "{stem} and {folder}" in " ".join(said.split())


def test_nothing_said_is_the_request_as_it_is_from_python() -> None:
    assert request_of() == Request()


def test_texts_of_the_command_line_become_the_values_that_python_gives() -> None:
    said = "a.mp4 b.mp4 -o out --output x.gif --effect splash --effect labels:a=1 --classes a,b --stride 2 --start 1:30"
    said += " --quality 18.5 --min-score 0.25 --overwrite --set a.b=1 --set c=2 --parallel 3 --codec av1 --preset fast"
    said += " --line gate=0,0,1,1 --line door=0,1,1,0 --zone shop=0,0,1,0,1,1"
    assert request_of(*said.split()) == Request(
        inputs=("a.mp4", "b.mp4"),
        outputs=("out", "x.gif"),
        effects=("splash", "labels:a=1"),
        classes=("a", "b"),
        stride=2,
        start=90.0,
        quality=18.5,
        min_score=0.25,
        overwrite=True,
        settings=("a.b=1", "c=2"),
        parallel=3,
        codec="av1",
        preset="fast",
        lines=("gate=0,0,1,1", "door=0,1,1,0"),
        zones=("shop=0,0,1,0,1,1",),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--start", "soon"], "'--start': expected a time such as 90, 90s or 1:30, got 'soon'"),
        (["--stride", "0"], "'--stride'"),
        (["--min-score", "2"], "'--min-score'"),
        (["--codc", "av1"], "--codec"),
    ],
)
def test_a_wrong_value_is_wrong_use_that_names_the_option(arguments: list[str], words: str) -> None:
    assert words in request_of(*arguments, fails=True)


def test_a_word_in_braces_is_filled_in_when_the_help_is_asked_for_and_any_other_stays() -> None:
    assert "A tape, or a folder for the default names; {stem} and {folder} are" in request_of("--help")


def test_texts_that_stand_for_other_values() -> None:
    assert (names_of(" a, b,"), names_of(None), names_of("")) == (("a", "b"), (), ())
    assert (quality_of("18"), quality_of("lossless"), quality_of("1.5.2")) == (18.0, "lossless", "1.5.2")
    assert seconds("1:00:00.5") == 3600.5


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("0.5", 0.5), ("1.5s", 1.5), ("10m", 600), ("12h", 43200), ("7d", 604800)]
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, expected: float) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize("text", ["", "0", "0m", "-1", "1:30", "10 minutes", "7w", "nan", "inf"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 90s, 10m, 12h or 7d, got "):
        duration(text)


def test_one_text_where_several_are_taken_is_one() -> None:
    request = Request.of(effects="splash", classes="person", publish="a.csv")
    assert (request.effects, request.classes, request.publish) == (("splash",), ("person",), ("a.csv",))


def test_no_name_at_all_is_no_choice() -> None:
    with pytest.raises(ValueError, match="expected names such as person,car, got ''"):
        some_names("")
