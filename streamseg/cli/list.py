"""`streamseg list`: the components there are, with their options."""

from __future__ import annotations

import typer

_HELP = """List components and their options.

With what they do: effects, sources, sinks, counters, trackers, engines, datasets; and the ready pipelines.

\b
Examples:
  streamseg list effects
  streamseg list pipelines
"""
_ROOMS = ("effects", "sources", "sinks", "counters", "trackers", "engines", "datasets")


def list_components(
    what: str = typer.Argument(..., metavar="effects|sources|sinks|counters|trackers|engines|datasets|pipelines"),
) -> None:
    from streamseg.config import nearest
    from streamseg.types import UsageError

    if what == "pipelines":
        from streamseg.plan import ready_pipelines

        for name, path in ready_pipelines().items():
            typer.echo(f"{name:16}{path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
        return
    if what not in _ROOMS:
        raise UsageError(f"nothing to list is called {what!r}{nearest(what, [*_ROOMS, 'pipelines'])}")
    from streamseg import plugins
    from streamseg.cli.progress import greetings_hidden

    for name in plugins.names(what):
        with greetings_hidden():
            options = plugins.options_in_words(what, name)
        typer.echo(f"{name:16}{plugins.summary(what, name)}")
        for option in options:
            typer.echo(f"{'':18}{option}")


list_components.__doc__ = _HELP
