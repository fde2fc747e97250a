"""`streamseg train`: train the model that a configuration describes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer

from streamseg.cli.arguments import a_path

_HELP = """Train the model that a YAML file describes.

CONFIG is a YAML file, or the name of one that ships with streamseg.

The folder of the run holds model.yaml and model.weights.h5, which --model takes in every command, with checkpoints
and TensorBoard logs beside them. Ctrl-C loses the epoch that was running; --resume goes on after the last whole one.

\b
Examples:
  streamseg train configs/people.yaml
  streamseg train configs/people.yaml -o runs/wide --set training.workers=4
  streamseg train configs/people.yaml --resume
  tensorboard --logdir runs
"""


def train(
    config: str = typer.Argument(..., metavar="CONFIG", help="A YAML file, such as configs/people.yaml."),
    output: Path = typer.Option(None, "-o", "--output", parser=a_path, metavar="FOLDER", help="Default: runs/NAME."),
    resume: bool = typer.Option(False, "--resume", help="Go on after the last whole epoch in the folder."),
    settings: list[str] = typer.Option([], "--set", metavar="PATH=VALUE", help="Any setting: training.workers=4"),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Say nothing but errors."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Say more."),
) -> None:
    import sys

    from streamseg.cli.progress import TrainingProgress, greetings_hidden, log_to_stderr
    from streamseg.config import ExperimentConfig, config_file, read_config, with_settings

    log_to_stderr(quiet=quiet, verbose=verbose)
    experiment = with_settings(read_config(config_file(config), ExperimentConfig), settings)
    with greetings_hidden():
        from streamseg.training.fit import train as fit

    began = time.monotonic()
    command = " ".join(["streamseg", *sys.argv[1:]])
    with TrainingProgress(quiet=quiet) as progress:
        folder: Any = fit(experiment, output=output, resume=resume, command=command, progress=progress)
    if not quiet:
        typer.echo(f"{folder}: trained in {(time.monotonic() - began) / 60:.1f} minutes")


train.__doc__ = _HELP
