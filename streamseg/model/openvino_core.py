"""OpenVINO's core: one for the whole process, and never let go; how its threads are to be; what it makes of TensorFlow.

On CPUs with AMX its CPU plugin lays a larger stack for signal handlers under the thread that loads it, and frees that
with the last core, in whatever thread this happens. The next Ctrl-C would then end the process with a segmentation
fault.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

UNBOUND = {"ENABLE_CPU_PINNING": False}
"""Threads that may change cores. Bound to one, each waits for it while another is free: decoding and drawing need
cores, too, so that a picture took 5 to 15 % longer on an idle machine, 60 % beside another program."""

_LOCK = threading.Lock()


def openvino_core() -> Any:
    """The core of this process, an `openvino.Core`."""
    with _LOCK:  # two made at once would be one too many
        return _made()


@cache
def _made() -> Any:
    import openvino

    return openvino.Core()


def converted(function: Any) -> Any:
    """A function of TensorFlow, traced (`get_concrete_function`), as an `openvino.Model`."""
    import openvino
    import tensorflow
    from openvino.frontend.tensorflow import utils

    # OpenVINO (2026.4) asks for this in a way that is a NameError from Python 3.13 on
    utils.get_environment_setup = lambda _: {"tensorflow": tensorflow.__version__}
    return openvino.convert_model(function)
