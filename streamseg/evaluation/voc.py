"""VOC's mAP of pictures: matterport/Mask_RCNN's average precision over masks, the mean over pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamseg.evaluation.average_precision import average_precision, average_precision_range, best_first, overlaps
from streamseg.evaluation.objects import Comparison, that_count


def voc_average_precision(pictures: Sequence[Comparison], *, min_score: float, iou: float = 0.5) -> dict[str, Any]:
    """The mAP at `iou` and over IoU 0.5 to 0.95 of the found objects from `min_score` up.

    {"AP", "iou", "AP_range", "images", "min_score"}. A picture without a true object has no AP and is left out; images
    says how many count. Without any, both are -1.
    """
    at_iou, over_range = [], []
    for picture in pictures:
        truth, found = that_count(picture)
        if not len(truth):
            continue
        found = found[found.scores >= min_score]
        found = found[best_first(found.scores)]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(truth.names + found.names))}
        class_ids, true_ids = (np.array([numbers[name] for name in each.names], int) for each in (found, truth))
        overlap = overlaps(found.masks, truth.masks)
        at_iou.append(average_precision(overlap, class_ids, true_ids, iou=iou))
        over_range.append(average_precision_range(overlap, class_ids, true_ids))
    return {
        "AP": float(np.mean(at_iou)) if at_iou else -1.0,
        "iou": iou,
        "AP_range": float(np.mean(over_range)) if over_range else -1.0,
        "images": len(at_iou),
        "min_score": min_score,
    }
