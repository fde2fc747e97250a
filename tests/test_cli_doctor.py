"""`streamseg doctor ADDRESS` says what a camera sends, and nothing of its password."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamseg.cli import app
from streamseg.cli.doctor import engines, keyframes, models
from streamseg.engines._precision import Cpu
from streamseg.engines.openvino import Openvino
from streamseg.sources._look import look
from streamseg.sources.rtsp import address_of, way_to
from tests.live.feeds import made_feed
from tests.live.rtsp_server import RtspServer
from tests.sources.http_camera import HttpCamera


def doctor(*words: str, code: int = 0) -> dict[str, str]:
    """What it said: what was looked for -> the mark and the finding."""
    ran = CliRunner().invoke(app, ["doctor", *words, "--seconds", "0.5"], catch_exceptions=False)
    assert ran.exit_code == code, ran.output
    assert "sesame" not in ran.output and "admin" not in ran.output
    lines = [line for line in ran.stdout.splitlines() if line[:1] != " "]
    return {line[8:22].strip(): f"{line[:8].strip()} {line[22:]}" for line in lines}


def test_a_camera_is_described() -> None:
    feed = made_feed(width=160, height=96, rate=50, seconds=1, gop=0.2)
    with RtspServer({"camera": feed}, user="admin", password="sesame@1", digest=True) as server:
        said = doctor(f"yard={server.url(login='admin:sesame@1')}")
        assert said["camera"] == f"ok rtsp://127.0.0.1:{server.port}/camera"
    assert said["transport"] == "ok tcp and udp"
    assert said["video"].startswith("ok h264") and said["video"].endswith("160x96 yuv420p")
    assert said["rate"].startswith("ok 50 pictures a second") and said["keyframes"] == "ok 0.2 s apart"
    assert said["sound"] == "ok none" and said["opened"].startswith("ok after 0.")


def test_what_this_cpu_is_quick_at_and_what_each_model_runs_in_are_told() -> None:
    cpu = Cpu.here()
    said = {finding.what: finding for finding in engines()}
    assert said["openvino"].found.endswith(f"this CPU is quick at {cpu.words}")
    assert ("int8" in said, "bf16" in said) == (not cpu.int8, not cpu.bf16)
    runs = next(finding for finding in models() if finding.what == "  run in").found
    assert f"people {Openvino(model='people').precision}" in runs.split(", ")


def test_keyframes_that_are_far_apart_come_with_what_to_do() -> None:
    with RtspServer({"camera": made_feed(rate=50, seconds=1, gop=0.2)}) as server:
        near = look(way_to(address_of(server.url())), seconds=0.3)
    assert near is not None and keyframes(near).present
    for apart, words in (([5.0, 5.0], "5 s apart"), ([1.0, 8.0], "1 to 8 s apart"), ([], "fewer than two in the time")):
        finding = keyframes(replace(near, keyframes_apart=apart))
        assert not finding.present and words in finding.found and "set one every 1 to 2 s" in finding.hint


def test_a_wrong_password_is_tried_once() -> None:
    with RtspServer({"camera": made_feed()}, user="admin", password="other", digest=True) as server:
        said = doctor(server.url(login="admin:sesame"), code=1)
        assert server.num_asked["DESCRIBE"] <= 2  # without it, and with it
    assert said["tcp"] == "MISSING user or password is wrong (401)" and "udp" not in said


def test_what_shows_nothing_is_told_with_its_cause(tmp_path: Path) -> None:
    said = doctor("rtsp://127.0.0.1:1/1", code=1)
    assert said["tcp"] == said["udp"] == "MISSING connection refused: nothing listens there"
    with HttpCamera(tmp_path) as camera:
        said = doctor(camera.url("/clip.mp4"), code=1)
    assert said["tcp"] == "MISSING expected a live stream, got a file; download it, and give the file"


@pytest.mark.parametrize("text", ["sample:", "camera:0", "test:"])
def test_what_is_no_address_of_a_camera_is_wrong_use(text: str) -> None:
    ran = CliRunner().invoke(app, ["doctor", text])
    assert ran.exit_code == 2
    assert "doctor: expected the address of a camera, such as rtsp://HOST/PATH, or nothing" in ran.output
