"""Reads labels with the libraries of other tools, in a Python that has them, and prints what it found as JSON.

    python tests/formats/other_readers.py datumaro cvat FOLDER

They need another OpenCV than streamseg, so they cannot be installed beside it; nothing of streamseg is imported here.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def datumaro(format: str, path: str) -> Iterator[list[Any]]:
    """Item, its attribute `frame`, class, track, kind, and points of each shape or pixels (y, x) of each mask."""
    library: Any = importlib.import_module("datumaro")
    data = library.Dataset.import_from(path, format)
    names = [each.name for each in data.categories()[library.AnnotationType.label]]
    for item in data:
        for each in item.annotations:
            if each.attributes.get("outside") or each.type.name not in ("polygon", "mask"):
                continue
            drawn = each.points if each.type.name == "polygon" else [*map(list, each.image.nonzero())]
            if each.type.name == "mask":
                drawn = [[int(number) for number in axis] for axis in drawn]
            frame, track = item.attributes.get("frame"), each.attributes.get("track_id")
            yield [item.subset, item.id, frame, names[each.label], track, each.type.name, list(drawn)]


def labelstudio(path: str) -> Iterator[list[Any]]:
    """Frame, class and pixels (H, W) of each brush region, as Label Studio's own decoder has them."""
    brush: Any = importlib.import_module("label_studio_sdk.converter.brush")
    for task in json.loads(Path(path).read_text(encoding="utf-8")):
        for region in task["predictions"][0]["result"]:
            pixels = brush.decode_rle(region["value"]["rle"])
            shape = region["original_height"], region["original_width"], 4
            inside = pixels.reshape(shape)[..., 3] > 0
            yield [task["data"]["frame_index"], region["value"]["brushlabels"][0], inside.astype(int).tolist()]


def trackeval(kind: str, folder: str, lengths: str) -> Iterator[list[Any]]:
    """Video, frame, ids, classes and masks of what TrackEval takes as the truth."""
    library: Any = importlib.import_module("trackeval")
    common = {"TRACKERS_TO_EVAL": [], "PRINT_CONFIG": False, "TRACKERS_FOLDER": folder}
    if kind == "mots":
        given = {"SEQ_INFO": json.loads(lengths), "SKIP_SPLIT_FOL": True, "GT_LOC_FORMAT": "{gt_folder}/{seq}.txt"}
        data = library.datasets.MOTSChallenge({**common, **given, "GT_FOLDER": folder})
    else:
        data = library.datasets.YouTubeVIS({**common, "GT_FOLDER": f"{folder}/", "SPLIT_TO_EVAL": "train"})
    for video in data.seq_list:
        raw = data._load_raw_file("", video, is_gt=True)
        for frame in range(raw["num_timesteps"]):
            masks = [{"size": each["size"], "counts": as_text(each["counts"])} for each in raw["gt_dets"][frame]]
            yield [video, frame, raw["gt_ids"][frame].tolist(), raw["gt_classes"][frame].tolist(), masks]


def as_text(counts: Any) -> Any:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts


READERS: dict[str, Callable[..., Iterator[list[Any]]]] = {
    "datumaro": datumaro,
    "labelstudio": labelstudio,
    "trackeval": trackeval,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()
    reader, *arguments = sys.argv[1:]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        found = list(READERS[reader](*arguments))
    print(json.dumps(found))
