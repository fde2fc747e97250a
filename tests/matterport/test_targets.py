"""What the original's notebooks look at before a training: its targets, its batches, its augmented pictures."""

from __future__ import annotations

import copy
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

import streamseg.matterport.model as modellib
from streamseg.matterport import Config, utils
from streamseg.types import UsageError
from tests.matterport.conftest import Recorded
from tests.matterport.test_dataset import Squares


class Tiny(Config):
    NUM_CLASSES = 3
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    TRAIN_ROIS_PER_IMAGE = 20
    MAX_GT_INSTANCES = 5
    MINI_MASK_SHAPE = (14, 14)


def anchors_of(side: int) -> np.ndarray:
    shapes = modellib.compute_backbone_shapes(Tiny(), (side, side))
    return utils.generate_pyramid_anchors(Tiny.RPN_ANCHOR_SCALES, [0.5, 1, 2], shapes, Tiny.BACKBONE_STRIDES, 1)


# --- anchors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["a", "b", "crowd"])
def test_anchors_are_asked_what_the_original_asked_of_them(case: str, shapes128: Recorded) -> None:
    arrays, facts = shapes128.arrays("targets"), shapes128.facts("training")["rpn"][case]
    truth = arrays[f"rpn_{case}_class_ids"], arrays[f"rpn_{case}_gt_boxes"]
    config = Tiny()
    config.RPN_TRAIN_ANCHORS_PER_IMAGE = 2 * 4092  # all that there is
    match, deltas = modellib.build_rpn_targets((128, 128, 3), anchors_of(128), *truth, config)
    assert match.dtype == np.int32 and deltas.dtype == np.float64
    np.testing.assert_array_equal(match, arrays[f"rpn_{case}_match_all"])
    wanted = arrays[f"rpn_{case}_bbox_all"]
    np.testing.assert_allclose(deltas[: len(wanted)], wanted, atol=1e-12)
    assert not deltas[len(wanted) :].any()
    for count, name in ((256, "default256"), (16, "limit16")):
        config.RPN_TRAIN_ANCHORS_PER_IMAGE = count
        match, deltas = modellib.build_rpn_targets((128, 128, 3), anchors_of(128), *truth, config)
        assert ((match == 1).sum(), (match == -1).sum()) == (facts[name]["positives"], facts[name]["negatives"])
        assert list(deltas.shape) == facts[name]["bbox_shape"]


def test_the_asked_deltas_lead_from_the_anchors_to_the_objects() -> None:
    """As the notebooks check it, and with more positives than may be taken."""
    config, boxes = Tiny(), np.array([[4, 8, 24, 30], [30, 30, 60, 58]], np.int32)
    config.RPN_TRAIN_ANCHORS_PER_IMAGE = 4
    anchors = np.concatenate([anchors_of(64), boxes, boxes, boxes])
    match, deltas = modellib.build_rpn_targets((64, 64, 3), anchors, np.array([1, 2]), boxes, config)
    assert ((match == 1).sum(), (match == -1).sum()) == (2, 2)
    moved = utils.apply_box_deltas(anchors[match == 1], deltas[:2] * config.RPN_BBOX_STD_DEV)
    assert all(any(np.allclose(box, each, atol=1e-3) for each in boxes) for box in moved)


# --- boxes ------------------------------------------------------------------------------------------------------------


def test_random_boxes_lie_around_the_objects_and_a_tenth_anywhere() -> None:
    boxes = np.array([[10, 10, 20, 30], [40, 50, 64, 64]], np.int32)
    rois = modellib.generate_random_rois((64, 64, 3), 200, np.array([1, 2]), boxes)
    assert rois.shape == (200, 4) and rois.dtype == np.int32
    y1, x1, y2, x2 = rois.T
    assert (y1 < y2).all() and (x1 < x2).all() and rois.min() >= 0 and rois.max() <= 64
    first, second = rois[:90], rois[90:180]
    assert first[:, 2].max() <= 30 and first[:, 3].max() <= 50  # its height and its width beyond it
    assert second[:, 0].min() >= 16 and second[:, 1].min() >= 36
    narrow = modellib.generate_random_rois((64, 64, 3), 20, np.array([1]), np.array([[0, 0, 1, 1]]))
    assert (narrow[:18, 2:] - narrow[:18, :2] == 1).all()


