"""A run that is killed or stopped in the middle: what was done so far is in the part file, and plays."""

from __future__ import annotations

import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from streamseg import zoo
from tests.clips import make_clip
from tests.end_to_end.command import WALKER, Child, Ended, num_pictures, packets, process
from tests.end_to_end.parts import MODULE

RATE = 30
MAY_LACK = RATE + 60
"""Frames that a killed run may lose: the last second, and what the encoder held."""

PATTERN = ("test:640x360@30", "--end", "16", "--effect", "splash", "--effect", f"{MODULE}:Tally:path=tally")


def num_drawn(folder: Path) -> int:
    tally = folder / "tally"
    return tally.stat().st_size if tally.exists() else 0


@pytest.mark.parametrize(("seed", "ending"), [(seed, ".mkv" if seed % 5 == 4 else ".mp4") for seed in range(10)])
def test_a_killed_run_leaves_a_part_file_that_plays_up_to_the_last_second(here: Path, seed: int, ending: str) -> None:
    moment = random.Random(seed).randrange(1, 470)
    child = Child(*PATTERN, *WALKER, "-o", f"out{ending}", folder=here)
    child.wait_until(lambda: num_drawn(here) >= moment)
    child.process.kill()
    assert child.end().code == -signal.SIGKILL
    drawn, part = num_drawn(here), here / f"out.part{ending}"
    assert moment <= drawn < 480
    assert drawn - MAY_LACK <= num_pictures(part) <= drawn
    assert not (here / f"out{ending}").exists()


def test_a_killed_run_of_the_embedded_model_leaves_one_too(here: Path, embedded_model: str) -> None:
    small = ("test:320x180@10", *PATTERN[1:])
    running = process(*small, "--model", embedded_model, "-o", "out.mp4", folder=here)
    deadline = time.monotonic() + 60
    while num_drawn(here) < 80:
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    running.kill()
    running.communicate(timeout=20)
    assert num_drawn(here) - (10 + 60) <= num_pictures("out.part.mp4") <= num_drawn(here)
    assert not (here / "out.mp4").exists()


def test_the_next_run_replaces_what_a_killed_one_left(here: Path) -> None:
    (here / "out.part.mp4").write_bytes(b"what a killed run left" * 10_000)
    child = Child("test:64x48@30", "--end", "0.5", *WALKER, "--effect", "splash", "-o", "out.mp4", folder=here)
    assert child.end().code == 0
    assert num_pictures("out.mp4") == 15
    assert [path.name for path in here.iterdir()] == ["out.mp4"]


def test_what_a_killed_run_left_is_not_taken_for_the_work_of_a_run_that_did_none(here: Path) -> None:
    (here / "out.part.mp4").write_bytes(b"what a killed run left" * 10_000)
    broken = f"{MODULE}:BrokenWalker:at=0,error=broken"
    ended = Child("test:64x48@30", "--engine", broken, "--effect", "splash", "-o", "out.mp4", folder=here).end()
    assert ended.code == 1
    assert ended.stderr == "streamseg: test: RuntimeError: broken on purpose (thread 'engine')\n"
    assert list(here.iterdir()) == []


@pytest.fixture
def long_clip(here: Path) -> Path:
    """A clip of 40 seconds with sound: more than a test has patience for."""
    return make_clip(here / "clip.mp4", num_frames=1000, audio="aac", lossless=False)


def stopped_after_a_while(folder: Path, clip: Path, *numbers: signal.Signals, seconds: float = 0.01) -> Ended:
    """The run of the clip by an engine that takes `seconds` a frame, sent the signals after 40 frames."""
    slow = ("--engine", f"{MODULE}:Walker:seconds={seconds}")
    running = process(clip, *slow, *PATTERN[3:], "-o", "out.mp4", "-o", "out.jsonl", folder=folder)
    deadline = time.monotonic() + 60
    while num_drawn(folder) < 40:
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    for number in numbers:
        running.send_signal(number)
        time.sleep(0.2)
    stdout, stderr = running.communicate(timeout=30)
    return Ended(running.returncode, stdout, stderr)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_closes_the_part_files_with_all_that_was_drawn(
    here: Path, long_clip: Path, number: signal.Signals, code: int
) -> None:
    ended = stopped_after_a_while(here, long_clip, number)
    assert ended.code == code
    drawn = num_drawn(here)
    assert 40 <= drawn < 1000
    assert num_pictures("out.part.mp4") == drawn == len((here / "out.part.jsonl").read_text().splitlines())
    (video, *_, last), (*_, sound) = packets("out.part.mp4", "video"), packets("out.part.mp4", "audio")
    assert video[0] == 0 and abs(last[0] - sound[0]) < 0.3
    assert [line for line in ended.stderr.splitlines()] == [
        f"streamseg: clip: stopped by {number.name} before its end",
        "streamseg: what was done so far is in out.part.mp4",
        "streamseg: what was done so far is in out.part.jsonl",
    ]
    assert sorted(path.name for path in here.glob("out.*")) == ["out.part.jsonl", "out.part.mp4"]


def test_a_second_ctrl_c_drops_what_is_in_flight_and_still_closes_the_file(here: Path, long_clip: Path) -> None:
    ended = stopped_after_a_while(here, long_clip, signal.SIGINT, signal.SIGINT, seconds=0.05)
    assert ended.code == 130
    assert 40 <= num_pictures("out.part.mp4") == num_drawn(here)


def test_impatience_while_a_model_is_prepared_ends_that_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    model = here / "mine"
    shutil.copytree(zoo.resolve("people"), model, ignore=shutil.ignore_patterns("graphs", "int8"))
    running = process("test:64x48@30", "--model", model, "-o", "out.mp4", folder=here)
    deadline = time.monotonic() + 60
    while not exports_of(model):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    for _ in range(3):  # the third one waits for nobody
        running.send_signal(signal.SIGINT)
        time.sleep(0.2)
    running.communicate(timeout=20)
    assert running.returncode == 130
    while exports_of(model):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [path.name for path in (here / "cache" / "streamseg" / "openvino").iterdir()] == []
    assert list(here.glob("out.*")) == []


def exports_of(model: Path) -> list[str]:
    """The processes that export this model."""
    found = []
    for process_folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process_folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "streamseg.model.export" in command and any(part.startswith(f"{model}/") for part in command):
                found.append(process_folder.name)
    return found
