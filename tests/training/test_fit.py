"""A training learns, is saved after every epoch, goes on exactly where it was killed, and stops at the first NaN."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import h5py
import keras
import numpy as np
import pytest

from streamseg.config import Component, ExperimentConfig, ModelConfig
from streamseg.datasets.coco import Coco
from streamseg.model.losses import LOSSES, TrainedMaskRCNN
from streamseg.model.mask_rcnn import MaskRCNN, load_network
from streamseg.model.matterport_h5 import save_matterport
from streamseg.model_folder import ModelFolder
from streamseg.training.fit import (
    Warnings,
    compile_losses,
    make_network,
    newest_run,
    save_average,
    start_file,
    start_weights,
    train,
)
from streamseg.types import InputError, ModelError, Sample, UsageError
from tests.backends import on_jax
from tests.tiny_model import TINY, make_balls, tiny_experiment, tiny_stage, tiny_training_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_balls(tmp_path_factory.mktemp("balls") / "data", 6)


def tensors(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def two_stages(balls: Path) -> ExperimentConfig:
    """Six epochs of three steps, and three of two steps at another size; the last part of the backbone learns too."""
    stages = (
        tiny_stage(epochs=6, learning_rate=3e-3, final_learning_rate=1e-3),
        tiny_stage(epochs=3, crop=64, batch_size=3, learning_rate=1e-3, warmup_steps=1),
    )
    return tiny_experiment(balls, stages=stages, frozen_stages=6, train_depthwise=True)


@pytest.fixture(scope="module")
def learnt(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, float]], Path]:
    """Losses and folder of a training of two stages; `killed` beside it is what kill -9 in the eighth epoch leaves."""
    folder = tmp_path_factory.mktemp("runs") / "balls"
    epochs: dict[int, dict[str, float]] = {}

    def watch(state: dict[str, Any]) -> None:
        if "losses" in state:
            epochs[state["epoch"]] = state["losses"]
        if (state.get("epoch"), state.get("step")) == (8, 2):
            shutil.copytree(folder, folder.with_name("killed"))

    train(two_stages(balls), output=folder, command="streamseg train balls.yaml", progress=watch)
    return [epochs[number] for number in sorted(epochs)], folder


def test_the_losses_fall(learnt: tuple[list[dict[str, float]], Path]) -> None:
    losses, _ = learnt
    assert len(losses) == 9
    assert set(losses[0]) == {"loss", "rpn_class", "rpn_box", "class", "box", "mask"}
    assert losses[5]["loss"] < 0.85 * losses[0]["loss"]
    assert all(losses[5][name] < losses[0][name] for name in ("class", "rpn_class", "mask"))


def test_a_training_leaves_a_model_a_checkpoint_and_a_log(learnt: tuple[list[dict[str, float]], Path]) -> None:
    _, folder = learnt
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.h5", "logs", "model.weights.h5", "model.yaml"]
    assert any((folder / "logs").iterdir())
    opened = ModelFolder.open(folder)
    assert opened.config == TINY
    load_network(opened.config, opened.weights)
    assert "command: streamseg train balls.yaml" in (folder / "model.yaml").read_text()
    assert {value.dtype.name for value in tensors(folder / "model.weights.h5").values()} == {"float16"}


def test_the_model_is_the_average_of_the_weights(learnt: tuple[list[dict[str, float]], Path]) -> None:
    _, folder = learnt
    state, model = tensors(folder / "checkpoint.h5"), tensors(folder / "model.weights.h5")
    assert {name.removeprefix("network/") for name in state if name.startswith("network/")} == model.keys()
    last = {name: state[f"network/{name}"] for name in model}
    moved = max(abs(model[name] - last[name]).max() for name in model)
    far = [name for name in model if not np.allclose(model[name], last[name], atol=0.1, rtol=0.1)]
    assert moved > 1e-4 and not far
    frozen = [name for name in model if name.startswith("backbone/stem")]
    assert frozen and all(np.allclose(model[name], last[name], rtol=1e-3, atol=1e-6) for name in frozen)


RESUMED = """
import json, sys
from pathlib import Path
from streamseg.training.fit import train
from tests.training.test_fit import two_stages

