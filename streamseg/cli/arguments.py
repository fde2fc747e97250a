"""Arguments of the commands as their values."""

from __future__ import annotations

from pathlib import Path


def a_path(text: str) -> Path:
    """The path, `~` as the home folder: a shell leaves it in `--data=~/birds` and between quotes."""
    return Path(text).expanduser()
