"""Whatever is wrong with one video, one chunk or the folder: a sentence says so, and the rest is done."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from streamseg import zoo
from streamseg.annotate.folder import KEPT
from streamseg.annotate.job import annotate
from streamseg.annotate.manifest import Manifest
from streamseg.annotate.request import AnnotateRequest
from streamseg.types import OutputError, UsageError
from tests.annotate.jobs import chunks, clip, frames, labels, run
from tests.clips import damage_packets, make_clip, make_sound
from tests.end_to_end.parts import MODULE, Walker
from tests.end_to_end.test_bad_input import NO_VIDEO


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("no video")


def without_pictures(path: Path) -> None:
    make_clip(path, num_frames=0, audio="aac")


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "gone": (lambda path: None, "no such file"),
    "empty": (empty, "the file is empty"),
    "text": (text, "nothing in this file can be read as one"),
    "sound": (lambda path: make_sound(path), "expected a video"),
    "no pictures": (without_pictures, "bad.mp4"),
    "folder": (lambda path: path.mkdir(), "holds no pictures and no videos"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_video_is_named_and_the_good_ones_are_done(name: str, here: Path) -> None:
    clip(here / "good.mp4", num_frames=12)
    clip(here / "last.mp4", num_frames=12)
    make, expected = BAD[name]
    make(here / "bad.mp4")
    summary = run("good.mp4", "bad.mp4", "last.mp4", code=1)
    errors = {video: each.error for video, each in summary.videos.items() if each.error}
    assert len(errors) == 1 and next(iter(errors)).startswith("bad")
    assert expected in str(next(iter(errors.values()))) and "bad.mp4" in str(summary.error)
    assert set(labels("labels")) == {"good.jsonl", "last.jsonl"}


def test_all_that_a_run_refuses_is_named_in_one_batch_and_the_good_ones_are_done(here: Path) -> None:
    clip(here / "first.mp4", num_frames=5)
    clip(here / "last.mp4", num_frames=5)
    bad = [(f"bad {number}.mp4", make, words) for number, (make, words) in enumerate(NO_VIDEO)]
    for name, make, _ in bad:
        make(here / name)
    summary = run("first.mp4", *(name for name, *_ in bad), "last.mp4", code=1)
    errors = {name: str(video.error) for name, video in summary.videos.items() if video.error}
    for name, _, words in bad:
        error = errors.pop(name if name in errors else name.removesuffix(".mp4"))
        assert words in error and name in error
    assert errors == {} and set(labels("labels")) == {"first.jsonl", "last.jsonl"}


def test_a_truncated_video_is_labelled_as_far_as_it_goes(here: Path) -> None:
    clip(here / "short.mkv", num_frames=40, keep=0.6)
    run("short.mkv")
    assert 10 < len(frames("labels", "short")) < 40


def test_what_is_wrong_with_a_video_is_said_though_it_can_be_labelled(here: Path) -> None:
    damage_packets(clip(here / "whole.mp4"), 12, target=here / "hurt.mp4")
    assert list(run("hurt.mp4").notes) == ["hurt: damaged packets skipped: 1"]
    assert len(chunks("labels", "hurt")) == 2, "from there on its packets do not say which pictures there are"
    shutil.rmtree(zoo.cache_folder() / "jobs")
    again = run("hurt.mp4")
    assert again.videos["hurt"].looked_at == 0, "its chunks say themselves that they are all"


def test_a_job_that_was_stopped_may_be_asked_for_other_frames_of_the_same_videos(here: Path) -> None:
    clip(here / "a.mp4", num_frames=60)
    run("a.mp4", stride=1)
    shutil.rmtree(here / "labels" / KEPT / "chunks")
    run("a.mp4", every=0.8)
    assert [each["index"] for each in frames("labels", "a")] == [0, 20, 40]


def test_chunks_count_more_than_what_the_index_remembers_of_another_job(here: Path) -> None:
    clip(here / "a.mp4", num_frames=60)
    run("a.mp4", every=0.8, output="there")
    run("a.mp4")
    shutil.rmtree(here / "labels" / KEPT / "chunks")
    shutil.copytree(here / "there" / KEPT / "chunks", here / "labels" / KEPT / "chunks")
    assert run("a.mp4", every=0.8).videos["a"].looked_at == 0


def test_a_damaged_chunk_that_the_finish_finds_is_done_again_by_its_part(here: Path) -> None:
    clip(here / "a.mp4")
    for part in (1, 2):
        run("a.mp4", shard=(part, 2))
    path = chunks("labels", "a")[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    told = annotate(AnnotateRequest(finish="labels", formats=("jsonl",)))
    assert "1 of 4 chunks are missing" in str(told.videos["a"].error) and told.exit_code == 1
    assert sum(run("a.mp4", shard=(part, 2)).videos["a"].looked_at for part in (1, 2)) == 10
    assert annotate(AnnotateRequest(finish="labels", formats=("jsonl",))).exit_code == 0


def test_what_a_format_cannot_do_is_said_before_anything_is_looked_at(here: Path) -> None:
    clip(here / "a.mp4")
    with pytest.raises(UsageError, match="images"):
        run("a.mp4", output="images/out", formats=("yolo",))
    assert not list((here / "images" / "out").rglob("*.gz"))


def test_a_video_that_failed_is_tried_again_only_when_that_is_asked_for(here: Path) -> None:
    clip(here / "good.mp4", num_frames=12)
    (here / "bad.mp4").write_text("no video")
    run("good.mp4", "bad.mp4", code=1)
    again = run("good.mp4", "bad.mp4", code=1)
    assert str(again.videos["bad"].error).endswith("(as before; --retry-failed tries again)")
    third = run("good.mp4", "bad.mp4", code=1, retry_failed=True)
    assert "as before" not in str(third.videos["bad"].error)
    clip(here / "bad.mp4", num_frames=12)
    assert run("good.mp4", "bad.mp4").videos["bad"].looked_at == 12


def test_a_clip_replaced_under_the_same_name_is_refused_and_the_others_are_done(here: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        clip(here / name)
    run("a.mp4", "b.mp4")
    clip(here / "a.mp4", num_frames=20)
    chunks("labels", "b")[0].unlink()
    summary = run("a.mp4", "b.mp4", code=1)
    expected = (
        "a.mp4: another file than the one that was looked at in labels as a; rename it, or --overwrite starts anew"
    )
    assert summary.videos["a"].error == expected
    assert summary.videos["b"].looked_at == 10
    assert run("a.mp4", "b.mp4", overwrite=True).videos["a"].frames == 20


def test_a_clip_replaced_after_its_folder_was_removed_is_a_new_one(here: Path) -> None:
    clip(here / "a.mp4")
    run("a.mp4")
    shutil.rmtree("labels")
    clip(here / "a.mp4", num_frames=20)
    assert run("a.mp4").videos["a"].looked_at == 20


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"stride": 2}, "frames: expected all, got 1 of 2"),
        ({"engine": f"{MODULE}:Walker:seconds=0.001"}, "seconds: expected none, got 0.001"),
        ({"engine": f"{__name__}:Other"}, "engine: expected parts, got test_bad_input"),
        ({"engine": f"{__name__}:Rounded"}, "expected"),
        ({"tiles": "2x2"}, "tiles: expected none, got 2x2"),
    ],
    ids=str,
)
def test_options_that_change_detections_are_refused_by_name(options: dict[str, Any], expected: str, here: Path) -> None:
    clip(here / "a.mp4", num_frames=12)
    run("a.mp4")
    before = [path.read_bytes() for path in chunks("labels", "a")]
    with pytest.raises(UsageError, match="--overwrite starts anew, or choose another folder") as error:
        run("a.mp4", **options)
    assert expected in str(error.value)
    assert [path.read_bytes() for path in chunks("labels", "a")] == before
    run("a.mp4", **options, overwrite=True)


class Other(Walker):
    """An engine of another name."""


class Rounded(Walker):
    """The same engine in another precision."""

    precision = "bf16"


def test_a_video_that_shrinks_while_it_is_looked_at_is_named(here: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        clip(here / name)
    summary = run("a.mp4", "b.mp4", engine=f"{__name__}:Cutting:path=a.mp4", code=1)
    assert summary.videos["a"].error == "a.mp4: it has changed or gone while it was looked at"
    assert set(labels("labels")) == {"b.jsonl"}


def test_a_video_that_vanishes_while_it_is_looked_at_is_named(here: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        clip(here / name)
    summary = run("a.mp4", "b.mp4", engine=f"{__name__}:Removing:path=a.mp4", code=1)
    assert summary.videos["a"].error == "a.mp4: it has changed or gone while it was looked at"
    assert set(labels("labels")) == {"b.jsonl"}


class Cutting(Walker):
    """Cuts a file short at its third look."""

    at = 3

    def __init__(self, *, path: Path) -> None:
        super().__init__()
        self.path, self.looks = path, 0

    def predict(self, frames: Any) -> Any:
        self.looks += 1
        if self.looks == self.at:
            self.strike()
        return super().predict(frames)

    def strike(self) -> None:
        os.truncate(self.path, self.path.stat().st_size // 2)


class Removing(Cutting):
    def strike(self) -> None:
        self.path.unlink()


def test_an_engine_that_breaks_is_named_and_what_was_found_stays(here: Path) -> None:
    clip(here / "a.mp4")
    summary = run("a.mp4", engine=f"{MODULE}:BrokenWalker:at=25,error=broken", code=1)
    assert summary.videos["a"].error == "RuntimeError: broken on purpose"
    assert len(chunks("labels", "a")) == 2 and labels("labels") == {}


def test_a_worker_that_cannot_meet_the_pin_is_refused_by_name(here: Path) -> None:
    clip(here / "a.mp4")
    summary = run("a.mp4", engine=f"{__name__}:Differing", parallel=2, code=1)
    expected = "a process cannot do what the job began with: precision: expected "
    assert str(summary.videos["a"].error).startswith(expected)


def test_a_worker_that_cannot_begin_is_left_out_and_the_others_do_its_part(here: Path) -> None:
    clip(here / "a.mp4")
    summary = run("a.mp4", engine=f"{__name__}:Cramped", parallel=2)
    assert summary.error is None and summary.videos["a"].frames == 35
    [note] = summary.notes
    assert note.startswith(f"a process was left out: engine {__name__}:Cramped: MemoryError: no room for a second one")


class Cramped(Walker):
    """An engine for which there is room once in the processes that look."""

    def __init__(self) -> None:
        super().__init__()
        if multiprocessing.parent_process() is not None:
            try:
                Path("taken").mkdir()
            except FileExistsError:
                raise MemoryError("no room for a second one") from None


class Differing(Walker):
    """An engine whose precision depends on the process that it is in."""

    def __init__(self) -> None:
        super().__init__()
        self.precision = str(os.getpid())


def test_a_folder_that_is_removed_in_the_middle_is_named(here: Path) -> None:
    clip(here / "a.mp4")
    with pytest.raises(OutputError, match=r"labels.* cannot be written: no such file or directory"):
        run("a.mp4", engine=f"{__name__}:Emptying:path=labels")


class Emptying(Cutting):
    """Takes a folder away at once, when the first chunk is under way."""

    at = 25

    def strike(self) -> None:
        self.path.rename("elsewhere")


def test_an_output_that_is_a_file_is_refused(here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    (here / "labels").write_text("")
    with pytest.raises(UsageError, match="-o labels: expected a folder, got a file"):
        run("a.mp4")


def test_a_chunk_cut_short_is_done_again(here: Path) -> None:
    clip(here / "a.mp4")
    run("a.mp4")
    before = labels("labels")
    for keep, looked_at in ((0.5, 10), (0, 10)):
        path = chunks("labels", "a")[1]
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
        summary = run("a.mp4")
        assert "000001.jsonl.gz: not whole" in summary.notes[0] and "it is done again" in summary.notes[0]
        assert summary.videos["a"].looked_at == looked_at
        assert labels("labels") == before


@pytest.mark.parametrize("place", [0.1, 0.4, 0.7, 0.99])
def test_a_chunk_with_wrong_bytes_of_the_right_number_is_done_again(place: float, here: Path) -> None:
    clip(here / "a.mp4")
    run("a.mp4")
    before = labels("labels")
    path = chunks("labels", "a")[2]
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x55
    path.write_bytes(data)
    summary = run("a.mp4")
    assert "it is done again" in summary.notes[0] and summary.videos["a"].looked_at == 10
    assert labels("labels") == before


def manifest_of(folder: str) -> Path:
    with Manifest(Path(folder)) as manifest:
        return manifest.path


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), None),
        (lambda path: path.write_bytes(b"no database" * 100), "it was damaged"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "it was damaged"),
        (lambda path: versioned(path, 7), "it was of version 7, this is version 1"),
    ],
    ids=["gone", "nonsense", "cut short", "another version"],
)
def test_the_index_is_made_again_of_the_chunks(damage: Callable[[Path], Any], said: str | None, here: Path) -> None:
    clip(here / "a.mp4")
    run("a.mp4")
    before = labels("labels")
    damage(manifest_of("labels"))
    summary = run("a.mp4")
    assert summary.videos["a"].looked_at == 0 and labels("labels") == before
    expected = [] if said is None else [f"the index of the job was made again from what was found: {said}"]
    assert list(summary.notes) == expected
    manifest_of("labels").unlink()
    clip(here / "a.mp4", num_frames=20)
    assert "another file" in str(run("a.mp4", code=1).videos["a"].error)
    manifest_of("labels").unlink()
    with pytest.raises(UsageError, match="frames: expected all, got 1 of 2"):
        run("a.mp4", stride=2)


def versioned(path: Path, version: int) -> None:
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {version}")
    database.close()


def test_the_second_job_on_a_folder_is_refused(here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    run("a.mp4")
    lock = os.open(here / "labels" / KEPT / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    expected = "labels: another annotation is at work in this folder; wait for its end, or choose another"
    try:
        for shard in (None, (1, 2)):
            with pytest.raises(OutputError) as error:
                run("a.mp4", shard=shard)
            assert str(error.value) == expected
        fcntl.flock(lock, fcntl.LOCK_SH)  # as another part of the same job
        with pytest.raises(OutputError, match="another annotation"):
            run("a.mp4")
        run("a.mp4", shard=(1, 2))
    finally:
        os.close(lock)
    run("a.mp4")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"formats": ()}, "--format: expected one or more of"),
        ({"formats": ("jsonk",)}, "no format is called 'jsonk'; did you mean 'jsonl'?"),
        ({"formats": ("jsonl", "jsonl")}, "expected each format once"),
        ({"formats": ("jsonl:size=3",)}, "format jsonl: no option is called 'size'"),
        ({"every": 2.0, "stride": 2}, "--every and --stride exclude each other"),
        ({"classes": ("cat",)}, "--classes: the model has no class 'cat'"),
        ({"output": ""}, "-o: expected the FOLDER"),
        ({"engine": "nothing"}, "no engine is called 'nothing'"),
        ({"shard": (1, 2), "overwrite": True}, "--overwrite: with --shard it would forget what the other parts"),
    ],
    ids=str,
)
def test_wrong_use_is_refused_before_the_first_frame(options: dict[str, Any], expected: str, here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    with pytest.raises(UsageError) as error:
        run("a.mp4", **options)
    assert expected in str(error.value)
    assert not list(Path("labels").rglob("*.gz"))


def test_a_format_that_cannot_begin_is_named_and_the_others_leave_nothing(here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    with pytest.raises(UsageError, match="YOLO's readers look for the labels of pictures below a folder 'images'"):
        run("a.mp4", output="images/labels", formats=("coco", "voc", "yolo"))
    assert labels("images/labels") == {} and not list(Path("images/labels").rglob("*.part*"))


@pytest.mark.parametrize(
    ("videos", "formats", "expected"),
    [
        (("train.mp4", "a.mp4"), ("mots", "yolo"), "of the video train both write train.txt"),
        (("val.mp4",), ("yolo", "mots"), "of the video val both write val.txt"),
        (("labelstudio_setup.mp4",), ("labelstudio", "mots"), "both write labelstudio_setup.txt"),
        (("a.mp4", "a.part.mp4"), ("csv",), "a.part: so the labels of a are called until they are whole"),
    ],
)
def test_two_files_of_one_name_are_refused(
    videos: tuple[str, ...], formats: tuple[str, ...], expected: str, here: Path
) -> None:
    for video in videos:
        clip(here / video, num_frames=5)
    with pytest.raises(UsageError, match=expected):
        run(*videos, formats=formats)
    run(*videos[:1], formats=formats[:1])


@pytest.mark.parametrize("text", ['{"a": 1}', "[]", '{"version": 2, "videos": {}, "pins": {}, "request": {}}'])
def test_what_another_version_was_asked_to_do_cannot_be_finished(text: str, here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    run("a.mp4", shard=(1, 1))
    (here / "labels" / KEPT / "job.json").write_text(text)
    with pytest.raises(UsageError, match=r"job.json: cannot be read \(expected what a job of version 1 was asked"):
        annotate(AnnotateRequest(finish="labels"))


def test_a_name_with_characters_that_xml_has_not_is_written_all_the_same(here: Path) -> None:
    clip(here / "a\x01.mp4", num_frames=5)
    run("a\x01.mp4", formats=("cvat",))
    assert ElementTree.parse(here / "labels" / "a\x01.xml").findtext("meta/task/name") == "a\ufffd"


def test_cameras_and_folders_of_pictures_are_no_inputs(here: Path) -> None:
    with pytest.raises(UsageError, match="expected a video file; cameras and folders of pictures are not annotated"):
        run("rtsp://127.0.0.1:1/x")
    with pytest.raises(UsageError, match="expected an INPUT"):
        run()
