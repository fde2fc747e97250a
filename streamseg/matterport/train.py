"""Train a network the way the original's `train` does: one stage, a weights file of the original's kind an epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from streamseg.config import AugmentConfig, Component, TrainingConfig
from streamseg.matterport.config import UNCHANGED, Config, training_config
from streamseg.matterport.dataset import Dataset, Samples
from streamseg.matterport.utils import extract_bboxes
from streamseg.model.checkpoint import weights_by_name
from streamseg.model.losses import TrainedMaskRCNN
from streamseg.model.mask_rcnn import MaskRCNN as Network
from streamseg.model.matterport_h5 import save_matterport
from streamseg.training.average_precision import run_lengths
from streamseg.training.devices import all_devices, device_names
from streamseg.training.fit import EventLog, StopAtNan, compile_losses, matcher
from streamseg.training.layers import Selection
from streamseg.training.loader import Batches, Picture, Pictures, full_mask, read_picture
from streamseg.training.optimizers import Schedule, make_optimizer
from streamseg.types import UsageError

Matcher = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


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
            key = id(dataset), len(dataset.image_info), training.mini_mask, *molding
            pictures = before.get(key) or self._pictures.get(key) or _pictures(dataset, training, config)
            self._pictures[key] = pictures
            taken.append(pictures)
        return taken


class Crops(Batches):
    """Batches whose views are first cut out of their pictures, at another random place each time."""

    def view(self, picture: Picture, rng: np.random.Generator) -> dict[str, np.ndarray]:
        size, side = self.stage.crop, self.training.mini_mask
        for _ in range(4):  # as in any view: look again before taking one without an object
            cut = random_cut(picture, rng, size=size, side=side)
            if not cut.sample.crowd.all():
                break
        return super().view(cut, rng)


def random_cut(picture: Picture, rng: np.random.Generator, *, size: int, side: int) -> Picture:
    """A random square of `size` pixels of a picture, with what its objects show in it; side: cells of a mini mask."""
    sample = picture.sample
    y, x = int(rng.integers(sample.height - size + 1)), int(rng.integers(sample.width - size + 1))
    boxes = sample.boxes - np.array([x, y, x, y], np.float32)
    near = np.flatnonzero((boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < size).all(axis=1))
    whole = {"width": sample.width, "height": sample.height}
    masks = np.zeros((size, size, len(near)), bool)
    for i, place in enumerate(near):
        masks[..., i] = full_mask(sample.masks[place], **whole)[y : y + size, x : x + size]
    seen = masks.any(axis=(0, 1))
    masks, near = masks[..., seen], near[seen]
    cut = replace(
        sample,
        width=size,
        height=size,
        boxes=extract_bboxes(masks)[:, [1, 0, 3, 2]].astype(np.float32),
        class_ids=sample.class_ids[near],
        masks=tuple(run_lengths(masks)),
        crowd=sample.crowd[near],
        rgb=picture.rgb[y : y + size, x : x + size],
    )
    return read_picture(cut, side=side)


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
    kind = Crops if config.IMAGE_RESIZE_MODE == "crop" else Batches
    common: dict[str, Any] = {"padding": 0, "match": match}  # an input is black beside its picture
    return (
        kind(seen, training, stage, epoch=plan.first_epoch, steps=config.STEPS_PER_EPOCH, **common),
        kind(val_seen, training, unchanged, steps=config.VALIDATION_STEPS, **common),
    )


class Weights(keras.callbacks.Callback):
    """Writes the weights after every epoch, as the original does.

    network: the one that is written · trained: the one that learns, on several devices another one.
    """

    def __init__(self, network: Any, checkpoint_path: str, *, trained: Any) -> None:
        super().__init__()
        self.network, self.checkpoint_path, self.trained = network, checkpoint_path, trained

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        copy_weights(self.trained, self.network)
        path = Path(self.checkpoint_path.format(epoch=epoch + 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_matterport(self.network, path)


def copy_weights(source: Any, target: Any) -> None:
    """Give a network the weights of another one of its kind."""
    if source is target:
        return
    values = weights_by_name(source)
    for name, variable in weights_by_name(target).items():
        variable.assign(np.asarray(keras.ops.convert_to_numpy(values[name])))


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
        model = TrainedMaskRCNN(trained, training, dtype="float32", name="training")
        model.build()
        optimizer = make_optimizer(training, Schedule([stage], [stage.epochs * len(batches)]))
        optimizer.build(model.trainable_variables)
        compile_losses(model, training, optimizer)
        with batches.failing_as_themselves(), val_batches.failing_as_themselves():
            history = model.fit(
                batches,
                validation_data=val_batches,
                initial_epoch=plan.first_epoch,
                epochs=plan.epochs,
                callbacks=[
                    StopAtNan(batches),
                    Weights(network, plan.checkpoint_path, trained=trained),
                    EventLog(Path(plan.log_dir), steps_before=plan.first_epoch * len(batches)),
                    *callbacks,
                ],
                shuffle=False,
            )
    losses: dict[str, list[float]] = history.history
    return losses


def _pictures(dataset: Dataset, training: TrainingConfig, config: Config) -> Pictures:
    if dataset.num_classes != config.NUM_CLASSES:
        raise UsageError(
            f"{type(dataset).__name__}: expected the {config.NUM_CLASSES} classes of NUM_CLASSES, background included, "
            f"got {dataset.num_classes}: {', '.join(dataset.class_names)}"
        )
    return Pictures(Samples(dataset, config), side=training.mini_mask, cache_gb=training.cache_gb)


def _component(dataset: Dataset) -> Component:
    """How a configuration names a dataset of a script."""
    return Component(name=f"{type(dataset).__module__}:{type(dataset).__qualname__}")
