"""Masks over time as YouTube-VIS has them, youtube_vis.json: an annotation a track, with a mask or null a frame."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamseg import outlines
from streamseg.formats._classes import check_classes
from streamseg.formats._part_text import PartText
from streamseg.formats._spool import TrackSpool, tracked
from streamseg.labels import EMPTY, LabelledFrame, LabelledVideo

_FRAMES = 0
"""The number of the track under which the frames themselves wait; those of objects begin at 1."""


class YoutubeVis:
    """What the YouTube-VIS loaders of MMDetection, Detectron2 and TrackEval read.

    Beside what they know, a video tells its `name`, and of each frame its `frame_indices` in the video and its `times`
    in seconds; an annotation its mean `score`.
    """

    wants_pictures = False
    tracks_only = True

    def __init__(self) -> None:
        self._class_names: list[str] = []
        self._left_out: Counter[str] = Counter()
        self._files: list[PartText] = []
        self._current: _Current | None = None
        self._num_videos = self._num_annotations = 0

    def open(self, folder: Path, class_names: Sequence[str]) -> None:
        self._class_names = list(class_names)
        # the videos follow the annotations, which are written as each video ends
        self._files = [PartText(folder / "youtube_vis.json"), PartText(folder / "youtube_vis.videos.json")]
        categories = [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)]
        self._files[0].write(f'{{"info": {{}}, "licenses": [], "categories": {_text(categories)}, "annotations": [')

    def begin(self, video: LabelledVideo) -> None:
        self._current = _Current(video, TrackSpool())
        self._num_videos += 1

    def write(self, frame: LabelledFrame) -> None:
        assert self._current is not None, "begin(video) comes before the first write"
        check_classes(frame, self._class_names)
        position, spool = self._current.length, self._current.spool
        picture = frame.picture or f"{self._current.video.name}/frame_{frame.index:06d}.jpg"
        spool.add(_FRAMES, frame=position, text=_text([picture, frame.index, round(frame.time, 6)]))
        for label in tracked(frame, self._left_out):
            area = int(outlines.areas([label.mask])[0])
            if not area:
                self._left_out[EMPTY] += 1
                continue
            x1, y1, x2, y2 = outlines.boxes([label.mask])[0].tolist()
            # as numbers, which the data set itself has and TrackEval asks for
            mask = {"size": list(label.mask["size"]), "counts": outlines.lengths(label.mask).tolist()}
            text = _text([mask, [x1, y1, x2 - x1, y2 - y1], area])
            spool.add(spool.number(label), frame=position, text=text)
        self._current.length += 1

    def end(self) -> None:
        assert self._current is not None, "begin(video) comes before the end"
        for track in self._current.spool.tracks():
            self._num_annotations += 1
            ids = {"id": self._num_annotations, "video_id": self._num_videos}
            category = self._class_names.index(track.class_name) + 1
            head = ids | {"category_id": category, "iscrowd": 0, "score": round(track.score, 6)}
            self._write(self._files[0], head, track.number, ("segmentations", "bboxes", "areas"))
        self._write(
            self._files[1],
            {"id": self._num_videos, "name": self._current.video.name},
            _FRAMES,
            ("file_names", "frame_indices", "times"),
        )
        self._current.spool.close()
        self._current = None

    def _write(self, file: PartText, head: dict[str, Any], number: int, names: Sequence[str]) -> None:
        """An annotation or a video, with what waits of a track as one list after the other."""
        assert self._current is not None
        video, length = self._current.video, self._current.length
        values = head | {"width": video.width, "height": video.height, "length": length}
        file.write(("," if head["id"] > 1 else "") + f"\n{_text(values)[:-1]}")
        for position, name in enumerate(names):
            file.write(f', "{name}": [')
            for index, texts in enumerate(self._current.by_frame(number)):
                file.write((", " if index else "") + _text(texts and texts[position]))
            file.write("]")
        file.write("}")

    def close(self) -> Mapping[str, int]:
        annotations, videos = self._files
        annotations.write('\n], "videos": [')
        for text in videos.taken_back():
            annotations.write(text)
        annotations.write("\n]}\n")
        annotations.finish()
        return dict(self._left_out)

    def discard(self) -> None:
        if self._current is not None:
            self._current.spool.close()
        for file in self._files:
            file.discard()


@dataclass
class _Current:
    """The video that is being written, and how many of its frames have come."""

    video: LabelledVideo
    spool: TrackSpool
    length: int = 0

    def by_frame(self, number: int) -> Iterator[list[Any] | None]:
        """What waits of a track for each frame, None for those without it."""
        following = 0
        for frame, text in self.spool.texts(number):
            yield from [None] * (frame - following)
            yield json.loads(text)
            following = frame + 1
        yield from [None] * (self.length - following)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
