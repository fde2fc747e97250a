"""A result as a line of JSON, and back: what the jsonl sink writes and the replay engine reads."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamseg import masks
from streamseg.types import InputError, Instances, OutputError, Result
from streamseg.words import known_and_nearest

MASK_SIDE = 28
"""The side of a mask that was recorded without its crop."""

OWN_TOTALS = ("objects", "lines", "zones")
"""Kinds of totals that have their place in every record; a record's `objects` are those in the picture, one by one."""


def to_record(result: Result, *, crops: bool = True, run_lengths: bool = True) -> dict[str, Any]:
    """The result as plain numbers, texts, lists and dicts.

    Totals of lines and zones stand in every record, those of every other kind of counter under `counts` where there are
    any, and what is new with this frame under `events` where there is something. OutputError where a counter's totals
    or events cannot be written as JSON.

    crops: with the soft masks as the model made them, about a kilobyte an object, so that they can be drawn again
    exactly; without, only their run lengths at 0.5. A box or score is the shortest decimal that means the same
    float32.
    run_lengths: False leaves them out, which `from_record` does not need beside the crops; of a large picture they
    take longer than all the rest
    """
    frame = result.frame
    record = {
        "stream": frame.stream,
        "index": frame.index,
        "time": round(frame.time, 6),
        "width": frame.width,
        "height": frame.height,
        "objects": _objects(result, crops=crops, run_lengths=run_lengths),
        "lines": plain(result.counts.get("lines", {}), "totals of lines"),
        "zones": plain(result.counts.get("zones", {}), "totals of zones"),
    }
    others = {kind: totals for kind, totals in result.counts.items() if kind not in OWN_TOTALS}
    if others:
        record["counts"] = {str(kind): plain(totals, f"totals of {kind}") for kind, totals in others.items()}
    if result.events:
        record["events"] = plain(result.events, "events")
    return record


def plain(value: Any, name: str) -> Any:
    """Totals or events of any counter as what JSON can hold: mappings, lists, texts, numbers, booleans and None.

    Numbers and arrays of NumPy become Python's; a number that is not finite becomes None, since JSON has none such.
    name: what they are, for the OutputError that anything else raises
    """
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(each, name) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each, name) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise OutputError(f"{name}: expected mappings, lists, texts and numbers, got {type(value).__name__}")


def from_record(record: Mapping[str, Any], class_names: Sequence[str]) -> Instances:
    """The objects of a record, with masks (N, 28, 28) or as large as the crops are; totals and events are not read.

    class_names: "background" first; InputError when the record names a class that is not among them, or lacks or
    garbles anything. The record's own `index`, `time` and `stream` are read from it as they are.
    """
    objects = record.get("objects")
    if not isinstance(objects, list):
        raise InputError(f"expected a list of objects, got {objects!r}")
    if not objects:
        return Instances.empty(class_names)
    ids = {name: i for i, name in enumerate(class_names) if i > 0}
    crops = [_mask(item, number) for number, item in enumerate(objects)]
    sides = {len(crop) for crop in crops}
    if len(sides) > 1:
        raise InputError(f"expected masks of one side, got {sorted(sides)}")
    return Instances(
        boxes=np.array([_box(item, number) for number, item in enumerate(objects)], np.float32),
        masks=np.stack(crops),
        scores=np.array([_number(item, "score", number) for number, item in enumerate(objects)], np.float32),
        class_ids=np.array([_class_id(item, ids, number) for number, item in enumerate(objects)], np.int32),
        track_ids=np.array([_track(item, number) for number, item in enumerate(objects)], np.int32),
        class_names=tuple(class_names),
    )


def class_names_of(record: Mapping[str, Any]) -> list[str]:
    """The class names that stand in a record, one an object; InputError where one is missing."""
    objects = record.get("objects")
    if not isinstance(objects, list):
        raise InputError(f"expected a list of objects, got {objects!r}")
    return [_class_name(item, number) for number, item in enumerate(objects)]


def _objects(result: Result, *, crops: bool, run_lengths: bool) -> list[dict[str, Any]]:
    instances, width, height = result.instances, result.frame.width, result.frame.height
    objects = []
    # As bytes first, and the run lengths of those: reading the line again gives exactly the same drawing.
    cells = masks.as_bytes(instances.masks)  # (N, M, M)
    for i, name in enumerate(instances.names):
        item: dict[str, Any] = {
            "track": int(instances.track_ids[i]),
            "class": name,
            "score": _short(instances.scores[i]),
            "box": [_short(v) for v in instances.boxes[i]],
        }
        if run_lengths:
            item["mask"] = masks.rle(cells[i], instances.boxes[i], width=width, height=height)
        if crops:
            item["crop"] = {"side": cells.shape[1], "values": base64.b64encode(cells[i].tobytes()).decode("ascii")}
        objects.append(item)
    return objects


def _short(value: np.float32) -> float:
    """The shortest decimal number that rounds to the same float32."""
    return float(str(value))


def _mask(item: Any, number: int) -> np.ndarray:
    """The soft mask of one object, (M, M) float32: its crop, or else what its run lengths say inside its box."""
    crop = _field(item, "crop", number, optional=True)
    if crop is not None:
        try:
            side, values = int(crop["side"]), base64.b64decode(crop["values"], validate=True)
            if side < 1:
                raise ValueError(f"side: expected 1 or more, got {side}")
            cells = np.frombuffer(values, np.uint8).reshape(side, side)
        except (TypeError, KeyError, ValueError, OverflowError, binascii.Error) as error:
            raise InputError(f"object {number}: crop: expected side × side bytes in base64 ({error})") from error
        return masks.as_recorded(cells)
    run_lengths = _field(item, "mask", number)
    try:
        return masks.from_rle(run_lengths, _box(item, number), size=MASK_SIDE)
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise InputError(f"object {number}: mask: expected COCO run lengths ({error})") from error


def _box(item: Any, number: int) -> list[float]:
    box = _field(item, "box", number)
    right = isinstance(box, list) and len(box) == 4 and all(_is_number(v) for v in box)
    if not right:
        raise InputError(f"object {number}: box: expected [x1, y1, x2, y2], got {box!r}")
    corners: list[float] = box
    return corners


def _number(item: Any, name: str, number: int) -> float:
    value = _field(item, name, number)
    if not _is_number(value):
        raise InputError(f"object {number}: {name}: expected a number, got {value!r}")
    checked: float = value
    return checked


def _track(item: Any, number: int) -> int:
    track = _field(item, "track", number, optional=True)
    if track is None:
        return -1
    if not isinstance(track, int) or isinstance(track, bool) or not -1 <= track < 2**31:
        raise InputError(f"object {number}: track: expected a whole number from -1 up, got {track!r}")
    return track


def _class_name(item: Any, number: int) -> str:
    name = _field(item, "class", number)
    if not isinstance(name, str):
        raise InputError(f"object {number}: class: expected a name, got {name!r}")
    return name


def _class_id(item: Any, ids: Mapping[str, int], number: int) -> int:
    name = _class_name(item, number)
    if name not in ids:
        raise InputError(f"object {number}: class {name!r} is none of the model's{known_and_nearest(name, ids)}")
    return ids[name]


def _field(item: Any, name: str, number: int, *, optional: bool = False) -> Any:
    if not isinstance(item, Mapping):
        raise InputError(f"object {number}: expected a mapping, got {item!r}")
    if name not in item and not optional:
        raise InputError(f"object {number}: {name} is missing")
    return item.get(name)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False
