"""What a training would have asked of the network on one picture: its targets for anchors, proposals and masks.

G true objects, A anchors, S sampled proposals, m cells along a side of a true mask, M of a predicted one. Boxes are
xyxy in pixels of the network's input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from keras import ops

from streamseg import plugins, zoo
from streamseg.config import Component, ExperimentConfig, TrainingConfig, read_config, read_yaml
from streamseg.inspection.steps import Steps
from streamseg.letterbox import in_pixels, normalised
from streamseg.model import boxes as box_ops
from streamseg.model import targets
from streamseg.model.anchors import anchors_in_pixels
from streamseg.model_folder import ModelFolder
from streamseg.outlines import mini_mask
from streamseg.training.data import damage_named
from streamseg.types import Dataset, InputError, Sample, UsageError

_KNOBS = {name: field.default for name, field in TrainingConfig.model_fields.items()}


@dataclass(frozen=True)
class Rules:
    """The knobs of a training that decide its targets; the defaults are `TrainingConfig`'s."""

    rpn_positive_iou: float = _KNOBS["rpn_positive_iou"]
    rpn_negative_iou: float = _KNOBS["rpn_negative_iou"]
    rpn_samples: int = _KNOBS["rpn_samples"]
    roi_samples: int = _KNOBS["roi_samples"]
    roi_positives: float = _KNOBS["roi_positives"]
    mini_mask: int = _KNOBS["mini_mask"]

    @classmethod
    def of(cls, training: TrainingConfig) -> Rules:
        return cls(**{each.name: getattr(training, each.name) for each in dataclasses.fields(cls)})

    @classmethod
    def that_made(cls, model: ModelFolder) -> Rules:
        """Those of the training that made a model, as far as its folder tells them."""
        config = model.path / zoo.CONFIG
        stated = read_yaml(config).get("training") if config.is_file() else None
        known = stated if isinstance(stated, dict) else {}
        names = [each.name for each in dataclasses.fields(cls)]
        return cls(**{name: known[name] for name in names if isinstance(known.get(name), int | float)})


@dataclass(frozen=True)
class Truth:
    """The objects that the targets are made from.

    origin: where they come from, in words · annotated: by people, and not the model's own detections · boxes (G, 4) ·
    class_ids (G,) int32 · crowd, masked (G,) bool: a region of many objects; the mask is known · mini_masks (G, m, m)
    in [0, 1]
    """

    origin: str
    annotated: bool
    boxes: np.ndarray
    class_ids: np.ndarray
    crowd: np.ndarray
    masked: np.ndarray
    mini_masks: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def annotations(cls, sample: Sample, steps: Steps, *, origin: str, side: int = Rules.mini_mask) -> Truth:
        """What a sample says, its class ids those of the model."""
        size = {"width": sample.width, "height": sample.height, "side": side}
        masked = np.array([mask is not None for mask in sample.masks], bool) & ~sample.crowd
        masks = np.zeros((len(masked), side, side), np.float32)
        for i in np.flatnonzero(masked):
            masks[i] = mini_mask(sample.masks[i], sample.boxes[i], **size) / np.float32(255)
        boxes = steps.letterbox.to_input(sample.boxes)
        return cls(origin, True, boxes, sample.class_ids.astype(np.int32), sample.crowd, masked, masks)

    @classmethod
    def detections(cls, steps: Steps, *, side: int = Rules.mini_mask) -> Truth:
        """The model's own firm detections, or all where none is firm, as if they were true."""
        rows = steps.found
        firm = rows[steps.detections[rows, 4] >= steps.config.min_score]
        rows = firm if len(firm) else rows
        masks = [cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR) for mask in steps.class_masks[rows]]
        found = steps.detections[rows]
        return cls(
            "the model's own detections",
            False,
            found[:, :4],
            found[:, 5].astype(np.int32),
            np.zeros(len(rows), bool),
            np.ones(len(rows), bool),
            np.array(masks, np.float32).reshape(len(rows), side, side),
        )


