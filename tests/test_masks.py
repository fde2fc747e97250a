"""Small masks in their boxes: pasted, joined, compared, and as COCO run lengths."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from streamseg import masks
from streamseg.masks import as_bytes, box_iou, certainty, from_rle, overlaps, paste, rle, union
from streamseg.types import Instances

WIDTH, HEIGHT = 320, 200
BOXES = [
    (3.3, 4.7, 20.2, 19.9),  # small
    (3.3, 4.7, 90.2, 190.9),  # large
    (-20.0, 30.5, 50.0, 260.0),  # partly outside
    (0.0, 0.0, 320.0, 200.0),  # the whole picture
    (10.0, 0.0, 20.0, 200.0),  # thin
    (310.0, 190.0, 330.0, 210.0),  # the last corner
]


def blob(seed: int, size: int = 28) -> np.ndarray:
    """A smooth round thing as a model makes it, (size, size) float32."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((size, size)), (0, 0), size / 7)
    return np.clip((noise - noise.mean()) / noise.std() + 0.5, 0, 1).astype(np.float32)


def pasted_slowly(mask: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
    """The definition, pixel by pixel: (HEIGHT, WIDTH) float, 0 to 255."""
    x1, y1, x2, y2 = box
    size = len(mask)
    picture = np.zeros((HEIGHT, WIDTH))
    for row in range(HEIGHT):
        for column in range(WIDTH):
            x, y = column + 0.5, row + 0.5
            if not (x1 <= x < x2 and y1 <= y < y2):
                continue
            j = min(max((x - x1) * size / (x2 - x1) - 0.5, 0), size - 1)
            i = min(max((y - y1) * size / (y2 - y1) - 0.5, 0), size - 1)
            i0, j0 = min(int(i), size - 2), min(int(j), size - 2)
            upper = mask[i0, j0] * (1 - (j - j0)) + mask[i0, j0 + 1] * (j - j0)
            lower = mask[i0 + 1, j0] * (1 - (j - j0)) + mask[i0 + 1, j0 + 1] * (j - j0)
            picture[row, column] = 255 * (upper * (1 - (i - i0)) + lower * (i - i0))
    return picture


def pasted(mask: np.ndarray, box: tuple[float, ...], *, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    rows, columns, patch = paste(mask, box, width=width, height=height)
    picture = np.zeros((height, width), np.uint8)
    picture[rows, columns] = patch
    return picture


def instances(masks: list[np.ndarray], boxes: list[tuple[float, ...]]) -> Instances:
    return Instances(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        masks=np.array(masks, np.float32).reshape(-1, 28, 28),
        scores=np.ones(len(boxes), np.float32),
        class_ids=np.ones(len(boxes), np.int32),
        track_ids=np.full(len(boxes), -1, np.int32),
        class_names=("background", "person"),
    )


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.mark.parametrize("box", BOXES)
def test_paste_agrees_with_its_definition_pixel_by_pixel(box: tuple[float, ...]) -> None:
    slow, fast = pasted_slowly(blob(1), box), pasted(blob(1), box)
    assert np.abs(fast - slow).max() <= 8  # the bends at cell centres; a few grey levels of 255
    assert np.abs(fast - slow)[slow > 0].mean() < 0.6
    assert iou(slow >= 127.5, fast >= 128) > 0.99


def test_paste_of_a_small_box_is_exact_to_a_grey_level() -> None:
    box = (3.3, 4.7, 20.2, 19.9)
    assert np.abs(pasted(blob(2), box) - pasted_slowly(blob(2), box)).max() <= 1.01  # cells are rounded to bytes first


def test_paste_of_a_two_by_two_mask_can_be_done_in_the_head() -> None:
    mask = np.array([[0.0, 1.0], [0.0, 1.0]], np.float32)
    rows, columns, patch = paste(mask, (1, 1, 5, 3), width=10, height=10)
    assert (rows, columns) == (slice(1, 3), slice(1, 5))
    assert patch.tolist() == [[0, 64, 191, 255]] * 2  # cell centres at 2 and 4: a quarter and three quarters between


def test_pixel_belongs_to_the_box_that_its_centre_lies_in() -> None:
    rows, columns, patch = paste(np.ones((28, 28)), (1.5, 1.51, 3.5, 3.49), width=10, height=10)
    assert (rows, columns) == (slice(2, 3), slice(1, 3))
    assert (patch == 255).all()


@pytest.mark.parametrize(
    "box",
    [
        (5, 5, 5, 9),
        (9, 9, 5, 5),
        (400, 10, 500, 20),
        (-50, -50, -1, -1),
        (float("nan"), 0, 5, 5),
        (0, 0, float("inf"), 5),
        (5.6, 5.6, 6.4, 6.4),
    ],
)
def test_box_without_a_pixel_of_the_picture_pastes_nothing(box: tuple[float, ...]) -> None:
    rows, columns, patch = paste(blob(1), box, width=WIDTH, height=HEIGHT)
    assert patch.shape == (rows.stop - rows.start, columns.stop - columns.start)
    assert patch.size == 0


def test_huge_box_costs_no_more_than_the_picture() -> None:
    assert pasted(np.ones((28, 28)), (-1e7, -1e7, 1e7, 1e7)).min() == 255


def test_nan_in_a_mask_counts_as_outside() -> None:
    mask = np.array([[np.nan, -3], [0.5, 7]], np.float32)
    assert as_bytes(mask).tolist() == [[0, 0], [128, 255]]
    assert np.isnan(mask[0, 0])  # what was handed in is not changed


def test_mask_kept_as_bytes_is_drawn_the_same() -> None:
    assert np.array_equal(pasted(blob(1), BOXES[1]), pasted(as_bytes(blob(1)), BOXES[1]))


def test_union_is_the_largest_of_the_pasted_masks_everywhere() -> None:
    masks = [blob(seed) for seed in range(len(BOXES))]
    largest = np.max([pasted(mask, box) for mask, box in zip(masks, np.float32(BOXES).tolist(), strict=True)], axis=0)
    assert np.array_equal(union(instances(masks, BOXES), width=WIDTH, height=HEIGHT), largest)


def test_union_of_nothing_is_zero_and_forgets_what_out_held() -> None:
    out = np.full((HEIGHT, WIDTH), 9, np.uint8)
    assert union(instances([], []), width=WIDTH, height=HEIGHT, out=out) is out
    assert out.max() == 0


def test_union_for_chroma_is_that_of_boxes_half_as_large() -> None:
    box = (3.0, 5.0, 91.0, 190.0)
    small = union(instances([blob(1)], [box]), width=160, height=100, scale_x=0.5, scale_y=0.5)
    assert np.array_equal(small, pasted(blob(1), (1.5, 2.5, 45.5, 95.0), width=160, height=100))


@pytest.mark.parametrize("box", [*BOXES, (400.0, 0.0, 500.0, 9.0)])
def test_run_lengths_are_those_of_the_full_frame_mask(box: tuple[float, ...]) -> None:
    full = (pasted(blob(3), box) >= 128).astype(np.uint8)
    made = rle(blob(3), box, width=WIDTH, height=HEIGHT)
    assert made["size"] == [HEIGHT, WIDTH]
    assert made["counts"] == coco_mask.encode(np.asfortranarray(full))["counts"].decode()


def test_run_lengths_of_a_full_picture_are_one_run() -> None:
    made = rle(np.ones((28, 28)), (0, 0, 5, 4), width=5, height=4)
    assert coco_mask.decode(made).tolist() == [[1] * 5] * 4


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("box", BOXES)
def test_mask_cut_from_run_lengths_covers_what_they_cover(box: tuple[float, ...], seed: int) -> None:
    lengths = rle(blob(seed), box, width=WIDTH, height=HEIGHT)
    mask = from_rle(lengths, box)
    assert mask.shape == (28, 28)
    assert mask.dtype == np.float32
    assert 0 <= mask.min() <= mask.max() <= 1
    assert iou(pasted(mask, box) >= 128, coco_mask.decode(lengths).astype(bool)) >= 0.98


def test_mask_cut_from_large_run_lengths_covers_what_they_cover() -> None:
    box = (100.2, 50.0, 1800.0, 1000.0)
    lengths = rle(blob(5), box, width=1920, height=1080)
    again = pasted(from_rle(lengths, box), box, width=1920, height=1080)
    assert iou(again >= 128, coco_mask.decode(lengths).astype(bool)) >= 0.98


def test_run_lengths_may_be_bytes_or_numbers() -> None:
    box = BOXES[1]
    lengths = rle(blob(1), box, width=WIDTH, height=HEIGHT)
    expected = from_rle(lengths, box)
    assert np.array_equal(from_rle({**lengths, "counts": lengths["counts"].encode()}, box), expected)
    flat = np.asfortranarray(coco_mask.decode(lengths)).ravel(order="F")
    edges = np.flatnonzero(np.diff(np.r_[0, flat])).tolist()
    counts = np.diff([0, *edges, flat.size]).tolist()
    assert np.array_equal(from_rle({"size": [HEIGHT, WIDTH], "counts": counts}, box), expected)


def test_run_lengths_that_do_not_fill_their_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to the 64000 pixels of the picture, got 30"):
        from_rle({"size": [HEIGHT, WIDTH], "counts": [10, 20]}, BOXES[0])


def test_overlaps_are_those_of_the_full_frame_masks() -> None:
    random = np.random.default_rng(7)
    corners = random.random((12, 2)) * [200, 90]
    boxes = np.c_[corners, corners + 20 + random.random((12, 2)) * 90].astype(np.float32)
    masks = np.stack([blob(seed) for seed in range(12)])
    full = [pasted(mask, tuple(box)) >= 128 for mask, box in zip(masks, boxes.tolist(), strict=True)]
    expected = [[iou(a, b) for b in full[5:]] for a in full[:7]]
    made = overlaps(masks[:7], boxes[:7], masks[5:], boxes[5:])
    assert made.shape == (7, 7)
    assert made.dtype == np.float32
    assert np.abs(made - expected).max() < 0.03


def test_overlaps_of_half_covered_boxes_can_be_done_in_the_head() -> None:
    solid = np.ones((1, 28, 28), np.float32)
    a, b = np.array([[0, 0, 20, 10]], np.float32), np.array([[10, 0, 30, 10]], np.float32)
    assert overlaps(solid, a, solid, b)[0, 0] == pytest.approx(1 / 3, abs=1e-5)
    assert overlaps(solid, a, solid, a)[0, 0] == pytest.approx(1)
    assert overlaps(solid, a, 0 * solid, a)[0, 0] == 0
    assert box_iou(a, b)[0, 0] == pytest.approx(1 / 3)


def test_overlaps_of_nothing_and_of_empty_or_broken_boxes_are_zero() -> None:
    solid = np.ones((3, 28, 28), np.float32)
    boxes = np.array([[0, 0, 9, 9], [4, 4, 4, 9], [np.nan, 0, 9, 9]], np.float32)
    assert overlaps(solid[:0], boxes[:0], solid, boxes).shape == (0, 3)
    assert box_iou(boxes, boxes[:0]).shape == (3, 0)
    for made in (overlaps(solid, boxes, solid, boxes), box_iou(boxes, boxes)):
        assert made.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_certainty_is_the_mean_of_what_is_covered() -> None:
    shown = np.zeros((3, 4, 4), np.float32)
    shown[0, :2] = 0.9
    shown[0, 2] = 0.6
    shown[0, 3] = 0.49
    shown[1, 1, 1] = 0.3
    np.testing.assert_allclose(certainty(shown), [0.8, 0.3, 0.0], atol=1e-6)
    assert certainty(shown[:0]).shape == (0,)


def test_opencv_has_its_threads_again_afterwards_whatever_happens() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        with pytest.raises(ValueError, match="on purpose"), masks.without_threads():
            assert cv2.getNumThreads() == 1
            raise ValueError("on purpose")
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
