"""A line of JSON a frame, a file NAME.jsonl a video: as `run -o NAME.jsonl` writes them, without the soft masks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamseg.formats._classes import check_classes
from streamseg.formats._part_text import TextPerVideo
from streamseg.labels import Label, LabelledFrame, LabelledVideo


class Jsonl:
    """What every other format can be made of again with `streamseg convert`."""

    wants_pictures = False
    tracks_only = False

    def open(self, folder: Path, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._files = TextPerVideo(folder, ending=".jsonl")

    def begin(self, video: LabelledVideo) -> None:
        self._video = video
        self._files.begin(video.name)

    def write(self, frame: LabelledFrame) -> None:
        check_classes(frame, self._class_names)
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
        self._files.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")

    def end(self) -> None:
        self._files.end()

    def close(self) -> Mapping[str, int]:
        self._files.finish()
        return {}

    def discard(self) -> None:
        self._files.discard()


def _object(label: Label) -> dict[str, Any]:
    return {
        "track": label.track,
        "class": label.class_name,
        "score": label.score,
        "box": list(label.box),
        "mask": dict(label.mask),
    }
