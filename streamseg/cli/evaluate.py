"""`streamseg evaluate`: how good a model is on pictures with known objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from streamseg.cli.arguments import a_path

_HELP = """Measure a model: COCO's box and mask AP, VOC's mAP, the Data Science Bowl's mean precision.

The pictures go through the same engine that a stream runs through.

\b
Examples:
  streamseg evaluate --model people --data people/val.json
  streamseg evaluate --model runs/people --data configs/people.yaml --limit 20 --json
  streamseg evaluate --model nuclei --data nuclei.yaml --metric bowl --augment fifteen
  streamseg evaluate --model nuclei --data nuclei --set training.val.0.folder=cells/ --metric bowl
  streamseg evaluate --model nuclei --data stage1_test --submission nuclei.csv
"""


def evaluate(
    model: str = typer.Option("people", "--model", metavar="NAME|FOLDER|FILE", help="See `streamseg models`."),
    class_names: str = typer.Option(
        None,
        "--class-names",
        metavar="A,B",
        help="What the classes of a foreign file are called, in its order.",
    ),
    data: Path = typer.Option(
        ...,
        "--data",
        parser=a_path,
        metavar="JSON|CONFIG|FOLDER",
        help="COCO's json with the pictures in or beside its folder; a training's YAML file, for its `val`; or, for "
        "--submission alone, a folder of pictures.",
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="PATH=VALUE", help="Any setting of --data's YAML file: training.val.0.folder=nuclei/"
    ),
    metric: list[str] = typer.Option(
        [], "--metric", metavar="NAME", help="coco (the default), voc or bowl. May stand several times."
    ),
    iou: float = typer.Option(0.5, "--iou", min=0.0, max=1.0, help="Where voc is told beside its range 0.5 to 0.95."),
    min_score: float = typer.Option(
        None,
        "--min-score",
        min=0.0,
        max=1.0,
        help="From which score objects count in voc, bowl and --submission. Default: the model's own.",
    ),
    augment: str = typer.Option(
        None,
        "--augment",
        metavar="WAYS",
        help="Look at each picture in several ways and let them vote: fifteen, or a list such as "
        "plain,left_right,up_down+quarter_turns=1,channel_shift=20,width_scale=0.8+height_scale=1.2.",
    ),
    min_votes: float = typer.Option(
        0.5, "--min-votes", min=0.0, max=1.0, help="Share of the ways in which an object must be found."
    ),
    dilate: int = typer.Option(0, "--dilate", min=0, metavar="N", help="Grow found masks by N pixels."),
    submission: Path = typer.Option(
        None, "--submission", parser=a_path, metavar="CSV", help="Write the masks as the Data Science Bowl takes them."
    ),
    engine: str = typer.Option(
        "auto",
        "--engine",
        metavar="NAME[:KEY=VALUE,...]",
        help="auto, openvino, keras or onnx; options as in openvino:precision=f32 or auto:input=large.",
    ),
    limit: int = typer.Option(None, "--limit", min=1, metavar="N", help="Only the first N pictures."),
    as_json: bool = typer.Option(False, "--json", help="The figures as one JSON object, alone on stdout."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="No progress."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Say more."),
) -> None:
    from streamseg.cli.progress import Progress, greetings_hidden, log_to_stderr

    log_to_stderr(quiet=quiet, verbose=verbose)
    with greetings_hidden():
        from streamseg.engines._voting import looks
        from streamseg.evaluation.evaluate import Method
        from streamseg.evaluation.evaluate import evaluate as measure
        from streamseg.plan import parse_component

    component = parse_component(engine, what="--engine")
    method = Method(
        metrics=tuple(dict.fromkeys(metric)) or (() if data.is_dir() else ("coco",)),
        min_score=min_score,
        iou=iou,
        limit=limit,
        views=looks(augment) if augment else (),
        min_votes=min_votes,
        dilation=dilate,
        submission=submission,
    )
    with Progress(num_streams=1, quiet=quiet, unit="picture") as progress:
        figures = measure(
            model,
            _pictures(data, settings),
            method=method,
            engine=component.name,
            options={**component.options, **_class_names(class_names)},
            progress=lambda done, total: progress("pictures", done, total),
        )
    if as_json:
        import json

        typer.echo(json.dumps(figures))
    else:
        typer.echo(as_table(figures))


def _class_names(text: str | None) -> dict[str, Any]:
    """The option of an engine that `--class-names` is, if it was given."""
    return {"class_names": [name.strip() for name in text.split(",") if name.strip()]} if text else {}


def _pictures(data: Path, settings: Sequence[str]) -> Any:
    """The json or folder itself, or the `val` of a training's YAML file, which may be named as `train` names it."""
    from streamseg.config import ExperimentConfig, config_file, read_config, with_settings
    from streamseg.types import UsageError

    if data.is_dir() or data.suffix == ".json":
        if settings:
            kind = "a folder of pictures" if data.is_dir() else "COCO's json"
            raise UsageError(
                f"--set {settings[0]}: expected a training's YAML file as --data, got {data}: {kind} has no settings"
            )
        return data
    training = with_settings(read_config(config_file(str(data)), ExperimentConfig), settings).training
    if training is None or not training.val:
        raise UsageError(f"{data}: it names no pictures to evaluate on; expected `val` in its `training` section")
    return training.val


def as_table(figures: Mapping[str, Any]) -> str:
    """The figures of `evaluate --json` as small tables; what does not occur is a dash."""
    lines = [f"{figures['model']}: {figures['images']} pictures in {figures['seconds']:.1f} s"]
    if "box" in figures:
        lines += _rows(figures["box"], {kind: list(figures[kind].values()) for kind in ("box", "mask")})
    if "voc" in figures:
        voc = figures["voc"]
        names = (f"mAP@{voc['iou']:g}", "mAP@.5:.95", "score")
        lines += _rows(names, {"voc": [voc["AP"], voc["AP_range"], voc["min_score"]]})
    if "bowl" in figures:
        bowl = figures["bowl"]
        lines += _rows(("mean", "score", "best", "at score"), {"bowl": list(bowl.values())})
    if "submission" in figures:
        written = figures["submission"]
        lines.append(f"{written['objects']} objects from score {written['min_score']:g} up in {written['path']}")
    return "\n".join(lines)


def _rows(names: Sequence[str] | Mapping[str, Any], rows: Mapping[str, Sequence[float]]) -> list[str]:
    """A line of names and a line of numbers for each row."""
    widths = [max(8, len(name) + 2) for name in names]
    lines = [f"{'':6}" + "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))]
    for label, values in rows.items():
        cells = (f"{value:.3f}" if value >= 0 else "-" for value in values)
        lines.append(f"{label:6}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    return lines


evaluate.__doc__ = _HELP
