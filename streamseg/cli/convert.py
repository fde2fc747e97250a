"""`streamseg convert`: labels that were written as JSONL in the form of another tool."""

from __future__ import annotations

import typer

from streamseg.annotate.request import ConvertRequest
from streamseg.cli.annotate import what_there_is as what_there_is
from streamseg.cli.options import taking

_HELP = """Write labels in the form of another tool.

The labels are those of `annotate --format jsonl` or `run -o x.jsonl`; every mask stays as it is, pixel for pixel.

\b
Examples:
  streamseg convert labels/street.jsonl --format coco -o coco/
  streamseg convert labels/street.jsonl --format yolo -o yolo/ --video street.mp4
"""


@taking(ConvertRequest)
def convert(
    asked: ConvertRequest,
    *,
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Say nothing but errors."),
) -> None:
    from streamseg.annotate.converting import convert
    from streamseg.cli.progress import log_to_stderr

    log_to_stderr(quiet=quiet, verbose=False)
    done = convert(asked)
    if not quiet:
        typer.echo(f"{done.frames} frames with {done.objects} objects: {asked.output}")
        for what, number in done.left_out.items():
            if number:
                typer.echo(f"{number} {what} left out")


convert.__doc__ = _HELP
