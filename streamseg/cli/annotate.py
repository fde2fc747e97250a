"""`streamseg annotate`: footage becomes labels that other tools open; what was interrupted goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from streamseg import rooms
from streamseg.annotate.request import AnnotateRequest
from streamseg.cli.options import taking

if TYPE_CHECKING:
    from streamseg.annotate.report import AnnotationSummary

_HELP = """Find the objects of videos and write them as labels for other tools.

What is found is kept in the folder, so the same command goes on where it was stopped, and another --format, --min-score
or --label-size takes seconds.

\b
Examples:
  streamseg annotate videos/ --format coco -o labels/
  streamseg annotate @list.txt --format yolo --every 2s --label-size 1920x1080 -o labels/
  streamseg annotate videos/ --format jsonl -o labels/ --shard 1/2      and on another machine --shard 2/2, then
  streamseg annotate --finish labels/
"""


def what_there_is() -> dict[str, str]:
    """What stands for the words in braces of the help."""
    return {"formats": ", ".join(rooms.names("formats")), "engines": ", ".join(rooms.names("engines"))}


@taking(AnnotateRequest)
def annotate(
    asked: AnnotateRequest,
    *,
    as_json: bool = typer.Option(False, "--json", help="The summary as one JSON object, alone on stdout."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Say nothing but errors."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Say more."),
) -> None:
    import json

    from streamseg.annotate.asking import load_engine
    from streamseg.annotate.job import annotate
    from streamseg.cli.progress import JobProgress, greetings_hidden, log_to_stderr

    log_to_stderr(quiet=quiet, verbose=verbose)
    with greetings_hidden():
        load_engine(asked)
    with JobProgress(quiet=quiet) as progress:
        summary = annotate(asked, progress=progress)
    for name, video in summary.videos.items():
        if video.error:
            typer.echo(f"streamseg: {name}: {video.error}", err=True)
    if summary.exit_code >= 128:
        typer.echo(f"streamseg: {summary.error}", err=True)
    if as_json:
        typer.echo(json.dumps(summary.to_json()))
    elif not quiet:
        typer.echo("\n".join(_table(summary)))
    raise typer.Exit(summary.exit_code)


def _table(summary: AnnotationSummary) -> list[str]:
    """A line a video, then what there is to say of all."""
    width = max([5, *(len(name) for name in summary.videos)])
    lines = [f"{'video':<{width}}  {'frames':>7}  {'objects':>8}  {'tracks':>6}"]
    for name, video in summary.videos.items():
        error = "  not done" if video.error and not video.frames else ""
        lines.append(f"{name:<{width}}  {video.frames:>7}  {video.objects:>8}  {video.tracks:>6}{error}")
    for format, counts in summary.left_out.items():
        lines += [f"{format}: {number} {what} left out" for what, number in counts.items() if number]
    lines += [f"note: {note}" for note in summary.notes]
    return [*lines, *(f"output: {path}" for path in summary.outputs)]


annotate.__doc__ = _HELP
