"""A network in training as scripts and their callbacks know it: losses by the original's names, its weights files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from streamseg.matterport.config import LOSSES
from streamseg.model.checkpoint import weights_by_name
from streamseg.model.losses import TrainedMaskRCNN
from streamseg.model.matterport_h5 import load_matterport, save_matterport
from streamseg.types import UsageError

Tensor = Any

OUTPUTS = tuple(name.removesuffix("_loss") for name in LOSSES)
"""What the network in training puts out; Keras calls their losses by these names and `_loss`."""


class NamedLosses(TrainedMaskRCNN):
    """The five losses times their weights, each (B,), under the original's names.

    written: the network that a weights file is written of; it is given the weights of the one that learns.
    """

    def __init__(self, *args: Any, written: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # a network that Keras finds here would count as another part of this one
        self._written: Callable[[], Any] = lambda: written

    def call(self, batch: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        losses, weights = super().call(batch, training=training), self.training_config.loss_weights
        return {name.removesuffix("_loss"): weights[ours] * losses[ours] for name, ours in LOSSES.items()}

    def save_weights(self, filepath: str | Path, overwrite: bool = True, **options: Any) -> None:
        """Write a file that `MaskRCNN.load_weights` reads; a callback's `filepath` calls this."""
        path = Path(filepath)
        if path.suffix != ".h5":
            raise UsageError(f"{path}: expected a name that ends in .h5, of a weights file as the original's")
        if path.exists() and not overwrite:
            raise UsageError(f"{path}: it exists already")
        written = self._up_to_date()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_matterport(written, path)

    def save(self, filepath: str | Path, overwrite: bool = True, **options: Any) -> None:
        """`save_weights`: the network's structure follows from its `Config`."""
        self.save_weights(filepath, overwrite)

    def load_weights(self, filepath: str | Path, **options: Any) -> None:
        """Read a file of `save_weights`."""
        load_matterport(self.network, Path(filepath))

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """A layer by the original's name, for a callback's look at its weights: `KerasModel.get_layer`."""
        return self._up_to_date().get_layer(name, index)

    def _up_to_date(self) -> Any:
        """The network that files are written of, as it has learned so far."""
        written = self._written()
        copy_weights(self.network, written)
        return written


def copy_weights(source: Any, target: Any) -> None:
    """Give a network the weights of another one of its kind."""
    if source is target:
        return
    values = weights_by_name(source)
    for name, variable in weights_by_name(target).items():
        variable.assign(np.asarray(keras.ops.convert_to_numpy(values[name])))


def less_is_better(callbacks: Sequence[Any]) -> None:
    """Tell callbacks that watch a loss so; Keras itself knows it of `loss` and `val_loss` alone, and refuses others."""
    for callback in callbacks:
        watched = str(getattr(callback, "monitor", "")).removeprefix("val_")
        if watched in LOSSES and getattr(callback, "mode", None) == "auto":
            callback.mode = "min"
