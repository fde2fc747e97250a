"""Keras' own callbacks in `custom_callbacks`: they know the losses by the original's names and write its files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from streamseg.matterport import MaskRCNN
from streamseg.matterport.config import LOSSES
from streamseg.matterport.losses import less_is_better
from streamseg.types import UsageError
from tests.matterport.test_dataset import Squares
from tests.matterport.test_train import Trained, changed, weights_of


class Short(Trained):
    STEPS_PER_EPOCH = 1
    LOSS_WEIGHTS = {"rpn_class_loss": 0.0, "mrcnn_class_loss": 2.0}


class Rates(keras.callbacks.Callback):
    """Writes down the learning rate after every epoch and the names of what it is told, and adds a score of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.logs: set[str] = set()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))
        self.logs |= set(logs)
        logs["score"] = 10 * epoch
        self.kernel = self.model.get_layer("mrcnn_mask").get_weights()[0]


@pytest.mark.usefixtures("eager")
def test_callbacks_watch_the_originals_losses_change_the_rate_and_leave_files_that_load(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)  # a step on proposals none of which is near an object has no loss of classes
    model, rates = MaskRCNN("training", Short(), tmp_path), Rates()
    start = weights_of(model)
    losses = model.train(
        Squares(),
        Squares(),
        learning_rate=0.001,
        epochs=5,
        layers="heads",
        custom_callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 2 if epoch else rate),
            keras.callbacks.ReduceLROnPlateau("val_rpn_bbox_loss", min_delta=1e6, patience=1, factor=0.125, min_lr=0),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.weights.h5",
                monitor="val_mrcnn_class_loss",
                save_best_only=True,
                save_weights_only=True,
            ),
            keras.callbacks.ModelCheckpoint(tmp_path / "whole" / "{epoch}.h5"),
            rates,
            keras.callbacks.EarlyStopping("val_mrcnn_mask_loss", min_delta=1e6, patience=2, restore_best_weights=True),
        ],
    )
    # as they are set; the plateau lasts from the second epoch on
    assert rates.rates == pytest.approx([0.001, 0.002 / 8, 0.0005 / 8])
    names = {"loss", *LOSSES}
    assert names | {f"val_{name}" for name in names} <= rates.logs & set(losses)
    assert model.keras_model.history.history is losses
    assert losses["score"] == [0, 10, 20]
    assert [len(losses[name]) for name in names] == [3] * 6  # the third ended it
    assert losses["rpn_class_loss"] == [0, 0, 0] and min(losses["mrcnn_class_loss"]) > 0
    np.testing.assert_allclose(
        losses["val_loss"], np.sum([losses[f"val_{name}"] for name in LOSSES], axis=0), rtol=1e-5
    )

    # the best epoch was the first, and the others were too little better
    first = load(tmp_path / "whole" / "1.h5", tmp_path)
    assert changed(start, first) and not changed(first, weights_of(model))
    third = load(tmp_path / "whole" / "3.h5", tmp_path)
    assert changed(first, third)
    np.testing.assert_array_equal(rates.kernel, third["mrcnn_mask/kernel"])  # which a callback looked at
    best = int(np.argmin(losses["val_mrcnn_class_loss"])) + 1
    assert not changed(load(tmp_path / "best.weights.h5", tmp_path), load(tmp_path / "whole" / f"{best}.h5", tmp_path))

    with pytest.raises(UsageError, match=r"model\.keras: expected a name that ends in \.h5"):
        rates.model.save(tmp_path / "model.keras")


def load(path: Path, folder: Path) -> dict[str, np.ndarray]:
    model = MaskRCNN("inference", Short(), folder)
    report = model.load_weights(path)
    assert not report.missing and not report.skipped
    return weights_of(model)


def test_only_what_watches_a_loss_is_told_that_less_is_better() -> None:
    watching = [SimpleNamespace(monitor=name, mode="auto") for name in ("mrcnn_mask_loss", "val_rpn_bbox_loss", "mAP")]
    less_is_better([*watching, SimpleNamespace(monitor="rpn_class_loss", mode="max"), object()])
    assert [each.mode for each in watching] == ["min", "min", "auto"]
