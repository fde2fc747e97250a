"""AdamW, and the SGD of matterport/Mask_RCNN, with their learning rates and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from streamseg.config import StageConfig, TrainingConfig

NOT_DECAYED = ("gamma", "beta")


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of every step: per stage a linear warm-up, then half a cosine down, or the same to the end."""

    def __init__(self, stages: Sequence[StageConfig], steps: Sequence[int]) -> None:
        self.stages, self.steps = tuple(stages), list(steps)

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rate: Any = 0.0
        start = 0
        for i, (stage, count) in enumerate(zip(self.stages, self.steps, strict=True)):
            done = step - start
            warm = (done + 1.0) / max(1, stage.warmup_steps)
            share = ops.clip((done - stage.warmup_steps) / max(1, count - stage.warmup_steps), 0.0, 1.0)
            last = stage.learning_rate if stage.schedule == "constant" else stage.final_learning_rate
            cosine = last + (stage.learning_rate - last) * 0.5 * (1.0 + ops.cos(math.pi * share))
            here = ops.where(done < stage.warmup_steps, stage.learning_rate * warm, cosine)
            rate = here if i == 0 else ops.where(step >= start, here, rate)
            start += count
        return rate

    def get_config(self) -> dict[str, Any]:
        return {"stages": self.stages, "steps": self.steps}


class _Trained(keras.optimizers.Optimizer):
    """What both optimizers add to Keras': a learning rate of the backbone's own, and one clipping for all devices."""

    backbone_rate: float

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        # the TensorFlow optimizer hands over the raw variable; Keras' own knows its path
        path = self._trainable_variables[self._get_variable_index(variable)].path
        rate = self.backbone_rate if "/backbone/" in path else 1.0
        super().update_step(gradient, variable, learning_rate * rate)

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        """Clipped by the norm of the whole batch's gradients: TensorFlow's replicas add up theirs only afterwards."""
        replicas = num_replicas()
        if replicas == 1:
            clipped: list[Any] = super()._clip_gradients(grads)
            return clipped
        import tensorflow as tf

        total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, grads)
        return [gradient / replicas for gradient in super()._clip_gradients(total)]

    def finalize_variable_values(self, var_list: list[Any]) -> None:
        """Keep the weights: Keras would put the average in their place, and the next stage start from another point."""


class BackboneAdamW(_Trained, keras.optimizers.AdamW):
    """AdamW with a learning rate of its own for the variables of the backbone."""

    def __init__(self, *, backbone_rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backbone_rate = backbone_rate


class DecayedSGD(_Trained, keras.optimizers.SGD):
    """SGD whose weight decay is a loss: decay · Σ w² / size over every tensor that is no gamma or beta.

    Its gradient is part of the norm that is clipped, as in matterport/Mask_RCNN.
    """

    def __init__(self, *, backbone_rate: float, decay: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backbone_rate, self.decay = backbone_rate, decay

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        share = 2.0 * self.decay / num_replicas()

        def decayed(gradient: Any, variable: Any) -> Any:
            if gradient is None or variable.name in NOT_DECAYED:
                return gradient
            return gradient + share / math.prod(variable.shape) * variable

        super().apply([decayed(*pair) for pair in zip(grads, variables, strict=True)], trainable_variables)


def num_replicas() -> int:
    """Replicas of a TensorFlow strategy, from within one; 1 elsewhere."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    if not tf.distribute.in_cross_replica_context():
        return int(tf.distribute.get_replica_context().num_replicas_in_sync)
    return 1


def make_optimizer(training: TrainingConfig, schedule: Schedule | float) -> BackboneAdamW | DecayedSGD:
    """The optimizer that the configuration asks for, with the average of the weights; schedule: or one rate."""
    common: dict[str, Any] = {
        "backbone_rate": training.backbone_rate,
        "learning_rate": schedule,
        "global_clipnorm": training.clip_norm,
        "use_ema": True,
        "ema_momentum": training.ema,
        "ema_overwrite_frequency": None,
    }
    if training.optimizer == "sgd":
        return DecayedSGD(momentum=training.momentum, nesterov=False, decay=training.weight_decay, **common)
    optimizer = BackboneAdamW(weight_decay=training.weight_decay, **common)
    optimizer.exclude_from_weight_decay(var_names=["bias", *NOT_DECAYED])
    return optimizer


def averages(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """The averaged weights by the path of their variable."""
    pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
    return {variable.path: average for variable, average in pairs}
