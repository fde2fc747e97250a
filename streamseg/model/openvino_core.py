"""OpenVINO's core: one for the whole process, and never let go.

On CPUs with AMX its CPU plugin lays a larger stack for signal handlers under the thread that loads it, and frees that
with the last core, in whatever thread this happens. The next Ctrl-C would then end the process with a segmentation
fault.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

_LOCK = threading.Lock()


def openvino_core() -> Any:
    """The core of this process, an `openvino.Core`."""
    with _LOCK:  # two made at once would be one too many
        return _made()


@cache
def _made() -> Any:
    import openvino

    return openvino.Core()
