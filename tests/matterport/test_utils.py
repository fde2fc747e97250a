"""The utils against slow, obvious twins and by properties; none of it needs a recording."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.matterport import utils
from streamseg.molding import Mold, resize, resize_nearest
from streamseg.types import ModelError, UsageError

RNG = np.random.default_rng(4)


def bilinear(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Half-pixel bilinear of (h, w), one value at a time; outside is 0."""
    h, w = array.shape
    out = np.zeros((height, width))
    for i, j in itertools.product(range(height), range(width)):
        y, x = (i + 0.5) * h / height - 0.5, (j + 0.5) * w / width - 0.5
        for r, c in itertools.product(range(h), range(w)):
            out[i, j] += array[r, c] * max(0, 1 - abs(y - r)) * max(0, 1 - abs(x - c))
    return np.clip(out, array.min(), array.max())


@pytest.mark.parametrize("shape", [(7, 9), (3, 4), (1, 13), (12, 1), (5, 6), (10, 12)])
def test_resize_is_bilinear_with_zeros_outside_and_clipped(shape: tuple[int, int]) -> None:
    array = RNG.normal(size=(5, 6))
    np.testing.assert_allclose(resize(array, shape), bilinear(array, *shape), atol=1e-12)


def test_an_enlarged_border_fades_no_further_than_the_darkest_pixel() -> None:
    assert resize(np.full((2, 2), 100.0), (8, 8)).min() == 100  # nothing darker there: no fading at all
    enlarged = resize(np.array([[80.0, 100.0]] * 2), (4, 8))
    assert enlarged.min() == 80 and enlarged[0, -1] == 80  # ¾ · ¾ · 100 is below


def test_a_resized_picture_is_cut_to_whole_levels_not_rounded() -> None:
    image = np.dstack([np.array([[0, 255]] * 2, np.uint8)] * 3)
    resized, *_ = utils.resize_image(image, min_dim=4, max_dim=4)
    # the inner columns lie at 0.25 and 0.75 between 0 and 255: 63.75 and 191.25
    assert resized[1, :, 0].tolist() == [0, 63, 191, 191]


@given(
    height=st.integers(20, 700),
    width=st.integers(20, 700),
    mode=st.sampled_from(["square", "pad64", "crop"]),
    min_scale=st.sampled_from([0, None, 1.5]),
)
def test_a_mold_fits_its_own_window(height: int, width: int, mode: str, min_scale: float | None) -> None:
    mold = Mold.fit(height, width, mode=mode, min_side=64, max_side=256, min_scale=min_scale)
    y1, x1, y2, x2 = mold.window
    (top, bottom), (left, right), _ = mold.padding
    if mode == "crop":
        y, x, crop_height, crop_width = mold.crop or (0, 0, 0, 0)
        assert (y2, x2) == (crop_height, crop_width) == (64, 64)
        assert 0 <= y <= mold.height - 64 and 0 <= x <= mold.width - 64
        return
    assert (y1, x1, y2 - y1, x2 - x1) == (top, left, mold.height, mold.width)
    assert 0 <= bottom - top <= 1 and 0 <= right - left <= 1
    input_height, input_width = top + mold.height + bottom, left + mold.width + right
    if mode == "square":
        assert (input_height, input_width) == (256, 256)
    else:
        assert input_height % 64 == input_width % 64 == 0 and bottom + top < 64 and right + left < 64


def test_the_modes_scale_as_they_say() -> None:
    def scale(mode: str, height: int, width: int, **sizes: float | None) -> float:
        return utils.resize_image(np.zeros((height, width, 3), np.uint8), mode=mode, **sizes)[2]  # type: ignore[arg-type]

    assert scale("square", 100, 100, min_dim=200, max_dim=400) == 2
    assert scale("square", 100, 250, min_dim=200, max_dim=400) == 1.6  # the longer side is full
    assert scale("square", 800, 500, min_dim=200, max_dim=400) == 0.5
    assert scale("square", 300, 300, min_dim=200, max_dim=400) == 1  # never made smaller for min_dim
    assert scale("pad64", 100, 250, min_dim=128, max_dim=128) == 1.28  # max_dim is not looked at
    assert scale("crop", 100, 250, min_dim=64, min_scale=1.5) == 1.5
    assert scale("none", 100, 250, min_dim=640) == 1


