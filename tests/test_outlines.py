"""Run lengths and polygons mean the pixels that they stand for, and are pycocotools' own to the letter."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from streamseg import outlines

HEIGHT, WIDTH = 3, 4
STAIRS = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0]], bool)
"""Down the columns: 2 outside, 1 inside, 1 outside, 3 inside (from the second column into the third), 5 outside."""

masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))
several = arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(0, 4)))


def pixel_by_pixel(mask: np.ndarray) -> list[int]:
    """The lengths by their definition."""
    lengths, value = [0], False
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            if mask[y, x] != value:
                lengths.append(0)
                value = not value
            lengths[-1] += 1
    return lengths


def listed(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": pixel_by_pixel(mask)}


def full(run_lengths: Any) -> np.ndarray:
    height, width = run_lengths["size"]
    return outlines.decoded(run_lengths, width=width, height=height).astype(bool)


def iou(a: np.ndarray, b: np.ndarray, *, of_a: bool = False) -> float:
    area = a.sum() if of_a else (a | b).sum()
    return (a & b).sum() / area if area else 0.0


def test_run_lengths_tell_the_runs_down_the_columns() -> None:
    assert outlines.lengths(outlines.encoded(STAIRS)).tolist() == [2, 1, 1, 3, 5]


def test_a_mask_that_begins_inside_has_no_pixel_before_it() -> None:
    assert outlines.lengths(outlines.encoded(np.ones((3, 4)))).tolist() == [0, 12]
    assert outlines.lengths(outlines.encoded(np.zeros((3, 4)))).tolist() == [12]


@given(masks)
def test_a_mask_comes_back_from_run_lengths_of_either_kind(mask: np.ndarray) -> None:
    made = outlines.encoded(mask)
    assert made == {"size": list(mask.shape), "counts": coco_mask.encode(np.asfortranarray(mask))["counts"].decode()}
    assert outlines.lengths(made).tolist() == outlines.lengths(listed(mask)).tolist() == pixel_by_pixel(mask)
    for each in (made, {**made, "counts": made["counts"].encode()}, listed(mask)):
        assert outlines.compressed(each, width=mask.shape[1], height=mask.shape[0]) == made
        np.testing.assert_array_equal(full(each), mask)


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=8))
@settings(max_examples=50)
def test_lengths_of_any_number_of_digits_are_read_as_pycocotools_writes_them(counts: list[int]) -> None:
    """Of a picture one pixel wide; pycocotools holds a length in 32 bits."""
    size = [sum(counts), 1]
    text = coco_mask.frPyObjects({"size": size, "counts": counts}, *size)["counts"]
    assert outlines.lengths({"size": size, "counts": text}).tolist() == counts


@given(several)
def test_several_masks_are_each_for_itself(stack: np.ndarray) -> None:
    assert outlines.encoded_all(stack) == [outlines.encoded(stack[..., i]) for i in range(stack.shape[2])]


def test_whatever_is_not_0_is_inside() -> None:
    grey = np.array([[0, 1, 128, 255]], np.uint8)
    assert outlines.encoded(grey) == outlines.encoded(grey / 255) == outlines.encoded(grey > 0)


def test_masks_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"masks: expected \(height, width, objects\), got \(3, 4\)"):
        outlines.encoded_all(STAIRS)


@given(masks, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_a_part_of_a_picture_is_encoded_as_the_whole(
    part: np.ndarray, left: int, top: int, right: int, below: int
) -> None:
    whole = np.pad(part, ((top, below), (left, right)))
    height, width = whole.shape
    assert outlines.encoded_patch(part, left=left, top=top, width=width, height=height) == outlines.encoded(whole)


def test_a_part_without_a_pixel_is_an_empty_mask() -> None:
    nothing = outlines.encoded_patch(np.zeros((0, 0), bool), left=0, top=0, width=4, height=3)
    assert nothing == outlines.encoded(np.zeros((3, 4)))


@given(masks, st.data())
def test_some_columns_are_those_of_the_whole_mask(mask: np.ndarray, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, mask.shape[1]))
    columns = slice(start, data.draw(st.integers(start, mask.shape[1])))
    np.testing.assert_array_equal(outlines.decoded_columns(outlines.encoded(mask), columns), mask[:, columns])


@given(masks, st.integers(0, 3), st.integers(0, 3))
def test_the_part_of_the_picture_that_holds_a_mask_is_as_small_as_can_be(mask: np.ndarray, right: int, up: int) -> None:
    whole = np.pad(mask, ((up, 2), (right, 1)))
    left, top, part = outlines.decoded_patch(outlines.encoded(whole))
    if not mask.any():
        assert (left, top, part.shape) == (0, 0, (0, 0))
        return
    rows, columns = np.flatnonzero(whole.any(axis=1)), np.flatnonzero(whole.any(axis=0))
    assert (left, top) == (columns[0], rows[0])
    np.testing.assert_array_equal(part, whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


@given(masks)
def test_lengths_along_rows_are_those_of_the_mask_on_its_side(mask: np.ndarray) -> None:
    assert outlines.row_lengths(mask).tolist() == pixel_by_pixel(mask.T)
    assert outlines.picture_row_lengths(outlines.encoded(mask)).tolist() == pixel_by_pixel(mask.T)


@given(several)
def test_a_mask_without_others_has_the_pixels_that_none_of_them_has(stack: np.ndarray) -> None:
    if stack.shape[2]:
        first, *others = outlines.encoded_all(stack)
        left = stack[..., 0] & ~stack[..., 1:].any(axis=2)
        assert outlines.without(first, others) == outlines.encoded(left)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (5, "expected polygons or run lengths, got 5"),
        ({"size": [3, 4]}, "expected polygons or run lengths"),
        ({"size": 5, "counts": [12]}, r"size: expected \[height, width\], got 5"),
        ({"size": [3, "4"], "counts": [12]}, r"size: expected \[height, width\], got \[3, '4'\]"),
        ({"size": [-3, -4], "counts": [12]}, r"size: expected \[height, width\], got \[-3, -4\]"),
        ({"size": [True, 12], "counts": [12]}, r"size: expected \[height, width\], got \[True, 12\]"),
        ({"size": [10**12, 10**12], "counts": [10**24]}, "size: expected that of a picture, got .1000000000000, 1000"),
        ({"size": [10**30, 0], "counts": []}, "size: expected that of a picture, got"),
        ({"size": [3, 4], "counts": 5}, "counts: expected a list or a string, got 5"),
        ({"size": [3, 4], "counts": ["a", 12]}, "counts: expected whole numbers from 0 up, got 'a'"),
        ({"size": [3, 4], "counts": [-1, 13]}, "counts: expected whole numbers from 0 up, got -1"),
        ({"size": [3, 4], "counts": [0.5, 11.5]}, "counts: expected whole numbers from 0 up, got 0.5"),
        ({"size": [3, 4], "counts": [5, 6]}, "add up to the 12 pixels of the picture, got 11"),
        ({"size": [3, 4], "counts": []}, "add up to the 12 pixels of the picture, got 0"),
        ({"size": [3, 4], "counts": [10**30]}, "add up to the 12 pixels of the picture, got 1000000"),
        ({"size": [3, 4], "counts": "<1"}, "add up to the 12 pixels of the picture, got 13"),
        ({"size": [3, 4], "counts": "O"}, "counts: expected whole numbers from 0 up, got -1"),
        ({"size": [3, 4], "counts": "garbage!!"}, "counts: expected COCO's compressed run lengths"),
        ({"size": [3, 4], "counts": "<é"}, "counts: expected COCO's compressed run lengths"),
        ({"size": [3, 4], "counts": b"<\xff"}, "counts: expected COCO's compressed run lengths"),
        ({"size": [3, 4], "counts": "<\ud800"}, "counts: expected COCO's compressed run lengths"),
        ({"size": [3, 4], "counts": "<P"}, "counts: expected COCO's compressed run lengths"),  # more should follow
    ],
)
def test_what_are_no_run_lengths_is_refused(wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        outlines.lengths(wrong)
    with pytest.raises(ValueError, match=said):
        outlines.decoded_columns(wrong, slice(0, 2))


def test_twelve_pixels_outside_are_one_character() -> None:
    """`0` and 12 more: the text that the wrong ones above begin with."""
    assert outlines.lengths({"size": [3, 4], "counts": "<"}).tolist() == [12]


def test_polygons_and_run_lengths_of_both_kinds_are_one_mask() -> None:
    """A square of 10×10 pixels at the left of 60×40: ten columns of 10 pixels in and 30 out."""
    size = {"width": 60, "height": 40}
    by_number = outlines.compressed({"size": [40, 60], "counts": [0, *[10, 30] * 9, 10, 50 * 40 + 30]}, **size)
    drawn = outlines.compressed([outlines.rectangle((0, 0, 10, 10))], **size)
    assert by_number == outlines.compressed(by_number, **size) == drawn
    two = [outlines.rectangle((0, 0, 10, 10)), outlines.rectangle((5, 0, 15, 10))]
    inside = outlines.decoded(two, **size)
    assert inside[:10, :15].all() and inside.sum() == 150


@pytest.mark.parametrize("values", [[1, 2, 3], [1, 2, float("nan"), 4], [1, "2"], [1, None], (1, 2), "12", None])
def test_a_polygon_is_finite_numbers_in_pairs(values: Any) -> None:
    assert outlines.is_polygon([1, 2.5]) and outlines.is_polygon(outlines.rectangle(np.float32([1, 2, 3, 4])))
    assert not outlines.is_polygon(values)


@given(several)
def test_areas_boxes_and_overlaps_are_those_of_the_pixels(stack: np.ndarray) -> None:
    layers = list(np.moveaxis(stack, 2, 0))
    made = outlines.encoded_all(stack)
    assert outlines.areas(made).tolist() == [layer.sum() for layer in layers]
    around = [cv2.boundingRect(layer.astype(np.uint8)) for layer in layers]
    assert outlines.boxes(made).tolist() == [[x, y, x + w, y + h] if w else [0] * 4 for x, y, w, h in around]
    for of_own in (False, True):
        by_pixels = [[iou(a, b, of_a=of_own) for b in layers[1:]] for a in layers]
        found = outlines.overlaps(made, made[1:], of_own=of_own)
        np.testing.assert_allclose(found, np.reshape(by_pixels, (len(layers), max(0, len(layers) - 1))))


def test_runs_are_counted_from_one_down_the_columns() -> None:
    """Pixels 1 to 3 are the first column; 5, 6, 7 run from the second into the third."""
    assert outlines.runs(outlines.encoded(STAIRS)) == [3, 1, 5, 3]
    np.testing.assert_array_equal(full(outlines.from_runs([5, 3, 3, 1], width=WIDTH, height=HEIGHT)), STAIRS)


def test_runs_reach_from_the_first_pixel_to_the_last() -> None:
    assert outlines.runs(outlines.encoded(np.ones((3, 4)))) == [1, 12]
    assert outlines.runs(outlines.encoded(np.zeros((3, 4)))) == []


def test_runs_that_touch_are_one() -> None:
    """1 outside, 2 inside, none outside, 3 inside, 2 outside, none inside, 4 outside."""
    assert outlines.runs({"size": [3, 4], "counts": [1, 2, 0, 3, 2, 0, 4]}) == [2, 5]


@given(masks)
def test_any_mask_comes_back_from_its_runs(mask: np.ndarray) -> None:
    pairs = outlines.runs(outlines.encoded(mask))
    assert outlines.from_runs(pairs, width=mask.shape[1], height=mask.shape[0]) == outlines.encoded(mask)


@pytest.mark.parametrize("pair", [(0, 2), (1, 0), (12, 2), (1, 99999999999999999999)])
def test_runs_that_leave_the_picture_are_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"expected runs within 4x3 pixels, got {pair[0]} {pair[1]}"):
        outlines.from_runs(pair, width=WIDTH, height=HEIGHT)


BOX = np.float32([10, 20, 50, 100])
LEFT_HALF = (10, 20, 30, 100)


def left_half() -> np.ndarray:
    mask = np.zeros((120, 80), bool)
    mask[20:100, 10:30] = True
    return mask


@pytest.mark.parametrize("kind", ["polygon", "compressed", "uncompressed"])
def test_a_mask_of_the_left_half_of_a_box_fills_the_left_half_of_its_cells(kind: str) -> None:
    segmentation = {
        "polygon": [outlines.rectangle(LEFT_HALF)],
        "compressed": outlines.encoded(left_half()),
        "uncompressed": listed(left_half()),
    }[kind]
    cells = outlines.mini_mask(segmentation, BOX, width=80, height=120, side=20)
    assert cells.dtype == np.uint8 and cells.shape == (20, 20)
    assert cells[1:-1, 1:9].min() > 240
    assert cells[:, 11:].max() < 15


def test_two_polygons_are_one_mini_mask_where_they_overlap_too() -> None:
    parts = [outlines.rectangle((10, 20, 50, 60)), outlines.rectangle((10, 50, 50, 70))]
    cells = outlines.mini_mask(parts, BOX, width=80, height=120, side=16)
    assert cells[:9].min() > 240 and cells[11:].max() < 15


def test_a_polygon_drawn_small_is_the_pixels_that_it_covers() -> None:
    rng = np.random.default_rng(0)
    polygon = [float(v) for v in (rng.uniform(0, 1, (7, 2)) * (40, 80) + (10, 20)).ravel()]
    cells = outlines.mini_mask([polygon], BOX, width=80, height=120, side=28) / 255
    big = np.zeros((800, 400), np.uint8)
    points = (np.array(polygon).reshape(-1, 2) - BOX[:2]) * 10
    cv2.fillPoly(big, [points.round().astype(np.int32)], 1)
    expected = cv2.resize(big.astype(np.float32), (28, 28), interpolation=cv2.INTER_AREA)
    assert abs(cells - expected).mean() < 0.01


def test_the_hull_of_a_mask_goes_around_its_pixels() -> None:
    for segmentation in (outlines.encoded(left_half()), [outlines.rectangle(LEFT_HALF)]):
        corners = outlines.hull(segmentation, width=80, height=120)
        assert corners is not None
        assert {(float(x), float(y)) for x, y in corners} == {(10, 20), (30, 20), (30, 100), (10, 100)}
    assert outlines.hull(outlines.encoded(np.zeros((4, 4))), width=4, height=4) is None


RING = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1]], bool)


def steps_around(mask: np.ndarray) -> set[tuple[tuple[int, int], tuple[int, int]]]:
    """Every side of a pixel between inside and outside, as a step with the inside at its right hand."""
    around = np.pad(mask, 1)
    steps = set()
    for y, x in np.argwhere(mask).tolist():
        sides = {
            ((x, y), (x + 1, y)): around[y, x + 1],
            ((x + 1, y), (x + 1, y + 1)): around[y + 1, x + 2],
            ((x + 1, y + 1), (x, y + 1)): around[y + 2, x + 1],
            ((x, y + 1), (x, y)): around[y + 1, x],
        }
        steps |= {step for step, neighbour in sides.items() if not neighbour}
    return steps


def steps_of(ring: np.ndarray) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The steps from pixel to pixel along a border of corners (P, 2)."""
    steps = []
    for (x1, y1), (x2, y2) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
        count = max(abs(x2 - x1), abs(y2 - y1))
        places = [(x1 + (x2 - x1) * i // count, y1 + (y2 - y1) * i // count) for i in range(count + 1)]
        steps += zip(places, places[1:], strict=False)
    return steps


def area_of(ring: np.ndarray) -> float:
    """The area inside corners (P, 2) that go clockwise, as one sees it; less than 0 of others."""
    x, y = ring.T.astype(float)
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


@given(masks)
def test_the_borders_of_parts_are_each_side_between_inside_and_outside_once(mask: np.ndarray) -> None:
    parts = outlines.parts(outlines.encoded(mask))
    steps = [step for part in parts for ring in (part.outer, *part.holes) for step in steps_of(ring)]
    assert len(steps) == len(set(steps)) and set(steps) == steps_around(mask)


@given(masks)
def test_parts_and_their_holes_are_the_connected_ones(mask: np.ndarray) -> None:
    """Pixels hang together at corners too, and so what is outside does not."""
    parts = outlines.parts(outlines.encoded(mask))
    count, numbers = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    areas = sorted(area_of(part.outer) + sum(map(area_of, part.holes)) for part in parts)
    assert areas == sorted((numbers == number).sum() for number in range(1, count))
    around = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    assert sum(len(part.holes) for part in parts) == cv2.connectedComponents(around, connectivity=4)[0] - 2
    assert all(area_of(part.outer) > 0 and all(area_of(hole) < 0 for hole in part.holes) for part in parts)


def test_a_part_tells_the_corners_of_its_border_and_of_its_hole() -> None:
    """Three by three pixels around an empty one, and one more at the lower right."""
    (part,) = outlines.parts(outlines.encoded(RING))
    assert part.outer.tolist() == [[0, 0], [3, 0], [3, 2], [4, 2], [4, 3], [0, 3]]
    assert [hole.tolist() for hole in part.holes] == [[[1, 2], [2, 2], [2, 1], [1, 1]]]


@given(masks)
def test_pycocotools_makes_the_same_mask_of_polygons_along_the_borders(mask: np.ndarray) -> None:
    made, size = outlines.encoded(mask), {"width": mask.shape[1], "height": mask.shape[0]}
    if not mask.any():
        assert outlines.polygons(made) == [] == outlines.polygon(made)
        return
    assert outlines.compressed(outlines.polygons(made, tolerance=0), **size) == made
    assert outlines.compressed([outlines.polygon(made, tolerance=0)], **size) == made


@given(masks)
def test_polygons_are_thinned_no_further_than_a_small_object_bears(mask: np.ndarray) -> None:
    made, size = outlines.encoded(mask), {"width": mask.shape[1], "height": mask.shape[0]}
    if mask.any():
        for polygons in (outlines.polygons(made), [outlines.polygon(made)]):
            assert outlines.overlaps([outlines.compressed(polygons, **size)], [made])[0, 0] >= 0.93


def somebody(side: int, *, seed: int, width: int = 500, height: int = 500) -> dict[str, Any]:
    """A mask with the smooth border that a model makes: a person of `side` pixels, arms apart, in the picture."""
    rng = np.random.default_rng(seed)
    cells = np.zeros((28, 28), np.float32)
    cv2.circle(cells, (14, 4), 3, 1, -1)
    cv2.ellipse(cells, (14, 11), (4, 6), 0, 0, 360, 1, -1)
    for at, foot, hand in zip((12, 16), rng.integers((5, 15), (12, 23)), (3, 25), strict=True):
        cv2.line(cells, (at, 15), (int(foot), 27), 1, 3)
        cv2.line(cells, (at, 8), (hand, int(rng.integers(4, 18))), 1, 2)
    drawn = cv2.resize(cells, (side // 2, side), interpolation=cv2.INTER_LINEAR) > 0.5
    left, top = rng.integers(0, (width - side // 2 + 1, height - side + 1)).tolist()
    return outlines.encoded_patch(drawn, left=left, top=top, width=width, height=height)


@pytest.mark.parametrize(("side", "least"), [(12, 0.93), (24, 0.93), (31, 0.93), (140, 0.98), (250, 0.98), (500, 0.98)])
def test_thinned_polygons_of_people_keep_nearly_all_pixels_in_a_part_of_the_points(side: int, least: float) -> None:
    for seed in range(5):
        made = somebody(side, seed=seed)
        thinned = outlines.polygons(made)
        back = outlines.compressed(thinned, width=500, height=500)
        assert outlines.overlaps([back], [made])[0, 0] >= least
        if side >= 128:
            exact = outlines.polygons(made, tolerance=0)
            assert sum(map(len, thinned)) < 0.6 * sum(map(len, exact))


def test_a_tolerance_is_met_by_large_objects_and_shrinks_with_small_ones() -> None:
    """A stair of 4 pixels is at most 2.83 pixels from the straight line: gone at 3, and at 32 pixels only at 6."""
    stairs = np.tri(32, dtype=bool).repeat(4, axis=0).repeat(4, axis=1)
    large, small = outlines.encoded(stairs), outlines.encoded(stairs[:32, :32])
    assert [len(outlines.polygons(large, tolerance=pixels)[0]) > 8 for pixels in (2, 3)] == [True, False]
    assert [len(outlines.polygons(small, tolerance=pixels)[0]) > 8 for pixels in (3, 6)] == [True, False]


def test_parts_smaller_than_the_tolerance_fall_away_but_not_the_last_one() -> None:
    mask = np.zeros((200, 200), bool)
    mask[10:190, 10:50] = True
    mask[100, 100] = True
    large_only = outlines.polygons(outlines.encoded(mask), tolerance=3)
    assert large_only == [outlines.polygons(outlines.encoded(mask), tolerance=0)[0]]
    alone = outlines.polygons(outlines.encoded(mask & (np.arange(200) > 60)), tolerance=50)
    assert alone == [[100, 100, 101, 100, 101, 101, 100, 101]]


def test_polygons_of_a_large_picture_are_those_of_a_small_one() -> None:
    """Nothing of the size of the picture is made: one of 400 million pixels would take 400 MB."""
    patch = np.array(RING)
    far = outlines.encoded_patch(patch, left=19_000, top=17_000, width=20_000, height=20_000)
    near = outlines.polygons(outlines.encoded(patch), tolerance=0)
    moved = [(np.reshape(polygon, (-1, 2)) + (19_000, 17_000)).ravel().tolist() for polygon in near]
    tracemalloc.start()
    assert outlines.polygons(far, tolerance=0) == moved
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_hundreds_of_masks_are_measured_like_one() -> None:
    for number in (0, 1, 255, 256, 600):
        masks = [outlines.encoded(STAIRS)] * number
        assert outlines.areas(masks).tolist() == [4] * number
        assert outlines.boxes(masks).tolist() == [[0, 0, 3, 3]] * number
        assert outlines.overlaps(masks, masks[:1]).tolist() == ([[1]] * number if number else [])
