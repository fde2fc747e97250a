"""Input that is wrong: one line that says so, an exit code that says so too, and nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pytest
import yaml

from streamseg import zoo
from tests.clips import damage_packets, join_clips, make_clip, make_sound
from tests.end_to_end.command import NOBODY, WALKER, Child, num_pictures, outputs, pictures, planes, run
from tests.end_to_end.parts import MODULE

SPLASH = ("--effect", "splash")
ALL_EFFECTS = tuple(
    f"--effect={name}"
    for name in ("splash", "overlay", "labels", "counts", "blur:where=background", "pixelate", "cutout")
)


def refused(*arguments: str | Path, code: int, engine: tuple[str, ...] = WALKER) -> str:
    """The one line that a run says on stderr which fails with this code and leaves every file as it was."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    ended = run(*arguments, engine=engine, code=code)
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()} == before
    (line,) = ended.stderr.splitlines()
    assert line.startswith("streamseg: ")
    return line.removeprefix("streamseg: ")


def summary(*arguments: str | Path, code: int = 0, engine: tuple[str, ...] = WALKER) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(run(*arguments, "--json", engine=engine, code=code).stdout)
    return told


# What cannot be read as a video


def missing(path: Path) -> None:
    pass


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("Dear diary, there was no video today either.\n" * 50)


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(20_000))


def truncated(path: Path) -> None:
    make_clip(path, keep=0.6)


def sound_alone(path: Path) -> None:
    make_sound(path)


def no_frames(path: Path) -> None:
    make_clip(path, num_frames=0, audio="aac")


def no_frames_and_no_sound(path: Path) -> None:
    make_clip(path.with_suffix(".avi"), num_frames=0).rename(path)


def all_damaged(path: Path) -> None:
    whole = make_clip(path.with_name("whole.mp4"), num_frames=3)
    damage_packets(whole, 0, 1, 2, target=path)
    whole.unlink()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


NO_VIDEO: list[tuple[Callable[[Path], None], str]] = [
    (missing, "no such file"),
    (empty, "the file is empty"),
    (text, "expected a video"),
    (noise, "expected a video"),
    (truncated, "truncated, or its recording never ended"),
    (sound_alone, "expected a video, got only sound"),
    (no_frames, "expected a video, got only sound"),
    (no_frames_and_no_sound, "the video has no picture that can be decoded"),
    (all_damaged, "no picture that can be decoded: all its 3 packets are damaged"),
    (a_pipe, "got a pipe or a device"),
]
"""What makes a file that is refused, and what is said of it."""


@pytest.mark.parametrize(("make", "words"), NO_VIDEO)
def test_a_file_that_is_no_video_is_refused_in_one_line(here: Path, make: Any, words: str) -> None:
    make(here / "clip.mp4")
    line = refused("clip.mp4", *SPLASH, code=1)
    assert words in line and "clip.mp4" in line
    assert outputs(here) == (["clip.mp4"] if make is not missing else [])


def test_a_folder_with_neither_pictures_nor_videos_is_refused(here: Path) -> None:
    (here / "folder" / "deeper").mkdir(parents=True)
    (here / "folder" / "notes.txt").write_text("nothing to see")
    assert refused("folder", *SPLASH, code=1) == "folder: the folder holds no pictures and no videos"
    assert refused("*.mkv", *SPLASH, code=1) == "*.mkv: no file matches"


def test_bad_files_among_good_ones_are_named_and_the_good_ones_done(here: Path) -> None:
    make_clip(here / "good.mp4")
    text(here / "bad.mp4")
    told = summary("good.mp4", "bad.mp4", "missing.mp4", *SPLASH, code=1)
    assert {name: "error" in stream for name, stream in told["streams"].items()} == {
        "good": False,
        "bad": True,
        "missing": True,
    }
    assert outputs(here) == ["bad.mp4", "good.mp4", "good_splash.mp4"]


