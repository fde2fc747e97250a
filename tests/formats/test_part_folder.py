"""Files of a part folder come to their places together, over older ones, and a killed job's go."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamseg.formats._part_folder import PartFolder
from streamseg.types import OutputError


def listed(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_files_come_to_their_places_among_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "street").mkdir()
    (tmp_path / "street/1.txt").write_text("older")
    (tmp_path / "street/1.jpg").write_text("a picture")
    files = PartFolder(tmp_path, tmp_path / "yolo.part")
    files.write("street/1.txt", b"one")
    files.write("market/deeper/2.txt", b"two")
    assert listed(tmp_path) == {
        "street/1.txt": "older",
        "street/1.jpg": "a picture",
        "yolo.part/street/1.txt": "one",
        "yolo.part/market/deeper/2.txt": "two",
    }
    files.finish()
    assert listed(tmp_path) == {"street/1.txt": "one", "street/1.jpg": "a picture", "market/deeper/2.txt": "two"}
    assert not (tmp_path / "yolo.part").exists()


def test_what_a_killed_job_left_does_not_come_along(tmp_path: Path) -> None:
    PartFolder(tmp_path, tmp_path / "yolo.part").write("old.txt", b"old")
    files = PartFolder(tmp_path, tmp_path / "yolo.part")
    files.write("new.txt", b"new")
    files.finish()
    assert listed(tmp_path) == {"new.txt": "new"}


def test_discarded_files_leave_nothing(tmp_path: Path) -> None:
    files = PartFolder(tmp_path, tmp_path / "yolo.part")
    files.write("street/1.txt", b"one")
    files.discard()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file/yolo.part cannot be written: not a directory"):
        PartFolder(tmp_path / "file", tmp_path / "file" / "yolo.part")
    files = PartFolder(tmp_path, tmp_path / "yolo.part")
    files.write("street", b"")
    with pytest.raises(OutputError, match="yolo.part/street/1.txt cannot be written"):
        files.write("street/1.txt", b"one")
    (tmp_path / "street").mkdir()
    with pytest.raises(OutputError, match="cannot be written: is a directory"):
        files.finish()
