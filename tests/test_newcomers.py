"""A new source, sink, counter and effect of one file each, in a copy of the package: the command line has them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).resolve().parents[1]

DICE = '''
"""Throws a die: as many grey pictures as it has sides, ten a second."""

from fractions import Fraction

import av
import numpy as np

from streamseg.types import Frame, StreamInfo


class Dice:
    schemes = ("dice",)
    metavar = "SIDES"
    argument = "sides"

    def __init__(self, sides: int, *, name: str = "dice") -> None:
        self.sides, self.warnings = sides, {}
        self.info = StreamInfo(name, 64, 48, Fraction(1, 10), Fraction(10), num_frames=sides)

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None: ...

    def __iter__(self):
        for index in range(self.sides):
            picture = av.VideoFrame.from_ndarray(np.full((72, 64), 128, np.uint8), format="yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, 10)
            yield Frame(picture=picture, index=index, time=index / 10, captured_at=0.0, stream=self.info.name)
'''

CSV = '''
"""Writes how many objects every frame has, a line each."""

from pathlib import Path

from streamseg.sinks._part_file import PartFile


class Csv:
    endings = (".csv",)
    wants_pictures = False

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self._file, self.notes = PartFile(path, overwrite=overwrite), []

    @property
    def path(self) -> Path:
        return self._file.path

    def __enter__(self):
        self._file.create()
        return self

    def start(self, info) -> None:
        self._file.start(info)

    def write(self, picture, result) -> None:
        with self.path.open("a") as lines:
            lines.write(f"{result.frame.index},{len(result.instances)}\\n")

    def __exit__(self, exc_type, exc, tb) -> None:
        if exc_type is None:
            self._file.finish()
        self._file.close()
'''

THROWS = '''
"""Counts frames, and tells of every third."""


class Throws:
    def __init__(self) -> None:
        self.frames = 0

    def update(self, result):
        self.frames += 1
        return self.totals(), ({"event": "third", "throw": self.frames},) if self.frames % 3 == 0 else ()

    def totals(self):
        return {"throws": {"frames": self.frames}}

    def state(self):
        return {"frames": self.frames}

    def restore(self, state) -> None:
        self.frames = state["frames"]
'''

PATCH = '''
"""Draws a black patch in the upper left corner."""


class Patch:
    def __init__(self, *, side: int = 16) -> None:
        self.side = side

    def draw(self, canvas, result) -> None:
        canvas.rectangle(0, 0, self.side, self.side, (0, 0, 0))
'''

NEWCOMERS = {
    "sources/dice.py": DICE,
    "sinks/csv.py": CSV,
    "counters/throws.py": THROWS,
    "effects/patch.py": PATCH,
}

TELL = """if True:
    import json, sys
    from typer.testing import CliRunner
    from streamseg.cli import app
    said = [CliRunner().invoke(app, command, catch_exceptions=False) for command in json.loads(sys.argv[1])]
    print(json.dumps([(each.exit_code, each.stdout, each.stderr) for each in said]))
