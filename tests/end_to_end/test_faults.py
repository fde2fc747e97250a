"""Whichever part breaks down, at whichever frame: the run ends, says so, and leaves nothing under the final name."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clips import make_clip
from tests.end_to_end.command import num_pictures, outputs, packets, run
from tests.end_to_end.parts import ERRORS, MODULE, SAID

NUM_FRAMES = 30
ROOMS = ("source", "engine", "tracker", "counter", "effect", "video sink", "data sink")
STAGES = {"counter": "counters", "effect": "effects", "video sink": "sinks", "data sink": "sinks"}


def pipeline(broken: str, *, name: str, at: int, error: str, engine: str = "Walker") -> dict[str, Any]:
    """A stream of real parts in YAML's words, the `broken` one with a fault before its frame number `at`."""

    def part(room: str, usual: str, breaking: str, **options: Any) -> dict[str, Any]:
        if room != broken:
            return {usual: options}
        return {f"{MODULE}:{breaking}": {**options, "at": at, "error": error}}

    video, data = {"path": f"{{folder}}/{name}_out.mp4"}, {"path": f"{{folder}}/{name}_out.jsonl"}
    flow = {
        "source": part("source", "video_file", "BrokenSource", path=f"{name}.mp4"),
        "tracker": part("tracker", "mask_iou", "BrokenTracker"),
        "counters": [part("counter", "per_class", "BrokenCounter")],
        "effects": [part("effect", "splash", "BrokenEffect"), {"labels": {}}],
        "sinks": [
            part("video sink", "video_file", "BrokenVideoSink", **video),
            part("data sink", "jsonl", "BrokenJsonl", **data),
        ],
    }
    return {"engine": part("engine", f"{MODULE}:{engine}", f"Broken{engine}"), "flow": flow}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, num_frames=NUM_FRAMES, audio="aac").read_bytes()


def check_outputs(folder: Path, *, name: str, complete: bool, pictures: int, lines: int) -> None:
    """The outputs of a stream hold these pictures and lines, under the names that fit how it ended."""
    part = "" if complete else ".part"
    video, data = folder / f"{name}_out{part}.mp4", folder / f"{name}_out{part}.jsonl"
    assert sorted(path.name for path in folder.glob(f"{name}_out*")) == sorted(
        path.name for path, number in ((video, pictures), (data, lines)) if number
    )
    assert not pictures or num_pictures(video) == pictures
    assert not lines or len(data.read_text().splitlines()) == lines


@pytest.mark.parametrize("seed", range(46))
def test_a_part_that_breaks_down_ends_its_run_in_order(here: Path, clip: bytes, seed: int) -> None:
    random_ = random.Random(seed)
    broken, at = ROOMS[seed % len(ROOMS)], random_.randrange(NUM_FRAMES)
    error = random_.choice(list(ERRORS))
    flow = pipeline(broken, name="clip", at=at, error=error)
    (here / "clip.mp4").write_bytes(clip)
    (here / "broken.yaml").write_text(yaml.safe_dump({"engine": flow["engine"], **flow["flow"]}))

    ended = run("--pipeline", "broken.yaml", engine=(), code=1)

    thread = {"source": "read clip", "engine": "engine"}.get(broken, "write clip")
    stage = "" if broken == "engine" else f"{STAGES.get(broken, broken)}, "
    said = ended.stderr.splitlines()
    assert said[0] == f"streamseg: clip: {SAID[error]} ({stage}thread '{thread}')"
    assert all(line.startswith("streamseg: what was done so far is in ") for line in said[1:])
    # all that came before the fault is written, and not a frame more
    check_outputs(here, name="clip", complete=False, pictures=at + (broken == "data sink"), lines=at)
    if at > 2 and broken != "data sink":
        assert packets("clip_out.part.mp4", "audio")


@pytest.mark.parametrize("seed", range(7))
def test_the_other_stream_goes_on_unless_it_is_the_engine_that_broke(here: Path, clip: bytes, seed: int) -> None:
    broken, at = ROOMS[seed], random.Random(seed).randrange(1, NUM_FRAMES)
    bad = pipeline(broken, name="bad", at=at, error="broken")
    good = pipeline("", name="good", at=0, error="broken")
    for name in ("bad", "good"):
        (here / f"{name}.mp4").write_bytes(clip)
    streams = {"bad": bad["flow"], "good": good["flow"]}
    (here / "two.yaml").write_text(yaml.safe_dump({"engine": bad["engine"], "streams": streams}))

    ended = run("--pipeline", "two.yaml", engine=(), code=1)

    assert "streamseg: bad: RuntimeError: broken on purpose (" in ended.stderr
    if broken == "engine":
        assert outputs(here) == ["bad.mp4", "good.mp4", "two.yaml"]
        assert num_pictures("bad_out.part.mp4") + num_pictures("good_out.part.mp4") == at
    else:
        check_outputs(here, name="bad", complete=False, pictures=at + (broken == "data sink"), lines=at)
        check_outputs(here, name="good", complete=True, pictures=NUM_FRAMES, lines=NUM_FRAMES)
        assert "streamseg: good" not in ended.stderr


@pytest.mark.parametrize("broken", ["source", "engine", "tracker", "video sink"])
def test_the_embedded_model_is_no_reason_to_hang(here: Path, embedded_model: str, broken: str) -> None:
    at = random.Random(broken).randrange(8)
    flow = pipeline(broken, name="clip", at=at, error="broken", engine="Openvino")
    if broken != "engine":
        flow["engine"] = {f"{MODULE}:BrokenOpenvino": {"at": 99, "error": "broken"}}
    make_clip(here / "clip.mp4", width=128, height=72, num_frames=8)
    (here / "broken.yaml").write_text(yaml.safe_dump({"engine": flow["engine"], **flow["flow"]}))
    assert (
        "streamseg: clip: RuntimeError: broken on purpose ("
        in run("--pipeline", "broken.yaml", engine=(), code=1).stderr
    )
    check_outputs(here, name="clip", complete=False, pictures=at, lines=at)
