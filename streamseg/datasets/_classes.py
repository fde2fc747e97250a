"""The choice of some classes of a dataset by their names."""

from __future__ import annotations

from collections.abc import Sequence

from streamseg.config import nearest
from streamseg.types import UsageError


def chosen(classes: Sequence[str], known: Sequence[str]) -> list[str]:
    """The known names that are among `classes`, in their own order; all where `classes` is empty.

    Raises UsageError for a class that is not known, with the nearest that is.
    """
    for name in classes:
        if name not in known:
            raise UsageError(f"classes: there is no class {name!r} in it{nearest(name, known)}")
    return [name for name in known if name in classes or not classes]
