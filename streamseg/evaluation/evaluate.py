"""How good a model is, measured with the engine that streams run on: COCO's AP, VOC's, the Data Science Bowl's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from streamseg import plugins
from streamseg.config import Component
from streamseg.datasets._picture_files import picture_size
from streamseg.engines._molded import Molded, can_mold
from streamseg.engines._voting import Look, Voting
from streamseg.evaluation.bowl import mean_precision
from streamseg.evaluation.coco import coco_average_precision
from streamseg.evaluation.objects import Comparison, found_objects, true_objects
from streamseg.evaluation.submission import check_submission, write_submission
from streamseg.evaluation.voc import voc_average_precision
from streamseg.masks import box_iou
from streamseg.pictures import ENDINGS, is_picture
from streamseg.training.data import read_rgb
from streamseg.types import Dataset, Engine, Frame, InputError, Sample, UsageError
from streamseg.words import nearest

METRICS = ("coco", "voc", "bowl")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Method:
    """How a model is measured.

    metrics: of METRICS · min_score: from which found objects count in `voc` and `bowl` and stand in a submission; None:
    the model's own · iou: at which `voc` is told beside its range · limit: only so many pictures, the first · views:
    ways to look at each picture · min_votes: share of them that must see an object · dilation: found masks grow so many
    times by the pixels beside, above and below · submission: CSV to write
    """

    metrics: tuple[str, ...] = ("coco",)
    min_score: float | None = None
    iou: float = 0.5
    limit: int | None = None
    views: tuple[Look, ...] = ()
    min_votes: float = 0.5
    dilation: int = 0
    submission: Path | None = None

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in METRICS:
                raise UsageError(f"no metric is called {name!r}{nearest(name, METRICS)}")


class Unlabelled:
    """The pictures of a folder and of the folders in it, without any truth: to write a submission of."""

    class_names: tuple[str, ...] = ("background",)

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(p for p in folder.rglob("*") if is_picture(p) and p.parent.name != "masks")
        if not self.paths:
            raise InputError(f"{folder}: expected pictures ({', '.join(sorted(ENDINGS))}) in it or below, found none")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        width, height = picture_size(self.paths[index])
        boxes, none = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
        return Sample(index, self.paths[index], width, height, boxes, none, (), none.astype(bool))


def open_parts(data: Path | Sequence[Component]) -> list[Dataset]:
    """The pictures to measure on: of a COCO json, of a configuration's datasets, or of a folder, without truth."""
    if not isinstance(data, Path):
        return [plugins.build("datasets", each.name, each.options) for each in data]
    if data.is_dir():
        return [Unlabelled(data)]
    return [plugins.build("datasets", "coco", {"path": data})]


def read_frame(sample: Sample, index: int) -> Frame:
    """A sample's picture as a frame. Raises InputError when it cannot be read."""
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(read_rgb(sample)), format="rgb24")
    return Frame(picture, index, float(index), 0.0, sample.path.stem)


def look_at(
    dataset: Dataset,
    engine: Engine,
    *,
    limit: int | None = None,
    dilation: int = 0,
    progress: Progress = lambda done, total: None,
) -> list[Comparison]:
    """The pictures of a dataset in order, with what is true of them and what the engine finds.

    Only classes that both know are kept, and all of them where the dataset knows none.
    """
    shared = set(engine.class_names[1:]) & set(dataset.class_names[1:] or engine.class_names[1:])
    count = len(dataset) if limit is None else min(limit, len(dataset))
    pictures: list[Comparison] = []
    for start in range(0, count, engine.batch_size):
        samples = [dataset[i] for i in range(start, min(start + engine.batch_size, count))]
        frames = [read_frame(sample, start + i) for i, sample in enumerate(samples)]
        for sample, instances in zip(samples, engine.predict(frames), strict=True):
            size = {"width": sample.width, "height": sample.height}
            instances = instances.of(*shared) if shared else instances[:0]
            found = found_objects(instances, dilation=dilation, **size)
            truth = true_objects(sample, dataset.class_names).of(shared)
            pictures.append(Comparison(sample.path.stem, truth=truth, found=found, **size))
        progress(len(pictures), count)
    return pictures