@pytest.mark.parametrize("mini", [True, False])
def test_boxes_are_asked_for_the_object_they_overlap_by_more_than_half(mini: bool) -> None:
    config = Tiny()
    config.USE_MINI_MASK, config.ROI_POSITIVE_RATIO = mini, 0.5
    boxes = np.array([[0, 0, 20, 20], [30, 30, 50, 50], [0, 0, 0, 0]], np.int32)
    class_ids = np.array([2, 1, 0], np.int32)
    masks = np.zeros((64, 64, 3), bool)
    masks[:20, :20, 0] = masks[30:50, 30:40, 1] = True  # a full square, and the left half of one
    if mini:
        masks = np.concatenate([utils.minimize_mask(boxes[:2], masks[..., :2], (14, 14)), np.zeros((14, 14, 1))], 2)
    far = [[50 + i, 0, 60, 20] for i in range(4)]
    rois = np.array([[0, 0, 20, 15], [0, 0, 20, 10], [30, 30, 50, 50], *far], np.int32)
    found, ids, deltas, shown = modellib.build_detection_targets(rois, class_ids, boxes, masks.astype(bool), config)
    assert found.shape == (20, 4) and ids.shape == (20,) and ids.dtype == np.int32
    assert deltas.shape == (20, 3, 4) and shown.shape == (20, 28, 28, 3)
    assert ids[:2].tolist() == [2, 1] and not ids[2:].any()
    assert found[:2].tolist() == rois[[0, 2]].tolist()  # half of an object is neither
    counts = Counter(map(tuple, found[2:].tolist()))
    assert set(counts) == set(map(tuple, far)) and sum(counts.values()) == 18  # again and again
    # from the middle at 7.5 to that at 10, and log(20 / 15) wider: in units of .1 and .2
    np.testing.assert_allclose(deltas[0, 2], [0, 2.5 / 15 / 0.1, 0, np.log(20 / 15) / 0.2], atol=1e-5)
    assert not deltas[0, :2].any() and not deltas[1:].any()
    assert shown[0, 2:-2, 2:-2, 2].min() == 1 and not shown[0, ..., :2].any()
    assert shown[1, 2:-2, 2:12, 1].min() == 1 and shown[1, :, 16:, 1].max() == 0


def test_positives_are_a_share_and_fill_up_where_there_is_nothing_else() -> None:
    config, box = Tiny(), np.array([[0, 0, 20, 20]], np.int32)
    mask = np.ones((14, 14, 1), bool)
    near, far = np.tile(box, (30, 1)), np.tile([[40, 40, 60, 60]], (30, 1))
    truth = np.array([1], np.int32), box, mask, config
    _, ids, _, _ = modellib.build_detection_targets(np.concatenate([near, far]), *truth)
    assert ids.sum() == 6  # int(20 · .33)
    _, ids, _, shown = modellib.build_detection_targets(near[:3], *truth)
    assert ids.tolist() == [1] * 20 and shown[..., 1].any(axis=(1, 2)).all()
    with pytest.raises(UsageError, match="expected an object and a box at least, got 0 objects and 30 boxes"):
        modellib.build_detection_targets(near, np.zeros(1, np.int32), box, mask, config)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_holds_pictures_targets_and_truth_in_the_originals_order() -> None:
    config, dataset = Tiny(), Squares(class_ids=(1, 2))
    (images, metas, match, deltas, class_ids, boxes, masks), wanted = next(
        modellib.data_generator(dataset, config, shuffle=False, batch_size=2)
    )
    assert wanted == []
    assert images.shape == (2, 64, 64, 3) and images.dtype == np.float32
    assert modellib.parse_image_meta(metas)["image_id"].tolist() == [0, 1]
    assert match.shape == (2, 3 * (16**2 + 8**2 + 4**2 + 2**2 + 1), 1) and deltas.shape == (2, 256, 4)
    assert class_ids.tolist() == [[1, 2, 0, 0, 0]] * 2 and class_ids.dtype == np.int32
    assert boxes.shape == (2, 5, 4) and masks.shape == (2, 14, 14, 5) and masks.dtype == bool
    image, _, _, truth, _ = modellib.load_image_gt(dataset, config, 1)
    np.testing.assert_array_equal(modellib.unmold_image(images[1], config), image)
    np.testing.assert_array_equal(boxes[1, :2], truth)
    assert not boxes[:, 2:].any() and not masks[..., 2:].any()


def test_a_batch_with_random_boxes_holds_the_sample_of_them_and_its_targets() -> None:
    config = Tiny()
    config.USE_MINI_MASK = False
    generator = modellib.data_generator(
        Squares(), config, shuffle=True, random_rois=50, batch_size=4, detection_targets=True
    )
    for _ in range(2):
        given, (ids, deltas, masks) = next(generator)
        assert given[6].shape == (4, 64, 64, 5)  # whole masks
        assert given[7].shape == (4, 50, 4) and given[8].shape == (4, 20, 4)
        assert ids.shape == (4, 20, 1) and deltas.shape == (4, 20, 3, 4) and masks.shape == (4, 20, 28, 28, 3)
        for b, i in np.argwhere(ids[..., 0] > 0):
            moved = utils.apply_box_deltas(given[8][b, [i]], deltas[b, [i], ids[b, i, 0]] * config.BBOX_STD_DEV)
            np.testing.assert_allclose(moved, given[5][b, :1], atol=1e-3)
    with pytest.raises(UsageError, match="detection_targets: expected random_rois too"):
        next(modellib.data_generator(Squares(), config, detection_targets=True))


