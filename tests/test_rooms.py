"""What a component says of itself is read from its file as it stands, and no two serve the same."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamseg import plugins, rooms
from streamseg.rooms import Said
from streamseg.types import UsageError

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("room", rooms.SPEAKING)
def test_what_a_file_says_is_what_its_class_holds(room: str) -> None:
    for name in rooms.names(room):
        found, said = plugins.find(room, name), rooms.said(room, name)
        for each in dataclasses.fields(Said):
            assert getattr(said, each.name) == getattr(found, each.name, each.default), f"{room}/{name}.py: {each.name}"


@pytest.mark.parametrize("room", rooms.SPEAKING)
def test_the_option_that_takes_what_a_person_writes_is_one_of_the_component(room: str) -> None:
    for name in rooms.names(room):
        if not hasattr(plugins.find(room, name), "spelled"):
            assert rooms.said(room, name).argument in plugins.option_names(room, name)


def test_every_ending_and_scheme_leads_to_its_component() -> None:
    sinks, sources = rooms.served("sinks"), rooms.served("sources")
    assert (sinks[".webm"], sinks[".jsonl"], sinks["images:"]) == ("video_file", "jsonl", "image_folder")
    assert (sources["test:"], sources[".tiff"], sources["pictures"]) == ("test_pattern", "image_folder", "image_folder")


def test_spellings_begin_with_the_default_and_end_with_what_is_asked_for_by_a_scheme() -> None:
    assert rooms.spellings("sinks")[0] == ".mp4"
    assert rooms.spellings("sinks", of=["jsonl", "image_folder"]) == ["images:FOLDER", ".jsonl"]
    over_a_net = [f"{scheme}://HOST/PATH" for scheme in ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https")]
    assert rooms.addresses("sources") == ["camera:0", "gst:LAUNCH", *over_a_net, "test:1280x720@30"]


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        (Said(endings=(".csv",)), Said(endings=(".txt", ".csv")), "sinks: '.csv' is claimed twice, by one and two;"),
        (Said(schemes=("ftp",)), Said(schemes=("ftp",)), "sinks: 'ftp:' is claimed twice, by one and two;"),
        (Said(endings=(".csv", ".csv")), Said(), "sinks: '.csv' is claimed twice, by one;"),
    ],
)
def test_two_components_that_serve_the_same_are_named(one: Said, two: Said, words: str) -> None:
    with pytest.raises(UsageError) as error:
        rooms.all_served("sinks", {"one": one, "two": two})
    assert str(error.value).startswith(words)


def test_two_sinks_may_keep_pictures_but_only_one_source_plays_a_folder_of_them() -> None:
    both = {"one": Said(folder="pictures"), "two": Said(folder="pictures")}
    assert rooms.all_served("sinks", both) == {}
    with pytest.raises(UsageError, match="sources: 'pictures' is claimed twice, by one and two"):
        rooms.all_served("sources", both)


BROKEN = {
    "endings = '.csv'": "2: endings: expected a tuple of texts, got '.csv'",
    "endings = ('.csv', 3)": "2: endings: expected a tuple of texts, got ('.csv', 3)",
    "endings: tuple[str, ...] = ('csv',)": "2: endings: expected one such as '.csv', in small letters, got 'csv'",
    "schemes = ('Dice',)": "2: schemes: expected one such as 'images', in small letters, got 'Dice'",
    "live = 1": "2: live: expected True or False, got 1",
    "endings = tuple(ALL)": "2: endings: expected a value that is written out, such as ('.csv',), got tuple(ALL)",
    "endings = (": "2: no Python: '(' was never closed",
}


def test_what_cannot_be_read_from_a_file_is_refused_with_its_line(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "streamseg", tmp_path / "streamseg", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    for number, line in enumerate(BROKEN):
        (tmp_path / f"streamseg/sinks/new{number}.py").write_text(f"class New{number}:\n    {line}\n")
    (tmp_path / "streamseg/sinks/unlike.py").write_text("class Another: ...\n")
    code = f"""if True:
        from streamseg import rooms
        for name in [*[f"new{{number}}" for number in range({len(BROKEN)})], "unlike"]:
            try:
                print(rooms.said("sinks", name))
            except Exception as error:
                print(type(error).__name__, error)
    """
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    folder = tmp_path / "streamseg/sinks"
    expected = [f"UsageError {folder}/new{number}.py:{words}" for number, words in enumerate(BROKEN.values())]
    assert ran.stdout.splitlines() == [*expected, f"UsageError {folder}/unlike.py: expected a class Unlike"]


def test_asking_what_there_is_loads_no_other_module() -> None:
    code = "import sys; before = set(sys.modules); from streamseg import rooms; rooms.served('sources'); "
    code += "loaded = {name for name, module in sys.modules.items() if module is not None} - before; "
    code += "print({name.partition('.')[0] for name in loaded} - set(sys.stdlib_module_names))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "{'streamseg'}\n"
