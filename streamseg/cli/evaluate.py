"""`streamseg evaluate`: how good a model is on pictures with known objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

_HELP = """Measure a model's box and mask AP, as COCO does.

The pictures go through the same engine that a stream runs through.

\b
Examples:
  streamseg evaluate --model people --data people/val.json
  streamseg evaluate --model runs/people --data configs/people.yaml --limit 20 --json
"""


def evaluate(
    model: str = typer.Option("people", "--model", metavar="NAME|FOLDER", help="See `streamseg models`."),
    data: Path = typer.Option(
        ...,
        "--data",
        metavar="JSON|CONFIG",
        help="COCO's json with the pictures in or beside its folder, or a training's YAML file, for its `val`.",
    ),
    engine: str = typer.Option("auto", "--engine", help="auto, openvino or keras."),
    precision: str = typer.Option(None, "--precision", help="bf16 or f32. Default: the best that the machine has."),
    limit: int = typer.Option(None, "--limit", min=1, metavar="N", help="Only the first N pictures."),
    as_json: bool = typer.Option(False, "--json", help="The figures as one JSON object, alone on stdout."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="No progress."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Say more."),
) -> None:
    from streamseg.cli.progress import Progress, greetings_hidden, log_to_stderr

    log_to_stderr(quiet=quiet, verbose=verbose)
    with greetings_hidden():
        from streamseg.training.evaluate import evaluate as measure

    with Progress(num_streams=1, quiet=quiet, unit="picture") as progress:
        figures = measure(
            model,
            _pictures(data),
            engine=engine,
            precision=precision,
            limit=limit,
            progress=lambda done, total: progress("pictures", done, total),
        )
    if as_json:
        import json

        typer.echo(json.dumps(figures))
    else:
        typer.echo(as_table(figures))


def _pictures(data: Path) -> Any:
    """The json itself, or the `val` of a training's YAML file."""
    if data.suffix not in (".yaml", ".yml"):
        return data
    from streamseg.config import ExperimentConfig, read_config
    from streamseg.types import UsageError

    training = read_config(data, ExperimentConfig).training
    if training is None or not training.val:
        raise UsageError(f"{data}: it names no pictures to evaluate on; expected `val` in its `training` section")
    if len(training.val) > 1:
        raise UsageError(f"{data}: expected one dataset in `val`, got {len(training.val)}")
    return training.val[0]


def as_table(figures: Mapping[str, Any]) -> str:
    """The figures of `evaluate --json` as a small table; what does not occur is a dash."""
    names = list(figures["box"])
    head = f"{figures['model']}: {figures['images']} pictures in {figures['seconds']:.1f} s"
    rows = [f"{'':6}" + "".join(f"{name:>8}" for name in names)]
    for kind in ("box", "mask"):
        cells = (f"{value:8.3f}" if (value := figures[kind][name]) >= 0 else f"{'-':>8}" for name in names)
        rows.append(f"{kind:6}" + "".join(cells))
    return "\n".join([head, *rows])


evaluate.__doc__ = _HELP