def test_a_clip_that_is_truncated_behind_its_index_gives_what_is_there_and_counts_the_rest(here: Path) -> None:
    make_clip(here / "clip.mp4", num_frames=20, container_options={"movflags": "faststart"}, keep=0.7)
    told = summary("clip.mp4", *SPLASH)
    number = told["warnings"]["packets missing at the end of a truncated file"]
    assert told["frames"]["written"] + number >= 20 - 1  # one packet is cut in two
    assert num_pictures("clip_splash.mp4") == told["frames"]["written"] > 5


def test_damage_in_the_middle_is_counted_and_the_rest_is_done(here: Path) -> None:
    whole = make_clip(here / "whole.mkv", num_frames=30, gop=5)
    damage_packets(whole, 10, 11, target=here / "clip.mkv")
    told = summary("clip.mkv", *SPLASH)
    number = told["warnings"]["damaged packets skipped"]
    assert 2 <= number <= 5  # the rest of a group of five needs its first
    assert told["frames"]["written"] == num_pictures("clip_splash.mkv") == 30 - number


def test_pictures_whose_damage_the_decoder_conceals_are_counted_and_kept(here: Path) -> None:
    clip = make_clip(here / "clip.avi", codec="mpeg4", width=320, height=240, num_frames=20, lossless=False)
    with av.open(clip) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][7]
        assert packet.pos is not None
    data = bytearray(clip.read_bytes())
    begin, end = packet.pos + packet.size // 2, packet.pos + packet.size - 8
    data[begin:end] = np.random.default_rng(1).bytes(end - begin)
    clip.write_bytes(data)
    told = summary("clip.avi", *SPLASH)
    assert told["warnings"] == {"damaged pictures kept": 1}
    assert told["frames"]["written"] == 20


# Shapes that most clips do not have


@pytest.mark.parametrize(
    ("width", "height", "becomes"),
    [(321, 243, (322, 244)), (1, 1, (2, 2)), (2, 1, (2, 2)), (1600, 100, (1600, 100)), (100, 1600, (100, 1600))],
)
def test_odd_sizes_single_pixels_and_panoramas_come_through_whole(
    here: Path, width: int, height: int, becomes: tuple[int, int]
) -> None:
    # RGB in: 4:2:0 sources of odd size are rare, but the encoder of ours writes them
    clip = make_clip(here / "clip.mkv", width=width, height=height, num_frames=4, pix_fmt="yuv420p", codec="ffv1")
    told = summary("clip.mkv", *SPLASH, "--quality", "lossless", "-o", "out.mp4")
    assert told["frames"] == {"read": 4, "written": 4, "dropped": {}}
    padded = any("repeated" in note for note in told.get("notes", []))
    assert padded == (becomes != (width, height))
    for written, given in zip(pictures("out.mp4"), pictures(clip), strict=True):
        assert (written.width, written.height) == becomes
        luma, source = planes(written)[0], planes(given)[0]
        np.testing.assert_array_equal(luma[:height, :width], source)
        np.testing.assert_array_equal(luma[height - 1 :, :width], np.repeat(source[-1:], becomes[1] - height + 1, 0))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le", "rgb24", "gray"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (33, 17), (320, 20)])
def test_every_effect_draws_on_every_shape(here: Path, width: int, height: int, pix_fmt: str) -> None:
    clip = here / ("clip.mov" if pix_fmt == "rgb24" else "clip.mkv")
    codec = "png" if pix_fmt == "rgb24" else "ffv1"
    make_clip(clip, width=width, height=height, num_frames=3, pix_fmt=pix_fmt, codec=codec)
    told = summary(clip, *ALL_EFFECTS, "-o", "out.mkv", "-o", "out.jsonl", "-o", "out.gif", "-o", "images:out")
    assert told["frames"]["written"] == 3 == num_pictures("out.mkv") == len(list((here / "out").iterdir()))
    for line in (here / "out.jsonl").read_text().splitlines():
        assert (json.loads(line)["width"], json.loads(line)["height"]) == (width, height)


