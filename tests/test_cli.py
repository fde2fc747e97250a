"""The command line: what it writes, prints and exits with; and the same from Python."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import pytest
from typer.testing import CliRunner

import streamseg
from streamseg.cli import app
from streamseg.cli.evaluate import as_table
from streamseg.cli.progress import Progress, TrainingProgress
from streamseg.request import seconds
from streamseg.types import InputError, UsageError
from tests.clips import make_clip

ROOT = Path(__file__).resolve().parents[1]
ENGINE = ("--engine", "tests.fakes:FakeEngine")
DRAW = ("--effect", "tests.fakes:FakeEffect")
SHORT = ("--end", "0.5")  # five frames of the sample


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder and the cache are the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def streamseg_(*arguments: str, code: int = 0) -> Any:
    """Run the command in this process; `.stdout` and `.stderr` are what it said."""
    ran = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert ran.exit_code == code, ran.stdout + ran.stderr
    return ran


def run(*arguments: str, code: int = 0) -> Any:
    return streamseg_("run", *arguments, *ENGINE, *DRAW, *SHORT, code=code)


def num_frames(path: Path | str) -> int:
    with av.open(str(path)) as clip:
        return sum(1 for _ in clip.decode(video=0))


# --- run


def test_run_writes_the_video_and_says_how_it_went_in_one_short_table() -> None:
    said = run("sample:")
    assert num_frames("pedestrians_fakeeffect.mp4") == 5
    assert said.stdout.startswith("frames    5 in ")
    assert "(slowest)" in said.stdout and "objects   person 1\n" in said.stdout
    assert said.stdout.endswith("output    pedestrians_fakeeffect.mp4\n")
    assert said.stderr == ""


def test_json_is_alone_on_stdout_and_shaped_as_promised() -> None:
    summary = json.loads(run("sample:", "--json").stdout)
    assert summary["frames"] == {"read": 5, "written": 5, "dropped": {}}
    assert set(summary["stages"]) == {"source", "engine", "tracker", "effects", "sinks"}
    assert summary["slowest"] in summary["stages"]
    assert (summary["objects"], summary["lines"], summary["zones"]) == ({"person": 1}, {}, {})
    assert summary["outputs"] == ["pedestrians_fakeeffect.mp4"]


def test_two_files_at_once_come_out_as_two_and_are_counted_apart(here: Path) -> None:
    sample = ROOT / "samples" / "pedestrians.mp4"
    for name in ("a.mp4", "b.mp4"):
        (here / name).write_bytes(sample.read_bytes())
    summary = json.loads(run("*.mp4", "-o", "out/", "-o", "{stem}.jsonl", "--json").stdout)
    assert {name: stream["frames"]["written"] for name, stream in summary["streams"].items()} == {"a": 5, "b": 5}
    assert summary["streams"]["a"]["outputs"] == ["out/a_fakeeffect.mp4", "a.jsonl"]
    assert len(Path("b.jsonl").read_text().splitlines()) == 5
    assert "b\n  frames    5 in " in run("*.mp4", "-o", "again/", "--parallel", "1").stdout


def test_one_bad_file_among_good_ones_is_named_and_the_others_are_done(here: Path) -> None:
    (here / "broken.mp4").write_bytes(b"no video")
    said = run("sample:", "broken.mp4", "missing.mp4", "--json", code=1)
    assert num_frames("pedestrians_fakeeffect.mp4") == 5
    assert "broken.mp4" in said.stderr and "missing.mp4: no such file" in said.stderr
    assert {name for name, stream in json.loads(said.stdout)["streams"].items() if "error" in stream} == {
        "broken",
        "missing",
    }
    assert sorted(path.name for path in here.glob("*.mp4")) == ["broken.mp4", "pedestrians_fakeeffect.mp4"]


@pytest.mark.parametrize("content", [None, b"", b"no video at all"])
def test_a_file_that_is_no_video_ends_with_one_and_leaves_nothing(here: Path, content: bytes | None) -> None:
    if content is not None:
        (here / "bad.mp4").write_bytes(content)
    said = run("bad.mp4", code=1)
    assert said.stderr.count("\n") == 1 and "bad.mp4" in said.stderr
    assert [path.name for path in here.iterdir() if "fakeeffect" in path.name] == []


def test_an_output_that_exists_is_kept_unless_told_otherwise(here: Path) -> None:
    (here / "pedestrians_fakeeffect.mp4").write_text("mine")
    assert "the file exists; --overwrite replaces it" in run("sample:", code=1).stderr
    assert (here / "pedestrians_fakeeffect.mp4").read_text() == "mine"
    run("sample:", "--overwrite")
    assert num_frames("pedestrians_fakeeffect.mp4") == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample:", "--effect", "splsh"], "did you mean 'splash'?"),
        (["sample:", "--effect", "splash:clases=person"], "did you mean 'classes'?"),
        (
            ["sample:", "--effect", "splash:classes=persom", *ENGINE],
            "splash: the model has no class 'persom'; did you mean 'person'?",
        ),
        (
            ["sample:", "--classes", "persn", *ENGINE, *DRAW],
            "--classes: the model has no class 'persn'; did you mean 'person'?",
        ),
        (["sample:", "--engine", "opnvino"], "did you mean 'openvino'?"),
        (["sample:", "--pipeline", "splsh"], "did you mean 'splash'?"),
        (["sample:", "--pipeline", "none.yaml"], "none.yaml: cannot be read"),
        (["sample:", "--set", "engine.batchsize=2"], "did you mean 'batch_size'?"),
        (["sample:", "-o", "out.mp5"], "did you mean '.mp4'?"),
        (["sample:", "--start", "soon"], "expected a time such as 90, 90s or 1:30"),
        (["sample:", "--min-score", "2"], "--min-score"),
        (["sample:", "--stride", "0"], "--stride"),
        (["sample:", "--overwrit"], "--overwrite"),
        (["rtps://camera"], "expected a file, a folder, a glob"),
        ([], "expected an INPUT"),
    ],
)
def test_wrong_use_ends_with_two_before_the_first_frame(here: Path, arguments: list[str], words: str) -> None:
    said = streamseg_("run", *arguments, code=2)
    assert words in said.stderr
    assert said.stdout == ""
    assert [path for path in here.iterdir() if path.name != "cache"] == []


def test_pictures_are_not_put_into_a_folder_that_holds_some(here: Path) -> None:
    run("sample:", "-o", "images:frames", "-q")
    said = run("sample:", "-o", "images:frames", code=1)
    assert said.stderr == "streamseg: frames: the folder is not empty; --overwrite replaces the pictures in it\n"
    assert said.stdout == ""
    run("sample:", "-o", "images:frames", "--overwrite")


def test_a_recording_without_a_class_may_be_asked_for_it(here: Path) -> None:
    run("test:64x48@10", "-o", "seen.jsonl", "-o", "seen.mp4", "-q")
    replay = ("--engine", "replay:path=seen.jsonl", "--classes", "giraffe", "--json")
    summary = json.loads(streamseg_("run", "test:64x48@10", *SHORT, *replay, "-o", "again.mp4").stdout)
    assert (summary["frames"]["written"], summary["objects"]) == (5, {})


def test_inputs_of_one_name_are_told_apart_in_a_folder_and_the_table_says_so(here: Path) -> None:
    said = run("test:64x48@10", "test:32x32@10", "-o", "out/")
    assert num_frames("out/test_fakeeffect.mp4") == num_frames("out/test-2_fakeeffect.mp4") == 5
    assert "note      out/test-2_fakeeffect.mp4: called test-2, because another input is test too\n" in said.stdout


def test_verbose_says_what_engine_encoder_and_range_do_the_work() -> None:
    arguments = ("test:64x48@10", "--start", "0.2", "--overwrite", "--preset", "fast")
    plain, verbose = run(*arguments).stderr, run(*arguments, "-v").stderr
    assert plain == ""
    assert "engine tests.fakes:FakeEngine: FakeEngine, batches of 1\n" in verbose
    assert "stream test: from picture 2 at 0.200 s, pictures 64x48 yuv420p, network input 64x48\n" in verbose
    assert "test_fakeeffect.part.mp4: libx264 (" in verbose
    assert "preset=fast" in verbose and ", 64x48 yuv420p\n" in verbose


def test_a_file_says_with_verbose_where_it_was_sought_to() -> None:
    said = run("sample:", "--start", "0.3", "-v").stderr
    assert "pedestrians.mp4: decoded from picture 0 at 0.000 s on\n" in said
    assert "stream pedestrians: from picture 3 at 0.300 s" in said


def test_what_a_library_writes_while_an_engine_is_imported_is_not_shown(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "greeting_engine.py").write_text(
        "import os\n"
        "from tests.fakes import FakeEngine\n"
        "os.write(2, b'Hello from deep inside')\n"
        "class Greeting(FakeEngine): pass\n"
    )
    monkeypatch.syspath_prepend(here)
    said = streamseg_("run", "sample:", *SHORT, "--engine", "greeting_engine:Greeting:precison=f32", code=2)
    assert "greeting_engine" in sys.modules
    assert said.stderr.count("\n") == 1 and "'precison'" in said.stderr
    assert "Hello" not in capfd.readouterr().err


def test_quiet_says_nothing() -> None:
    said = run("sample:", "-q")
    assert said.stdout == said.stderr == ""


def test_an_engine_that_breaks_down_ends_with_one_and_names_the_part_file(here: Path) -> None:
    (here / "broken_engine.py").write_text(
        "from tests.fakes import FakeEngine, Fault\n"
        "class Broken(FakeEngine):\n"
        "    def __init__(self) -> None: super().__init__(fault=Fault(3))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{here}:{ROOT}"}
    command = [sys.executable, "-m", "streamseg", "run", "sample:", *DRAW, "--engine", "broken_engine:Broken"]
    ran = subprocess.run(command, env=environment, cwd=here, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert "RuntimeError: broken on purpose" in ran.stderr
    assert not (here / "pedestrians_fakeeffect.mp4").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_playable_part_file_and_its_exit_code(here: Path, number: signal.Signals, code: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    slow = "tests.fakes:FakeEngine:seconds=0.01"
    command = [sys.executable, "-m", "streamseg", "run", "test:160x120@30", "--end", "600", "--engine", slow, *DRAW]
    running = subprocess.Popen(
        command, env=environment, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    part = here / "test_fakeeffect.part.mp4"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 3000) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(number)
    _, said = running.communicate(timeout=30)
    assert running.returncode == code, said
    assert "test_fakeeffect.part.mp4" in said
    assert num_frames(part) > 5 and not (here / "test_fakeeffect.mp4").exists()


def test_a_ready_pipeline_runs_by_name() -> None:
    streamseg_("run", "--pipeline", "splash", "sample:", *ENGINE, *SHORT)
    assert num_frames("pedestrians_splash.mp4") == 5


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "~/none"],
        ["run", "sample:", "--pipeline=~/none.yaml"],
        ["run", "sample:", "--engine=replay:path=~/none.jsonl"],
        ["train", "~/none.yaml"],
        ["inspect", "data", "~/none.yaml", "-o", "page.html"],
        ["export", "--format", "onnx", "-o", "a.onnx", "--pictures=~/none"],
        ["models", "show", "~/none.yaml"],
    ],
)
def test_a_tilde_that_the_shell_left_is_the_home_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("HOME", str(here))
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code in (1, 2)
    assert f"{here}/none" in said.stderr


def test_a_pattern_and_a_folder_of_pictures_are_inputs_too(here: Path) -> None:
    run("test:64x48@10", "-o", "images:frames")
    assert len(list((here / "frames").iterdir())) == 5
    streamseg_("run", "frames", *ENGINE, *DRAW, "-o", "frames.mp4", "-q")
    assert num_frames("frames.mp4") == 5


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("1:30", 90), ("1:00:01.5", 3601.5), ("0.25", 0.25)]
)
def test_times_are_read_as_people_write_them(text: str, expected: float) -> None:
    assert seconds(text) == expected


# --- from Python


def test_python_gets_every_result_with_its_picture() -> None:
    results = list(streamseg.run(ROOT / "samples" / "pedestrians.mp4", engine=ENGINE[1], effects=[], end=0.5))
    assert [result.frame.index for result in results] == [0, 1, 2, 3, 4]
    assert results[0].instances.names == ["person"]
    assert results[4].counts == {"objects": {"person": 1}}
    assert isinstance(results[0], streamseg.Result)


def test_python_draws_with_an_object_of_ones_own_and_writes(here: Path) -> None:
    class Dot:
        drawn = 0

        def draw(self, canvas: Any, result: streamseg.Result) -> None:
            self.drawn += 1

    dot = Dot()
    for _ in streamseg.run("sample:", engine=ENGINE[1], effects=[dot], output=here / "dots.mp4", end=0.5):
        pass
    assert dot.drawn == num_frames("dots.mp4") == 5


def test_an_effect_of_ones_own_is_another_one_for_each_stream(here: Path) -> None:
    class Counting:
        drawn = 0

        def draw(self, canvas: Any, result: streamseg.Result) -> None:
            self.drawn += 1

    class Held(Counting):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("it holds a window")

    for name in ("a.mp4", "b.mp4"):
        make_clip(here / name, num_frames=4)
    counting = Counting()
    for _ in streamseg.run(["a.mp4", "b.mp4"], engine=ENGINE[1], effects=[counting]):
        pass
    assert counting.drawn == 4
    with pytest.raises(UsageError, match=r"Held: expected an effect that can be copied, .*\(it holds a window\)"):
        list(streamseg.run(["a.mp4", "b.mp4"], engine=ENGINE[1], effects=[Held()]))
    assert len(list(streamseg.run("a.mp4", engine=ENGINE[1], effects=[Held()]))) == 4


def test_python_hears_of_what_is_wrong_at_once() -> None:
    with pytest.raises(UsageError, match="did you mean 'classes'"):
        streamseg.run("sample:", clases=["person"])
    with pytest.raises(InputError, match="missing.mp4"):
        streamseg.run("missing.mp4", engine=ENGINE[1])


def test_leaving_the_loop_leaves_a_part_file(here: Path) -> None:
    for result in streamseg.run("sample:", engine=ENGINE[1], effects=[], output="out.mp4"):
        if result.frame.index == 3:
            break
    del result
    deadline = time.monotonic() + 10
    while not (here / "out.part.mp4").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (here / "out.part.mp4").exists() and not (here / "out.mp4").exists()


# --- the other commands


@pytest.mark.parametrize("command", ["run", "train", "evaluate", "inspect", "export", "models", "list", "doctor"])
def test_every_command_has_help(command: str) -> None:
    said = streamseg_(command, "--help").stdout
    assert "streamseg " + command in said.split("Example", 1)[1]


def test_the_help_of_run_explains_each_kind_of_input_once_however_many_ways_it_is_spelt() -> None:
    said = streamseg_("run", "--help").stdout
    assert said.count("Watch a camera or a server by its address") == 1
    assert all(f"\n    {scheme}://HOST/PATH" in said for scheme in ("rtsp", "rtsps", "rtmp", "http", "https"))


def test_the_version_is_told() -> None:
    assert streamseg_("--version").stdout == f"streamseg {streamseg.__version__}\n"


@pytest.mark.parametrize("what", ["sources", "sinks", "counters", "trackers", "effects", "datasets"])
def test_list_tells_names_purposes_and_options(what: str) -> None:
    said = streamseg_("list", what).stdout
    known = {
        "sources": "video_file",
        "sinks": "jsonl",
        "counters": "per_class",
        "trackers": "mask_iou",
        "datasets": "via",
    }
    assert known.get(what, "splash") in said
    assert what == "counters" or ": " in said


def test_list_knows_the_ready_pipelines() -> None:
    assert "splash          " in streamseg_("list", "pipelines").stdout


def test_list_answers_a_wrong_room_with_the_nearest() -> None:
    assert "did you mean 'effects'?" in streamseg_("list", "efects", code=2).stderr


def model_birds(here: Path) -> None:
    """A downloaded model that is none inside."""
    folder = here / "cache" / "streamseg" / "models" / "birds"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(
        "model: {class_names: [background, bird, nest]}\ncommand: streamseg train birds\n"
    )
    (folder / "model.weights.h5").write_bytes(b"0" * 2_000_000)


def test_a_wrong_model_is_answered_with_the_nearest(here: Path) -> None:
    model_birds(here)
    assert "did you mean 'birds'?" in streamseg_("run", "sample:", "--model", "brids", code=2).stderr


def test_models_lists_shows_and_says_what_is_not_there(here: Path) -> None:
    model_birds(here)
    listed = streamseg_("models").stdout
    assert re.search("birds +bird, nest", listed) and "2.0 MB" in listed
    assert "command: streamseg train birds" in streamseg_("models", "show", "birds").stdout
    assert "did you mean 'birds'?" in streamseg_("models", "show", "brids", code=2).stderr
    assert "no model to download" in streamseg_("models", "download", "brids", code=2).stderr
    unreachable = f"http://127.0.0.1:9/a.zip#sha256={hashlib.sha256(b'').hexdigest()}"
    assert "cannot be reached" in streamseg_("models", "download", unreachable, code=1).stderr


def test_doctor_names_engines_codecs_licences_and_what_adds_the_rest() -> None:
    said = CliRunner().invoke(app, ["doctor"], catch_exceptions=False).stdout
    for words in ("openvino", "h264", "libx264", "GPL", "GPU", "keras", "cache", "streamseg"):
        assert words in said
    assert "gstreamer" in said


def test_train_names_the_line_of_a_wrong_setting(here: Path) -> None:
    (here / "birds.yaml").write_text("name: birds\nmodle: {}\n")
    said = streamseg_("train", "birds.yaml", code=2)
    assert said.stderr == "streamseg: birds.yaml:2: no setting is called 'modle'; did you mean 'model'?\n"


def test_evaluations_are_shown_as_a_small_table() -> None:
    figures = {"AP": 0.25, "AP50": 0.5, "AP75": 0.2, "APs": -1, "APm": 0.3, "APl": 0.4, "AR100": 0.35}
    table = as_table({"model": "people", "images": 10, "seconds": 1.5, "box": figures, "mask": figures})
    assert table.splitlines()[0] == "people: 10 pictures in 1.5 s"
    assert table.splitlines()[2].split() == ["box", "0.250", "0.500", "0.200", "-", "0.300", "0.400", "0.350"]


# --- progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_and_a_line_now_and_then_elsewhere() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    with Progress(num_streams=1, stream=terminal) as bar:
        bar("a", 50, 100)
        bar("a", 100, 100)
    assert "frames" in terminal.getvalue() and "/100" in terminal.getvalue()
    with Progress(num_streams=1, stream=pipe) as lines:
        for done in range(100):
            lines("a", done, 100)
        assert pipe.getvalue() == ""
        assert lines.line().startswith("99 of 100 frames, ")


def test_progress_of_several_streams_is_of_all_together() -> None:
    progress = Progress(num_streams=2, stream=io.StringIO())
    progress("a", 10, 100)
    assert progress.total is None  # the second has not said anything yet
    progress("b", 20, 50)
    assert progress.total == 150 and progress.line().startswith("30 of 150 frames, ")
    progress("b", 60, 50)  # a header may lie
    assert progress.total == 160


def test_training_progress_says_epoch_step_and_losses() -> None:
    pipe = io.StringIO()
    with TrainingProgress(stream=pipe) as progress:
        progress({"epoch": 1, "epochs": 3, "step": 1, "steps": 9, "losses": {"box": 0.5}})
        progress({"epoch": 1, "epochs": 3, "step": 2, "steps": 9, "losses": {"box": 0.4}})
        progress({"epoch": 1, "epochs": 3, "step": 9, "steps": 9, "losses": {"box": 0.3}})
    assert pipe.getvalue() == "epoch 1 of 3: 1 of 9, box 0.500\nepoch 1 of 3: 9 of 9, box 0.300\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "streamseg", "list", "effects"]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (ran.returncode, ran.stderr) == (1, "streamseg: output: No space left on device\n")
