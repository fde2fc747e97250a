"""Train a network the way the original's `train` does: one stage, a weights file of the original's kind an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from streamseg.config import AugmentConfig, Component, TrainingConfig
from streamseg.matterport.config import Config, training_config
from streamseg.matterport.dataset import Dataset, Samples
from streamseg.model.losses import LOSSES, TrainedMaskRCNN
from streamseg.model.matterport_h5 import save_matterport
from streamseg.training.fit import EventLog, StopAtNan, matcher
from streamseg.training.layers import Selection
from streamseg.training.loader import Batches, Pictures
from streamseg.training.optimizers import Schedule, make_optimizer
from streamseg.types import UsageError


@dataclass(frozen=True)
class Plan:
    """What one call of `train` asks for.

    epochs: the last one's number, not how many · layers: `heads`, `3+`, `4+`, `5+`, `all` or a regular expression ·
    first_epoch: how many are done · checkpoint_path: with `{epoch:04d}` in it · log_dir of TensorBoard
    """

    learning_rate: float
    epochs: int
    layers: str
    augment: AugmentConfig | None
    first_epoch: int
    checkpoint_path: str
    log_dir: str


class Weights(keras.callbacks.Callback):
    """Writes the weights after every epoch, as the original does."""

    def __init__(self, network: Any, checkpoint_path: str) -> None:
        super().__init__()
        self.network, self.checkpoint_path = network, checkpoint_path

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        path = Path(self.checkpoint_path.format(epoch=epoch + 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_matterport(self.network, path)


def train(
    selection: Selection,
    config: Config,
    train_dataset: Dataset,
    val_dataset: Dataset,
    *,
    plan: Plan,
    callbacks: Sequence[Any] = (),
) -> dict[str, list[float]]:
    """Train the layers of a plan; returns the losses of every epoch, those of `val_dataset` as `val_…`."""
    network: Any = selection.network
    training = training_config(
        config,
        datasets={"train": _component(train_dataset), "val": _component(val_dataset)},
        learning_rate=plan.learning_rate,
        epochs=max(1, plan.epochs - plan.first_epoch),
        layers=plan.layers,
        augment=plan.augment,
    )
    (stage,) = training.stages
    match = matcher(network.config, training, size=stage.crop)
    batches = Batches(
        _pictures(train_dataset, training, config),
        training,
        stage,
        epoch=plan.first_epoch,
        padding=network.config.padding,
        steps=config.STEPS_PER_EPOCH,
        match=match,
    )
    val_batches = Batches(
        _pictures(val_dataset, training, config),
        training,
        stage,
        padding=network.config.padding,
        steps=config.VALIDATION_STEPS,
        match=match,
    )
    selection.choose(plan.layers)
    model = TrainedMaskRCNN(network, training, dtype="float32", name="training")
    model.build()
    optimizer = make_optimizer(training, Schedule([stage], [stage.epochs * len(batches)]))
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer=optimizer,
        loss={name: _as_it_is for name in LOSSES},
        loss_weights={name: training.loss_weights[name] for name in LOSSES},
        jit_compile=keras.backend.backend() == "jax",
    )
    history = model.fit(
        batches,
        validation_data=val_batches,
        initial_epoch=plan.first_epoch,
        epochs=plan.epochs,
        callbacks=[
            StopAtNan(batches),
            Weights(network, plan.checkpoint_path),
            EventLog(Path(plan.log_dir), steps_before=plan.first_epoch * len(batches)),
            *callbacks,
        ],
        shuffle=False,
    )
    losses: dict[str, list[float]] = history.history
    return losses


def _as_it_is(truth: Any, loss: Any) -> Any:
    return loss


def _pictures(dataset: Dataset, training: TrainingConfig, config: Config) -> Pictures:
    if dataset.num_classes != config.NUM_CLASSES:
        raise UsageError(
            f"{type(dataset).__name__}: expected the {config.NUM_CLASSES} classes of NUM_CLASSES, background included, "
            f"got {dataset.num_classes}: {', '.join(dataset.class_names)}"
        )
    return Pictures(Samples(dataset), side=training.mini_mask, cache_gb=training.cache_gb)


def _component(dataset: Dataset) -> Component:
    """How a configuration names a dataset of a script."""
    return Component(name=f"{type(dataset).__module__}:{type(dataset).__qualname__}")
