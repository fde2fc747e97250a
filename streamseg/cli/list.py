"""`streamseg list`: the components there are, with their options."""

from __future__ import annotations

import typer

from streamseg import rooms

_HELP = """List components and their options.

With what they do: effects, sources, sinks, counters, trackers, engines,
datasets, publishers, formats; and the ready pipelines.

\b
Examples:
  streamseg list effects
  streamseg list pipelines
"""


def list_components(
    what: str = typer.Argument(..., metavar="|".join([*rooms.ROOMS, "pipelines"])),
) -> None:
    from streamseg.types import UsageError
    from streamseg.words import nearest

    if what == "pipelines":
        from streamseg.plan import ready_pipelines

        for name, path in ready_pipelines().items():
            typer.echo(f"{name:16}{path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
        return
    if what not in rooms.ROOMS:
        raise UsageError(f"nothing to list is called {what!r}{nearest(what, [*rooms.ROOMS, 'pipelines'])}")
    from streamseg import plugins
    from streamseg.cli.progress import greetings_hidden

    rooms.served(what)  # says so where two serve the same
    for name in rooms.names(what):
        with greetings_hidden():
            options = plugins.options_in_words(what, name)
        typer.echo(f"{name:16}{rooms.summary(what, name)}")
        if serves := _serves(rooms.said(what, name)):
            typer.echo(f"{'':18}{serves}")
        for option in options:
            typer.echo(f"{'':18}{option}")


def _serves(said: rooms.Said) -> str:
    """What a source or a sink says of itself, in a line: `for .mp4 .mkv`, `for rtsp:URL, remote, live`."""
    folders = [f"a folder of {said.folder}"] if said.folder and not said.schemes else []
    spelled = ", ".join([*folders, *filter(None, [" ".join(said.spellings)])])
    return ", ".join(filter(None, [spelled and f"for {spelled}", "remote" * said.remote, "live" * said.live]))


list_components.__doc__ = _HELP