def test_every_picture_comes_once_a_pass_and_those_without_an_object_never() -> None:
    class Second(Squares):
        def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
            masks, class_ids = super().load_mask(image_id)
            return (masks, class_ids) if image_id != 1 else (np.empty((0, 0, 0)), np.empty(0, np.int32))

    generator = modellib.data_generator(Second(), Tiny(), shuffle=True)
    seen = [int(next(generator)[0][1][0, 0]) for _ in range(8)]
    assert Counter(seen) == {0: 4, 2: 4} and all(set(seen[i : i + 2]) == {0, 2} for i in (0, 2, 4, 6))
    with pytest.raises(UsageError, match="Squares: none of its 3 pictures shows an object"):
        next(modellib.data_generator(Squares(class_ids=()), Tiny()))


def test_more_objects_than_are_kept_are_a_random_choice() -> None:
    given, _ = next(modellib.data_generator(Squares(class_ids=(1, 2) * 6), Tiny()))
    assert given[4].shape == (1, 5) and (given[4] > 0).all()


# --- augmentation -----------------------------------------------------------------------------------------------------


class Mirrored:
    """An augmenter of imgaug's kind."""

    def to_deterministic(self) -> Mirrored:
        return copy.copy(self)

    def augment_image(self, image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(image[:, ::-1])


def mirrored(box: np.ndarray) -> list[int]:
    y1, x1, y2, x2 = box
    return [y1, 64 - x2, y2, 64 - x1]


@pytest.mark.parametrize("how", [Mirrored(), {"flip_left_right": True}])
def test_a_picture_is_augmented_after_molding_with_its_masks(how: Any) -> None:
    config, dataset = Tiny(), Squares()
    np.random.seed(2)
    plain, _, _, (box,), _ = modellib.load_image_gt(dataset, config, 0)
    found = [modellib.load_image_gt(dataset, config, 0, augmentation=how) for _ in range(12)]
    seen = {tuple(boxes[0]) for *_, boxes, _ in found}
    assert seen == {tuple(mirrored(box))} if isinstance(how, Mirrored) else seen == {tuple(box), tuple(mirrored(box))}
    for image, _, class_ids, boxes, masks in found:
        turned = tuple(boxes[0]) != tuple(box)
        np.testing.assert_array_equal(image, plain[:, ::-1] if turned else plain)
        assert utils.extract_bboxes(masks).tolist() == boxes.tolist() and class_ids.tolist() == [1]


def test_augment_mirrors_half_of_the_pictures_and_mini_masks_come_by_position() -> None:
    config, dataset = Tiny(), Squares()
    random.seed(4)
    (box,) = modellib.load_image_gt(dataset, config, 0)[3]
    found = Counter(tuple(modellib.load_image_gt(dataset, config, 0, True)[3][0]) for _ in range(40))
    assert set(found) == {tuple(box), tuple(mirrored(box))} and min(found.values()) > 10
    masks = modellib.load_image_gt(dataset, config, 0, False, None, True)[4]
    assert masks.shape == (14, 14, 1)


def test_pictures_of_some_sources_are_left_as_they_are() -> None:
    def first_box(sources: list[str]) -> list[int]:
        generator = modellib.data_generator(
            Squares(), Tiny(), False, augmentation=Mirrored(), no_augmentation_sources=sources
        )
        box: list[int] = next(generator)[0][5][0, 0].tolist()
        return box

    (box,) = modellib.load_image_gt(Squares(), Tiny(), 0)[3]
    assert first_box(["squares"]) == box.tolist() and first_box([]) == mirrored(box)


def test_an_augmentation_that_cannot_be_done_is_named() -> None:
    config = Tiny()
    config.IMAGE_RESIZE_MODE = "pad64"
    with pytest.raises(UsageError, match="fields of AugmentConfig change square inputs only, got 64 × 128"):
        modellib.load_image_gt(Squares(), config, 0, augmentation={"flip_left_right": True})
    with pytest.raises(UsageError, match="augmentation: expected fields of AugmentConfig"):
        modellib.load_image_gt(Squares(), config, 0, augmentation="flips")
