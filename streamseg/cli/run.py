"""`streamseg run`: take videos through a model, draw on them, write and count."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from streamseg.plan import Plan, Request

_HELP = """Find objects, draw on them, write and count.

The result is written beside each INPUT, unless -o says otherwise.

INPUT is a video file, a glob, a folder (one stream of its pictures, or one for each of its videos), the numbering of
pictures such as shot_%04d.png (one stream), sample: (the clip that ships with streamseg) or test:1280x720@30 (a
moving pattern of 10 seconds). In a folder or a glob, what an earlier run made (a_blur.mp4 beside a.mp4) is left out.

\b
Examples:
  streamseg run sample: --effect splash
  streamseg run street.mp4 -o street.mkv --effect splash:classes=person+car --effect labels
  streamseg run "clips/*.mp4" -o results/ --start 1:30 --end 2:00
  streamseg run street.mp4 -o street.jsonl -o {folder}/{stem}.gif --classes person
  streamseg run --pipeline splash street.mp4 --set engine.batch_size=8
"""


def seconds(text: str) -> float:
    """Seconds from `90`, `90s`, `1:30` or `1:02:03.5`."""
    shape = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)s?", text.strip())
    if not shape:
        raise typer.BadParameter(f"expected a time such as 90, 90s or 1:30, got {text!r}")
    hours, minutes, rest = shape.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest)


def names_of(text: str | None) -> tuple[str, ...]:
    """The names in `person, car`."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def run(
    inputs: list[str] = typer.Argument(None, metavar="INPUT", help="What to work on.", show_default=False),
    output: list[str] = typer.Option(
        [],
        "-o",
        "--output",
        metavar="OUTPUT",
        help="A file (.mp4 .mkv .webm .mov .gif .jsonl), images:FOLDER, or a folder for the default names; {stem} and "
        "{folder} are the input's own. May stand several times. Default: STEM_EFFECT.mp4 beside the input.",
    ),
    effect: list[str] = typer.Option(
        None,
        "--effect",
        metavar="NAME[:KEY=VALUE,...]",
        help="Draw this; several are drawn in their order; lists with plus. Default: overlay and labels. See "
        "`streamseg list effects`.",
        show_default=False,
    ),
    pipeline: str = typer.Option(None, "--pipeline", metavar="NAME|FILE", help="A ready pipeline or a YAML file."),
    classes: str = typer.Option(None, "--classes", metavar="A,B", help="Keep only these classes."),
    model: str = typer.Option(
        None, "--model", metavar="NAME|FOLDER|H5", help="Default: people. See `streamseg models`.", show_default=False
    ),
    class_names: str = typer.Option(
        None, "--class-names", metavar="A,B", help="What the classes of a foreign .h5 file are called, in its order."
    ),
    engine: str = typer.Option(
        None, "--engine", metavar="NAME[:KEY=VALUE,...]", help="auto, openvino, keras, or replay:path=LABELS.jsonl."
    ),
    min_score: float = typer.Option(
        None, "--min-score", min=0, max=1, help="Score that makes an object certain. Default: the model's own."
    ),
    start: float = typer.Option(None, "--start", parser=seconds, metavar="TIME", help="Begin here: 90, 90s or 1:30."),
    end: float = typer.Option(None, "--end", parser=seconds, metavar="TIME", help="End here."),
    stride: int = typer.Option(None, "--stride", min=1, metavar="N", help="Keep every Nth frame, at its own time."),
    codec: str = typer.Option(None, "--codec", help="h264 (default), h265, av1, vp9, ..."),
    quality: str = typer.Option(None, "--quality", metavar="CRF", help="The encoder's CRF, or lossless."),
    preset: str = typer.Option(None, "--preset", help="The encoder's preset."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace outputs that exist."),
    parallel: int = typer.Option(None, "--parallel", min=1, metavar="N", help="Files open at a time. Default: 2."),
    settings: list[str] = typer.Option(
        [], "--set", metavar="PATH=VALUE", help="Any option of the pipeline: effects.0.classes=[person]"
    ),
    as_json: bool = typer.Option(False, "--json", help="The summary as one JSON object, alone on stdout."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Say nothing but errors."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Say more."),
) -> None:
    from streamseg import job
    from streamseg.cli.progress import Progress, log_to_stderr
    from streamseg.cli.report import as_table
    from streamseg.plan import Request

    log_to_stderr(quiet=quiet, verbose=verbose)
    planned = _planned(
        Request(
            inputs=tuple(inputs or ()),
            pipeline=pipeline,
            outputs=tuple(output),
            effects=tuple(effect) if effect else None,
            classes=names_of(classes),
            model=model,
            class_names=names_of(class_names),
            engine=engine,
            min_score=min_score,
            start=start,
            end=end,
            stride=stride,
            codec=codec,
            quality=float(quality) if quality and re.fullmatch(r"\d+(\.\d+)?", quality) else quality,
            preset=preset,
            overwrite=overwrite,
            parallel=parallel,
            settings=tuple(settings),
        )
    )
    for problem in planned.refused.values():
        typer.echo(f"streamseg: {problem}", err=True)
    if not planned.streams and not as_json:
        raise typer.Exit(1)
    with Progress(num_streams=len(planned.streams), quiet=quiet) as progress:
        summary = job.run(planned, progress=progress)
    for name, stream in summary.streams.items():
        if stream.error and name not in planned.refused:
            typer.echo(f"streamseg: {name}: {stream.error}", err=True)
            for path in stream.outputs:
                typer.echo(f"streamseg: what was done so far is in {path}", err=True)
    if as_json:
        import json

        typer.echo(json.dumps(summary.to_json()))
    elif not quiet:
        typer.echo(as_table(summary))
    raise typer.Exit(summary.exit_code)


def _planned(request: Request) -> Plan:
    """The request worked out; TensorFlow, which a Keras engine needs, is imported here, where nobody hears it."""
    from streamseg import plugins
    from streamseg.cli.progress import greetings_hidden
    from streamseg.engines.auto import nvidia_driver
    from streamseg.plan import plan

    with greetings_hidden():
        planned = plan(request)
        if planned.config.engine.name == "auto" and planned.streams and nvidia_driver():
            plugins.find("engines", "keras")
    return planned


run.__doc__ = _HELP
