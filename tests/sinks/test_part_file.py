"""Two runs never write to one output at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from streamseg.plan import Request, plan
from streamseg.sinks.gif import Gif
from streamseg.sinks.image_folder import ImageFolder
from streamseg.sinks.jsonl import Jsonl
from streamseg.sinks.video_file import VideoFile
from streamseg.types import Frame, Instances, OutputError, Result, StreamInfo
from tests.clips import make_clip, numbered_picture

INFO = StreamInfo("a", 64, 48, Fraction(1, 25), Fraction(25))
SINKS: dict[str, tuple[str, Callable[..., Any]]] = {
    "out.mp4": ("out.mp4", VideoFile),
    "out.mkv": ("out.mkv", VideoFile),
    "out.gif": ("out.gif", Gif),
    "out.jsonl": ("out.jsonl", Jsonl),
    "pictures": ("images:pictures", ImageFolder),
}


@pytest.fixture(params=SINKS)
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(request.param)


def sink_of(name: str, *, overwrite: bool = False) -> Any:
    return SINKS[name][1](name, overwrite=overwrite)


def write(sink: Any, *indices: int) -> None:
    for index in indices:
        picture = numbered_picture(index, width=64, height=48)
        picture.pts, picture.time_base = index, INFO.time_base
        sink.write(picture, Result(Frame(picture, index, index / 25, 0.0, "a"), Instances.empty(("background",))))


def test_a_second_run_is_refused_while_the_first_one_writes(name: str) -> None:
    with sink_of(name) as first:
        first.start(INFO)
        write(first, 0, 1)
        for overwrite in (False, True):
            with pytest.raises(OutputError, match=f"^{name}: another run is writing it"):
                sink_of(name, overwrite=overwrite).__enter__()
        write(first, 2)
    assert Path(name).exists()


def test_the_next_run_may_write_once_the_first_one_has_ended(name: str) -> None:
    with sink_of(name) as first:
        first.start(INFO)
        write(first, 0)
    with sink_of(name, overwrite=True) as second:
        second.start(INFO)
        write(second, 0)


def test_the_next_run_may_write_once_the_first_one_has_failed(name: str) -> None:
    for pictures in ((), (0,)):
        with pytest.raises(RuntimeError), sink_of(name) as first:
            first.start(INFO)
            write(first, *pictures)
            raise RuntimeError
    with sink_of(name) as second:
        second.start(INFO)
        write(second, 0)
    assert Path(name).exists()


def test_it_is_refused_before_an_engine_is_made(name: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", num_frames=1)
    asked = Request(inputs=[str(clip)], outputs=[SINKS[name][0]], overwrite=True)
    assert not plan(asked).refused
    with sink_of(name) as first:
        first.start(INFO)
        (refusal,) = plan(asked).refused.values()
        assert str(refusal) == f"{name}: another run is writing it; wait for its end, or choose another output"
        write(first, 0)
    assert not plan(asked).refused


HOLD = """
import sys
from streamseg.sinks.jsonl import Jsonl
with Jsonl("out.jsonl"):
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"holds\n"
    with pytest.raises(OutputError, match="another run is writing it"):
        Jsonl(tmp_path / "out.jsonl").__enter__()
    holder.kill()
    holder.communicate(timeout=20)
    with Jsonl(tmp_path / "out.jsonl") as sink:
        sink.start(INFO)
