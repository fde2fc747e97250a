"""`streamseg inspect`: a page on every step of a model on one picture, or on what goes into a training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streamseg.cli.arguments import a_path

if TYPE_CHECKING:
    from streamseg.inspection.census import Census

_HELP = """Look inside, and write what is found as one HTML page.

IMAGE goes through a model step by step: targets, anchors, proposals, classes, boxes, masks, activations, weights. The
page's pictures lie as PNGs in a folder of its name beside it.

data CONFIG checks the pictures that a configuration trains and evaluates on: how many and how large they are, how the
classes are balanced, which masks are empty or doubled, which boxes do not fit, which pictures are in both parts.

\b
Examples:
  streamseg inspect street.jpg -o street.html
  streamseg inspect mole.jpg --model mole.h5 --class-names benign,malignant -o mole.html
  streamseg inspect 000017.jpg --data people/val.json --layers P3,rpn/shared -o page.html
  streamseg inspect data configs/nuclei.yaml -o nuclei.html
  streamseg inspect data coco -o coco.html --limit 2000
"""

_OF_A_PICTURE = {"model": "--model", "class_names": "--class-names", "data": "--data", "layers": "--layers"}
_OF_DATA = {"limit": "--limit", "samples": "--samples", "settings": "--set"}


def inspect(
    context: typer.Context,
    what: str = typer.Argument(..., metavar="IMAGE|data", help="A picture; or data: the pictures of a training."),
    config: str = typer.Argument(
        None, metavar="[CONFIG]", help="After data: a YAML file, such as configs/nuclei.yaml."
    ),
    output: Path = typer.Option(..., "-o", "--output", parser=a_path, metavar="PAGE.html", help="The page to write."),
    model: str = typer.Option(
        "people", "--model", metavar="NAME|FOLDER|FILE", help="IMAGE: what looks at it; see `streamseg models`."
    ),
    class_names: str = typer.Option(
        None, "--class-names", metavar="A,B", help="IMAGE: what the classes of a foreign weights file are called."
    ),
    data: Path = typer.Option(
        None,
        "--data",
        parser=a_path,
        metavar="JSON|CONFIG",
        help="IMAGE: where its true objects are; IMAGE may then be a position, such as 3. Default: its detections.",
    ),
    layers: str = typer.Option(
        None, "--layers", metavar="A,B", help="IMAGE: whose activations to show: C1 to C5, P2 to P6, or layers by name."
    ),
    limit: int = typer.Option(
        None, "--limit", min=1, metavar="N", help="data: read so many pictures of each part, drawn at random."
    ),
    samples: int = typer.Option(12, "--samples", min=0, metavar="N", help="data: pictures shown of each part."),
    settings: list[str] = typer.Option(
        [], "--set", metavar="PATH=VALUE", help="data: any setting: training.train.0.folder=nuclei/"
    ),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Say nothing but errors."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Say more."),
) -> None:
    from streamseg.cli.progress import log_to_stderr
    from streamseg.types import UsageError

    log_to_stderr(quiet=quiet, verbose=verbose)
    of_data = what == "data" and not Path(what).is_file()
    if of_data != (config is not None):
        given = " ".join(filter(None, [what, config]))
        raise UsageError(
            "expected `streamseg inspect data CONFIG -o PAGE.html` or `streamseg inspect IMAGE -o PAGE.html`, "
            f"got `inspect {given}`"
        )
    for name, option in (_OF_A_PICTURE if of_data else _OF_DATA).items():
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE":
            raise UsageError(f"{option} belongs to `inspect {'IMAGE' if of_data else 'data CONFIG'}`")
    if of_data:
        _inspect_data(config, settings, output, limit=limit, num_samples=samples, quiet=quiet)
        return
    _inspect_picture(what, output, model=model, class_names=class_names, data=data, layers=layers, quiet=quiet)


def _inspect_picture(
    picture: str,
    output: Path,
    *,
    model: str,
    class_names: str | None,
    data: Path | None,
    layers: str | None,
    quiet: bool,
) -> None:
    """Write the page on a model's steps on a picture, and say where it lies."""
    from streamseg.cli.progress import greetings_hidden
    from streamseg.request import names_of

    with greetings_hidden():
        from streamseg.inspection.page import write_inspection
        from streamseg.inspection.steps import LEVELS

    written = write_inspection(
        os.path.expanduser(picture),
        model,
        output,
        class_names=names_of(class_names),
        data=data,
        layers=names_of(layers) or LEVELS,
    )
    if not quiet:
        typer.echo(f"page: {written[0]}, and {len(written) - 1} pictures in {written[1].parent}")


def _inspect_data(
    name: str, settings: list[str], output: Path, *, limit: int | None, num_samples: int, quiet: bool
) -> None:
    """Write the page on a configuration's datasets, and say in a few lines what is on it."""
    from streamseg.cli.progress import TrainingProgress
    from streamseg.config import ExperimentConfig, config_file, read_config, with_settings
    from streamseg.inspection.census_page import report, write_report
    from streamseg.inspection.pictures import check_page

    check_page(output)
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
