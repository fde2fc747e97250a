"""The command `streamseg`: one file a command, and every error as one line with the right exit code.

Each command imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import io
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from streamseg import __version__
from streamseg.cli import annotate, convert, doctor, evaluate, export, inspect, list, models, run, train
from streamseg.cli.options import filling_in


class _Commands(TyperGroup):
    """Ends every command with its exit code: 0 done, 1 not all done, 2 wrong use, 130 Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("streamseg: interrupted", err=True)
            raise typer.Exit(130) from None
        except OSError as error:
            if error.filename is None and error.errno not in (errno.ENOSPC, errno.EIO):  # of what is printed
                raise
            typer.echo(f"streamseg: {error.filename or 'output'}: {error.strerror}", err=True)
            raise typer.Exit(1) from None
        except Exception as error:
            types = sys.modules.get("streamseg.types")  # not loaded: then it cannot be one of its errors
            if types is None or not isinstance(error, types.StreamsegError):
                raise
            typer.echo(f"streamseg: {error}", err=True)
            raise typer.Exit(error.exit_code) from None

    def list_commands(self, ctx: Any) -> Any:
        # in the order of their use
        return ["run", "annotate", "convert", "train", "evaluate", "inspect", "export", "models", "list", "doctor"]


app = typer.Typer(
    cls=_Commands,
    help=(
        "Segment every object in a video with Mask R-CNN, draw on it and count.\n\n"
        "\b\nExamples:\n"
        "  streamseg run sample: --effect splash        people in colour in a grey world\n"
        "  streamseg run street.mp4 -o street.jsonl     what is where, as data\n"
        "  streamseg doctor                             what this machine has and lacks"
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"streamseg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass


app.command("run", cls=filling_in(run.what_there_is))(run.run)
app.command("annotate", cls=filling_in(annotate.what_there_is))(annotate.annotate)
app.command("convert", cls=filling_in(convert.what_there_is))(convert.convert)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("inspect")(inspect.inspect)
app.command("export")(export.export)
app.add_typer(models.app, name="models")
app.command("list")(list.list_components)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """The entry point."""
    _show_what_the_terminal_cannot()
    app(prog_name="streamseg")


def _show_what_the_terminal_cannot() -> None:
    """From now on a character that the terminal's encoding lacks is printed as its escape: a file name may hold any."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
