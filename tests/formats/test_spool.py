"""Tracks come out of the spool in order, whatever order their frames came in, and leave nothing behind."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import pytest

from streamseg.formats._spool import SpooledTrack, TrackSpool, tracked
from streamseg.labels import LabelledFrame
from streamseg.types import OutputError
from tests.formats import videos

LABEL = videos.label(videos.rectangle(1, 1, 9, 9), track=7, score=0.5)


def test_texts_of_a_track_come_in_the_order_of_its_frames() -> None:
    spool = TrackSpool()
    for frame in (5, 1, 3):
        for number in (2, 1):
            spool.add(number, frame=frame, text=f"{number} at {frame}")
    assert list(spool.texts(1)) == [(1, "1 at 1"), (3, "1 at 3"), (5, "1 at 5")]
    assert list(spool.texts(3)) == []
    spool.close()


def test_tracks_are_numbered_as_they_appear_and_take_their_best_class() -> None:
    spool = TrackSpool()
    dog = replace(LABEL, class_name="dog", score=0.9)
    assert [spool.number(label) for label in (LABEL, replace(LABEL, track=0), dog, LABEL)] == [1, 2, 1, 1]
    assert list(spool.tracks()) == [
        SpooledTrack(1, "person", pytest.approx(1.9 / 3)),  # 1.0 as a person, 0.9 as a dog
        SpooledTrack(2, "person", 0.5),
    ]
    spool.close()


def test_another_thread_may_close_it() -> None:
    spool = TrackSpool()
    errors: list[BaseException] = []

    def close() -> None:
        try:
            spool.close()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert not errors


def test_a_full_disk_is_an_error_in_words() -> None:
    spool = TrackSpool()
    spool._file.execute("PRAGMA max_page_count = 4")
    with pytest.raises(OutputError, match=r"the temporary folder \(TMPDIR\) cannot hold the tracks.*full"):
        for frame in range(1000):
            spool.add(1, frame=frame, text="x" * 1000)
    spool.close()


def test_of_a_frame_only_tracked_labels_are_taken_and_of_a_track_the_best() -> None:
    better = replace(LABEL, score=0.8)
    left_out: Counter[str] = Counter()
    labels = (LABEL, replace(LABEL, track=-1), better, replace(LABEL, track=3), LABEL)
    assert tracked(LabelledFrame(0, 0.0, labels), left_out) == [better, labels[3]]
    assert left_out == {"objects without a track": 1, "more objects of one track in one frame": 2}