again = {}
def watch(state):
    if "losses" in state:
        again[state["epoch"]] = state["losses"]

train(two_stages(Path(sys.argv[1])), output=Path(sys.argv[2]), resume=True, progress=watch)
print(json.dumps(again))
"""


def test_a_training_killed_in_an_epoch_ends_with_the_weights_of_an_unbroken_one(
    learnt: tuple[list[dict[str, float]], Path], balls: Path
) -> None:
    """Resumed in another process with what lay on the disk in the eighth epoch: it and the last one are done again."""
    losses, folder = learnt
    killed = folder.with_name("killed")
    command = [sys.executable, "-c", RESUMED, str(balls), str(killed)]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    again = json.loads(ran.stdout.splitlines()[-1])
    assert sorted(again) == ["8", "9"]
    assert again["9"] == losses[-1]
    one, other = tensors(folder / "checkpoint.h5"), tensors(killed / "checkpoint.h5")
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(other[name], one[name], err_msg=name)
    for name, value in tensors(folder / "model.weights.h5").items():
        np.testing.assert_array_equal(tensors(killed / "model.weights.h5")[name], value)


class Traced(TrainedMaskRCNN):
    """Losses that are the sum of all weights, and how often a graph of them was made."""

    times = 0

    def call(self, batch: Any, training: bool = False) -> dict[str, Any]:
        self.times += 1
        total = sum(keras.ops.sum(weight) for weight in self.trainable_variables)
        return dict.fromkeys(LOSSES, total * keras.ops.ones(keras.ops.shape(batch)[:1]))


def test_the_graph_of_a_step_is_made_once() -> None:
    """Making it takes most of the time of a small training."""
    experiment = tiny_experiment(Path("none.json"))
    training = experiment.training
    assert training is not None
    model = Traced(make_network(experiment), training)
    model.build()
    optimizer = keras.optimizers.SGD()
    optimizer.build(model.trainable_variables)
    compile_losses(model, optimizer, weights=dict.fromkeys(LOSSES, 1.0))
    truth = {name: np.zeros(4, np.float32) for name in LOSSES}
    model.fit(np.zeros((4, 2), np.float32), truth, batch_size=2, verbose=0)
    assert model.times == 1


def test_a_stage_begins_with_the_weights_that_the_one_before_ended_with() -> None:
    """The average is for the model that is saved, not for the training."""
    model = tiny_training_model(tiny_experiment(Path("none.json")))
    before = keras.ops.convert_to_numpy(model.network.rpn.shared.kernel)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.network.rpn.shared.kernel), before)


def test_a_training_stops_at_the_first_nan_and_names_the_batch(balls: Path, tmp_path: Path) -> None:
    stage = tiny_stage(epochs=9, learning_rate=1e30)
    with pytest.raises(ModelError, match=r"became NaN or infinite in epoch 1, batch [23] \([1-6].png, [1-6].png\)"):
        train(tiny_experiment(balls, stages=(stage,), weight_decay=0), output=tmp_path / "nan")


def test_a_folder_that_holds_a_training_or_a_model_is_not_written_over(
    learnt: tuple[list[dict[str, float]], Path], balls: Path, tmp_path: Path
) -> None:
    _, folder = learnt
    before = tensors(folder / "model.weights.h5")
    with pytest.raises(UsageError, match="already holds a training; continue it with --resume"):
        train(tiny_experiment(balls), output=folder)
    assert tensors(folder / "model.weights.h5").keys() == before.keys()
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.weights.h5").write_bytes(b"precious")
    with pytest.raises(UsageError, match="already holds"):
        train(tiny_experiment(balls), output=model)
    assert [path.name for path in model.iterdir()] == ["model.weights.h5"]


def test_what_cannot_be_resumed_or_trained_says_why(balls: Path, tmp_path: Path) -> None:
    experiment = tiny_experiment(balls)
    with pytest.raises(UsageError, match="holds no checkpoint to resume from"):
        train(experiment, output=tmp_path / "a", resume=True)
    with pytest.raises(UsageError, match="no `training` section"):
        train(ExperimentConfig(name="x"), output=tmp_path / "a")
    other = experiment.model_copy(update={"model": TINY.model_copy(update={"class_names": ("background", "cat")})})
    with pytest.raises(UsageError, match="it has the class 'ball', which the model lacks; there is cat"):
        train(other, output=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def never(state: dict[str, Any]) -> None:
    """Progress of a training that must not begin."""
    assert "epoch" not in state


@pytest.mark.parametrize(
    ("later", "changes", "message"),
    [
        ({"layers": "headz"}, {}, "layers: no layer is called 'headz'; did you mean 'heads'"),
        ({"layers": "("}, {}, "layers: '[(]' is neither a set of layers nor a regular expression"),
        ({"layers": "backbone/stem"}, {}, "layers: all of 'backbone/stem' is frozen"),
        (
            {"teach_masks": True},
            {"cache_gb": 0.0002},
            "teach_masks: expected all pictures in memory, a training.cache_gb of at least 0.1, got 0.0002",
        ),
    ],
)
def test_a_later_stage_that_cannot_begin_is_refused_before_the_first_one_trains(
    balls: Path, tmp_path: Path, later: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    experiment = tiny_experiment(balls, stages=(tiny_stage(), tiny_stage(**later)), **changes)
    with pytest.raises(UsageError, match=message):
        train(experiment, output=tmp_path / "a", progress=never)
    assert not (tmp_path / "a").exists()


class Torn(Coco):
    """Balls whose last pictures cannot be taken: from Python's own errors down to what a file says."""

    num_torn = 1

    def __getitem__(self, index: int) -> Sample:
        if index >= len(self) - self.num_torn:
            raise ValueError(f"no picture {index}")
        return super().__getitem__(index)


