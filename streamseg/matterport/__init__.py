"""The API that scripts written for matterport/Mask_RCNN know, on the parts of streamseg.

from streamseg.matterport import Config, Dataset, MaskRCNN, utils, visualize
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import streamseg.matterport.model as model
    import streamseg.matterport.utils as utils
    import streamseg.matterport.visualize as visualize
    from streamseg.matterport.config import Config
    from streamseg.matterport.dataset import Dataset
    from streamseg.matterport.model import MaskRCNN

__all__ = ["Config", "Dataset", "MaskRCNN", "model", "utils", "visualize"]

_CLASSES = {"Config": "config", "Dataset": "dataset", "MaskRCNN": "model"}


def __getattr__(name: str) -> Any:
    """The classes, imported when they are first asked for: `utils` and `Dataset` need no Keras."""
    if name in _CLASSES:
        return getattr(importlib.import_module(f"{__name__}.{_CLASSES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
