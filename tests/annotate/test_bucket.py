"""Videos, chunks and labels in a bucket: what comes out is what comes out of a folder, on whatever machine."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamseg.annotate.folder import KEPT
from streamseg.annotate.job import annotate
from streamseg.annotate.report import AnnotationSummary
from streamseg.annotate.request import AnnotateRequest
from streamseg.annotate.worker import Looked, Worker
from streamseg.types import InputError, UsageError
from tests import s3
from tests.annotate.jobs import chunks, clip, found, labels, planned, run

VIDEOS = {"a.mp4": 25, "Straße.mp4": 6}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3.served() as url:
        yield url


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The bucket `films`, and the service by the variables that every S3 client reads."""
    for name, value in {**s3.CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    with s3.bucket(endpoint, "films") as made:
        yield made


@pytest.fixture
def clips(here: Path, bucket: Any) -> Path:
    """A folder of clips, which lie under `clips/` in the bucket, too."""
    folder = here / "clips"
    folder.mkdir()
    for name, num_frames in VIDEOS.items():
        bucket.upload_file(str(clip(folder / name, num_frames=num_frames)), f"clips/{name}")
    bucket.put_object(Key="clips/notes.txt", Body=b"not a video")
    bucket.put_object(Key="clips/more/deep.mp4", Body=b"in another folder")
    return folder


def stored(bucket: Any, prefix: str) -> dict[str, bytes]:
    """What lies below a prefix, by the rest of its name."""
    found = (each for each in bucket.objects.filter(Prefix=prefix))
    return {each.key.removeprefix(prefix): each.get()["Body"].read() for each in found}


def published(bucket: Any, prefix: str) -> dict[str, bytes]:
    """The labels that lie below a prefix."""
    return {name: data for name, data in stored(bucket, prefix).items() if not name.startswith(KEPT)}


def pictures(film: bytes) -> np.ndarray:
    """The pictures (N, H, W, 3) of a video file."""
    with av.open(io.BytesIO(film)) as container:
        return np.array([each.to_ndarray(format="rgb24") for each in container.decode(video=0)], float)


def looked_at(summary: AnnotationSummary) -> dict[str, int]:
    return {name: video.looked_at for name, video in summary.videos.items()}


def on_another_machine(monkeypatch: pytest.MonkeyPatch, here: Path, name: str) -> None:
    """From here on nothing is known that lies in no bucket."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / name))


def test_videos_in_a_bucket_have_the_labels_of_those_in_a_folder(clips: Path, bucket: Any) -> None:
    run("clips", output="here", formats=("jsonl", "coco"), pictures=True)
    summary = run("s3://films/clips/", output="there", formats=("jsonl", "coco"), pictures=True)
    assert looked_at(summary) == {"a": 25, "Straße": 6}
    assert labels("there") == labels("here")


def test_chunks_and_labels_go_into_a_bucket_and_are_those_of_a_folder(clips: Path, bucket: Any) -> None:
    options: dict[str, Any] = {"formats": ("jsonl", "yolo"), "video": True}
    run("clips", output="here", **options)
    summary = run("clips", output="s3://films/labels/", **options)
    there, here = published(bucket, "labels/"), labels("here")
    assert there.keys() == here.keys()
    for name in here:  # x264 gives the same pictures other bits now and then, on CPUs with AVX-512
        if name.endswith(".mp4"):
            assert np.abs(pictures(there[name]) - pictures(here[name])).mean() < 3
        else:
            assert there[name] == here[name]
    assert summary.outputs[0] == "s3://films/labels"
    assert "s3://films/labels/a_overlay.mp4" in summary.outputs
    kept = stored(bucket, f"labels/{KEPT}/chunks/")
    assert {name.split("/")[0] for name in kept} == {"a", "Straße"} and len(kept) == 4
    for name, data in kept.items():
        assert data == Path("here", KEPT, "chunks", name).read_bytes()


def test_what_lies_in_the_bucket_is_not_looked_for_again_on_another_machine(
    clips: Path, bucket: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("s3://films/clips", output="s3://films/labels")
    before = published(bucket, "labels/")
    on_another_machine(monkeypatch, here, "second")
    assert looked_at(run("s3://films/clips", output="s3://films/labels")) == {"a": 0, "Straße": 0}
    assert published(bucket, "labels/") == before
    bucket.Object(f"labels/{KEPT}/chunks/a/000001.jsonl.gz").delete()
    on_another_machine(monkeypatch, here, "third")
    assert looked_at(run("s3://films/clips", output="s3://films/labels")) == {"a": 10, "Straße": 0}
    assert published(bucket, "labels/") == before
    # and on the first one, which still has a copy of it
    on_another_machine(monkeypatch, here, "second")
    bucket.Object(f"labels/{KEPT}/chunks/a/000002.jsonl.gz").delete()
    assert looked_at(run("s3://films/clips", output="s3://films/labels")) == {"a": 5, "Straße": 0}


def test_parts_on_machines_that_share_a_bucket_alone_are_finished_together(
    clips: Path, bucket: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("clips", output="here")
    for part in (1, 2):
        on_another_machine(monkeypatch, here, f"machine {part}")
        run("s3://films/clips", output="s3://films/labels", shard=(part, 2))
    assert published(bucket, "labels/") == {}
    on_another_machine(monkeypatch, here, "third")
    assert annotate(AnnotateRequest(finish="s3://films/labels")).exit_code == 0
    assert published(bucket, "labels/") == labels("here")


@pytest.mark.thorough
def test_overwrite_forgets_what_lies_in_the_bucket(clips: Path, bucket: Any) -> None:
    run("clips/a.mp4", output="s3://films/labels")
    assert looked_at(run("clips/a.mp4", output="s3://films/labels", overwrite=True, stride=2)) == {"a": 13}
    with pytest.raises(UsageError, match="s3://films/labels: what was found there was made otherwise"):
        run("clips/a.mp4", output="s3://films/labels")


@pytest.mark.thorough
def test_a_chunk_cut_short_in_the_bucket_is_done_again(
    clips: Path, bucket: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("clips/a.mp4", output="s3://films/labels")
    before = stored(bucket, f"labels/{KEPT}/chunks/a/")
    key = f"labels/{KEPT}/chunks/a/000001.jsonl.gz"
    bucket.put_object(Key=key, Body=before["000001.jsonl.gz"][:100])
    on_another_machine(monkeypatch, here, "second")
    summary = run("clips/a.mp4", output="s3://films/labels")
    assert looked_at(summary) == {"a": 10} and "it is done again" in summary.notes[0]
    assert stored(bucket, f"labels/{KEPT}/chunks/a/") == before


def test_a_video_that_was_replaced_in_the_bucket_is_refused_by_its_address(clips: Path, bucket: Any) -> None:
    run("s3://films/clips/a.mp4")
    bucket.upload_file(str(clip(clips / "other.mp4", num_frames=20)), "clips/a.mp4")
    summary = run("s3://films/clips/a.mp4", code=1)
    expected = "s3://films/clips/a.mp4: another file than the one that was looked at in labels as a"
    assert str(summary.videos["a"].error).startswith(expected)


def test_a_bad_video_in_a_bucket_is_named_and_the_others_are_done(clips: Path, bucket: Any) -> None:
    bucket.put_object(Key="clips/bad.mp4", Body=b"no video")
    summary = run("s3://films/clips", "s3://films/none.mp4", "s3://nobody/clips", code=1)
    errors = {name: str(video.error) for name, video in summary.videos.items() if video.error}
    assert set(labels("labels")) == {"a.jsonl", "Straße.jsonl"}
    assert errors["bad"].startswith("s3://films/clips/bad.mp4: expected a video")
    assert errors["none"].startswith("s3://films/none.mp4: ") and "no such file" in errors["none"].lower()
    assert errors["clips"].startswith("s3://nobody/clips: cannot be listed")


def test_a_bucket_that_is_not_there_is_named_before_the_first_frame(clips: Path, bucket: Any) -> None:
    with pytest.raises(InputError, match="s3://nobody/labels"):
        run("clips/a.mp4", output="s3://nobody/labels")


def test_a_worker_of_a_cluster_fetches_the_video_by_its_address(
    clips: Path, bucket: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("clips/a.mp4")
    expected = [found(path) for path in chunks("labels", "a")]
    looking, (whole,) = planned(here, "s3://films/clips/a.mp4")
    on_another_machine(monkeypatch, here, "second")
    whole.path.unlink()  # the leader's copy
    looked = Worker(looking, here=str(here), threads=1, name="one").look(whole)
    assert [
        [json.loads(line) for line in gzip.decompress(data).splitlines()][1:-1] for _, data in looked.chunks
    ] == expected
    bucket.Object("clips/a.mp4").delete()
    looked = Worker(looking, here=str(here), threads=1, name="one").look(whole)
    assert looked == Looked(missed="s3://films/clips/a.mp4: cannot be read (no such file)")
