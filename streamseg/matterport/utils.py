"""The functions of the original's `utils` that its notebooks and people's scripts call: same names, arguments, results.

Boxes are y1, x1, y2, x2 in pixels unless "normalised" (`streamseg.molding`), masks (H, W, n) with the objects last.
    n, g, p objects, true objects, predictions
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamseg import molding, zoo
from streamseg.evaluation import average_precision as voc
from streamseg.fetch import fetch
from streamseg.types import UsageError

if TYPE_CHECKING:
    from streamseg.matterport.dataset import Dataset as Dataset


def __getattr__(name: str) -> Any:
    """`Dataset`, which scripts look for here and which itself needs this module."""
    if name == "Dataset":
        from streamseg.matterport.dataset import Dataset

        return Dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# --- boxes ------------------------------------------------------------------------------------------------------------


def extract_bboxes(mask: np.ndarray) -> np.ndarray:
    """The boxes (n, 4) int32 of masks (H, W, n); zeros for an empty mask."""
    boxes = np.zeros((mask.shape[-1], 4), np.int32)
    for i, plane in enumerate(np.moveaxis(np.asarray(mask, bool), -1, 0)):
        rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        if len(rows):
            boxes[i] = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    return boxes


def compute_iou(box: np.ndarray, boxes: np.ndarray, box_area: float, boxes_area: np.ndarray) -> np.ndarray:
    """Intersection over union (n,) of one box (4,) with boxes (n, 4) of known areas; 0 where neither has an area."""
    height = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    width = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    common = np.maximum(height, 0) * np.maximum(width, 0)
    return _share(common, box_area + boxes_area - common)


def compute_overlaps(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Intersection over union (n, g) float64 of boxes1 (n, 4) with boxes2 (g, 4)."""
    overlaps = np.zeros((len(boxes1), len(boxes2)))
    boxes1, boxes2 = (boxes.astype(int) if boxes.dtype.kind == "u" else boxes for boxes in (boxes1, boxes2))
    areas1, areas2 = _areas(boxes1), _areas(boxes2)
    for j, box in enumerate(boxes2):
        overlaps[:, j] = compute_iou(box, boxes1, areas2[j], areas1)
    return overlaps


def compute_overlaps_masks(masks1: np.ndarray, masks2: np.ndarray) -> np.ndarray:
    """Intersection over union (n, g) float32 of masks1 (H, W, n) with masks2 (H, W, g), inside above 0.5.

    Raises UsageError for masks of different heights or widths.
    """
    if masks1.shape[-1] and masks2.shape[-1] and masks1.shape[:2] != masks2.shape[:2]:
        raise UsageError(
            f"masks: expected two sets of one height and width, got {masks1.shape[:2]} and {masks2.shape[:2]}; "
            "mini masks become whole ones by expand_mask, or load_image_gt with use_mini_mask=False"
        )
    return voc.overlaps(masks1, masks2)


def box_refinement(box: np.ndarray, gt_box: np.ndarray) -> np.ndarray:
    """The deltas (n, 4) float32 (dy, dx, log dh, log dw) that lead from boxes (n, 4) to true boxes (n, 4)."""
    box, gt_box = np.asarray(box, np.float32), np.asarray(gt_box, np.float32)
    size, gt_size = box[:, 2:] - box[:, :2], gt_box[:, 2:] - gt_box[:, :2]
    shift = (gt_box[:, :2] + 0.5 * gt_size - box[:, :2] - 0.5 * size) / size
    return np.concatenate([shift, np.log(gt_size / size)], axis=1)


def apply_box_deltas(boxes: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) moved by deltas (n, 4) (dy, dx, log dh, log dw): float32."""
    boxes, deltas = np.asarray(boxes, np.float32), np.asarray(deltas, np.float32)
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + 0.5 * size + deltas[:, :2] * size
    size = size * np.exp(deltas[:, 2:])
    corner = centre - 0.5 * size
    return np.concatenate([corner, corner + size], axis=1)


def norm_boxes(boxes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Boxes (n, 4) in pixels of a picture of `shape` (height, width), normalised: float32."""
    return molding.normalise(boxes, shape)


