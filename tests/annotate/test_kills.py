"""A job that is killed at any moment leaves nothing unfinished under a final name; its labels stay what they were."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import av
import pytest

from streamseg.annotate.job import annotate
from streamseg.annotate.recordings import checked
from streamseg.annotate.request import AnnotateRequest
from tests.annotate.jobs import chunks, clip, labels, request, run
from tests.end_to_end.command import _forking
from tests.end_to_end.parts import MODULE

NUM_VIDEOS = 6
OPTIONS: dict[str, Any] = {"engine": f"{MODULE}:Walker:seconds=0.002", "pictures": True}
SECONDS = 1.2
"""Of an undisturbed job, about; later moments come when it is done, which must do no harm either."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [clip(folder / f"video {n}.mp4", num_frames=12 + 5 * n) for n in range(NUM_VIDEOS)]


@pytest.fixture(scope="module")
def undisturbed(videos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The labels of a job that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        run(*videos, output=folder / "labels", **OPTIONS)
    return labels(folder / "labels")


def _work(asked: AnnotateRequest, cache: str) -> None:
    import os

    os.environ["XDG_CACHE_HOME"] = cache
    annotate(asked)


def started(asked: AnnotateRequest, folder: Path) -> BaseProcess:
    process: BaseProcess = _forking().Process(target=_work, args=(asked, str(folder / "cache")), daemon=True)
    process.start()
    return process


def names(folder: Path) -> frozenset[str]:
    return frozenset(str(path) for path in folder.rglob("*"))


def states(folder: Path, process: BaseProcess) -> Iterator[frozenset[str]]:
    """The names in the folder each time that they have changed, until the process is gone."""
    before: frozenset[str] = frozenset()
    while process.is_alive():
        with suppress(FileNotFoundError):
            if (now := names(folder)) != before:
                before = now
                yield now
        time.sleep(0.0005)


def kill_somewhere(chance: random.Random, process: BaseProcess, folder: Path) -> None:
    """Kill it at a random moment, right after a file has come or gone, or while the last files are written."""
    how = chance.choice(["moment", "event", "final"])
    if how == "moment":
        process.join(chance.uniform(0, SECONDS))
    else:
        left = chance.randrange(1, 60 if how == "event" else 20)
        for present in states(folder, process):
            left -= how == "event" or any(name.endswith((".part.jsonl", ".jpg")) for name in present)
            if left <= 0:
                break
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)


def check_nothing_is_unfinished(folder: Path, undisturbed: dict[str, bytes]) -> None:
    for video in (f"video {n}" for n in range(NUM_VIDEOS)):
        for path in chunks(folder, video):
            checked(path, video)
    there = {name: data for name, data in labels(folder).items() if ".part" not in name}
    for name, data in there.items():
        assert data == undisturbed[name]
    if pictures := [name for name in there if name.endswith(".jpg")]:
        with av.open(str(folder / pictures[-1])) as picture:
            assert len(list(picture.decode(video=0))) == 1


def killed_and_finished(seed: int, here: Path, videos: list[Path], undisturbed: dict[str, bytes]) -> None:
    chance, folder = random.Random(seed), here / "labels"
    for _ in range(chance.choice([1, 1, 2])):
        kill_somewhere(chance, started(request(*videos, output=folder, **OPTIONS), here), folder)
        check_nothing_is_unfinished(folder, undisturbed)
    run(*videos, output=folder, **OPTIONS)
    assert labels(folder) == undisturbed


@pytest.mark.parametrize("seed", range(10))
def test_a_killed_job_goes_on_to_the_same_labels(
    seed: int, here: Path, videos: list[Path], undisturbed: dict[str, bytes]
) -> None:
    killed_and_finished(seed, here, videos, undisturbed)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(10, 60))
def test_fifty_killed_jobs_go_on_to_the_same_labels(
    seed: int, here: Path, videos: list[Path], undisturbed: dict[str, bytes]
) -> None:
    killed_and_finished(seed, here, videos, undisturbed)


def test_what_a_killed_job_has_found_is_not_looked_for_again(here: Path, videos: list[Path]) -> None:
    process = started(request(*videos, output=here / "labels", **OPTIONS), here)
    for _ in states(here / "labels", process):
        if sum(len(chunks(here / "labels", f"video {n}")) for n in range(NUM_VIDEOS)) >= 4:
            break
    process.kill()
    process.join()
    total = sum(12 + 5 * n for n in range(NUM_VIDEOS))
    again = run(*videos, output=here / "labels", **OPTIONS)
    assert 0 < sum(video.looked_at for video in again.videos.values()) <= total - 20
