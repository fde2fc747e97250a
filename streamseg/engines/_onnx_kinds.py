"""What the outputs of a foreign network mean: each kind's shapes, and boxes, scores, classes and masks read off them.

    Q queries or places, K columns of classes, P prototypes, N objects
    M cells a side of a mask, (h, w) cells of a plane

From the descriptions of the formats: RF-DETR's export (`detr`), the outputs of YOLO segmentation with and without
suppression (`yolo`, `yolo_end2end`), torchvision's detection models (`mask_rcnn`), MMDeploy's instance segmentation
(`full`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from streamseg.config import OnnxConfig
from streamseg.engines._cells import of_planes, of_prototypes, sigmoid
from streamseg.engines._decisions import best_rows, nms
from streamseg.engines._shapes import Dimensions

WEAKEST = 0.05
"""Score of the weakest detection that an engine returns."""

CANDIDATES = 3000
"""Best places of `yolo` that are held against each other; a picture rarely has a tenth of them."""

Outputs: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Reading:
    """How outputs are read: the knobs of the file and the size of its input in pixels.

    numbers (K,) int32: ours of each class as the file counts, 0 for one that is left out
    """

    config: OnnxConfig
    width: int
    height: int
    numbers: np.ndarray

    @property
    def columns(self) -> np.ndarray | slice:
        """The columns of classes that count: a slice where it is all of them, so that nothing is copied."""
        kept = np.flatnonzero(self.numbers)
        return slice(None) if len(kept) == len(self.numbers) else kept

    @property
    def grid(self) -> dict[str, int]:
        return {"size": self.config.mask_size, "width": self.width, "height": self.height}


@dataclass(frozen=True)
class Candidates:
    """What a file says of one picture, in no order.

    boxes (N, 4) xyxy in pixels of the input · scores (N,) · classes (N,) as the file counts, from 0 · masks: of the
    objects at some indices (n,), in boxes (n, 4) for them: (n, M, M) float32 in [0, 1] · cuttable: whether these boxes
    may be smaller than the objects' own, because a mask is looked up in planes and does not come with its box
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: Callable[[np.ndarray, np.ndarray], np.ndarray]
    cuttable: bool = True


@dataclass(frozen=True)
class OutputKind:
    """What a file of a kind gives. shapes: role -> its shape; alternatives where there are several."""

    shapes: Mapping[str, tuple[Dimensions, ...]]
    read: Callable[[Outputs, Reading], Candidates]


def _detr(outputs: Outputs, reading: Reading) -> Candidates:
    """Every pair of a query and a class is a candidate; the best of all pairs are taken, and nothing is suppressed."""
    columns, logits = reading.columns, outputs["labels"][0]
    classes = np.arange(logits.shape[1])[columns]
    flat = logits[:, columns].ravel()
    best = best_rows(flat, reading.config.max_detections)
    queries = best // len(classes)
    planes = outputs["masks"][0]
    size = np.array([reading.width, reading.height] * 2, np.float32)

    def masks(chosen: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return sigmoid(of_planes(planes, queries[chosen], boxes, **reading.grid))

    boxes = _from_centres(outputs["dets"][0][queries]) * size
    return Candidates(boxes, sigmoid(flat[best]), classes[best % len(classes)], masks)


def _yolo(outputs: Outputs, reading: Reading) -> Candidates:
    """The best class of each place; in each class the best boxes suppress those that they overlap."""
    rows, prototypes = outputs["rows"][0], outputs["prototypes"][0]
    columns, num_classes = reading.columns, len(reading.numbers)
    classes = np.arange(num_classes)[columns]
    likely = rows[4 : 4 + num_classes][columns]  # (K, Q)
    best = likely.max(axis=0)
    places = np.flatnonzero(best >= WEAKEST)
    places = places[best_rows(best[places], CANDIDATES)]
    boxes, classes = _from_centres(rows[:4, places].T), classes[likely[:, places].argmax(axis=0)]
    config = reading.config
    kept = nms(boxes, threshold=config.nms_threshold, most=config.max_detections, groups=classes)
    weights = rows[4 + num_classes :, places[kept]].T
    return _mixed(boxes[kept], best[places[kept]], classes[kept], weights, prototypes, reading)


def _yolo_end2end(outputs: Outputs, reading: Reading) -> Candidates:
    """Rows of a box, its score, its class and its weights of the prototypes, judged already."""
    rows = outputs["rows"][0]
    classes = rows[:, 5].astype(np.int64)
    return _mixed(rows[:, :4], rows[:, 4], classes, rows[:, 6:], outputs["prototypes"][0], reading)


def _mask_rcnn(outputs: Outputs, reading: Reading) -> Candidates:
    """A row an object; its mask spans its box."""
    own = outputs["masks"]
    small = own.reshape(len(own), *own.shape[-2:])
    return Candidates(
        outputs["boxes"], outputs["scores"], outputs["labels"], lambda chosen, boxes: small[chosen], cuttable=False
    )


def _full(outputs: Outputs, reading: Reading) -> Candidates:
    """A row an object, and beside it its mask of the whole input, which is left at once."""
    rows, planes = outputs["dets"][0], outputs["masks"][0]

    def masks(chosen: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return of_planes(planes, chosen, boxes, **reading.grid)

    return Candidates(rows[:, :4], rows[:, 4], outputs["labels"][0], masks)


KINDS: Mapping[str, OutputKind] = {
    "detr": OutputKind(
        {"dets": ((1, "Q", 4),), "labels": ((1, "Q", "K"),), "masks": ((1, "Q", "h", "w"),)},
        _detr,
    ),
    "yolo": OutputKind({"prototypes": ((1, "P", "h", "w"),), "rows": ((1, "4+K+P", "Q"),)}, _yolo),
    "yolo_end2end": OutputKind({"prototypes": ((1, "P", "h", "w"),), "rows": ((1, "N", "6+P"),)}, _yolo_end2end),
    "mask_rcnn": OutputKind(
        {
            "boxes": (("N", 4),),
            "labels": (("N",),),
            "scores": (("N",),),
            "masks": (("N", 1, "M", "M"), ("N", "M", "M")),
        },
        _mask_rcnn,
    ),
    "full": OutputKind({"dets": ((1, "N", 5),), "labels": ((1, "N"),), "masks": ((1, "N", "h", "w"),)}, _full),
}
"""Kind -> what it gives, in the order in which the shapes are compared."""


def _mixed(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    weights: np.ndarray,
    prototypes: np.ndarray,
    reading: Reading,
) -> Candidates:
    """Objects whose masks are sums of prototypes (P, h, w) by their weights (N, P)."""

    def masks(chosen: np.ndarray, over: np.ndarray) -> np.ndarray:
        return sigmoid(of_prototypes(weights[chosen], prototypes, over, **reading.grid))

    return Candidates(boxes, scores, classes, masks)


def _from_centres(boxes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) as corners, from their middles, widths and heights."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
