"""A video cut into chunks that can be looked at one by one: where each begins, found without decoding anything."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av

from streamseg.annotate.selection import Moment, Selection
from streamseg.seams import NEW_TRACK
from streamseg.sources._decoding import near_rate, rate_of
from streamseg.sources.video_file import SEEKABLE_FORMATS, VideoFile, chosen_video, has_whole_index
from streamseg.types import Frame, InputError, StreamInfo

CHUNKS_WITHOUT_INDEX = 8
"""Of a file whose index does not list every picture: it is read up to each chunk that is begun in its middle."""

TOLERANCE = 0.002
"""Seconds by which a frame may be off its place for a rate to count as constant: mkv keeps times to a millisecond."""


NO_TIMESTAMPS = 0x0080
"""FFmpeg's AVFMT_NOTIMESTAMPS among the flags of a format."""


class Misfit(InputError):
    """What was decoded is not what the packets said, so that this video cannot be cut."""


@dataclass(frozen=True)
class Chunk:
    """A part of a video: its first frame, and the time of the frame before that (None: there is none)."""

    index: int
    time: float
    before: float | None


@dataclass(frozen=True)
class Cut:
    """A video and its chunks, each up to the next one.

    num_frames: in all, of which `num_selected` are annotated; None where only decoding tells · rate: average frames a
    second
    """

    chunks: tuple[Chunk, ...]
    num_frames: int | None
    num_selected: int | None
    rate: Fraction
    constant_rate: bool

    def uncut(self, number: int = 0) -> Cut:
        """The same video, from that chunk on in one, of which nothing is believed that was not decoded."""
        return Cut(self.chunks[: number + 1], None, None, self.rate, self.constant_rate)


WHOLE = (Chunk(0, 0.0, None),)


@dataclass(frozen=True)
class Run:
    """Chunks of one video in a row that are looked at in one go: `first` to before `last`."""

    video: str
    path: Path
    cut: Cut
    first: int
    last: int

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        return self.cut.chunks[self.first : self.last]

    @property
    def following(self) -> Chunk | None:
        """The chunk behind the last one, None at the end of the video."""
        return self.cut.chunks[self.last] if self.last < len(self.cut.chunks) else None

    def pieces(self, most: int) -> list[Run]:
        """The same in runs of so many chunks at most."""
        begins = range(self.first, self.last, most)
        return [Run(self.video, self.path, self.cut, first, min(first + most, self.last)) for first in begins]

    def halves(self) -> list[Run]:
        middle = (self.first + self.last) // 2
        return [
            Run(self.video, self.path, self.cut, self.first, middle),
            Run(self.video, self.path, self.cut, middle, self.last),
        ]


def cut(path: Path, selection: Selection, *, seconds: float) -> Cut:
    """The chunks of a video, each at least `seconds` long and with a selected frame.

    A chunk begins at a keyframe. Where packets do not tell what decoding will (no times, times that repeat, a format
    in which seeking guesses), the video is one chunk. Raises InputError for what is no video at all.
    """
    with VideoFile(path, threads=1) as source:  # names what is wrong with a file in words
        rate = source.info.average_rate
    with av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"}) as container:
        stream = chosen_video(container)
        rate = rate_of(stream) or rate
        stamps, keys = _stamps(container, stream)
        if not stamps:
            # a bare bitstream has a rate and no times; elsewhere some are missing or repeat, and nobody knows
            return Cut(WHOLE, None, None, rate, constant_rate=bool(container.format.flags & NO_TIMESTAMPS))
        times = [float((stamp - stamps[0]) * stream.time_base) for stamp in stamps]
        constant = _is_constant(times, rate)
        whole = has_whole_index(container, stream)
        if not any(name == container.format.name for name in SEEKABLE_FORMATS):
            return Cut(WHOLE, None, None, rate, constant)
    if not constant and len(times) > 1:
        rate = near_rate((len(times) - 1) / (times[-1] - times[0]))
    if not whole:
        seconds = max(seconds, times[-1] / CHUNKS_WITHOUT_INDEX)
    moments = [Moment(index, time) for index, time in enumerate(times)]
    selected = [moment.index for moment in selection.of(moments)]
    chunks = _chunks(times, [index for index, stamp in enumerate(stamps) if stamp in keys], selected, seconds=seconds)
    return Cut(chunks, len(times), len(selected), rate, constant)


