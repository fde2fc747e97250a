"""The bowl's mean precision: by hand, by brute force over pixels, and over label maps without overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from streamseg import outlines
from streamseg.evaluation.bowl import THRESHOLDS, apart, best_min_score, mean_precision, overlaps, precisions
from streamseg.evaluation.objects import Comparison, Objects

WIDTH, HEIGHT = 40, 10


def objects(*rows: tuple[int, int, float], name: str = "nucleus") -> Objects:
    """Objects that fill the columns from the first to before the second number, with their scores."""
    masks = []
    for start, end, _ in rows:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[:, start:end] = True
        masks.append(mask)
    return of_masks(masks, [score for *_, score in rows], name)


def of_masks(masks: Sequence[np.ndarray], scores: Sequence[float], name: str = "nucleus") -> Objects:
    n, no = len(masks), np.zeros(len(masks), bool)
    areas = np.array([mask.sum() for mask in masks], float)
    runs = tuple(outlines.encoded(mask) for mask in masks)
    return Objects((name,) * n, np.zeros((n, 4)), runs, np.array(scores, np.float32), areas, no, no)


def picture(truth: Objects, found: Objects) -> Comparison:
    return Comparison("a", WIDTH, HEIGHT, truth, found)


def pixels(found: Objects) -> list[np.ndarray]:
    return [coco_mask.decode(mask).astype(bool) for mask in found.masks]


def label_map(found: Objects, *, width: int, height: int) -> np.ndarray:
    """(height, width) int32: in each pixel the number, from 1, of the best object that covers it; 0 for none."""
    labels = np.zeros((height, width), np.int32)
    for i in np.argsort(-found.scores, kind="stable"):
        labels[(coco_mask.decode(found.masks[i]) > 0) & (labels == 0)] = i + 1
    return labels


def test_hits_are_shared_by_hits_misses_and_false_alarms() -> None:
    """Three true, one found exactly, one false alarm: 1 / (1 + 2 + 1) at every threshold."""
    truth = objects((0, 5, 1), (10, 15, 1), (20, 25, 1))
    score = mean_precision([picture(truth, objects((0, 5, 0.9), (30, 35, 0.8)))], min_score=0.5)
    assert score["AP"] == pytest.approx(0.25)


def test_an_overlap_counts_only_above_the_threshold() -> None:
    """IoU 6/10 is above 0.5 and 0.55, not above 0.6: two of ten thresholds."""
    assert precisions(np.array([[0.6]])).tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert mean_precision([picture(objects((0, 10, 1)), objects((0, 6, 1)))], min_score=0.5)["AP"] == pytest.approx(0.2)


def test_exactly_half_is_not_enough() -> None:
    assert precisions(np.array([[0.5]])).sum() == 0


def test_nothing_where_there_is_nothing_is_right() -> None:
    none = objects()
    assert mean_precision([picture(none, none)], min_score=0.5)["AP"] == 1
    assert mean_precision([picture(none, objects((0, 5, 0.9)))], min_score=0.5)["AP"] == 0
    assert mean_precision([picture(objects((0, 5, 1)), none)], min_score=0.5)["AP"] == 0


def test_the_mean_is_over_pictures_not_over_objects() -> None:
    """One of one found, none of three: half, not a quarter."""
    all_of_one = picture(objects((0, 5, 1)), objects((0, 5, 0.9)))
    none_of_three = picture(objects((0, 5, 1), (10, 15, 1), (20, 25, 1)), objects())
    assert mean_precision([all_of_one, none_of_three], min_score=0.5)["AP"] == 0.5


def test_the_better_score_has_the_pixels_that_two_share() -> None:
    kept = apart(objects((0, 10, 0.6), (5, 15, 0.9)), width=WIDTH, height=HEIGHT)
    assert [mask[0].nonzero()[0].tolist() for mask in pixels(kept)] == [list(range(5, 15)), list(range(5))]
    assert kept.scores == pytest.approx([0.9, 0.6]) and kept.areas.tolist() == [100, 50]


def test_an_object_without_a_pixel_of_its_own_is_gone() -> None:
    assert len(apart(objects((0, 10, 0.9), (2, 8, 0.8)), width=WIDTH, height=HEIGHT)) == 1


def random_objects(rng: np.random.Generator, count: int) -> Objects:
    masks = []
    for _ in range(count):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        y, x = rng.integers(0, HEIGHT - 4), rng.integers(0, WIDTH - 10)
        mask[y : y + rng.integers(2, 6), x : x + rng.integers(4, 14)] = True
        masks.append(mask)
    return of_masks(masks, rng.permutation(count) / count)


def test_objects_apart_are_those_of_the_label_map() -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        found = random_objects(rng, 12)
        labels, kept = label_map(found, width=WIDTH, height=HEIGHT), apart(found, width=WIDTH, height=HEIGHT)
        assert sum(mask.astype(int) for mask in pixels(kept)).max() == 1
        by_score = sorted(set(labels[labels > 0].tolist()), key=lambda label: -found.scores[label - 1])
        for label, mask in zip(by_score, pixels(kept), strict=True):
            np.testing.assert_array_equal(mask, labels == label)


def test_weak_objects_take_nothing_from_better_ones() -> None:
    found = random_objects(np.random.default_rng(4), 15)
    kept = apart(found, width=WIDTH, height=HEIGHT)
    fewer = apart(found[found.scores >= 0.5], width=WIDTH, height=HEIGHT)
    assert [m["counts"] for m in kept[kept.scores >= 0.5].masks] == [m["counts"] for m in fewer.masks]


def slow_precisions(truth: list[np.ndarray], found: list[np.ndarray]) -> list[float]:
    """Every way to pair found and true objects is tried, at each threshold."""
    iou = [[(f & t).sum() / (f | t).sum() for t in truth] for f in found]
    values = []
    for threshold in THRESHOLDS:
        longer, shorter = max(len(found), len(truth)), min(len(found), len(truth))
        turned = len(found) < len(truth)
        hits = max(
            sum((iou[i][j] if turned else iou[j][i]) > threshold for i, j in enumerate(way))
            for way in permutations(range(longer), shorter)
        )
        values.append(hits / (len(found) + len(truth) - hits))
    return values


def test_precisions_are_those_of_the_best_pairing() -> None:
    rng = np.random.default_rng(6)
    for _ in range(15):
        truth = random_objects(rng, 4)
        moved = [np.roll(mask, rng.integers(-1, 2), axis=1) for mask in pixels(truth)]
        found = of_masks([*moved, *pixels(random_objects(rng, 2))], [1.0] * 6)  # they overlap one another
        np.testing.assert_allclose(precisions(overlaps(truth, found)), slow_precisions(pixels(truth), pixels(found)))


def test_objects_of_another_class_are_no_hits() -> None:
    truth, found = objects((0, 5, 1), name="cat"), objects((0, 5, 0.9), name="dog")
    assert mean_precision([picture(truth, found)], min_score=0.5)["AP"] == 0


def test_only_scores_from_the_least_up_count() -> None:
    truth, found = objects((0, 5, 1)), objects((0, 5, 0.9), (10, 15, 0.5), (20, 25, 0.4))
    assert mean_precision([picture(truth, found)], min_score=0.5)["AP"] == 0.5
    assert mean_precision([picture(truth, found)], min_score=0.51)["AP"] == 1


def test_the_best_score_is_that_of_trying_them_all() -> None:
    rng = np.random.default_rng(8)
    pictures = []
    for _ in range(4):
        truth = random_objects(rng, 6)
        alarms = random_objects(rng, 6)
        scores = [*rng.uniform(0.3, 1, 6), *rng.uniform(0.05, 0.6, 6)]
        pictures.append(picture(truth, of_masks([*pixels(truth), *pixels(alarms)], scores)))
    told = mean_precision(pictures, min_score=0.5)
    tried = {score / 100: mean_precision(pictures, min_score=score / 100)["AP"] for score in range(5, 96)}
    assert told["best_AP"] == pytest.approx(max(tried.values()))
    assert told["best_min_score"] == min(s for s, ap in tried.items() if ap > max(tried.values()) - 1e-9)
    assert told["AP"] == tried[0.5] and 0.05 < told["best_min_score"] < 0.95


def test_of_equally_good_scores_the_lowest_is_taken() -> None:
    """A hit at 0.9, a false alarm at 0.4: from 0.41 up."""
    assert best_min_score([(np.array([[1.0], [0.0]]), np.float32([0.9, 0.4]))]) == 0.41