@dataclass(frozen=True)
class Targets:
    """What a training would ask of the network on this picture, one draw of its samples.

    positive, negative (A,) bool: sampled anchors, the rest is neutral · num_positive, num_negative: of all anchors,
    before the draw · anchor_truth (A,) int32: the object that an anchor belongs to · anchor_deltas, refined (P, 4):
    the deltas asked of the positive anchors, and the anchors moved by them
    rois (S, 4): sampled proposals · roi_class_ids (S,) int32, 0 background, -1 not sampled · roi_truth (S,) int32
    mask_rois (R,) int32: the positive ones of `rois` whose mask is known · masks (R, M, M) in [0, 1]
    """

    truth: Truth
    positive: np.ndarray
    negative: np.ndarray
    num_positive: int
    num_negative: int
    anchor_truth: np.ndarray
    anchor_deltas: np.ndarray
    refined: np.ndarray
    rois: np.ndarray
    roi_class_ids: np.ndarray
    roi_truth: np.ndarray
    mask_rois: np.ndarray
    masks: np.ndarray

    @property
    def neutral(self) -> np.ndarray:
        """Anchors (A,) bool that neither loss looks at."""
        unused: np.ndarray = ~(self.positive | self.negative)
        return unused


def make_targets(steps: Steps, truth: Truth, rules: Rules = Rules()) -> Targets:  # noqa: B008 - it is frozen
    """The targets of a picture with these true objects, by the rules of the model's family, drawn with a fixed seed."""
    config = steps.config
    height, width = steps.image.shape[:2]
    anchors = anchors_in_pixels(config, width, height)
    # one row of padding, so that a picture without objects has something to compare with
    boxes = np.concatenate([truth.boxes, np.zeros((1, 4))]).astype(np.float32)
    valid, crowd = np.r_[~truth.crowd, False], np.r_[truth.crowd, False]
    seed = keras.random.SeedGenerator(0)
    choose = targets.matterport_anchor_targets if config.family == "matterport" else targets.anchor_targets

    def drawn(samples: int) -> list[np.ndarray]:
        ious = {"positive_iou": rules.rpn_positive_iou, "negative_iou": rules.rpn_negative_iou}
        given = map(ops.convert_to_tensor, (anchors, boxes[None], valid[None], crowd[None]))
        return [_array(each)[0] for each in choose(*given, samples=samples, seed=seed, **ious)]

    positive, negative, anchor_truth = drawn(rules.rpn_samples)
    every_positive, every_negative, _ = drawn(2 * len(anchors))
    chosen, goal = ops.convert_to_tensor(anchors[positive]), ops.convert_to_tensor(boxes[anchor_truth[positive]])
    deltas = box_ops.find_deltas(chosen, goal, config.rpn_delta_std)
    refined = box_ops.apply_deltas(chosen, deltas, config.rpn_delta_std)

    rois, roi_positive, roi_negative, roi_truth = _sampled_rois(steps, boxes, valid, crowd, rules, seed)
    ids = np.r_[truth.class_ids, 0][roi_truth]
    mask_rois = np.flatnonzero(roi_positive & np.r_[truth.masked, False][roi_truth]).astype(np.int32)
    return Targets(
        truth=truth,
        positive=positive,
        negative=negative,
        num_positive=int(every_positive.sum()),
        num_negative=int(every_negative.sum()),
        anchor_truth=anchor_truth,
        anchor_deltas=_array(deltas),
        refined=_array(refined),
        rois=rois,
        roi_class_ids=np.where(roi_positive, ids, np.where(roi_negative, 0, -1)).astype(np.int32),
        roi_truth=roi_truth,
        mask_rois=mask_rois,
        masks=_masks_in(steps, truth, rois[mask_rois], roi_truth[mask_rois]),
    )


