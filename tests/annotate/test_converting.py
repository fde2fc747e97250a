"""Labels become those of another tool without a model, a video or a changed pixel."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from streamseg.annotate.converting import Converted, convert
from streamseg.annotate.request import ConvertRequest
from streamseg.labels import LabelledFrame, LabelledVideo
from streamseg.types import InputError, UsageError
from tests.annotate.jobs import clip, frames, run
from tests.clips import make_clip
from tests.end_to_end import command

MEMORY = f"{__name__}:Memory"
PICTURES = f"{__name__}:Illustrated"


class Memory:
    """A format that keeps what it is given."""

    wants_pictures = False
    tracks_only = False
    last: Memory

    def __init__(self) -> None:
        self.videos: list[LabelledVideo] = []
        self.frames: dict[str, list[LabelledFrame]] = {}
        Memory.last = self

    def open(self, folder: Path, class_names: Sequence[str]) -> None:
        self.class_names, self.is_complete = tuple(class_names), False

    def begin(self, video: LabelledVideo) -> None:
        self.videos.append(video)
        self.frames[video.name] = []

    def write(self, frame: LabelledFrame) -> None:
        self.frames[self.videos[-1].name].append(frame)

    def end(self) -> None:
        pass

    def close(self) -> Mapping[str, int]:
        self.is_complete = True
        return {"objects without a track": 2}

    def discard(self) -> None:
        self.frames = {}


class Illustrated(Memory):
    wants_pictures = True


def converted(labels: Path | str, *, format: str = MEMORY, video: Path | str | None = None) -> Converted:
    return convert(
        ConvertRequest(labels=str(labels), format=format, output="out", video=None if video is None else str(video))
    )


def test_every_mask_is_copied_as_it_is(here: Path) -> None:
    clip(here / "street.mp4", num_frames=20)
    run("street.mp4")
    done = converted("labels/street.jsonl")
    records = frames("labels", "street")
    assert done == Converted(20, 40, {"objects without a track": 2})
    assert Memory.last.is_complete and Memory.last.class_names == ("person", "dog")
    for frame, record in zip(Memory.last.frames["street"], records, strict=True):
        assert (frame.index, frame.time) == (record["index"], record["time"])
        assert [dict(label.mask) for label in frame.labels] == [each["mask"] for each in record["objects"]]
        assert [label.track for label in frame.labels] == [each["track"] for each in record["objects"]]


def test_the_records_of_a_run_are_taken_too_and_come_back_byte_for_byte(here: Path) -> None:
    clip(here / "street.mp4", num_frames=20)
    command.run("street.mp4", "-o", "direct.jsonl")
    run("street.mp4")
    converted("direct.jsonl", format="jsonl")
    assert Path("out/street.jsonl").read_bytes() == Path("labels/street.jsonl").read_bytes()


def test_what_is_known_of_the_video_is_told_from_the_times(here: Path) -> None:
    clip(here / "even.mp4", num_frames=20, rate=Fraction(30000, 1001))
    uneven = [n * (n + 1) for n in range(12)]
    make_clip(here / "uneven.mp4", num_frames=12, pts=uneven, time_base=Fraction(1, 100))
    run("even.mp4", "uneven.mp4")
    for name, rate, constant in (("even", Fraction(30000, 1001), True), ("uneven", Fraction(1100, 132), False)):
        converted(f"labels/{name}.jsonl")
        (video,) = Memory.last.videos
        assert (video.name, video.rate, video.constant_rate) == (name, rate, constant)
        assert (video.width, video.height, video.path, video.num_frames) == (64, 48, None, None)


def test_pictures_come_from_the_video(here: Path) -> None:
    clip(here / "street.mp4", num_frames=20)
    run("street.mp4", stride=5, label_size=(32, 24))
    converted("labels/street.jsonl", format=PICTURES, video="street.mp4")
    saved = [frame.picture for frame in Memory.last.frames["street"]]
    assert saved == [f"street/frame_{index:06d}.jpg" for index in (0, 5, 10, 15)]
    for name in saved:
        (picture,) = command.pictures(f"out/{name}")
        assert (picture.width, picture.height) == (32, 24)
    (video,) = Memory.last.videos
    assert (video.original_size, video.width, video.num_frames) == ((64, 48), 32, 20)
    with pytest.raises(UsageError, match="it is nothing without pictures; --video FILE is where they come from"):
        converted("labels/street.jsonl", format=PICTURES)
    make_clip(here / "other.mp4", num_frames=4)
    with pytest.raises(InputError, match="other.mp4: its frame 5 is not the one that the labels are of"):
        converted("labels/street.jsonl", format=PICTURES, video="other.mp4")
    assert Memory.last.frames == {}
    make_clip(here / "upright.mp4", num_frames=20, width=48, height=64)
    with pytest.raises(InputError, match="upright.mp4: it has 48x64 pixels, but the labels are of 32x24"):
        converted("labels/street.jsonl", format=PICTURES, video="upright.mp4")


def test_a_picture_every_two_hours_is_a_rate_too(here: Path) -> None:
    clip(here / "street.mp4", num_frames=3)
    run("street.mp4")
    path = here / "labels" / "street.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(f"{json.dumps(record | {'time': 7200.0 * record['index']})}\n" for record in records))
    converted(path)
    assert Memory.last.videos[0].rate == Fraction(1, 7200)


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[list[str]], list[str]]:
    def rewritten(lines: list[str]) -> list[str]:
        record = json.loads(lines[1])
        change(record)
        return [lines[0], json.dumps(record), *lines[2:]]

    return rewritten


BAD: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "empty": (lambda lines: [], "there are no labels in it"),
    "no JSON": (lambda lines: [lines[0], "{"], "line 2: expected a record of `run` or `annotate`"),
    "a list": (lambda lines: ["[]"], "line 1: expected a record"),
    "another tool's": (lambda lines: ['{"images": [], "annotations": []}'], "line 1: 'stream' is missing"),
    "twice": (lambda lines: [*lines, lines[-1]], "frame 4 of street stands behind frame 4"),
    "above the folder": (changed(lambda record: record.update(stream="../../evil")), "a name that a file can have"),
    "from the root": (changed(lambda record: record.update(stream="/tmp/evil")), "a name that a file can have"),
    "no number": (changed(lambda record: record.update(time=float("nan"))), "time: expected seconds, got 'nan'"),
    "without end": (changed(lambda record: record.update(time=float("inf"))), "time: expected seconds, got 'inf'"),
    "a frame before the first": (changed(lambda record: record.update(index=-3)), "index: expected a whole number"),
    "a frame beyond all": (changed(lambda record: record.update(index=2**40)), "index: expected a whole number"),
    "time runs back": (changed(lambda record: record.update(time=-9.0)), "frame 1 of street is at -9.0 s, before"),
    "plain run lengths": (
        changed(lambda record: record["objects"][0]["mask"].update(counts=[1, 3071])),
        "expected COCO's compressed run lengths",
    ),
    "a score above one": (changed(lambda record: record["objects"][0].update(score=5)), "a score from 0 to 1"),
    "a class without a name": (changed(lambda record: record["objects"][0].update({"class": ""})), "expected a class"),
    "a box inside out": (changed(lambda record: record["objects"][0].update(box=[9, 9, 1, 1])), "with x1 ≤ x2"),
    "lists in lists": (lambda lines: [lines[0], "[" * 100_000], "line 2: expected a record of `run` or `annotate`"),
    "no mask": (changed(lambda record: record["objects"][0].pop("mask")), "line 2: 'mask' is missing"),
    "another size": (changed(lambda record: record.update(width=65)), "mask: expected the size of the picture"),
    "broken run lengths": (
        changed(lambda record: record["objects"][0]["mask"].update(counts="0")),
        "line 2: expected a record",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_file_of_labels_is_named_with_its_line(name: str, here: Path) -> None:
    clip(here / "street.mp4", num_frames=5)
    run("street.mp4")
    change, expected = BAD[name]
    path = here / "labels" / "street.jsonl"
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))
    with pytest.raises(InputError) as error:
        converted(path, format="jsonl")
    assert str(error.value).startswith(str(path)) and expected in str(error.value)
    assert not list((here / "out").glob("*")) if (here / "out").exists() else True


def test_what_is_missing_from_the_request_is_said(here: Path) -> None:
    with pytest.raises(UsageError, match="expected the LABELS.jsonl"):
        convert(ConvertRequest())
    with pytest.raises(UsageError, match="-o: expected the FOLDER"):
        convert(ConvertRequest(labels="a.jsonl"))
    with pytest.raises(UsageError, match="--format: expected the format"):
        convert(ConvertRequest(labels="a.jsonl", output="out"))
    with pytest.raises(InputError, match="none.jsonl: cannot be read: no such file"):
        converted("none.jsonl", format="jsonl")


def test_labels_are_not_written_over_themselves(here: Path) -> None:
    clip(here / "street.mp4", num_frames=5)
    run("street.mp4")
    before = Path("labels/street.jsonl").read_bytes()
    with pytest.raises(UsageError, match="labels/street.jsonl would be written over itself"):
        convert(ConvertRequest(labels="labels/street.jsonl", format="jsonl", output="labels"))
    assert Path("labels/street.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stream": "./street"}, "stream: expected a name that a file can have"),
        ({"picture": 5}, "picture: expected the name of a file, got 5"),
    ],
)
def test_what_no_file_can_be_called_is_named(here: Path, changes: dict[str, Any], words: str) -> None:
    clip(here / "street.mp4", num_frames=1)
    run("street.mp4")
    path = here / "labels" / "street.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=words):
        converted(path)


def test_two_streams_of_one_part_name_are_refused(here: Path) -> None:
    clip(here / "street.mp4", num_frames=1)
    run("street.mp4")
    line = json.loads(Path("labels/street.jsonl").read_text())
    Path("both.jsonl").write_text("".join(f"{json.dumps(line | {'stream': name})}\n" for name in ("a.part", "a")))
    with pytest.raises(UsageError, match="a.part: so the labels of a are called until they are whole"):
        converted("both.jsonl", format="csv")


def test_the_length_of_the_video_is_no_estimate(here: Path) -> None:
    """Matroska does not tell the number of pictures, and beside sound its duration is not that of the pictures."""
    make_clip(here / "a.mkv", num_frames=35, audio="libopus")
    run("a.mkv", formats=("jsonl", "cvat"))
    converted("labels/a.jsonl", format="cvat", video="a.mkv")
    assert (here / "out" / "a.xml").read_text() == (here / "labels" / "a.xml").read_text()
