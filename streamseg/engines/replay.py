"""Takes the objects from what the jsonl sink wrote, so that a clip is drawn again without a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from streamseg.records import class_names_of, from_record
from streamseg.types import Frame, InputError, Instances

BATCH = 8


class Replay:
    """Finds in a frame what a file of records says of the frame with its index; nothing where it says nothing.

    path: as the `jsonl` sink wrote it. All of it is checked at construction, where a wrong line raises InputError with
    its number; what is kept in memory is only where each line lies. The objects come with the track ids, the scores
    and the order that they were written with, and none is left out: `min_score` is 0. A record of another size than
    the frame is scaled to it.
    """

    min_score = 0.0
    batch_size = BATCH
    repeats = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._places: dict[str, dict[int, tuple[int, int]]] = {}
        names: dict[str, None] = {}
        place = 0
        with self._opened() as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    record = self._parsed(line, number)
                    self._remember(record, number, place)
                    names |= dict.fromkeys(class_names_of(record))
                place += len(line)
        self.class_names: tuple[str, ...] = ("background", *names)

    def _opened(self) -> BinaryIO:
        try:
            return open(self.path, "rb")
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {(error.strerror or str(error)).lower()}") from error

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        """The record of a line, checked."""
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{self.path}, line {number}: expected a JSON object ({error})") from error
        if not isinstance(record, dict):
            raise InputError(f"{self.path}, line {number}: expected a JSON object, got {type(record).__name__}")
        try:
            from_record(record, ("background", *dict.fromkeys(class_names_of(record))))
        except InputError as error:
            raise InputError(f"{self.path}, line {number}: {error}") from error
        for name, least in (("index", 0), ("width", 1), ("height", 1)):
            value = record.get(name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{self.path}, line {number}: {name}: expected {least} or more, got {value!r}")
        if not isinstance(record.get("stream"), str):
            raise InputError(f"{self.path}, line {number}: stream: expected a name, got {record.get('stream')!r}")
        return record

    def _remember(self, record: dict[str, Any], number: int, place: int) -> None:
        places = self._places.setdefault(record["stream"], {})
        if record["index"] in places:
            raise InputError(f"{self.path}, line {number}: frame {record['index']} stands there a second time")
        places[record["index"]] = (number, place)

    def input_size(self, frame: Frame) -> tuple[int, int]:
        """(width, height), the frame's own: nothing is scaled for an engine that does not look."""
        return frame.width, frame.height

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        """The recorded objects of each frame."""
        with self._opened() as lines:
            return [self._objects(frame, lines) for frame in frames]

    def _objects(self, frame: Frame, lines: BinaryIO) -> Instances:
        found = self._places_of(frame.stream).get(frame.index)
        if found is None:
            return Instances.empty(self.class_names)
        number, place = found
        try:
            lines.seek(place)
            record = json.loads(lines.readline())
            instances = from_record(record, self.class_names)
        except (OSError, ValueError, InputError) as error:
            raise InputError(f"{self.path}, line {number}: it has changed while it was read ({error})") from error
        if (record["width"], record["height"]) == (frame.width, frame.height):
            return instances
        scale = np.array([frame.width / record["width"], frame.height / record["height"]] * 2, np.float32)
        return replace(instances, boxes=instances.boxes * scale)

    def _places_of(self, stream: str) -> dict[int, tuple[int, int]]:
        """The lines of a stream; a file of one stream serves any."""
        if stream in self._places:
            return self._places[stream]
        if len(self._places) > 1:
            raise InputError(f"{self.path} holds the streams {', '.join(self._places)}, but not {stream}")
        return next(iter(self._places.values()), {})
