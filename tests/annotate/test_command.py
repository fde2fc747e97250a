"""`streamseg annotate` and `streamseg convert` as a person calls them."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamseg import rooms
from streamseg.cli import app
from streamseg.cli.progress import JobProgress
from tests.annotate.jobs import WALKER, chunks, clip, frames, labels
from tests.end_to_end.command import NOBODY, ROOT, Child, num_pictures
from tests.end_to_end.parts import MODULE


def called(command: str, *arguments: str, code: int = 0) -> Any:
    ran = CliRunner().invoke(app, [command, *arguments], catch_exceptions=False)
    assert ran.exit_code == code, ran.stdout + ran.stderr
    return ran


def annotated(*arguments: str, engine: str = WALKER, code: int = 0) -> Any:
    return called("annotate", *arguments, "--engine", engine, code=code)


def test_a_table_says_what_was_written(here: Path) -> None:
    for name in ("a.mp4", "Straße.mp4"):
        clip(here / name, num_frames=20)
    ran = annotated("a.mp4", "Straße.mp4", "--format", "jsonl", "--format", "csv:masks=false", "-o", "labels")
    lines = ran.stdout.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["video", "frames", "objects", "tracks"],
        ["a", "20", "40", "2"],
        ["Straße", "20", "40", "2"],
    ]
    assert lines[3:] == ["output: labels"]
    assert set(labels("labels")) == {"a.jsonl", "a.csv", "Straße.jsonl", "Straße.csv"}


def test_a_bad_video_is_named_and_the_exit_code_is_1(here: Path) -> None:
    clip(here / "good.mp4", num_frames=5)
    (here / "bad.mp4").write_text("no video")
    ran = annotated("good.mp4", "bad.mp4", "--format", "jsonl", "-o", "labels", code=1)
    assert re.match(r"streamseg: bad: bad.mp4: expected a video", ran.stderr)
    assert ran.stdout.splitlines()[2].split() == ["bad", "0", "0", "0", "not", "done"]


def test_the_summary_as_json_stands_alone_on_stdout(here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    ran = annotated("a.mp4", "--format", "jsonl", "-o", "labels", "--json")
    summary = json.loads(ran.stdout)
    assert summary["videos"] == {"a": {"frames": 5, "objects": 10, "tracks": 2, "looked_at": 5, "error": None}}
    assert (summary["outputs"], summary["exit_code"], summary["error"]) == (["labels"], 0, None)


def test_every_option_of_the_command_is_understood(here: Path) -> None:
    clip(here / "a.mp4", num_frames=60)
    options = "--every 0.5s --classes person --min-score 0.6 --label-size 32x24 --pictures --video --retry-failed"
    annotated("a.mp4", "--format", "jsonl", "-o", "labels", *options.split(), "-q")
    records = frames("labels", "a")
    assert [each["index"] for each in records] == [0, 12, 25, 37, 50]
    assert {o["class"] for each in records for o in each["objects"]} == {"person"}
    assert (records[0]["width"], records[0]["height"]) == (32, 24)
    assert num_pictures("labels/a_overlay.mp4") == 5
    annotated("a.mp4", "--format", "jsonl", "-o", "labels", "--stride", "7", "--overwrite", "-q")
    assert [each["index"] for each in frames("labels", "a")] == list(range(0, 60, 7))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shard", "3/2"], "expected I/N such as 1/4"),
        (["--label-size", "1920"], "expected WIDTHxHEIGHT such as 1920x1080"),
        (["--every", "0"], "expected a duration"),
        (["--stride", "0"], "Input should be greater than or equal to 1"),
        (["--format", "jsonk"], "no format is called 'jsonk'; did you mean 'jsonl'?"),
    ],
    ids=str,
)
def test_wrong_use_has_exit_code_2(arguments: list[str], said: str, here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    assert said in annotated("a.mp4", "-o", "labels", *arguments, code=2).stderr
    assert not (here / "labels").exists()


def test_the_parts_of_a_job_say_how_it_is_finished(here: Path) -> None:
    clip(here / "a.mp4", num_frames=12)
    for part in ("1/2", "2/2"):
        ran = annotated("a.mp4", "--format", "jsonl", "-o", "labels", "--shard", part)
        assert "note: streamseg annotate --finish labels writes the labels when all parts are done" in ran.stdout
    assert labels("labels") == {}
    called("annotate", "--finish", "labels")
    assert len(frames("labels", "a")) == 12
    called("annotate", "--finish", "labels", "--format", "csv")
    assert set(labels("labels")) == {"a.jsonl", "a.csv"}


@pytest.fixture
def not_under_nohup() -> Iterator[None]:
    """What is started hears of a closed terminal, as it does not where this suite itself runs under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("not_under_nohup")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_job_goes_on_with_the_same_command(number: signal.Signals, here: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        clip(here / name, num_frames=30)
    command = ["a.mp4", "b.mp4", "c.mp4", "--format", "jsonl", "-o", "labels"]
    slow = ["--engine", f"{MODULE}:Walker:seconds=0.008"]
    child = Child(*command, *slow, command="annotate", folder=here)
    child.wait_until(lambda: bool(chunks("labels", "a")))
    assert child.process.pid is not None
    os.kill(child.process.pid, number)
    ended = child.end()
    assert ended.code == 128 + number
    assert "streamseg: stopped before its end; the same command goes on from here" in ended.stderr
    assert labels("labels") == {}
    again = json.loads(called("annotate", *command, *slow, "--json").stdout)
    assert again["videos"]["a"]["looked_at"] == 0 and set(labels("labels")) == {"a.jsonl", "b.jsonl", "c.jsonl"}


def test_processes_that_look_are_stopped_together_and_the_table_says_how_far_they_came(here: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        clip(here / name, num_frames=400)
    command = ["a.mp4", "b.mp4", "--format", "jsonl", "-o", "labels", "--engine", f"{MODULE}:Walker:seconds=0.3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamseg", "annotate", *command, "--parallel", "2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list((here / "labels").rglob("*.part.jsonl.gz")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    stdout, stderr = process.communicate(timeout=60)  # to the end of the work, it would be 120 s
    assert process.returncode == 128 + signal.SIGINT
    said = [line for line in stderr.splitlines() if not line.startswith("looking: ")]
    assert said == ["streamseg: stopped before its end; the same command goes on from here"]
    assert [line.split()[0] for line in stdout.splitlines()] == ["video", "a", "b"]
    assert labels("labels") == {} and not list((here / "labels").rglob("*.part.*"))


def test_a_folder_that_may_not_be_written_is_named(here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    (here / "labels").mkdir(mode=0o755)
    for folder in (here, *list(here.parents)[:3]):
        folder.chmod(folder.stat().st_mode | stat.S_IROTH | stat.S_IXOTH)
    child = Child(
        "a.mp4", "--format", "jsonl", "-o", "labels", "--engine", WALKER, command="annotate", folder=here, uid=NOBODY
    )
    ended = child.end()
    assert ended.code == 1 and ended.stderr == "streamseg: labels cannot be written: permission denied\n"


def test_a_video_that_may_not_be_read_is_named_and_the_others_are_done(here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    clip(here / "b.mp4", num_frames=5).chmod(0o600)
    (here / "labels").mkdir()
    (here / "labels").chmod(0o777)
    for folder in (here, *list(here.parents)[:3]):
        folder.chmod(folder.stat().st_mode | stat.S_IROTH | stat.S_IXOTH)
    command = ("a.mp4", "b.mp4", "--format", "jsonl", "-o", "labels", "--engine", WALKER, "-q")
    ended = Child(*command, command="annotate", folder=here, uid=NOBODY).end()
    assert ended.code == 1 and ended.stderr == "streamseg: b: b.mp4: cannot be read: permission denied\n"
    assert set(labels("labels")) == {"a.jsonl"}


@pytest.mark.parametrize(("looked_at", "part"), [(True, r"b\.part\.jsonl"), (False, r".streamseg/chunks/b/\S+")])
def test_a_full_disk_is_named_and_what_was_found_stays(looked_at: bool, part: str, here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    clip(here / "b.mp4", num_frames=250)
    command = ["a.mp4", "b.mp4", "--format", "jsonl", "-o", "labels", "--engine", WALKER]
    if looked_at:  # and labels alone are missing
        called("annotate", *command)
        for name in labels("labels"):
            (here / "labels" / name).unlink()
    ended = Child(*command, command="annotate", folder=here, file_bytes=20_000).end()
    assert ended.code == 1
    assert re.fullmatch(rf"streamseg: labels/{part} cannot be written: file too large\n", ended.stderr)
    assert len(chunks("labels", "a")) == 1 and labels("labels") == {}
    again = json.loads(called("annotate", *command, "--json").stdout)
    assert again["videos"]["a"]["looked_at"] == 0 and len(frames("labels", "b")) == 250


def test_labels_are_converted(here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    annotated("a.mp4", "--format", "jsonl", "-o", "labels", "-q")
    ran = called("convert", "labels/a.jsonl", "--format", "csv", "-o", "rows")
    assert ran.stdout == "5 frames with 10 objects: rows\n"
    assert set(labels("rows")) == {"a.csv"}
    assert "expected the FOLDER" in called("convert", "labels/a.jsonl", "--format", "csv", code=2).stderr


@pytest.mark.parametrize("command", ["annotate", "convert"])
def test_the_help_names_every_format(command: str) -> None:
    text = " ".join(called(command, "--help").stdout.split())
    assert "streamseg list formats" in text and all(name in text for name in rooms.names("formats"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar_for_the_job_and_one_for_the_video() -> None:
    terminal = Terminal()
    with JobProgress(stream=terminal) as progress:
        for name, done in (("a", 0), ("b", 5), ("a", 3), ("b", 10), ("a", 20)):
            progress("looking", name, done, 20)
        assert progress.line().startswith("30 of 40 frames, ")
        progress("writing", "a", 1, 20)
    assert "looking: " in terminal.getvalue() and "a: " in terminal.getvalue() and "writing: " in terminal.getvalue()


def test_elsewhere_a_line_says_how_far_the_job_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamseg.cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    said = io.StringIO()
    with JobProgress(stream=said) as progress:
        progress("looking", "a", 10, None)
        progress("looking", "a", 10, 20)
    first, second = said.getvalue().splitlines()
    assert first.startswith("looking: 10 frames") and first.endswith("; a: 10 of some")
    assert second.startswith("looking: 10 of 20 frames") and second.endswith("; a: 10 of 20")
    with JobProgress(stream=said, quiet=True) as progress:
        progress("looking", "a", 20, 20)
    assert len(said.getvalue().splitlines()) == 2
