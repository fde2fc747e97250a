"""File names of every kind, from the command line to the output's own name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.clips import make_clip
from tests.end_to_end.command import ROOT, WALKER, num_pictures, outputs, run

OVERLAY = ("--effect", "overlay")


def in_terminal(encoding: str, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[bytes]:
    """`streamseg run …` in a process whose stdout has this encoding, as `latin-1` or `utf-8:strict`."""
    ran = subprocess.run(
        [sys.executable, "-m", "streamseg", "run", *map(str, arguments), *WALKER],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
    )
    assert ran.returncode == code, ran.stderr
    return ran


# Names that the terminal cannot show


@pytest.mark.parametrize(
    ("encoding", "name", "shown"),
    [
        ("utf-8:strict", os.fsdecode(b"kamera\xe4"), rb"kamera\udce4"),
        ("latin-1", "視頻", rb"\u8996\u983b"),
    ],
)
def test_a_name_that_the_terminal_cannot_show_is_printed_with_escapes(
    here: Path, encoding: str, name: str, shown: bytes
) -> None:
    make_clip(here / f"{name}.mp4", num_frames=2)
    said = in_terminal(encoding, f"{name}.mp4", "nowhere.mp4", *OVERLAY, code=1)
    assert b"output    " + shown + b"_overlay.mp4\n" in said.stdout
    assert b"nowhere.mp4: no such file" in said.stderr and b"Traceback" not in said.stderr
    assert num_pictures(f"{name}_overlay.mp4") == 2


def test_json_tells_a_path_that_is_no_utf_8_as_python_holds_it_and_the_stream_as_text(here: Path) -> None:
    name = os.fsdecode(b"kamera\xe4")
    make_clip(here / f"{name}.mp4", num_frames=2)
    said = in_terminal("utf-8:strict", f"{name}.mp4", "-o", "{stem}.jsonl", "--json")
    assert json.loads(said.stdout)["outputs"] == [f"{name}.jsonl"]
    (line, _) = Path(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["stream"] == "kamera\\xe4", "which every peer can be told"
    assert outputs(here) == sorted([f"{name}.jsonl", f"{name}.mp4"])


# Pictures


def test_the_pictures_of_a_numbering_become_one_video(here: Path) -> None:
    run("test:64x48@10", "--end", "0.3", *OVERLAY, "-o", "images:pics")
    (here / "pics" / "other.png").write_bytes((here / "pics" / "000000.png").read_bytes())
    run("pics/%06d.png", *OVERLAY, "-o", "out.mp4")
    assert num_pictures("out.mp4") == 3


@pytest.mark.parametrize("name", ["photo.tif", "photo.jpg", "photo.webp", "photo.avif", "photo.gif"])
def test_a_photo_alone_becomes_a_video_of_one_frame(here: Path, name: str) -> None:
    Image.new("RGB", (64, 48), "red").save(name)
    said = run(name, *OVERLAY)
    assert num_pictures("photo_overlay.mp4") == 1
    assert ("one picture makes a video of one frame" in said.stdout) == (name != "photo.gif")


# Outputs


def test_nothing_is_written_where_no_sink_is_wanted(here: Path) -> None:
    make_clip(here / "clip.mp4", num_frames=2)
    assert "frames    2 in" in run("clip.mp4", *OVERLAY, "--set", "sinks=[]").stdout
    assert outputs(here) == ["clip.mp4"]


@pytest.mark.parametrize("output", ["-", "plain", "/dev/null", "out.png"])
def test_an_output_that_cannot_be_is_wrong_use_and_nothing_is_written(here: Path, output: str) -> None:
    make_clip(here / "clip.mp4", num_frames=2)
    Path("plain").touch()
    said = run("clip.mp4", *OVERLAY, "-o", output, code=2)
    assert said.stderr.startswith(f"streamseg: -o {output}: ") and said.stderr.count("\n") == 1
    assert outputs(here) == ["clip.mp4", "plain"]