def evaluate(
    model: str,
    data: Path | Sequence[Component],
    *,
    method: Method = Method(),  # noqa: B008 - it is frozen
    engine: str = "auto",
    options: Mapping[str, Any] | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """A model measured: {"model", "images", "seconds", "box": {…}, "mask": {…}, "voc": {…}, "bowl": {…}}.

    data: a COCO json, the datasets of a configuration, or for a submission a folder of pictures · options: further ones
    of the engine. `box` and `mask` are of the metric `coco`. Raises UsageError when model and data have no class in
    common.
    """
    parts = open_parts(data)
    unlabelled = any(isinstance(part, Unlabelled) for part in parts)
    if method.submission is not None and method.submission.suffix.lower() != ".csv":
        raise UsageError(f"--submission {method.submission}: expected a file ending in .csv")
    if unlabelled and (method.metrics or method.submission is None):
        raise UsageError(f"{data}: a folder of pictures has no truth to measure on; it is for a submission alone")
    runner: Engine = plugins.build("engines", engine, {"model": model, **(options or {})})
    folder = getattr(runner, "folder", None)  # of engines that run a model
    if folder is not None and can_mold(folder.config):
        runner = Molded(runner, folder.config)
    known = list(dict.fromkeys(name for part in parts for name in part.class_names[1:]))
    shared = [name for name in runner.class_names[1:] if name in known]
    if not shared and not unlabelled:
        raise UsageError(
            f"{data if isinstance(data, Path) else ', '.join(each.name for each in data)}: expected at least one class "
            f"of the model ({', '.join(runner.class_names[1:])}), got {', '.join(known)}"
        )
    if method.views:
        runner = Voting(runner, views=method.views, min_votes=method.min_votes)
    if method.submission is not None:  # not only after all pictures were looked at
        names = [path.stem for part in parts if isinstance(part, Unlabelled) for path in part.paths]
        check_submission(method.submission, names[: method.limit])
    started = time.monotonic()
    pictures = _look_at_all(parts, runner, method, progress)
    figures: dict[str, Any] = {
        "model": Path(model).name,
        "images": len(pictures),
        "seconds": round(time.monotonic() - started, 2),
    }
    min_score = runner.min_score if method.min_score is None else method.min_score
    if "coco" in method.metrics:
        figures["box"] = coco_average_precision(pictures, "bbox", class_names=shared)
        figures["mask"] = coco_average_precision(pictures, "segm", class_names=shared)
    if "voc" in method.metrics:
        figures["voc"] = voc_average_precision(pictures, min_score=min_score, iou=method.iou)
    if "bowl" in method.metrics:
        figures["bowl"] = mean_precision(pictures, min_score=min_score)
    if method.submission is not None:
        count = write_submission(method.submission, pictures, min_score=min_score)
        figures["submission"] = {"path": str(method.submission), "objects": count, "min_score": min_score}
    return figures


def _look_at_all(parts: Sequence[Dataset], engine: Engine, method: Method, progress: Progress) -> list[Comparison]:
    total = sum(len(part) for part in parts)
    total = total if method.limit is None else min(total, method.limit)
    pictures: list[Comparison] = []
    for part in parts:
        before = len(pictures)
        pictures += look_at(
            part,
            engine,
            limit=total - before,
            dilation=method.dilation,
            progress=lambda done, _, before=before: progress(before + done, total),  # type: ignore[misc]
        )
    return pictures


def best_min_score(pictures: Sequence[Comparison], *, iou: float = 0.5) -> float:
    """The score threshold with the best F1 of boxes of their class at this IoU, in steps of 0.01."""
    scores, hits, total = [], [], 0
    for picture in pictures:
        truth, ignored, found = picture.truth[~picture.truth.crowd], picture.truth[picture.truth.crowd], picture.found
        total += len(truth)
        same = np.array([[name == other for other in truth.names] for name in found.names], bool)
        overlap = box_iou(found.boxes, truth.boxes) * same.reshape(len(found), len(truth))
        taken = np.zeros(len(truth), bool)
        for i in np.argsort(-found.scores):
            row = np.where(taken, 0.0, overlap[i]) if len(truth) else np.zeros(0)
            hit = bool(len(row)) and row.max() >= iou
            if hit:
                taken[row.argmax()] = True
            elif len(ignored) and _share_inside(found.boxes[i], ignored.boxes) > 0.5:
                continue
            scores.append(float(found.scores[i]))
            hits.append(hit)
    candidates = np.arange(0.05, 0.96, 0.01)
    kept = [np.array(scores) >= threshold for threshold in candidates]
    f1 = [2 * np.sum(np.array(hits)[k]) / max(1, k.sum() + total) for k in kept]
    return round(float(candidates[int(np.argmax(f1))]), 2)


def _share_inside(box: np.ndarray, regions: np.ndarray) -> float:
    size = np.minimum(box[2:], regions[:, 2:]) - np.maximum(box[:2], regions[:, :2])
    return float(np.prod(np.maximum(size, 0), axis=1).max() / max(float(np.prod(box[2:] - box[:2])), 1e-6))
