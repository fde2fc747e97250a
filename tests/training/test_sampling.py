"""An epoch takes a picture as often as the commonest kind outnumbers its own."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.training.sampling import Facts, draw, repeats


def facts(*sizes: tuple[int, int], classes: tuple[set[int], ...] = ()) -> list[Facts]:
    return [
        Facts(width, height, frozenset(classes[i] if classes else {1}), masked=True)
        for i, (width, height) in enumerate(sizes)
    ]


def test_without_balance_every_picture_comes_once() -> None:
    assert repeats(facts((8, 8), (9, 9)), "none").tolist() == [1, 1]
    assert repeats([], "size").tolist() == []


def test_a_size_that_is_a_quarter_as_common_comes_four_times() -> None:
    sizes = [(256, 256)] * 4 + [(320, 256)] * 2 + [(256, 320)]
    assert repeats(facts(*sizes), "size").tolist() == [1, 1, 1, 1, 2, 2, 4]


def test_a_picture_comes_as_often_as_its_rarest_class_asks_for() -> None:
    classes = ({1}, {1}, {1, 2}, {1, 3}, {1, 2}, {1, 2}, set())
    assert repeats(facts(*[(8, 8)] * 7, classes=classes), "class").tolist() == [1, 1, 2, 6, 2, 2, 1]


def test_an_epoch_takes_all_before_any_comes_again() -> None:
    order = draw(np.array([1, 3, 1]), np.ones(3), 5, np.random.default_rng(0))
    assert sorted(order) == [0, 1, 1, 1, 2]
    twice = draw(np.array([1, 1]), np.ones(2), 6, np.random.default_rng(0))
    assert sorted(twice) == [0, 0, 0, 1, 1, 1]


def test_chances_count_beside_the_balance() -> None:
    order = draw(np.array([1, 3]), np.array([2.0, 1.0]), 4000, np.random.default_rng(0))
    assert np.mean(order == 0) == pytest.approx(2 / 5, abs=0.03)