"""

Said = list[tuple[int, str, str]]
Commands = Callable[..., Said]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package and four files more."""
    folder = tmp_path_factory.mktemp("house")
    package = folder / "streamseg"
    shutil.copytree(ROOT / "streamseg", package, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    for name in ("configs", "pipelines"):
        shutil.copytree(ROOT / name, package / name)
    for name, text in NEWCOMERS.items():
        (package / name).write_text(text.lstrip())
    return folder


@pytest.fixture
def say(house: Path, tmp_path: Path) -> Commands:
    """Runs these commands of the copy in the test's own folder: exit code, stdout and stderr of each."""
    environment = {**os.environ, "PYTHONPATH": f"{house}:{ROOT}", "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*commands: Sequence[str]) -> Said:
        whole = [sys.executable, "-c", TELL, json.dumps(commands)]
        done = subprocess.run(whole, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return [tuple(each) for each in json.loads(done.stdout.splitlines()[-1])]

    return run


RUN = ("run", "dice:6", "--engine", "tests.fakes:FakeEngine", "--set", "counters=[throws]")


def test_they_do_their_work(say: Commands, tmp_path: Path) -> None:
    ((code, summary, errors),) = say([*RUN, "--effect", "patch:side=32", "-o", "{stem}.csv", "-o", "out/", "--json"])
    assert code == 0, errors
    assert json.loads(summary)["outputs"] == ["dice.csv", "out/dice_patch.mp4"]
    assert (tmp_path / "dice.csv").read_text().splitlines() == [f"{index},1" for index in range(6)]
    with av.open(str(tmp_path / "out" / "dice_patch.mp4")) as clip:
        pictures = [frame.to_ndarray(format="gray") for frame in clip.decode(video=0)]
    assert len(pictures) == 6
    assert pictures[5][:24, :24].max() < 40 and pictures[5][40:, 40:].min() > 90


def test_they_stand_in_the_help_and_in_the_lists(say: Commands) -> None:
    listed = {
        "sources": "dice            Throws a die: as many grey pictures as it has sides, ten a second.\n"
        "                  for dice:SIDES\n                  sides: int (needed)\n",
        "sinks": "csv             Writes how many objects every frame has, a line each.\n                  for .csv\n",
        "counters": "throws          Counts frames, and tells of every third.\n",
        "effects": "patch           Draws a black patch in the upper left corner.\n",
    }
    help_, *lists = [text for _, text, _ in say(["run", "--help"], *(["list", room] for room in listed))]
    words = " ".join(help_.split())
    assert "A file (.mp4 .mkv .webm .mov .csv .gif .jsonl), hls:FOLDER, images:FOLDER, rtsp://HOST/PATH," in words
    assert "dice:SIDES Throws a die: as many grey pictures as it has sides, ten a second." in words
    for expected, text in zip(listed.values(), lists, strict=True):
        assert expected in text


def test_what_is_wrong_with_them_is_said_before_an_engine_is_loaded(say: Commands, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("mine")
    run = ["run", "dice:6", "--engine", "replay:path=absent.jsonl"]  # which ends with an error where it is loaded
    there, blind, wrong, address, unknown, loaded = say(
        [*run, "-o", "a.csv"],
        [*run, "-o", "b.csv", "--effect", "patch"],
        ["run", "dice:many", *run[2:], "-o", "b.csv"],
        ["run", "dice://6", *run[2:], "-o", "b.csv"],
        ["run", "dices:6"],
        [*run, "-o", "b.csv"],
    )
    assert there == (1, "", "streamseg: a.csv: the file exists; --overwrite replaces it, -o names another\n")
    assert blind[0] == 2 and "--effect: expected an output with pictures (.mp4, .mkv, " in blind[2]
    assert wrong[0] == 2 and wrong[2].startswith("streamseg: source dice: sides: expected integer")
    assert address[0] == 2 and "got 'dice://6'" in address[2]  # of an address the component gets all
    assert unknown[0] == 2 and "sample:, camera:0, dice:SIDES, " in unknown[2]
    assert loaded[0] == 1 and "absent.jsonl cannot be read" in loaded[2]


def test_two_that_serve_the_same_and_one_without_its_methods_are_refused(say: Commands, house: Path) -> None:
    twin = house / "streamseg" / "sinks" / "twin.py"
    answers = []
    for ending in (".csv", ".twin"):
        twin.write_text(f'"""Another."""\n\n\nclass Twin:\n    endings = ("{ending}",)\n')
        answers += say(["run", "dice:6", "-o", f"a{ending}"])
    twin.unlink()
    both, bare = answers
    assert both[0] == 2 and "sinks: '.csv' is claimed twice, by csv and twin;" in both[2]
    assert bare == (2, "", "streamseg: sink twin: Twin is no sink, it has no method '__enter__'\n")


def test_totals_and_events_of_a_new_counter_reach_the_summary_and_the_records(say: Commands, tmp_path: Path) -> None:
    ((_, summary, _),) = say([*RUN, "-o", "a.jsonl", "--json"])
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert json.loads(summary)["counts"] == {"throws": {"frames": 6}}
    assert [record["counts"]["throws"]["frames"] for record in records] == [1, 2, 3, 4, 5, 6]
    events = [event for record in records for event in record.get("events", [])]
    assert [(event["event"], event["throw"], event["stream"]) for event in events] == [
        ("third", 3, "dice"),
        ("third", 6, "dice"),
    ]
    assert len({event["id"] for event in events}) == 2
