"""Names and options in YAML become components, or one clear error before the first frame."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from streamseg import plugins, rooms
from streamseg.types import UsageError

OUTSIDE = """
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

class FaceBlur:
    def __init__(self, strength: int = 3, *, classes: tuple[str, ...] = (), of: Literal["faces", "plates"] = "faces",
                 copy: bool = False, path: Path | None = None) -> None:
        if strength < 1:
            raise ValueError(f"strength: expected at least 1, got {strength}")
        self.given = dict(strength=strength, classes=classes, of=of, copy=copy, path=path)
    def draw(self, canvas, result): ...

@dataclass
class Frozen:
    path: Path
    def draw(self, canvas, result): ...

class Mute: ...
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module outside the package, importable as `outside_effects`."""
    (tmp_path / "outside_effects.py").write_text(textwrap.dedent(OUTSIDE))
    monkeypatch.syspath_prepend(tmp_path)
    yield "outside_effects"
    sys.modules.pop("outside_effects", None)


@pytest.mark.parametrize("room", rooms.ROOMS)
def test_every_file_of_a_room_holds_the_class_of_its_name_and_every_option_is_annotated(room: str) -> None:
    for name in rooms.names(room):
        if room == "engines" and name == "keras":
            continue  # takes seconds to import; its own tests do
        plugins.find(room, name)  # which refuses one without the methods of its room
        assert rooms.summary(room, name).endswith("."), f"{name}.py opens with no sentence"
        for option in plugins.options_in_words(room, name):
            assert ":" in option, f"{room} {name}: the option {option} has no type"


def test_options_are_converted_to_the_types_of_the_constructor(outside: str) -> None:
    options = {"strength": "5", "classes": ["a", "b"], "of": "plates", "path": "x.png", "copy": True}
    made = plugins.build("effects", f"{outside}:FaceBlur", options)
    assert made.given == {"strength": 5, "classes": ("a", "b"), "of": "plates", "path": Path("x.png"), "copy": True}


def test_options_are_listed_with_what_they_take(outside: str) -> None:
    lines = plugins.options_in_words("effects", f"{outside}:FaceBlur")
    assert lines[0] == "strength: int = 3"
    assert lines[2] == "of: 'faces' | 'plates' = 'faces'"
    assert lines[4] == "path: Path | None = None"
    assert plugins.options_in_words("effects", f"{outside}:Frozen") == ["path: Path (needed)"]


def test_one_text_is_a_list_of_one(outside: str) -> None:
    assert plugins.check("effects", f"{outside}:FaceBlur", {"classes": "person"}) == {"classes": ("person",)}


def test_an_option_that_is_not_given_keeps_its_default(outside: str) -> None:
    assert plugins.check("effects", f"{outside}:FaceBlur", {"of": "plates"}) == {"of": "plates"}
    assert plugins.build("effects", f"{outside}:FaceBlur").given["strength"] == 3


def test_a_dataclass_is_a_component_too(outside: str) -> None:
    assert plugins.build("effects", f"{outside}:Frozen", {"path": "a"}).path == Path("a")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("FaceBlur", {"strenght": 3}, ["no option is called 'strenght'", "did you mean 'strength'?"]),
        ("FaceBlur", {"strength": "much"}, ["strength: expected", "integer", "'much'"]),
        ("FaceBlur", {"of": "face"}, ["of: expected one of 'faces' or 'plates'", "did you mean 'faces'?", "'face'"]),
        ("FaceBlur", {"classes": ["a", 1]}, ["classes[1]: expected string, got 1"]),
        ("FaceBlur", {"strength": 0}, ["expected at least 1, got 0"]),
        ("Frozen", {}, ["the option 'path' is missing"]),
        ("FaceBlr", {}, ["has no class 'FaceBlr'", "did you mean 'FaceBlur'?"]),
        ("Mute", {}, ["Mute is no effect, it has no method 'draw'"]),
    ],
)
def test_a_wrong_option_says_what_was_expected_and_what_was_probably_meant(
    outside: str, name: str, options: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(UsageError) as error:
        plugins.build("effects", f"{outside}:{name}", options)
    for word in words:
        assert word in str(error.value)
    assert f"effect {outside}:{name}" in str(error.value)


def test_a_module_that_cannot_be_imported_says_so() -> None:
    with pytest.raises(UsageError, match="the module 'no_such_package.blur' cannot be imported.*PYTHONPATH"):
        plugins.find("effects", "no_such_package.blur:FaceBlur")


def test_a_wrong_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="no counter is called 'perclass'; did you mean 'per_class'?"):
        plugins.find("counters", "perclass")


def test_a_name_like_no_other_is_answered_with_all_there_are() -> None:
    with pytest.raises(UsageError, match="no counter is called 'xyz'; there is .*per_class"):
        plugins.find("counters", "xyz")


def test_a_name_cannot_reach_another_folder() -> None:
    with pytest.raises(UsageError, match="no effect is called"):
        plugins.find("effects", "../types")


# --- what a class outside the package says of itself

SINKS = """
from pathlib import Path
from streamseg.sinks.jsonl import Jsonl

