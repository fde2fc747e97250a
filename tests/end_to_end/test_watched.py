"""`streamseg run` with a page beside it: it answers from the beginning to the end, with what the run knows."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.command import process, run

PIPELINE = """
engine: tests.end_to_end.live_parts:SlowEngine
source: {"tests.end_to_end.live_parts:Camera": {seconds: 60.0}}
effects: [labels]
web: 127.0.0.1:0
state: counted.json
"""


def answer(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answered:
        return json.load(answered)


def test_a_run_with_a_page_answers_keeps_its_totals_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "live.yaml").write_text(PIPELINE)
    totals = []
    for _ in range(2):
        child = process("--pipeline", "live.yaml", "--json-log", "--json", folder=tmp_path)
        try:
            assert child.stderr is not None
            said = next(line for line in child.stderr if "page is at" in line)
            (page,) = re.findall(r"http://127\.0\.0\.1:\d+/$", json.loads(said)["message"])
            assert urllib.request.urlopen(page + "livez", timeout=10).status == 200
            deadline = time.monotonic() + 60
            camera = answer(page + "api/streams")[0]
            while camera["counts"]["objects"].get("person", 0) <= len(totals) or camera["fps"] < 5:
                camera = answer(page + "api/streams")[0]
                assert time.monotonic() < deadline, camera
                time.sleep(0.05)
            assert camera["state"] == "live" and camera["now"] == {"person": 1}
            child.send_signal(signal.SIGINT)
            stdout, stderr = child.communicate(timeout=30)
        finally:
            child.kill()
        assert child.returncode == 130, stderr
        assert all(json.loads(line)["message"] for line in stderr.splitlines())
        totals.append(json.loads(stdout)["objects"]["person"])
    assert totals == [1, 2], "the second run goes on where the first one was"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--web", "127.0.0.1"], "expected HOST:PORT"),
        (["--web", "127.0.0.1:99999"], "expected HOST:PORT"),
        (["--show"], "--show: expected a page to show, --web HOST:PORT"),
        (["--fps", "5"], "--fps: expected a live INPUT"),
        (["--fps", "0"], "'--fps': expected pictures a second, more than 0, such as 10, got '0'"),
        (["--max-age", "1"], "--max-age: expected a live INPUT"),
        (["--segment", "10m"], "--segment: expected a live INPUT"),
        (["--segment", "soon"], "expected a duration such as 90s, 10m, 12h or 7d, got 'soon'"),
    ],
)
def test_wrong_use_is_said_before_the_first_frame(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("sample:", *arguments, code=2)
    assert words in " ".join(ran.stderr.split())
    assert list(tmp_path.iterdir()) == []
