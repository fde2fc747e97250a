"""The original's `data_generator`: endless batches of molded pictures with their targets, for a look at them.

A training of `MaskRCNN.train` makes its own batches (`streamseg.matterport.train`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from streamseg.matterport.augmentation import pictures_of
from streamseg.matterport.config import Config
from streamseg.matterport.dataset import Dataset
from streamseg.matterport.targets import build_detection_targets, build_rpn_targets, generate_random_rois
from streamseg.matterport.truth import load_image_gt
from streamseg.matterport.utils import compute_backbone_shapes, generate_pyramid_anchors, mold_image
from streamseg.types import UsageError

Arrays = list[np.ndarray]


def data_generator(
    dataset: Dataset,
    config: Config,
    shuffle: bool = True,
    augment: bool = False,
    augmentation: Any = None,
    random_rois: int = 0,
    batch_size: int = 1,
    detection_targets: bool = False,
    no_augmentation_sources: Sequence[str] | None = None,
) -> Iterator[tuple[Arrays, Arrays]]:
    """Batches of B = batch_size pictures without end: what a network in training takes, and what it should put out.

    The first list: images (B, H, W, 3) float32 less the mean, metas (B, 12 + K), which anchors are learned on (B, A, 1)
    and their deltas (B, RPN_TRAIN_ANCHORS_PER_IMAGE, 4) by `build_rpn_targets`, class ids (B, M), boxes (B, M, 4) and
    masks (B, h, w, M) of at most M = MAX_GT_INSTANCES objects, a random choice of more. With random_rois so many random
    boxes (B, random_rois, 4), and with detection_targets too the sample of them (B, S, 4) that the second list is of:
    class ids (B, S, 1), deltas (B, S, K, 4), masks (B, S, h, w, K) by `build_detection_targets`.

    shuffle: the pictures come in another order at each pass · augment, augmentation: as in `load_image_gt`, but for
    pictures of no_augmentation_sources. Pictures without an object are left out. Raises UsageError when there is no
    other, or for detection_targets without random_rois.
    """
    if detection_targets and not random_rois:
        raise UsageError("detection_targets: expected random_rois too, of which they are made, got 0")
    unchanged = pictures_of(dataset, no_augmentation_sources)
    anchors = generate_pyramid_anchors(
        config.RPN_ANCHOR_SCALES,
        config.RPN_ANCHOR_RATIOS,
        compute_backbone_shapes(config, config.IMAGE_SHAPE),
        config.BACKBONE_STRIDES,
        config.RPN_ANCHOR_STRIDE,
    )
    inputs: list[Arrays] = []
    outputs: list[Arrays] = []
    for image_id in _in_order(dataset, shuffle):
        changes = None if image_id in unchanged else augmentation
        truth = load_image_gt(dataset, config, image_id, augment, changes, config.USE_MINI_MASK)
        if not (truth[2] > 0).any():
            continue
        given, wanted = _row(truth, anchors, config, random_rois=random_rois, detection_targets=detection_targets)
        inputs.append(given)
        outputs.append(wanted)
        if len(inputs) == batch_size:
            yield _stacked(inputs), _stacked(outputs)
            inputs, outputs = [], []


def _in_order(dataset: Dataset, shuffle: bool) -> Iterator[int]:
    """The pictures' numbers again and again. Raises UsageError where none of them shows an object."""
    image_ids = np.array(dataset.image_ids)
    if not any((np.asarray(dataset.load_mask(int(image_id))[1]) > 0).any() for image_id in image_ids):
        raise UsageError(f"{type(dataset).__name__}: none of its {len(image_ids)} pictures shows an object")
    while True:
        if shuffle:
            np.random.shuffle(image_ids)
        yield from map(int, image_ids)


def _row(
    truth: tuple[np.ndarray, ...], anchors: np.ndarray, config: Config, *, random_rois: int, detection_targets: bool
) -> tuple[Arrays, Arrays]:
    """What one picture adds to the arrays of a batch."""
    image, meta, class_ids, boxes, masks = truth
    match, deltas = build_rpn_targets(image.shape, anchors, class_ids, boxes, config)
    most = config.MAX_GT_INSTANCES
    if len(boxes) > most:
        chosen = np.random.choice(len(boxes), most, replace=False)
        class_ids, boxes, masks = class_ids[chosen], boxes[chosen], masks[..., chosen]
    padding = most - len(boxes)
    given = [
        mold_image(image, config).astype(np.float32),
        meta,
        match[:, None],
        deltas,
        np.pad(class_ids.astype(np.int32), (0, padding)),
        np.pad(boxes, ((0, padding), (0, 0))),
        np.pad(masks, ((0, 0), (0, 0), (0, padding))),
    ]
    if not random_rois:
        return given, []
    rois = generate_random_rois(image.shape, random_rois, class_ids, boxes)
    given.append(rois)
    if not detection_targets:
        return given, []
    sampled, ids, roi_deltas, roi_masks = build_detection_targets(rois, class_ids, boxes, masks, config)
    return [*given, sampled], [ids[:, None], roi_deltas, roi_masks]


def _stacked(rows: list[Arrays]) -> Arrays:
    """The arrays of several pictures as arrays of a batch. Raises UsageError for pictures of different sizes."""
    sizes = sorted({row[0].shape[:2] for row in rows if row})
    if len(sizes) > 1:
        raise UsageError(f"batch_size: expected pictures that become inputs of one size, got {sizes}")
    return [np.stack(arrays) for arrays in zip(*rows, strict=True)]
