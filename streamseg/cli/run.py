"""`streamseg run`: take videos through a model, draw on them, write and count."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING

import typer

from streamseg import rooms
from streamseg.cli.options import taking
from streamseg.request import Request

if TYPE_CHECKING:
    from streamseg.cli.progress import Progress
    from streamseg.flow.pipeline import Pipeline
    from streamseg.flow.report import Summary
    from streamseg.plan import Plan
    from streamseg.server.hub import Hub
    from streamseg.types import OutputStatus

INDENT = 18  # columns of an INPUT before what it is
WIDTH = 74  # of both together
SECONDS_OF_A_HANG = 60.0  # that the engine may take for a call before the service manager is to restart the run

_HELP = """Find objects, draw on them, write and count.

The result is written beside each INPUT, unless -o says otherwise.

INPUT is a video file, a glob, a folder (one stream of its pictures, or one for each of its videos), the numbering of
pictures such as shot_%04d.png (one stream), sample: (the clip that ships with streamseg) or one of those below. In a
folder or a glob, what an earlier run made (a_blur.mp4 beside a.mp4) is left out.

A camera is watched until Ctrl-C. It needs somewhere to go: -o, --publish or --web. NAME=INPUT gives it a name, and
${VARIABLE} in an address keeps a password out of sight; in a shell, put such an address into single quotes.

\b
{inputs}

\b
Examples:
  streamseg run sample: --effect splash
  streamseg run street.mp4 -o street.mkv --effect splash:classes=person+car --effect labels
  streamseg run "clips/*.mp4" -o results/ --start 1:30 --end 2:00
  streamseg run street.mp4 -o street.jsonl -o {folder}/{stem}.gif --classes person
  streamseg run --pipeline splash street.mp4 --set engine.batch_size=8
  streamseg run door=rtsp://camera/stream --effect counts --line gate=0.5,0,0.5,1 --web 127.0.0.1:8080
  streamseg run 'yard=rtsp://me:${CAM_PASSWORD}@camera/1' -o yard.mp4 --segment 10m --keep 7d
  streamseg run camera:0 --zone till=0,0,0.5,0,0.5,1,0,1 --publish mqtt://localhost/shop --state shop.json
"""


def what_there_is() -> dict[str, str]:
    """What stands for the words in braces of the help: the inputs, outputs and engines that there are."""
    outputs, engines = rooms.spellings("sinks"), rooms.names("engines")
    inputs = [text for name in rooms.names("sources") if (text := _explained(name))]
    return {
        "outputs": f"A file ({' '.join(text for text in outputs if text[0] == '.')})"
        + "".join(f", {text}" for text in outputs if text[0] != "."),
        "targets": ", ".join(rooms.spellings("publishers")),
        "inputs": "\n".join(inputs),
        "engines": ", ".join(engines),
    }


def _explained(source: str) -> str:
    """What an INPUT of a source looks like, each way in a line, and beside them what it is; "" for files."""
    ways = [text for text in rooms.said("sources", source).spellings if text[0] != "."]
    words = textwrap.wrap(rooms.summary("sources", source), WIDTH - INDENT) if ways else []
    return "\n".join(f"  {way:<{INDENT}} {said}".rstrip() for way, said in zip_longest(ways, words, fillvalue=""))


@taking(Request)
def run(
    asked: Request,
    *,
    as_json: bool = typer.Option(False, "--json", help="The summary as one JSON object, alone on stdout."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Say nothing but errors."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Say more."),
    json_log: bool = typer.Option(False, "--json-log", help="The log as JSON objects, one a line, on stderr."),
) -> None:
    from streamseg.cli.progress import Progress, log_to_stderr, tell
    from streamseg.cli.report import as_table

    log_to_stderr(quiet=quiet, verbose=verbose, as_json=json_log)
    planned = _planned(asked)
    for problem in planned.refused.values():
        tell(str(problem))
    if not planned.streams and not as_json:
        raise typer.Exit(1)
    with Progress(num_streams=len(planned.streams), quiet=quiet or json_log) as progress:
        summary = _done(planned, progress, show=asked.show)
    for name, stream in summary.streams.items():
        if stream.error and name not in planned.refused:
            tell(f"{name}: {stream.error}")
            for path in (each for each in stream.outputs if "://" not in each):
                tell(f"what was done so far is in {path}")
    for untold in summary.problems:
        tell(untold)
    if as_json:
        import json

        typer.echo(json.dumps(summary.to_json()))
    elif not quiet:
        typer.echo(as_table(summary))
    raise typer.Exit(summary.exit_code)


def _done(planned: Plan, progress: Progress, *, show: bool) -> Summary:
    """The plan carried out, with its page beside it if it has one."""
    from streamseg import job
    from streamseg.cli.systemd import Watchdog

    with ExitStack() as beside:
        hub = beside.enter_context(_page(planned, show=show)) if planned.config.web else None

        def begins(pipeline: Pipeline) -> None:
            if hub is not None:
                hub.summary, hub.publishers = pipeline.summary, partial(_statuses, pipeline)
            beside.enter_context(Watchdog(lambda: pipeline.seconds_looking < SECONDS_OF_A_HANG))

        listeners, hours = ([hub], hub.hours) if hub else ([], None)
        return job.run(planned, listeners=listeners, hours=hours, progress=progress, on_ready=begins)


def _statuses(pipeline: Pipeline) -> list[OutputStatus]:
    """How the publishers of a pipeline are doing."""
    from streamseg.flow.publishing import Publishing

    return [status for each in pipeline.listeners if isinstance(each, Publishing) for status in each.statuses]


@contextmanager
def _page(planned: Plan, *, show: bool) -> Iterator[Hub]:
    """The page of a run, which answers from now on; it hears what happens as a listener of the pipeline."""
    from streamseg.cli.progress import tell
    from streamseg.server.hub import Hub
    from streamseg.server.server import Server

    web = planned.config.web
    assert web is not None
    hub = Hub(planned.streams)
    with Server(hub, web.address, token=web.token, hosts=web.hosts) as server:
        tell(f"the page is at {server.url}")
        if server.token_is_new:
            tell(f"it asks for this token, made for this run: {server.token}")
        if show and not server.show():
            tell("there is no browser to show it in")
        yield hub


def _planned(request: Request) -> Plan:
    """The request worked out; what its engine needs, such as TensorFlow, is imported here, where nobody hears it."""
    from streamseg import plugins
    from streamseg.cli.progress import greetings_hidden
    from streamseg.plan import plan

    with greetings_hidden():
        planned = plan(request)
        if planned.streams:
            given = planned.config.engine
            engine = plugins.find("engines", given.name)
            getattr(engine, "chosen", lambda **options: engine)(**given.options)
    return planned


run.__doc__ = _HELP
