"""The README's commands for cameras do what it says, on a camera, a broker and a page of their own."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.command import WALKER, process
from tests.live.broker import Broker
from tests.live.feeds import made_feed
from tests.live.needs import program
from tests.live.rtsp_server import RtspServer
from tests.test_readme import COMMANDS

PASSWORD = "open-sesame-4711"

LIVE = [command for command in COMMANDS if command.startswith("streamseg run") and "rtsp://" in command]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def arguments_of(command: str, camera: RtspServer) -> list[str]:
    """What stands behind `streamseg run`, for this camera, with an engine that costs nothing."""
    return [*shlex.split(re.sub(r"rtsp://\S+", camera.url(), command))[2:], *WALKER]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_page_and_the_broker_hear_what_the_camera_shows(camera: RtspServer, broker: Broker, tmp_path: Path) -> None:
    (command,) = [each for each in LIVE if "--web" in each]
    port = free_port()
    told = command.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("localhost", f"127.0.0.1:{broker.port}")
    listen = [program("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(broker.port), "-t", "shop/door/counts"]
    with subprocess.Popen([*listen, "-C", "3"], stdout=subprocess.PIPE, text=True) as subscriber:
        child = process(*arguments_of(told, camera), folder=tmp_path)
        try:
            heard, _ = subscriber.communicate(timeout=60)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/streams", timeout=10) as answer:
                (door,) = json.load(answer)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
                assert b"streamseg" in page.read()
            child.send_signal(signal.SIGINT)
            _, stderr = child.communicate(timeout=30)
        finally:
            subscriber.kill()
            child.kill()
    assert child.returncode == 130, stderr
    assert json.loads(heard.splitlines()[-1])["now"]["person"] >= 1
    assert (door["name"], door["state"]) == ("door", "live") and "gate" in door["counts"]["lines"]


def test_a_camera_is_recorded_under_the_time_at_which_it_began(camera: RtspServer, tmp_path: Path) -> None:
    (command,) = [each for each in LIVE if "--segment" in each]
    child = process(*arguments_of(command, camera), folder=tmp_path)
    try:
        until(lambda: any(tmp_path.glob("door_*Z.part.mp4")) and (tmp_path / "door.json").exists())
        time.sleep(1)
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 130, stderr
    (recording,) = tmp_path.glob("door_*.mp4")
    assert re.fullmatch(r"door_\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.mp4", recording.name)
    assert recording.stat().st_size > 1000


def test_the_password_of_a_camera_is_nowhere_but_at_the_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAM_PASSWORD", PASSWORD)
    port, seen = free_port(), []
    with RtspServer({"camera": made_feed(rate=25, seconds=1)}, user="eve", password=PASSWORD) as camera:
        address = camera.url(login="eve:${CAM_PASSWORD}")
        targets = ["-o", "door.mp4", "--publish", "events.csv", "--publish", "events.jsonl", "--state", "door.json"]
        arguments = [f"door={address}", "--web", f"127.0.0.1:{port}", *targets, "-v", *WALKER]
        child = process(*arguments, folder=tmp_path)
        try:
            until(lambda: state_of(port) == "live" and list(tmp_path.glob("door_*.mp4")))
            camera.suffer("killed")
            until(lambda: state_of(port) == "lost")
            for path in ("", "page.js", "metrics", "api/streams", "api/events", "healthz", "openapi.json"):
                seen.append(answer(port, path))
            child.send_signal(signal.SIGINT)
            seen += child.communicate(timeout=30)
        finally:
            child.kill()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".mp4", ".csv", ".jsonl", ".json"}
    assert "lost" in "".join(seen) and "127.0.0.1" in "".join(seen)
    assert not [text for text in seen if PASSWORD in text]
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


def state_of(port: int) -> str:
    try:
        return str(json.loads(answer(port, "api/streams"))[0]["state"])
    except OSError:  # not there yet
        return ""


def answer(port: int, path: str) -> str:
    """What the page's server says, whatever its code."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answered:
            return str(answered.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()
