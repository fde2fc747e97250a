"""The choice of some classes of a dataset by their names."""

from __future__ import annotations

from collections.abc import Sequence

from streamseg.types import UsageError
from streamseg.words import nearest

BACKGROUND = "background"
"""The name of class id 0, which is no object; a class of objects cannot be called so."""


def chosen(classes: Sequence[str], known: Sequence[str]) -> list[str]:
    """The known names that are among `classes`, in their own order; all where `classes` is empty.

    Raises UsageError for a class that is not known, with the nearest that is, and for one that is called `background`:
    its objects would be none.
    """
    for name in classes:
        if name not in known:
            raise UsageError(f"classes: there is no class {name!r} in it{nearest(name, known)}")
    taken = [name for name in known if name in classes or not classes]
    if BACKGROUND in taken:
        others = ", ".join(name for name in known if name != BACKGROUND) or "others"
        raise UsageError(
            f"classes: expected classes of objects, got {BACKGROUND!r}, which is the name of what is no object; "
            f"take {others} only, or rename it"
        )
    return taken
