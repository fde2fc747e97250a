"""`streamseg models`: which models there are, what one is, and how to get another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streamseg.cli.arguments import a_path

if TYPE_CHECKING:
    from streamseg.config import ModelConfig, OnnxConfig, TrainingConfig

app = typer.Typer(
    help=(
        "List, show or download models.\n\n"
        "\b\nExamples:\n"
        "  streamseg models\n"
        "  streamseg models show people\n"
        "  streamseg models show mask_rcnn_moles.h5 --class-names mole,naevus\n"
        "  streamseg models show yolo.onnx\n"
        "  streamseg models download coco\n"
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
        path = zoo.resolve(name)
        typer.echo(f"{name:26}{_classes(path):46}{_megabytes(path):>8}  {path}")
    for name, known in zoo.KNOWN.items():
        if name not in zoo.names():
            typer.echo(f"{name:26}not here yet: streamseg models download {name}  ({known.url})")


@app.command()
def show(
    name: str = typer.Argument(..., metavar="NAME|FOLDER|FILE|YAML", help="A model, or a configuration of one."),
    class_names: str = typer.Option(
        None,
        "--class-names",
        metavar="A,B",
        help="What the classes of a foreign file are called, in its order.",
    ),
) -> None:
    """Show every knob of a model and of its training: what it is set to, whether that is the default, what it does.

    \b
    Examples:
      streamseg models show people
      streamseg models show mask_rcnn_moles.h5 --class-names mole,naevus
      streamseg models show yolo.onnx
      streamseg models show configs/people.yaml
    """
    import shutil

    from streamseg import zoo
    from streamseg.cli.knobs import onnx_table, table
    from streamseg.request import names_of
    from streamseg.types import UsageError

    width = max(min(shutil.get_terminal_size((100, 0)).columns, 140), 80)
    if zoo.is_onnx(name):
        facts, foreign = _of_onnx(name, names_of(class_names))
        typer.echo(_head(facts) + onnx_table(foreign, width=width))
        return
    if file := _configuration(name):
        if class_names:
            raise UsageError(f"--class-names: {file} has names of its own; they are for a weights file")
        facts, model, training = _of_configuration(file)
    else:
        facts, model, training = _of_model(name, names_of(class_names))
    typer.echo(_head(facts) + table(model, training, width=width))


@app.command()
def download(
    name: str = typer.Argument(
        ...,
        metavar="NAME|URL#sha256=HEX",
        help="A known model such as coco, or a zip of model.yaml and model.weights.h5 with its hash.",
    ),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Say nothing but errors."),
) -> None:
    """Fetch a model into the cache folder; --model then takes its name.

    A download that broke off goes on where it stopped.

    \b
    Examples:
      streamseg models download coco
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


Described = tuple[dict[str, Any], "ModelConfig", "TrainingConfig | None"]
"""Facts for the head of the page, and the knobs."""


def _head(facts: Mapping[str, Any]) -> str:
    """The facts as lines, and an empty one below them."""
    return "\n".join(f"{key}: {value}" for key, value in facts.items() if value) + "\n\n"


def _configuration(name: str) -> Path | None:
    """The YAML file of a configuration, by its path or, where no model is called so, by its name."""
    from streamseg import zoo
    from streamseg.config import ready_files
    from streamseg.types import StreamsegError

    if name.endswith((".yaml", ".yml")):
        return a_path(name)
    ready = {file.stem: file for file in ready_files("configs")}
    try:
        zoo.resolve(name)
    except StreamsegError:
        return ready.get(name)
    return None


def _of_configuration(file: Path) -> Described:
    from streamseg.config import ExperimentConfig, read_config

    experiment = read_config(file, ExperimentConfig)
    facts = {"configuration": file, "command": f"streamseg train {file}"}
    return facts, experiment.model, experiment.training


def _of_model(name: str, class_names: tuple[str, ...]) -> Described:
    from pydantic import ValidationError

    from streamseg import zoo
    from streamseg.config import TrainingConfig, read_yaml
    from streamseg.model_folder import ModelFolder

    model = ModelFolder.open(name, class_names=class_names)
    facts: dict[str, Any] = {"model": f"{model.path}, weights of {_megabytes(model.path)}"}
    if model.path.is_file():
        return facts, model.config, None
    card = read_yaml(model.path / zoo.CONFIG)
    facts["command"] = card.get("command")
    training = None
    if card.get("training"):
        try:
            training = TrainingConfig.model_validate(card["training"])
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            facts["training"] = f"of another version of streamseg, whose setting {key!r} this one does not have"
    return facts, model.config, training


def _of_onnx(name: str, class_names: tuple[str, ...]) -> tuple[dict[str, Any], OnnxConfig]:
    """What was read off an ONNX file, and what the YAML file beside it says."""
    from streamseg.engines._onnx_file import OnnxModel

    file, _ = OnnxModel.open(name, class_names=class_names)
    facts: dict[str, Any] = {"model": f"{file.path}, {_megabytes(file.path)}", **file.facts}
    return {**facts, "classes": _some(file.class_names[1:])}, file.config


def _classes(path: Path) -> str:
    from streamseg import zoo
    from streamseg.config import read_yaml

    if path.is_file():
        names = list(zoo.class_names_of(path) or ())
    else:
        card = read_yaml(path / zoo.CONFIG)
        names = [str(name) for name in (card.get("model") or card).get("class_names") or ()][1:]
    return _some(names)


def _some(names: Sequence[str]) -> str:
    """The first four names, and how many more there are."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _megabytes(path: Path) -> str:
    from streamseg import zoo

    weights = path if path.is_file() else path / zoo.WEIGHTS
    return f"{weights.stat().st_size / 1e6:.1f} MB"