def denorm_boxes(boxes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Normalised boxes (n, 4) in whole pixels of a picture of `shape` (height, width): int32."""
    return molding.denormalise(boxes, shape)


def non_max_suppression(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """The rows int32 of boxes (n, 4) that stay, best first: one goes when a better one overlaps it by more."""
    boxes = np.asarray(boxes, np.float32)
    areas, waiting = _areas(boxes), voc.best_first(scores)
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        waiting = waiting[compute_iou(boxes[best], boxes[waiting], areas[best], areas[waiting]) <= threshold]
    return np.array(kept, np.int32)


def trim_zeros(x: np.ndarray) -> np.ndarray:
    """The rows of x (n, c) that are not all zero."""
    filled: np.ndarray = x[(x != 0).any(axis=1)]
    return filled


def _areas(boxes: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where the whole is 0."""
    shares = np.zeros(whole.shape, np.result_type(part, whole, np.float32))
    np.divide(part, whole, out=shares, where=whole != 0)
    return shares


# --- pictures and masks -----------------------------------------------------------------------------------------------


def resize(
    image: np.ndarray,
    output_shape: Sequence[int],
    order: int = 1,
    mode: str = "constant",
    cval: float = 0,
    clip: bool = True,
    preserve_range: bool = False,
    anti_aliasing: bool = False,
    anti_aliasing_sigma: float | None = None,
) -> np.ndarray:
    """The picture (h, w) or (h, w, c) at `output_shape` (height, width): float64.

    order: 1 bilinear, 0 nearest · preserve_range: integers stay what they are; else they are divided by the most that
    their type holds, so that they become 0 to 1. Raises UsageError for what the original never asked for: another
    order, another border than zeros, no clipping, anti-aliasing.
    """
    asked = {"mode": mode, "cval": cval, "clip": bool(clip), "anti_aliasing": bool(anti_aliasing)}
    for name, only in {"mode": "constant", "cval": 0, "clip": True, "anti_aliasing": False}.items():
        if asked[name] != only:
            raise UsageError(f"resize: expected {name}={only!r}, got {asked[name]!r}; cv2.resize has other ways")
    if order not in (0, 1):
        raise UsageError(f"resize: expected order 0, nearest, or 1, bilinear, got {order!r}; cv2.resize has others")
    resized = molding.resize(image, output_shape[:2]) if order else _nearest(np.asarray(image, float), output_shape)
    scales = np.issubdtype(image.dtype, np.integer) and not preserve_range
    return resized / np.iinfo(image.dtype).max if scales else resized


def _nearest(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The picture (h, w, …) at `shape` (height, width), each cell that of the old one its middle lies in."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * (old / new)).astype(int), old - 1)
        for old, new in zip(image.shape[:2], shape[:2], strict=True)
    )
    resized: np.ndarray = image[rows[:, None], columns]
    return resized


def resize_image(
    image: np.ndarray,
    min_dim: int | None = None,
    max_dim: int | None = None,
    min_scale: float | None = None,
    mode: str = "square",
) -> tuple[np.ndarray, tuple[int, ...], float, list[tuple[int, int]], tuple[int, ...] | None]:
    """The picture (h, w, c) as the network takes it: image, window, scale, padding and crop (`molding.Mold`).

    mode: `none`, `square`, `pad64` or `crop`, whose random corner comes from the module `random`.
    """
    height, width = image.shape[:2]
    mold = molding.Mold.fit(height, width, mode=mode, min_side=min_dim, max_side=max_dim, min_scale=min_scale)
    molded = mold.picture(image)
    return np.array(molded) if molded is image else molded, mold.window, mold.scale, list(mold.padding), mold.crop


def resize_mask(
    mask: np.ndarray, scale: float, padding: Sequence[Sequence[int]], crop: Sequence[int] | None = None
) -> np.ndarray:
    """Masks (h, w, n) scaled, padded and cut as `resize_image` did with their picture: same dtype."""
    resized = molding.pad_or_cut(molding.resize_nearest(mask, scale), padding, crop)
    return np.array(resized) if resized is mask else resized


def minimize_mask(bbox: np.ndarray, mask: np.ndarray, mini_shape: Sequence[int]) -> np.ndarray:
    """Masks (H, W, n) cut to their boxes (n, 4) and resized to mini_shape (h, w): (h, w, n) bool.

    Raises ValueError for a box without area.
    """
    mini = np.zeros((*mini_shape[:2], mask.shape[-1]), bool)
    for i in range(mask.shape[-1]):
        y1, x1, y2, x2 = (int(v) for v in bbox[i][:4])
        inside = mask[y1:y2, x1:x2, i]
        if not inside.size:
            raise ValueError(f"bbox {i}: expected one with an area inside the mask, got {[y1, x1, y2, x2]}")
        mini[..., i] = np.around(molding.resize(inside.astype(bool), mini_shape[:2]))
    return mini


def expand_mask(bbox: np.ndarray, mini_mask: np.ndarray, image_shape: Sequence[int] | np.ndarray) -> np.ndarray:
    """Mini masks (h, w, n) back in their boxes (n, 4) of a picture of `image_shape`: (H, W, n) bool.

    A box without area, such as the zero rows that fill up a batch, shows nothing.
    """
    mask = np.zeros((*image_shape[:2], mini_mask.shape[-1]), bool)
    for i in range(mini_mask.shape[-1]):
        y1, x1, y2, x2 = (int(v) for v in bbox[i][:4])
        if y2 > y1 and x2 > x1:
            mask[y1:y2, x1:x2, i] = np.around(molding.resize(mini_mask[..., i], (y2 - y1, x2 - x1)))
    return mask


def unmold_mask(mask: np.ndarray, bbox: Sequence[int] | np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """A predicted mask (m, m) in [0, 1] in its box (4,) of a picture of `image_shape`: (H, W) bool."""
    return molding.paste(mask, bbox, shape=image_shape)


# --- the network's input ----------------------------------------------------------------------------------------------


def mold_image(images: np.ndarray, config: Any) -> np.ndarray:
    """The picture (…, 3) with config.MEAN_PIXEL taken off: float64."""
    return np.asarray(images, np.float32) - np.asarray(config.MEAN_PIXEL, np.float64)


def unmold_image(normalized_images: np.ndarray, config: Any) -> np.ndarray:
    """The picture (…, 3) uint8 that `mold_image` was given."""
    # 17 - 123.7 + 123.7 may fall an ulp below 17, which is 17 all the same.
    return np.around(np.asarray(normalized_images) + np.asarray(config.MEAN_PIXEL, np.float64)).astype(np.uint8)


def compose_image_meta(
    image_id: int,
    original_image_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Sequence[int],
    scale: float,
    active_class_ids: Sequence[int] | np.ndarray,
) -> np.ndarray:
    """All that is known of a molded picture in one row (12 + number of classes,)."""
    return np.array([image_id, *original_image_shape, *image_shape, *window, scale, *active_class_ids])


def parse_image_meta(meta: np.ndarray) -> dict[str, np.ndarray]:
    """Rows (B, 12 + K) of `compose_image_meta` taken apart, each part named and int32, `scale` float32."""
    return {
        "image_id": meta[:, 0].astype(np.int32),
        "original_image_shape": meta[:, 1:4].astype(np.int32),
        "image_shape": meta[:, 4:7].astype(np.int32),
        "window": meta[:, 7:11].astype(np.int32),
        "scale": meta[:, 11].astype(np.float32),
        "active_class_ids": meta[:, 12:].astype(np.int32),
    }


def compute_backbone_shapes(config: Any, image_shape: Sequence[int] | np.ndarray) -> np.ndarray:
    """Height and width in cells of every level, (L, 2), for an input of `image_shape`."""
    return np.array([[-(-side // stride) for side in image_shape[:2]] for stride in config.BACKBONE_STRIDES])


def generate_anchors(
    scales: Sequence[float] | float,
    ratios: Sequence[float],
    shape: Sequence[int],
    feature_stride: int,
    anchor_stride: int,
) -> np.ndarray:
    """The anchors (A, 4) float64 in pixels of one level of `shape` (height, width) cells.

    Order: y, x, ratio, scale. Centres lie on the cells' first corner, at every anchor_stride-th cell.
    """
    sizes, roots = np.atleast_1d(np.asarray(scales, float)), np.sqrt(np.asarray(ratios, float))[:, None]
    half = 0.5 * np.stack([(sizes / roots).ravel(), (sizes * roots).ravel()], axis=1)  # (a, 2) height, width
    y, x = (np.arange(0, count, anchor_stride) * feature_stride for count in shape[:2])
    centres = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)[:, :, None]  # (rows, columns, 1, 2)
    return np.concatenate([centres - half, centres + half], axis=-1).reshape(-1, 4)


def generate_pyramid_anchors(
    scales: Sequence[float],
    ratios: Sequence[float],
    feature_shapes: Sequence[Sequence[int]] | np.ndarray,
    feature_strides: Sequence[int],
    anchor_stride: int,
) -> np.ndarray:
    """The anchors (A, 4) float64 in pixels of all levels, one scale a level, finest level first.

    Levels beyond the last scale have none.
    """
    levels = list(zip(scales, feature_shapes, feature_strides, strict=False))
    if len(levels) < len(scales):
        raise UsageError(f"scales: expected at most {len(levels)}, one a level, got {len(scales)}")
    return np.concatenate(
        [generate_anchors(scale, ratios, shape, stride, anchor_stride) for scale, shape, stride in levels]
    )


# --- metrics ----------------------------------------------------------------------------------------------------------


def compute_matches(
    gt_boxes: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_masks: np.ndarray,
    pred_boxes: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    pred_masks: np.ndarray,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who found whom in one picture: gt_match (g,), pred_match (p,), overlaps (p, g); predictions best first.

    A match is the other's row or -1. Each prediction, best first, takes the true object of its class that it overlaps
    most and that is free; one of another class is passed over. Zero rows of both box lists are padding.
    score_threshold: true objects that a prediction overlaps by less are not looked at.
    """
    gt_boxes, pred_boxes = trim_zeros(gt_boxes), trim_zeros(pred_boxes)
    order = voc.best_first(pred_scores[: len(pred_boxes)])
    overlaps = compute_overlaps_masks(pred_masks[..., order], gt_masks[..., : len(gt_boxes)])
    threshold = max(iou_threshold, score_threshold)
    pred_match, gt_match = voc.match(overlaps, pred_class_ids[order], gt_class_ids[: len(gt_boxes)], iou=threshold)
    return gt_match, pred_match, overlaps


def compute_ap(
    gt_boxes: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_masks: np.ndarray,
    pred_boxes: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    pred_masks: np.ndarray,
    iou_threshold: float = 0.5,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """VOC's average precision of one picture, classes pooled: AP, precisions, recalls (p + 2,), overlaps (p, g).

    Without a true object it is 0 if there is no prediction either, else NaN.
    """
    _, pred_match, overlaps = compute_matches(
        gt_boxes, gt_class_ids, gt_masks, pred_boxes, pred_class_ids, pred_scores, pred_masks, iou_threshold
    )
    num_true = overlaps.shape[1]
    precisions, recalls = voc.precision_recall(pred_match, max(num_true, 1))
    ap = voc.area_under(precisions, recalls) if num_true or not len(pred_match) else float("nan")
    return ap, precisions, recalls, overlaps


def compute_ap_range(
    gt_box: np.ndarray,
    gt_class_id: np.ndarray,
    gt_mask: np.ndarray,
    pred_box: np.ndarray,
    pred_class_id: np.ndarray,
    pred_score: np.ndarray,
    pred_mask: np.ndarray,
    iou_thresholds: Sequence[float] | np.ndarray | None = None,
    verbose: int = 1,
) -> float:
    """The mean of `compute_ap` over IoU thresholds (default 0.5, 0.55 … 0.95); verbose prints each."""
    thresholds = voc.RANGE if iou_thresholds is None else np.asarray(iou_thresholds)
    found = gt_box, gt_class_id, gt_mask, pred_box, pred_class_id, pred_score, pred_mask
    precisions = [compute_ap(*found, iou_threshold=threshold)[0] for threshold in thresholds]
    mean = float(np.mean(precisions))
    if verbose:
        for threshold, precision in zip(thresholds, precisions, strict=True):
            print(f"AP @{threshold:.2f}:\t {precision:.3f}")
        print(f"AP @{thresholds[0]:.2f}-{thresholds[-1]:.2f}:\t {mean:.3f}")
    return mean


def compute_recall(pred_boxes: np.ndarray, gt_boxes: np.ndarray, iou: float) -> tuple[float, np.ndarray]:
    """The share of true boxes (g, 4) that are the best of some prediction (p, 4) with that IoU, and those rows."""
    return voc.box_recall(compute_overlaps(pred_boxes, gt_boxes), iou=iou)


# --- weights ----------------------------------------------------------------------------------------------------------


def download_trained_weights(coco_model_path: str | Path, verbose: int = 1) -> None:
    """Fetch the original's COCO weights to a path; what is there with their checksum stays. Raises ModelError.

    verbose shows a progress bar on stderr.
    """
    coco, path = _coco(), Path(coco_model_path)
    by_hand = f"fetch the file elsewhere and put it at {path}"
    fetch(coco.url, path, checksum=coco.checksum, by_hand=by_hand, progress=bool(verbose))


def _coco() -> zoo.WeightsFile:
    coco = zoo.KNOWN["coco"]
    assert isinstance(coco, zoo.WeightsFile)
    return coco


COCO_MODEL_URL = _coco().url
"""Where the original's COCO weights lie."""
