"""A view moves the picture, its boxes and its masks by the same amount."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.config import AugmentConfig
from streamseg.letterbox import PADDING
from streamseg.outlines import hull, mini_mask
from streamseg.training.augment import View, change_colour, random_view, visible
from streamseg.training.loader import Batches, Picture
from streamseg.types import Sample
from tests.tiny_model import tiny_experiment, tiny_stage

WIDTH, HEIGHT = 200, 120


def scene(x: int, y: int, width: int, height: int) -> np.ndarray:
    """A black picture with a white rectangle."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[y : y + height, x : x + width] = 255
    return rgb


def extent(mask: np.ndarray) -> tuple[float, float, float, float]:
    """The box of a mask (h, w) in [0, 1] whose edges are soft: from where its marginal sums are half."""
    edges = []
    for profile in (mask.max(0), mask.max(1)):
        inside = np.flatnonzero(profile > 0.5)
        first, last = inside[0], inside[-1]
        low = first + 0.5 - (profile[first] - 0.5) / max(profile[first] - (profile[first - 1] if first else 0), 1e-6)
        after = profile[last + 1] if last + 1 < len(profile) else 0
        high = last + 0.5 + (profile[last] - 0.5) / max(profile[last] - after, 1e-6)
        edges.append((low, high))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


views = st.builds(
    View,
    scale=st.tuples(st.floats(0.4, 1.6), st.floats(0.4, 1.6)),
    shift=st.tuples(st.floats(-60, 60), st.floats(-30, 40)),
    flip=st.booleans(),
    size=st.sampled_from([96, 160]),
)


@settings(max_examples=80, deadline=None)
@given(view=views, x=st.integers(20, 100), y=st.integers(20, 60))
def test_the_box_of_what_is_seen_is_the_moved_box(view: View, x: int, y: int) -> None:
    box = np.float32([[x, y, x + 60, y + 40]])
    moved = view.boxes(box)[0]
    if moved.min() < 3 or moved.max() > view.size - 3:
        return
    seen = view.picture(scene(x, y, 60, 40))[..., 0] / 255.0
    seen[(seen * 255).round() == PADDING] = 0  # beside the picture
    np.testing.assert_allclose(extent(seen), moved, atol=1)


def test_a_view_of_scale_1_is_a_crop_and_its_mirror() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    plain = View((1.0, 1.0), (-30.0, -10.0), False, 96)
    np.testing.assert_array_equal(plain.picture(rgb), rgb[10:106, 30:126])
    np.testing.assert_array_equal(replace(plain, flip=True).picture(rgb), rgb[10:106, 30:126][:, ::-1])
    np.testing.assert_array_equal(plain.boxes(np.float32([[40, 20, 50, 40]])), [[10, 10, 20, 30]])
    np.testing.assert_array_equal(replace(plain, flip=True).boxes(np.float32([[40, 20, 50, 40]])), [[76, 10, 86, 30]])


def test_what_lies_beside_the_picture_is_the_models_zero() -> None:
    seen = View((0.5, 0.5), (20.0, 20.0), False, 160).picture(scene(0, 0, WIDTH, HEIGHT))
    assert (seen[:19] == PADDING).all() and (seen[:, 121:] == PADDING).all()
    assert (seen[21:79, 21:119] == 255).all()


turned_views = st.builds(
    View,
    scale=st.tuples(st.floats(0.6, 1.6), st.floats(0.6, 1.6)),
    shift=st.tuples(st.floats(40, 160), st.floats(40, 160)),
    flip=st.booleans(),
    size=st.just(256),
    flip_up_down=st.booleans(),
    quarter_turns=st.integers(0, 3),
    angle=st.floats(-180, 180),
)


