"""Segment every object in a video with Mask R-CNN.

for result in streamseg.run("street.mp4", effects=["splash:classes=person"]):
    print(result.frame.time, result.instances.names)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamseg.types import Frame, Instances, Result, StreamsegError

# OpenVINO's converter reports every use to its makers, unasked, from a forked process that hangs where there are
# threads. Without this package it uses a stub. It must be said before openvino is imported, so it stands here.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

__version__ = "0.1.0"
__all__ = ["Frame", "Instances", "Result", "StreamsegError", "run"]


def run(
    inputs: str | Path | Sequence[str | Path],
    *,
    effects: Sequence[Any] | None = None,
    output: str | Path | Sequence[str | Path] = (),
    **options: Any,
) -> Iterator[Result]:
    """Every frame of the inputs with what was found in it, as soon as it is done.

    effects  names (`"splash:classes=person+car"`), `{"splash": {"classes": ["person"]}}`, or objects with a `draw`;
             `result.picture` is what they drew. None: overlay and labels if there is an output, else nothing.
    output   files by their ending, `images:FOLDER` or folders, as `streamseg run -o`; none: nothing is written.
    options  the other fields of `streamseg.request.Request`: `model`, `classes`, `min_score`, `pipeline`, `start`, …,
             but for the page's, `web` and `show`

    What is wrong with the request is raised at once. A stream that fails raises its error after the last result.
    Leaving the loop early ends the run; outputs then stay under their part names, closed and playable.
    """
    from streamseg.job import assemble
    from streamseg.plan import plan
    from streamseg.request import Request
    from streamseg.types import UsageError

    if "outputs" in options:
        raise UsageError("no option is called 'outputs'; did you mean 'output'?")
    for name in ("web", "show"):
        if options.get(name):
            raise UsageError(f"{name}: the page is the command's, streamseg run; here the results are yours to show")
    request = Request.of(inputs=_texts(inputs), effects=effects, outputs=_texts(output), writes=False, **options)
    planned = plan(request)
    for problem in planned.refused.values():
        raise problem
    return assemble(planned).results()


def _texts(given: str | Path | Sequence[str | Path]) -> list[str]:
    return [str(each) for each in ([given] if isinstance(given, str | Path) else given)]


def __getattr__(name: str) -> Any:
    """The nouns, imported when they are first asked for: `import streamseg` alone stays quick."""
    if name in __all__:
        from streamseg import types

        return getattr(types, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
