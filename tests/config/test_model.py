"""A model that cannot be is refused where it is described, with what would fit."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from streamseg.config import ModelConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ["person"]}, '"background" and at least one class'),
        ({"roi_levels": []}, r"roi_levels: expected levels without a gap, such as \[2, 3, 4, 5\], got \[\]"),
        ({"roi_levels": [2, 4]}, r"roi_levels: expected levels without a gap, such as \[2, 3, 4, 5\], got \[2, 4\]"),
        ({"input_sizes": [[640, 360]]}, "expected multiples of 32, got 640x360"),
        ({"anchor_sizes": [[10], [20]]}, "one list for each of the 4 rpn_levels, got 2"),
        ({"anchor_sizes": [[10], [20], [40], [80, 90]]}, "the same number of sizes on every level"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**change)
