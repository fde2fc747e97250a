"""How good a model is: COCO's box and mask AP, measured with the engine that streams run on."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from streamseg import masks, plugins
from streamseg.config import Component
from streamseg.datasets.coco import Coco
from streamseg.training.data import read_rgb
from streamseg.types import Engine, Frame, Instances, Sample, UsageError

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
REPORTED = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")


def read_frame(sample: Sample, index: int) -> Frame:
    """A sample's picture as a frame. Raises InputError when it cannot be read."""
    picture = av.VideoFrame.from_ndarray(read_rgb(sample), format="rgb24")
    return Frame(picture, index, float(index), 0.0, sample.path.stem)


def detect_all(
    engine: Engine, dataset: Coco, *, limit: int | None = None, progress: Callable[[int, int], None] = lambda *_: None
) -> list[tuple[Sample, Instances]]:
    """The engine's detections for every picture of a dataset, in order."""
    count = len(dataset) if limit is None else min(limit, len(dataset))
    found: list[tuple[Sample, Instances]] = []
    for start in range(0, count, engine.batch_size):
        samples = [dataset[i] for i in range(start, min(start + engine.batch_size, count))]
        frames = [read_frame(sample, start + i) for i, sample in enumerate(samples)]
        found += zip(samples, engine.predict(frames), strict=True)
        progress(len(found), count)
    return found


def coco_results(found: list[tuple[Sample, Instances]], category_ids: dict[str, int]) -> list[dict[str, Any]]:
    """Detections as a COCO results list; classes that the dataset does not have are left out."""
    results = []
    for sample, instances in found:
        size = {"width": sample.width, "height": sample.height}
        limit = np.array([sample.width, sample.height] * 2, np.float32)
        for i, name in enumerate(instances.names):
            if name in category_ids:
                x0, y0, x1, y1 = (float(v) for v in np.clip(instances.boxes[i], 0, limit))
                results.append(
                    {
                        "image_id": sample.image_id,
                        "category_id": category_ids[name],
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "score": float(instances.scores[i]),
                        "segmentation": masks.rle(instances.masks[i], instances.boxes[i], **size),
                    }
                )
    return results


def average_precision(
    dataset: Coco,
    image_ids: list[int],
    results: list[dict[str, Any]],
    kind: str,
    *,
    category_ids: Sequence[int] | None = None,
) -> dict[str, float]:
    """COCO's numbers for `kind` "bbox" or "segm", each between 0 and 1, or -1 where there is no such object.

    category_ids: which of the dataset's categories count; all by default.
    """
    if not results:
        return dict.fromkeys(REPORTED, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        truth = truth_of(dataset, kind)
        # with a box in it, pycocotools would take a mask's size from the box
        left_out = "bbox" if kind == "segm" else "segmentation"
        kept = [{key: value for key, value in result.items() if key != left_out} for result in results]
        evaluation = COCOeval(truth, truth.loadRes(kept), kind)
        evaluation.params.imgIds = image_ids
        if category_ids is not None:
            evaluation.params.catIds = list(category_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    numbers = dict(zip(METRICS, (float(value) for value in evaluation.stats), strict=False))
    return {name: numbers[name] for name in REPORTED}


def truth_of(dataset: Coco, kind: str) -> COCO:
    """The dataset as pycocotools wants it: what a file may leave out filled in.

    An object whose mask is unknown counts neither way in the mask AP, like a crowd.
    """
    content = json.loads(dataset.path.read_text())
    for number, annotation in enumerate(content["annotations"], start=1):
        x, y, width, height = annotation["bbox"]
        annotation["id"] = number
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", width * height)
        if kind == "segm" and not annotation.get("segmentation"):
            annotation["iscrowd"] = 1
            annotation["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    truth = COCO()
    truth.dataset = content
    truth.createIndex()
    return truth


def best_min_score(
    found: list[tuple[Sample, Instances]], *, class_names: Sequence[str] | None = None, iou: float = 0.5
) -> float:
    """The score threshold with the best F1 of boxes of their class at this IoU, in steps of 0.01.

    class_names: name of every class id of the samples; the model's own by default.
    """
    scores, hits, total = [], [], 0
    for sample, instances in found:
        truth, ignored = sample.boxes[~sample.crowd], sample.boxes[sample.crowd]
        total += len(truth)
        names = class_names or instances.class_names
        true_names = [names[i] for i in sample.class_ids[~sample.crowd]]
        same = np.array([[name == other for other in true_names] for name in instances.names], bool)
        overlap = masks.box_iou(instances.boxes, truth) * same.reshape(len(instances), len(truth))
        taken = np.zeros(len(truth), bool)
        for i in np.argsort(-instances.scores):
            row = np.where(taken, 0.0, overlap[i]) if len(truth) else np.zeros(0)
            hit = bool(len(row)) and row.max() >= iou
            if hit:
                taken[row.argmax()] = True
            elif len(ignored) and _share_inside(instances.boxes[i], ignored) > 0.5:
                continue
            scores.append(float(instances.scores[i]))
            hits.append(hit)
    candidates = np.arange(0.05, 0.96, 0.01)
    kept = [np.array(scores) >= threshold for threshold in candidates]
    f1 = [2 * np.sum(np.array(hits)[k]) / max(1, k.sum() + total) for k in kept]
    return round(float(candidates[int(np.argmax(f1))]), 2)


def _share_inside(box: np.ndarray, regions: np.ndarray) -> float:
    size = np.minimum(box[2:], regions[:, 2:]) - np.maximum(box[:2], regions[:, :2])
    return float(np.prod(np.maximum(size, 0), axis=1).max() / max(float(np.prod(box[2:] - box[:2])), 1e-6))


def evaluate(
    model: str,
    data: Path | Component,
    *,
    engine: str = "auto",
    precision: str | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """COCO box and mask AP of a model on a COCO json: {"model", "images", "seconds", "box": {…}, "mask": {…}}.

    data: the json, or a dataset of a configuration. Raises UsageError when model and data have no class in common.
    """
    dataset = plugins.build("datasets", data.name, data.options) if isinstance(data, Component) else Coco(path=data)
    if not isinstance(dataset, Coco):
        raise UsageError(f"expected a coco dataset to evaluate on, got {type(dataset).__name__}")
    options: dict[str, Any] = {"model": model}
    if precision is not None:
        options["precision"] = precision
    runner = plugins.build("engines", engine, options)
    shared = [name for name in runner.class_names[1:] if name in dataset.class_names]
    if not shared:
        raise UsageError(
            f"{dataset.path}: expected at least one class of the model ({', '.join(runner.class_names[1:])}), "
            f"got {', '.join(dataset.class_names[1:])}"
        )
    started = time.monotonic()
    found = detect_all(runner, dataset, limit=limit, progress=progress)
    seconds = time.monotonic() - started
    category_ids = {name: dataset.category_ids[dataset.class_names.index(name)] for name in shared}
    results = coco_results(found, category_ids)
    image_ids = [sample.image_id for sample, _ in found]
    return {
        "model": Path(model).name,
        "images": len(found),
        "seconds": round(seconds, 2),
        "box": average_precision(dataset, image_ids, results, "bbox", category_ids=list(category_ids.values())),
        "mask": average_precision(dataset, image_ids, results, "segm", category_ids=list(category_ids.values())),
    }