@settings(max_examples=100, deadline=None)
@given(view=turned_views, tilt=st.integers(0, 179), axes=st.tuples(st.integers(8, 24), st.integers(8, 40)))
def test_the_box_around_a_turned_mask_is_the_turned_box_and_the_mask_fills_it(
    view: View, tilt: int, axes: tuple[int, int]
) -> None:
    """A tilted ellipse: what the view shows of it, and its mini mask drawn into its box, are the same pixels."""
    polygon = cv2.ellipse2Poly((80, 60), axes, tilt, 0, 360, 5).astype(np.float32)
    box = np.float32([[*polygon.min(0), *polygon.max(0)]])
    segmentation, side = [polygon.ravel().tolist()], 112
    corners = hull(segmentation, width=WIDTH, height=HEIGHT)
    moved = view.boxes(box, [corners])
    if moved.min() < 3 or moved.max() > view.size - 3:
        return
    big = cv2.fillPoly(np.zeros((8 * HEIGHT, 8 * WIDTH), np.uint8), [(8 * polygon).astype(np.int32)], 255)
    full = cv2.resize(big, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    shown = view.picture(np.repeat(full[..., None], 3, 2), padding=0)[..., 0]
    np.testing.assert_allclose(extent(shown / 255.0), moved[0], atol=1)
    mask = mini_mask(segmentation, box[0], width=WIDTH, height=HEIGHT, side=side)
    turned = view.masks(mask[None], box, moved)[0]
    x0, y0, x1, y1 = moved[0]
    step = np.array([x1 - x0, y1 - y0]) / side
    matrix = np.float32([[step[0], 0, x0 + 0.5 * step[0] - 0.5], [0, step[1], y0 + 0.5 * step[1] - 0.5]])
    drawn = cv2.warpAffine(turned, matrix, (view.size, view.size)) > 127
    assert (drawn & (shown > 127)).sum() / (drawn | (shown > 127)).sum() > 0.9


SQUARE = np.random.default_rng(3).integers(0, 256, (96, 96, 3), np.uint8)
BOXES = np.float32([[10, 20, 40, 50], [0, 0, 96, 5]])
MASKS = np.random.default_rng(4).integers(0, 256, (2, 14, 14), np.uint8)
CORNERS = [np.float32([[10, 20], [40, 35], [12, 50]]), None]


def test_the_view_that_does_nothing_leaves_all_as_it_was() -> None:
    nothing = View((1.0, 1.0), (0.0, 0.0), False, 96)
    np.testing.assert_array_equal(nothing.picture(SQUARE), SQUARE)
    np.testing.assert_array_equal(nothing.boxes(BOXES, CORNERS), BOXES)
    np.testing.assert_array_equal(nothing.masks(MASKS, BOXES, BOXES), MASKS)


def test_four_quarter_turns_and_two_mirrorings_of_a_kind_change_nothing() -> None:
    plain = View((1.0, 1.0), (0.0, 0.0), False, 96)
    for changes, times in (({"quarter_turns": 1}, 4), ({"flip": True}, 2), ({"flip_up_down": True}, 2)):
        view = replace(plain, **changes)
        rgb, boxes, masks = SQUARE, BOXES, MASKS
        for _ in range(times):
            rgb, boxes, masks = view.picture(rgb), view.boxes(boxes), view.masks(masks, boxes, view.boxes(boxes))
        np.testing.assert_array_equal(rgb, SQUARE)
        np.testing.assert_array_equal(boxes, BOXES)
        np.testing.assert_array_equal(masks, MASKS)


def test_a_quarter_turn_goes_anticlockwise_and_equals_the_turn_by_90_degrees() -> None:
    turned = View((1.0, 1.0), (0.0, 0.0), False, 96, quarter_turns=1)
    # the top left corner comes to the bottom left
    np.testing.assert_array_equal(turned.boxes(np.float32([[0, 0, 10, 5]])), [[0, 86, 5, 96]])
    by_angle = View((1.0, 1.0), (0.0, 96.0), False, 96, angle=90.0)
    np.testing.assert_allclose(by_angle.boxes(BOXES), turned.boxes(BOXES), atol=1e-4)
    np.testing.assert_allclose(by_angle.picture(SQUARE).astype(int), turned.picture(SQUARE), atol=8)
    moved = turned.boxes(BOXES)
    np.testing.assert_allclose(
        by_angle.masks(MASKS, BOXES, moved).astype(int), turned.masks(MASKS, BOXES, moved), atol=8
    )


def test_without_an_outline_a_turned_box_is_the_box_around_it() -> None:
    view = View((1.0, 1.0), (48.0, 0.0), False, 96, angle=-45.0)
    side = 10 * np.sqrt(2)
    np.testing.assert_allclose(
        view.boxes(np.float32([[0, 0, 10, 10]]), [None]), [[48 - side / 2, 0, 48 + side / 2, side]], atol=1e-4
    )


def test_only_what_is_asked_for_happens() -> None:
    rng = np.random.default_rng(0)
    still = AugmentConfig(flip_left_right=False, aspect=0, colour=0)
    views = [random_view(64, 64, size=64, scale=(1, 1), rng=rng, augment=still) for _ in range(8)]
    assert set(views) == {View((1.0, 1.0), (0.0, 0.0), False, 64)}
    assert change_colour(SQUARE, rng, augment=still) is SQUARE
    lively = still.model_copy(update={"flip_up_down": True, "quarter_turns": True, "angle": 30.0})
    views = [random_view(64, 64, size=64, scale=(1, 1), rng=rng, augment=lively) for _ in range(60)]
    assert {view.quarter_turns for view in views} == {0, 1, 2, 3} and {view.flip_up_down for view in views} == {
        False,
        True,
    }
    assert -30 <= min(view.angle for view in views) < -20 and 20 < max(view.angle for view in views) <= 30


def test_channels_shift_each_by_itself() -> None:
    rng = np.random.default_rng(0)
    shifted = AugmentConfig(colour=0, channel_shift=20)
    grey = np.full((2, 2, 3), 127, np.uint8)
    found = np.array([change_colour(grey, rng, augment=shifted)[0, 0] for _ in range(300)], int) - 127
    assert abs(found).max() <= 20 and found.min() < -15 and found.max() > 15
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.2


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), width=st.integers(20, 700), height=st.integers(20, 700))
def test_a_random_view_covers_the_picture_or_lies_in_it(seed: int, width: int, height: int) -> None:
    view = random_view(width, height, size=128, scale=(0.6, 1.8), rng=np.random.default_rng(seed))
    x0, y0, x1, y1 = view.boxes(np.float32([[0, 0, width, height]]))[0]
    for low, high in ((x0, x1), (y0, y1)):
        assert (low <= 0.01 and high >= 127.99) or (low >= -0.01 and high <= 128.01)
    longest = max(x1 - x0, y1 - y0)
    assert 0.6 * np.exp(-0.1) * 128 - 1 <= longest <= 1.8 * np.exp(0.1) * 128 + 1


