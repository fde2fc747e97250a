"""The command `streamseg`, also as `python -m streamseg` for where it is not on the path."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point; a Ctrl-C while Python still loads is an interruption as any other."""
    try:
        from streamseg import cli

        cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("streamseg: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