class Whole:
    def __init__(self, path: Path) -> None: self.path, self.notes = path, []
    def __enter__(self): return self
    def __exit__(self, *exc): ...
    def start(self, info): ...
    def write(self, picture, result): ...

class Unstarted(Whole):
    start = None

class Lines(Whole):
    endings, schemes, wants_pictures = (".jsonl",), ("lines",), False

class OneText(Whole):
    endings = ".csv"

class Variant(Jsonl): ...

class WithVerbs(Whole):
    def folder(self): ...
    @property
    def live(self): return True

class Channel(Whole):
    schemes, argument = ("channel",), "number"
"""


@pytest.fixture
def sinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of sinks outside the package, importable as `outside_sinks`."""
    (tmp_path / "outside_sinks.py").write_text(SINKS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "outside_sinks"
    sys.modules.pop("outside_sinks", None)


def test_a_class_outside_speaks_by_its_attributes_and_those_that_it_inherits(sinks: str) -> None:
    lines = plugins.said("sinks", f"{sinks}:Lines")
    assert (lines.endings, lines.schemes, lines.wants_pictures) == ((".jsonl",), ("lines",), False)
    assert plugins.said("sinks", f"{sinks}:Variant") == plugins.said("sinks", "jsonl")
    assert plugins.said("sinks", f"{sinks}:WithVerbs") == plugins.said("sinks", f"{sinks}:Whole") == rooms.Said()


def test_what_a_person_writes_goes_to_the_option_that_the_class_names(sinks: str) -> None:
    assert plugins.spelled("sinks", f"{sinks}:Channel", "7") == {"number": "7"}
    assert plugins.spelled("sinks", f"{sinks}:Channel", "") == {}
    assert plugins.spelled("sources", "test_pattern", "64x48@25") == {"size": "64x48", "fps": 25}


def test_a_part_that_lacks_a_method_of_its_room_is_named(sinks: str) -> None:
    with pytest.raises(UsageError, match=f"sink {sinks}:Unstarted: Unstarted is no sink, it has no method 'start'"):
        plugins.check("sinks", f"{sinks}:Unstarted", {"path": "a"})


def test_a_wrong_word_of_a_class_outside_is_named(sinks: str) -> None:
    with pytest.raises(UsageError, match=f"sink {sinks}:OneText: endings: expected a tuple of texts, got '.csv'"):
        plugins.said("sinks", f"{sinks}:OneText")


def test_a_class_outside_that_serves_what_another_serves_is_refused_with_both(sinks: str) -> None:
    with pytest.raises(UsageError, match=f"sinks: '.jsonl' is claimed twice, by jsonl and {sinks}:Lines"):
        plugins.check_claims("sinks", [f"{sinks}:Whole", f"{sinks}:Lines"])
    plugins.check_claims("sinks", ["jsonl", f"{sinks}:Variant", f"{sinks}:Variant"])


def test_an_engine_without_what_every_engine_says_of_itself_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "half_engine.py").write_text(
        "class Half:\n"
        "    class_names, batch_size = ('background', 'person'), 1\n"
        "    def input_size(self, frame): ...\n"
        "    def predict(self, frames): ...\n"
    )
    with pytest.raises(UsageError, match="engine half_engine:Half: Half is no engine, it has no 'min_score'"):
        plugins.build("engines", "half_engine:Half")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class X: pass\nfoo(", "the module 'broken_outside' cannot be imported: SyntaxError: '\\(' was never closed"),
        ("class X: pass\nfoo()", "cannot be imported: NameError: name 'foo' is not defined .*line 2"),
        (
            "class X:\n  def __init__(self): raise RuntimeError('no\\ndevice')\n  def draw(self, canvas, result): ...",
            "effect broken_outside:X: RuntimeError: no device .*line 2",
        ),
    ],
)
def test_a_mistake_in_a_class_outside_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_outside", raising=False)
    (tmp_path / "broken_outside.py").write_text(text)
    with pytest.raises(UsageError, match=words):
        plugins.build("effects", "broken_outside:X")
    sys.modules.pop("broken_outside", None)


def test_an_annotation_that_says_nothing_takes_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "odd_outside.py").write_text(
        "class X:\n  def __init__(self, x: 'list[int] | 5' = 3): self.x = x\n  def draw(self, canvas, result): ...\n"
    )
    assert plugins.build("effects", "odd_outside:X", {"x": "any"}).x == "any"