def test_an_object_counts_while_a_quarter_of_it_is_seen_and_a_crowd_always() -> None:
    boxes = np.float32([[-70, 0, 30, 10], [-80, 0, 20, 10], [-80, 0, 20, 10], [90, 90, 120, 120], [99, 0, 101, 50]])
    cut, seen = visible(boxes, 100, crowd=np.array([False, False, True, False, False]))
    np.testing.assert_array_equal(cut[0], [0, 0, 30, 10])
    assert seen.tolist() == [True, False, True, False, False]
    assert [len(part) for part in visible(np.zeros((0, 4), np.float32), 100, crowd=np.zeros(0, bool))] == [0, 0]


def test_colours_change_a_little_and_stay_in_range() -> None:
    grey = np.full((4, 4, 3), 127, np.uint8)
    rng = np.random.default_rng(0)
    changed = np.array([change_colour(grey, rng)[0, 0] for _ in range(200)], float)
    assert 100 < changed.mean() < 155 and changed.std() > 3
    assert change_colour(np.full((2, 2, 3), 255, np.uint8), rng).dtype == np.uint8


TURNED = AugmentConfig(flip_up_down=True, quarter_turns=True, angle=180, channel_shift=10)


@pytest.mark.parametrize("augment", [AugmentConfig(), TURNED], ids=["plain", "turned"])
@pytest.mark.parametrize("seed", range(6))
def test_boxes_and_masks_of_a_training_row_lie_on_the_object(tmp_path: Path, seed: int, augment: AugmentConfig) -> None:
    """A white triangle on black: the row's mini mask, drawn into its mask box, covers the white pixels."""
    corners = np.array([[60, 30], [140, 50], [80, 100]], np.int32)
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cv2.fillPoly(rgb, [corners], (255, 255, 255))
    box = np.float32([[60, 30, 141, 101]])
    side = 56
    mini = cv2.resize(rgb[30:101, 60:141, 0], (side, side), interpolation=cv2.INTER_AREA)
    sample = Sample(1, tmp_path, WIDTH, HEIGHT, box, np.int32([1]), (None,), np.array([False]))
    training = tiny_experiment(tmp_path, mini_mask=side).training
    assert training is not None
    picture = Picture(sample, rgb, mini[None], np.ones(1, np.float32), (corners.astype(np.float32) + 0.5,))
    batches = Batches([picture], training, tiny_stage(crop=160, batch_size=1, scale=(0.7, 1.4), augment=augment))
    row = batches.view(picture, np.random.default_rng(seed))
    x0, y0, x1, y1 = row["mask_boxes"][0]
    step = np.array([x1 - x0, y1 - y0]) / side
    matrix = np.float32([[step[0], 0, x0 + 0.5 * step[0] - 0.5], [0, step[1], y0 + 0.5 * step[1] - 0.5]])
    drawn = cv2.warpAffine(row["mini_masks"][0], matrix, (160, 160)) > 127
    image = row["images"].astype(int).max(-1)
    view_is_bright = image > (image.min() + image.max()) / 2 + 40  # what lies beside the picture is grey
    inside = np.zeros((160, 160), bool)
    x0, y0, x1, y1 = row["boxes"][0].astype(int)
    inside[y0 : y1 + 1, x0 : x1 + 1] = True
    white = view_is_bright & inside
    assert (white & drawn).sum() / (white | drawn).sum() > 0.93
    assert row["class_ids"].tolist() == [1, 0, 0, 0]
