"""`streamseg models`: which models there are, what one is, and how to get another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

app = typer.Typer(
    help=(
        "List, show or download models.\n\n"
        "\b\nExamples:\n"
        "  streamseg models\n"
        "  streamseg models show people\n"
        "  streamseg models download https://example.com/birds.zip#sha256=..."
    ),
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def models(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is not None:
        return
    from streamseg import zoo

    for name in zoo.names():
        folder = zoo.resolve(name)
        card = _card(folder)
        typer.echo(f"{name:16}{_classes(card):40}{_megabytes(folder):>8}  {folder}")
    for name, known in zoo.KNOWN.items():
        if name not in zoo.names():
            typer.echo(f"{name:16}not here yet: streamseg models download {name}  ({known.url})")


@app.command()
def show(name: str = typer.Argument(..., metavar="NAME|FOLDER", help="A model on this machine.")) -> None:
    """Show a model's classes, size, settings and the command that trained it."""
    import yaml

    from streamseg import zoo

    folder = zoo.resolve(name)
    typer.echo(f"# {folder}, weights of {_megabytes(folder)}")
    typer.echo(yaml.safe_dump(_card(folder), sort_keys=False, allow_unicode=True, default_flow_style=None, width=110))


@app.command()
def download(
    name: str = typer.Argument(
        ...,
        metavar="NAME|URL#sha256=HEX",
        help="A known model, or a zip of model.yaml and model.weights.h5 with its hash.",
    ),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Say nothing but errors."),
) -> None:
    """Fetch a model into the cache folder; --model then takes its name.

    \b
    Example:
      streamseg models download https://example.com/birds.zip#sha256=...
      streamseg run garden.mp4 --model birds
    """
    import sys

    from streamseg import zoo

    folder = zoo.download(
        name,
        progress=sys.stderr.isatty() and not quiet,
        report=lambda line: None if quiet else typer.echo(line, err=True),
    )
    typer.echo(str(folder))


def _card(folder: Path) -> dict[str, Any]:
    from streamseg import zoo
    from streamseg.config import read_yaml

    return read_yaml(folder / zoo.CONFIG)


def _classes(card: dict[str, Any]) -> str:
    names = [str(name) for name in (card.get("model") or card).get("class_names", ())][1:]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _megabytes(folder: Path) -> str:
    from streamseg import zoo

    return f"{(folder / zoo.WEIGHTS).stat().st_size / 1e6:.1f} MB"
