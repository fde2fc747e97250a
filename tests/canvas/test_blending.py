"""Samples go over each other by weight to the last bit, in 8 bits as in 16."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.canvas import Canvas
from streamseg.canvas.blending import blurred, lay, lift, mix, mosaic, share
from tests.canvas.pictures import one_colour, samples

DTYPES = [np.uint8, np.uint16]
EVERY_WEIGHT = np.arange(256, dtype=np.uint8).reshape(16, 16)


def random_samples(seed: int, dtype: type) -> np.ndarray:
    """(16, 16) of the whole range of the type."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (16, 16), dtype)


def test_half_a_weight_is_half_way() -> None:
    canvas = Canvas(one_colour((0, 0, 0), "gbrp", matrix=1, full=True))
    canvas.stamp(np.full((8, 8), 51, np.uint8), (255, 0, 100), x=0, y=0)
    assert [int(plane[0, 0]) for plane in samples(canvas.picture)] == [0, 20, 51]  # G, B, R: a fifth of each


@pytest.mark.parametrize("dtype", DTYPES)
def test_value_over_itself_is_itself_at_every_weight(dtype: type) -> None:
    for value in (0, 1, 16, 100, 235, 255):
        part = np.full((16, 16), value, dtype)
        lay(part, EVERY_WEIGHT, value)
        assert (part == value).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_weight_and_none_keep_every_bit(dtype: type) -> None:
    over, under = random_samples(1, dtype), random_samples(2, dtype)
    weight = np.where(np.arange(256).reshape(16, 16) % 2, 255, 0).astype(np.uint8)
    mixed, lifted, laid = np.empty_like(over), np.empty_like(over), over.copy()
    mix(over, under, weight, mixed)
    assert np.array_equal(mixed, np.where(weight, over, under))
    lift(over, weight, np.where(weight, 0, 9).astype(dtype), lifted)
    assert np.array_equal(lifted, np.where(weight, over, 9))
    lay(laid, weight, 9)
    assert np.array_equal(laid, np.where(weight, 9, over))


@pytest.mark.parametrize("dtype", DTYPES)
def test_mix_is_the_weighted_mean(dtype: type) -> None:
    over, under = random_samples(1, dtype), random_samples(2, dtype)
    target = np.empty_like(over)
    mix(over, under, EVERY_WEIGHT, target)
    weight = EVERY_WEIGHT / 255
    assert np.abs(target - (over * weight + under * (1 - weight))).max() <= 1  # two roundings of a half


def test_share_of_a_value_is_all_of_it_at_full_weight_and_nothing_at_none() -> None:
    for value, deep in ((200, False), (60_000, True)):
        table = share(value, deep)
        assert (table[0], table[51], table[255]) == (0, value / 5, value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_are_their_means_and_cut_off_at_the_end(dtype: type) -> None:
    samples = np.array([[0, 2, 40], [4, 6, 40], [9, 9, 30]], dtype)
    assert mosaic(samples, high=2, wide=2).tolist() == [[3, 3, 40], [3, 3, 40], [9, 9, 30]]


def test_blur_leaves_an_even_part_even_at_any_radius() -> None:
    for radius in (0.5, 3.0, 40.0):
        assert (blurred(np.full((20, 30), 77, np.uint8), radius_x=radius, radius_y=radius / 2) == 77).all()


def test_what_has_no_weight_does_not_run_into_the_blur() -> None:
    samples = np.full((20, 30), 10, np.uint16)
    samples[:, 10:20] = 60_000
    weight = np.where(samples == 10, 255, 0).astype(np.uint8)
    soft = blurred(samples, radius_x=1.5, radius_y=1.5, weight=weight)
    assert (soft[:, :9] == 10).all() and (soft[:, 21:] == 10).all()
