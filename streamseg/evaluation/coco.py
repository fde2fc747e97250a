"""COCO's box and mask AP of pictures of any dataset, counted by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from streamseg.evaluation.objects import Comparison

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
REPORTED = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")


def coco_average_precision(
    pictures: Sequence[Comparison], kind: str, *, class_names: Sequence[str]
) -> dict[str, float]:
    """COCO's numbers for `kind` "bbox" or "segm", each between 0 and 1, or -1 where there is no such object.

    class_names: the classes that count; others are neither true nor found.
    """
    category_ids = {name: number for number, name in enumerate(class_names, start=1)}
    results = coco_results(pictures, kind, category_ids)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        truth = COCO()
        truth.dataset = coco_truth(pictures, kind, category_ids)
        truth.createIndex()
        if results:
            found = truth.loadRes(results)
        else:  # which `loadRes` does not take
            found = COCO()
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    numbers = dict(zip(METRICS, (float(value) for value in evaluation.stats), strict=False))
    return {name: numbers[name] for name in REPORTED}


def coco_truth(pictures: Sequence[Comparison], kind: str, category_ids: dict[str, int]) -> dict[str, Any]:
    """The true objects as the content of a COCO file; pictures are numbered from 1.

    An object whose mask is unknown counts neither way in the mask AP, like a crowd.
    """
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, start=1):
        truth = picture.truth
        for i, name in enumerate(truth.names):
            if name in category_ids:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": category_ids[name],
                        "bbox": _corner_and_size(truth.boxes[i]),
                        "area": float(truth.areas[i]),
                        "iscrowd": int(truth.crowd[i] or (kind == "segm" and truth.unknown[i])),
                        "segmentation": truth.masks[i],
                    }
                )
    return {
        "images": [{"id": i, "width": p.width, "height": p.height} for i, p in enumerate(pictures, start=1)],
        "categories": [{"id": number, "name": name} for name, number in category_ids.items()],
        "annotations": annotations,
    }


def coco_results(pictures: Sequence[Comparison], kind: str, category_ids: dict[str, int]) -> list[dict[str, Any]]:
    """The found objects of these categories as COCO's list of results, with their boxes ("bbox") or masks ("segm")."""
    results = []
    for number, picture in enumerate(pictures, start=1):
        found = picture.found
        for i, name in enumerate(found.names):
            if name in category_ids:
                result = {"image_id": number, "category_id": category_ids[name], "score": float(found.scores[i])}
                # with a box in it, pycocotools would take a mask's size from the box
                shape = (
                    {"bbox": _corner_and_size(found.boxes[i])} if kind == "bbox" else {"segmentation": found.masks[i]}
                )
                results.append(result | shape)
    return results


def _corner_and_size(box: Any) -> list[float]:
    x1, y1, x2, y2 = (float(v) for v in box)
    return [x1, y1, x2 - x1, y2 - y1]
