"""Zones: the tint of each, and its plate with how many are in it now."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamseg.effects.zones import Zones
from streamseg.types import UsageError
from tests.effects.scenes import draw, even, objects, picture, rgb

LEFT = [0.1, 0.2, 0.4, 0.2, 0.4, 0.9, 0.1, 0.9]
RIGHT = [0.6, 0.2, 0.9, 0.2, 0.9, 0.9, 0.6, 0.9]


def drawn(corners: dict[str, list[float]], counts: dict[str, Any] | None = None, **options: Any) -> np.ndarray:
    on = even((90, 90, 90), width=640, height=480)
    return rgb(draw(Zones(corners=corners, **options), on, objects(), {"zones": counts or {}})).astype(int)


def test_a_zone_is_tinted_and_the_rest_of_the_picture_is_not() -> None:
    seen = drawn({"shop": LEFT})
    inside = seen[150:420, 75:245]
    assert (inside == inside[0, 0]).all() and (inside[0, 0] != 90).any()
    assert (seen[:, 270:] == 90).all()
    assert (drawn({"shop": LEFT}, opacity=0)[150:420, 75:245] == 90).all()


def test_two_zones_have_two_colours() -> None:
    seen = drawn({"shop": LEFT, "door": RIGHT})
    assert np.abs(seen[300, 160] - seen[300, 480]).max() > 15


def test_its_plate_says_how_many_are_in_it_now() -> None:
    three = drawn({"shop": LEFT}, {"shop": {"person": {"now": 1, "entered": 7, "left": 6}, "dog": {"now": 2}}})
    assert (three == drawn({"shop": LEFT}, {"shop": {"person": {"now": 3}}})).all()
    rows, columns = np.nonzero((three != drawn({"shop": LEFT})).any(axis=2))
    assert rows.max() < 0.3 * 480 and columns.max() < 0.4 * 640


def test_without_zones_nothing_is_drawn() -> None:
    before = picture("yuv420p", 320, 240)
    assert draw(Zones(), before, objects((0, 0, 20, 20)), {"zones": {"shop": {}}}) is before


def test_what_is_impossible_is_refused() -> None:
    with pytest.raises(UsageError, match="zone shop: expected three corners or more, got 2"):
        Zones(corners={"shop": [0, 0, 1, 1]})
    with pytest.raises(UsageError, match="zones: opacity: expected 0 to 1, got 1.5"):
        Zones(opacity=1.5)