@pytest.mark.parametrize(("width", "height"), [(2, 1), (480, 30), (63, 35)])
def test_the_embedded_model_looks_at_every_shape(here: Path, embedded_model: str, width: int, height: int) -> None:
    make_clip(here / "clip.mkv", width=width, height=height, num_frames=2, codec="ffv1")
    told = summary("clip.mkv", "--model", embedded_model, *SPLASH, "-o", "out.mp4", engine=())
    assert told["frames"]["written"] == 2 == num_pictures("out.mp4")


def test_a_size_that_changes_is_scaled_to_the_first_and_counted(here: Path) -> None:
    parts = [make_clip(here / f"{width}.h264", width=width, height=48, num_frames=5, rate=25) for width in (64, 80, 64)]
    join_clips(here / "clip.h264", *parts)
    told = summary("clip.h264", *ALL_EFFECTS, "-o", "out.mp4", "-o", "out.jsonl")
    assert told["frames"]["read"] == told["frames"]["written"] == 15
    assert "5 pictures of another size scaled to 64×48" in told["notes"]
    assert [(picture.width, picture.height) for picture in pictures("out.mp4")] == [(64, 48)] * 15
    widths = [json.loads(line)["width"] for line in (here / "out.jsonl").read_text().splitlines()]
    assert widths == [64] * 5 + [80] * 5 + [64] * 5


# What cannot be read or written


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may enter and write to: the test's own is its owner's alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def failed(public: Path, *arguments: str | Path, **limits: Any) -> str:
    """What a child that is nobody says before it ends with 1."""
    effects = () if str(arguments[-1]).endswith(".jsonl") else SPLASH
    ended = Child(*arguments, *WALKER, *effects, folder=public, **limits).end()
    assert ended.code == 1, ended
    line = ended.stderr.splitlines()[0]
    assert line.startswith("streamseg: ")
    return line.removeprefix("streamseg: ")


def test_a_file_that_may_not_be_read_says_so(public: Path) -> None:
    make_clip(public / "clip.mp4").chmod(0o000)
    assert failed(public, "clip.mp4", uid=NOBODY) == "clip: clip.mp4: no permission to read it (thread 'read clip')"
    assert outputs(public) == ["clip.mp4"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["locked"],
        ["locked/clip.mp4"],
        ["clip.mp4", "-o", "locked/out.mp4"],
        ["clip.mp4", "-o", "locked/"],
        ["clip.mp4", "--model", "locked/model"],
        ["--pipeline", "locked/mine.yaml"],
    ],
)
def test_a_folder_that_may_not_be_entered_says_so(public: Path, arguments: list[str]) -> None:
    (public / "locked").mkdir()
    make_clip(public / "locked" / "clip.mp4")
    make_clip(public / "clip.mp4").chmod(0o644)
    (public / "locked").chmod(0o000)
    engine = () if "--model" in arguments else (*WALKER, *SPLASH)
    ended = Child(*arguments, *engine, folder=public, uid=NOBODY).end()
    assert ended.stderr.count("\n") == 1, ended
    line = ended.stderr
    assert line.startswith("streamseg: ") and "locked" in line and "ermission denied" in line
    assert ended.code in (1, 2)
    (public / "locked").chmod(0o755)
    assert outputs(public) == ["clip.mp4", "clip.mp4", "locked"]


@pytest.mark.parametrize("output", ["out/clip.mp4", "out/clip.mkv", "out/clip.jsonl", "out/clip.gif", "images:out/x"])
def test_a_folder_that_may_not_be_written_says_so(public: Path, output: str) -> None:
    make_clip(public / "clip.mp4").chmod(0o644)
    (public / "out").mkdir()
    (public / "out").chmod(0o555)
    line = failed(public, "clip.mp4", "-o", output, uid=NOBODY)
    assert "out/" in line and "ermission" in line
    assert list((public / "out").iterdir()) == []


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv", "out.jsonl", "out.gif"])
def test_a_file_that_grows_too_large_for_the_disk_ends_the_run_and_keeps_its_part_name(here: Path, output: str) -> None:
    effects = () if output.endswith(".jsonl") else SPLASH
    arguments = ("test:320x180@30", "--end", "3", *WALKER, *effects, "-o", output)
    ended = Child(*arguments, folder=here, file_bytes=20_000).end()
    assert ended.code == 1, ended
    first, *others = ended.stderr.splitlines()
    assert "file too large" in first.lower() and "out" in first
    assert all(line.startswith("streamseg: what was done so far is in out.part") for line in others)
    assert not [path for path in here.iterdir() if ".part" not in path.name]


