"""The README's snippets are true: its Python runs, and each of its commands is one that streamseg would do."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from streamseg.cli import app
from tests.clips import make_clip
from tests.end_to_end.command import WALKER

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.startswith("streamseg ")
]


def test_the_quick_start_is_the_two_commands_that_continuous_integration_runs() -> None:
    blocks = re.findall(r"```bash\n(.*?)\n```", README, re.S)
    assert blocks[0] == (
        "python3 -m venv .venv && .venv/bin/pip install . && "
        ".venv/bin/streamseg run samples/pedestrians.mp4 --effect splash"
    )
    assert blocks[1] == '.venv/bin/pip install -e ".[test]" && .venv/bin/pytest'
    assert blocks[1] in (ROOT / ".ci" / "run").read_text()


def test_pictures_and_documents_that_the_readme_names_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_no_figure_is_left_to_be_filled_in() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        assert "<!-- figures" not in path.read_text(), path


def test_the_python_snippet_runs_as_it_stands(tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.S)
    done = subprocess.run([sys.executable, "-c", snippet], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("0.00 s: ")
    assert len(lines) == 10  # the sample has ten frames a second


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("streamseg run") and "rtsp://" not in c])
def test_every_run_command_of_the_readme_does_its_job(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On small clips, the finds read from an empty record, so that no model has to look."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").mkdir()
    for name in ("street.mp4", "stadium_4k.mp4", "monday.mp4", "tuesday.mp4", "recordings/one.mkv"):
        make_clip(tmp_path / name, width=64, height=48, num_frames=15, rate=1)
    make_pictures(tmp_path / "photos")
    (tmp_path / "nothing.jsonl").write_text("")
    arguments = shlex.split(re.sub(r" --(model|class-names) \S+", "", command))[1:]
    if "replay" in command:
        (tmp_path / "street.jsonl").write_text("")
    else:
        arguments += WALKER if "--tiles" in command else ["--engine", "replay:path=nothing.jsonl"]
    before = set(tmp_path.rglob("*"))
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    new = [path for path in set(tmp_path.rglob("*")) - before if path.is_file()]
    assert new
    assert not [path for path in new if ".part" in path.name]


def make_pictures(folder: Path) -> None:
    folder.mkdir()
    for i in range(2):
        assert cv2.imwrite(str(folder / f"shot_{i:04}.png"), np.full((48, 64, 3), 100 * i, np.uint8))


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("streamseg run")])
def test_every_other_command_of_the_readme_exists_with_its_options(command: str) -> None:
    name, *rest = shlex.split(command)[1:]
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    assert all(option in shown.output for option in rest if option.startswith("-"))
