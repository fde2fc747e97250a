"""The YAML file that a test of the knobs reads."""

from __future__ import annotations

from pathlib import Path


def file_of(folder: Path, text: str) -> Path:
    """The path of `street.yaml` in the folder, which holds the text."""
    path = folder / "street.yaml"
    path.write_text(text)
    return path
