"""What is written a frame at a time and wanted a track at a time, on the disk until then."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from streamseg.labels import Label, LabelledFrame
from streamseg.types import OutputError

TRACKLESS = "objects without a track"
TWICE = "more objects of one track in one frame"


@dataclass(frozen=True)
class SpooledTrack:
    """One track: its number, from 1 in the order of appearance, the class with the most score, the mean score."""

    number: int
    class_name: str
    score: float


class TrackSpool:
    """Texts of the tracks of one video by frame, in a file without a name that falls away with the process.

    `add` takes them in any order, one for a track and frame; `tracks` and `texts` give them back sorted. Memory
    follows the number of tracks, not that of frames. Raises OutputError when the disk is full.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._scores: dict[int, dict[str, float]] = {}
        self._times: Counter[int] = Counter()
        with _errors():
            # a name of nothing is a file that nobody else sees; who discards a job may be another thread
            self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode = OFF")
            self._file.execute("PRAGMA cache_size = -2048")
            self._file.execute("CREATE TABLE texts (track, frame, text, PRIMARY KEY (track, frame)) WITHOUT ROWID")

    def number(self, label: Label) -> int:
        """The number of a label's track, which begins with its first label; its score counts for its class."""
        number = self._numbers.setdefault(label.track, len(self._numbers) + 1)
        scores = self._scores.setdefault(number, {})
        scores[label.class_name] = scores.get(label.class_name, 0) + label.score
        self._times[number] += 1
        return number

    def add(self, number: int, *, frame: int, text: str) -> None:
        with _errors():
            self._file.execute("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", (number, frame, text))

    def tracks(self) -> Iterator[SpooledTrack]:
        """All tracks in the order of their numbers."""
        for number, scores in self._scores.items():
            yield SpooledTrack(number, max(scores, key=scores.__getitem__), sum(scores.values()) / self._times[number])

    def texts(self, number: int) -> Iterator[tuple[int, str]]:
        """The frames and texts of a track, in the order of the frames."""
        with _errors():
            yield from self._file.execute("SELECT frame, text FROM texts WHERE track = ? ORDER BY frame", (number,))

    def close(self) -> None:
        self._file.close()


def tracked(frame: LabelledFrame, left_out: Counter[str]) -> list[Label]:
    """The labels of a frame that have a track, in their order; of one track the better. What is left out is counted."""
    best: dict[int, Label] = {}
    for label in frame.labels:
        if label.track < 0:
            left_out[TRACKLESS] += 1
            continue
        if label.track in best:
            left_out[TWICE] += 1
            if label.score <= best[label.track].score:
                continue
        best[label.track] = label
    return list(best.values())


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(f"the temporary folder (TMPDIR) cannot hold the tracks of this video: {error}") from error
