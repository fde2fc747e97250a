"""How an object looks is what is under its mask, in every pixel format, and only that."""

from __future__ import annotations

import itertools
import math

import av
import numpy as np
import pytest

from streamseg.trackers._looks import alike, looks_in, looks_of
from streamseg.types import Frame, Instances, Sight

WIDTH, HEIGHT = 96, 64
LEFT, RIGHT = (8, 8, 32, 56), (56, 8, 80, 56)
RED, BLUE, GREY = (200, 40, 40), (40, 40, 200), (128, 128, 128)


def people(*boxes: tuple[float, float, float, float], mask: np.ndarray | None = None) -> Instances:
    n = len(boxes)
    return Instances(
        boxes=np.array(boxes, np.float32).reshape(n, 4),
        masks=np.repeat((np.ones((28, 28)) if mask is None else mask)[None], n, axis=0).astype(np.float32),
        scores=np.full(n, 0.9, np.float32),
        class_ids=np.ones(n, np.int32),
        track_ids=np.full(n, -1, np.int32),
        class_names=("background", "person"),
    )


def painted(*patches: tuple[tuple[int, int, int, int], tuple[int, int, int]], format: str = "yuv444p") -> av.VideoFrame:
    rgb = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    for (x1, y1, x2, y2), colour in patches:
        rgb[y1:y2, x1:x2] = colour
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=format)


FORMATS = ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "nv12", "p010le", "yuyv422"]


@pytest.mark.parametrize("format", [*FORMATS, "rgb24", "bgr0", "gbrp"])
def test_the_same_colours_look_the_same_and_others_do_not_in_every_pixel_format(format: str) -> None:
    first = looks_of(painted((LEFT, RED), (RIGHT, BLUE), format=format), people(LEFT, RIGHT))
    second = looks_of(painted((LEFT, BLUE), (RIGHT, RED), format=format), people(LEFT, RIGHT))
    likeness = alike(first, second)
    assert likeness[0, 1] > 0.95 and likeness[1, 0] > 0.95
    assert likeness[0, 0] < 0.5 and likeness[1, 1] < 0.5


def test_ten_bits_and_eight_look_the_same() -> None:
    eight, ten = (painted((LEFT, RED), format=format) for format in ("yuv420p", "yuv420p10le"))
    assert alike(looks_of(eight, people(LEFT)), looks_of(ten, people(LEFT)))[0, 0] > 0.95


def test_trousers_and_coat_exchanged_is_somebody_else() -> None:
    upper, lower = (8, 8, 32, 32), (8, 32, 32, 56)
    one = looks_of(painted((upper, RED), (lower, BLUE)), people(LEFT))
    other = looks_of(painted((upper, BLUE), (lower, RED)), people(LEFT))
    assert alike(one, one)[0, 0] == pytest.approx(1)
    assert alike(one, other)[0, 0] < 0.5


def test_what_is_not_under_the_mask_does_not_count() -> None:
    middle = np.zeros((28, 28))
    middle[:, 10:18] = 1
    core = (17, 8, 23, 56)  # cells 10 to 18 of 28 on 24 pixels: 16.6 to 23.4
    on_red, on_blue = painted((LEFT, RED), (core, GREY)), painted((LEFT, BLUE), (core, GREY))
    seen = [looks_of(picture, people(LEFT, mask=middle)) for picture in (on_red, on_blue)]
    assert alike(*seen)[0, 0] > 0.95


def test_an_object_half_out_of_the_picture_looks_like_the_half_that_is_in_it() -> None:
    picture = painted(((0, 8, 24, 56), RED))
    seen = looks_of(picture, people((-24, 8, 24, 56), (0, 8, 24, 56)))
    assert alike(seen, seen)[0, 1] == pytest.approx(1, abs=0.01)


def test_a_look_is_what_its_points_say_one_by_one() -> None:
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)
    picture = av.VideoFrame.from_ndarray(planes, format="yuv444p")
    found = people((-9.5, 3.2, 30.7, 50), (40, -20, 120, 90), (1, 1, 3, 3), mask=rng.uniform(0, 1, (28, 28)))
    for look, box, mask in zip(looks_of(picture, found), found.boxes.tolist(), found.masks, strict=True):
        np.testing.assert_allclose(look.reshape(2, 3, 12), plain_look(planes, box, mask), atol=1e-5)


def plain_look(planes: np.ndarray, box: list[float], mask: np.ndarray) -> np.ndarray:
    """The two halves' histograms of Y, U and V (2, 3, 12), point after point."""
    (x1, y1, x2, y2), counts = box, np.zeros((2, 3, 12))
    for down, across in itertools.product((np.arange(32) + 0.5) / 32, (np.arange(16) + 0.5) / 16):
        x, y = math.floor(x1 + across * (x2 - x1)), math.floor(y1 + down * (y2 - y1))
        if mask[int(28 * down), int(28 * across)] >= 0.5 and 0 <= x < WIDTH and 0 <= y < HEIGHT:
            for component, (low, high) in enumerate(((0, 255), (80, 176), (80, 176))):
                place = min(max((planes[component, y, x] - float(low)) / (high - low) * 11, 0), 10.999)
                counts[int(down >= 0.5), component, int(place)] += 1 - place % 1
                counts[int(down >= 0.5), component, int(place) + 1] += place % 1
    return counts / np.maximum(counts.sum(axis=2, keepdims=True), 1)


def test_of_a_box_that_is_no_number_nothing_is_known() -> None:
    assert not looks_of(painted((LEFT, RED)), people((np.nan, 8, 32, 56))).any()


def test_where_nothing_is_known_likeness_is_not_a_number() -> None:
    outside, empty = people((200, 200, 220, 240)), people(LEFT, mask=np.zeros((28, 28)))
    picture = painted((LEFT, RED))
    for unknown in (outside, empty):
        assert not looks_of(picture, unknown).any()
        assert np.isnan(alike(looks_of(picture, unknown), looks_of(picture, people(LEFT)))).all()
    assert not looks_of(painted((LEFT, RED), format="monow"), people(LEFT)).any()
    assert looks_of(picture, people()).shape == (0, 72)


def test_grey_pictures_are_compared_by_their_brightness_alone() -> None:
    dark, light = (painted((LEFT, (v, v, v)), format="gray") for v in (20, 220))
    coloured = painted((LEFT, (20, 20, 20)), format="yuvj444p")
    looks = [looks_of(picture, people(LEFT)) for picture in (dark, light, coloured)]
    assert alike(looks[0], looks[0])[0, 0] == pytest.approx(1)
    assert alike(looks[0], looks[1])[0, 0] < 0.1
    assert alike(looks[0], looks[2])[0, 0] > 0.9


def test_looks_that_were_kept_are_told_without_the_picture_whichever_of_the_objects_are_left() -> None:
    picture = painted((LEFT, RED), (RIGHT, BLUE))
    found = people(LEFT, RIGHT, (40, 10, 50, 20))
    blank = av.VideoFrame(WIDTH, HEIGHT, "gray")
    kept = Sight(found, np.zeros((18, 32)), looks_of(picture, found))
    frame = Frame(blank, 0, 0.0, 0.0, "street", sight=kept)
    for rows in ([0, 1, 2], [2, 0], [1], []):
        some = found[np.array(rows, np.intp)]
        np.testing.assert_array_equal(looks_in(frame, some), looks_of(picture, some))