@pytest.fixture
def small_disk(here: Path) -> Iterator[Path]:
    """A disk of 200 kB."""
    disk = here / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk may be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("output", "part"), [("out.mp4", "out.part.mp4"), ("out.mkv", "out.part.mkv"), ("images:out", "out.part")]
)
def test_a_full_disk_ends_the_run_in_order_and_what_fits_plays(
    here: Path, small_disk: Path, output: str, part: str
) -> None:
    output = output.replace("out", f"{small_disk}/out")
    quality = () if "images" in output else ("--quality", "5")
    line, *others = run("test:320x180@30", *SPLASH, *quality, "-o", output, code=1).stderr.splitlines()
    assert "no space left on device" in line.lower() and "out" in line
    assert others == [f"streamseg: what was done so far is in {small_disk / part}"]
    assert [path.name for path in small_disk.iterdir()] == [part]
    if (small_disk / part).is_dir():
        assert len(list((small_disk / part).iterdir())) > 1
    else:
        assert num_pictures(small_disk / part) > 0


# Wrong names, options and files of settings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--effect", "splsh"], "no effect is called 'splsh'; did you mean 'splash'?"),
        (["--effect", "splash:clases=person"], "no option is called 'clases'; did you mean 'classes'?"),
        (["--effect", "overlay:opacity=2"], "opacity: expected 0 to 1, got 2"),
        (["--effect", "splash:classes=persn"], "the model has no class 'persn'; did you mean 'person'?"),
        (["--classes", "person,cat"], "the model has no class 'cat'"),
        (["--set", "engine.secnds=1"], "did you mean 'seconds'?"),
        (["--set", "trackr.hold=1"], "trackr"),
        (["--codec", "h266"], "no encoder is called 'h266'; did you mean 'h265'?"),
        (["--quality", "best"], "lossless"),
        (["--preset", "superfst"], "superfast"),
        (["--start", "5", "--end", "2"], "end"),
        (["--effect", "splash:"], "expected key=value after the colon, got ''"),
        (["--effect", ":"], "expected key=value after the colon, got ''"),
        (["--effect", "..here:Blur"], "expected package.module:Class"),
        (["-o", ""], "expected a file, a folder, hls:FOLDER, images:FOLDER, rtsp:"),
        ([""], "expected an INPUT, got an empty text"),
    ],
)
def test_a_wrong_name_or_option_is_wrong_use(here: Path, arguments: list[str], words: str) -> None:
    make_clip(here / "clip.mp4", num_frames=2)
    given = arguments if "--effect" in arguments else [*arguments, *SPLASH]
    assert words in refused("clip.mp4", *given, code=2)


