"""`streamseg inspect`: a page on what goes into a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from streamseg.training.data_check import Census

_HELP = """Look inside, and write what is found as one HTML page.

data CONFIG checks the pictures that a configuration trains and evaluates on: how many and how large they are, how the
classes are balanced, which masks are empty or doubled, which boxes do not fit, which pictures are in both parts.

\b
Examples:
  streamseg inspect data configs/nuclei.yaml -o nuclei.html
  streamseg inspect data coco -o coco.html --limit 2000
"""


def inspect(
    what: str = typer.Argument(..., metavar="data", help="data: the pictures of a training."),
    config: str = typer.Argument(None, metavar="CONFIG", help="A YAML file, such as configs/nuclei.yaml."),
    output: Path = typer.Option(..., "-o", "--output", metavar="PAGE.html", help="The page to write."),
    limit: int = typer.Option(
        None, "--limit", min=1, metavar="N", help="Read so many pictures of each part, drawn at random. Default: all."
    ),
    samples: int = typer.Option(12, "--samples", min=0, metavar="N", help="Pictures shown of each part."),
    settings: list[str] = typer.Option(
        [], "--set", metavar="PATH=VALUE", help="Any setting: training.train.0.folder=nuclei/"
    ),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Say nothing but errors."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Say more."),
) -> None:
    from streamseg.cli.progress import log_to_stderr
    from streamseg.types import UsageError

    log_to_stderr(quiet=quiet, verbose=verbose)
    if what != "data" or config is None:
        given = " ".join(filter(None, [what, config]))
        raise UsageError(f"expected `streamseg inspect data CONFIG -o PAGE.html`, got `inspect {given}`")
    _inspect_data(config, settings, output, limit=limit, num_samples=samples, quiet=quiet)


def _inspect_data(
    name: str, settings: list[str], output: Path, *, limit: int | None, num_samples: int, quiet: bool
) -> None:
    """Write the page on a configuration's datasets, and say in a few lines what is on it."""
    from streamseg.cli.progress import TrainingProgress
    from streamseg.config import ExperimentConfig, config_file, read_config, with_settings
    from streamseg.training.data_report import report, write_report

    experiment = with_settings(read_config(config_file(name), ExperimentConfig), settings)
    with TrainingProgress(quiet=quiet) as progress:
        html, census = report(
            experiment,
            num_samples=num_samples,
            limit=limit,
            progress=lambda part, done, total: progress({f"looking at {part}": done, "total": total}),
        )
    write_report(output, html)
    if not quiet:
        for line in (line for part, each in census.items() for line in _lines(part, each)):
            typer.echo(line)
        typer.echo(f"page: {output}")


def _lines(part: str, census: Census) -> list[str]:
    """What was found in a part: a line on its size, and one for each kind of problem."""
    classes = ", ".join(f"{census.objects[i]} {name}" for i, name in enumerate(census.class_names[1:], start=1))
    problems = {kind: problem.count for kind, problem in census.problems.items()} | census.warnings
    found = [f"{part}: {kind}: {count}" for kind, count in problems.items()]
    return [f"{part}: {census.num_pictures} pictures, {classes}", *found]


inspect.__doc__ = _HELP
