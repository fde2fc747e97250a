"""Texts that are on screen together, cut into samples for a track that can show only one at a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cue:
    """A text on screen from `start` to `end` in milliseconds; end None: until the next one comes.

    text: as a sample of FFmpeg's mov_text, two bytes of length, the text, boxes of styles
    """

    start: int
    end: int | None
    text: bytes


class Cues:
    """Takes cues in the order of their starts and gives them back in pieces that do not overlap.

    While several are on screen, a piece holds the lines of all of them, in the order in which they came.
    """

    def __init__(self) -> None:
        self._shown: list[Cue] = []
        self._reached = 0

    def add(self, cue: Cue) -> list[Cue]:
        """A cue begins: the pieces that end with it or before."""
        start = max(cue.start, self._reached)
        pieces = self._up_to(start)
        self._shown = [shown for shown in self._shown if shown.end is not None]
        self._reached = start
        if cue.end is None or cue.end > start:
            self._shown.append(cue)
        return pieces

    def end(self, time: int) -> list[Cue]:
        """No cue comes any more, and those whose end is not known last until `time`."""
        pieces = self._up_to(max([time, *(cue.end for cue in self._shown if cue.end is not None)]))
        self._shown = []
        return pieces

    def _up_to(self, time: int) -> list[Cue]:
        """The pieces up to `time`; the last one is cut there."""
        pieces: list[Cue] = []
        while self._shown and self._reached < time:
            stop = min([time, *(cue.end for cue in self._shown if cue.end is not None)])
            pieces.append(Cue(self._reached, stop, _together(self._shown)))
            self._reached = stop
            self._shown = [cue for cue in self._shown if cue.end is None or cue.end > stop]
        return pieces


def _together(cues: list[Cue]) -> bytes:
    """The sample that shows all these texts: of one cue with its styles, of several the lines alone."""
    samples = list(dict.fromkeys(cue.text for cue in cues))
    if len(samples) == 1:
        return samples[0]
    lines = b"\n".join(sample[2 : 2 + int.from_bytes(sample[:2], "big")] for sample in samples)
    return len(lines).to_bytes(2, "big") + lines
