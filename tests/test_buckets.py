"""Files in a bucket are listed as a folder's are, fetched once until they are replaced, and never seen half done."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamseg import buckets
from streamseg.types import InputError, OutputError, UsageError
from tests import s3


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3.served() as url:
        yield url


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in {**s3.CREDENTIALS, "AWS_ENDPOINT_URL": endpoint, "XDG_CACHE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    with s3.bucket(endpoint, "films") as made:
        yield made


def test_what_is_a_place_in_a_bucket() -> None:
    assert [text for text in ("s3://a", "gs://a/b", "s3:a", "http://a", "a.mp4", "s3") if buckets.is_address(text)] == [
        "s3://a",
        "gs://a/b",
    ]


def test_an_address_stands_for_a_file_a_folder_or_what_matches(bucket: Any) -> None:
    for name in ("x/10.mp4", "x/9.mp4", "x/B.txt", "x/deep/1.mp4", "y.mp4"):
        bucket.put_object(Key=name, Body=b"-")
    assert buckets.listed("s3://films/y.mp4") == ["s3://films/y.mp4"]
    in_x = ["s3://films/x/9.mp4", "s3://films/x/10.mp4", "s3://films/x/B.txt"]
    assert buckets.listed("s3://films/x") == buckets.listed("s3://films/x/") == in_x
    assert buckets.listed("s3://films/x/*.mp4") == in_x[:2]
    assert buckets.listed("s3://films/**/*.mp4")[-2:] == ["s3://films/x/deep/1.mp4", "s3://films/y.mp4"]
    for nothing in ("s3://films/none.mp4", "s3://films/*.mkv", "s3://nobody/x"):
        with pytest.raises(InputError) as error:
            buckets.listed(nothing)
        assert str(error.value).startswith(f"{nothing}: ") and "no such file" in str(error.value)


def test_a_file_is_fetched_once_until_it_is_replaced(bucket: Any) -> None:
    bucket.put_object(Key="a.mp4", Body=b"first")
    path = buckets.fetched("s3://films/a.mp4")
    assert (path.name, path.read_bytes()) == ("a.mp4", b"first")
    assert int(path.stat().st_mtime) == int(bucket.Object("a.mp4").last_modified.timestamp())
    path.write_bytes(b"seen")
    assert buckets.fetched("s3://films/a.mp4").read_bytes() == b"seen"
    bucket.put_object(Key="a.mp4", Body=b"other")
    assert buckets.copy_of("s3://films/a.mp4") != path
    assert buckets.fetched("s3://films/a.mp4").read_bytes() == b"other"
    with pytest.raises(InputError, match="s3://films/none.mp4: cannot be read \\(no such file\\)"):
        buckets.fetched("s3://films/none.mp4")


def test_what_was_not_used_for_longest_makes_room(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []
    for number in range(4):
        bucket.put_object(Key=f"{number}.mp4", Body=bytes(10))
        copies.append(buckets.fetched(f"s3://films/{number}.mp4"))
    for path, used in zip(copies, (3, 1, 4, 2), strict=True):
        os.utime(path, (used, 0))

    def disk(_: Any) -> Any:
        taken = 10 * sum(path.exists() for path in copies)
        return type("Disk", (), {"total": 100, "free": 50 - taken})

    monkeypatch.setattr(shutil, "disk_usage", disk)
    bucket.put_object(Key="new.mp4", Body=bytes(25))  # of 50, 25 and a twentieth of 100 are to be free
    assert buckets.fetched("s3://films/new.mp4").exists()
    assert [path.exists() for path in copies] == [True, False, True, False]
    for path in copies[::2]:
        os.utime(path)  # now it is needed
    bucket.put_object(Key="large.mp4", Body=bytes(44))
    with pytest.raises(InputError, match="s3://films/large.mp4: no room in .*videos for its 4.4e-08 GB"):
        buckets.fetched("s3://films/large.mp4")
    assert copies[0].exists() and copies[2].exists()


def test_a_folder_of_a_bucket_is_written_and_read(bucket: Any, tmp_path: Path) -> None:
    folder = buckets.BucketFolder("s3://films/job/")
    assert (folder.all("chunks"), folder.read("job.json")) == ({}, None)
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    folder.put([tmp_path / "a", tmp_path / "b"], ["chunks/x/1", "chunks/y/2"])
    found = folder.all("chunks")
    assert {name: each.size for name, each in found.items()} == {"chunks/x/1": 1, "chunks/y/2": 1}
    assert folder.modified("chunks/x/1") == found["chunks/x/1"].modified
    assert folder.read("chunks/y/2") == b"b"
    folder.remove("chunks/x")
    folder.remove("chunks/z")
    assert set(folder.all("chunks")) == {"chunks/y/2"}
    with pytest.raises(OutputError, match="s3://nobody/job/a: cannot be written"):
        buckets.BucketFolder("s3://nobody/job").put([tmp_path / "a"], ["a"])


def test_names_with_brackets_are_no_patterns(bucket: Any, tmp_path: Path) -> None:
    for name in ("film [1080p].mp4", "film 1.mp4", "what?.mp4", "whats.mp4"):
        bucket.put_object(Key=name, Body=b"-")
    for name in ("film [1080p].mp4", "what?.mp4"):
        assert buckets.listed(f"s3://films/{name}") == [f"s3://films/{name}"]
    (tmp_path / "a").write_text("a")
    names = ["lab[1]/x/1", "lab[1]/x/2", "lab[1]/y", "lab1/x/1", "lab1/y"]
    folder = buckets.BucketFolder("s3://films")
    folder.put([tmp_path / "a"] * 5, names)
    folder.remove("lab[1]/x")
    folder.remove("lab[1]/y")
    assert {name for name in folder.all("") if name.startswith("lab")} == {"lab1/x/1", "lab1/y"}


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_client_is_named_with_the_extra_that_brings_it(
    scheme: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError) as error:
        buckets.stored(f"{scheme}://films/a.mp4")
    expected = f'{scheme}://films/a.mp4: {package} is not installed; pip install "streamseg[{scheme}]" brings it'
    assert str(error.value) == expected
