"""Train a network the way the original's `train` does: one stage, a weights file of the original's kind an epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence, Set
from contextlib import closing
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import keras
import numpy as np

from streamseg.config import AugmentConfig, Component, TrainingConfig
from streamseg.matterport.augmentation import Augmenter
from streamseg.matterport.config import UNCHANGED, Config, training_config
from streamseg.matterport.dataset import Dataset, Samples
from streamseg.matterport.losses import OUTPUTS, NamedLosses, copy_weights, less_is_better
from streamseg.matterport.views import Views
from streamseg.model.mask_rcnn import MaskRCNN as Network
from streamseg.training.devices import all_devices, device_names
from streamseg.training.fit import EventLog, StopAtNan, compile_losses, matcher
from streamseg.training.layers import Selection
from streamseg.training.loader import Batches, Pictures
from streamseg.training.optimizers import make_optimizer
from streamseg.types import UsageError

Matcher = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Plan:
    """What one call of `train` asks for.

    epochs: the last one's number, not how many · layers: `heads`, `3+`, `4+`, `5+`, `all` or a regular expression ·
    first_epoch: how many are done · checkpoint_path: with `{epoch:04d}` in it · log_dir of TensorBoard · unchanged: the
    training pictures, by their number, that are not augmented
    """

    learning_rate: float
    epochs: int
    layers: str
    augment: AugmentConfig | Augmenter | None
    first_epoch: int
    checkpoint_path: str
    log_dir: str
    unchanged: Set[int] = frozenset()


class Shelf:
    """The pictures of the datasets that were trained on last, so that the next call of `train` reads none again."""

    def __init__(self) -> None:
        self._pictures: dict[tuple[Any, ...], Pictures] = {}

    def take(self, datasets: Sequence[Dataset], training: TrainingConfig, config: Config) -> list[Pictures]:
        """The molded pictures of each dataset; those of others go. Raises UsageError for another number of classes."""
        before, self._pictures = self._pictures, {}
        taken = []
        for dataset in datasets:
            molding = config.IMAGE_RESIZE_MODE, config.IMAGE_MIN_DIM, config.IMAGE_MIN_SCALE, *config.IMAGE_SHAPE
            key = id(dataset), tuple(dataset.image_ids), training.mini_mask, *molding
            pictures = before.get(key) or self._pictures.get(key) or _pictures(dataset, training, config)
            self._pictures[key] = pictures
            taken.append(pictures)
        return taken


def batches_of(
    plan: Plan,
    config: Config,
    training: TrainingConfig,
    *,
    pictures: Sequence[Pictures],
    match: Matcher | None,
) -> tuple[Batches, Batches]:
    """The batches of a plan's training and of its validation, which sees its pictures without augmentation.

    pictures: those of both · match: see `Batches`.
    """
    (stage,) = training.stages
    unchanged = stage.model_copy(update={"augment": UNCHANGED})
    seen, val_seen = pictures
    common: dict[str, Any] = {"padding": 0, "match": match}  # an input is black beside its picture
    common["cuts"] = config.IMAGE_RESIZE_MODE == "crop"
    if not config.STEPS_PER_EPOCH > 0:
        raise UsageError(
            f"STEPS_PER_EPOCH: expected 1 or more, got {config.STEPS_PER_EPOCH}; are there fewer pictures "
            "than a batch has?"
        )
    augmenter = plan.augment if isinstance(plan.augment, Augmenter) else None
    return (
        Views(
            seen,
            training,
            stage,
            augmenter=augmenter,
            unchanged=plan.unchanged,
            epoch=plan.first_epoch,
            steps=ceil(config.STEPS_PER_EPOCH),  # scripts divide pictures by a batch's
            **common,
        ),
        Views(val_seen, training, unchanged, steps=max(1, ceil(config.VALIDATION_STEPS)), **common),
    )


class Weights(keras.callbacks.Callback):
    """Writes the weights after every epoch, as the original does."""

    def __init__(self, checkpoint_path: str) -> None:
        super().__init__()
        self.checkpoint_path = checkpoint_path

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.model.save_weights(self.checkpoint_path.format(epoch=epoch + 1))


def num_devices(config: Config, *, there: int) -> int:
    """How many of the devices that are there share a batch: GPU_COUNT, or as many as divide it.

    Warns where there are fewer than GPU_COUNT.
    """
    if there < config.GPU_COUNT:
        warnings.warn(
            f"GPU_COUNT: expected {config.GPU_COUNT} GPUs, found {there} to train on; "
            f"a step still takes {config.BATCH_SIZE} pictures",
            stacklevel=2,
        )
    most = min(there, config.GPU_COUNT)
    return next(count for count in range(most, 0, -1) if config.BATCH_SIZE % count == 0)


def train(
    selection: Selection,
    config: Config,
    train_dataset: Dataset,
    val_dataset: Dataset,
    *,
    plan: Plan,
    shelf: Shelf,
    history: keras.callbacks.History,
    callbacks: Sequence[Any] = (),
) -> None:
    """Train the layers of a plan; `history` takes the losses of every epoch, those of `val_dataset` as `val_…`."""
    network: Any = selection.network
    training = training_config(
        config,
        datasets={"train": _component(train_dataset), "val": _component(val_dataset)},
        learning_rate=plan.learning_rate,
        epochs=max(1, plan.epochs - plan.first_epoch),
        layers=plan.layers,
        augment=plan.augment if isinstance(plan.augment, AugmentConfig) else None,
    )
    (stage,) = training.stages
    batches, val_batches = batches_of(
        plan,
        config,
        training,
        pictures=shelf.take([train_dataset, val_dataset], training, config),
        match=matcher(network.config, training, size=stage.crop),
    )
    with all_devices(num_devices(config, there=max(1, len(device_names())))) as count:
        trained = network
        if count > 1:  # only what is made in here is on all of them
            trained = Network(network.config, trains_norm=training.train_norm, name="network")
            trained.build()
            copy_weights(network, trained)
            selection = Selection(trained)
        selection.choose(plan.layers)
        model = NamedLosses(trained, training, written=network, dtype="float32", name="training")
        model.build()
        optimizer = make_optimizer(training, stage.learning_rate)  # a number that callbacks may change
        optimizer.build(model.trainable_variables)
        compile_losses(model, optimizer, weights=dict.fromkeys(OUTPUTS, 1.0))
        less_is_better(callbacks)
        event_log = EventLog(Path(plan.log_dir), steps_before=plan.first_epoch * len(batches))
        with batches.failing_as_themselves(), val_batches.failing_as_themselves(), closing(event_log.writer):
            model.fit(
                batches,
                validation_data=val_batches if config.VALIDATION_STEPS > 0 else None,
                initial_epoch=plan.first_epoch,
                epochs=plan.epochs,
                callbacks=[
                    StopAtNan(batches),
                    Weights(plan.checkpoint_path),
                    event_log,
                    *callbacks,
                    history,  # last, for it holds what callbacks add to the losses too
                ],
                shuffle=False,
            )
        copy_weights(trained, network)  # which a callback may have put back to an earlier epoch's


def _pictures(dataset: Dataset, training: TrainingConfig, config: Config) -> Pictures:
    samples = Samples(dataset, config)
    if dataset.num_classes != config.NUM_CLASSES:
        raise UsageError(
            f"{type(dataset).__name__}: expected the {config.NUM_CLASSES} classes of NUM_CLASSES, background included, "
            f"got {dataset.num_classes}: {', '.join(dataset.class_names)}"
        )
    return Pictures(samples, side=training.mini_mask, cache_gb=training.cache_gb)


def _component(dataset: Dataset) -> Component:
    """How a configuration names a dataset of a script."""
    return Component(name=f"{type(dataset).__module__}:{type(dataset).__qualname__}")