def test_a_wrong_engine_or_model_is_wrong_use(here: Path) -> None:
    make_clip(here / "clip.mp4", num_frames=2)
    assert "did you mean 'openvino'?" in refused("clip.mp4", *SPLASH, code=2, engine=("--engine", "openvin"))
    assert "did you mean 'Walker'?" in refused("clip.mp4", *SPLASH, code=2, engine=("--engine", f"{MODULE}:Walkr"))
    assert "nowhere" in refused("clip.mp4", *SPLASH, code=2, engine=("--engine", "nowhere.at_all:Engine"))
    assert "no model is called 'peple'" in refused("clip.mp4", *SPLASH, "--model", "peple", code=2, engine=())


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("effects:\n  - splash\nsnks: []\n", 3, "no setting is called 'snks'; did you mean 'sinks'?"),
        ("effects:\n  - splash: {clases: [person]}\n", 2, "did you mean 'classes'?"),
        ("effects: [splash]\nclasses: !!python/object/apply:os.system ['touch hacked']\n", 2, "the tag"),
        ("effects: !!python/name:os.system\n", 1, "the tag"),
        ("effects: [splash]\neffects: []\n", 2, "stands twice"),
        ("effects: [splash\n", 2, ""),
        ("- splash\n", 1, "expected `key: value` lines"),
        ("parallel: many\n", 1, "parallel"),
    ],
)
def test_a_wrong_pipeline_file_is_told_with_its_line(here: Path, content: str, line: int, words: str) -> None:
    make_clip(here / "clip.mp4", num_frames=2)
    (here / "mine.yaml").write_text(content)
    said = refused("clip.mp4", "--pipeline", "mine.yaml", code=2)
    assert said.startswith(f"mine.yaml:{line}: ") and words in said
    assert not (here / "hacked").exists()


# Weights


@pytest.fixture
def model(here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the embedded model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    if "people" not in zoo.names():
        pytest.skip("no model is embedded in this checkout")
    folder, mine = zoo.resolve("people"), here / "mine"
    mine.mkdir()
    for name in (zoo.CONFIG, zoo.WEIGHTS):
        (mine / name).write_bytes((folder / name).read_bytes())
    make_clip(here / "clip.mp4", width=128, height=72, num_frames=2)
    return mine


def ours(model: Path) -> str:
    """What a run with this model says last before it ends with 1; nothing is written."""
    ended = run("clip.mp4", *SPLASH, "--model", model, engine=(), code=1)
    assert outputs(Path()) == sorted(["clip.mp4", "mine", *(path.name for path in model.iterdir())])
    *notices, line = ended.stderr.splitlines()
    assert all("preparing the model" in notice for notice in notices)
    return str(line.removeprefix("streamseg: "))


def test_weights_that_are_truncated_or_no_weights_at_all_are_refused(model: Path) -> None:
    whole = (model / zoo.WEIGHTS).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PK\x03\x04 a zip, they said", whole[:100] + b"\xff" * 200):
        (model / zoo.WEIGHTS).write_bytes(content)
        said = ours(model)
        assert "mine/model.weights.h5" in said and "not a readable weights file" in said
    (model / zoo.WEIGHTS).unlink()
    assert "no model.weights.h5" in ours(model)


def test_weights_of_another_model_name_the_tensors_that_do_not_fit(model: Path) -> None:
    with h5py.File(model / zoo.WEIGHTS, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        del file[names[0]]
        shape = file[names[1]].shape
        del file[names[1]]
        file.create_dataset(names[1], data=np.zeros((*shape, 2), np.float16))
        file.create_dataset("somebody/elses", data=np.zeros(3))
    said = ours(model)
    assert f"{names[0]} is missing" in said
    assert f"{names[1]}: expected shape {tuple(shape)}, got {(*shape, 2)}" in said
    assert "somebody/elses does not belong to this model" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card["model"].update(class_names=["person", "background"]), "background"),
        (lambda card: card["model"].update(fpn_chanels=64), "fpn_chanels"),
        (lambda card: card["model"].update(fpn_channels="wide"), "fpn_channels"),
    ],
)
def test_a_model_card_that_is_wrong_is_told_with_its_setting(model: Path, change: Any, words: str) -> None:
    card = yaml.safe_load((model / zoo.CONFIG).read_text())
    change(card)
    (model / zoo.CONFIG).write_text(yaml.safe_dump(card))
    said = ours(model)
    assert "mine/model.yaml" in said and words in said


def test_a_replay_of_what_is_no_record_is_refused(here: Path) -> None:
    make_clip(here / "clip.mp4", num_frames=2)
    (here / "found.jsonl").write_text("not json\n")
    said = refused("clip.mp4", *SPLASH, engine=("--engine", "replay:path=found.jsonl"), code=1)
    assert "found.jsonl, line 1" in said