def _sampled_rois(
    steps: Steps, boxes: np.ndarray, valid: np.ndarray, crowd: np.ndarray, rules: Rules, seed: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A draw of proposals (S, 4), which are positive and which negative (S,) bool, and their true object (S,) int32."""
    height, width = steps.image.shape[:2]
    proposals, real = steps.proposals, steps.real
    options: dict[str, Any] = {"positives": rules.roi_positives, "seed": seed}
    if steps.config.family == "matterport":
        proposals = normalised(proposals, width, height) * real[:, None]
        given = map(
            ops.convert_to_tensor, (x[None] for x in (proposals, normalised(boxes, width, height), valid, crowd))
        )
        drawn = targets.matterport_roi_targets(*given, samples=rules.roi_samples, **options)
        rois, *rest = (_array(each)[0] for each in drawn)
        return in_pixels(rois, width, height) * rois.any(axis=1, keepdims=True), *rest
    given = map(ops.convert_to_tensor, (x[None] for x in (proposals, real, boxes, valid, crowd)))
    samples = min(rules.roi_samples, len(proposals) + len(boxes))
    rois, *rest = (_array(each)[0] for each in targets.roi_targets(*given, samples=samples, **options))
    return rois, *rest


def _masks_in(steps: Steps, truth: Truth, rois: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """What rois (R, 4) should show of the masks of their objects (R,): (R, M, M) in [0, 1]."""
    side = 2 * steps.config.mask_pool
    if not len(rois):
        return np.zeros((0, side, side), np.float32)
    height, width = steps.image.shape[:2]
    masks, boxes = truth.mini_masks[objects], truth.boxes[objects].astype(np.float32)
    if steps.config.family == "matterport":
        parts = (np.round(masks), *(normalised(each, width, height) for each in (boxes, rois)))
        return _array(targets.matterport_mask_targets(*map(ops.convert_to_tensor, parts), size=side))
    return _array(targets.mask_targets(*map(ops.convert_to_tensor, (masks, boxes, rois)), size=side))


def _array(tensor: Any) -> np.ndarray:
    return np.array(ops.convert_to_numpy(tensor))


# --- the annotations of a picture -------------------------------------------------------------------------------------


def annotated(
    picture: str | Path, data: str | Path, class_names: Sequence[str]
) -> tuple[Sample, TrainingConfig | None]:
    """The sample of a picture in a dataset, its class ids those of `class_names`, and the training that names that.

    picture: a file, by path or name, or a position such as `3` · data: a COCO json, or a training's YAML file, whose
    `val` is looked through before its `train`. Objects of classes that `class_names` lacks are left out.
    Raises UsageError when the dataset does not have the picture.
    """
    data, training = Path(data), None
    components: list[Component] = [Component(name="coco", options={"path": str(data)})]
    if data.suffix in (".yaml", ".yml"):
        training = read_config(data, ExperimentConfig).training
        if training is None:
            raise UsageError(f"{data}: it names no pictures; expected `train` in its `training` section")
        components = [*(training.val or ()), *training.train]
    total = 0
    for component in components:
        dataset: Dataset = plugins.build("datasets", component.name, component.options)
        if (sample := _find(dataset, picture)) is not None:
            return _with_ids(sample, dataset.class_names, class_names), training
        total += len(dataset)
    raise UsageError(f"--data {data}: none of its {total} pictures is {picture}")


def _find(dataset: Dataset, picture: str | Path) -> Sample | None:
    """The sample of a file, or at a position where no file is meant."""
    path = Path(picture)
    if str(picture).isdigit() and not path.exists():
        return dataset[int(str(picture))] if int(str(picture)) < len(dataset) else None
    named, damaged = [], None
    for i in range(len(dataset)):
        try:
            with damage_named(i):
                sample = dataset[i]
        except InputError as error:  # of another picture, perhaps
            damaged = error
            continue
        if sample.path.name == path.name:
            named.append(sample)
    if damaged and not named:
        raise damaged
    same = [sample for sample in named if path.exists() and sample.path.exists() and sample.path.samefile(path)]
    return next(iter(same or named), None)


def _with_ids(sample: Sample, names: Sequence[str], class_names: Sequence[str]) -> Sample:
    """A sample of a dataset's classes `names` with the class ids of `class_names`, without what that lacks."""
    ids = {i: list(class_names).index(name) for i, name in enumerate(names) if name in class_names}
    rows = np.array([i for i, id_ in enumerate(sample.class_ids) if int(id_) in ids], int)
    return dataclasses.replace(
        sample,
        boxes=sample.boxes[rows],
        class_ids=np.array([ids[int(sample.class_ids[i])] for i in rows], np.int32),
        masks=tuple(sample.masks[i] for i in rows),
        crowd=sample.crowd[rows],
        areas=None if sample.areas is None else sample.areas[rows],
    )
