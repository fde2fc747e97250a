"""Waiting before another attempt: longer and longer, and not all at the same moment."""

from __future__ import annotations

from itertools import islice

import pytest

from streamseg.backoff import delays


@pytest.mark.parametrize(("drawn", "share"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
def test_attempts_come_after_1_2_4_8_and_then_every_10_seconds_give_or_take_a_fifth(drawn: float, share: float) -> None:
    waits = list(islice(delays(lambda: drawn), 7))
    assert waits == pytest.approx([share * seconds for seconds in (1, 2, 4, 8, 10, 10, 10)])


def test_by_default_no_two_wait_the_same() -> None:
    assert next(delays()) != next(delays())