def test_a_picture_that_fits_is_left_alone() -> None:
    image = RNG.integers(0, 256, (128, 64, 3), np.uint8)
    for mode in ("none", "pad64"):
        resized, window, scale, padding, crop = utils.resize_image(image, min_dim=64, mode=mode)
        np.testing.assert_array_equal(resized, image)
        assert (window, scale, crop) == ((0, 0, 128, 64), 1, None)
        assert padding == [(0, 0), (0, 0), (0, 0)]


def test_crop_takes_its_corner_from_the_module_random() -> None:
    image = RNG.integers(0, 256, (90, 120, 3), np.uint8)
    random.seed(5)
    first = utils.resize_image(image, min_dim=64, mode="crop")
    random.seed(5)
    again = utils.resize_image(image, min_dim=64, mode="crop")
    y, x, height, width = first[4] or ()
    assert first[4] == again[4]
    np.testing.assert_array_equal(first[0], image[y : y + height, x : x + width])
    corners = {utils.resize_image(image, min_dim=64, mode="crop")[4] for _ in range(20)}
    assert len(corners) > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "sqare", "max_dim": 64}, "expected none, square, pad64, crop, got 'sqare'"),
        ({"mode": "pad64", "min_dim": 100}, "multiple of 64, got 100"),
        ({"mode": "square"}, "'square' needs max_dim"),
        ({"mode": "crop"}, "'crop' needs min_dim"),
    ],
)
def test_what_cannot_be_resized_says_why(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        utils.resize_image(np.zeros((10, 10, 3), np.uint8), **arguments)


def test_masks_are_resized_like_scipy_does_it() -> None:
    from scipy import ndimage

    for side, scale in itertools.product((1, 2, 7, 50, 64), (0.3, 0.75, 1.0, 1.37, 2.2, 3.0)):
        if round(side * scale):
            array = np.arange(1, side * 3 + 1).reshape(side, 3, 1)
            wanted = ndimage.zoom(array, (scale, scale, 1), order=0)
            np.testing.assert_array_equal(resize_nearest(array, scale), wanted)


def test_masks_move_with_their_picture() -> None:
    image, masks = np.zeros((60, 100, 3), np.uint8), np.zeros((60, 100, 1), bool)
    image[10:40, 20:80], masks[10:40, 20:80] = 255, True
    resized, _, scale, padding, crop = utils.resize_image(image, min_dim=120, max_dim=256)
    moved = utils.resize_mask(masks, scale, padding, crop)
    assert moved.shape == (256, 256, 1) and moved.dtype == bool
    assert ((resized[..., 0] > 127) == moved[..., 0]).mean() > 0.99


def test_a_box_holds_its_mask_and_nothing_more() -> None:
    masks = np.zeros((20, 30, 3), bool)
    masks[3:9, 5:6, 0] = True
    masks[[0, 19], [29, 2], 1] = True
    assert utils.extract_bboxes(masks).tolist() == [[3, 5, 9, 6], [0, 2, 20, 30], [0, 0, 0, 0]]


def test_mini_masks_come_back_almost_as_they_were() -> None:
    y, x = np.mgrid[:200, :200]
    masks = np.dstack([(y - 90) ** 2 + (x - 100) ** 2 < 60**2, (abs(y - 50) < 30) & (abs(x - 60) < 45)])
    boxes = utils.extract_bboxes(masks)
    mini = utils.minimize_mask(boxes, masks, (56, 56))
    assert mini.shape == (56, 56, 2) and mini.dtype == bool
    back = utils.expand_mask(boxes, mini, (200, 200, 3))
    assert np.diag(utils.compute_overlaps_masks(masks, back)).min() > 0.97


def test_a_mask_without_pixels_cannot_be_made_small() -> None:
    with pytest.raises(ValueError, match=r"expected one with an area inside the mask, got \[0, 0, 0, 0\]"):
        utils.minimize_mask(np.zeros((1, 4), int), np.zeros((8, 8, 1), bool), (4, 4))


def test_a_predicted_mask_lies_in_its_box_from_one_half_up() -> None:
    full = utils.unmold_mask(np.full((28, 28), 0.5, np.float32), (2, 3, 12, 9), (20, 30, 3))
    assert full.dtype == bool and full.sum() == 60 and full[2:12, 3:9].all()
    assert not utils.unmold_mask(np.full((28, 28), 0.499, np.float32), (2, 3, 12, 9), (20, 30)).any()


def boxes_of(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 40, (count, 2))
    return np.hstack([corners, corners + rng.integers(1, 30, (count, 2))])


def test_overlaps_are_common_pixels_over_all_pixels() -> None:
    def painted(box: np.ndarray) -> np.ndarray:
        y1, x1, y2, x2 = box
        canvas = np.zeros((80, 80), bool)
        canvas[y1:y2, x1:x2] = True
        return canvas

    a, b = boxes_of(6, 1), boxes_of(5, 2)
    twin = [[(painted(x) & painted(y)).sum() / (painted(x) | painted(y)).sum() for y in b] for x in a]
    np.testing.assert_allclose(utils.compute_overlaps(a, b), twin, rtol=1e-12)
    as_masks = [np.dstack([painted(box) for box in boxes]) for boxes in (a, b)]
    np.testing.assert_allclose(utils.compute_overlaps_masks(*as_masks), twin, rtol=1e-6)


def test_boxes_without_area_overlap_nothing() -> None:
    empty = np.array([[5, 5, 5, 9]])
    assert utils.compute_overlaps(empty, np.array([[5, 5, 5, 9], [0, 0, 10, 10]])).tolist() == [[0, 0]]


def test_deltas_lead_from_box_to_box() -> None:
    a, b = boxes_of(20, 3), boxes_of(20, 4)
    np.testing.assert_allclose(utils.apply_box_deltas(a, utils.box_refinement(a, b)), b, atol=1e-4)
    np.testing.assert_allclose(
        utils.box_refinement(np.array([[0, 0, 10, 20]]), np.array([[5, 0, 15, 40]])), [[0.5, 0.5, 0, np.log(2)]],
        rtol=1e-6,
    )  # fmt: skip


@given(
    st.lists(st.tuples(*[st.integers(0, 400)] * 4), min_size=1, max_size=5), st.integers(2, 500), st.integers(2, 500)
)
def test_normalising_has_an_inverse(boxes: list[tuple[int, ...]], height: int, width: int) -> None:
    pixels = np.array(boxes)
    back = utils.denorm_boxes(utils.norm_boxes(pixels, (height, width)), (height, width))
    np.testing.assert_array_equal(back, pixels)


def test_the_whole_picture_is_zero_to_one_when_normalised() -> None:
    assert utils.norm_boxes(np.array([[0, 0, 480, 640]]), (480, 640)).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_suppression_is_greedy(threshold: float) -> None:
    boxes, scores = boxes_of(40, 5), np.random.default_rng(6).permutation(40) / 40
    kept: list[int] = []
    for i in sorted(range(40), key=lambda i: -scores[i]):
        if all(utils.compute_overlaps(boxes[[i]], boxes[[k]])[0, 0] <= threshold for k in kept):
            kept.append(i)
    assert utils.non_max_suppression(boxes, scores, threshold).tolist() == kept


def test_nothing_is_left_of_no_boxes() -> None:
    kept = utils.non_max_suppression(np.zeros((0, 4)), np.zeros(0), 0.5)
    assert kept.shape == (0,) and kept.dtype == np.int32


def test_anchors_lie_on_cell_corners_and_have_their_scale() -> None:
    anchors = utils.generate_pyramid_anchors((8, 16), [0.25, 1], [(4, 6), (2, 3)], (4, 8), 1)
    assert anchors.shape == (2 * 4 * 6 + 2 * 2 * 3, 4)
    # ratio ¼ is twice as high and half as wide; then ratio 1; then the next cell to the right
    assert anchors[:3].tolist() == [[-8, -2, 8, 2], [-4, -4, 4, 4], [-8, 2, 8, 6]]
    assert anchors[2 * 6].tolist() == [-4, -2, 12, 2]  # the second row starts a stride below
    assert anchors[-1].tolist() == [0, 8, 16, 24]
    skipping = utils.generate_anchors(8, [1], (4, 6), 4, 2)
    assert ((skipping[:, :2] + 4) // 8 * 8 == skipping[:, :2] + 4).all() and len(skipping) == 6


def squares(*corners: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and masks of 10 × 10 squares in a row of height 10."""
    boxes = np.array([[0, x, 10, x + 10] for x in corners]).reshape(-1, 4)
    masks = np.zeros((10, 100, len(corners)), bool)
    for i, x in enumerate(corners):
        masks[:, x : x + 10, i] = True
    return boxes, masks


def test_average_precision_of_a_case_done_in_the_head() -> None:
    # two true objects; the best prediction finds the first, the second misses, the third finds the second
    gt_boxes, gt_masks = squares(1, 40)
    pred_boxes, pred_masks = squares(40, 1, 70)
    found = gt_boxes, np.array([1, 1]), gt_masks, pred_boxes, np.array([1, 1, 1]), np.array([0.5, 0.9, 0.7]), pred_masks
    gt_match, pred_match, overlaps = utils.compute_matches(*found)
    assert gt_match.tolist() == [0, 2] and pred_match.tolist() == [0, -1, 1]
    assert overlaps.tolist() == [[1, 0], [0, 0], [0, 1]]
    ap, precisions, recalls, _ = utils.compute_ap(*found)
    assert recalls.tolist() == [0, 0.5, 0.5, 1, 1]
    np.testing.assert_allclose(precisions, [1, 1, 2 / 3, 2 / 3, 0])
    assert ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert utils.compute_ap_range(*found, verbose=0) == pytest.approx(ap)


def test_another_class_or_a_taken_object_is_no_match() -> None:
    gt_boxes, gt_masks = squares(0)
    pred_boxes, pred_masks = squares(0, 0)
    scores = np.array([0.9, 0.8])
    twice = utils.compute_matches(gt_boxes, np.array([1]), gt_masks, pred_boxes, np.array([1, 1]), scores, pred_masks)
    assert twice[1].tolist() == [0, -1]
    other = utils.compute_matches(gt_boxes, np.array([1]), gt_masks, pred_boxes, np.array([2, 2]), scores, pred_masks)
    assert other[0].tolist() == [-1]


def test_overlaps_below_the_score_threshold_are_not_looked_at() -> None:
    gt_boxes, gt_masks = squares(2)
    pred_boxes, pred_masks = squares(0)  # 8 of 12 columns in common
    found = gt_boxes, np.array([1]), gt_masks, pred_boxes, np.array([1]), np.array([0.9]), pred_masks
    assert utils.compute_matches(*found)[1].tolist() == [0]
    assert utils.compute_matches(*found, score_threshold=0.7)[1].tolist() == [-1]


def test_zero_rows_are_padding() -> None:
    gt_boxes, gt_masks = squares(0)
    padded = (
        np.vstack([gt_boxes, np.zeros((3, 4), int)]),
        np.array([1, 0, 0, 0]),
        np.pad(gt_masks, [(0, 0)] * 2 + [(0, 3)]),
    )
    ap, *_, overlaps = utils.compute_ap(*padded, gt_boxes, np.array([1]), np.array([0.9]), gt_masks)
    assert ap == 1 and overlaps.shape == (1, 1)


def test_without_objects_ap_is_zero_or_no_number() -> None:
    boxes, masks = squares(0)
    none = np.zeros((0, 4), int), np.zeros(0, int), np.zeros((10, 100, 0), bool)
    scores = np.array([0.9])
    assert utils.compute_ap(boxes, np.array([1]), masks, none[0], none[1], np.zeros(0), none[2])[0] == 0
    assert utils.compute_ap(*none, none[0], none[1], np.zeros(0), none[2])[0] == 0
    assert np.isnan(utils.compute_ap(*none, boxes, np.array([1]), scores, masks)[0])


def test_the_range_is_printed_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    boxes, masks = squares(0)
    found = boxes, np.array([1]), masks, boxes, np.array([1]), np.array([0.9]), masks
    assert utils.compute_ap_range(*found, [0.5, 0.75]) == 1
    assert capsys.readouterr().out.splitlines() == ["AP @0.50:\t 1.000", "AP @0.75:\t 1.000", "AP @0.50-0.75:\t 1.000"]


def test_recall_counts_true_boxes_once() -> None:
    gt_boxes, _ = squares(0, 50)
    predictions, _ = squares(0, 1, 80)
    recall, rows = utils.compute_recall(predictions, gt_boxes, 0.5)
    assert recall == 0.5 and rows.tolist() == [0, 1]


def test_meta_is_taken_apart_as_it_was_composed() -> None:
    row = utils.compose_image_meta(3, (480, 640, 3), (1024, 1024, 3), (128, 0, 896, 1024), 1.6, [1, 0, 1])
    parts = utils.parse_image_meta(np.stack([row, row]))
    assert parts["image_id"].tolist() == [3, 3]
    assert parts["original_image_shape"][0].tolist() == [480, 640, 3]
    assert parts["image_shape"][1].tolist() == [1024, 1024, 3]
    assert parts["window"][0].tolist() == [128, 0, 896, 1024]
    assert parts["scale"][0] == pytest.approx(1.6)
    assert parts["active_class_ids"][1].tolist() == [1, 0, 1]


def test_weights_that_cannot_be_fetched_say_where_to_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    path = tmp_path / "mask_rcnn_coco.h5"
    with pytest.raises(ModelError, match=re.escape(f"put it at {path}")):
        utils.download_trained_weights(path, verbose=0)
    assert not path.exists()


def test_a_picture_is_resized_in_its_range_or_from_0_to_1() -> None:
    image = np.array([[0, 100], [200, 51]], np.uint8)
    np.testing.assert_allclose(utils.resize(image, (2, 2)), image / 255)
    np.testing.assert_allclose(utils.resize(image, (2, 2), preserve_range=True), image)
    mask = utils.resize(np.ones((4, 6), bool), (8, 12))
    assert mask.shape == (8, 12) and mask[2:-2, 2:-2].min() == 1
    assert utils.resize(np.zeros((4, 6, 3)), (2, 3, 3)).shape == (2, 3, 3)


def test_a_resize_by_the_nearest_cell_and_arguments_by_the_originals_names_and_places() -> None:
    image = np.array([[0, 100], [200, 51]], np.uint8)
    labels = utils.resize(image, (4, 3), order=0, preserve_range=True)
    assert labels.tolist() == [[0, 100, 100], [0, 100, 100], [200, 51, 51], [200, 51, 51]]
    same = utils.resize(image, (2, 2), 1, "constant", 0, True, False, False, None)  # the third is the order
    np.testing.assert_allclose(same, image / 255)
    for wrong in ({"order": 3}, {"mode": "edge"}, {"anti_aliasing": True}):
        ((name, value),) = wrong.items()
        with pytest.raises(UsageError, match=f"{name}.*got {value!r}"):
            utils.resize(image, (4, 4), **wrong)


def test_levels_without_a_scale_have_no_anchors() -> None:
    shapes, strides = [[4, 4], [2, 2], [1, 1]], [4, 8, 16]
    assert len(utils.generate_pyramid_anchors((8, 16), [1], shapes, strides, 1)) == 4 * 4 + 2 * 2
    with pytest.raises(UsageError, match="scales: expected at most 3, one a level, got 4"):
        utils.generate_pyramid_anchors((8, 16, 32, 64), [1], shapes, strides, 1)


def test_masks_of_two_sizes_are_refused_where_there_are_any() -> None:
    whole, mini = np.ones((6, 8, 1), bool), np.ones((4, 4, 1), bool)
    box, one, score = np.array([[0, 0, 6, 8]]), np.array([1]), np.array([0.9])
    for call in (
        lambda: utils.compute_overlaps_masks(whole, mini),
        lambda: utils.compute_ap(box, one, mini, box, one, score, whole),
    ):
        with pytest.raises(UsageError, match=r"expected two sets of one height and width, got \(6, 8\) and \(4, 4\)"):
            call()
    assert utils.compute_overlaps_masks(whole, np.zeros((0, 0, 0))).shape == (1, 0)


def test_a_box_without_area_shows_nothing() -> None:
    assert not utils.expand_mask(np.zeros((1, 4)), np.ones((28, 28, 1)), (60, 80)).any()
    assert not utils.unmold_mask(np.ones((28, 28)), [3, 3, 3, 9], (60, 80)).any()


def test_what_is_resized_is_never_the_picture_itself() -> None:
    image, mask = np.ones((128, 128, 3), np.uint8), np.ones((128, 128, 2), bool)
    molded, _, scale, padding, crop = utils.resize_image(image, 128, 128)
    molded[:] = 0
    utils.resize_mask(mask, scale, padding, crop)[:] = False
    assert image.all() and mask.all()


def test_the_thinnest_picture_has_a_pixel() -> None:
    molded, window, *_ = utils.resize_image(np.full((1, 5000, 3), 9, np.uint8), 800, 1024)
    assert molded.shape == (1024, 1024, 3) and window[2] - window[0] == 1


def test_boxes_without_a_sign_overlap_as_others() -> None:
    boxes = np.array([[0, 0, 2, 2]], np.uint8), np.array([[5, 5, 9, 9]], np.uint8)
    assert utils.compute_overlaps(*boxes).tolist() == [[0.0]]


def test_integers_of_any_width_become_0_to_1() -> None:
    assert utils.resize(np.full((4, 4), 65535, np.uint16), (4, 4)).max() == 1
