"""A line of JSON a frame, a file NAME.jsonl a video: as `run -o NAME.jsonl` writes them, without the soft masks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamseg.formats._part_text import PartText
from streamseg.labels import Label, LabelledFrame, LabelledVideo


class Jsonl:
    """What every other format can be made of again with `streamseg convert`."""

    wants_pictures = False
    tracks_only = False

    def __init__(self) -> None:
        self._folder = Path()
        self._video: LabelledVideo | None = None
        self._files: list[PartText] = []

    def open(self, folder: Path, class_names: Sequence[str]) -> None:
        self._folder = folder

    def begin(self, video: LabelledVideo) -> None:
        self._video = video
        self._files.append(PartText(self._folder / f"{video.name}.jsonl"))

    def write(self, frame: LabelledFrame) -> None:
        assert self._video is not None, "begin(video) comes before the first write"
        record = {
            "stream": self._video.name,
            "index": frame.index,
            "time": round(frame.time, 6),
            "width": self._video.width,
            "height": self._video.height,
            "objects": [_object(label) for label in frame.labels],
        }
        if frame.picture is not None:
            record["picture"] = frame.picture
        self._files[-1].write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")

    def end(self) -> None:
        self._files[-1].close()

    def close(self) -> Mapping[str, int]:
        for file in self._files:
            file.finish()
        return {}

    def discard(self) -> None:
        for file in self._files:
            file.discard()


def _object(label: Label) -> dict[str, Any]:
    return {
        "track": label.track,
        "class": label.class_name,
        "score": label.score,
        "box": list(label.box),
        "mask": dict(label.mask),
    }