def _stamps(container: Any, stream: Any) -> tuple[list[int], set[int]]:
    """The pts of all pictures in the order in which they are shown, and those of keyframes; none where they mislead."""
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all
    stamps: list[int] = []
    keys: set[int] = set()
    try:
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None or packet.is_corrupt:
                return [], set()
            stamps.append(packet.pts)
            if packet.is_keyframe:
                keys.add(packet.pts)
    except (av.FFmpegError, NEW_TRACK):
        return [], set()
    stamps.sort()
    return (stamps, keys) if len(set(stamps)) == len(stamps) else ([], set())


def _is_constant(times: Sequence[float], rate: Fraction) -> bool:
    """Whether every frame lies where frames of that rate do."""
    return all(abs(time - index / rate) <= TOLERANCE for index, time in enumerate(times))


def _chunks(
    times: Sequence[float], keys: Sequence[int], selected: Sequence[int], *, seconds: float
) -> tuple[Chunk, ...]:
    """Chunks that begin at keyframes, each with a selected frame and so many seconds long."""
    chunks = [*WHOLE]
    within = 0  # selected frames before the chunk under way
    for index in keys:
        before = bisect_left(selected, index)
        if index and before > within and before < len(selected) and times[index] - chunks[-1].time >= seconds:
            chunks.append(Chunk(index, times[index], times[index - 1]))
            within = before
    return tuple(chunks)


class Picked:
    """The selected frames of a run of chunks, as a Source; Misfit where they are not those that the cut promised.

    Each chunk is opened for itself: what a decoder makes of damage depends on the pictures before, and a chunk is not
    to depend on whether the one before it was read in the same go. number_after: of the frame behind the last one, once
    all are read
    """

    info: StreamInfo

    def __init__(self, run: Run, selection: Selection) -> None:
        self._run, self._selection = run, selection
        self.number_after = run.chunks[0].index
        self.warnings: Mapping[str, int] = {}
        self.notes: list[str] = []
        self._source: VideoFile | None = None

    def __enter__(self) -> Self:
        source = self._open(self._run.first)
        self.info, self.notes = source.info, source.notes
        return self

    def __exit__(self, *exc: object) -> None:
        source, self._source = self._source, None
        if source is not None:
            self.warnings = Counter(self.warnings) + Counter(source.warnings)
            source.__exit__(None, None, None)

    def _open(self, number: int) -> VideoFile:
        """The frames of a chunk, in the place of those of the one before."""
        self.__exit__()
        chunks = self._run.cut.chunks
        end = chunks[number + 1].time if number + 1 < len(chunks) else None
        source = VideoFile(self._run.path, start=chunks[number].time, end=end, name=self._run.video)
        self._source = source.__enter__()
        return source

    def __iter__(self) -> Iterator[Frame]:
        following = self._run.following
        after = None if following is None else following.time
        return self._selection.of(self._checked(), before=self._run.chunks[0].before, after=after)

    def _checked(self) -> Iterator[Frame]:
        """Every frame; those that begin a chunk must be where the chunk begins, and the last one before the next."""
        cut = self._run.cut
        for number in range(self._run.first, self._run.last):
            source = self._source if number == self._run.first else self._open(number)
            assert source is not None, "entering opens the first chunk"
            begin = cut.chunks[number]
            end = cut.chunks[number + 1].index if number + 1 < len(cut.chunks) else cut.num_frames
            for frame in source:
                right = frame.index > begin.index or frame.time == begin.time
                if frame.index != self.number_after or frame.index == end or not right:
                    raise Misfit(
                        f"{self._run.path}: frame {frame.index} at {frame.time:g} s is not where it was expected"
                    )
                self.number_after += 1
                yield frame
            if end is not None and self.number_after != end:
                raise Misfit(f"{self._run.path}: expected {end} frames, got {self.number_after}")
