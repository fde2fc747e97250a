"""The classes of a job: a label of another one is refused by every format, in the same words."""

from __future__ import annotations

from collections.abc import Collection

from streamseg.labels import LabelledFrame
from streamseg.types import UsageError
from streamseg.words import known_and_nearest


def check_classes(frame: LabelledFrame, class_names: Collection[str]) -> None:
    """UsageError for a label whose class is not among those that the format was opened with."""
    for label in frame.labels:
        if label.class_name not in class_names:
            raise UsageError(
                f"frame {frame.index}: label {label.class_name!r} is none of the classes of this job"
                f"{known_and_nearest(label.class_name, class_names)}"
            )