class Tattered(Torn):
    num_torn = 9


@pytest.mark.usefixtures("eager")
def test_a_training_goes_on_without_a_damaged_picture_and_teaches_no_mask_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_balls(tmp_path / "b", 4, masks=False)
    (path.parent / "images" / "1.png").write_bytes(b"no picture")
    torn = Component(name=f"{__name__}:Torn", options={"path": path})
    stage = tiny_stage(epochs=1, crop=64, teach_masks=True)
    folder = train(tiny_experiment(path, stages=(stage,), workers=2, train=torn), output=tmp_path / "run")
    assert sorted(record.message for record in caplog.records if "left out" in record.message) == [
        f"left out: {path.parent}/images/1.png: the picture is missing or damaged",
        "left out: picture 3: ValueError: no picture 3",
    ]
    assert np.load(folder / "taught-0.npz")["counts"].tolist() == [2, 2, 2, 2]
    assert (folder / "model.weights.h5").exists()


@pytest.mark.usefixtures("eager")
def test_too_many_damaged_pictures_end_a_training_with_the_name_of_one(tmp_path: Path) -> None:
    path = make_balls(tmp_path / "b", 10)
    tattered = Component(name=f"{__name__}:Tattered", options={"path": path})
    message = r"ValueError: no picture \d \(expected at most 5 damaged pictures of 10, got 6\)"
    with pytest.raises(InputError, match=message):
        train(tiny_experiment(path, train=tattered), output=tmp_path / "run")


