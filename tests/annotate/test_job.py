"""What is found once is never looked for again, and the labels follow from it alone."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamseg.annotate import work
from streamseg.annotate.folder import KEPT
from streamseg.annotate.job import annotate
from streamseg.annotate.request import AnnotateRequest
from streamseg.formats.jsonl import Jsonl
from streamseg.labels import LabelledVideo
from streamseg.types import Frame, Instances, OutputError, UsageError
from tests.annotate.jobs import WALKER, chunks, clip, found, frames, labels, run
from tests.clips import make_clip, numbered_picture
from tests.end_to_end import command
from tests.end_to_end.parts import Walker


def looked_at(summary: Any) -> dict[str, int]:
    return {name: video.looked_at for name, video in summary.videos.items()}


def test_the_labels_are_those_of_a_run_that_looks_and_tracks_at_once(here: Path) -> None:
    clip(here / "street.mp4")
    command.run("street.mp4", "-o", "direct.jsonl")
    run("street.mp4")
    direct = [json.loads(line) for line in Path("direct.jsonl").read_text().splitlines()]
    keys = ("track", "class", "score", "box", "mask")
    wanted = [
        (each["index"], each["time"], [{key: o[key] for key in keys} for o in each["objects"]]) for each in direct
    ]
    assert [(each["index"], each["time"], each["objects"]) for each in frames("labels", "street")] == wanted
    # the clip's square jumps, which is a new scene to the tracker
    assert {o["track"] for _, _, objects in wanted for o in objects} == {1, 2, 3, 4}


class Grey(Walker):
    """Soft masks of any grey, in boxes that are too wide every fifth time, which the tracker mends."""

    def _found(self, frame: Frame) -> Instances:
        found = super()._found(frame)
        boxes, rng = found.boxes.copy(), np.random.default_rng(frame.index)
        boxes[:, 2] += (frame.index % 5 == 4) * np.float32([20, 0])
        greys = cv2.resize(rng.random((7, 7), np.float32), (28, 28), interpolation=cv2.INTER_LINEAR)
        return replace(found, boxes=boxes, masks=np.stack([greys, found.masks[1]]))


def test_masks_that_the_tracker_has_moved_are_those_of_a_direct_run_too(here: Path) -> None:
    still = numbered_picture(0, width=128, height=96)
    make_clip(here / "street.mp4", num_frames=40, gop=10, width=128, height=96, pictures=lambda _: still)
    engine = f"{__name__}:Grey"
    command.run("street.mp4", "-o", "direct.jsonl", engine=("--engine", engine))
    run("street.mp4", engine=engine)
    direct = [json.loads(line) for line in Path("direct.jsonl").read_text().splitlines()]
    wanted = [[(o["track"], o["box"], o["mask"]) for o in each["objects"]] for each in direct]
    assert [
        [(o["track"], o["box"], o["mask"]) for o in each["objects"]] for each in frames("labels", "street")
    ] == wanted
    widths = [box[2] - box[0] for _, box, _ in (objects[0] for objects in wanted)]
    assert max(widths) < 45, "a box of 52 pixels was not mended"


@pytest.mark.parametrize("options", [{}, {"stride": 3}, {"every": 0.3}], ids=str)
def test_labels_without_pictures_are_those_with_them_though_no_video_is_opened(
    options: dict[str, Any], here: Path
) -> None:
    clip(here / "street.mp4")
    run("street.mp4", engine=f"{__name__}:Grey", **options)
    before = frames("labels", "street")
    assert not Path("labels/street").exists()
    run("street.mp4", engine=f"{__name__}:Grey", pictures=True, **options)
    after = frames("labels", "street")
    assert [each.pop("picture") for each in after] == [f"street/frame_{each['index']:06d}.jpg" for each in after]
    assert after == before


def test_every_chunk_is_looked_at_once(here: Path) -> None:
    clip(here / "street.mp4")
    first = run("street.mp4")
    assert (looked_at(first), first.videos["street"].frames) == ({"street": 35}, 35)
    assert [len(found(path)) for path in chunks("labels", "street")] == [10, 10, 10, 5]
    assert min(o["score"] for o in found(chunks("labels", "street")[0])[0]["objects"]) >= 0.05
    before = labels("labels")
    assert looked_at(run("street.mp4")) == {"street": 0}
    assert labels("labels") == before


def test_a_missing_chunk_alone_is_looked_at_again(here: Path) -> None:
    clip(here / "street.mp4")
    run("street.mp4")
    before = labels("labels")
    kept = [path.read_bytes() for path in chunks("labels", "street")]
    chunks("labels", "street")[1].unlink()
    assert looked_at(run("street.mp4")) == {"street": 10}
    assert labels("labels") == before
    assert [path.read_bytes() for path in chunks("labels", "street")] == kept


@pytest.mark.parametrize("options", [{"stride": 3}, {"every": 0.3}, {"every": 0.7}], ids=str)
def test_only_selected_frames_are_looked_at(options: dict[str, Any], here: Path) -> None:
    clip(here / "street.mp4", num_frames=60)
    summary = run("street.mp4", **options)
    indices = [each["index"] for each in frames("labels", "street")]
    step = options.get("stride") or options["every"] * 25
    assert indices == [round(n * step - 0.01) for n in range(len(indices))]
    assert looked_at(summary) == {"street": len(indices)}
    followed = options != {"every": 0.7}
    assert {o["track"] >= 0 for each in frames("labels", "street")[3:] for o in each["objects"]} == {followed}


def test_frames_between_are_looked_at_where_objects_are_to_be_followed(here: Path) -> None:
    clip(here / "street.mp4", num_frames=60)
    assert looked_at(run("street.mp4", every=0.8, track_all=True)) == {"street": 60}
    some = frames("labels", "street")
    assert [each["index"] for each in some] == [0, 20, 40]
    run("street.mp4", output="all")
    assert [each["objects"] for each in some] == [frames("all", "street")[index]["objects"] for index in (0, 20, 40)]


def test_another_score_and_other_classes_are_made_of_the_same_detections(here: Path) -> None:
    clip(here / "street.mp4")
    run("street.mp4")
    for options, expected in (({"min_score": 0.93}, {"person"}), ({"classes": ("dog",)}, {"dog"})):
        assert looked_at(run("street.mp4", **options)) == {"street": 0}
        assert {o["class"] for each in frames("labels", "street") for o in each["objects"]} == expected


def test_labels_and_pictures_are_made_smaller_together(here: Path) -> None:
    clip(here / "street.mp4", num_frames=10)
    run("street.mp4", label_size=(32, 32), pictures=True)
    run("street.mp4", output="large")
    for small, large in zip(frames("labels", "street"), frames("large", "street"), strict=True):
        assert (small["width"], small["height"]) == (32, 24)
        assert small["picture"] == f"street/frame_{small['index']:06d}.jpg"
        assert small["objects"][0]["mask"]["size"] == [24, 32]
        half = [side / 2 for side in large["objects"][0]["box"]]
        assert small["objects"][0]["box"] == pytest.approx(half, abs=1e-4)
    (saved,) = command.pictures("labels/street/frame_000009.jpg")
    assert (saved.width, saved.height) == (32, 24)
    assert len(list(Path("labels/street").iterdir())) == 10


def test_the_video_is_drawn_in_the_same_pass(here: Path) -> None:
    clip(here / "street.mp4", num_frames=12)
    summary = run("street.mp4", video=True)
    assert command.num_pictures("labels/street_overlay.mp4") == 12
    assert summary.outputs == ("labels", "labels/street_overlay.mp4")


def test_what_was_drawn_is_no_video_of_the_next_job(here: Path) -> None:
    (here / "clips").mkdir()
    clip(here / "clips" / "street.mp4", num_frames=6)
    run("clips", output="clips", video=True)
    assert set(run("clips", output="clips", video=True).videos) == {"street"}
    assert set(run("clips/street_overlay.mp4", output="named").videos) == {"street_overlay"}


def test_several_processes_find_the_same(here: Path) -> None:
    for name in ("a.mp4", "Straße.mp4"):
        clip(here / name, num_frames=45)
    run("a.mp4", "Straße.mp4")
    summary = run("a.mp4", "Straße.mp4", output="two", parallel=2)
    assert looked_at(summary) == {"a": 45, "Straße": 45}
    assert labels("two") == labels("labels") and set(labels("two")) == {"a.jsonl", "Straße.jsonl"}
    assert [path.read_bytes() for path in chunks("two", "a")] == [path.read_bytes() for path in chunks("labels", "a")]


def test_parts_of_a_job_are_finished_together(here: Path) -> None:
    for name, num_frames in (("a.mp4", 65), ("b.mp4", 8), ("c.mp4", 8)):
        clip(here / name, num_frames=num_frames)
    inputs = ("a.mp4", "b.mp4", "c.mp4")
    run(*inputs)
    parts = [run(*inputs, output="shards", shard=(part, 2)) for part in (1, 2)]
    shares = [looked_at(part) for part in parts]
    assert all(0 < share["a"] < 65 for share in shares) and all(sum(share.values()) > 8 for share in shares)
    assert labels("shards") == {}
    finished = annotate(AnnotateRequest(finish="shards"))
    assert finished.exit_code == 0 and labels("shards") == labels("labels")


def test_a_job_is_finished_with_other_options_of_its_labels_and_none_of_its_looking(here: Path) -> None:
    clip(here / "a.mp4", num_frames=8)
    run("a.mp4", output="shards", shard=(1, 1), min_score=0.99)
    annotate(AnnotateRequest(finish="shards"))
    few = [len(record["objects"]) for record in frames("shards", "a")]
    annotate(AnnotateRequest(finish="shards", min_score=0.0))
    assert sum(few) < sum(len(record["objects"]) for record in frames("shards", "a"))
    wrong: dict[str, Any] = {"every": 1.0, "stride": 2, "overwrite": True, "tiles": "2x2", "retry_failed": True}
    for name, value in wrong.items():
        with pytest.raises(
            UsageError, match=f"expected options of the labels beside it, got --{name.replace('_', '-')}"
        ):
            annotate(AnnotateRequest(finish="shards", **{name: value}))


def test_a_list_may_have_a_mark_of_its_encoding_and_remarks_anywhere(here: Path) -> None:
    clip(here / "a.mp4", num_frames=5)
    (here / "list.txt").write_text("  # the first\na.mp4\n\n\t# and no more\n", encoding="utf-8-sig")
    assert set(run("@list.txt").videos) == {"a"}


def test_a_name_that_is_no_text_is_written_as_one(here: Path) -> None:
    clip(here / os.fsdecode(b"caf\xe9.mp4"), num_frames=8)
    formats = ("jsonl", "coco", "cvat", "youtube_vis", "mots", "csv")
    assert set(run(os.fsdecode(b"caf\xe9.mp4"), formats=formats).videos) == {"caf\\xe9"}
    assert frames("labels", "caf\\xe9")[0]["stream"] == "caf\\xe9"


def test_a_job_is_not_finished_while_a_part_is_missing(here: Path) -> None:
    clip(here / "a.mp4", num_frames=45)
    clip(here / "b.mp4", num_frames=8)
    run("a.mp4", "b.mp4", output="shards", shard=(1, 2))
    finished = annotate(AnnotateRequest(finish="shards"))
    assert finished.exit_code == 1
    assert finished.videos["a"].error == "2 of 5 chunks are missing; are all its --shard jobs done?"


def test_a_part_that_looked_otherwise_is_named_and_nothing_of_it_is_lost(here: Path) -> None:
    clip(here / "a.mp4", num_frames=45)
    clip(here / "b.mp4", num_frames=12)
    run("a.mp4", "b.mp4", output="shards", shard=(1, 2))
    run("a.mp4", "b.mp4", output="other", shard=(2, 2), engine=f"{WALKER}:seconds=0.001")
    for video in ("a", "b"):
        for path in chunks("other", video):
            path.rename(here / "shards" / path.relative_to("other"))
    there = {path: path.read_bytes() for video in ("a", "b") for path in chunks("shards", video)}
    finished = annotate(AnnotateRequest(finish="shards"))
    errors = [str(video.error) for video in finished.videos.values() if video.error]
    assert finished.exit_code == 1 and len(errors) == 2
    assert all("made otherwise than the rest (seconds: expected none, got 0.001); remove it" in each for each in errors)
    assert {path: path.read_bytes() for path in there} == there


def test_what_is_no_finish_is_refused(here: Path) -> None:
    with pytest.raises(UsageError, match="no annotation was begun in this folder"):
        annotate(AnnotateRequest(finish="nothing"))
    with pytest.raises(UsageError, match="no INPUT, no -o and no --shard"):
        annotate(AnnotateRequest(finish="labels", inputs=["a.mp4"]))


def test_inputs_can_stand_in_a_list(here: Path) -> None:
    (here / "clips").mkdir()
    for name in ("a.mp4", "b c.mp4"):
        clip(here / "clips" / name, num_frames=5)
    (here / "clips" / "list.txt").write_text("# good ones\na.mp4\n\nb c.mp4\n")
    assert set(run("@clips/list.txt").videos) == {"a", "b c"}
    with pytest.raises(UsageError, match="@none.txt: cannot be read: no such file"):
        run("@none.txt")


def test_videos_of_one_name_get_different_ones(here: Path) -> None:
    for folder in ("x", "y"):
        (here / folder).mkdir()
        clip(here / folder / "clip.mp4", num_frames=6 if folder == "x" else 9)
    run("x/clip.mp4", "y/clip.mp4")
    assert (len(frames("labels", "clip")), len(frames("labels", "clip-2"))) == (6, 9)


def test_a_video_whose_packets_lie_is_looked_at_in_one_go(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip(here / "street.mp4")
    run("street.mp4", output="right")
    from streamseg.annotate import stock
    from streamseg.annotate.chunks import Chunk, Cut

    lie = Cut((Chunk(0, 0.0, None), Chunk(12, 0.48, 0.44), Chunk(20, 0.81, 0.76)), 35, 35, Fraction(25), True)
    monkeypatch.setattr(stock, "cut", lambda *_, **__: lie)
    run("street.mp4")
    assert labels("labels") == labels("right")
    assert len(chunks("labels", "street")) == 2, "the first chunk is where it was said to be"


def test_a_video_that_is_no_longer_there_can_be_labelled_where_nothing_looks_at_it(here: Path) -> None:
    clip(here / "street.mp4", num_frames=60)
    assert len({each["index"] for each in run("street.mp4", every=0.8) and frames("labels", "street")}) == 3


def test_work_is_shared_out_so_that_every_process_is_busy() -> None:
    from streamseg.annotate.chunks import Chunk, Cut, Run

    cut = Cut(tuple(Chunk(n, float(n), None) for n in range(10)), 10, 10, Fraction(1), True)
    runs = [Run("long", Path("a"), cut, 0, 10), Run("short", Path("b"), cut, 3, 4)]
    pieces = work.shared_out(runs, 2)
    assert len(pieces) >= 6
    assert [n for run in pieces if run.video == "long" for n in range(run.first, run.last)] == list(range(10))
    assert work.shared_out(runs[1:], 4) == runs[1:]


def test_the_first_time_need_not_be_0(here: Path) -> None:
    make_clip(here / "late.mkv", num_frames=30, gop=10, pts=[n * 3 + 90 for n in range(30)], time_base=Fraction(1, 75))
    run("late.mkv")
    assert [each["time"] for each in frames("labels", "late")][:3] == [0.0, 0.04, 0.08]


def test_the_engine_is_asked_with_the_options_of_the_command(here: Path) -> None:
    clip(here / "street.mp4", num_frames=5)
    with pytest.raises(UsageError, match="no option is called 'model'"):
        run("street.mp4", model="people")
    assert WALKER.endswith("Walker")


class Tracks(Jsonl):
    """A format that holds tracks alone."""

    tracks_only = True


class Even(Jsonl):
    """A format that finds frames by their number."""

    def begin(self, video: LabelledVideo) -> None:
        if not video.constant_rate:
            raise UsageError(f"{video.name} has no constant rate; frame tasks do without")
        super().begin(video)


FAR_APART = "it holds tracks, and over {} s from frame to frame nothing is followed"


@pytest.mark.parametrize("options", [{"every": 0.6}, {"stride": 15}], ids=str)
def test_tracks_need_frames_that_lie_near_each_other(options: dict[str, Any], here: Path) -> None:
    clip(here / "street.mp4", num_frames=40)
    formats = (f"{__name__}:Tracks",)
    if "every" in options:
        with pytest.raises(UsageError, match=f"{FAR_APART.format(0.6)}; --track-all"):
            run("street.mp4", formats=formats, **options)
    else:
        summary = run("street.mp4", formats=formats, code=1, **options)
        assert f"{FAR_APART.format(0.6)}; --track-all" in str(summary.videos["street"].error)
    run("street.mp4", formats=formats, track_all=True, **options)
    assert [each["index"] for each in frames("labels", "street")] == [0, 15, 30]


def test_a_video_that_a_format_cannot_hold_is_named_and_the_other_formats_have_it(here: Path) -> None:
    clip(here / "even.mp4", num_frames=12)
    make_clip(here / "uneven.mp4", num_frames=12, pts=[n * (n + 1) for n in range(12)], time_base=Fraction(1, 100))
    summary = run("even.mp4", "uneven.mp4", formats=(f"{__name__}:Even", "csv"), code=1)
    assert summary.videos["uneven"].frames == 12
    expected = f"{__name__}:Even: uneven has no constant rate; frame tasks do without"
    assert summary.videos["uneven"].error == expected
    assert set(labels("labels")) == {"even.jsonl", "even.csv", "uneven.csv"}


@pytest.mark.parametrize("options", [{}, {"track_all": True}, {"every": 0.2}], ids=str)
def test_a_video_too_slow_for_tracks_is_named_and_the_others_have_theirs(options: dict[str, Any], here: Path) -> None:
    clip(here / "quick.mp4", num_frames=12)
    make_clip(here / "slow.mp4", num_frames=5, rate=1)
    summary = run("slow.mp4", "quick.mp4", formats=(f"{__name__}:Tracks",), code=1, **options)
    error = str(summary.videos["slow"].error)
    assert error.endswith(FAR_APART.format(1)) == (options != {"every": 0.2}) and FAR_APART.format(1) in error
    assert summary.videos["quick"].error is None and set(labels("labels")) == {"quick.jsonl"}


def test_what_is_drawn_replaces_no_input_and_nothing_that_no_job_has_drawn(here: Path) -> None:
    clip(here / "a.mp4", num_frames=12)
    (here / "labels").mkdir()
    mine = clip(here / "labels" / "a_overlay.mp4", num_frames=6).read_bytes()
    with pytest.raises(UsageError, match=r"--video: labels/a_overlay.mp4 is an INPUT, and would be written over"):
        run("a.mp4", "labels/a_overlay.mp4", video=True)
    with pytest.raises(OutputError, match=r"labels/a_overlay.mp4: the file exists and was not drawn by an annotation"):
        run("a.mp4", video=True, overwrite=True)
    assert (here / "labels" / "a_overlay.mp4").read_bytes() == mine
    (here / "labels" / "a_overlay.mp4").unlink()
    for _ in range(2):
        run("a.mp4", video=True)
    assert len((here / "labels" / "a_overlay.mp4").read_bytes()) > 0
    (here / "labels" / KEPT / "drawn.json").write_text("[")
    with pytest.raises(OutputError, match=r"labels/a_overlay.mp4: the file exists"):
        run("a.mp4", video=True)


def test_a_video_of_too_long_a_name_is_named_and_the_others_are_done(here: Path) -> None:
    long = "x" * 245
    for name in (long, "ok"):
        clip(here / f"{name}.mp4", num_frames=6)
    summary = run(f"{long}.mp4", "ok.mp4", code=1)
    assert summary.videos[long].error == ("a name of 245 bytes, 244 is the most for the files that are called after it")
    assert set(labels("labels")) == {"ok.jsonl"}


def test_a_wrong_request_that_would_start_anew_forgets_nothing(here: Path) -> None:
    clip(here / "a.mp4", num_frames=12)
    run("a.mp4")
    for options in ({"classes": ("persn",)}, {"formats": (f"{__name__}:Unable",)}):
        with pytest.raises(UsageError):
            run("a.mp4", overwrite=True, **options)
    assert len(chunks("labels", "a")) == 2


class Unable(Jsonl):
    """A format that cannot write any labels."""

    def open(self, folder: Path, class_names: Any) -> None:
        raise UsageError("not with these classes")


def test_the_parts_of_a_job_are_the_same_whatever_each_of_them_can_read(here: Path) -> None:
    for name in ("a", "b", "c"):
        clip(here / f"{name}.mp4")
    videos = ("a.mp4", "b.mp4", "c.mp4")
    run(*videos, output="whole")
    run(*videos, shard=(1, 2))
    (here / "a.mp4").rename(here / "away.mp4")
    run(*videos, shard=(2, 2), code=1)
    (here / "away.mp4").rename(here / "a.mp4")
    summary = annotate(AnnotateRequest(finish="labels"))
    assert {name: each.error is None for name, each in summary.videos.items()} == {"a": False, "b": True, "c": True}
    assert {**labels("labels")} == {name: text for name, text in labels("whole").items() if name != "a.jsonl"}