def test_what_a_dataset_leaves_out_is_said_once_and_again_when_it_is_more(
    balls: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Lazy:
        warnings: ClassVar = {"pictures missing, left out": 2}

    said = Warnings(Lazy())  # type: ignore[arg-type]
    said.on_train_begin()
    said.on_epoch_end(0)
    Lazy.warnings["empty masks left out"] = 1
    said.on_epoch_end(1)
    said.on_epoch_end(2)
    assert [record.message for record in caplog.records] == ["pictures missing, left out: 2", "empty masks left out: 1"]


@pytest.mark.parametrize("damage", ["truncated", "other"])
def test_a_damaged_checkpoint_is_named(
    learnt: tuple[list[dict[str, float]], Path], balls: Path, tmp_path: Path, damage: str
) -> None:
    content = (learnt[1] / "checkpoint.h5").read_bytes()
    (tmp_path / "checkpoint.h5").write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    experiment = tiny_experiment(balls)
    if damage == "other":
        experiment = experiment.model_copy(update={"model": TINY.model_copy(update={"fpn_channels": 8})})
    with pytest.raises(ModelError, match="checkpoint.h5: not a checkpoint of this training"):
        train(experiment, output=tmp_path, resume=True)


def values(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float32)


def started(experiment: ExperimentConfig, folder: Path) -> MaskRCNN:
    training = experiment.training
    assert training is not None
    network = make_network(experiment)
    start_weights(network, training, start_file(experiment, folder))
    return network


def test_a_start_with_another_backbone_says_which_to_set(tmp_path: Path) -> None:
    experiment = tiny_experiment(Path("none.json"), start_from="people")
    with pytest.raises(UsageError, match="people has the backbone efficientnet_lite1, .* set model.backbone to"):
        start_file(experiment, tmp_path)


def test_a_training_starts_from_another_models_weights(
    learnt: tuple[list[dict[str, float]], Path], tmp_path: Path
) -> None:
    _, folder = learnt
    kernel = tensors(folder / "model.weights.h5")["rpn/shared/kernel"].astype(np.float32)
    for start_from in (str(folder), str(folder / "model.weights.h5")):
        network = started(tiny_experiment(Path("none.json"), start_from=start_from), tmp_path / "new")
        np.testing.assert_array_equal(values(network.rpn.shared.kernel), kernel)


def test_layers_that_start_anew_need_not_fit(learnt: tuple[list[dict[str, float]], Path], tmp_path: Path) -> None:
    _, folder = learnt
    two = TINY.model_copy(update={"class_names": ("background", "ball", "cube")})
    experiment = tiny_experiment(Path("none.json"), start_from=str(folder)).model_copy(update={"model": two})
    with pytest.raises(ModelError, match=r"box_head/logits/kernel: expected shape \(32, 3\), got \(32, 2\)"):
        started(experiment, tmp_path)
    assert experiment.training is not None
    anew = experiment.training.model_copy(update={"start_without": "(box|mask)_head/(logits|deltas)"})
    network = started(experiment.model_copy(update={"training": anew}), tmp_path)
    kept = tensors(folder / "model.weights.h5")
    np.testing.assert_array_equal(values(network.box_head.first.kernel), kept["box_head/first/kernel"])
    assert network.box_head.logits.kernel.shape == (32, 3)


def test_a_matterport_training_starts_from_an_original_weights_file(tmp_path: Path) -> None:
    def experiment(*names: str, **changes: Any) -> ExperimentConfig:
        small = {"fpn_channels": 8, "rpn_channels": 8, "box_channels": 8, "mask_channels": 8, "mask_layers": 1}
        model = ModelConfig.matterport(
            backbone="resnet50", input_sizes=((128, 128),), class_names=("background", *names), **small
        )
        return tiny_experiment(Path("none.json"), **changes).model_copy(update={"model": model})

    file = tmp_path / "mask_rcnn_balls_0007.h5"
    source = make_network(experiment("ball"))
    save_matterport(source, file)
    same = started(experiment("ball", start_from=str(file)), tmp_path)
    for one, other in zip(same.weights, source.weights, strict=True):
        np.testing.assert_array_equal(values(one), values(other))
    with pytest.raises(ModelError, match=r"mrcnn_class_logits/kernel: expected shape \(8, 3\), got \(8, 2\)"):
        started(experiment("ball", "cube", start_from=str(file)), tmp_path)
    heads = "mrcnn_(class_logits|bbox_fc|mask)"
    more = started(experiment("ball", "cube", start_from=str(file), start_without=heads), tmp_path)
    np.testing.assert_array_equal(values(more.backbone.stem.kernel), values(source.backbone.stem.kernel))


def test_last_is_the_newest_run_of_the_name(tmp_path: Path) -> None:
    for number, (folder, name) in enumerate([("a", "balls"), ("b", "balls"), ("c", "cubes"), ("d", "balls")]):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.yaml").write_text(f"name: {name}")
        (tmp_path / folder / "model.weights.h5").touch()
        os.utime(tmp_path / folder / "model.weights.h5", (number, number))
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "model.yaml").write_text("name: [")  # of a run that was cut off
    (tmp_path / "e" / "model.weights.h5").touch()
    assert newest_run("balls", tmp_path, besides=tmp_path / "d") == tmp_path / "b"
    experiment = tiny_experiment(Path("none.json"), start_from="last")
    assert start_file(experiment, tmp_path / "d") == tmp_path / "b" / "model.weights.h5"
    with pytest.raises(UsageError, match="start_from: last: expected an earlier run of cones"):
        newest_run("cones", tmp_path, besides=tmp_path / "d")


def test_the_average_before_the_first_step_is_the_weights(tmp_path: Path) -> None:
    model = tiny_training_model(tiny_experiment(Path("none.json")))
    save_average(model, tmp_path / "model.weights.h5")
    kernel = keras.ops.convert_to_numpy(model.network.rpn.shared.kernel)
    saved = tensors(tmp_path / "model.weights.h5")["rpn/shared/kernel"]
    np.testing.assert_array_equal(saved, kernel.astype(np.float16))


ALONE = """
import sys
sys.modules["tensorflow"] = None  # a machine with JAX alone
from pathlib import Path
import keras
from streamseg.training.fit import train
from tests.backends import draw_by_numpy
from tests.tiny_model import tiny_experiment, tiny_stage
draw_by_numpy()
assert keras.backend.backend() == "jax"
losses = []
train(
    tiny_experiment(Path(sys.argv[1]), stages=(tiny_stage(epochs=int(sys.argv[3]), learning_rate=3e-3),)),
    output=Path(sys.argv[2]),
    progress=lambda state: losses.append(state["losses"]) if "losses" in state else None,
)
print(losses[-1], flush=True)
assert all(losses[-1][name] < losses[0][name] for name in ("rpn_class", "class", "mask")), losses
"""


@pytest.mark.thorough
def test_jax_alone_trains_a_model_that_tensorflow_loads(balls: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ALONE, str(balls), str(tmp_path / "run"), "3"]
    ran = subprocess.run(command, cwd=ROOT, env=on_jax(), capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert load_network(TINY, tmp_path / "run" / "model.weights.h5").built


def test_a_resume_with_another_configuration_leaves_the_model_as_it_was(
    learnt: tuple[list[dict[str, float]], Path], balls: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(learnt[1], tmp_path / "run")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    experiment = two_stages(balls)
    names = ("background", "ball", "cube")
    stages = [stage.model_copy(update={"epochs": stage.epochs + 1}) for stage in experiment.training.stages]  # type: ignore[union-attr]
    other = experiment.model_copy(
        update={
            "model": experiment.model.model_copy(update={"class_names": names}),
            "training": experiment.training.model_copy(update={"stages": tuple(stages)}),  # type: ignore[union-attr]
        }
    )
    with pytest.raises(ModelError, match="checkpoint.h5: not a checkpoint of this training .*expected shape"):
        train(other, output=folder, resume=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_resume_makes_the_model_that_a_kill_kept_from_being_written(
    learnt: tuple[list[dict[str, float]], Path], balls: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(learnt[1], tmp_path / "run")
    model, card = folder / "model.weights.h5", folder / "model.yaml"
    before = tensors(model)
    model.unlink()
    card.write_text(card.read_text() + "# set by hand\n")
    train(two_stages(balls), output=folder, resume=True)
    after = tensors(model)
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
    assert "set by hand" in card.read_text()
